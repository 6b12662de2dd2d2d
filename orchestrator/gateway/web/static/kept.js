// What the browser keeps for its reader: a choice of theme for good, a note that is being written for as long as its tab is there.
// A browser that lets pages keep nothing forgets it when the page is left.

const here = new Map();
const DRAFT = "edgeward-note ";
const LOGOUTS = "edgeward-logouts"; // how many there were in this browser: every tab has drafts of its own, and all end with a logout
const logouts = kept("localStorage", LOGOUTS);

// A text kept under a name, in "localStorage" or "sessionStorage"; null takes it out.
function keep(where, name, text) {
  here.set(name, text);
  try {
    if (text === null) window[where].removeItem(name);
    else window[where].setItem(name, text);
  } catch {
    // storage is blocked or full: `here` has it
  }
}

function kept(where, name) {
  if (here.has(name)) return here.get(name);
  try {
    return window[where].getItem(name);
  } catch {
    return null;
  }
}

export function keepTheme(name) {
  keep("localStorage", "edgeward-theme", name);
}

// What was written on a run since the last logout, and not saved: {note, tags}, both texts; null for nothing.
export function draftOf(run) {
  const draft = JSON.parse(kept("sessionStorage", DRAFT + run) ?? "null");
  if (draft === null || draft.logouts === logouts) return draft;
  keepDraft(run, null);
  return null;
}

export function keepDraft(run, draft) {
  keep("sessionStorage", DRAFT + run, draft && JSON.stringify({ ...draft, logouts }));
}

// Who logs out leaves nothing unsaved to the next at this screen, in no tab.
export function forgetDrafts() {
  here.clear();
  keep("localStorage", LOGOUTS, String(Number(kept("localStorage", LOGOUTS)) + 1));
  try {
    window.sessionStorage.clear();
  } catch {
    // nothing was kept there
  }
}
