// The time by the server's clock, since that of a phone may be wrong, and since when nothing new is known.

const LAST = 8; // messages by which the time is reckoned: after so many a clock that was set is followed

let ahead = []; // of performance.now(), in seconds since 1970, as the last messages had it
let times = null; // as the server last gave them: now, read_at, heard_at
let quiet = 15;

export function beginWith({ quiet_s }) {
  quiet = quiet_s;
}

export function heardTimes(found) {
  ahead = [...ahead, found.now - performance.now() / 1000].slice(-LAST);
  times = found;
}

// Of several messages the one that took least time on its way says best what time it is.
export function now() {
  return ahead.length ? performance.now() / 1000 + Math.max(...ahead) : Date.now() / 1000;
}

// Since when: the store was last read then, or the gateway last heard, whichever is longer ago. Null before anything is known.
export function newsAt() {
  if (!times) return null;
  return Math.min(times.read_at ?? times.now, times.heard_at ?? Infinity);
}

export function isQuiet() {
  return times !== null && now() - newsAt() > quiet;
}
