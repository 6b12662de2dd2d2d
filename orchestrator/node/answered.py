"""What a node's answers without noise were of: which records, cut into which cells, for which tasks. For node/guard.py.

Records are known by their line, whatever a schema reads of it.
"""

import hashlib
import sqlite3
import zlib
from typing import Iterator, List, NamedTuple, Tuple

import numpy as np

from orchestrator.database import Rows

SCHEMA = """
CREATE TABLE IF NOT EXISTS answered_sets (name TEXT PRIMARY KEY, lines BLOB NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS answered_tasks (name TEXT NOT NULL, task TEXT NOT NULL, digest BLOB, PRIMARY KEY (name, task));
CREATE TABLE IF NOT EXISTS answered_cells (subject TEXT NOT NULL, name TEXT NOT NULL, cells BLOB NOT NULL, digest BLOB,
    PRIMARY KEY (subject, name)
);
"""
COLUMNS = {
    "answered_sets": ("name", "lines"),
    "answered_tasks": ("name", "task"),
    "answered_cells": ("subject", "name", "cells"),
}

MOST_BYTES = 256 << 20
"""Of all that is noted, compressed."""


class Cells(NamedTuple):
    """How an answer divided records. subject: by which column, among whom. of_line: int32 (lines,), the number of the cell a
    record of that line is in, -1 where it is in none.
    """

    subject: str
    of_line: np.ndarray


class Answered:
    """Of one store. `note` is to be called inside a transaction."""

    def __init__(self, database: sqlite3.Connection, rows: Rows) -> None:
        self._db, self._rows = database, rows

    def sets(self) -> Iterator[Tuple[str, np.ndarray]]:
        """(name, bool (lines,)) of every set of records that an answer was of."""
        for name, packed in self._rows.get("answered_sets"):
            yield str(name), np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8)).astype(bool)

    def tasks(self, name: str) -> List[str]:
        """Digests of the tasks that were answered of this set."""
        return [str(task) for _, task in self._rows.get("answered_tasks", "name = ?", name)]

    def cells(self, subject: str) -> Iterator[np.ndarray]:
        """`Cells.of_line` of every answer with cells of this subject."""
        for _, _, packed in self._rows.get("answered_cells", "subject = ?", subject):
            yield np.frombuffer(zlib.decompress(packed), "<i4")

    def bytes(self) -> int:
        """What is noted, in bytes."""
        found = (
            self._db.execute(f"SELECT COALESCE(SUM(LENGTH({column})), 0) FROM {table}").fetchone()[0]
            for table, column in (("answered_sets", "lines"), ("answered_cells", "cells"))
        )
        return int(sum(found))

    def note(self, task: str, used: np.ndarray, cells: List[Cells]) -> None:
        """Notes an answer to a task, of the records of the lines `used` (bool (lines,))."""
        name = name_of(used)
        self._rows.put("answered_sets", name, zlib.compress(np.packbits(used).tobytes()), otherwise="IGNORE")
        self._rows.put("answered_tasks", name, task, otherwise="IGNORE")
        for each in cells:
            values = each.of_line.astype("<i4")
            self._rows.put(
                "answered_cells", each.subject, name_of(values), zlib.compress(values.tobytes()), otherwise="IGNORE"
            )

    def forget(self) -> int:
        """Forgets all of it; returns how many sets of records there were."""
        gone = int(self._db.execute("SELECT COUNT(*) FROM answered_sets").fetchone()[0])
        for table in COLUMNS:
            self._db.execute(f"DELETE FROM {table}")
        return gone


def name_of(values: np.ndarray) -> str:
    """A digest, whatever follows the last value that says something."""
    last = np.flatnonzero(values > 0 if values.dtype == bool else values >= 0)
    return hashlib.sha256(values[: 1 + int(last[-1]) if last.size else 0].tobytes()).hexdigest()
