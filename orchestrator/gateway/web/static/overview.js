// The first view: where the run is, who takes part, what it cost, what boards say.

import { boardsCard, deaf, silent } from "./boards.js";
import { lineChart } from "./charts.js";
import { ago, bytes, card, count, el, empty, figure, finite, keyedRow, known, mib, number, seconds, table } from "./dom.js";
import { exportable } from "./export.js";
import { activity, gatewayEnded, nowCard } from "./now.js";
import { ASKED, nodesCard } from "./nodes.js";
import { part } from "./parts.js";
import { figureOfPrivacy, privacyCard } from "./privacy.js";
import { goesOn, isOver, phasePill, preparing, trusted } from "./standing.js";

export function drawOverview(state) {
  if (state.opening) return [empty(`Run ${state.opening}`, state.error ?? "Reading …")];
  if (!state.other && preparing(state)) return [preparingCard(state), el("div", { class: "grid" }, part("boards", () => boardsCard(state)))];
  if (!state.run) return [noRun(state), el("div", { class: "grid" }, part("boards", () => boardsCard(state)))];
  const trained = state.curve.filter((r) => r.round > 0 && r.round <= state.live.rounds);
  const rounds = state.rounds.filter((r) => r.round > 0 && r.round <= state.live.rounds);
  const own = (key, build) => part(`${key} ${state.run.run}`, build); // no card of one run waits for its turn under another's name
  return [
    heading(state),
    figures(state, trained, rounds[rounds.length - 1] ?? {}),
    el("div", { class: "grid" },
      own("now", () => nowCard(state)),
      own("privacy", () => privacyCard(state)),
      analyses(state) ? null : own("accuracy", () => card("Accuracy", exportable(qualityChart(trained, state.live.rounds), "accuracy"), { id: "accuracy" })),
      analyses(state) ? null : own("loss", () => card("Loss", exportable(lossChart(trained, state.live.rounds), "loss"), { id: "loss" })),
      state.scores ? own("scores", () => scoresCard(state)) : null,
      own("nodes", (again) => nodesCard(state, again)),
      part("boards", () => boardsCard(state)),
      own("task", () => taskCard(state)),
      own("traffic", () => trafficCard(rounds, state))),
  ];
}

// A run that trains nothing has no accuracy, now or later.
function analyses(state) {
  return state.live.kind === "analysis";
}

function noRun(state) {
  const unreadable = state.runs.filter((r) => r.phase === "unreadable");
  if (unreadable.length) return titled("No run can be read", "", unreadable.map((r) => el("p", { class: "problem" }, r.reason)));
  const ended = gatewayEnded(state.gateway);
  if (ended) return titled("No run yet", el("strong", { id: "standing" }, ended), state.activity.length ? activity(state) : null);
  return titled("No run yet", "Nothing has run in this folder. Start a gateway with `edgeward gateway run CONFIG --out FOLDER`.");
}

// The run before is over, so nothing of it is shown as if it were this one's.
function preparingCard(state) {
  const before = state.run ? el("p", {}, "The run before: ", el("a", { href: `#run/${encodeURIComponent(state.run.run)}` }, state.run.run), `, ${phasePill(state).text.toLowerCase()}.`) : null;
  return titled(state.run ? "A run is being prepared" : "No run yet", ["The gateway is preparing ", state.run ? "a run" : "its first run", ": planning the noise and exporting the training graph, since ", ago(state.gateway.since), "."], before, activity({ ...state, activity: state.activity.filter((line) => line.at >= state.gateway.since) }));
}

function titled(title, text, ...more) {
  return el("div", { class: "empty", id: "no-run" }, el("h1", { tabindex: "-1" }, title), el("p", {}, text), more);
}

function heading(state) {
  const later = state.runs.find((r) => r.run === state.run.run);
  const training = later && later.training > 1 ? `, training ${later.training}` : "";
  return el("div", { class: "heading" },
    el("h1", { tabindex: "-1" }, state.run.name),
    el("p", { class: "muted" }, `run ${state.run.run}${training}`, known(state.live.at) ? [", last event ", ago(state.live.at)] : null, " · ", el("a", { href: `/statement/${encodeURIComponent(state.run.run)}` }, "privacy statement, to print"), state.other ? [" · ", el("a", { href: "#runs" }, "all runs")] : null));
}

// Every value says what it is of: a round and when that ended, or how long ago it was heard.
function figures(state, trained, last) {
  const live = state.live;
  const of = known(last.round) ? ["round ", String(last.round), ", ", ago(last.at)] : null;
  const quality = trained.filter((r) => known(r.accuracy)).pop();
  return el("dl", { class: "figures" },
    figure("Rounds", count(live.totals.rounds), ` / ${count(live.rounds)}`, [phasePill(state).text, known(last.at) ? [", last one ", ago(last.at)] : null]),
    analyses(state) ? null : figure("Accuracy", share(quality?.accuracy), finite(quality?.accuracy) ? " %" : "", quality ? [known(quality.auc) ? `AUC ${number(quality.auc)}, ` : "", `round ${quality.round}`] : "of the gateway’s test rows"),
    figureOfPrivacy(state),
    nodesFigure(state),
    figure(analyses(state) ? "Sums" : "Updates", bytes(known(last.bytes_up) ? last.bytes_up / Math.max(1, last.updates) : null), "", of ? ["up, a node; ", of] : "a node and round, up"),
    boardsFigure(state));
}

function share(value) {
  return finite(value) ? (100 * value).toFixed(1) : number(value);
}

function nodesFigure(state) {
  const asked = state.nodes.filter((n) => n.state === ASKED).length;
  const declined = state.nodes.filter((n) => n.state === "declined").length;
  const note = `${declined} declined${asked ? `, ${asked} to be approved` : ""}`;
  if (!goesOn(state)) return figure("Nodes", isOver(state) && trusted(state) ? count(state.live.joined) : "–", isOver(state) ? " took part" : "", isOver(state) ? note : ["unknown", known(state.live.at) ? [", last event ", ago(state.live.at)] : null]);
  return figure("Nodes", count(state.live.online), ` / ${state.live.nodes_wanted} wanted`, note);
}

function boardsFigure(state) {
  if (!state.boards.length && state.listening !== "listening") return figure("Boards", "–", "", "not listening");
  const quiet = state.boards.filter(silent).length;
  const reporting = state.boards.length - quiet;
  const simulated = state.boards.filter((b) => b.simulated === true).length;
  const unknown = state.boards.filter((b) => b.simulated === null).length;
  const notes = [quiet ? `${quiet} ${deaf(state.listening) ? "unknown" : "silent"}` : null, simulated ? `${simulated} simulated` : null, unknown ? `${unknown} of unknown kind` : null].filter(Boolean);
  return figure("Boards", `${reporting}`, " reporting", notes.join(", ") || (state.boards.length ? "hardware" : ""));
}

function qualityChart(rounds, planned) {
  const points = (name) => rounds.map((r) => [r.round, r[name]]);
  return lineChart({ title: "Accuracy and AUC over the rounds", yName: "share", series: [{ name: "accuracy", label: "acc.", color: 1, dash: 1, points: points("accuracy") }, { name: "AUC", label: "AUC", color: 2, dash: 2, points: points("auc") }], format: (v, tick) => (tick ? String(v) : number(v)), xMin: 1, xMax: planned, to: 1 });
}

function lossChart(rounds, planned) {
  return lineChart({ title: "Loss over the rounds", yName: "loss (cross-entropy, nats)", series: [{ name: "loss", color: 4, points: rounds.map((r) => [r.round, r.loss]) }], format: (v, tick) => (tick ? String(v) : number(v)), xMin: 1, xMax: planned, from: 0, area: true, log: true });
}

function scoresCard(state) {
  const scores = state.scores;
  const shown = (text) => (text === "-" ? "–" : text.replace(/\bnan\b/g, "NaN").replace(/\binf\b/g, "∞"));
  const grid = (caption, [heads, ...rows]) => table(caption, heads.map((name, i) => ({ name: name || "figure", numeric: i > 0 })), rows.map(([name, ...cells]) => [name, ...cells.map(shown)]));
  return card("How good the model is", [
    scores.warnings.map((text) => el("p", { class: "note-box", role: "status" }, text)),
    grid("Figures of the model", scores.rows),
    scores.sites.map((site) => [el("h3", {}, `By site: ${site.title}`), grid(`Figures by site: ${site.title}`, site.rows)]),
    el("p", { class: "muted" }, "Intervals are of 95 %. Thresholds were chosen on the records they are shown for."),
  ], { wide: true, id: "scores" });
}

function taskCard(state) {
  return card("Task", el("dl", { class: "facts" }, state.run.words.map((w) => [el("dt", {}, w.term), el("dd", {}, w.text)])), { id: "task" });
}

function trafficCard(rounds, state) {
  const last = [...rounds].reverse();
  if (!last.length) return card("Last rounds", el("p", { class: "muted" }, "None is done yet."), { id: "traffic" });
  const columns = [{ name: "round", numeric: true }, { name: "ended", numeric: true }, { name: "updates", numeric: true }, { name: "time", numeric: true }, { name: "up", numeric: true }, { name: "down", numeric: true }, { name: "codec error", numeric: true }];
  const rows = last.map((r) => keyedRow(`round ${r.round}`, [r.round, ago(r.at), count(r.updates), seconds(r.seconds), bytes(r.bytes_up), bytes(r.bytes_down), number(r.codec_error)]));
  const memory = state.gateway.running && trusted(state) ? `gateway ${mib(state.gateway.memory_mib)}, dashboard ${mib(state.gateway.dashboard_memory_mib)}` : "";
  return card("Last rounds", table("The last rounds", columns, rows), { aside: el("span", { class: "muted" }, memory), id: "traffic" });
}
