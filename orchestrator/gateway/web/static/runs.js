// Runs of this store: a table to choose from, and the chosen ones drawn over each other.

import { lineChart } from "./charts.js";
import { ago, bytes, card, count, el, empty, epsilon, keyedRow, number, plural, seconds, table } from "./dom.js";
import { spentText } from "./privacy.js";
import { trusted } from "./standing.js";

const MOST = 6;
const PILLS = { finished: "good", failed: "bad", interrupted: "bad", unknown: "off" };

export function drawRuns(state, { choose, pageOf }) {
  const all = [...state.runs].reverse();
  const runs = all.filter((r) => r.phase !== "unreadable");
  const unreadable = all.filter((r) => r.phase === "unreadable").map((r) => el("p", { class: "problem" }, r.reason));
  if (!all.length) return [empty("No run yet", "Every run of this state folder will be listed here.")];
  state.chosen ??= runs.slice(0, 3).map((r) => r.run);
  const box = (r) => el("label", { class: "choose" },
    el("input", { type: "checkbox", checked: state.chosen.includes(r.run), disabled: !state.chosen.includes(r.run) && state.chosen.length >= MOST, onchange: (event) => choose(event.target.checked ? [...state.chosen, r.run] : state.chosen.filter((name) => name !== r.run)) }),
    el("span", { class: "hidden" }, `compare ${r.run}`));
  const open = (r) => el("div", { class: "choose" }, box(r), el("a", { href: `#run/${encodeURIComponent(r.run)}` }, el("strong", {}, r.run)));
  const columns = [{ name: "run" }, { name: "state" }, { name: "rounds", numeric: true }, { name: "nodes", numeric: true }, { name: "strategy" }, { name: "epsilon", numeric: true }, { name: "accuracy", numeric: true }, { name: "AUC", numeric: true }, { name: "loss", numeric: true }, { name: "bytes up", numeric: true }, { name: "time", numeric: true }, { name: "last event", numeric: true }];
  const rows = runs.map((r) => keyedRow(`run ${r.run}`, [open(r), pill(r, state), `${r.rounds_done}/${r.rounds}`, count(r.nodes), `${r.strategy}, ${r.codec}`, r.epsilon === null ? "none" : epsilon(r.epsilon), number(r.accuracy), number(r.auc), number(r.loss), bytes(r.bytes_up), seconds(r.seconds), ago(r.last_event_at)]));
  return [
    el("div", { class: "heading" }, el("h1", { tabindex: "-1" }, "Runs"), el("p", { class: "muted" }, `${plural(all.length, "run")}; open one by its name, or choose up to ${MOST} to draw them over each other`)),
    el("div", { class: "grid" },
      card("All runs of this folder", [table("Runs", columns, rows), unreadable], { wide: true, id: "all-runs" }),
      comparison(state, pageOf)),
  ];
}

function pill(r, state) {
  const over = ["finished", "failed"].includes(r.phase);
  const name = over || trusted(state) ? r.state : "unknown";
  return el("span", { class: `pill ${PILLS[name] ?? "busy"}` }, name);
}

// The chosen runs, each under a letter, with a colour and a dash of its own.
function comparison(state, pageOf) {
  const data = (name) => (name === state.run?.run ? state : pageOf(name).data);
  const found = state.chosen.map((name, i) => ({ name, label: "ABCDEF"[i], color: i + 1, data: data(name) })).filter((run) => run.data);
  const over = (points) => found.map(({ name, label, color, data }) => ({ name, label, color, dash: color, points: points(data) }));
  const quality = (name) => over((data) => data.curve.filter((r) => r.round > 0 && r.round <= data.live.rounds).map((r) => [r.round, r[name]]));
  const figures = (v, tick) => (tick ? String(v) : number(v));
  return [
    card("Accuracy", lineChart({ title: "Accuracy of the chosen runs", yName: "share", series: quality("accuracy"), format: figures }), { id: "compare-accuracy" }),
    card("AUC", lineChart({ title: "AUC of the chosen runs", yName: "share", series: quality("auc"), format: figures }), { id: "compare-auc" }),
    card("Loss", lineChart({ title: "Loss of the chosen runs", yName: "loss (cross-entropy, nats)", series: quality("loss"), format: figures, log: true }), { id: "compare-loss" }),
    card("Epsilon planned", [
      lineChart({ title: "Epsilon of the chosen runs", yName: "epsilon", series: over((data) => data.epsilon), format: (v, tick) => (tick ? String(v) : epsilon(v)), from: 0 }),
      el("ul", { class: "plain" }, found.map(({ name, label, data }) => el("li", { "data-key": `spent ${name}` }, `${label} ${name}: ${spent(data.privacy)}`))),
    ], { id: "compare-epsilon" }),
  ];
}

function spent(privacy) {
  if (privacy.state === "none") return "no privacy";
  if (privacy.state === "computing") return "epsilon is being computed";
  return privacy.state === "failed" ? privacy.reason : `epsilon ${spentText(privacy)} spent of ${epsilon(privacy.budget)}`;
}
