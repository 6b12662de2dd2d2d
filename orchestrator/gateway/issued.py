"""What an authority issued: certificates with what became of them, and invitations, by the hash of their secret."""

import hashlib
import sqlite3
import time
from typing import List, Optional, Set, Tuple

from orchestrator.errors import IdentityError
from orchestrator.wire.transparency import ISSUED, Entry

SCHEMA = """
CREATE TABLE IF NOT EXISTS invitations (
    secret TEXT PRIMARY KEY, name TEXT NOT NULL, expires REAL NOT NULL, used REAL
);
CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, issued REAL NOT NULL, revoked REAL
);
CREATE TABLE IF NOT EXISTS installed_list (one INTEGER PRIMARY KEY CHECK (one = 1), pem BLOB NOT NULL);
"""

_END_OF_TIME = 253_402_300_800
"""Seconds since 1970: the year 10000, which neither a certificate nor a revocation list can hold."""


class Issued:
    """Tables of an authority's store. What several calls belong to is the caller's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    # Certificates

    def note(self, serial: str, name: str, at: float) -> None:
        """A certificate of `name`, from the time `at` on."""
        self._db.execute("INSERT INTO certificates VALUES (?, ?, ?, NULL)", (serial, name, at))

    def revoke(self, serial: str, at: float) -> None:
        self._db.execute("UPDATE certificates SET revoked = ? WHERE serial = ?", (at, serial))

    def follow(self, entry: Entry) -> None:
        """What an entry of the authority's log says, on a gateway apart from it."""
        if entry.event == ISSUED:
            self.note(entry.serial, entry.name, entry.at)
        else:
            self.revoke(entry.serial, entry.at)

    def rows(self) -> List[Tuple[str, str, Optional[float]]]:
        """(serial, name, when it was revoked or None) of all certificates, in the order they were issued."""
        return self._db.execute("SELECT serial, name, revoked FROM certificates ORDER BY issued").fetchall()

    def revoked(self) -> List[Tuple[str, float]]:
        """(serial, when) of those that were revoked."""
        return self._db.execute("SELECT serial, revoked FROM certificates WHERE revoked IS NOT NULL").fetchall()

    def names(self) -> Set[str]:
        """Who has a certificate that is not revoked."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT name FROM certificates WHERE revoked IS NULL")}

    def valid(self, name: str) -> List[str]:
        """Serials of the certificates of a name that are not revoked."""
        query = "SELECT serial FROM certificates WHERE name = ? AND revoked IS NULL ORDER BY issued"
        return [row[0] for row in self._db.execute(query, (name,))]

    # Invitations

    def invite(self, secret: str, name: str, expires: float) -> None:
        self._db.execute("INSERT INTO invitations VALUES (?, ?, ?, NULL)", (_hash(secret), name, expires))

    def redeem(self, secret: str, name: str) -> None:
        """IdentityError, with its own reason, for whatever keeps this secret from being a name's invitation."""
        query = "SELECT name, expires, used FROM invitations WHERE secret = ?"
        row = self._db.execute(query, (_hash(secret),)).fetchone()
        if row is None:
            raise IdentityError("this token is not known here: wrong gateway, or it was altered")
        if row[0] != name:
            raise IdentityError(f"this token invites {row[0]!r}, not {name!r}")
        if row[2] is not None:
            raise IdentityError(f"this token was used before; invite {name!r} again if that was not you: and revoke it")
        if row[1] < time.time():
            raise IdentityError(f"this token has expired; ask for another with `edgeward gateway invite {name}`")
        self._db.execute("UPDATE invitations SET used = ? WHERE secret = ?", (time.time(), _hash(secret)))

    def withdraw(self, name: str) -> int:
        """Ends a name's open invitations; how many there were."""
        query = "UPDATE invitations SET used = 0 WHERE name = ? AND used IS NULL"
        return self._db.execute(query, (name,)).rowcount

    # The revocation list that an authority elsewhere gave

    def install_list(self, pem: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO installed_list VALUES (1, ?)", (pem,))

    def installed_list(self) -> Optional[bytes]:
        """None in folders of earlier versions."""
        row = self._db.execute("SELECT pem FROM installed_list").fetchone()
        return None if row is None else bytes(row[0])


def not_a_time(rows: List[Tuple[str, str, Optional[float]]]) -> str:
    """The first certificate whose time of revocation is invalid, in words; empty where all are."""
    for serial, _, when in rows:
        if when is not None and not (isinstance(when, (int, float)) and 0 <= when < _END_OF_TIME):
            return f"the time at which certificate {serial} was revoked is not a time"
    return ""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
