// What happened: the newest events of journal and gateway, and the audit log, which has all of them.

import { auditCard } from "./auditlog.js";
import { card, clock, count, el, empty } from "./dom.js";

export function drawLog(state, tools) {
  const lines = state.activity.map((line) => el("li", { class: line.kind }, el("span", { class: "muted when" }, clock(line.at)), el("span", {}, line.text)));
  return [
    el("div", { class: "heading" }, el("h1", {}, "Log")),
    el("div", { class: "grid" },
      card("Activity", lines.length ? el("ul", { class: "activity long" }, lines) : empty("Nothing yet", "Events of the run will be listed here."), { wide: true, aside: el("span", { class: "muted" }, `the newest ${count(lines.length)}`) }),
      auditCard(tools)),
  ];
}
