// What happened: the journal's events, what the gateway told, and the end of the audit log where there is one.

import { card, clock, el, empty } from "./dom.js";

let asked = 0;

export function drawLog(state, { redraw, fetchJson }) {
  if (Date.now() - asked > 5000) {
    asked = Date.now();
    fetchJson("/api/audit?limit=200").then((audit) => {
      if (JSON.stringify(audit) === JSON.stringify(state.audit)) return;
      state.audit = audit;
      redraw();
    }, () => {});
  }
  return [
    el("div", { class: "heading" }, el("h1", {}, "Log")),
    el("div", { class: "grid" },
      card("Activity", state.activity.length ? el("ul", { class: "activity long" }, state.activity.map((line) => el("li", { class: line.kind }, el("span", { class: "muted when" }, clock(line.at)), el("span", {}, line.text)))) : empty("Nothing yet", "Events of the run will be listed here."), { wide: true }),
      card("Audit log", audit(state.audit), { wide: true })),
  ];
}

function audit(found) {
  if (!found) return el("p", { class: "muted" }, "Reading …");
  if (!found.present) return empty("No audit log", "This folder has no audit.jsonl.");
  if (!found.entries.length) return el("p", { class: "muted" }, "It has no entries yet.");
  return el("ul", { class: "activity long" }, found.entries.map((entry) => el("li", {}, el("span", { class: "muted when" }, clock(entry.at)), el("span", { class: "entry" }, words(entry)))));
}

// Not shown beside the sentence: how entries are chained.
const CHAIN = ["n", "at", "before", "event"];
const WHOLE = (value) => (typeof value === "object" && value !== null ? (Array.isArray(value) ? value.join(", ") : Object.entries(value).map(([k, v]) => `${k} ${WHOLE(v)}`).join(", ")) : String(value));

function words(entry) {
  if (entry.unreadable) return `unreadable: ${entry.unreadable}`;
  const who = entry.node ? `${entry.node}: ` : "";
  const rest = Object.entries(entry).filter(([name, value]) => !CHAIN.includes(name) && name !== "node" && value !== null && value !== "" && WHOLE(value) !== "");
  const about = rest.map(([name, value]) => `${name.replaceAll("_", " ")} ${WHOLE(value)}`).join(", ");
  return `${who}${String(entry.event ?? "entry").replaceAll("_", " ")}${about ? ` (${about})` : ""}`;
}
