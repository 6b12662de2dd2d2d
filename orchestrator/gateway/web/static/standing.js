// What may be said of the run now: a page that hears nothing, or whose gateway is gone, must not say that a round goes on.

import { isQuiet, newsAt } from "./clock.js";
import { known, shortClock } from "./dom.js";

const OVER = ["finished", "failed"];
const PHASES = {
  gathering: ["Waiting for nodes", "busy"],
  collecting: ["Collecting updates", "busy"],
  aggregating: ["Aggregating", "busy"],
  waiting: ["Waiting for the gateway above", "busy"],
  finished: ["Finished", "good"],
  failed: ["Failed", "bad"],
  interrupted: ["Interrupted", "bad"],
  starting: ["Starting again", "busy"],
  unknown: ["Unknown", "off"],
};

// The state of a run: as the dashboard knows it, or unknown where what was known may be old.
export function condition(state) {
  if (!state.live) return null;
  if (OVER.includes(state.live.phase)) return state.live.phase;
  return trusted(state) ? state.live.state : "unknown";
}

// Whether what is shown is how it is now.
export function trusted(state) {
  return !state.ended && !isQuiet();
}

export function isOver(state) {
  return OVER.includes(state.live.phase);
}

// Whether the run is going on, as far as anyone knows.
export function goesOn(state) {
  return ["gathering", "collecting", "aggregating", "waiting"].includes(condition(state));
}

export function phasePill(state) {
  const [text, kind] = PHASES[condition(state)] ?? [condition(state), "busy"];
  return { text, kind };
}

export function noNews() {
  return `no news since ${shortClock(newsAt())}`;
}

// Of the gateway, for the corner of every view.
export function gatewayPill(state) {
  if (!state.ready) return state.lost ? ["dashboard not reachable", "bad"] : ["connecting", ""];
  if (!state.gateway) return ["nothing can be read", "bad"]; // the page says why
  if (state.ended) return [`dashboard ended at ${shortClock(state.ended)}`, "bad"];
  if (isQuiet()) return [noNews(), "bad"];
  if (state.lost) return ["dashboard not reachable", "bad"];
  const { state: stands, since } = state.gateway;
  const at = known(since) ? shortClock(since) : "";
  return {
    preparing: ["gateway preparing", "busy"],
    working: ["gateway running", "good"],
    finished: [`gateway finished at ${at}`, "off"],
    failed: [`gateway failed at ${at}`, "bad"],
    stopped: [`gateway stopped at ${at}`, "off"],
    interrupted: ["no gateway running", "bad"],
    idle: ["no gateway running", "off"],
  }[stands];
}

// Why the open round cannot succeed as things are; null while it can, and where nobody knows.
export function stuck(state) {
  return state.live && trusted(state) ? state.live.lacking ?? null : null;
}

const VIEWS = { runs: "Runs", log: "Log" };

// What the tab says: the view, and what the newest run is at.
export function title(state, view, opened) {
  const where = opened ? `run ${opened}` : VIEWS[view];
  return [where, state.ready ? whereabouts(state) : null, "Edgeward"].filter(Boolean).join(" · ");
}

function whereabouts(state) {
  if (!state.gateway) return "nothing can be read";
  if (!trusted(state)) return state.ended ? "dashboard ended" : noNews();
  if (preparing(state)) return "preparing a run";
  if (failedOutside(state)) return "gateway failed";
  if (!state.live) return null;
  const { round, rounds } = state.live;
  const name = condition(state);
  if (stuck(state)) return round > 0 ? `⚠ round ${round}/${rounds} cannot succeed` : "⚠ cannot succeed";
  if (name === "interrupted") return round > 0 ? `interrupted in round ${round}/${rounds}` : "interrupted";
  if (["collecting", "aggregating"].includes(name) && round > 0 && round <= rounds) return `round ${round}/${rounds}`;
  return phasePill(state).text.toLowerCase();
}

// A gateway is at work, and the newest run there is was over before it began.
export function preparing(state) {
  return state.gateway.state === "preparing" && (!state.live || isOver(state));
}

// The gateway failed where there is no run of its own that says so: before the first round of a run, or after the last.
function failedOutside(state) {
  return state.gateway.state === "failed" && (!state.live || state.live.phase === "finished");
}

// What a reader should hear of without looking: [text, whether it is bad]. Null for nothing.
export function announcement(state) {
  if (!state.ready || !state.gateway) return null;
  if (!trusted(state)) return [state.ended ? "The dashboard ended." : `There is ${noNews()}.`, true];
  if (preparing(state)) return ["The gateway prepares a run.", false];
  if (state.gateway.state === "failed") return [`The gateway failed: ${state.gateway.reason}`, true];
  if (!state.live) return null;
  if (stuck(state)) return [state.live.lacking.text, true];
  return {
    finished: ["The run is finished.", false],
    failed: [`The run failed: ${state.live.reason}`, true],
    interrupted: ["The run is interrupted: no gateway works on it.", true],
    collecting: ["A round is under way.", false],
  }[condition(state)] ?? null;
}
