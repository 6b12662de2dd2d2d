"""JSON lines: an object a line, whose first has the names of the columns."""

import json
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List

from orchestrator.data.sources.base import Row, RowError, Source, cells
from orchestrator.wire.json_text import TwiceError, each_once

_MOST_LINE = 1 << 24


def _recognizes(head: bytes) -> bool:
    """Whether a file begins with a whole JSON object in one line."""
    line = head.lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n")[0].strip()
    if not (line.startswith(b"{") and line.endswith(b"}")):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _rows(path: Path, part: str) -> Iterator[Row]:
    names: List[str] = []
    known: FrozenSet[str] = frozenset()
    with path.open("rb") as file:
        number = 0
        while True:
            line = file.readline(_MOST_LINE)
            number += 1
            if not line:
                return
            if not line.strip():
                continue
            found = _object(number, line)
            if not names:
                names, known = list(found), frozenset(found)
                yield number, names
            more = [name for name in found if name not in known]
            if more:
                why = "which the first line does not have: put it there too, with null if need be, or take it out"
                raise RowError(number, f"has column {more[0][:40]!r}, {why}")
            yield number, cells(number, names, [found.get(name) for name in names])


def _object(number: int, line: bytes) -> Dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8-sig"), object_pairs_hook=each_once)
    except TwiceError as error:
        raise RowError(number, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise RowError(number, f"is no JSON: {str(error)[:80]}; an object a line is read: is it cut off?") from error
    if not isinstance(found, dict):
        raise RowError(number, "is no JSON object: write an object a line, with a value for each column")
    return found


JSON_LINES = Source(_recognizes, _rows)
