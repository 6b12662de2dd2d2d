"""OUT/audit.jsonl, with its earlier files, a page at a time, however long it is: what is shown, and of how many entries."""

import os
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

from orchestrator.gateway.audit_files import earlier_files, last_entry_of
from orchestrator.wire.json_text import from_json

_EVERY = 256
"""Of so many lines the place of one is remembered."""
_MOST_BYTES = 256 << 10
"""Of one page: where entries are long it has fewer than were asked for."""


class AuditPages:
    """Entries are numbered through all files; where the oldest are gone, from the first that is left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: Dict[Path, _Lines] = {}

    def page(self, limit: int, before: Optional[int] = None) -> Dict[str, Any]:
        """Up to `limit` entries, newest first: the last ones, or those with numbers below `before`. Entries count from 1.

        {present, total, first, last, entries}: the lowest and highest number among `entries`, 0 without any.
        """
        earlier = earlier_files(self._path)
        if not earlier and not self._path.exists():
            return {"present": False, "total": 0, "first": 0, "last": 0, "entries": []}
        begins = [_first_of(earlier[0]) - 1 if earlier else 0, *map(last_entry_of, earlier)]  # entries before each file
        files = {path: self._files.get(path) or _Lines(path) for path in (*earlier, self._path)}
        self._files = files
        total = begins[-1] + files[self._path].count()
        last = total if before is None else max(0, min(total, before - 1))
        lines: List[bytes] = []
        for begin, file in reversed(list(zip(begins, files.values()))):
            wanted, held = limit - len(lines), sum(map(len, lines))
            end = last - len(lines) - begin  # of this file, the lines up to here
            if wanted <= 0 or held > _MOST_BYTES or end <= 0:
                continue
            lines += _fitting(file.lines(max(0, end - wanted), end), held)
        first = last - len(lines) + 1 if lines else 0
        return {
            "present": True,
            "total": total,
            "first": first,
            "last": last if lines else 0,
            "entries": [_entry(line) for line in lines],
        }


class _Lines:
    """Counts the lines of a file as it grows, each once. A file that was put in its place, or got shorter, is counted again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget((0, 0))

    def _forget(self, identity: Tuple[int, int]) -> None:
        self._identity = identity
        self._places: List[int] = [0]  # where lines 0, _EVERY, 2 * _EVERY ... begin
        self._whole = 0  # lines that have their end
        self._read_to = 0

    def count(self) -> int:
        """0 where there is no such file (any more)."""
        try:
            with self._path.open("rb") as file:
                return self._count(file)
        except FileNotFoundError:
            return 0

    def lines(self, after: int, last: int) -> List[bytes]:
        """Lines `after` + 1 to `last`, in their order."""
        try:
            with self._path.open("rb") as file:
                last = min(last, self._count(file))
                file.seek(self._places[after // _EVERY])
                for _ in range(after % _EVERY):
                    file.readline()
                return [file.readline() for _ in range(last - after)]
        except FileNotFoundError:
            return []

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


def _first_of(path: Path) -> int:
    """The number of a file's first entry."""
    try:
        with path.open("rb") as file:
            number = _entry(file.readline()).get("n")
    except FileNotFoundError:
        number = None
    return number if isinstance(number, int) else 1


def _fitting(lines: List[bytes], held: int) -> List[bytes]:
    """Newest first, as far as a page that holds so many bytes already has room: always one in an empty page."""
    found: List[bytes] = []
    for line in reversed(lines):
        held += len(line)
        if held > _MOST_BYTES and held > len(line):
            break
        found.append(line)
    return found


def _entry(line: bytes) -> Dict[str, Any]:
    try:
        found = from_json(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": line.decode("utf-8", "replace").strip()[:200]}
