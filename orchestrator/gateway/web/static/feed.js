// Follows /api/events: keeps the parts it was sent, and hands on whole values, never half of them.

import { beginWith, heardTimes } from "./clock.js";

// How the parts of a section become its value, in the order of their keys; of the others the only part is the value.
const TABLES = {
  nodes: (parts) => parts.map(([, row]) => row),
  rounds: (parts) => parts.map(([, row]) => row).sort((a, b) => a.round - b.round),
  curve: (parts) => parts.flatMap(([, rows]) => rows).map(([round, loss, accuracy, auc]) => ({ round, loss, accuracy, auc })),
  epsilon: (parts) => parts.flatMap(([, rows]) => rows),
  boards: (parts) => parts.map(([, board]) => board),
  history: (parts) => histories(parts),
  runs: (parts) => parts.map(([, run]) => run).sort((a, b) => a.place - b.place),
  activity: (parts) => parts.map(([key, line]) => ({ ...line, key })).reverse().sort((a, b) => b.at - a.at),
};

function histories(parts) {
  const found = new Map();
  for (const [key, rows] of parts) {
    const board = key.split(" ")[0];
    const points = rows.map(([at, p50, p99, psi]) => ({ at, latency_p50_us: p50, latency_p99_us: p99, psi }));
    found.set(board, [...(found.get(board) ?? []), ...points]);
  }
  return found;
}

class Parts {
  sections = new Map();
  changed = new Set();
  piece = "";

  set(section, key, value) {
    if (!this.sections.has(section)) this.sections.set(section, new Map());
    this.sections.get(section).set(key, value);
    this.changed.add(section);
  }

  add({ set, gone }) {
    for (const [section, key] of gone) {
      this.sections.get(section)?.delete(key);
      this.changed.add(section);
    }
    for (const [section, key, value] of set) this.set(section, key, value);
  }

  addPiece([section, key, text, last]) {
    this.piece += text;
    if (!last) return;
    this.set(section, key, JSON.parse(this.piece));
    this.piece = "";
  }

  // The values of the sections that changed since the last time.
  take() {
    const values = Object.fromEntries([...this.changed].map((name) => [name, this.value(name)]));
    this.changed.clear();
    return values;
  }

  value(name) {
    const parts = this.sections.get(name) ?? new Map();
    if (!(name in TABLES)) return parts.get("") ?? null;
    return TABLES[name]([...parts].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  }
}

// What a page of parts that came all at once, as /api/page/RUN gives them, holds.
export function valuesOf(set) {
  const parts = new Parts();
  parts.add({ set, gone: [] });
  for (const name of Object.keys(TABLES)) parts.changed.add(name);
  return parts.take();
}

let files = null; // which files the dashboard has: after an update this page is of others, and what it is sent may be unknown to it

// on.values: of what changed, `whole` for the first lot of a connection; on.beat: nothing changed; on.lost; on.bye; on.loggedOut.
export function follow(on) {
  const events = new EventSource("/api/events");
  const listen = (name, take) => events.addEventListener(name, (event) => take(JSON.parse(event.data)));
  let parts = new Parts();
  let whole = false;
  listen("begin", (settings) => {
    if (files !== null && files !== settings.files) return location.reload();
    files = settings.files;
    beginWith(settings);
    parts = new Parts(); // after a break everything comes again
    for (const name of Object.keys(TABLES)) parts.changed.add(name);
    whole = true;
  });
  listen("parts", (news) => parts.add(news));
  listen("piece", (piece) => parts.addPiece(piece));
  listen("done", (times) => {
    heardTimes(times);
    on.values(parts.take(), whole);
    whole = false;
  });
  listen("beat", (times) => {
    heardTimes(times);
    on.beat();
  });
  listen("session", on.loggedOut);
  listen("bye", on.bye);
  events.onerror = () => {
    on.lost();
    if (events.readyState === EventSource.CLOSED) setTimeout(() => on.again(), 3000); // else the browser tries again by itself
  };
}
