// The chosen runs beside each other: what was delivered, what was set, with what differs marked; and the way to their files.

import { bytes, card, el, epsilon, number, seconds } from "./dom.js";
import { csvButton } from "./export.js";
import { moment } from "./moment.js";
import { noteButton, noteOf } from "./notes.js";
import { keep, parameter } from "./place.js";

const LETTERS = "ABCDEF";
const AGAIN_MS = 5000; // while a run goes on, or after a failure: the gateway reads all rounds of the chosen runs for an answer
const asked = { runs: null, key: null, at: -Infinity, found: null, error: null, waits: null };
const FILES = { "bundle.zip": "bundle", "tables.zip": "tables", "privacy.md": "privacy page", "report.json": "report" };

// runs: the chosen entries of the list of runs.
export function comparisonCard(runs, { fetchJson, redraw }) {
  const at = { wide: true, id: "comparison" };
  if (!runs.length) return card("Beside each other", el("p", { class: "muted" }, "Choose runs above."), at);
  ask(runs, fetchJson, redraw);
  if (asked.error) return card("Beside each other", el("p", { class: "problem" }, asked.error), at);
  if (!asked.found) return card("Beside each other", el("p", { class: "muted" }, "Reading …"), at);
  const every = parameter("every") === "1";
  const { figures, settings } = asked.found;
  const rows = [...figures, ...(every || runs.length === 1 ? settings : settings.filter((row) => row.differs))];
  const heads = asked.found.runs.map((run, i) => `${LETTERS[i]} ${run}`);
  return card("Beside each other", [
    el("ul", { class: "plain" }, runs.map((run, i) => el("li", { "data-key": `links ${run.run}` }, el("strong", {}, `${LETTERS[i]} ${run.run}`), " ", runLinks(run), " ", noteOf(run), " ", noteButton(run, redraw)))),
    el("label", { class: "muted" }, el("input", { type: "checkbox", id: "every", checked: every, onchange: (event) => { keep("every", event.target.checked ? "1" : null); redraw(); } }), " also settings that are the same"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs beside each other" },
      el("table", { id: "compared" },
        el("caption", { class: "hidden" }, "What the chosen runs delivered and were set to; rows that differ are marked"),
        el("thead", {}, el("tr", {}, ["figure or setting", ...heads].map((head) => el("th", { scope: "col" }, head)))),
        el("tbody", {}, rows.map((row) => compared(row, heads))))),
  ], { ...at, aside: csvButton("runs-compared", () => [["", "differs", ...asked.found.runs], ...[...figures, ...settings].map((row) => [row.name, row.differs ? "yes" : "no", ...row.values])]) });
}

// Asked for again when others are chosen, and now and then while a run goes on; until the answer is there the last one stays.
function ask(runs, fetchJson, redraw) {
  const key = JSON.stringify(runs.map((run) => [run.run, run.last_event_at, run.files]));
  if (key === asked.key && !asked.error) return;
  const names = runs.map((run) => run.run).join();
  const wait = asked.runs === names ? asked.at + AGAIN_MS - performance.now() : 0;
  if (wait > 0) {
    asked.waits ??= setTimeout(() => {
      asked.waits = null;
      redraw();
    }, wait);
    return;
  }
  Object.assign(asked, { key, runs: names, at: performance.now() });
  fetchJson(`/api/compare?${runs.map((run) => `run=${encodeURIComponent(run.run)}`).join("&")}`).then((found) => {
    if (asked.key === key) Object.assign(asked, { found, error: null });
  }, (error) => {
    if (asked.key === key) Object.assign(asked, { found: null, error: error.message });
  }).then(redraw);
}

function compared(row, heads) {
  const mark = row.differs ? [el("span", { class: "mark-differs", "aria-hidden": "true" }, "≠ "), el("span", { class: "hidden" }, "differs: ")] : null;
  return el("tr", { class: row.differs ? "differs" : null, "data-key": `row ${row.name}` },
    el("th", { scope: "row" }, mark, row.name),
    row.values.map((value, i) => el("td", { "data-label": heads[i] }, WRITTEN[row.kind](value))));
}

const WRITTEN = {
  number,
  epsilon,
  seconds,
  bytes,
  time: (value) => (value === null ? "–" : moment(value)),
  text: (value) => value ?? "–",
};

// Where to go on from a run: its page, its statement, and the files it left.
export function runLinks(run) {
  const name = encodeURIComponent(run.run);
  return [
    el("a", { href: `#run/${name}` }, "open"), " · ",
    el("a", { href: `/statement/${name}` }, "privacy statement"),
    (run.files ?? []).map((file) => [" · ", el("a", { href: `/files/${name}/${file}`, download: true }, FILES[file])]),
  ];
}
