"""The files of an audit log: the one that is written to, and earlier ones beside it, each named after its last entry.

A file of FILE_BYTES is put aside, and of those put aside the newest EARLIER are kept, so a log takes no more than 272 MiB.
Where the log begins then is in the store (`audit_begin`): a file that goes is noted there first.
"""

import os
import re
import sqlite3
from pathlib import Path
from typing import Iterator, List, Tuple

from orchestrator.database import has_table
from orchestrator.files import sync_path

FILE_BYTES = 16 << 20
EARLIER = 15
FIRST = "0" * 64
"""What the first entry names as the hash before it."""

BEGIN_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS audit_begin (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER, hash TEXT)"
)


def earlier_files(path: Path) -> List[Path]:
    """The files put aside, the oldest first."""
    pattern = re.compile(re.escape(path.stem) + r"-\d{12}" + re.escape(path.suffix))
    return sorted(file for file in path.parent.glob(f"{path.stem}-*{path.suffix}") if pattern.fullmatch(file.name))


def last_entry_of(file: Path) -> int:
    """The number of the last entry of a file that was put aside."""
    return int(file.stem.rpartition("-")[2])


def put_aside(path: Path, count: int) -> None:
    """Gives the file that was written to the name of an earlier one; its last entry is the `count`-th."""
    os.replace(path, path.with_name(f"{path.stem}-{count:012d}{path.suffix}"))
    sync_path(path.parent)


def stored_begin(database: sqlite3.Connection) -> Tuple[int, str]:
    """(entries that went with their files, hash of the last of them)."""
    known = has_table(database, "audit_begin")  # or nothing ever went
    row = database.execute("SELECT count, hash FROM audit_begin").fetchone() if known else None
    return (int(row[0]), str(row[1])) if row else (0, FIRST)


def put_begin(database: sqlite3.Connection, count: int, last: str) -> None:
    database.execute(BEGIN_SCHEMA)
    database.execute("INSERT OR REPLACE INTO audit_begin VALUES (1, ?, ?)", (count, last))


def remaining(path: Path, database: sqlite3.Connection) -> List[Path]:
    """The files the log is in, the oldest first, without those that are noted as gone."""
    gone, _ = stored_begin(database)
    return [*(file for file in earlier_files(path) if last_entry_of(file) > gone), *([path] if path.is_file() else [])]


def remove_gone(path: Path, database: sqlite3.Connection) -> None:
    """Removes files that are noted as gone."""
    kept = remaining(path, database)
    for file in earlier_files(path):
        if file not in kept:
            file.unlink()


def lines_of(files: List[Path]) -> Iterator[Tuple[Path, int, bytes]]:
    """(file, number in it, line with its end) of all entries, one at a time."""
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield path, number, line


def tail(path: Path, window: int = 1 << 16) -> bytes:
    """The last line of the newest file that has one, with its end; nothing where there is none. Does not read a long file."""
    for file in (path, *reversed(earlier_files(path)[-1:])):
        last = _last_line(file, window)
        if last:
            return last
    return b""


def drop_torn_line(path: Path) -> None:
    """A line without its end was never recorded in the store: the disk was full, or the power went. It is cut off.

    Someone who cuts a recorded line in two gains nothing: the one before it is then not the last that was recorded.
    """
    last = _last_line(path, 1 << 16)
    if last and not last.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - len(last))
            os.fsync(file.fileno())


def _last_line(path: Path, window: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            while True:
                file.seek(max(0, size - window))
                data = file.read()
                cut = data.rfind(b"\n", 0, -1)
                if cut >= 0 or window >= size:
                    return data[cut + 1 :]
                window *= 4
    except FileNotFoundError:
        return b""
