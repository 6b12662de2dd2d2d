// Line charts as SVG: axes with names, a legend of colours and dashes, a readout under the pointer, a finger or the arrow keys, and
// the same figures as a table for those who do not see it. A chart that is drawn again keeps its place, focus and readout.

import { el, finite, known, odd, svg } from "./dom.js";
import { fill } from "./morph.js";
import { flattens, linear, logarithmic, logTicks, niceTicks, wholeTicks } from "./scales.js";

const HEIGHT = 226;
const LEFT = 50;
const TOP = 30;
const BOTTOM = 42;
const LABEL = 13; // least distance of two names at the ends of lines

// series: [{name, label (at the line's end), color (1 to 6), points: [[x, y]], dashed}]; y may be "nan", "inf" or "-inf", which is
// marked at the edge. dash: 1 to 6, of lines that must not differ by colour alone. limit: {value, name} draws a level that
// should not be passed. area: filled down to zero; without `from: 0`, and on a logarithmic scale, there is none. log: whether a
// logarithmic scale is offered; it is there by itself where one series would press the others flat.
export function lineChart(spec) {
  const figure = el("figure", { class: "chart" });
  const chart = new Chart(figure, { xName: "round", yName: "", format: (v) => String(v), formatX: (v) => String(v), limit: null, from: null, to: null, xMax: null, xMin: null, area: false, log: false, width: 560, ...spec });
  figure.chart = chart;
  figure.adopt = (next) => chart.adopt(next.chart);
  queueMicrotask(() => figure.isConnected && chart.paint()); // one that another adopts is never painted
  return figure;
}

class Chart {
  constructor(figure, spec) {
    Object.assign(this, { figure, spec, at: null, chosen: null, painted: null });
  }

  adopt(next) {
    this.spec = next.spec;
    this.paint();
  }

  paint() {
    const text = JSON.stringify([this.spec, this.chosen]);
    if (text === this.painted) return;
    this.painted = text;
    const series = this.spec.series.map((s) => ({ ...s, points: s.points.filter((p) => known(p[1])) })).filter((s) => s.points.length);
    if (!series.length) {
      fill(this.figure, [el("p", { class: "muted chart-empty" }, "No figures.")]);
      return;
    }
    this.measure(series);
    fill(this.figure, [this.legend(), this.picture(), el("p", { class: "readout muted", "aria-live": "polite" }, this.readout()), asTable(this.spec, series)]);
  }

  measure(series) {
    const { width, limit, from, to, xMin, xMax } = this.spec;
    const xs = series.flatMap((s) => s.points.map((p) => p[0]));
    const values = series.map((s) => s.points.map((p) => p[1]).filter(finite)).filter((v) => v.length);
    const ys = values.flat().concat(limit ? [limit.value] : []);
    const right = width - 14 - 7 * Math.max(0, ...series.map((s) => (s.label ?? "").length));
    this.positive = values.length > 0 && ys.every((value) => value > 0);
    this.log = this.positive && (this.chosen === null ? flattens(values) : this.chosen === "log");
    this.series = series;
    this.right = right;
    this.lowX = xMin ?? Math.min(...xs);
    this.highX = Math.max(xMax ?? -Infinity, ...xs);
    this.x = linear(this.lowX, this.highX, LEFT, right);
    this.ticks = this.log ? logTicks(Math.min(...ys), Math.max(...ys)) : niceTicks(from ?? Math.min(...ys, Infinity), to ?? Math.max(...ys, -Infinity), 4);
    if (!ys.length) this.ticks = [0, 1];
    const ends = [this.ticks[0], this.ticks[this.ticks.length - 1]];
    this.y = (this.log ? logarithmic : linear)(...ends, HEIGHT - BOTTOM, TOP);
    this.all = [...new Set(xs)].sort((a, b) => a - b);
    if (this.at !== null && !this.all.includes(this.at)) this.at = this.nearest(this.at);
  }

  picture() {
    const { width, title, format, formatX, limit, xName, yName } = this.spec;
    const middle = (LEFT + this.right) / 2;
    const parts = [
      this.ticks.map((tick) => [
        svg("line", { class: "gridline", x1: LEFT, x2: this.right, y1: this.y(tick), y2: this.y(tick) }),
        svg("text", { class: "tick", x: LEFT - 7, y: this.y(tick) + 4, "text-anchor": "end" }, format(tick, true)),
      ]),
      wholeTicks(this.lowX, this.highX, width / 80).map((tick) => svg("text", { class: "tick", x: this.x(tick), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, formatX(tick))),
      svg("text", { class: "tick axis", x: 2, y: 13 }, `${yName}${this.log ? ", logarithmic" : ""}`),
      svg("text", { class: "tick axis", x: middle, y: HEIGHT - 5, "text-anchor": "middle" }, xName),
      limit ? this.limitLine(limit) : null,
      this.series.map((s) => this.line(s)),
      this.labels(),
      this.cross(),
    ];
    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": describe(title, this.series, format), tabindex: "0" }, parts);
    return this.listening(picture);
  }

  limitLine({ value, name }) {
    const y = this.y(value);
    return [svg("line", { class: "limit", x1: LEFT, x2: this.right, y1: y, y2: y }), svg("text", { class: "limit-name", x: LEFT + 4, y: y + (y < TOP + 20 ? 16 : -6) }, name)];
  }

  line(s) {
    const runs = [[]]; // between values that are no numbers
    for (const p of s.points) if (finite(p[1])) runs[runs.length - 1].push(p); else runs.push([]);
    const d = runs.filter((run) => run.length).map((run) => run.map((p, i) => `${i ? "L" : "M"}${this.x(p[0]).toFixed(1)} ${this.y(p[1]).toFixed(1)}`).join("")).join("");
    const last = s.points.filter((p) => finite(p[1])).pop();
    const zero = !this.log && this.ticks[0] === 0;
    return [
      this.spec.area && zero && !s.dashed && runs.length === 1 ? svg("path", { class: `area c${s.color}`, d: `${d}L${this.x(last[0]).toFixed(1)} ${this.y(0)}L${this.x(s.points[0][0]).toFixed(1)} ${this.y(0)}Z` }) : null,
      d ? svg("path", { class: lineClass(s), d }) : null,
      last && !s.dashed ? svg("circle", { class: `dot c${s.color}`, cx: this.x(last[0]), cy: this.y(last[1]), r: 3.5 }) : null,
      s.points.filter((p) => !finite(p[1])).map((p) => svg("text", { class: `odd c${s.color}`, x: this.x(p[0]), y: p[1] === "-inf" ? HEIGHT - BOTTOM : TOP + 4, "text-anchor": "middle" }, "×")),
    ];
  }

  // Names at the ends of the lines, moved apart where they would cover each other.
  labels() {
    const ends = this.series.filter((s) => s.label).map((s) => ({ s, p: s.points.filter((p) => finite(p[1])).pop() })).filter(({ p }) => p);
    let above = -Infinity;
    return ends.map(({ s, p }) => ({ s, x: this.x(p[0]), y: this.y(p[1]) })).sort((a, b) => a.y - b.y).map(({ s, x, y }) => {
      above = Math.max(y, above + LABEL);
      return svg("text", { class: `label-end c${s.color}`, x: x + 7, y: above + 4 }, s.label);
    });
  }

  cross() {
    const x = this.at === null ? 0 : this.x(this.at);
    return svg("line", { class: "cross", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM, visibility: this.at === null ? "hidden" : "visible" });
  }

  legend() {
    const key = (s) => svg("svg", { class: "key", viewBox: "0 0 28 8", "aria-hidden": "true" }, svg("path", { class: lineClass(s), d: "M0 4L28 4" }));
    const names = this.series.length > 1 ? this.series.map((s) => el("li", {}, key(s), `${s.label && s.label !== s.name ? `${s.label} ` : ""}${s.name}`)) : [];
    const button = this.positive && (this.log || this.chosen !== null || this.spec.log) ? this.scaleButton() : null;
    return names.length || button ? el("div", { class: "chart-head" }, el("ul", { class: "legend" }, names), button) : null;
  }

  scaleButton() {
    const next = this.log ? "linear" : "log";
    return el("button", { class: "quiet small", type: "button", onclick: () => { this.chosen = next; this.paint(); } }, next === "log" ? "logarithmic scale" : "linear scale");
  }

  readout() {
    if (this.at === null) return "";
    const values = this.series.map((s) => [s.name, s.points.find((p) => p[0] === this.at)]).filter(([, p]) => p);
    return `${this.spec.xName} ${this.spec.formatX(this.at)}: ${values.map(([name, p]) => `${name} ${worded(p[1], this.spec.format)}`).join(", ")}`;
  }

  nearest(value) {
    return this.all.reduce((best, x) => (Math.abs(x - value) < Math.abs(best - value) ? x : best), this.all[0]);
  }

  point(at) {
    this.at = at;
    const cross = this.figure.querySelector(".cross");
    if (at !== null) for (const name of ["x1", "x2"]) cross.setAttribute(name, this.x(at));
    cross.setAttribute("visibility", at === null ? "hidden" : "visible");
    const readout = this.figure.querySelector(".readout");
    if (readout.textContent !== this.readout()) readout.textContent = this.readout();
  }

  // A finger that was lifted leaves its readout, until another place is touched.
  listening(picture) {
    const at = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * this.spec.width;
      this.point(this.nearest(this.lowX + ((x - LEFT) / (this.right - LEFT || 1)) * (this.highX - this.lowX)));
    };
    const handlers = {
      onpointerdown: at,
      onpointermove: at,
      onpointerleave: (event) => event.pointerType === "mouse" && this.point(null),
      onblur: () => this.point(null),
      onkeydown: (event) => this.step(event),
    };
    return Object.assign(picture, handlers, { handlers: Object.keys(handlers) });
  }

  step(event) {
    const ends = { Home: 0, End: this.all.length - 1 };
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.point(null);
    if (by === undefined && !(event.key in ends)) return;
    event.preventDefault();
    const from = this.at === null ? this.all.length - 1 : this.all.indexOf(this.at);
    const index = ends[event.key] ?? Math.min(this.all.length - 1, Math.max(0, from + (this.at === null ? Math.min(0, by + 1) : by)));
    this.point(this.all[index]);
  }
}

function lineClass(s) {
  return `line c${s.color}${s.dashed ? " dashed" : s.dash ? ` d${s.dash}` : ""}`;
}

function worded(value, format) {
  return odd(value) ?? format(value);
}

function describe(title, series, format) {
  const last = series.map((s) => `${s.name} ${worded(s.points[s.points.length - 1][1], format)}`).join(", ");
  return `${title}; last: ${last}`;
}

function asTable({ title, xName, format, formatX }, series) {
  const all = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b).slice(-60);
  const value = series.map((s) => new Map(s.points));
  const row = (at) => el("tr", {}, el("th", { scope: "row" }, formatX(at)), value.map((of) => el("td", {}, of.has(at) ? worded(of.get(at), format) : "–")));
  return el("div", { class: "hidden" },
    el("table", {}, el("caption", {}, title),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, xName), series.map((s) => el("th", { scope: "col" }, s.name)))),
      el("tbody", {}, all.map(row))));
}
