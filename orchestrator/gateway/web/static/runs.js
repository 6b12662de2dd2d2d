// Runs of this store: a table to choose from, and the chosen ones drawn over each other.

import { lineChart } from "./charts.js";
import { bytes, card, clock, count, el, empty, epsilon, number, seconds, table } from "./dom.js";

const MOST = 6;

export function drawRuns(state, { choose }) {
  const all = [...state.runs].reverse();
  const runs = all.filter((r) => r.phase !== "unreadable");
  const unreadable = all.filter((r) => r.phase === "unreadable").map((r) => el("p", { class: "problem" }, r.reason));
  if (!all.length) return [empty("No run yet", "Every run of this state folder will be listed here.")];
  if (!state.chosen) {
    state.chosen = [];
    choose(runs.slice(0, 3).map((r) => r.run));
  }
  const box = (r) => el("label", { class: "choose" },
    el("input", { type: "checkbox", checked: state.chosen.includes(r.run), disabled: !state.chosen.includes(r.run) && state.chosen.length >= MOST, onchange: (event) => choose(event.target.checked ? [...state.chosen, r.run] : state.chosen.filter((name) => name !== r.run)) }),
    el("span", { class: "hidden" }, `compare ${r.run}`));
  const open = (r) => el("div", { class: "choose" }, box(r), el("a", { href: `#run/${encodeURIComponent(r.run)}` }, el("strong", {}, r.run)));
  const columns = [{ name: "run" }, { name: "state" }, { name: "rounds", numeric: true }, { name: "nodes", numeric: true }, { name: "strategy" }, { name: "epsilon", numeric: true }, { name: "accuracy", numeric: true }, { name: "AUC", numeric: true }, { name: "loss", numeric: true }, { name: "bytes up", numeric: true }, { name: "time", numeric: true }, { name: "last event", numeric: true }];
  const pill = (phase) => el("span", { class: `pill ${{ finished: "good", failed: "bad" }[phase] ?? "busy"}` }, phase);
  const rows = runs.map((r) => [open(r), pill(r.phase), `${r.rounds_done}/${r.rounds}`, count(r.nodes), `${r.strategy}, ${r.codec}`, r.epsilon === null ? "none" : epsilon(r.epsilon), number(r.accuracy), number(r.auc), number(r.loss), bytes(r.bytes_up), seconds(r.seconds), clock(r.last_event_at)]);
  const found = state.chosen.map((name) => [name, name === state.run?.run ? { rounds: state.rounds, live: state.live, privacy: state.privacy } : state.compared[name]]).filter(([, run]) => run);
  const series = (name) => found.map(([run, data], i) => ({ name: run, color: i + 1, points: data.rounds.filter((r) => r.round > 0 && r.round <= data.live.rounds).map((r) => [r.round, r[name]]) }));
  const spent = found.map(([run, data], i) => ({ name: run, color: i + 1, points: data.privacy.points ?? [] }));
  const figures = (v, tick) => (tick ? String(v) : number(v));
  return [
    el("div", { class: "heading" }, el("h1", {}, "Runs"), el("p", { class: "muted" }, `open one by its name, or choose up to ${MOST} to draw them over each other`)),
    el("div", { class: "grid" },
      card("All runs of this folder", [table("Runs", columns, rows), unreadable], { wide: true }),
      card("Accuracy", lineChart({ title: "Accuracy of the chosen runs", series: series("accuracy"), format: figures })),
      card("AUC", lineChart({ title: "AUC of the chosen runs", series: series("auc"), format: figures })),
      card("Loss", lineChart({ title: "Loss of the chosen runs", series: series("loss"), format: figures })),
      card("Epsilon planned", lineChart({ title: "Epsilon of the chosen runs", series: spent, format: (v, tick) => (tick ? String(v) : epsilon(v)), from: 0 }))),
  ];
}
