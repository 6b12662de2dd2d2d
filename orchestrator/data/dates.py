"""Days and moments as cells have them, ISO 8601: 2026-11-27, 2026-11-27T10:30, 2026-11-27 10:30:00.5+01:00.

By a pattern of its own, since what Python's fromisoformat reads differs between versions, and nodes have several.
"""

import datetime
import re
from typing import Tuple

from orchestrator.data.cells import shown

_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-][01]\d(?::?[0-5]\d)?)?)?", re.ASCII
)
_BEGINNING = datetime.datetime(1970, 1, 1)


def day(cell: str) -> datetime.date:
    """The day, as its place has it: a time of day and an offset from UTC change nothing. ValueError for other texts."""
    return _read(cell)[0].date()


def moment(cell: str) -> int:
    """Microseconds since 1970, in UTC where an offset is named. A day without a time is its first moment. ValueError likewise."""
    at, ahead_min = _read(cell)
    return (at - _BEGINNING) // datetime.timedelta(microseconds=1) - ahead_min * 60_000_000


def _read(cell: str) -> Tuple[datetime.datetime, int]:
    """(the moment as it is written, by how many minutes that is ahead of UTC)."""
    found = _MOMENT.fullmatch(cell)
    if found is None:
        raise ValueError(f"{shown(cell)} is not a date as 2026-11-27")
    year, month, of_month, hour, minute, second, fraction, zone = (part or "" for part in found.groups())
    try:
        at = datetime.datetime(int(year), int(month), int(of_month), int(hour or 0), int(minute or 0), int(second or 0))
    except ValueError as error:
        raise ValueError(f"{shown(cell)} is not a date as 2026-11-27: {error}") from error
    at = at.replace(microsecond=int(fraction.ljust(6, "0")[:6]))
    if zone in ("", "Z"):
        return at, 0
    return at, (int(zone[1:3]) * 60 + int(zone[3:].strip(":") or 0)) * (-1 if zone[0] == "-" else 1)
