"""What a node's answers without noise were of: which records, cut into which cells, for which tasks. For node/guard.py.

Records are known by their line, whatever a schema reads of it.
"""

import hashlib
import json
import sqlite3
import zlib
from typing import Iterator, List, NamedTuple, Tuple

import numpy as np

from orchestrator.database import Rows
from orchestrator.wire.json_text import from_json

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


class Subject(NamedTuple):
    """What an answer divided records by. ordered: whether its cells follow each other; among: as of a block, of what records."""

    ordered: bool
    what: str
    among: Tuple[str, str]
    columns: Tuple[str, ...]

    def meets(self, other: "Subject") -> bool:
        """Whether cells of both may be nearly the same: of equal columns; of one equal column where they follow each other, since
        a score may be made of one of its columns alone.
        """
        if self[:3] != other[:3]:
            return False
        return bool(set(self.columns) & set(other.columns)) if self.ordered else self.columns == other.columns

    @property
    def text(self) -> str:
        """How it is noted."""
        return json.dumps(self)

    @staticmethod
    def of(text: str) -> "Subject":
        """The one that was noted so."""
        ordered, what, among, columns = from_json(text)
        return Subject(ordered, what, tuple(among), tuple(columns))


class Cells(NamedTuple):
    """How an answer divided records. of_line: int32 (lines,), the number of the cell a record of that line is in, -1 where it is
    in none.
    """

    subject: Subject
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

    def cells(self, subject: Subject) -> Iterator[np.ndarray]:
        """`Cells.of_line` of every answer with cells of a subject that may be nearly these."""
        noted = [text for (text,) in self._db.execute("SELECT DISTINCT subject FROM answered_cells ORDER BY subject")]
        for text in noted:
            if Subject.of(text).meets(subject):
                for _, _, packed in self._rows.get("answered_cells", "subject = ?", text):
                    yield np.frombuffer(zlib.decompress(packed), "<i4")

    def bytes(self) -> int:
        """What is noted, in bytes."""
        found = (
            self._db.execute(f"SELECT COALESCE(SUM(LENGTH({column})), 0) FROM {table}").fetchone()[0]
            for table, column in (("answered_sets", "lines"), ("answered_cells", "cells"))
        )
        return int(sum(found))

    def note(self, task: str, summed: List[np.ndarray], cells: List[Cells]) -> None:
        """Notes an answer to a task: the lines (bool (lines,)) of its records, then of those that further sums are of."""
        for lines in summed:
            packed = zlib.compress(np.packbits(lines).tobytes())
            self._rows.put("answered_sets", name_of(lines), packed, otherwise="IGNORE")
        self._rows.put("answered_tasks", name_of(summed[0]), task, otherwise="IGNORE")
        for each in cells:
            values = each.of_line.astype("<i4")
            self._rows.put(
                "answered_cells",
                each.subject.text,
                name_of(values),
                zlib.compress(values.tobytes()),
                otherwise="IGNORE",
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
