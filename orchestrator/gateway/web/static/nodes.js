// Who takes part, in what state, and since when that is known.

import { ago, bytes, card, count, el, empty, keyedRow, mib, table } from "./dom.js";
import { isOver, trusted } from "./standing.js";

export const ASKED = "waits for its owner";
const STATES = { [ASKED]: "warn", arrived: "good", training: "busy", waiting: "", done: "good", away: "off", declined: "bad", "passed over": "warn", unknown: "off" };
const LASTING = ["done", "declined"]; // what does not change with time

export function nodesCard(state) {
  const at = { wide: true, id: "nodes" };
  if (!state.nodes.length) return card("Nodes", empty("No nodes yet", "Start one beside its data: edgeward node run --broker mqtt://GATEWAY --name NAME --data FILE"), at);
  const extra = state.nodes.some((n) => Object.keys(n.labels).length || Object.keys(n.health).length);
  const columns = [{ name: "node" }, { name: "state" }, { name: "records", numeric: true }, { name: "updates", numeric: true }, { name: "last seen", numeric: true }, { name: "memory", numeric: true }, { name: "sent", numeric: true }, { name: "received", numeric: true }, ...(extra ? [{ name: "about" }] : [])];
  const rows = state.nodes.map((n) => keyedRow(`node ${n.node}`, [
    el("strong", {}, n.node),
    nodeState(n, state),
    count(n.records), count(n.updates), ago(n.seen_at), mib(n.memory_mib), bytes(n.bytes_sent), bytes(n.bytes_received),
    ...(extra ? [about(n)] : []),
  ]));
  const more = state.known > state.nodes.length ? `${count(state.nodes.length)} shown of ${count(state.known)} known, those not well first` : `${count(state.nodes.length)} known`;
  return card("Nodes", table("Nodes of the run", columns, rows), { ...at, aside: el("span", { class: "muted" }, more) });
}

function nodeState(node, state) {
  const name = trusted(state) || isOver(state) || LASTING.includes(node.state) ? node.state : "unknown";
  return [el("span", { class: `pill ${STATES[name] ?? ""}` }, name), node.reason ? el("p", { class: "reason" }, node.reason) : null];
}

const HEALTH = { battery: (v) => `battery ${Math.round(v)} %`, temperature_c: (v) => `${Math.round(v)} °C`, free_memory_mib: (v) => `${Math.round(v).toLocaleString("en")} MiB free` };

function about(node) {
  const labels = Object.entries(node.labels).map(([k, v]) => el("span", { class: "label" }, `${k}=${v}`));
  const health = Object.entries(node.health).map(([k, v]) => (HEALTH[k] ? HEALTH[k](v) : `${k.replaceAll("_", " ")} ${v}`)).join(", ");
  return el("div", { class: "about" }, labels, el("span", { class: "muted" }, health));
}
