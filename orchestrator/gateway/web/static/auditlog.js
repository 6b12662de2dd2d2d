// The audit log a page at a time, newest first: which entries are shown and of how many, and the way to all others.

import { card, clock, count, el, empty, turnButton } from "./dom.js";
import { keep, parameter } from "./place.js";

const PAGE = 200;
const AGAIN_MS = 5000; // the newest page is asked for so often, and one that could not be read; those before it do not change
const log = { found: null, of: undefined, error: null, at: -Infinity, before: undefined }; // of: which page was found, as `before`

export function auditCard({ redraw, fetchJson }) {
  const before = parameter("before");
  const stale = log.before !== before || ((before === null || log.error) && performance.now() - log.at > AGAIN_MS);
  if (stale) ask(before, redraw, fetchJson);
  const found = log.found;
  const problem = log.error ? el("p", { class: "problem", id: "log-problem" }, log.error) : null;
  return card("Audit log", [problem, found ? content(found, redraw) : problem ? null : el("p", { class: "muted" }, "Reading …")], { wide: true, id: "log-audit", aside: found?.total ? el("span", { class: "muted", id: "audit-shown", role: "status" }, shown(found)) : null });
}

function ask(before, redraw, fetchJson) {
  log.at = performance.now();
  log.before = before;
  fetchJson(`/api/audit?limit=${PAGE}${before ? `&before=${encodeURIComponent(before)}` : ""}`).then((found) => {
    if (log.before !== before) return; // the reader went on
    if (!log.error && JSON.stringify(found) === JSON.stringify(log.found)) return;
    Object.assign(log, { found, of: before, error: null });
    redraw();
  }, (error) => {
    if (log.before !== before) return;
    Object.assign(log, { found: log.of === before ? log.found : null, error: error.message });
    setTimeout(redraw, AGAIN_MS + 100);
    redraw();
  });
}

function shown({ first, last, total }) {
  return `entries ${count(first)} to ${count(last)} of ${count(total)}, newest first`;
}

function content(found, redraw) {
  if (!found.present) return empty("No audit log", "This folder has no audit.jsonl.");
  if (!found.total) return el("p", { class: "muted" }, "It has no entries yet.");
  return [
    el("ul", { class: "activity long", id: "audit", tabindex: "0", "aria-label": "Entries of the audit log" }, found.entries.map((entry, i) => el("li", { "data-key": `entry ${found.last - i}` }, el("span", { class: "muted when" }, clock(entry.at)), el("span", { class: "entry" }, words(entry))))),
    found.first > 1 || found.last < found.total ? pager(found, redraw) : null,
  ];
}

function pager({ first, last, total }, redraw) {
  const to = (before, text, possible) => turnButton(text, possible, () => { keep("before", before); redraw(); });
  return el("div", { class: "pager", role: "group", "aria-label": "Pages of the audit log" },
    to(null, "Newest", last < total),
    to(last + PAGE >= total ? null : String(last + PAGE + 1), "Newer", last < total),
    to(String(first), "Older", first > 1),
    to(String(Math.min(PAGE, total) + 1), "Oldest", first > 1));
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
