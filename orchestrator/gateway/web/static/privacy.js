// What was spent of the privacy budget: one number for the open round, here, in the chart and in /metrics.

import { lineChart } from "./charts.js";
import { card, el, epsilon, figure } from "./dom.js";

// Until the accountant has the round itself, what is known is that no more was spent than at a later one.
export function spentText(privacy) {
  return `${privacy.exact ? "" : "≤ "}${epsilon(privacy.spent)}`;
}

// Rounded down: never more than there is.
function leftText(privacy) {
  const left = Math.max(0, privacy.budget - privacy.spent);
  return `${privacy.exact ? "" : "≥ "}${epsilon(Math.floor(left * 1000) / 1000)} left`;
}

export function figureOfPrivacy({ privacy }) {
  if (privacy.state === "none") return figure("Epsilon", "none", "", "without privacy");
  const note = `per ${privacy.unit}, delta ${privacy.delta}`;
  if (privacy.state !== "ready") return figure("Epsilon planned", epsilon(privacy.planned), "", `for all rounds, ${note}`);
  return figure("Epsilon spent", spentText(privacy), ` / ${epsilon(privacy.budget)}`, `${leftText(privacy)}, ${ofRound(privacy)}, ${note}`);
}

function ofRound(privacy) {
  return privacy.round < 0 ? "before the first round" : privacy.round === 0 ? "with the statistics" : `with round ${privacy.round}`;
}

export function privacyCard(state) {
  const privacy = state.privacy;
  const at = { id: "privacy" };
  if (privacy.state === "none") return card("Privacy", el("p", { class: "note-box" }, privacy.claim), at);
  const planned = `Planned: epsilon ${epsilon(privacy.planned)} at delta ${privacy.delta} for all rounds together, per ${privacy.unit}.`;
  if (privacy.state === "failed") return card("Privacy", [el("p", {}, planned), el("p", { class: "problem" }, privacy.reason)], at);
  if (privacy.state === "computing") return card("Privacy", [el("p", {}, planned), el("p", { class: "muted" }, "How much of it each round spends is being computed.")], at);
  const facts = [
    ["Unit", `one ${privacy.unit}: ${privacy.adjacency}`],
    ["Accountant", privacy.accountant],
    ["Sampling", privacy.sampling],
    ["Statistics", privacy.statistics],
    ["Noise", `${privacy.noise_multiplier} × clip norm ${privacy.clip_norm}`],
    ["Clipping", state.run.result?.clipped],
  ].filter(([, text]) => text);
  return card("Epsilon spent", [
    chart(state, privacy),
    el("details", { id: "privacy-more" }, el("summary", {}, "What is claimed, and what is not"),
      el("dl", { class: "facts" }, facts.map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])),
      el("h3", {}, "Not covered"),
      el("ul", { class: "plain" }, privacy.not_covered.map((text) => el("li", {}, text)))),
  ], { aside: el("span", { class: "muted" }, `${spentText(privacy)} of ${epsilon(privacy.budget)} at delta ${privacy.delta}`), id: "privacy" });
}

// The line of what was spent ends at the round and the number of the headline.
function chart(state, privacy) {
  const before = state.epsilon.filter(([number]) => number < privacy.round);
  const spent = privacy.round < 0 ? [] : [...before, [privacy.round, privacy.spent]];
  return lineChart({
    title: "Epsilon spent over the rounds",
    yName: `epsilon at delta ${privacy.delta}`,
    series: [
      { name: "planned", color: 3, points: state.epsilon, dashed: true },
      { name: "spent", color: 3, points: spent },
    ],
    limit: { value: privacy.budget, name: `budget ${epsilon(privacy.budget)}` },
    format: (v, tick) => (tick ? String(v) : epsilon(v)),
    from: 0,
    area: true,
  });
}
