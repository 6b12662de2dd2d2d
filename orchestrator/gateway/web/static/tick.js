// What changes with time alone: ages, and the time that is left. Touches a text only where it reads otherwise now.

import { now } from "./clock.js";
import { agoText } from "./dom.js";

export function tick() {
  for (const time of document.querySelectorAll("time[data-at]")) write(time, agoText(Number(time.dataset.at)));
  for (const bar of document.querySelectorAll("[data-deadline]")) {
    const left = Math.max(0, Number(bar.dataset.deadline) - now());
    bar.querySelector(".fill").style.width = `${Math.min(100, (100 * left) / Number(bar.dataset.seconds))}%`;
    write(bar.querySelector(".left"), left > 0 ? `${left < 10 ? left.toFixed(1) : Math.round(left)} s left` : "due now");
  }
}

function write(node, text) {
  if (node.textContent === text) return;
  if (node.firstChild) node.firstChild.data = text;
  else node.textContent = text;
}
