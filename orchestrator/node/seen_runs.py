"""What signed messages said of runs: the serial each has, its newest round, and whether it is over."""

import sqlite3
from typing import Any, NamedTuple, Optional

from orchestrator.database import Rows

SCHEMA = """
CREATE TABLE IF NOT EXISTS seen_runs (
    run TEXT PRIMARY KEY, serial INTEGER NOT NULL, newest_round INTEGER NOT NULL, over INTEGER NOT NULL, digest BLOB
);
"""
COLUMNS = ("run", "serial", "newest_round", "over")


class SeenRun(NamedTuple):
    """What signed messages said of a run."""

    serial: int
    newest_round: int  # -1 before the first
    over: bool


class SeenRuns:
    """Of one store. Noted durably at once."""

    def __init__(self, database: sqlite3.Connection, rows: Rows) -> None:
        self._db, self._rows = database, rows

    def find(self, run: str) -> Optional[SeenRun]:
        found = self._rows.get("seen_runs", "run = ?", run)
        return SeenRun(int(found[0][1]), int(found[0][2]), bool(found[0][3])) if found else None

    def highest_serial(self) -> int:
        """Of the runs this node took a signed task of; -1 before the first."""
        return int(self._db.execute("SELECT COALESCE(MAX(serial), -1) FROM seen_runs").fetchone()[0])

    def begin(self, run: str, serial: int) -> None:
        self._rows.put("seen_runs", run, serial, -1, 0, otherwise="IGNORE")

    def note_round(self, run: str, number: int) -> None:
        self._note(run, newest_round=number)

    def end(self, run: str) -> None:
        self._note(run, over=True)

    def _note(self, run: str, **changed: Any) -> None:
        known = self.find(run)
        if known is not None:
            now = known._replace(**changed)
            self._rows.put("seen_runs", run, now.serial, now.newest_round, int(now.over), otherwise="REPLACE")
