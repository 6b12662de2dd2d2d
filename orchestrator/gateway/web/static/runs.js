// Runs of this store: a list to choose from, and the chosen ones drawn over each other and set beside each other.

import { lineChart } from "./charts.js";
import { comparisonCard } from "./compare.js";
import { ago, bytes, card, clock, count, el, empty, epsilon, number, plural, seconds } from "./dom.js";
import { csvButton, exportable } from "./export.js";
import { listing } from "./listing.js";
import { noteOf } from "./notes.js";
import { keep, parameter } from "./place.js";
import { part } from "./parts.js";
import { spentText } from "./privacy.js";
import { trusted } from "./standing.js";

const MOST = 6;
const PILLS = { finished: "good", failed: "bad", interrupted: "bad", unknown: "off" };
let before = null; // the names that were chosen last
const WELL = ["gathering", "collecting", "aggregating", "waiting", "starting", "finished"];

export function drawRuns(state, tools) {
  const all = [...state.runs].reverse();
  const runs = all.filter((r) => r.phase !== "unreadable");
  const unreadable = all.filter((r) => r.phase === "unreadable").map((r) => el("p", { class: "problem" }, r.reason));
  if (!all.length) return [empty("No run yet", "Every run of this state folder will be listed here.")];
  const chosen = chosenOf(runs);
  return [
    el("div", { class: "heading" }, el("h1", { tabindex: "-1" }, "Runs"), el("p", { class: "muted" }, `${many(state)}; open one by its name, or choose up to ${MOST} to draw them over each other`), missing(runs)),
    el("div", { class: "grid" },
      part("all-runs", () => card("All runs of this folder", [runsListing(runs, chosen, state, tools), unreadable], { wide: true, id: "all-runs", aside: csvButton("runs", () => asRows(runs)) })),
      charts(state, chosen, tools.pageOf),
      part("comparison", () => comparisonCard(chosen.map((name) => runs.find((r) => r.run === name)).filter(Boolean), tools))),
  ];
}

function many({ runs, all_runs: all }) {
  return all > runs.length ? `the newest ${count(runs.length)} of ${count(all)} runs` : plural(runs.length, "run");
}

// Each once, however often a link names it; undefined where the address has no choice.
function chosenNames() {
  const names = parameter("choose")?.split(",");
  return names && [...new Set(names)];
}

// Of runs a link names and this list lacks; those of other names are shown without them.
function missing(runs) {
  const named = chosenNames()?.filter((name) => name && name !== "none" && !runs.some((r) => r.run === name)) ?? [];
  return named.length ? el("p", { class: "problem", role: "status", id: "missing" }, `Not in this list, though the link names it: ${named.join(", ")}.`) : null;
}

// Those in the address; without any there, those chosen before, or the newest.
function chosenOf(runs) {
  const named = chosenNames()?.filter((name) => runs.some((r) => r.run === name)).slice(0, MOST);
  const first = runs.slice(0, 3).map((r) => r.run);
  const wanted = named ?? before ?? first;
  if (!named && String(wanted) !== String(first)) keep("choose", wanted.join(",") || "none");
  before = wanted;
  return wanted;
}

const COLUMNS = [
  { name: "run", by: (r) => r.run },
  { name: "state", by: (r) => r.state },
  { name: "rounds", numeric: true, by: (r) => r.rounds_done },
  { name: "nodes", numeric: true, by: (r) => r.nodes },
  { name: "strategy", by: (r) => r.strategy },
  { name: "epsilon", numeric: true, by: (r) => r.epsilon },
  { name: "int8 accuracy", numeric: true, by: (r) => r.int8_accuracy },
  { name: "accuracy", numeric: true, by: (r) => r.accuracy },
  { name: "AUC", numeric: true, by: (r) => r.auc },
  { name: "loss", numeric: true, by: (r) => r.loss },
  { name: "bytes up", numeric: true, by: (r) => r.bytes_up },
  { name: "began", numeric: true, by: (r) => r.started_at },
  { name: "wall time", numeric: true, by: (r) => r.wall_s },
  { name: "last event", numeric: true, by: (r) => r.last_event_at },
];

function runsListing(runs, chosen, state, { redraw }) {
  const pick = (names) => {
    keep("choose", names.join(",") || "none");
    before = names;
    redraw();
  };
  const box = (r) => el("label", { class: "choose" },
    el("input", { type: "checkbox", checked: chosen.includes(r.run), disabled: !chosen.includes(r.run) && chosen.length >= MOST, onchange: (event) => pick(event.target.checked ? [...chosen, r.run] : chosen.filter((name) => name !== r.run)) }),
    el("span", { class: "hidden" }, `compare ${r.run}`));
  const name = (r) => [el("div", { class: "choose" }, box(r), el("a", { href: `#run/${encodeURIComponent(r.run)}` }, el("strong", {}, r.run))), el("div", { class: "about" }, noteOf(r))];
  return listing({
    id: "runs",
    noun: "runs",
    caption: "Runs",
    columns: COLUMNS,
    items: runs,
    keyOf: (r) => r.run,
    text: (r) => [r.run, r.task, r.state, r.strategy, r.codec, r.note, ...(r.tags ?? [])].join(" "),
    well: (r) => WELL.includes(r.state),
    pinned: (r) => chosen.includes(r.run),
    row: (r) => [name(r), pill(r, state), `${r.rounds_done}/${r.rounds}`, count(r.nodes), `${r.strategy}, ${r.codec}`, r.epsilon === null ? "none" : epsilon(r.epsilon), number(r.int8_accuracy), number(r.accuracy), number(r.auc), number(r.loss), bytes(r.bytes_up), clock(r.started_at), seconds(r.wall_s), ago(r.last_event_at)],
    redraw,
  });
}

function pill(r, state) {
  const over = ["finished", "failed"].includes(r.phase);
  const name = over || trusted(state) ? r.state : "unknown";
  return el("span", { class: `pill ${PILLS[name] ?? "busy"}` }, name);
}

const EXPORTED = ["run", "task", "training", "state", "strategy", "codec", "rounds_done", "rounds", "nodes", "epsilon", "delta", "int8_accuracy", "int8_auc", "accuracy", "auc", "loss", "bytes_up", "started_at", "wall_s", "note"];

function asRows(runs) {
  return [[...EXPORTED, "tags"], ...runs.map((r) => [...EXPORTED.map((name) => r[name]), (r.tags ?? []).join(" ")])];
}

// The chosen runs, each under a letter, with a colour and a dash of its own.
function charts(state, chosen, pageOf) {
  const data = (name) => (name === state.run?.run ? state : pageOf(name).data);
  const found = chosen.map((name, i) => ({ name, label: "ABCDEF"[i], color: i + 1, data: data(name) })).filter((run) => run.data);
  const over = (points) => found.map(({ name, label, color, data }) => ({ name, label, color, dash: color, points: points(data) }));
  const quality = (name) => over((data) => data.curve.filter((r) => r.round > 0 && r.round <= data.live.rounds).map((r) => [r.round, r[name]]));
  const figures = (v, tick) => (tick ? String(v) : number(v));
  const one = (title, key, spec, ...more) => part(`compare-${key}`, () => card(title, [exportable(lineChart({ format: figures, ...spec() }), `runs-${key}`), more], { id: `compare-${key}` }));
  return [
    one("Accuracy", "accuracy", () => ({ title: "Accuracy of the chosen runs", yName: "share", series: quality("accuracy") })),
    one("AUC", "auc", () => ({ title: "AUC of the chosen runs", yName: "share", series: quality("auc") })),
    one("Loss", "loss", () => ({ title: "Loss of the chosen runs", yName: "loss (cross-entropy, nats)", series: quality("loss"), log: true })),
    one("Epsilon planned", "epsilon", () => ({ title: "Epsilon of the chosen runs", yName: "epsilon", series: over((data) => data.epsilon), format: (v, tick) => (tick ? String(v) : epsilon(v)), from: 0 }),
      el("ul", { class: "plain" }, found.map(({ name, label, data }) => el("li", { "data-key": `spent ${name}` }, `${label} ${name}: ${spent(data.privacy)}`)))),
  ];
}

function spent(privacy) {
  if (privacy.state === "none") return "no privacy";
  if (privacy.state === "computing") return "epsilon is being computed";
  return privacy.state === "failed" ? privacy.reason : `epsilon ${spentText(privacy)} spent of ${epsilon(privacy.budget)}`;
}
