// What happened: the newest events of journal and gateway, and the audit log, which has all of them.

import { auditCard } from "./auditlog.js";
import { card, count, el, empty } from "./dom.js";
import { activityLine } from "./now.js";
import { part } from "./parts.js";

export function drawLog(state, tools) {
  const lines = state.activity.map(activityLine);
  return [
    el("div", { class: "heading" }, el("h1", { tabindex: "-1" }, "Log")),
    el("div", { class: "grid" },
      part("log-activity", () => card("Activity", lines.length ? el("ul", { class: "activity long", id: "activity", tabindex: "0", "aria-label": "Activity" }, lines) : empty("Nothing yet", "Events of the run will be listed here."), { wide: true, id: "log-activity", aside: el("span", { class: "muted" }, `the newest ${count(lines.length)}`) })),
      part("log-audit", () => auditCard(tools))),
  ];
}
