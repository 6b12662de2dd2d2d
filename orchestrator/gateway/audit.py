"""The audit log: who took part in what. Append-only JSON lines, each with the SHA-256 of the line before it (audit_files.py).

The number of lines and the hash of the last one are also kept in SQLite, so that a cut tail shows. Someone who can rewrite
both the file and the database can forge the whole log: keep a copy of the head (`gateway audit --verify` prints it) elsewhere.
`edgeward gateway scrub` rewrites both, and leaves an entry that says so, with the head before it.
"""

import hashlib
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

from orchestrator.database import has_table
from orchestrator.errors import EdgewardError, GivenError, advised
from orchestrator.gateway import audit_files
from orchestrator.gateway.audit_files import (
    EARLIER,
    FIRST,
    drop_torn_line,
    earlier_files,
    last_entry_of,
    lines_of,
    put_aside,
    put_begin,
    remaining,
    remove_gone,
    stored_begin,
    tail,
)
from orchestrator.gateway.progress import Progress
from orchestrator.wire.json_text import from_json
from orchestrator.wire.plain import plain_fields

AUDIT_FILE = "audit.jsonl"
SCHEMA = "CREATE TABLE IF NOT EXISTS audit_head (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER, hash TEXT);"


RECORDED: Dict[str, Tuple[str, ...]] = {
    "open": ("broker", "phase", "round"),
    "continued": (),
    "planned": ("noise_multiplier", "epsilon"),
    "joined": ("node", "records"),
    "left": ("node",),
    "declined": ("node", "code", "reason"),
    "refused": ("node", "reason"),
    "node_refused": ("node", "reason"),
    "name_in_use": ("node",),
    "passed_over": ("node",),
    "shortened": ("round", "nodes"),
    "round": ("round", "nodes"),
    "update": ("node", "round", "bytes", "digest"),
    "aggregated": ("round", "nodes", "updates"),
    "stopped_early": ("round",),
    "broker_restarted": ("count",),
    "trying_again": ("since",),
    "finished": ("reason",),
    "failed": ("reason",),
    "bundle": ("digest", "signed_by"),
}
"""Progress events of a gateway that are recorded, and their fields."""

UNRECORDED = "unrecorded"
"""Field of an entry: the number of the one before it, where only the file had that. A process was killed after it wrote the line,
or somebody added it: the two look alike, and this says that it was one of them."""

REFUSALS_AN_HOUR = 100
MAX_REFUSALS = 1000
"""Refusals recorded by one process; a flood of them must not fill the disk. The line after them says so."""


class AuditLog:
    """Appends durable lines. One writer of a folder at a time is assured by SQLite's lock on `database`."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path, self.database = path, database
        self.database.execute(SCHEMA)
        self._refusals = 0

    def append(self, event: str, **fields: Any) -> None:
        """Raises EdgewardError when the line cannot be made durable, or the file is not the one last written."""
        outside = not self.database.in_transaction
        try:
            if outside:
                self.database.execute("BEGIN IMMEDIATE")
            self._append(event, fields)
            if outside:
                self.database.execute("COMMIT")
        except (OSError, sqlite3.Error, EdgewardError) as error:
            if outside and self.database.in_transaction:
                self.database.execute("ROLLBACK")
            if isinstance(error, EdgewardError):  # a StoreError is both, and names its file
                raise
            reason = advised(error) if isinstance(error, OSError) else str(error)
            raise EdgewardError(
                f"{self.path}: the audit log cannot be written, so nothing goes on: {reason}"
            ) from error

    def note_refusal(self, event: str, **fields: Any) -> None:
        """Records what a stranger asked for, at most REFUSALS_AN_HOUR however many processes and threads refuse.

        Beyond that nothing is written, neither here nor to the store: a flood costs no disk.
        """
        hour = int(time.time() // 3600)
        self.database.execute("CREATE TABLE IF NOT EXISTS audit_refusals (hour INTEGER PRIMARY KEY, count INTEGER)")
        row = self.database.execute("SELECT count FROM audit_refusals WHERE hour = ?", (hour,)).fetchone()
        count = row[0] if row else 0
        if count > REFUSALS_AN_HOUR:
            return
        self.database.execute("DELETE FROM audit_refusals WHERE hour != ?", (hour,))
        self.database.execute("INSERT OR REPLACE INTO audit_refusals VALUES (?, ?)", (hour, count + 1))
        if count == REFUSALS_AN_HOUR:
            self.append("refusals_no_longer_recorded", after=REFUSALS_AN_HOUR)
        else:
            self.append(event, **fields)

    def _append(self, event: str, fields: Dict[str, Any]) -> None:
        drop_torn_line(self.path)
        count, before, known = self._head()
        fields = {**fields, **({} if known else {UNRECORDED: count}), **self._rotate(count)}
        data = _line({"n": count + 1, "at": round(time.time(), 3), "event": event, **fields, "before": before})
        handle = os.open(str(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            left = memoryview(data)
            while left:  # of a disk that becomes full the second try says so
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        self.database.execute("INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?)", (count + 1, hash_of(data)))

    def _rotate(self, count: int) -> Dict[str, Any]:
        """Begins another file where it is time, and notes of the oldest that it goes; what the next entry says of that."""
        here = self.path.is_file()
        if here and self.path.stat().st_size < audit_files.FILE_BYTES:
            return {}
        remove_gone(self.path, self.database)
        if here:
            put_aside(self.path, count)
        going = earlier_files(self.path)[:-EARLIER]
        if not going:
            return {}
        gone, last = last_entry_of(going[-1]), hash_of(tail(going[-1]))
        put_begin(self.database, gone, last)
        return {"oldest_removed": {"entries": gone, "head": last}}

    def _head(self) -> Tuple[int, str, bool]:
        """(lines, hash of the last) as the file has them, and whether the store knows of it; a process killed between file and
        database is caught up with.
        """
        count, before = stored_head(self.database)
        last = tail(self.path)
        if _hash_or_first(last) == before:
            return count, before, True
        try:
            newest = from_json(last)
        except ValueError:
            newest = {}
        # Killed after the line was written and before its head was committed: the line is the head's only successor.
        if isinstance(newest, dict) and newest.get("before") == before and newest.get("n") == count + 1:
            return count + 1, hash_of(last), False
        raise EdgewardError(
            f"{self.path}: its lines do not end where the store says they do ({count} lines): changed or truncated? "
            "Look with `edgeward gateway audit --verify`"
        )

    def progress(self, passed_on: Progress) -> Progress:
        """A progress function that records what RECORDED names, then passes everything on."""

        def record(event: Dict[str, Any]) -> None:
            kind = event["event"]
            if kind in RECORDED and self._room(kind):
                known = {k: plain_fields(event[k]) for k in ("run", *RECORDED[kind]) if k in event}
                self.append(kind, **known)
            passed_on(event)

        return record

    def _room(self, kind: str) -> bool:
        if kind not in ("refused", "node_refused"):
            return True
        self._refusals += 1
        if self._refusals == MAX_REFUSALS + 1:
            self.append("refusals_no_longer_recorded", after=MAX_REFUSALS)
        return self._refusals <= MAX_REFUSALS


def stored_head(database: sqlite3.Connection) -> Tuple[int, str]:
    known = has_table(database, "audit_head")  # or the store never had an audit log
    row = database.execute("SELECT count, hash FROM audit_head").fetchone() if known else None
    return (int(row[0]), str(row[1])) if row else (0, FIRST)


def read_log(path: Path) -> List[Dict[str, Any]]:
    """The entries that are left, unverified. Raises EdgewardError naming the first line that is no entry."""
    files = [*earlier_files(path), *([path] if path.is_file() else [])]
    if not files:
        raise GivenError(f"{path}: no audit log there")
    entries = []
    for file, number, line in lines_of(files):
        try:
            entry = from_json(line)
        except ValueError as error:
            raise GivenError(f"{file}:{number}: not JSON: {error}") from error
        if not isinstance(entry, dict):
            raise GivenError(f"{file}:{number}: not an entry")
        entries.append(entry)
    return entries


def verify(path: Path, database: sqlite3.Connection) -> Tuple[int, str]:
    """(entries, hash of the last). Raises EdgewardError at the first changed, removed or reordered line, or a cut tail.

    Entries that went with the oldest files are counted; the store knows where what is left begins.
    """
    count, before = stored_begin(database)
    expected, head = stored_head(database)
    for file, number, line in lines_of(remaining(path, database)):
        try:
            entry = from_json(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or not line.endswith(b"\n"):
            raise EdgewardError(f"{file}:{number}: not a whole entry: changed or truncated")
        if entry.get("n") != count + 1 or entry.get("before") != before:
            raise EdgewardError(
                f"{file}:{number}: does not follow the line before it: one of the two was changed, removed or moved"
            )
        before, count = hash_of(line), count + 1
        if count == expected and before != head:
            raise EdgewardError(f"{file}:{number}: is not the line the store recorded last: it was changed")
    if count < expected:
        raise EdgewardError(f"{path}: {count} entries, the store recorded {expected}: the end was cut off")
    if count > expected + 1:
        raise EdgewardError(f"{path}: {count} entries, the store recorded {expected}: lines were added")
    return count, before


def chained(entries: Iterable[Dict[str, Any]]) -> bytes:
    """A whole log of these entries, numbered and chained again."""
    lines, before = [], FIRST
    for number, entry in enumerate(entries, 1):
        rest = {key: value for key, value in entry.items() if key not in ("n", "before")}
        lines.append(_line({"n": number, **rest, "before": before}))
        before = hash_of(lines[-1])
    return b"".join(lines)


def _line(entry: Dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def hash_of(line: bytes) -> str:
    """Of a line with its end: what the next one, and the store, say of it."""
    return hashlib.sha256(line).hexdigest()


def _hash_or_first(last: bytes) -> str:
    return hash_of(last) if last else FIRST
