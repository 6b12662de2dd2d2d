"""Days and moments as cells and descriptions have them, ISO 8601: 2026-11-27, 2026-11-27T10:30, 2026-11-27 10:30:00.5+01:00.

By a pattern of its own, since what Python's fromisoformat reads differs between versions, and nodes have several.
"""

import calendar
import datetime
import re
from typing import NamedTuple, Tuple

from orchestrator.data.cells import shown

_MOMENT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-][01]\d(?::?[0-5]\d)?)?)?)?)?",
    re.ASCII,
)
_BEGINNING = datetime.datetime(1970, 1, 1)
_LEAP_SECOND = 60


class _Read(NamedTuple):
    """minute: as written. micros: since then. ahead_min: of UTC. parts: how many of year, month, day and time there are."""

    minute: datetime.datetime
    micros: int
    ahead_min: int
    parts: int


def day(cell: str) -> datetime.date:
    """The day, as its place has it: a time of day and an offset from UTC change nothing. ValueError for other texts."""
    return _read(cell, 3, 4).minute.date()


def day_alone(cell: str) -> datetime.date:
    """The day of a text without a time. ValueError for other texts."""
    return _read(cell, 3, 3).minute.date()


def days_between(cell: str) -> Tuple[datetime.date, datetime.date]:
    """The first and the last day that a year, a month or a day alone may mean. ValueError for other texts."""
    read = _read(cell, 1, 3)
    first = read.minute.date()
    if read.parts == 3:
        return first, first
    month = 12 if read.parts == 1 else first.month
    return first, datetime.date(first.year, month, calendar.monthrange(first.year, month)[1])


def moment(cell: str) -> int:
    """Microseconds since 1970, in UTC where an offset is named. A day without a time is its first moment. ValueError likewise."""
    return _micros(_read(cell, 3, 4))


def first_moment(cell: str) -> int:
    """The same, also of a year or a month alone."""
    return _micros(_read(cell, 1, 4))


def iso_of(cell: str, form: str) -> str:
    """A text that is written as `form` says, see Python's strptime, as ISO 8601 has it. ValueError for other texts."""
    try:
        return datetime.datetime.strptime(cell, form).isoformat()
    except ValueError as error:
        raise ValueError(
            f"{shown(cell)} is not a date as {form}: correct it, or say with `date` how all of them are written"
        ) from error


def _micros(read: _Read) -> int:
    return (read.minute - _BEGINNING) // datetime.timedelta(microseconds=1) + read.micros - read.ahead_min * 60_000_000


def _read(cell: str, fewest: int, most: int) -> _Read:
    """Of a text of so many parts."""
    found = _MOMENT.fullmatch(cell)
    if found is None:
        raise ValueError(f"{shown(cell)} is not a date as 2026-11-27")
    year, month, of_month, hour, minute, second, fraction, zone = (part or "" for part in found.groups())
    parts = sum(map(bool, (year, month, of_month, hour)))
    if not fewest <= parts <= most:
        what = "has a time" if parts == 4 else "names no whole day"
        raise ValueError(f"{shown(cell)} is not a date as 2026-11-27: it {what}")
    try:
        if int(second or 0) > _LEAP_SECOND:
            raise ValueError("second must be in 0..60")
        at = datetime.datetime(int(year), int(month or 1), int(of_month or 1), int(hour or 0), int(minute or 0))
    except ValueError as error:
        raise ValueError(f"{shown(cell)} is not a date as 2026-11-27: {error}") from error
    micros = int(second or 0) * 1_000_000 + int(fraction.ljust(6, "0")[:6])
    if zone in ("", "Z"):
        return _Read(at, micros, 0, parts)
    ahead_min = (int(zone[1:3]) * 60 + int(zone[3:].strip(":") or 0)) * (-1 if zone[0] == "-" else 1)
    return _Read(at, micros, ahead_min, parts)
