// How pages ask the dashboard: JSON both ways, to the login where the session is over, and a banner where there is no answer.

import { el } from "./dom.js";

// What a path gives. Raises an Error with the dashboard's own words; where a login is needed the page is left.
export async function fetchJson(path, options) {
  return read(await fetch(path, options));
}

export async function postJson(path, value) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
  } catch {
    throw new Error("The gateway does not answer.");
  }
  return read(answer);
}

async function read(answer) {
  if (answer.status === 401) {
    logIn();
    return new Promise(() => {}); // nobody is there any more for an answer
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

// To the login, which leads back to this page and view.
export function logIn() {
  const { pathname, hash } = location;
  location.replace(`/login${pathname === "/" ? hash : `#${pathname}${hash}`}`);
}

// Instead of a page that could not be made.
export function showProblem(place, reason) {
  place.replaceChildren(el("p", { class: "banner", role: "alert", id: "problem" }, `This page could not be read: ${reason}`));
  place.removeAttribute("aria-busy");
}
