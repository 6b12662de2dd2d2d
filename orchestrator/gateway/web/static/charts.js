// Line charts as SVG: a few hundred points, a grid, a legend, a readout under the pointer or the arrow keys, and the same
// figures as a table for those who do not see it.

import { el, known, svg } from "./dom.js";

const HEIGHT = 200;
const LEFT = 46;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 26;

// series: [{name, color (1 to 6), points: [[x, y]], dashed}]; limit: {value, name} draws a level that should not be passed.
export function lineChart({ title, series, xName = "round", format = (v) => String(v), formatX = (v) => String(v), limit = null, from = null, to = null, xMax = null, xMin = null, area = false, width = 560 }) {
  const shown = series.map((s) => ({ ...s, points: s.points.filter((p) => known(p[1])) })).filter((s) => s.points.length);
  if (!shown.length) return el("p", { class: "muted chart-empty" }, "No figures yet.");
  const xs = shown.flatMap((s) => s.points.map((p) => p[0]));
  const ys = shown.flatMap((s) => s.points.map((p) => p[1])).concat(limit ? [limit.value] : []);
  const x = scale(xMin ?? Math.min(...xs), Math.max(xMax ?? -Infinity, ...xs), LEFT, width - RIGHT);
  const ticks = niceTicks(from ?? Math.min(...ys), to ?? Math.max(...ys), 4);
  const y = scale(ticks[0], ticks[ticks.length - 1], HEIGHT - BOTTOM, TOP);

  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": describe(title, shown, format), tabindex: "0" });
  for (const tick of ticks) {
    picture.append(svg("line", { class: "gridline", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
    picture.append(svg("text", { class: "tick", x: LEFT - 7, y: y(tick) + 4, "text-anchor": "end" }, format(tick, true)));
  }
  for (const tick of wholeTicks(x.low, x.high, width / 80)) picture.append(svg("text", { class: "tick", x: x(tick), y: HEIGHT - 7, "text-anchor": "middle" }, formatX(tick)));
  if (limit) {
    picture.append(svg("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: y(limit.value), y2: y(limit.value) }));
    picture.append(svg("text", { class: "limit-name", x: LEFT + 4, y: y(limit.value) + (y(limit.value) < TOP + 20 ? 16 : -6) }, limit.name));
  }
  for (const s of shown) {
    const path = s.points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("");
    const ends = [s.points[0][0], s.points[s.points.length - 1][0]];
    if (area && !s.dashed) picture.append(svg("path", { class: `area c${s.color}`, d: `${path}L${x(ends[1]).toFixed(1)} ${y(ticks[0])}L${x(ends[0]).toFixed(1)} ${y(ticks[0])}Z` }));
    picture.append(svg("path", { class: `line c${s.color}${s.dashed ? " dashed" : ""}`, d: path }));
    const last = s.points[s.points.length - 1];
    if (!s.dashed) picture.append(svg("circle", { class: `dot c${s.color}`, cx: x(last[0]), cy: y(last[1]), r: 3.5 }));
  }
  const readout = el("p", { class: "readout muted", "aria-live": "polite" }, "");
  follow(picture, readout, shown, x, width, (at) => `${xName} ${formatX(at)}`, format);
  const legend = el("ul", { class: "legend" }, shown.map((s) => el("li", {}, el("span", { class: `key c${s.color}${s.dashed ? " dashed" : ""}` }), s.name)));
  return el("figure", { class: "chart" }, shown.length > 1 ? legend : null, picture, readout, asTable(title, shown, xName, format, formatX));
}

function scale(low, high, start, end) {
  const span = high - low || 1;
  const map = (value) => start + ((value - low) / span) * (end - start);
  return Object.assign(map, { low, high });
}

function niceTicks(low, high, about) {
  if (low === high) [low, high] = [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
  const raw = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.floor(low / step + 1e-9); i * step < high + step * 0.999; i += 1) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function wholeTicks(low, high, most) {
  const step = Math.max(1, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000].find((s) => (high - low) / s <= most) ?? (high - low) / most);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(tick);
  return ticks;
}

function follow(picture, readout, series, x, width, nameX, format) {
  const all = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const cross = svg("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  picture.append(cross);
  let index = all.length - 1;
  const show = () => {
    const at = all[index];
    cross.setAttribute("x1", x(at));
    cross.setAttribute("x2", x(at));
    cross.setAttribute("visibility", "visible");
    const values = series.map((s) => [s.name, s.points.find((p) => p[0] === at)]).filter(([, p]) => p);
    readout.textContent = `${nameX(at)}: ${values.map(([name, p]) => `${name} ${format(p[1])}`).join(", ")}`;
  };
  const hide = () => {
    cross.setAttribute("visibility", "hidden");
    readout.textContent = "";
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    index = all.reduce((best, value, i) => (Math.abs(x(value) - at) < Math.abs(x(all[best]) - at) ? i : best), 0);
    show();
  });
  picture.addEventListener("pointerleave", hide);
  picture.addEventListener("blur", hide);
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    index = Math.min(all.length - 1, Math.max(0, index + step));
    show();
  });
}

function describe(title, series, format) {
  const last = series.map((s) => `${s.name} ${format(s.points[s.points.length - 1][1])}`).join(", ");
  return `${title}; last: ${last}`;
}

function asTable(title, series, xName, format, formatX) {
  const all = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const value = (s, at) => s.points.find((p) => p[0] === at);
  const row = (at) => el("tr", {}, el("th", { scope: "row" }, formatX(at)), series.map((s) => el("td", {}, value(s, at) ? format(value(s, at)[1]) : "–")));
  return el("div", { class: "hidden" },
    el("table", {}, el("caption", {}, title),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, xName), series.map((s) => el("th", { scope: "col" }, s.name)))),
      el("tbody", {}, all.slice(-60).map(row))));
}
