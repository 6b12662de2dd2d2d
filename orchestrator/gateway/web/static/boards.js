// Boards: the last records each sent, and a short history. Whatever a simulated board says of time is called simulated.

import { now } from "./clock.js";
import { lineChart } from "./charts.js";
import { ago, card, clock, count, el, empty, known, micros, number, plural } from "./dom.js";

export function boardsCard(state) {
  const { boards, listening } = state;
  const at = { wide: true, id: "boards" };
  const fleet = el("a", { href: "/fleet" }, "fleet");
  if (!boards.length) return card("Boards", empty("No boards yet", reason(listening)), { ...at, aside: fleet });
  const quiet = boards.filter(silent).length;
  const aside = el("span", { class: "muted" }, fleet, " · ", quiet ? `${quiet} of ${plural(boards.length, "board")} ${deaf(listening) ? "not heard" : "silent"}` : `${plural(boards.length, "board")} reporting`);
  const note = listening === "listening" ? null : el("p", { class: "note-box" }, reason(listening));
  return card("Boards", [note, el("div", { class: "boards" }, boards.map((b) => board(b, state.history.get(b.board) ?? [], deaf(listening))))], { ...at, aside });
}

function reason(listening) {
  if (listening === "listening") return "Records arrive when a board is watched with edgeward monitor PORT --forward mqtt://GATEWAY --federation NAME.";
  if (listening === "not configured") return "This dashboard was started without --broker, so it hears no boards.";
  return `Not listening: ${listening}.`;
}

// Whether a board has said nothing for far longer than it usually does.
export function silent(b) {
  return now() - b.seen_at > b.silent_s;
}

const KINDS = new Map([[true, ["simulated", "warn"]], [false, ["hardware", ""]], [null, ["unknown whether simulated", "warn"]]]);

// Whether boards would not be heard, so that nothing is known of those that are silent.
export function deaf(listening) {
  return !["listening", "not configured"].includes(listening);
}

function board(b, history, unheard) {
  const simulated = b.simulated === true;
  const latest = b.metrics;
  const psi = b.drift.psi ?? latest.psi;
  const points = (name) => history.filter((p) => known(p[name])).map((p) => [p.at, p[name]]);
  const [kind, colour] = KINDS.get(b.simulated);
  const facts = [
    ["model", b.model ?? "none"],
    ["engine", [b.about.engine, b.about.chip].filter(Boolean).join(" on ") || "–"],
    ["inferences", count(latest.inferences)],
    [latencyName(b.simulated), `${micros(latest.latency_p50_us)} / ${micros(latest.latency_p99_us)}`],
    ["arena", known(latest.arena_used_bytes) ? `${count(latest.arena_used_bytes)} B` : "–"],
    ["drift (PSI)", known(psi) ? drift(psi) : "–"],
    ["records", `${count(b.received)}${b.lost ? `, ${count(b.lost)} lost` : ""}`],
    ["last record", ago(b.seen_at)],
  ];
  const time = { width: 380, xName: "time", formatX: clock };
  const latency = points("latency_p50_us").length > 1
    ? lineChart({ ...time, title: `Latency of ${b.board}`, yName: `latency${simulated ? ", simulated" : ""} (µs, ms)`, format: (v, tick) => (tick && v < 1000 ? `${v} µs` : micros(v)), from: 0, series: [{ name: "p50", label: "p50", color: 1, dash: 1, points: points("latency_p50_us") }, { name: "p99", label: "p99", color: 5, dash: 2, points: points("latency_p99_us") }] })
    : null;
  const drifts = points("psi").length > 1
    ? lineChart({ ...time, title: `Drift of ${b.board}`, yName: "PSI", format: (v, tick) => (tick ? String(v) : number(v, 2)), from: 0, limit: { value: 0.25, name: "commonly read as drift" }, series: [{ name: "drift (PSI)", color: 6, points: points("psi") }] })
    : null;
  return el("section", { class: "board", "data-key": `board ${b.board}` },
    el("div", { class: "card-head" }, el("h3", {}, b.board), el("span", {}, silent(b) ? el("span", { class: unheard ? "pill off" : "pill bad" }, [unheard ? "unknown, last record " : "silent, last record ", ago(b.seen_at)]) : null, " ", el("span", { class: `pill ${colour}` }, kind))),
    el("dl", { class: "facts" }, facts.map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])),
    b.error.reason ? el("p", { class: "reason" }, `last error: ${b.error.reason}`) : null,
    latency ? el("div", { "data-key": "latency" }, el("h4", {}, simulated ? "Latency, simulated" : "Latency"), latency) : null,
    drifts ? el("div", { "data-key": "drift" }, el("h4", {}, "Drift of the inputs"), drifts) : null);
}

function latencyName(simulated) {
  if (simulated === true) return "latency p50 / p99 (host’s, not a chip’s)";
  return simulated === false ? "latency p50 / p99" : "latency p50 / p99 (a chip’s or a host’s: unknown)";
}

function drift(psi) {
  const kind = psi > 0.25 ? "bad" : psi > 0.1 ? "warn" : "good";
  return el("span", { class: `pill ${kind}` }, number(psi, 2));
}
