"""Numbers that stand for a missing value, such as 999: pointed out where they lie apart from all others of a column."""

import itertools
import re
from typing import Sequence

MOST_CODES = 4
"""For why a value is missing (refused, unknown, not asked ...) that a column has at one end."""

_CODE = re.compile(r"-?(?:9+(?:\.9+)?|9+[678]|8{2,}|7{2,})|-[1789]")
"""Numbers that stand for a missing value: 99, 998, -99.9, 8888, -1. Only those far from all others count as such."""


def missing_codes(cells: Sequence[str], numbers: Sequence[float]) -> str:
    """A word on extreme values that are codes for a missing one rather than amounts, as 999, or 97, 98 and 99, often are."""
    distinct = sorted(set(numbers))
    for values in (distinct[::-1], distinct):
        codes = list(itertools.takewhile(lambda value: _CODE.fullmatch(f"{value:.10g}"), values[:MOST_CODES]))
        for count in range(len(codes), 0, -1):  # 89 may be an amount below the codes 98 and 99
            if _apart(values, count):
                spelled = sorted({cell for cell, number in zip(cells, numbers) if number in values[:count]})
                return _of_codes(spelled, "far from all other" if _far(values, count) else "the only negative")
    return ""


def _of_codes(spelled: Sequence[str], which: str) -> str:
    """spelled: as the file has them, for a marker is compared with the text of a cell."""
    if len(spelled) == 1:
        verb, rest = "is", "if it stands for a missing one, list it in missing_markers"
    else:
        verb, rest = "are", "if they stand for a missing one, list each in missing_markers as it is written here"
    plural = "s" if len(spelled) > 1 or which.startswith("far") else ""
    return f"{', '.join(spelled)} {verb} {which} value{plural}: {rest}"


def _apart(values: Sequence[float], count: int) -> bool:
    """Whether the first `count` of values in order are far from all others, or the only negative ones."""
    rest = values[count:]
    return len(rest) > 2 and (_far(values, count) or values[count - 1] < 0 <= min(rest))


def _far(values: Sequence[float], count: int) -> bool:
    return abs(values[count - 1] - values[count]) > abs(values[count] - values[-1])
