"""What a node must not forget: which rounds it has answered, and with what.

An update is stored before it is sent. A round announced again after a crash gets the same bytes again: noise is drawn
once, so a replay cannot spend the privacy budget twice.
"""

import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.database import open_database
from orchestrator.errors import EdgewardError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS releases (
    run TEXT NOT NULL, round INTEGER NOT NULL, task TEXT NOT NULL, body BLOB, PRIMARY KEY (run, round)
);
CREATE TABLE IF NOT EXISTS seen_runs (
    run TEXT PRIMARY KEY, serial INTEGER NOT NULL, newest_round INTEGER NOT NULL, over INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS peers (name TEXT PRIMARY KEY, key BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS opened (run TEXT NOT NULL, round INTEGER NOT NULL, PRIMARY KEY (run, round));
CREATE TABLE IF NOT EXISTS counts (run TEXT PRIMARY KEY, task TEXT NOT NULL, units INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS looks (what TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS anchors (name TEXT PRIMARY KEY, entries INTEGER NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kept (
    run TEXT NOT NULL, name TEXT NOT NULL, round INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (run, name)
);
"""

RESIDUAL = "residual"
"""Name of what an update's codec left out."""


class Kept(NamedTuple):
    """A vector kept from round to round. round: the one whose release stored it; vector: float32."""

    round: int
    vector: np.ndarray


class SeenRun(NamedTuple):
    """What signed messages said of a run."""

    serial: int
    newest_round: int  # -1 before the first
    over: bool


class NodeStore:
    """One SQLite file. `body` is dropped when a later round of the run begins; the fact of the release stays."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _SCHEMA, "node")
        self.before_release: Optional[Callable[[str, int], None]] = None
        self._anchors: Dict[str, Tuple[int, str]] = {}  # to be written with the next commit

    def released(self, run: str, round_number: int, task: str) -> Optional[bytes]:
        """The stored update of a round; None if there was none yet.

        Raises EdgewardError for a run whose task changed, or a round whose update is already gone.
        """
        other = self._db.execute("SELECT task FROM releases WHERE run = ? AND task != ?", (run, task)).fetchone()
        if other:
            raise EdgewardError(f"run {run} changed its task after this node took part in it")
        row = self._db.execute("SELECT body FROM releases WHERE run = ? AND round = ?", (run, round_number)).fetchone()
        if row is None:
            return None
        if row[0] is None:
            raise EdgewardError(f"round {round_number} of run {run} was answered before and is over")
        return bytes(row[0])

    def release(
        self, run: str, round_number: int, task: str, body: bytes, keep: Optional[Dict[str, np.ndarray]] = None
    ) -> None:
        """Stores a round's update durably, with the vectors to keep for later rounds; earlier rounds keep only the fact.

        `before_release` is told (run, round) first; what it raises is raised, and nothing is stored.
        """
        self.charge(run, round_number)
        with self._writing():
            self._db.execute("INSERT INTO releases VALUES (?, ?, ?, ?)", (run, round_number, task, body))
            for name, vector in (keep or {}).items():
                row = (run, name, round_number, vector.astype("<f4").tobytes())
                self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", row)
            self._db.execute("UPDATE releases SET body = NULL WHERE run = ? AND round < ?", (run, round_number))

    def charge(self, run: str, round_number: int) -> None:
        """Tells `before_release` of a release whose vector is not kept here: it can be computed again without harm."""
        if self.before_release is not None:
            self.before_release(run, round_number)

    def counted(self, run: str, task: str) -> Optional[int]:
        """How many units this node said it has in a run; None before it did. EdgewardError for a run whose task changed."""
        row = self._db.execute("SELECT task, units FROM counts WHERE run = ?", (run,)).fetchone()
        if row is not None and row[0] != task:
            raise EdgewardError(f"run {run} changed its task after this node took part in it")
        return None if row is None else int(row[1])

    def put_count(self, run: str, task: str, units: int, round_number: int) -> None:
        """Notes durably what this node says, charged like the answer to `round_number`: drawn once, said ever after."""
        self.charge(run, round_number)
        with self._writing():
            self._db.execute("INSERT INTO counts VALUES (?, ?, ?)", (run, task, units))

    def may_look(self, what: str, now: float, most: int) -> bool:
        """Whether the data may be looked at for `what` (a digest), of which there may be `most` different ones in a day.

        A yes is noted durably first. The same one again costs nothing: its answer is known.
        """
        with self._writing():
            # Written so that a clock put back forgets nothing.
            self._db.execute("DELETE FROM looks WHERE at < ? - 86400.0", (now,))
            if self._db.execute("SELECT 1 FROM looks WHERE what = ?", (what,)).fetchone() is not None:
                return True
            if int(self._db.execute("SELECT COUNT(*) FROM looks").fetchone()[0]) >= most:
                return False
            self._db.execute("INSERT INTO looks VALUES (?, ?)", (what, now))
        return True

    def kept(self, run: str, name: str) -> Optional[Kept]:
        """The newest vector of that name a release of this run stored; None before the first."""
        row = self._db.execute("SELECT round, data FROM kept WHERE run = ? AND name = ?", (run, name)).fetchone()
        return Kept(int(row[0]), np.frombuffer(row[1], "<f4")) if row else None

    def secret(self, name: str) -> bytes:
        """32 random bytes of this node, drawn the first time they are asked for and the same ever after."""
        self._db.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, secrets.token_bytes(32)))
        return bytes(self._db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()[0])

    def pin_peer(self, name: str, key: bytes) -> bytes:
        """The first key that was ever given for this name."""
        self._db.execute("INSERT OR IGNORE INTO peers VALUES (?, ?)", (name, key))
        return bytes(self._db.execute("SELECT key FROM peers WHERE name = ?", (name,)).fetchone()[0])

    def note_opened(self, run: str, round_number: int, task: str) -> None:
        """Notes durably that this node helps to open a secure sum of the round, and has thus answered it."""
        with self._writing():
            self._db.execute("INSERT OR IGNORE INTO opened VALUES (?, ?)", (run, round_number))
            self._db.execute("INSERT OR IGNORE INTO releases VALUES (?, ?, ?, NULL)", (run, round_number, task))

    def opened(self, run: str, round_number: int) -> bool:
        query = "SELECT 1 FROM opened WHERE run = ? AND round = ?"
        return self._db.execute(query, (run, round_number)).fetchone() is not None

    def anchor(self, name: str) -> Optional[Tuple[int, str]]:
        """(entries, hash of the last) of a hash-chained file as last noted; None before the first."""
        row = self._db.execute("SELECT entries, hash FROM anchors WHERE name = ?", (name,)).fetchone()
        return (int(row[0]), str(row[1])) if row else None

    def put_anchor(self, name: str, entries: int, last: str) -> None:
        """Notes where the file ends, durably. It only moves forward: a slower writer does not take it back."""
        self.put_anchor_soon(name, entries, last)
        with self._writing():
            pass

    def put_anchor_soon(self, name: str, entries: int, last: str) -> None:
        """The same, with the next release or other durable note."""
        self._anchors[name] = (entries, last)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A durable transaction, which also takes along the anchors that wait."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for name, (entries, last) in self._anchors.items():
                self._db.execute("INSERT OR IGNORE INTO anchors VALUES (?, 0, '')", (name,))
                update = "UPDATE anchors SET entries = ?, hash = ? WHERE name = ? AND entries < ?"
                self._db.execute(update, (entries, last, name, entries))
            yield
        self._anchors.clear()

    def seen(self, run: str) -> Optional[SeenRun]:
        row = self._db.execute("SELECT serial, newest_round, over FROM seen_runs WHERE run = ?", (run,)).fetchone()
        return SeenRun(int(row[0]), int(row[1]), bool(row[2])) if row else None

    def highest_serial(self) -> int:
        """Of the runs this node took a signed task of; -1 before the first."""
        return int(self._db.execute("SELECT COALESCE(MAX(serial), -1) FROM seen_runs").fetchone()[0])

    def note_run(self, run: str, serial: int) -> None:
        self._db.execute("INSERT OR IGNORE INTO seen_runs VALUES (?, ?, -1, 0)", (run, serial))

    def note_round(self, run: str, number: int) -> None:
        self._db.execute("UPDATE seen_runs SET newest_round = ? WHERE run = ?", (number, run))

    def note_over(self, run: str) -> None:
        self._db.execute("UPDATE seen_runs SET over = 1 WHERE run = ?", (run,))

    def releases(self, run: str) -> int:
        """Rounds of a run this node has answered."""
        return int(self._db.execute("SELECT COUNT(*) FROM releases WHERE run = ?", (run,)).fetchone()[0])

    def close(self) -> None:
        if self._anchors:
            with self._writing():
                pass
        self._db.close()
