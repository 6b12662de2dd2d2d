// Small helpers: elements without innerHTML, and how numbers, bytes and times are written.

import { isolated, isolatedText } from "./bidi.js";
import { now } from "./clock.js";

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  apply(node, attributes, children);
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  apply(node, attributes, children);
  return node;
}

function apply(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) {
      node[name] = value; // a property, so that morph.js can pass it on
      (node.handlers ??= []).push(name);
    } else node.setAttribute(name, value === true ? "" : value);
  }
  const text = node instanceof HTMLElement ? isolated : (words) => [isolatedText(words)];
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) node.append(...(typeof child === "string" ? text(child) : [child]));
}

export const known = (value) => value !== null && value !== undefined;
export const finite = (value) => typeof value === "number" && Number.isFinite(value);

// What is no number although it was measured comes as the text "nan", "inf" or "-inf".
const ODD = new Map([["nan", "NaN"], ["inf", "∞"], ["-inf", "−∞"]]);
export function odd(value) {
  return ODD.get(value) ?? null;
}

export function number(value, digits = 3) {
  return known(value) ? odd(value) ?? Number(value).toFixed(digits) : "–";
}

export function plural(many, one, more = `${one}s`) {
  return `${count(many)} ${many === 1 ? one : more}`;
}

// Made once: a formatter takes far longer to make than to use.
const COUNTS = new Intl.NumberFormat("en");
const TIMES = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAYS = new Intl.DateTimeFormat("en-CA");

export function count(value) {
  return known(value) ? odd(value) ?? COUNTS.format(Number(value)) : "–";
}

export function bytes(value) {
  if (!finite(value)) return odd(value) ?? "–";
  if (value < 1000) return `${Math.round(value)} B`;
  let unit = -1;
  do { value /= 1000; unit += 1; } while (value >= 999.5 && unit < 3);
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ${["kB", "MB", "GB", "TB"][unit]}`;
}

export function mib(value) {
  return finite(value) && value > 0 ? `${value.toFixed(0)} MiB` : odd(value) ?? "–";
}

export function seconds(value) {
  if (!finite(value)) return odd(value) ?? "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}

export function micros(value) {
  if (!finite(value)) return odd(value) ?? "–";
  return value < 1000 ? `${Math.round(value)} µs` : `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} ms`;
}

export function epsilon(value) {
  return known(value) ? odd(value) ?? String(Number(Number(value).toPrecision(3))) : "–";
}

export function clock(unix) {
  const date = new Date(known(unix) ? unix * 1000 : NaN);
  if (Number.isNaN(date.getTime())) return odd(unix) ?? "–"; // not a time, or one beyond all calendars
  const time = TIMES.format(date);
  return date.toDateString() === new Date(now() * 1000).toDateString() ? time : `${DAYS.format(date)} ${time}`;
}

// Hours and minutes; with the date where it was another day.
export function shortClock(unix) {
  return clock(unix).slice(0, -3);
}

// A time that says how long ago it was; `tick` in app.js keeps it true.
export function ago(unix) {
  if (!known(unix)) return el("span", {}, "–");
  return el("time", { "data-at": unix, title: clock(unix) }, agoText(unix));
}

const SLOW_LINE_S = 60; // by so much the page's time may be behind, and an event that just came seem to be of later
const CENTURY_S = 3.2e9;

export function agoText(unix) {
  const passed = now() - unix;
  if (passed < -SLOW_LINE_S) return passed < -CENTURY_S ? "dated far ahead" : `dated ${agoOf(-passed).replace("ago", "ahead")}`;
  return agoOf(passed);
}

function agoOf(passed) {
  if (passed < 5) return "now";
  if (passed < 90) return `${Math.round(passed)} s ago`;
  if (passed < 5400) return `${Math.round(passed / 60)} min ago`;
  return passed < 129600 ? `${Math.round(passed / 3600)} h ago` : `${plural(Math.round(passed / 86400), "day")} ago`;
}

export function card(title, children, { aside = null, wide = false, id = null } = {}) {
  return el("article", { class: `card${wide ? " wide" : ""}`, id }, el("div", { class: "card-head" }, el("h2", {}, title), aside), children);
}

// rows: arrays of cells, with a property `key` where a row is to be known again; columns: {name, numeric}. On a phone each row becomes a small card labelled by `data-label`.
export function table(caption, columns, rows) {
  const cell = (content, i) => el("td", { class: columns[i].numeric ? "numeric" : null, "data-label": columns[i].name }, content);
  return el(
    "div", { class: "scroll" },
    el("table", {},
      el("caption", { class: "hidden" }, caption),
      el("thead", {}, el("tr", {}, columns.map((c) => el("th", { scope: "col", class: c.numeric ? "numeric" : null }, c.name)))),
      el("tbody", {}, rows.map((cells) => el("tr", { "data-key": cells.key ?? null }, cells.map(cell))))),
  );
}

export function empty(title, text) {
  return el("div", { class: "empty" }, el("strong", {}, title), el("p", {}, text));
}

// The cells of a row that is known by a key.
export function keyedRow(key, cells) {
  return Object.assign(cells, { key });
}

// A large figure under its name; `note` says of when it is.
export function figure(name, value, unit, note) {
  return el("div", { "data-key": `figure ${name.split(" ")[0]}` }, el("dt", {}, name), el("dd", {}, el("span", { class: "value" }, value), el("span", { class: "unit" }, unit), el("span", { class: "note" }, note)));
}

// From one page of a list to another. One that leads nowhere says so and can have the focus: its reader may just have pressed it.
export function turnButton(text, possible, turn, id = null) {
  return el("button", { class: "quiet", type: "button", id, "aria-disabled": possible ? null : "true", onclick: () => possible && turn() }, text);
}
