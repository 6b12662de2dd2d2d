"""What a node noted of the others: the first key of each name, keys that wait for its owner's word, the log of certificates."""

import sqlite3
import time
from typing import Callable, ContextManager, Dict, List, NamedTuple, Optional

from orchestrator.database import Rows

SCHEMA = """
CREATE TABLE IF NOT EXISTS peers (name TEXT PRIMARY KEY, key BLOB NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS pending_peers (
    name TEXT NOT NULL, fingerprint TEXT NOT NULL, first_seen REAL NOT NULL, PRIMARY KEY (name, fingerprint)
);
CREATE TABLE IF NOT EXISTS certificates (seq INTEGER PRIMARY KEY, entry TEXT NOT NULL);
"""
COLUMNS = ("name", "key")

MOST_PENDING, MOST_PENDING_OF_A_NAME = 256, 4
"""Keys that wait for the owner's word; a gateway that invents more of them fills no disk."""


class PendingPeer(NamedTuple):
    """A key that was shown under a name and not accepted. first_seen: seconds since 1970."""

    name: str
    fingerprint: str
    first_seen: float


class KnownPeers:
    """Of one store. `writing`: a durable transaction of it."""

    def __init__(self, database: sqlite3.Connection, rows: Rows, writing: Callable[[], ContextManager[None]]) -> None:
        self._db, self._rows, self._writing = database, rows, writing

    def pin(self, name: str, key: bytes) -> bytes:
        """The first key that was ever given for this name."""
        self._rows.put("peers", name, key, otherwise="IGNORE")
        return bytes(self._rows.get("peers", "name = ?", name)[0][1])

    def pinned_as(self, key: bytes) -> Optional[str]:
        """The name this key was first given for; None where it was for none."""
        found = self._rows.get("peers", "key = ?", key)
        return str(found[0][0]) if found else None

    def pinned(self) -> Dict[str, bytes]:
        """name -> the first key that was given for it."""
        return {str(name): bytes(key) for name, key in self._rows.get("peers", order="name")}

    def note_pending(self, name: str, fingerprint: str) -> bool:
        """Notes durably that this key waits for the owner's word; False where it waits already, or no more are noted."""
        with self._writing():
            rows = self._db.execute("SELECT name, fingerprint FROM pending_peers").fetchall()
            of_name = sum(row[0] == name for row in rows)
            if (name, fingerprint) in rows or len(rows) >= MOST_PENDING or of_name >= MOST_PENDING_OF_A_NAME:
                return False
            self._db.execute("INSERT INTO pending_peers VALUES (?, ?, ?)", (name, fingerprint, time.time()))
            return True

    def pending(self) -> List[PendingPeer]:
        """Keys that wait for the owner's word, the oldest first."""
        rows = self._db.execute("SELECT name, fingerprint, first_seen FROM pending_peers ORDER BY first_seen, name")
        return [PendingPeer(str(name), str(fingerprint), float(at)) for name, fingerprint, at in rows]

    def drop_pending(self, name: str) -> None:
        self._db.execute("DELETE FROM pending_peers WHERE name = ?", (name,))

    def certificates(self) -> List[str]:
        """The certificate log as far as it was seen: one JSON object an entry."""
        return [str(row[0]) for row in self._db.execute("SELECT entry FROM certificates ORDER BY seq")]

    def add_certificates(self, entries: Dict[int, str]) -> None:
        """Notes later entries of the certificate log, by sequence number, durably."""
        with self._writing():
            self._db.executemany("INSERT INTO certificates VALUES (?, ?)", sorted(entries.items()))
