// The page: follows /api/events, keeps what it heard, draws the view that is open.

import { fetchJson, logIn, postJson } from "./ask.js";
import { silent } from "./boards.js";
import { el } from "./dom.js";
import { follow, valuesOf } from "./feed.js";
import { forgetDrafts, keepTheme } from "./kept.js";
import { fill } from "./morph.js";
import { drawOverview } from "./overview.js";
import { drawRuns } from "./runs.js";
import { drawLog } from "./log.js";
import { path } from "./place.js";
import { announcement, gatewayPill, title } from "./standing.js";
import { tick } from "./tick.js";

const NOTHING = { gateway: null, run: null, live: null, nodes: [], known: null, rounds: [], curve: [], epsilon: [], privacy: null, scores: null, boards: [], history: new Map(), listening: null, runs: [], all_runs: null, activity: [], problem: null };
const state = { ...NOTHING, ready: false, lost: false, ended: null };
const views = { overview: drawOverview, runs: drawRuns, log: drawLog };
const pages = new Map(); // of runs that were opened or compared, by name
let drawing = false;
let said = "";

// The run of an address such as #run/NAME; null for any other.
function opened() {
  const [name, run] = path();
  return name === "run" && run ? run : null;
}

// What the first view draws: the newest run as it goes on, or the opened one as it was when it was asked for. A copy, as its parts
// are drawn one after the other while the next values come.
function shown() {
  const name = opened();
  if (name === null || name === state.run?.run) return { ...state };
  const page = pageOf(name);
  if (!page.data) return { opening: name, error: page.error };
  return { ...state, ...NOTHING, ...page.data, gateway: { ...state.gateway, state: "idle" }, boards: state.boards, history: state.history, listening: state.listening, runs: state.runs, all_runs: state.all_runs, other: true };
}

// A run's values, asked for again while its epsilon is computed, and when it went on.
function pageOf(name) {
  if (!pages.has(name)) pages.set(name, { at: -Infinity, data: null, error: null, as: null, waits: null });
  const page = pages.get(name);
  const as = state.runs.find((r) => r.run === name)?.last_event_at;
  const settled = !page.error && page.data && page.data.privacy.state !== "computing" && page.data.privacy.exact !== false && page.as === as;
  const again = page.error ? 5000 : 2000;
  if (!settled && performance.now() - page.at > again) {
    page.at = performance.now();
    fetchJson(`/api/page/${encodeURIComponent(name)}`)
      .then((found) => Object.assign(page, { data: valuesOf(found.set), as, error: null }), (error) => { page.error = error.message; })
      .then(redraw);
  } else if (!settled) {
    page.waits ??= setTimeout(() => { // a page that asked too early asks again, however often it is drawn meanwhile
      page.waits = null;
      redraw();
    }, again + 100);
  }
  return page;
}

function view() {
  if (opened() !== null) return "overview";
  const [wanted] = path();
  return Object.hasOwn(views, wanted) ? wanted : "overview";
}

// Draws once a frame at most, however many events came. A tab in the background has no frames, but its title is read.
function redraw() {
  if (document.hidden) drawFrame(view());
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
  drawFrame(open);
  if (!state.ready || !state.gateway) return;
  fill(document.getElementById(open), views[open](open === "overview" ? shown() : { ...state }, { redraw, fetchJson, pageOf }).filter(Boolean));
  tick();
}

// What is round every view: name, link, title, what went wrong.
function drawFrame(open) {
  const problem = document.getElementById("problem");
  problem.hidden = !state.problem;
  setText(problem, state.problem ? `The gateway's store could not be read: ${state.problem}` : "");
  setText(document.getElementById("federation"), state.gateway?.federation ?? "");
  const [text, kind] = gatewayPill(state);
  const pill = document.getElementById("link");
  setText(pill, text);
  pill.className = `pill ${kind}`;
  document.title = title(state, open, opened());
  announce();
}

function announce() {
  const [text, bad] = announcement(state) ?? ["", false];
  if (text === said) return;
  said = text;
  setText(document.getElementById("alarm"), bad ? text : "");
  setText(document.getElementById("news"), bad ? "" : text);
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function begin() {
  follow({
    values(news, whole) {
      Object.assign(state, whole ? NOTHING : {}, news, { ready: true, lost: false, ended: null });
      redraw();
    },
    beat() {
      state.lost = false;
      redrawIfOtherwise();
    },
    lost() {
      state.lost = true;
      redraw();
    },
    bye(times) {
      state.ended = times.now;
      redraw();
    },
    loggedOut: logIn,
    async again() {
      try {
        const session = await fetchJson("/api/session");
        if (!session.logged_in) return logIn();
      } catch {
        // not reachable: the next try will tell
      }
      begin();
    },
  });
}

// With time alone, what is said may have to change.
let stood = "";
function redrawIfOtherwise() {
  const stands = JSON.stringify([gatewayPill(state), title(state, view(), opened()), state.boards.filter(silent).map((b) => b.board)]);
  if (stands !== stood) redraw();
  stood = stands;
  tick();
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  keepTheme(root.dataset.theme);
});
document.getElementById("logout").addEventListener("click", async () => {
  await postJson("/api/logout", {});
  forgetDrafts();
  logIn();
});
window.addEventListener("hashchange", () => {
  draw();
  goToHeading();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // its address would be that of another view
  goToHeading();
});

// After a change of view the keyboard, and who listens, is at its beginning and not at the top of the page.
function goToHeading() {
  window.scrollTo(0, 0); // the browser went to the view's element, which is below the header
  const heading = document.querySelector(`#${view()} h1`) ?? document.getElementById("main");
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

fetchJson("/api/session").then((session) => {
  document.getElementById("logout").hidden = !session.login_needed;
}, () => {}); // not reachable: the stream says so
document.getElementById("overview").replaceChildren(el("p", { class: "muted loading" }, "Waiting for the gateway’s figures …"));
draw();
begin();
setInterval(redrawIfOtherwise, 200);
