// One node of a run over its rounds: how long it took, what it sent, how good the model was on its rows.

import { fetchJson, showProblem } from "./ask.js";
import { lineChart } from "./charts.js";
import { bytes, card, clock, count, el, empty, known, number, plural, seconds } from "./dom.js";
import { csvButton, exportable } from "./export.js";
import { listing } from "./listing.js";
import { fill } from "./morph.js";
import { part } from "./parts.js";
import { decoded } from "./place.js";

const AGAIN_MS = 5000;
const ANSWER_MS = 15000;
const main = document.getElementById("node");
const [run, node] = location.pathname.split("/").slice(-2).map(decoded);
const LASTING = ["done", "declined"]; // what does not change with time
let last = { found: null, problem: null };
let asking = false;

const COLUMNS = [
  { name: "round", numeric: true, by: (r) => r.round },
  { name: "time to answer", numeric: true, by: (r) => r.seconds },
  { name: "sent", numeric: true, by: (r) => r.bytes },
  { name: "in the aggregate", by: (r) => r.counted },
  { name: "accuracy", numeric: true, by: (r) => r.accuracy },
  { name: "AUC", numeric: true, by: (r) => r.auc },
  { name: "loss", numeric: true, by: (r) => r.loss },
];
const KEYS = ["round", "seconds", "bytes", "counted", "accuracy", "auc", "loss"];

// What was found stays when there is no further answer, and says of when it is.
function draw() {
  const { found, problem } = last;
  const noNews = problem ? `no news since ${clock(found.at)}` : null;
  document.title = [node, `run ${run}`, noNews, "Edgeward"].filter(Boolean).join(" · ");
  const state = problem && !LASTING.includes(found.state) ? "unknown" : found.state;
  const trained = found.rounds.filter((r) => r.round > 0);
  fill(main, [
    el("nav", { "aria-label": "This page" }, el("a", { href: `/#run/${encodeURIComponent(run)}` }, "← the run")),
    problem ? el("p", { class: "banner", role: "alert", id: "problem" }, `There is ${noNews}: ${problem}.`) : null,
    el("div", { class: "heading" },
      el("h1", {}, node),
      el("p", { class: "muted", id: "node-state" }, `run ${run}, ${state} at ${clock(found.at)}, ${count(found.records)} records as stated, in the aggregate of ${plural(trained.filter((r) => r.counted).length, "round")}`)),
    found.reason ? el("p", { class: "reason" }, found.reason) : null,
    el("div", { class: "grid" }, charts(trained, found.held_back), part("node-rounds", (again) => table(found, again))),
  ]);
  main.removeAttribute("aria-busy");
}

function charts(rounds, heldBack) {
  const points = (name) => rounds.filter((r) => known(r[name])).map((r) => [r.round, r[name]]);
  const one = (title, name, yName, format, color) => part(`node-${name}`, () => card(title, exportable(lineChart({ title: `${title} of ${node} over the rounds`, yName, from: 0, format, series: [{ name: title.toLowerCase(), color, points: points(name) }] }), `${node}-${name}`), { id: `node-${name}` }));
  const measured = ["accuracy", "auc", "loss"].some((name) => points(name).length);
  const figures = (v, tick) => (tick ? String(v) : number(v));
  return [
    one("Time to answer", "seconds", "seconds", (v, tick) => (tick ? String(v) : seconds(v)), 1),
    points("bytes").length ? one("Bytes sent", "bytes", "bytes", bytes, 5) : null,
    measured ? part("node-accuracy", () => card("Accuracy and AUC", exportable(lineChart({ title: `Accuracy and AUC of ${node} over the rounds`, yName: "share", to: 1, format: figures, series: [{ name: "accuracy", label: "acc.", color: 1, dash: 1, points: points("accuracy") }, { name: "AUC", label: "AUC", color: 2, dash: 2, points: points("auc") }] }), `${node}-accuracy`), { id: "node-accuracy" })) : null,
    measured ? one("Loss", "loss", "loss (cross-entropy, nats)", figures, 4) : null,
    heldBack ? card("How good the model is", el("p", { class: "muted" }, heldBack), { id: "held-back" }) : null,
  ];
}

function table(found, again) {
  if (!found.rounds.length) return card("Rounds", empty("No rounds yet", "No round that this node answered has been aggregated."), { wide: true, id: "node-rounds" });
  const list = listing({
    id: "rounds",
    noun: "rounds",
    caption: `Rounds of ${node}`,
    columns: COLUMNS,
    items: [...found.rounds].reverse(),
    keyOf: (r) => r.round,
    text: (r) => String(r.round),
    well: (r) => r.counted !== false,
    row: (r) => [r.round, seconds(r.seconds), bytes(r.bytes), r.counted ? "yes" : "no", number(r.accuracy), number(r.auc), number(r.loss)],
    redraw: again,
  });
  return card("Rounds", list, { wide: true, id: "node-rounds", aside: csvButton(`${run}-${node}`, () => [KEYS, ...found.rounds.map((r) => KEYS.map((key) => r[key]))]) });
}

async function follow() {
  if (document.hidden || asking) return;
  asking = true;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    last = { found: await fetchJson(`/api/nodes/${encodeURIComponent(run)}/${encodeURIComponent(node)}`, { signal }), problem: null };
    draw();
  } catch (error) {
    const problem = error.name === "TimeoutError" ? `the dashboard has not answered for ${ANSWER_MS / 1000} s` : error.message;
    if (last.found) {
      last = { ...last, problem };
      draw();
    } else showProblem(main, problem);
  } finally {
    asking = false;
  }
}

follow();
setInterval(follow, AGAIN_MS);
document.addEventListener("visibilitychange", follow);
