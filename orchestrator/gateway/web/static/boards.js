// Boards: the last records each sent, and a short history. Whatever a simulated board says of time is called simulated.

import { lineChart } from "./charts.js";
import { ago, card, clock, count, el, empty, known, micros, number } from "./dom.js";

export function boardsCard(state) {
  const { boards, state: listening } = state.boards;
  const aside = listening === "listening" ? el("span", { class: "muted" }, "live over MQTT") : null;
  if (!boards.length) return card("Boards", empty("No boards yet", reason(listening)), { wide: true, id: "boards", aside });
  const note = listening === "listening" ? null : el("p", { class: "note-box" }, reason(listening));
  return card("Boards", [note, el("div", { class: "boards" }, boards.map(board))], { wide: true, id: "boards", aside });
}

function reason(listening) {
  if (listening === "listening") return "Records arrive when a board is watched with edgeward monitor PORT --forward mqtt://GATEWAY --federation NAME.";
  if (listening === "not configured") return "This dashboard was started without --broker, so it hears no boards.";
  return `Not listening: ${listening}.`;
}

function board(b) {
  const simulated = b.simulated === true;
  const latest = b.metrics;
  const psi = b.drift.psi ?? latest.psi;
  const at = (p) => p.at;
  const points = (name) => b.history.filter((p) => known(p[name])).map((p) => [at(p), p[name]]);
  const kind = simulated ? el("span", { class: "pill warn" }, "simulated") : el("span", { class: "pill" }, b.simulated === false ? "hardware" : "unknown kind");
  const facts = [
    ["model", b.model ?? "none"],
    ["engine", [b.about.engine, b.about.chip].filter(Boolean).join(" on ") || "–"],
    ["inferences", count(latest.inferences)],
    [simulated ? "latency p50 / p99 (host’s, not a chip’s)" : "latency p50 / p99", `${micros(latest.latency_p50_us)} / ${micros(latest.latency_p99_us)}`],
    ["arena", known(latest.arena_used_bytes) ? `${count(latest.arena_used_bytes)} B` : "–"],
    ["drift (PSI)", known(psi) ? drift(psi) : "–"],
    ["records", `${count(b.received)}${b.lost ? `, ${count(b.lost)} lost` : ""}`],
    ["last record", ago(b.seen_at)],
  ];
  const latency = points("latency_p50_us").length > 1
    ? lineChart({ width: 380, title: `Latency of ${b.board}`, xName: "", formatX: clock, format: (v, tick) => (tick && v < 1000 ? `${v} µs` : micros(v)), from: 0, series: [{ name: "p50", color: 1, points: points("latency_p50_us") }, { name: "p99", color: 5, points: points("latency_p99_us") }] })
    : null;
  const drifts = points("psi").length > 1
    ? lineChart({ width: 380, title: `Drift of ${b.board}`, xName: "", formatX: clock, format: (v, tick) => (tick ? String(v) : number(v, 2)), from: 0, limit: { value: 0.25, name: "commonly read as drift" }, series: [{ name: "drift (PSI)", color: 6, points: points("psi") }] })
    : null;
  return el("section", { class: "board" },
    el("div", { class: "card-head" }, el("h3", {}, b.board), kind),
    el("dl", { class: "facts" }, facts.map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])),
    b.error.reason ? el("p", { class: "reason" }, `last error: ${b.error.reason}`) : null,
    latency ? el("div", {}, el("h4", {}, simulated ? "Latency, simulated" : "Latency"), latency) : null,
    drifts ? el("div", {}, el("h4", {}, "Drift of the inputs"), drifts) : null);
}

function drift(psi) {
  const kind = psi > 0.25 ? "bad" : psi > 0.1 ? "warn" : "good";
  return el("span", { class: `pill ${kind}` }, number(psi, 2));
}
