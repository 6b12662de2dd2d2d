// Charts as SVG or PNG, tables as CSV: made in the browser from what is shown, and saved by it.

import { el, svg } from "./dom.js";

const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "opacity", "font-size", "font-family", "font-weight", "text-anchor", "visibility"];
const LINE = 18; // of the legend, in units of the chart
const PNG_SCALE = 2;

// The chart with buttons that save it; `name` begins the file's.
export function exportable(chart, name) {
  const save = (as) => async (event) => {
    const picture = event.currentTarget.closest(".exportable").querySelector("svg[role=img]");
    if (!picture) return;
    const text = standing(picture);
    download(`${name}.${as}`, as === "svg" ? new Blob([text], { type: "image/svg+xml" }) : await png(text, picture.viewBox.baseVal));
  };
  return el("div", { class: "exportable" }, chart,
    el("div", { class: "exports" }, ["svg", "png"].map((as) => el("button", { class: "link", type: "button", onclick: save(as), "aria-label": `Save the chart as ${as.toUpperCase()}` }, as.toUpperCase()))));
}

// rows: () => arrays of cells, the first of them the heads.
export function csvButton(name, rows) {
  return el("button", { class: "link", type: "button", "aria-label": "Save the table as CSV", onclick: () => download(`${name}.csv`, new Blob([csv(rows())], { type: "text/csv" })) }, "CSV");
}

export function csv(rows) {
  return rows.map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

// As RFC 4180 has it; a text that a spreadsheet would take for a formula gets an apostrophe in front, also behind a semicolon or tab,
// where spreadsheets of many countries begin another cell.
function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value.replaceAll(/(^|[;\t])(?=[=+\-@\t\r])/g, "$1'") : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// The chart as a file that needs nothing round it: with its title, its styles and its legend.
function standing(picture) {
  const { width, height } = picture.viewBox.baseVal;
  const copy = picture.cloneNode(true);
  const from = [picture, ...picture.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
    const styles = getComputedStyle(from[i]);
    node.removeAttribute("class");
    node.removeAttribute("tabindex");
    for (const name of STYLES) if (styles.getPropertyValue(name)) node.setAttribute(name, styles.getPropertyValue(name));
  });
  const names = [...(picture.closest(".chart")?.querySelectorAll(".legend li") ?? [])].map((li) => li.textContent);
  const lines = [...picture.querySelectorAll("path.line")].map((line) => getComputedStyle(line));
  const ground = getComputedStyle(document.body);
  const total = height + LINE * names.length;
  copy.prepend(svg("title", {}, picture.getAttribute("aria-label")), svg("rect", { width, height: total, fill: getComputedStyle(picture.closest(".card") ?? document.body).backgroundColor }));
  names.forEach((name, i) => {
    const y = height + LINE * i + 8;
    copy.append(
      svg("line", { x1: 8, x2: 36, y1: y, y2: y, stroke: lines[i]?.stroke ?? "none", "stroke-width": 2.25, "stroke-dasharray": lines[i]?.strokeDasharray ?? "none" }),
      svg("text", { x: 44, y: y + 4, fill: ground.color, "font-size": 12, "font-family": ground.fontFamily }, name));
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("viewBox", `0 0 ${width} ${total}`);
  copy.setAttribute("width", width);
  copy.setAttribute("height", total);
  return new XMLSerializer().serializeToString(copy);
}

async function png(text, { width }) {
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  canvas.width = PNG_SCALE * width;
  canvas.height = (PNG_SCALE * width * picture.naturalHeight) / picture.naturalWidth;
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function download(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
