// The open round: who answered, who is awaited, how long; or how the run ended, or why nobody knows.

import { ago, bytes, card, clock, count, el, known, number, plural, shortClock, table } from "./dom.js";
import { newsAt } from "./clock.js";
import { condition, isOver, phasePill, stuck, trusted } from "./standing.js";
import { startButton, stopButton } from "./control.js";

const SCROLLED = 12; // nodes of a round from which on their list may have to be scrolled, also by keyboard

export function nowCard(state) {
  const { text, kind } = phasePill(state);
  const tag = el("span", { class: `pill ${kind}`, id: "phase" }, text);
  const over = isOver(state);
  return card("Now", [
    el("p", { class: "lead", id: "round" }, over ? endedText(state) : roundName(state.live)),
    state.gateway.simulated ? el("p", { class: "note-box", id: "simulated" }, el("strong", {}, "Simulated: "), "all nodes ran in one process, which read all of their records. Nothing was protected.") : null,
    standingNote(state),
    stuckNote(state),
    over || ["unknown", "interrupted", "starting"].includes(condition(state)) ? null : progress(state),
    over && state.run.result ? resultTable(state.run.result) : null,
    nextNote(state),
    state.gateway.stoppable && !state.other && !over && trusted(state) ? stopButton(state.run.run) : null,
    state.gateway.restartable && !state.other && !state.live.final && trusted(state) ? startButton(state.run.run) : null,
    activity(state),
  ], { aside: tag, id: "now" });
}

// What to do when a run is over; while it is not, the notes above say what helps.
function nextNote(state) {
  if (!isOver(state)) return null;
  const box = (...children) => el("p", { id: "next" }, el("strong", {}, "Next: "), children);
  if (state.live.phase === "failed") {
    return state.live.final
      ? box("this run cannot go on. Remove the cause and give the command with another output folder, or change the task.")
      : box("remove the cause, then give the same command again: the run goes on where it stopped.");
  }
  if (state.run.result?.analysis) {
    return box(
      "read the ", el("a", { href: `/statement/${encodeURIComponent(state.run.run)}` }, "privacy statement"), " before you publish a figure; fetch the ",
      el("a", { href: `/files/${encodeURIComponent(state.run.run)}/tables.zip`, download: true }, "tables"), " (CSV, and a picture).");
  }
  if (!state.run.result?.digest) return null;
  return box(
    "read the ", el("a", { href: `/statement/${encodeURIComponent(state.run.run)}` }, "privacy statement"), " before you publish the model; fetch the ",
    el("a", { href: `/files/${encodeURIComponent(state.run.run)}/bundle.zip`, download: true }, "bundle"), "; ",
    el("code", {}, "edgeward flash --port PORT --model OUT/bundle"), " puts it on a board.");
}

function roundName(live) {
  if (live.round < 0) return "Before the first round";
  if (live.kind === "statistics") return "Statistics round";
  return live.kind === "evaluation" ? "Last evaluation" : `Round ${live.round} of ${live.rounds}`;
}

// What has to be known before the rest of the card is believed.
function standingNote(state) {
  const box = (...children) => el("p", { class: "note-box", id: "standing" }, children);
  const gateway = state.gateway;
  if (!trusted(state)) {
    if (isOver(state)) return null;
    return box(`No news since ${shortClock(state.ended ?? newsAt())}: the round may have ended, or go on. What is below is how it was then.`);
  }
  if (state.other) return condition(state) === "interrupted" ? box("No gateway works on this run", ...lastEvent(state), ".") : null;
  const ended = gatewayEnded(gateway);
  if (ended) return box(ended, gateway.state === "failed" || isOver(state) ? null : " The same command continues this run where it was.");
  if (condition(state) === "starting") return box("The gateway began again ", ago(gateway.since), " and has not come to this run yet.");
  if (condition(state) === "interrupted") return box("No gateway works on this run", ...lastEvent(state), ". The same command continues it where it was.");
  return null;
}

function lastEvent({ live }) {
  return known(live.at) ? ["; its last event was ", ago(live.at)] : [", and nothing has happened in it yet"];
}

// How the gateway ended, where that is not how its run did; null for any other.
export function gatewayEnded(gateway) {
  if (gateway.state === "failed") return `The gateway failed at ${clock(gateway.since)}: ${gateway.reason}`;
  return gateway.state === "stopped" ? `The gateway was stopped at ${clock(gateway.since)}.` : null;
}

function stuckNote(state) {
  const lacking = stuck(state);
  if (!lacking) return null;
  return el("div", { class: "banner", id: "stuck" }, el("p", {}, el("strong", {}, lacking.text)), el("p", {}, lacking.help));
}

function progress(state) {
  const live = state.live;
  const parts = [];
  if (live.phase === "gathering") parts.push(el("p", {}, `${plural(live.online, "node is", "nodes are")} here, of ${live.nodes_wanted} wanted.`));
  if (live.phase === "collecting") {
    parts.push(el("p", { class: "muted" }, `${plural(live.counts.arrived, live.kind === "analysis" ? "sum" : "update")} here (${bytes(live.bytes_up)}), ${count(live.needed)} needed; announced ${live.attempt === 1 ? "once" : `${live.attempt} times`}, at most ${live.attempts}`));
  }
  if (known(live.deadline_at)) {
    parts.push(el("div", { class: "deadline", "data-deadline": live.deadline_at, "data-seconds": live.deadline_s },
      el("div", { class: "bar" }, el("div", { class: "fill" })), el("span", { class: "left muted" }, "")));
  }
  if (["collecting", "aggregating"].includes(live.phase)) parts.push(chips(live));
  return parts;
}

function chips(live) {
  const more = ["arrived", "awaited", "absent"].map((kind) => [kind, live.counts[kind] - live[kind].length]).filter(([, many]) => many > 0);
  const many = Object.values(live.counts).reduce((sum, one) => sum + one, 0) > SCROLLED;
  return el("ul", { class: "chips", id: "chips", tabindex: many ? "0" : null, "aria-label": "Nodes of the round" },
    live.arrived.map((a) => chip(a.node, "arrived", known(a.bytes) ? bytes(a.bytes) : "arrived")),
    live.awaited.map((n) => chip(n, "awaited", "awaited")),
    live.absent.map((n) => chip(n, "absent", "away")),
    more.map(([kind, many]) => el("li", { class: "muted", "data-key": `more ${kind}` }, `and ${count(many)} more ${kind}`)));
}

function chip(node, kind, text) {
  return el("li", { class: `chip ${kind}`, "data-key": `chip ${node}` }, el("span", { class: "mark", "aria-hidden": "true" }), el("span", {}, node), el("span", { class: "muted" }, text));
}

function endedText(state) {
  const { live, gateway } = state;
  if (live.phase === "failed") return live.reason;
  if (state.run.result?.digest) return `Finished: model ${state.run.result.digest} is in the bundle.`;
  if (state.run.result?.analysis) return `Finished: ${plural(state.run.result.analysis.tables, "table is", "tables are")} in ${state.run.result.analysis.folder}.`;
  if (state.run.result) return "Finished: every node has its own model, and the gateway makes no bundle.";
  const busy = !state.other && trusted(state) && gateway.state === "working";
  if (live.kind === "analysis") return busy ? "All rounds are done; the tables are being written." : "All rounds are done, but no tables were written. The same command writes them.";
  return busy ? "All rounds are done; the model is being quantized." : "All rounds are done, but no model was made of them. The same command makes it.";
}

function resultTable(result) {
  if (!result.metrics) return null;
  const rows = ["float", "int8", "tflm"].filter((k) => result.metrics[k]).map((k) => [k === "tflm" ? "TFLM" : k, number(result.metrics[k].accuracy), number(result.metrics[k].auc)]);
  return table("Accuracy of the final model", [{ name: "final model" }, { name: "accuracy", numeric: true }, { name: "AUC", numeric: true }], rows);
}

export function activity(state) {
  return el("ul", { class: "activity" }, state.activity.slice(0, 5).map(activityLine));
}

export function activityLine(line) {
  return el("li", { class: line.kind, "data-key": `line ${line.key}` }, el("span", { class: "muted when" }, clock(line.at)), el("span", {}, line.text));
}
