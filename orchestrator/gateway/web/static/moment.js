// A time that stays right on paper: with its year, and the zone it is of.

import { odd } from "./dom.js";

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const WRITTEN = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "longOffset" });

// "27 November 2026 at 08:15:02 GMT+01:00 (Europe/Berlin)" of Unix seconds; a dash for null.
export function moment(unix) {
  const date = new Date(unix === null ? NaN : unix * 1000);
  return Number.isNaN(date.getTime()) ? odd(unix) ?? "–" : `${WRITTEN.format(date)} (${ZONE})`; // one beyond all calendars is no time
}
