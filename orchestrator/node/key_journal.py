"""What a key holder must not forget: for which attempts it made keys, and of which rounds it opened a sum.

Both are on the disk before anything follows from them. The journal has a name of 32 random bytes, which the key holder signs with
its keys: a node that has answered a round under one journal answers it under no other (node/encrypted.py), so that a key holder
that lost its memory cannot be used to open a second sum of the round. A journal that was put back from a copy has its old name:
that is not noticed.
"""

import secrets
from pathlib import Path

from orchestrator.database import Rows, open_database
from orchestrator.errors import PrivacyError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS keys_made (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, digest BLOB, PRIMARY KEY (run, round, attempt)
);
CREATE TABLE IF NOT EXISTS opened (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, digest BLOB, PRIMARY KEY (run, round)
);
"""
_COLUMNS = {
    "journal": ("one", "id"),
    "keys_made": ("run", "round", "attempt"),
    "opened": ("run", "round", "attempt"),
}


def second_sum(attempt: int, number: int) -> PrivacyError:
    return PrivacyError(
        f"the sum of attempt {attempt} at round {number} was opened; with another, single nodes' values could be found"
    )


class KeyJournal:
    """One SQLite file."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _SCHEMA, "key holder", ahead=False)
        self._rows = Rows(self._db, path, _COLUMNS)
        self._rows.seal()
        self._rows.check()
        self._rows.put("journal", 1, secrets.token_bytes(32), otherwise="IGNORE")
        self.id = bytes(self._rows.get("journal")[0][1])

    def make_keys(self, run: str, number: int, attempt: int) -> None:
        """Notes that keys are made for an attempt. Raises PrivacyError where they were, or a sum of the round was opened."""
        self.check_unopened(run, number)
        if not self._rows.put("keys_made", run, number, attempt, otherwise="IGNORE"):
            raise PrivacyError(f"keys for attempt {attempt} at round {number} were made before, and are gone")

    def open(self, run: str, number: int, attempt: int) -> None:
        """Notes that the round's sum is opened. Raises PrivacyError where one was."""
        self.check_unopened(run, number)
        self._rows.put("opened", run, number, attempt)

    def check_unopened(self, run: str, number: int) -> None:
        found = self._rows.get("opened", "run = ? AND round = ?", run, number)
        if found:
            raise second_sum(int(found[0][2]), number)

    def close(self) -> None:
        self._db.close()
