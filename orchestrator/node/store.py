"""What a node must not forget: which rounds it has answered, and with what.

An update is stored before it is sent. A round announced again after a crash gets the same bytes again: noise is drawn
once, so a replay cannot spend the privacy budget twice.
"""

import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.database import Rows, open_database
from orchestrator.errors import EdgewardError
from orchestrator.node import answered, exchanges, known_peers, past, seen_runs
from orchestrator.node.answered import Answered, Cells
from orchestrator.node.exchanges import Exchanges
from orchestrator.node.known_peers import KnownPeers
from orchestrator.node.past import ANSWERED, OPENED, Past
from orchestrator.node.seen_runs import SeenRuns

_SCHEMA = f"""
{past.SCHEMA}{seen_runs.SCHEMA}{known_peers.SCHEMA}{answered.SCHEMA}{exchanges.SCHEMA}
CREATE TABLE IF NOT EXISTS releases (
    run TEXT NOT NULL, round INTEGER NOT NULL, task TEXT NOT NULL, body BLOB, digest BLOB, PRIMARY KEY (run, round)
);
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS revealed (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, digest BLOB, PRIMARY KEY (run, round, attempt)
);
CREATE TABLE IF NOT EXISTS sums (scope TEXT PRIMARY KEY, nodes TEXT NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS opened (run TEXT NOT NULL, round INTEGER NOT NULL, PRIMARY KEY (run, round));
CREATE TABLE IF NOT EXISTS counts (run TEXT PRIMARY KEY, task TEXT NOT NULL, units INTEGER NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS cohorts (run TEXT PRIMARY KEY, content TEXT NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS looks (what TEXT PRIMARY KEY, at REAL NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS looks_ahead (what TEXT PRIMARY KEY, seen REAL NOT NULL);
CREATE TABLE IF NOT EXISTS anchors (name TEXT PRIMARY KEY, entries INTEGER NOT NULL, hash TEXT NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS graphs (digest TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kept (
    run TEXT NOT NULL, name TEXT NOT NULL, round INTEGER NOT NULL, data BLOB NOT NULL, digest BLOB, PRIMARY KEY (run, name)
);
"""

_COLUMNS = {
    "releases": ("run", "round", "task", "body"),
    "secrets": ("name", "value"),
    "counts": ("run", "task", "units"),
    "cohorts": ("run", "content"),
    "kept": ("run", "name", "round", "data"),
    "seen_runs": seen_runs.COLUMNS,
    "peers": known_peers.COLUMNS,
    "revealed": ("run", "round", "attempt"),
    "sums": ("scope", "nodes"),
    "looks": ("what", "at"),
    "anchors": ("name", "entries", "hash"),
    "past": past.COLUMNS,
    "exchanges": exchanges.COLUMNS,
    **answered.COLUMNS,
}
"""Tables whose rows notice damage."""

MOST_SUMS = 20_000
"""Whose nodes are remembered; the newest."""

RESIDUAL = "residual"
"""Name of what an update's codec left out."""


class Kept(NamedTuple):
    """A vector kept from round to round. round: the one whose release stored it; vector: float32."""

    round: int
    vector: np.ndarray


_COUNTS = "(at BETWEEN :now - 86400.0 AND :now OR what IN (SELECT what FROM looks_ahead WHERE seen >= :now - 86400.0))"
"""Of a look at the data: whether it was within a day of the clock's time :now."""


class NodeStore:
    """One SQLite file. `body` is dropped when a later round of the run begins; the fact of the release stays (past.py)."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _SCHEMA, "node")
        self._rows = Rows(self._db, path, _COLUMNS)
        self._past = Past(self._db, self._rows)
        self.seen_runs = SeenRuns(self._db, self._rows)
        self.peers = KnownPeers(self._db, self._rows, self._writing)
        self.answered = Answered(self._db, self._rows)
        self.exchanges = Exchanges(self._rows, self._writing)
        self._anchors: Dict[str, Tuple[int, str]] = {}  # to be written with the next commit
        with self._writing():
            self._rows.seal()
        self._rows.check()
        self.before_release: Optional[Callable[[str, int], None]] = None

    def released(self, run: str, round_number: int, task: str) -> Optional[bytes]:
        """The stored update of a round; None if there was none yet.

        Raises EdgewardError for a run whose task changed, or a round whose update is already gone.
        """
        other = self._db.execute("SELECT task FROM releases WHERE run = ? AND task != ?", (run, task)).fetchone()
        if other or set(self._past.tasks(ANSWERED, run)) - {task}:
            raise EdgewardError(f"run {run} changed its task after this node took part in it")
        found = self._rows.get("releases", "run = ? AND round = ?", run, round_number)
        over = self._past.has(ANSWERED, run, round_number)
        if not found and not over:
            return None
        if over or found[0][-1] is None:
            raise EdgewardError(f"round {round_number} of run {run} was answered before and is over")
        return bytes(found[0][-1])

    def release(
        self, run: str, round_number: int, task: str, body: bytes, keep: Optional[Dict[str, np.ndarray]] = None
    ) -> None:
        """Stores a round's update durably, with the vectors to keep for later rounds; earlier rounds keep only the fact.

        `before_release` is called with (run, round) first; what it raises is raised, and nothing is stored. Where another process
        stored an answer meanwhile, that one stays: read back what is sent.
        """
        self.charge(run, round_number)
        with self._writing():
            if self._past.has(ANSWERED, run, round_number):
                return
            self._rows.put("releases", run, round_number, task, body, otherwise="IGNORE")
            if self._rows.get("releases", "run = ? AND round = ?", run, round_number)[0][-1] != body:
                return
            for name, vector in (keep or {}).items():
                data = vector.astype("<f4").tobytes()
                self._rows.put("kept", run, name, round_number, data, otherwise="REPLACE")
            self._close_before(run, round_number)

    def forfeit(self, run: str, round_number: int, task: str) -> None:
        """Notes durably that a round has no answer and gets none, charged like one: that there is none may say as much."""
        self.charge(run, round_number)
        with self._writing():
            self._answered(run, round_number, task)

    def _answered(self, run: str, round_number: int, task: str) -> None:
        """Notes that the round has no answer but those given; one that waits to be sent again stays."""
        if not self._past.has(ANSWERED, run, round_number):
            self._rows.put("releases", run, round_number, task, None, otherwise="IGNORE")

    def _close_before(self, run: str, round_number: int) -> None:
        """Of rounds before this one only the fact stays that they were answered."""
        for _, number, task, _ in self._rows.get("releases", "run = ? AND round < ?", run, round_number):
            self._past.add(ANSWERED, run, number, task)
        self._db.execute("DELETE FROM releases WHERE run = ? AND round < ?", (run, round_number))

    def charge(self, run: str, round_number: int) -> None:
        """Tells `before_release` of a release whose vector is not kept here: it can be computed again without harm."""
        if self.before_release is not None:
            self.before_release(run, round_number)

    def counted(self, run: str, task: str) -> Optional[int]:
        """How many units this node said it has in a run; None before it did. EdgewardError for a run whose task changed."""
        found = self._rows.get("counts", "run = ?", run)
        if found and found[0][1] != task:
            raise EdgewardError(f"run {run} changed its task after this node took part in it")
        return int(found[0][2]) if found else None

    def put_count(self, run: str, task: str, units: int, round_number: int) -> None:
        """Notes durably what this node says, charged like the answer to `round_number`: drawn once, said ever after."""
        self.charge(run, round_number)
        with self._writing():
            self._rows.put("counts", run, task, units, otherwise="IGNORE")

    def freeze(self, run: str, content: str) -> bool:
        """Whether the data of a run are those it was accepted with. content: their digest; the first one is noted durably."""
        with self._writing():
            self._rows.put("cohorts", run, content, otherwise="IGNORE")
        return bool(self._rows.get("cohorts", "run = ?", run)[0][1] == content)

    def thaw(self, run: str) -> bool:
        """Whether data of this run were noted; those it is given next are noted in their place."""
        with self._writing():
            return self._db.execute("DELETE FROM cohorts WHERE run = ?", (run,)).rowcount > 0

    def note_answered(self, task: str, summed: List[np.ndarray], cells: List[Cells]) -> None:
        """Notes durably what an answer without noise is of, before it is given."""
        with self._writing():
            self.answered.note(task, summed, cells)

    def forget_answered(self) -> int:
        """Forgets durably what answers were of; returns of how many sets of records."""
        with self._writing():
            return self.answered.forget()

    def may_look(self, what: str, now: float, most: int) -> bool:
        """Whether the data may be looked at for `what` (a digest), of which there may be `most` different ones in a day.

        A yes is noted durably first. The same one again costs nothing: its answer is known.
        """
        with self._writing():
            # What was noted while the clock was ahead counts for a day from when that shows, not for years; where instead the
            # clock is put back for a while, it counts again when that is over.
            self._db.execute("INSERT OR IGNORE INTO looks_ahead SELECT what, ? FROM looks WHERE at > ?", (now, now))
            self._db.execute("UPDATE looks_ahead SET seen = ? WHERE seen > ?", (now, now))
            self._db.execute(f"DELETE FROM looks WHERE at <= :now AND NOT {_COUNTS}", {"now": now})
            self._db.execute("DELETE FROM looks_ahead WHERE what NOT IN (SELECT what FROM looks)")
            counted = [row[0] for row in self._db.execute(f"SELECT what FROM looks WHERE {_COUNTS}", {"now": now})]
            if what in counted:
                return True
            if len(counted) >= most:
                return False
            self._db.execute("DELETE FROM looks_ahead WHERE what = ?", (what,))
            self._rows.put("looks", what, now, otherwise="REPLACE")
        return True

    def kept(self, run: str, name: str) -> Optional[Kept]:
        """The newest vector of that name a release of this run stored; None before the first."""
        found = self._rows.get("kept", "run = ? AND name = ?", run, name)
        return Kept(int(found[0][2]), np.frombuffer(found[0][3], "<f4")) if found else None

    def secret(self, name: str) -> bytes:
        """32 random bytes of this node, drawn the first time they are asked for and the same ever after."""
        self._rows.put("secrets", name, secrets.token_bytes(32), otherwise="IGNORE")
        return bytes(self._rows.get("secrets", "name = ?", name)[0][-1])

    def note_opened(self, run: str, round_number: int, task: str, sums: Optional[Mapping[str, str]] = None) -> None:
        """Notes durably that this node helps to open a secure sum of the round, and has thus answered it.

        `sums`: scope -> over which nodes, as `sum_over` is asked for later. Of all scopes the newest 20,000 are kept.
        """
        with self._writing():
            self._past.add(OPENED, run, round_number, "")
            self._answered(run, round_number, task)
            self._close_before(run, round_number)
            for scope, nodes in (sums or {}).items():
                self._rows.put("sums", scope, nodes, otherwise="REPLACE")  # with the highest rowid
            self._db.execute("DELETE FROM sums WHERE rowid <= (SELECT MAX(rowid) FROM sums) - ?", (MOST_SUMS,))

    def sum_over(self, scope: str) -> Optional[str]:
        """Over which nodes this node helped to open sums of this scope; None before the first."""
        found = self._rows.get("sums", "scope = ?", scope)
        return str(found[0][1]) if found else None

    def note_revealed(self, run: str, round_number: int, attempt: int) -> bool:
        """Notes durably that this node reveals its nonce in this attempt; False where it did before."""
        with self._writing():
            return self._rows.put("revealed", run, round_number, attempt, otherwise="IGNORE")

    def opened(self, run: str, round_number: int) -> bool:
        query = "SELECT 1 FROM opened WHERE run = ? AND round = ?"  # as earlier versions noted it
        before = self._db.execute(query, (run, round_number)).fetchone() is not None
        return before or self._past.has(OPENED, run, round_number)

    def anchor(self, name: str) -> Optional[Tuple[int, str]]:
        """(entries, hash of the last) of a hash-chained file as last noted; None before the first."""
        found = self._rows.get("anchors", "name = ?", name)
        return (int(found[0][1]), str(found[0][2])) if found else None

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
                known = self.anchor(name)
                if known is None or known[0] < entries:
                    self._rows.put("anchors", name, entries, last, otherwise="REPLACE")
            yield
        self._anchors.clear()

    def graph_state(self, digest: str) -> Optional[str]:
        """What was last noted of a training graph (node/graph_admission.py); None before the first time."""
        row = self._db.execute("SELECT state FROM graphs WHERE digest = ?", (digest,)).fetchone()
        return str(row[0]) if row else None

    def note_graph(self, digest: str, state: Optional[str]) -> None:
        """Notes it durably, or forgets the graph with None."""
        if state is None:
            self._db.execute("DELETE FROM graphs WHERE digest = ?", (digest,))
        else:
            self._db.execute("INSERT OR REPLACE INTO graphs VALUES (?, ?)", (digest, state))

    def graphs(self) -> List[Tuple[str, str]]:
        """(digest, state) of all training graphs something was noted of."""
        return [(str(d), str(s)) for d, s in self._db.execute("SELECT digest, state FROM graphs ORDER BY digest")]

    def releases(self, run: str) -> int:
        """Rounds of a run this node has answered."""
        kept = int(self._db.execute("SELECT COUNT(*) FROM releases WHERE run = ?", (run,)).fetchone()[0])
        return kept + self._past.count(ANSWERED, run)

    def close(self) -> None:
        if self._anchors:
            with self._writing():
                pass
        self._db.close()
