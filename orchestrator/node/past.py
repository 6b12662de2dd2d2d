"""Rounds that are over, as ranges: a row for each gap between them, however many rounds there were."""

import sqlite3
from typing import List, Tuple

from orchestrator.database import Rows

SCHEMA = """
CREATE TABLE IF NOT EXISTS past (
    kind TEXT NOT NULL, run TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, task TEXT NOT NULL, digest BLOB,
    PRIMARY KEY (kind, run, first)
);
"""
COLUMNS = ("kind", "run", "first", "last", "task")

ANSWERED, OPENED = "answered", "opened"
"""Kinds: rounds a node has answered, and those of which it helped to open a secure sum."""


class Past:
    """Of one store. `add` is to be called inside a transaction."""

    def __init__(self, database: sqlite3.Connection, rows: Rows) -> None:
        self._db, self._rows = database, rows

    def has(self, kind: str, run: str, round_number: int) -> bool:
        return any(first <= round_number <= last for first, last, _ in self._ranges(kind, run))

    def tasks(self, kind: str, run: str) -> List[str]:
        """Digests of the tasks under which there were such rounds: one, unless a task changed."""
        return [task for _, _, task in self._ranges(kind, run)]

    def count(self, kind: str, run: str) -> int:
        return sum(last - first + 1 for first, last, _ in self._ranges(kind, run))

    def add(self, kind: str, run: str, round_number: int, task: str) -> None:
        if self.has(kind, run, round_number):
            return
        first = last = round_number
        for start, end, of in self._ranges(kind, run):
            if of == task and end == round_number - 1:
                first = start
            elif of == task and start == round_number + 1:
                last = end
                self._db.execute("DELETE FROM past WHERE kind = ? AND run = ? AND first = ?", (kind, run, start))
        self._rows.put("past", kind, run, first, last, task, otherwise="REPLACE")

    def _ranges(self, kind: str, run: str) -> List[Tuple[int, int, str]]:
        """(first round, last round, task)."""
        return [row[2:] for row in self._rows.get("past", "kind = ? AND run = ?", kind, run)]
