"""What a key holder must not forget: for which attempts it made keys, and of which rounds it opened a sum.

Both are on the disk before anything follows from them. The journal has a name of 32 random bytes, which the key holder signs with
its keys: a node that has answered a round under one journal answers it under no other (node/encrypted.py), so that a key holder
that lost its memory cannot be used to open a second sum of the round. A journal that was put back from a copy has its old name:
that is not noticed.
"""

import secrets
from pathlib import Path

from orchestrator.database import open_database
from orchestrator.errors import PrivacyError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS keys_made (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, PRIMARY KEY (run, round, attempt)
);
CREATE TABLE IF NOT EXISTS opened (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, PRIMARY KEY (run, round)
);
"""


def second_sum(attempt: int, number: int) -> PrivacyError:
    return PrivacyError(
        f"the sum of attempt {attempt} at round {number} was opened; with another, single nodes' values could be told"
    )


class KeyJournal:
    """One SQLite file."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _SCHEMA, "key holder")
        self._db.execute("INSERT OR IGNORE INTO journal VALUES (1, ?)", (secrets.token_bytes(32),))
        self.id = bytes(self._db.execute("SELECT id FROM journal").fetchone()[0])

    def make_keys(self, run: str, number: int, attempt: int) -> None:
        """Notes that keys are made for an attempt. Raises PrivacyError where they were, or a sum of the round was opened."""
        self.check_unopened(run, number)
        added = self._db.execute("INSERT OR IGNORE INTO keys_made VALUES (?, ?, ?)", (run, number, attempt)).rowcount
        if not added:
            raise PrivacyError(f"keys for attempt {attempt} at round {number} were made before, and are gone")

    def open(self, run: str, number: int, attempt: int) -> None:
        """Notes that the round's sum is opened. Raises PrivacyError where one was."""
        self.check_unopened(run, number)
        self._db.execute("INSERT INTO opened VALUES (?, ?, ?)", (run, number, attempt))

    def check_unopened(self, run: str, number: int) -> None:
        query = "SELECT attempt FROM opened WHERE run = ? AND round = ?"
        row = self._db.execute(query, (run, number)).fetchone()
        if row is not None:
            raise second_sum(int(row[0]), number)

    def close(self) -> None:
        self._db.close()
