// Cards of a view that are built and drawn one after the other, over as many frames as they take: however long a view is, the page
// answers its reader between two of them.

import { card, el } from "./dom.js";
import { become } from "./morph.js";
import { tick } from "./tick.js";

const TURN_MS = 8; // of a frame of 16 ms; what the browser lays out and paints of it comes on top
const waiting = new Set(); // places, in the order of the view
const page = document.documentElement.dataset; // has `drawing` while some wait, for those that want to see a whole page

// The place of a card, known by its key, which becomes the card that `build` makes in its turn. `build` is given a function that draws
// this card again, at once. What a later view gives under the same key takes its place.
export function part(key, build) {
  const place = el("article", { class: "card", "data-key": key });
  place.build = build;
  place.adopt = (next) => later(place, next.build);
  queueMicrotask(() => place.isConnected && later(place, build)); // one that another adopts is never drawn
  return place;
}

function later(place, build) {
  place.build = build;
  waiting.add(place);
  if (page.drawing === undefined) draw();
}

async function draw() {
  page.drawing = "";
  for (let until = performance.now() + TURN_MS; waiting.size; ) {
    const [place] = waiting;
    if (place.isConnected) drawOne(place);
    else waiting.delete(place);
    await null; // its charts are painted by now
    if (performance.now() < until) continue;
    tick();
    await new Promise(requestAnimationFrame);
    until = performance.now() + TURN_MS;
  }
  tick();
  delete page.drawing;
}

// A card that cannot be drawn leaves the others theirs, and says so: what it showed before is no longer so.
function drawOne(place) {
  waiting.delete(place);
  try {
    show(place, place.build(() => drawOne(place)));
  } catch (error) {
    reportError(error);
    show(place, card(place.querySelector("h2")?.textContent ?? "Not drawn", el("p", { class: "problem" }, `This card could not be drawn: ${error.message}.`)));
  }
}

function show(place, built) {
  built.dataset.key = place.dataset.key;
  become(place, built);
}
