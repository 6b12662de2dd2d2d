"""OUT/audit.jsonl a page at a time, however long it is: what is shown, and of how many entries."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

_EVERY = 256
"""Of so many lines the place of one is remembered."""
_MOST_BYTES = 256 << 10
"""Of one page: where entries are long it has fewer than were asked for."""


class AuditPages:
    """Counts the lines as the file grows, each once. A file that was put in its place, or got shorter, is counted again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget((0, 0))

    def _forget(self, identity: Tuple[int, int]) -> None:
        self._identity = identity
        self._places: List[int] = [0]  # where lines 0, _EVERY, 2 * _EVERY ... begin
        self._whole = 0  # lines that have their end
        self._read_to = 0

    def page(self, limit: int, before: Optional[int] = None) -> Dict[str, Any]:
        """Up to `limit` entries, newest first: the last ones, or those with numbers below `before`. Entries count from 1.

        {present, total, first, last, entries}: the lowest and highest number among `entries`, 0 without any.
        """
        try:
            with self._path.open("rb") as file:
                total = self._count(file)
                last = total if before is None else max(0, min(total, before - 1))
                entries = self._entries(file, max(0, last - limit), last)
        except FileNotFoundError:
            return {"present": False, "total": 0, "first": 0, "last": 0, "entries": []}
        first = last - len(entries) + 1 if entries else 0
        return {"present": True, "total": total, "first": first, "last": last if entries else 0, "entries": entries}

    def _count(self, file: BinaryIO) -> int:
        found = os.fstat(file.fileno())
        if (found.st_dev, found.st_ino) != self._identity or found.st_size < self._read_to:
            self._forget((found.st_dev, found.st_ino))
        file.seek(self._read_to)
        for line in file:
            if not line.endswith(b"\n"):
                return self._whole + 1  # still being written, or torn
            self._whole, self._read_to = self._whole + 1, self._read_to + len(line)
            if self._whole % _EVERY == 0:
                self._places.append(self._read_to)
        return self._whole

    def _entries(self, file: BinaryIO, after: int, last: int) -> List[Dict[str, Any]]:
        """Entries `after` + 1 to `last`, newest first, as far as a page holds them: always one."""
        file.seek(self._places[after // _EVERY])
        for _ in range(after % _EVERY):
            file.readline()
        found: List[Dict[str, Any]] = []
        held = 0
        for line in reversed([file.readline() for _ in range(last - after)]):
            held += len(line)
            if found and held > _MOST_BYTES:
                break
            found.append(_entry(line))
        return found


def _entry(line: bytes) -> Dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": line.decode("utf-8", "replace").strip()[:200]}
