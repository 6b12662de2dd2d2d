"""Rounds that are over, as ranges: a row for each gap between them, however many rounds there were."""

import sqlite3
from typing import Dict, List, Tuple

from orchestrator.database import Rows
from orchestrator.node.round_ranges import RoundRanges

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
        return any(round_number in rounds for rounds in self._rounds(kind, run).values())

    def tasks(self, kind: str, run: str) -> List[str]:
        """Digests of the tasks under which there were such rounds: one, unless a task changed."""
        return list(self._rounds(kind, run))

    def count(self, kind: str, run: str) -> int:
        return sum(map(len, self._rounds(kind, run).values()))

    def add(self, kind: str, run: str, round_number: int, task: str) -> None:
        known = self._rounds(kind, run)
        if any(round_number in rounds for rounds in known.values()):
            return
        first, last = known.get(task, RoundRanges()).adding(round_number).part_of(round_number)
        if last > round_number:  # the part behind it is one with it now
            self._db.execute("DELETE FROM past WHERE kind = ? AND run = ? AND first = ?", (kind, run, round_number + 1))
        self._rows.put("past", kind, run, first, last, task, otherwise="REPLACE")

    def _rounds(self, kind: str, run: str) -> Dict[str, RoundRanges]:
        """Digest of the task -> rounds under it."""
        parts: Dict[str, List[Tuple[int, int]]] = {}
        for _, _, first, last, task in self._rows.get("past", "kind = ? AND run = ?", kind, run):
            parts.setdefault(task, []).append((first, last))
        return {task: RoundRanges(tuple(sorted(held))) for task, held in parts.items()}
