"""The node's ledger: what was promised of its data's privacy budget, and every release made of it.

Append-only SQLite. An entry is canonical JSON that holds the SHA-256 of the entry before it; its own hash is SHA-256 of that
text. Changed, removed and moved entries show in the chain, a cut end or a whole lost file against the anchors (anchor.py).
"""

import hashlib
import json
import secrets
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from orchestrator.database import file_at, open_database
from orchestrator.errors import EdgewardError, LedgerError, PrivacyError
from orchestrator.node.anchor import Anchor, Head
from orchestrator.node.reservation import History, Reservation, keep_newest, read_histories

LEDGER_FILE = "ledger.sqlite"
FIRST = "0" * 64
"""What the first entry names as the hash before it."""

APPROVED, DENIED = "approved", "denied"

TRUST, DISTRUST = "trust", "distrust"

Entries = List[Dict[str, Any]]

_PEER = "peer:"
"""Before a peer's name: what entries about it are looked up by."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY, subject TEXT NOT NULL, entry TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_of ON entries (subject);
"""
_LOST = (
    "What this node's data has spent is not known, so it serves nobody. Put the newest ledger.sqlite and node.sqlite back, both "
    "from the same moment; if they are gone for good, the records they spoke of should not be used again as if unspent"
)


_MOST_HISTORIES = 8
"""Of runs, kept in memory as far as they were read; those of others are read again when asked for."""


class StaleError(EdgewardError):
    """Another process wrote to the ledger after it was read."""


class Ledger:
    """Opened, checked whole, and then only ever longer. Raises LedgerError when it is not what the anchors remember."""

    def __init__(self, path: Path, anchors: Sequence[Anchor] = ()) -> None:
        self.path, self._anchors = path, tuple(anchors)
        remembered = [anchor.where for anchor in self._anchors if anchor.read() is not None]
        if remembered and not path.exists():
            raise LedgerError(f"{path}: the ledger is gone, {remembered[0]} remembers it. {_LOST}")
        try:
            self._db = open_database(path, _SCHEMA, "node")
        except EdgewardError as error:
            raise LedgerError(f"{error}. {_LOST}" if path.exists() and path.stat().st_size else str(error)) from error
        self._file = file_at(str(path))
        self._known: Dict[str, History] = {}
        if not remembered and self.head.entries == 0:
            with self._writing():
                self._append("opened", "", id=secrets.token_hex(16))
        self.verify()
        self._anchor()

    @property
    def head(self) -> Head:
        row = self._db.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        if row is None:
            return Head(0, FIRST)
        if not isinstance(row[0], int) or not isinstance(row[1], str):
            raise LedgerError(f"{self.path}: its last entry was changed. {_LOST}")
        return Head(row[0], row[1])

    def reserve(self, wanted: Reservation, at: Optional[Head] = None, **more: Any) -> bool:
        """Promises a run its charges; False where the same run with the same task has them already.

        at: the ledger's head when the budget was counted. Raises StaleError when the ledger has become longer since: what was
        counted is not what is there. PrivacyError for a run that was reserved for another task, or closed. `more` is kept in
        the entry, for people.
        """
        with self._writing():
            if at is not None and self.head != at:
                raise StaleError("the ledger became longer while its budget was counted")
            self.check_free(wanted)
            if self.reservation(wanted.run) is not None:
                return False
            self._append(
                "reserve",
                wanted.run,
                run=wanted.run,
                digest=wanted.digest,
                task=wanted.task,
                unit=wanted.unit,
                charges=[charge.to_dict() for charge in wanted.charges],
                sides=wanted.sides,
                share=wanted.share,
                **more,
            )
        self._anchor()
        return True

    def check_free(self, wanted: Reservation) -> None:
        """PrivacyError for a run that was reserved for another task, or for other releases, or closed."""
        known = self.reservation(wanted.run)
        if known is not None and known.digest != wanted.digest:
            raise PrivacyError(f"run {wanted.run} was reserved for another task: {known.digest[:16]}")
        if known is not None and not known.releases_like(wanted):
            raise PrivacyError(
                f"run {wanted.run} was reserved for other noise or other numbers of releases: this version of Edgeward reads its "
                "task in another way than the one that reserved it"
            )
        if known is not None and known.closed:
            raise PrivacyError(f"run {wanted.run} was closed by this node's owner")

    def charge(self, run: str, round_number: int, uses: Mapping[str, int]) -> None:
        """Notes durably that a round's answer is about to be released: `uses`, kind -> releases of that kind in it.

        The same (run, round) is noted once. Raises PrivacyError for a run without a reservation, a closed one, and for more
        releases of a kind than are reserved.
        """
        with self._writing():
            known = self.reservation(run)
            if known is None or known.closed:
                raise PrivacyError(f"run {run} {'is not reserved' if known is None else 'was closed by the owner'}")
            if round_number in known.rounds:
                return
            for kind, count in uses.items():
                reserved = sum(c.count for c in known.charges if c.kind == kind)
                if known.used.get(kind, 0) + count > reserved:
                    raise PrivacyError(
                        f"round {round_number} of run {run} would be release {known.used.get(kind, 0) + count} of kind "
                        f"{kind}, reserved are {reserved}"
                    )
            self._append("release", run, run=run, round=round_number, uses=dict(uses))
        for anchor in self._anchors:
            anchor.write_soon(self.head)

    def close_run(self, run: str) -> Reservation:
        """Frees what `run` reserved and did not use; it is never served again. Raises PrivacyError for an unknown run."""
        with self._writing():
            known = self.reservation(run)
            if known is None or known.closed:
                raise PrivacyError(f"run {run}: {'never reserved here' if known is None else 'closed already'}")
            self._append("close", run, run=run)
        self._anchor()
        return replace(known, closed=True)

    def decide(self, digest: str, decision: str, reading: str = "") -> None:
        """Notes the owner's word on a task digest: APPROVED or DENIED. The last word counts.

        reading: digest of what this version makes of the declaration (approval.reading_of), which the owner was shown.
        """
        more: Any = {"reading": reading} if reading else {}
        self.note(decision, digest, digest=digest, **more)

    def decision(self, digest: str, reading: str = "") -> Optional[str]:
        """The owner's last word; None where there is none, or it was a yes to another reading of the declaration."""
        words = [e for e in self._entries(digest) if e["kind"] in (APPROVED, DENIED)]
        if not words:
            return None
        word = str(words[-1]["kind"])
        other = bool(reading) and words[-1].get("reading", reading) != reading
        return None if word == APPROVED and other else word

    def runs_since_decision(self, digest: str) -> int:
        """Runs of this task that were reserved after the owner's last word on it."""
        words = (e["seq"] for e in self._entries(digest) if e["kind"] in (APPROVED, DENIED))
        last = max(words, default=0)
        return sum(e["kind"] == "reserve" and e["digest"] == digest and e["seq"] > last for e in self._entries())

    def waits(self, digest: str, runs: int, reading: str = "") -> bool:
        """Whether the owner has to decide on this task: there is no word yet, or `runs` runs were reserved since it was yes."""
        word = self.decision(digest, reading)
        return word is None or (word == APPROVED and self.runs_since_decision(digest) >= runs)

    def trust(self, name: str, fingerprint: str) -> None:
        """Notes the owner's word that this key is the peer `name`'s. PrivacyError for a key that is another peer's."""
        with self._writing():
            other = [n for n, f in self.trusted().items() if f == fingerprint and n != name]
            if other:
                raise PrivacyError(f"this key is confirmed as that of {other[0]}: no two peers have the same")
            self._append(TRUST, _PEER + name, peer=name, fingerprint=fingerprint)
        self._anchor()

    def distrust(self, name: str) -> None:
        """Notes that nobody is admitted as the peer `name`, whatever was confirmed before, until the owner trusts again."""
        self.note(DISTRUST, _PEER + name, peer=name)

    def trusted(self) -> Dict[str, str]:
        """name -> fingerprint of the key the owner confirmed last, "" for a name the owner distrusts. The last word counts."""
        query = "SELECT entry FROM entries WHERE subject > ? AND subject < ? ORDER BY seq"
        entries = (json.loads(row[0]) for row in self._rows(query, _PEER, _PEER[:-1] + chr(ord(_PEER[-1]) + 1)))
        words = (entry for entry in entries if entry["kind"] in (TRUST, DISTRUST))
        return {entry["peer"]: entry.get("fingerprint", "") for entry in words}

    def note(self, kind: str, subject: str, objection: Callable[[Entries], str] = lambda _: "", **fields: Any) -> None:
        """Notes something durably. PrivacyError where `objection` finds a reason in what was noted of that kind and subject."""
        with self._writing():
            why = objection([entry for entry in self._entries(subject) if entry["kind"] == kind])
            if why:
                raise PrivacyError(why)
            self._append(kind, subject, **fields)
        self._anchor()

    def reservation(self, run: str) -> Optional[Reservation]:
        known = self._known.pop(run, None)
        found = {run: known} if known else {}
        read_histories(found, self._entries(run, known.seq if known else 0))
        self._known.update(found)
        keep_newest(self._known, _MOST_HISTORIES)
        return found[run].reservation() if run in found else None

    def reservations(self) -> List[Reservation]:
        """All runs that were ever promised something, in that order."""
        found: Dict[str, History] = {}
        read_histories(found, self._entries())
        return [history.reservation() for history in found.values()]

    def entries(self) -> List[Dict[str, Any]]:
        """Every entry as plain data, the oldest first."""
        return list(self._entries())

    def verify(self) -> Head:
        """Walks the whole chain and asks the anchors; LedgerError names the first entry that is not what it was."""
        self.check_present()
        remembered = [
            (anchor, anchor.read()) for anchor in self._anchors
        ]  # before the entries: a writer may be at work
        before, count = FIRST, 0
        heads: Dict[int, str] = {}
        for seq, subject, text, stored in self._rows("SELECT seq, subject, entry, hash FROM entries ORDER BY seq"):
            count += 1
            if seq != count:
                raise LedgerError(f"{self.path}: entry {count} is missing. {_LOST}")
            if not _continues(text, seq, subject, before) or _hash(text) != stored:
                raise LedgerError(f"{self.path}: entry {count} was changed, or one before it. {_LOST}")
            before = heads[count] = stored
        for anchor, known in remembered:
            wrong = anchor.objection(known, heads)
            if wrong:
                raise LedgerError(f"{self.path}: {wrong}. {_LOST}")
        return Head(count, before)

    def check_present(self) -> None:
        """LedgerError when the file was removed or replaced since it was opened."""
        if file_at(str(self.path)) != self._file:
            raise LedgerError(f"{self.path}: was removed or replaced while it was in use. {_LOST}")

    def close(self) -> None:
        if file_at(str(self.path)) == self._file:
            self._anchor()
        self._db.close()

    def _anchor(self) -> None:
        # After the entry, never before it: a kill in between leaves an anchor that lags behind, which is fine.
        for anchor in self._anchors:
            anchor.write(self.head)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.check_present()
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: cannot be written: {error}") from error
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _append(self, kind: str, subject: str, **fields: Any) -> None:
        entries, before = self.head
        for anchor in self._anchors:
            if anchor.paired and (anchor.read() or Head(0, FIRST)).entries < entries:
                anchor.write(self.head)  # so that it never lags behind by more than one
        entry = {**fields, "kind": kind, "seq": entries + 1, "at": round(time.time(), 3), "before": before}
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
        self._db.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (entries + 1, subject, text, _hash(text)))

    def _entries(self, subject: Optional[str] = None, after: int = 0) -> Iterator[Dict[str, Any]]:
        where, values = ("", []) if subject is None else (" WHERE subject = ? AND seq > ?", [subject, after])
        rows = self._rows(f"SELECT entry FROM entries{where} ORDER BY seq", *values)
        return (json.loads(row[0]) for row in rows)

    def _rows(self, query: str, *values: Any) -> List[Tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: cannot be read: {error}. {_LOST}") from error


def _continues(text: Any, seq: int, subject: str, before: str) -> bool:
    """Whether this is the text of entry `seq`, behind the one with the hash `before`, and of this subject."""
    try:
        entry = json.loads(text)
        named = (entry["seq"], entry["before"], _subject(entry))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(text, str) and named == (seq, before, subject)


def _subject(entry: Mapping[str, Any]) -> str:
    """What an entry is looked up by: its peer, its run, or its task digest."""
    if "peer" in entry:
        return f"{_PEER}{entry['peer']}"
    return str(entry.get("run", entry.get("digest", "")))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
