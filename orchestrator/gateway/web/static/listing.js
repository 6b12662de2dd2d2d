// A table people can search, sort and narrow, that begins short however long it is, and opened has pages. What they chose is in
// the address.

import { count, el, turnButton } from "./dom.js";
import { keep, parameter } from "./place.js";

const FEW = { narrow: 5, wide: 12 };
const PAGE = 100; // rows of an opened list that are drawn at once
const NARROW = matchMedia("(max-width: 640px)");

// id: of the list in the address; noun: of what is listed, in the plural. columns: {name, numeric, by: item => what it is sorted by}.
// row: item => its cells; keyOf: item => what it is known by; text: item => what is searched; well: item => whether all is well;
// pinned: item => whether it is shown even in a short list.
export function listing({ id, noun, caption, columns, items, row, keyOf, text, well, pinned = () => false, redraw }) {
  const chosen = { q: parameter(`${id}.q`) ?? "", sort: parameter(`${id}.sort`), unwell: parameter(`${id}.unwell`) === "1", page: Number.parseInt(parameter(`${id}.all`), 10) || 0 };
  const change = (name, value) => {
    keep(`${id}.${name}`, value);
    redraw();
  };
  const sorted = inOrder(items, columns, chosen.sort);
  const found = sorted.filter((item) => (!chosen.unwell || !well(item)) && matches(text(item), chosen.q));
  const few = NARROW.matches ? FEW.narrow : FEW.wide;
  const first = new Set([...found.filter(pinned), ...found.filter((item) => !pinned(item))].slice(0, Math.max(few, found.filter(pinned).length)));
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const page = Math.min(Math.max(chosen.page, 0), pages); // 0: the short list
  const from = (page - 1) * PAGE;
  const shown = page ? found.slice(from, from + PAGE) : found.filter((item) => first.has(item));
  return [
    items.length > FEW.narrow || chosen.q || chosen.unwell ? toolbar({ id, noun, columns, chosen, change, unwell: items.filter((item) => !well(item)).length }) : null,
    items.length > shown.length || chosen.q || chosen.unwell ? el("p", { class: "muted", role: "status", id: `${id}-shown` }, page && pages > 1 ? `${noun} ${count(from + 1)} to ${count(from + shown.length)} of ${count(found.length)}` : `${count(shown.length)} of ${count(items.length)} ${noun} shown`) : null,
    el("div", { class: "scroll" },
      el("table", {},
        el("caption", { class: "hidden" }, caption),
        el("thead", {}, el("tr", {}, columns.map((column) => head(column, chosen.sort, change)))),
        el("tbody", {}, shown.map((item) => el("tr", { "data-key": `${id} ${keyOf(item)}` }, row(item).map((cell, i) => el("td", { class: columns[i].numeric ? "numeric" : null, "data-label": columns[i].name }, cell))))))),
    found.length > few ? pager({ id, noun, page, pages, change, many: found.length }) : null,
  ];
}

// Opens and closes the list in one and the same place, where who pressed the button stays.
function pager({ id, noun, page, pages, change, many }) {
  const open = el("button", { class: "quiet", type: "button", id: `${id}-all`, "aria-expanded": String(page > 0), onclick: () => change("all", page ? null : "1") }, page ? "Show fewer" : `Show all ${count(many)}`);
  const to = (name, where) => turnButton(name, where >= 1 && where <= pages, () => change("all", String(where)), `${id}-${name.toLowerCase()}`);
  const paged = page > 0 && pages > 1;
  return el("div", { class: "pager", role: paged ? "group" : null, "aria-label": paged ? `Pages of ${noun}` : null }, paged ? [to("Previous", page - 1), to("Next", page + 1)] : null, open);
}

function toolbar({ id, noun, columns, chosen, change, unwell }) {
  const name = (chosen.sort ?? "").replace(/^-/, "");
  const options = [["", "as they come"], ...columns.filter((c) => c.by).map((c) => [c.name, c.name])];
  return el("div", { class: "tools", role: "search", id: `${id}-tools` },
    el("input", { type: "search", id: `${id}-search`, "aria-label": `Search ${noun}`, placeholder: `Search ${noun}`, value: chosen.q, oninput: (event) => change("q", event.target.value) }),
    el("label", {}, el("input", { type: "checkbox", id: `${id}-unwell`, checked: chosen.unwell, onchange: (event) => change("unwell", event.target.checked ? "1" : null) }), ` only those not well (${count(unwell)})`),
    el("label", {}, "Sort by ", el("select", { id: `${id}-sort`, onchange: (event) => change("sort", event.target.value) }, options.map(([value, label]) => el("option", { value, selected: value === name }, label)))),
    name ? el("button", { class: "quiet", type: "button", onclick: () => change("sort", chosen.sort.startsWith("-") ? name : `-${name}`) }, chosen.sort.startsWith("-") ? "↓ descending" : "↑ ascending") : null);
}

// On a phone the head is for screen readers alone: what nobody sees is no place for the keyboard, and the list above the rows sorts.
function head(column, sort, change) {
  const at = sort === column.name ? "ascending" : sort === `-${column.name}` ? "descending" : null;
  const next = at === null ? column.name : at === "ascending" ? `-${column.name}` : null;
  const label = column.by && !NARROW.matches ? el("button", { class: "sorts", type: "button", onclick: () => change("sort", next) }, column.name, el("span", { "aria-hidden": "true" }, { ascending: " ↑", descending: " ↓" }[at] ?? "")) : column.name;
  return el("th", { scope: "col", class: column.numeric ? "numeric" : null, "aria-sort": at }, label);
}

function matches(text, wanted) {
  const lower = text.toLowerCase();
  return wanted.toLowerCase().split(/\s+/).every((word) => lower.includes(word));
}

// What is not known comes last, whichever way it is sorted.
function inOrder(items, columns, sort) {
  const by = columns.find((column) => column.by && column.name === (sort ?? "").replace(/^-/, ""))?.by;
  if (!by) return items;
  const sign = sort.startsWith("-") ? -1 : 1;
  const missing = (value) => value === null || value === undefined || (typeof value === "number" && Number.isNaN(value));
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  return [...items].sort((one, other) => {
    const [a, b] = [by(one), by(other)];
    return missing(a) || missing(b) ? missing(a) - missing(b) : sign * order(a, b);
  });
}
