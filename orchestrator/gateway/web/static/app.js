// The page: follows /api/events, keeps what it heard, draws the view that is open.

import { agoText, el } from "./dom.js";
import { drawOverview } from "./overview.js";
import { drawRuns } from "./runs.js";
import { drawLog } from "./log.js";
import { path } from "./place.js";

const state = { gateway: null, run: null, live: null, nodes: [], rounds: [], privacy: null, boards: null, runs: [], activity: [], audit: null, problem: null, chosen: null, compared: {}, looked: {} };
const views = { overview: drawOverview, runs: drawRuns, log: drawLog };
const heard = new Set();
let drawing = false;

// The run of an address such as #run/NAME; null for any other.
function opened() {
  const [name, run] = path();
  return name === "run" && run ? run : null;
}

// What the first view draws: the newest run as it goes on, or the opened one as it was when it was asked for.
function shown() {
  const name = opened();
  if (name === null || name === state.run?.run) return state;
  const looked = (state.looked[name] ??= { at: 0, data: null, error: null });
  const settled = looked.error || (looked.data && looked.data.privacy.state !== "computing");
  if (!settled && Date.now() - looked.at > 2000) {
    looked.at = Date.now();
    fetchJson(`/api/runs/${encodeURIComponent(name)}`).then((data) => { looked.data = data; }, (error) => { looked.error = error.message; }).then(redraw);
  }
  if (!looked.data) return { opening: name, error: looked.error };
  return { ...state, ...looked.data, activity: [], other: true, gateway: { ...state.gateway, running: false } };
}

function view() {
  if (opened() !== null) return "overview";
  const [wanted] = path();
  return wanted in views ? wanted : "overview";
}

// Draws once a frame at most, however many events came.
function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

function draw() {
  const open = view();
  for (const name of Object.keys(views)) {
    document.getElementById(name).hidden = name !== open;
    const link = document.querySelector(`[data-view="${name}"]`);
    if (name === (opened() === null ? open : "runs")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const problem = document.getElementById("problem");
  problem.hidden = !state.problem;
  problem.textContent = state.problem ? `The gateway's store could not be read: ${state.problem}` : "";
  if (!state.gateway) return;
  document.getElementById("federation").textContent = state.gateway.federation;
  document.title = title();
  const place = document.getElementById(open);
  keepingFocus(place, () => place.replaceChildren(...views[open](open === "overview" ? shown() : state, { redraw, choose, fetchJson })));
  tick();
}

function title() {
  if (!state.live) return "Edgeward";
  const { phase, round, rounds } = state.live;
  const where = phase === "finished" ? "finished" : phase === "failed" ? "failed" : round > 0 ? `round ${round}/${rounds}` : phase;
  return `${where} · Edgeward`;
}

// What had the focus is found again by its id or its place among those that can have it.
function keepingFocus(place, change) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  const selector = "a, button, input, select, summary, [tabindex]";
  const index = focused ? [...place.querySelectorAll(selector)].indexOf(focused) : -1;
  const open = new Set([...place.querySelectorAll("details[open]")].map((d) => d.id));
  change();
  for (const details of place.querySelectorAll("details")) if (open.has(details.id)) details.open = true;
  if (index >= 0) place.querySelectorAll(selector)[index]?.focus({ preventScroll: true });
}

async function fetchJson(path) {
  const answer = await fetch(path);
  if (answer.status === 401) {
    location.replace("/login");
    throw new Error("logged out");
  }
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.json();
}

async function choose(names) {
  state.chosen = names;
  for (const name of names) if (!state.compared[name]) state.compared[name] = await fetchJson(`/api/runs/${encodeURIComponent(name)}`);
  redraw();
}

function setLink(text, kind) {
  const pill = document.getElementById("link");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${kind}`;
}

function showLink(connected) {
  if (!connected) setLink("dashboard not reachable", "bad");
  else if (!state.gateway) setLink("connecting", "");
  else setLink(state.gateway.running ? "gateway running" : "gateway not running", state.gateway.running ? "good" : "off");
}

function follow() {
  const events = new EventSource("/api/events");
  for (const name of ["gateway", "run", "live", "nodes", "rounds", "privacy", "boards", "runs", "activity", "problem"]) {
    events.addEventListener(name, (event) => {
      state[name] = JSON.parse(event.data);
      heard.add(name);
      showLink(true);
      redraw();
    });
  }
  events.addEventListener("session", () => location.replace("/login"));
  events.onopen = () => showLink(true);
  events.onerror = async () => {
    showLink(false);
    if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    try {
      await fetchJson("/api/session").then((s) => s.logged_in || location.replace("/login"));
    } catch {
      // not reachable: the next try will tell
    }
    setTimeout(follow, 3000);
  };
}

function tick() {
  for (const time of document.querySelectorAll("time[data-at]")) time.textContent = agoText(Number(time.dataset.at));
  for (const bar of document.querySelectorAll("[data-deadline]")) {
    const left = Math.max(0, Number(bar.dataset.deadline) - Date.now() / 1000);
    bar.querySelector(".fill").style.width = `${Math.min(100, (100 * left) / Number(bar.dataset.seconds))}%`;
    bar.querySelector(".left").textContent = left > 0 ? `${left < 10 ? left.toFixed(1) : Math.round(left)} s left` : "due now";
  }
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("edgeward-theme", root.dataset.theme);
});
document.getElementById("logout").addEventListener("click", async () => {
  await fetch("/api/logout", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
  location.replace("/login");
});
window.addEventListener("hashchange", () => {
  draw();
  window.scrollTo(0, 0); // the browser went to the view's element, which is below the header
});
fetchJson("/api/session").then((session) => {
  document.getElementById("logout").hidden = !session.login_needed;
});
document.getElementById("overview").replaceChildren(el("p", { class: "muted loading" }, "Waiting for the gateway’s figures …"));
draw();
follow();
setInterval(tick, 200);
