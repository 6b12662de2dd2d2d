// The page for a data protection officer, on a screen and on two sheets of A4: which model, what is claimed and what is not.

import { fetchJson, showProblem } from "./ask.js";
import { el } from "./dom.js";
import { moment } from "./moment.js";
import { decoded } from "./place.js";

const AGAIN_MS = 2000;
const SECOND_SHEET = "How"; // the heading the second sheet begins with
const HEADINGS = { "Against whom": "Against whom it holds, and on which conditions" };
// What has to be known before the rest is read; a run that is not finished states nothing yet.
const STATES = {
  planned: ({ phase, made }) => ({
    failed: `This run failed: there is no ${made} to state anything of. Below is what would be claimed if all rounds had gone as declared.`,
    finished: `All rounds are done, and no ${made} was made of them yet. Below is what is claimed if all rounds went as declared.`,
  }[phase] ?? `This run is not finished: there is no ${made} to state anything of. Below is what is claimed if all rounds go as declared.`),
  computing: () => "What is claimed is being computed; this page asks again by itself.",
  failed: ({ reason }) => reason,
  final: () => "",
};
const main = document.getElementById("statement");
const run = decoded(location.pathname.split("/").pop());

function draw(said) {
  document.title = `Privacy statement · ${said.run} · Edgeward`;
  const cut = said.blocks.findIndex((block) => block.text === SECOND_SHEET);
  const first = cut < 0 ? said.blocks : said.blocks.slice(0, cut);
  const second = cut < 0 ? [] : said.blocks.slice(cut);
  main.replaceChildren(
    el("nav", { class: "unprinted", "aria-label": "This page" },
      el("a", { href: `/#run/${encodeURIComponent(said.run)}` }, "← the run"),
      el("button", { class: "quiet", type: "button", onclick: () => print() }, "Print, or save as PDF")),
    el("section", { class: "sheet" },
      el("h1", {}, "Privacy statement"),
      identity(said),
      el("p", { class: "note-box", id: "notice", hidden: said.state === "final" }, STATES[said.state](said)),
      said.blocks.length ? el("h2", {}, "What is claimed") : null,
      first.map(block)),
    el("section", { class: "sheet" },
      second.map(block),
      el("h2", {}, trains(said) ? "What was trained" : "What was computed"),
      el("dl", { class: "facts" }, said.words.map(({ term, text }) => [el("dt", {}, term), el("dd", {}, text)]))),
    el("p", { class: "foot", "aria-hidden": "true" }, `Run ${said.run} · ${trains(said) ? "model " : ""}${said.outcome} · ${moment(said.printed_at)}`));
  main.removeAttribute("aria-busy");
}

function trains(said) {
  return said.made === "model";
}

function identity(said) {
  const ended = said.ended_at === null ? "not finished" : moment(said.ended_at);
  const facts = [
    ["Task", said.task],
    ["Federation", said.federation],
    ["Run", said.run],
    [trains(said) ? "Model digest" : "Result", said.outcome],
    [trains(said) ? "Training began" : "Began", moment(said.began_at)],
    [trains(said) ? "Training ended" : "Ended", said.phase === "failed" ? [ended, ", failed"] : ended],
    ["This page is of", moment(said.printed_at)],
  ];
  return el("dl", { class: "facts identity" }, facts.map(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
}

const DRAWN = {
  heading: ({ text }) => el("h2", {}, HEADINGS[text] ?? text),
  text: ({ text }) => el("p", {}, text),
  list: ({ items }) => el("ul", { class: "plain" }, items.map((item) => el("li", {}, item))),
  table: ({ rows: [heads, ...rows] }) => el("table", {},
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell)))))),
};

function block(found) {
  return DRAWN[found.kind](found);
}

async function ask() {
  const found = await fetchJson(`/api/statement/${encodeURIComponent(run)}`);
  draw(found);
  if (found.state === "computing") setTimeout(begin, AGAIN_MS);
}

function begin() {
  ask().catch((error) => showProblem(main, error.message));
}

begin();
