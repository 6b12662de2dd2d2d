"""The gateway's store, read only: another process may be writing to it (write-ahead log)."""

import json
import sqlite3
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.database import RESTORE, Rows, StoreError, advised, has_table, open_read_only
from orchestrator.gateway.notes import notes_in
from orchestrator.gateway.store import COLUMNS, Store
from orchestrator.gateway.web.rounds import NEWEST
from orchestrator.rounds.events import Event, event_from_dict


class StoreView(Store):
    """What `Store` reads, and what only the dashboard asks. Raises StoreError where the file is no store."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = open_read_only(path, other_threads=True)
            self._db.execute("SELECT 1 FROM events LIMIT 1")
            self._rows = Rows(self._db, path, COLUMNS)
            found = str(self._db.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            raise StoreError(f"{path}: cannot be read as a gateway's store: {advised(error)}") from error
        if found != "ok":  # a page that is damaged may look as if it held no rows
            raise StoreError(f"{path}: is damaged ({' '.join(found.split())}): {RESTORE}")

    def runs(self) -> List[str]:
        """All runs, in the order they were made."""
        return [row[0] for row in self._db.execute("SELECT id FROM runs ORDER BY rowid")]

    def secret(self, run: str, name: str) -> bytes:
        """As the gateway drew it; empty before it did (nothing was selected by it then)."""
        if not has_table(self._db, "secrets"):  # a store older than selection
            return b""
        row = self._db.execute("SELECT value FROM secrets WHERE run = ? AND name = ?", (run, name)).fetchone()
        return bytes(row[0]) if row else b""

    def report(self, run: str) -> Optional[Dict[str, Any]]:
        """What result.json said of the run; None until its bundle is made."""
        if not has_table(self._db, "reports"):  # a store older than reports
            return None
        row = self._db.execute("SELECT report FROM reports WHERE run = ?", (run,)).fetchone()
        return json.loads(row[0]) if row else None

    def task_text(self, run: str) -> str:
        """The stored task as JSON text, without its graph."""
        return str(self._rows.get("runs", "id = ?", run)[0][1])

    def journal_after(self, run: str, seq: int) -> List[Tuple[int, Event]]:
        """(sequence number, event) of what the journal has gained since."""
        rows = self._rows.get("events", "run = ? AND seq > ?", run, seq, order="seq")
        return [(int(number), event_from_dict(json.loads(event))) for _, number, event in rows]

    def began(self, run: str, number: Optional[int] = None) -> Optional[float]:
        """When the run began, or its round `number` was opened first; None where nothing says so."""
        query = "SELECT MIN(at) FROM phases WHERE run = ? AND (? IS NULL OR (round = ? AND phase = 'collecting'))"
        return self._db.execute(query, (run, number, number)).fetchone()[0]

    def ended(self, run: str) -> Dict[int, float]:
        """round -> when it was aggregated, of the newest rounds whose events were compacted."""
        if not has_table(self._db, "times"):  # a store older than compaction
            return {}
        query = "SELECT round, ended FROM times WHERE run = ? AND ended > 0 ORDER BY round DESC LIMIT ?"
        return {number: at for number, at in self._db.execute(query, (run, NEWEST))}

    def notes(self) -> Dict[str, Dict[str, Any]]:
        """run -> what people wrote on it; see notes.py."""
        return notes_in(self._db)

    def open_updates(self, run: str) -> Dict[str, int]:
        """Bytes of every update that waits for its round to be aggregated, by node."""
        rows = self._db.execute("SELECT node, LENGTH(body) FROM updates WHERE run = ?", (run,))
        return {row[0]: int(row[1]) for row in rows}

    def changes(self) -> int:
        """A number that moves whenever another process commits to the store."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])
