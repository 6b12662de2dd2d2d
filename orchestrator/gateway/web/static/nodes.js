// Who takes part, in what state, and since when that is known.

import { ago, bytes, card, count, el, empty, finite, mib, seconds } from "./dom.js";
import { listing } from "./listing.js";
import { isOver, trusted } from "./standing.js";

export const ASKED = "waits for its owner";
const STATES = { [ASKED]: "warn", arrived: "good", training: "busy", waiting: "", done: "good", away: "off", declined: "bad", "passed over": "warn", unknown: "off" };
const WELL = ["arrived", "training", "computing", "waiting", "done"];
const COLUMNS = [
  { name: "node", by: (n) => n.node },
  { name: "state", by: (n) => n.state },
  { name: "records", numeric: true, by: (n) => n.records },
  { name: "updates", numeric: true, by: (n) => n.updates },
  { name: "last answer in", numeric: true, by: (n) => n.answer_s },
  { name: "last seen", numeric: true, by: (n) => n.seen_at },
  { name: "memory", numeric: true, by: (n) => n.memory_mib },
  { name: "sent", numeric: true, by: (n) => n.bytes_sent },
  { name: "received", numeric: true, by: (n) => n.bytes_received },
  { name: "about" },
];
// Where nodes score each other's models (strategy fuala).
const SCORED = [
  { name: "score", numeric: true, by: (n) => n.score },
  { name: "weight", numeric: true, by: (n) => n.share },
];
const LASTING = ["done", "declined"]; // what does not change with time

export function nodesCard(state, redraw) {
  const at = { wide: true, id: "nodes" };
  if (!state.nodes.length) return card("Nodes", empty("No nodes yet", "Start one beside its data: edgeward node run --broker mqtt://GATEWAY --name NAME --data FILE"), at);
  const extra = state.nodes.some((n) => Object.keys(n.labels).length || Object.keys(n.health).length);
  const scored = state.nodes.some((n) => finite(n.share));
  const columns = [...COLUMNS.slice(0, 4), ...(scored ? SCORED : []), ...COLUMNS.slice(4, extra ? COLUMNS.length : -1)];
  const row = (n) => [
    el("a", { href: `/node/${encodeURIComponent(state.run.run)}/${encodeURIComponent(n.node)}` }, el("strong", {}, n.node)),
    nodeState(n, state),
    count(n.records), count(n.updates), ...(scored ? [finite(n.score) ? n.score.toFixed(2) : "", finite(n.share) ? `${Math.round(100 * n.share)} %` : ""] : []), seconds(n.answer_s), ago(n.seen_at), mib(n.memory_mib), bytes(n.bytes_sent), bytes(n.bytes_received),
    ...(extra ? [about(n)] : []),
  ];
  const list = listing({
    id: "nodes",
    noun: "nodes",
    caption: "Nodes of the run",
    columns,
    items: [...state.nodes].sort((one, other) => WELL.includes(one.state) - WELL.includes(other.state)),
    row,
    keyOf: (n) => n.node,
    text: (n) => [n.node, n.state, n.reason, ...Object.entries(n.labels).map(([k, v]) => `${k}=${v}`)].join(" "),
    well: (n) => WELL.includes(n.state),
    redraw,
  });
  const more = state.known > state.nodes.length ? `${count(state.nodes.length)} here of ${count(state.known)} known, those not well first` : `${count(state.nodes.length)} known`;
  return card("Nodes", list, { ...at, aside: el("span", { class: "muted" }, [slowest(state.nodes), more].filter(Boolean).join("; ")) });
}

// Who answered last in the newest round, where it took far longer than the others.
function slowest(nodes) {
  const answered = nodes.filter((n) => finite(n.answer_s)).sort((a, b) => b.answer_s - a.answer_s);
  const usual = answered[Math.floor(answered.length / 2)]?.answer_s;
  return answered.length > 2 && answered[0].answer_s > 2 * usual ? `slowest: ${answered[0].node}, ${seconds(answered[0].answer_s)}` : null;
}

function nodeState(node, state) {
  const name = trusted(state) || isOver(state) || LASTING.includes(node.state) ? node.state : "unknown";
  return [el("span", { class: `pill ${STATES[name] ?? ""}` }, name), node.reason ? el("p", { class: "reason" }, node.reason) : null];
}

const HEALTH = new Map([["battery", (v) => `battery ${Math.round(v)} %`], ["temperature_c", (v) => `${Math.round(v)} °C`], ["free_memory_mib", (v) => `${Math.round(v).toLocaleString("en")} MiB free`]]);

function about(node) {
  const labels = Object.entries(node.labels).map(([k, v]) => el("span", { class: "label" }, `${k}=${v}`));
  const health = Object.entries(node.health).map(([k, v]) => (HEALTH.get(k)?.(v) ?? `${k.replaceAll("_", " ")} ${v}`)).join(", ");
  return el("div", { class: "about" }, labels, el("span", { class: "muted" }, health));
}
