"""The gateway's memory: one SQLite file with the journal, open updates, and the current weights (a `RunStore`).

Everything is committed with fsync before it is acknowledged or acted on, so a kill at any point loses nothing that a
node counts as safe. Only the steps of secure rounds are not waited for one by one: what a loss of power takes of them is
asked for again, and before the next step is, all of the one before is on the disk (`sync`). Rows carry a digest, so that nothing
is made of bits that a disk changed.
"""

import json
import os
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np

from orchestrator.database import Rows, StoreError, open_database
from orchestrator.gateway.audit import AuditLog
from orchestrator.gateway.run_store import (
    PSEUDONYM_SECRET,
    has_run,
    joined_in,
    kept_of,
    lacks_journal,
    lacks_result,
    lacks_update,
    nested,
    vector_dtype,
)
from orchestrator.rounds.events import Aggregated, Compacted, Event, event_from_dict, event_to_dict
from orchestrator.rounds.stages import FIRST_ROUND

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, task TEXT NOT NULL, graph BLOB NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS events (
    run TEXT NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL, digest BLOB, PRIMARY KEY (run, seq)
);
CREATE TABLE IF NOT EXISTS updates (
    run TEXT NOT NULL, round INTEGER NOT NULL, node TEXT NOT NULL, body BLOB NOT NULL, digest BLOB, PRIMARY KEY (run, round, node)
);
CREATE TABLE IF NOT EXISTS answers (
    run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, step TEXT NOT NULL, node TEXT NOT NULL,
    body BLOB NOT NULL, digest BLOB, PRIMARY KEY (run, round, attempt, step, node)
);
CREATE TABLE IF NOT EXISTS vectors (
    run TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, digest BLOB, PRIMARY KEY (run, name)
);
CREATE TABLE IF NOT EXISTS nodes (
    run TEXT NOT NULL, node TEXT NOT NULL, figures TEXT NOT NULL, digest BLOB, PRIMARY KEY (run, node)
);
CREATE TABLE IF NOT EXISTS serials (run TEXT PRIMARY KEY, serial INTEGER NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS secrets (
    run TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, digest BLOB, PRIMARY KEY (run, name)
);
CREATE TABLE IF NOT EXISTS results (
    run TEXT NOT NULL, round INTEGER NOT NULL, data TEXT NOT NULL, digest BLOB, PRIMARY KEY (run, round)
);
CREATE TABLE IF NOT EXISTS certificates (run TEXT PRIMARY KEY, log TEXT NOT NULL, digest BLOB);
CREATE TABLE IF NOT EXISTS phases (
    run TEXT NOT NULL, at REAL NOT NULL, phase TEXT NOT NULL, round INTEGER NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS times (run TEXT NOT NULL, round INTEGER NOT NULL, began REAL, ended REAL, PRIMARY KEY (run, round));
CREATE TABLE IF NOT EXISTS reports (run TEXT PRIMARY KEY, at REAL NOT NULL, report TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger_heads (node TEXT PRIMARY KEY, head TEXT NOT NULL, digest BLOB);
"""

_PAGE = 500
"""Results read at a time."""

COLUMNS = {
    "runs": ("id", "task", "graph"),
    "events": ("run", "seq", "event"),
    "updates": ("run", "round", "node", "body"),
    "answers": ("run", "round", "attempt", "step", "node", "body"),
    "vectors": ("run", "name", "data"),
    "secrets": ("run", "name", "value"),
    "results": ("run", "round", "data"),
    "nodes": ("run", "node", "figures"),
    "serials": ("run", "serial"),
    "certificates": ("run", "log"),
    "ledger_heads": ("node", "head"),
}
"""Tables whose rows notice damage."""


class Store:
    """A `RunStore` in one file, with the head of the audit log beside it."""

    def __init__(self, path: Path) -> None:
        self.database = open_database(path, _SCHEMA, "gateway")
        self._path = path
        self._rows = Rows(self.database, path, COLUMNS)
        with self.transaction():
            self._rows.seal()
        real = path.resolve()
        self._log = real.with_name(real.name + "-wal")  # where SQLite's commits are until it moves them
        self._flusher = ThreadPoolExecutor(1, "edgeward-flush")
        self.secret(*PSEUDONYM_SECRET)

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[None]:
        if self.database.in_transaction:
            raise nested(str(self._path))
        try:
            if not durable:
                self.database.execute("PRAGMA synchronous=NORMAL")
            self.database.execute("BEGIN IMMEDIATE")
            yield
            self.database.execute("COMMIT")
        except BaseException:  # a signal may end this process at any of these lines
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise
        finally:
            if not durable:
                self.database.execute("PRAGMA synchronous=FULL")

    def flush(self) -> "Future[None]":
        """Begins to put on the disk what was committed until now; meanwhile this thread goes on."""
        return self._flusher.submit(_fsync, self._log)

    def sync(self) -> None:
        """Returns when what was committed until now would survive a loss of power."""
        self.flush().result()

    def find_run(self, run: str) -> Optional[Tuple[Dict[str, Any], bytes]]:
        for _, task, graph in self._rows.get("runs", "id = ?", run):
            return json.loads(task), bytes(graph)
        return None

    def create_run(self, run: str, task: Dict[str, Any], graph: bytes, weights: np.ndarray) -> None:
        with self.transaction():
            if not self._rows.put("runs", run, json.dumps(task), graph, otherwise="IGNORE"):
                raise has_run(run)
            self.put_vector(run, "weights", weights)

    def append(self, run: str, event: Event) -> None:
        newest = self.database.execute("SELECT COALESCE(MAX(seq), 0) FROM events WHERE run = ?", (run,)).fetchone()[0]
        self._rows.put("events", run, newest + 1, json.dumps(event_to_dict(event)))

    def journal(self, run: str) -> List[Event]:
        rows = self._rows.get("events", "run = ?", run, order="seq")
        return [event_from_dict(json.loads(event)) for _, _, event in rows]

    def compact(self, run: str, event: Compacted) -> None:
        """Puts `event` in the place of the whole journal. When its rounds began and ended is kept in `times`."""
        newest = self.database.execute("SELECT MAX(seq) FROM events WHERE run = ?", (run,)).fetchone()[0]
        if newest is None:
            raise lacks_journal(run)
        ended = [(run, e.round, e.at) for e in self.journal(run) if isinstance(e, Aggregated)]
        began = """INSERT OR IGNORE INTO times SELECT run, round, MIN(at), NULL FROM phases
            WHERE run = ? AND phase = 'collecting' GROUP BY round"""
        close = """INSERT INTO times VALUES (?, ?, NULL, ?)
            ON CONFLICT (run, round) DO UPDATE SET ended = COALESCE(ended, excluded.ended)"""
        over = """DELETE FROM phases WHERE run = ?1 AND round < (SELECT MAX(round) FROM phases WHERE run = ?1)
            AND rowid > (SELECT MIN(rowid) FROM phases WHERE run = ?1)"""
        with self.transaction():
            self.database.execute(began, (run,))
            for row in ended:
                self.database.execute(close, row)
            self.database.execute(over, (run,))
            self.database.execute("DELETE FROM events WHERE run = ?", (run,))
            self._rows.put("events", run, newest, json.dumps(event_to_dict(event)))

    def tasks(self) -> List[Tuple[str, str]]:
        return [(run, task) for run, task, _ in self._rows.get("runs")]

    def joined(self, run: str) -> Set[str]:
        return joined_in(self.journal(run))

    def report(self, run: str) -> Optional[Dict[str, Any]]:
        row = self.database.execute("SELECT report FROM reports WHERE run = ?", (run,)).fetchone()
        return json.loads(row[0]) if row else None

    def put_update(self, run: str, round_number: int, node: str, body: bytes) -> None:
        self._rows.put("updates", run, round_number, node, body, otherwise="REPLACE")

    def updates(self, run: str, round_number: int, nodes: Sequence[str]) -> Iterator[Tuple[str, bytes]]:
        for node in nodes:
            found = self._rows.get("updates", "run = ? AND round = ? AND node = ?", run, round_number, node)
            if not found:
                raise lacks_update(node, round_number)
            yield node, bytes(found[0][-1])

    def drop_updates(self, run: str, round_number: int) -> None:
        self.database.execute("DELETE FROM updates WHERE run = ? AND round <= ?", (run, round_number))

    def put_answer(self, run: str, round_number: int, attempt: int, step: str, node: str, body: bytes) -> None:
        self._rows.put("answers", run, round_number, attempt, step, node, body, otherwise="REPLACE")

    def answers(self, run: str, round_number: int, attempt: int, step: str) -> Iterator[Tuple[str, bytes]]:
        key = (run, round_number, attempt, step)
        for node in self.answerers(*key):
            body = self.answer(*key, node)
            assert body is not None
            yield node, body

    def answerers(self, run: str, round_number: int, attempt: int, step: str) -> List[str]:
        query = "SELECT node FROM answers WHERE run = ? AND round = ? AND attempt = ? AND step = ? ORDER BY node"
        return [row[0] for row in self.database.execute(query, (run, round_number, attempt, step)).fetchall()]

    def answer(self, run: str, round_number: int, attempt: int, step: str, node: str) -> Optional[bytes]:
        where = "run = ? AND round = ? AND attempt = ? AND step = ? AND node = ?"
        found = self._rows.get("answers", where, run, round_number, attempt, step, node)
        return bytes(found[0][-1]) if found else None

    def keep_answers(self, run: str, round_number: int, attempt: int, step: str, nodes: Sequence[str]) -> None:
        with self.transaction(durable=False):
            for node in set(self.answerers(run, round_number, attempt, step)) - set(nodes):
                key = (run, round_number, attempt, step, node)
                self.database.execute(
                    "DELETE FROM answers WHERE run = ? AND round = ? AND attempt = ? AND step = ? AND node = ?", key
                )

    def drop_answers(self, run: str, round_number: int) -> None:
        self.database.execute("DELETE FROM answers WHERE run = ? AND round <= ?", (run, round_number))

    def put_vector(self, run: str, name: str, vector: np.ndarray) -> None:
        data = np.ascontiguousarray(vector, vector_dtype(name)).tobytes()
        self._rows.put("vectors", run, name, data, otherwise="REPLACE")

    def vector(self, run: str, name: str) -> Optional[np.ndarray]:
        found = self._rows.get("vectors", "run = ? AND name = ?", run, name)
        return np.frombuffer(found[0][-1], vector_dtype(name)) if found else None

    def vectors(self, run: str, prefix: str) -> Dict[str, np.ndarray]:
        rows = self._rows.get("vectors", "run = ? AND substr(name, 1, ?) = ?", run, len(prefix), prefix)
        return {name: np.frombuffer(data, vector_dtype(name)) for _, name, data in rows}

    def put_result(self, run: str, round_number: int, result: Dict[str, Any]) -> None:
        self._rows.put("results", run, round_number, json.dumps(result), otherwise="REPLACE")

    def add_to_result(self, run: str, round_number: int, figures: Dict[str, Any]) -> None:
        found = self._rows.get("results", "run = ? AND round = ?", run, round_number)
        if not found:
            raise lacks_result(round_number)
        self.put_result(run, round_number, {**json.loads(found[0][-1]), **figures})

    def secret(self, run: str, name: str) -> bytes:
        self._rows.put("secrets", run, name, secrets.token_bytes(32), otherwise="IGNORE")
        return bytes(self._rows.get("secrets", "run = ? AND name = ?", run, name)[0][-1])

    def serial(self, run: str) -> int:
        with self.transaction():
            newest = max([int(serial) for _, serial in self._rows.get("serials")], default=0)
            self._rows.put("serials", run, max(int(time.time() * 1000), newest + 1), otherwise="IGNORE")
        return int(self._rows.get("serials", "run = ?", run)[0][1])

    def keep_certificates(self, run: str, entries: List[Dict[str, Any]]) -> None:
        if not self.journal(run):
            with self.transaction():
                self._rows.put("certificates", run, json.dumps(entries), otherwise="IGNORE")

    def certificates(self, run: str) -> List[Dict[str, Any]]:
        found = self._rows.get("certificates", "run = ?", run)
        return list(json.loads(found[0][1])) if found else []

    def audit(self, path: Path) -> AuditLog:
        """The audit log in `path`, whose head is kept in this store."""
        return AuditLog(path, self.database)

    def results(self, run: str) -> List[Dict[str, Any]]:
        return list(self.each_result(run))

    def each_result(self, run: str, first: int = FIRST_ROUND) -> Iterator[Dict[str, Any]]:
        found: List[Tuple[Any, ...]] = []
        while len(found) in (0, _PAGE):
            first = found[-1][1] + 1 if found else first
            found = self._rows.get("results", "run = ? AND round >= ?", run, first, order=f"round LIMIT {_PAGE}")
            yield from (json.loads(data) for _, _, data in found)
            if not found:
                return

    def newest_round(self, run: str) -> int:
        return int(
            self.database.execute("SELECT COALESCE(MAX(round), -1) FROM results WHERE run = ?", (run,)).fetchone()[0]
        )

    def put_phase(self, run: str, at: float, phase: str, round_number: int, reason: str) -> None:
        with self.transaction(durable=False):
            self.database.execute("INSERT INTO phases VALUES (?, ?, ?, ?, ?)", (run, at, phase, round_number, reason))

    def put_report(self, run: str, at: float, report: Dict[str, Any]) -> None:
        row = (run, at, json.dumps(kept_of(report)))
        self.database.execute("INSERT OR REPLACE INTO reports VALUES (?, ?, ?)", row)

    def ledger_head(self, node: str) -> Optional[Dict[str, Any]]:
        found = self._rows.get("ledger_heads", "node = ?", node)
        return json.loads(found[0][1]) if found else None

    def put_ledger_head(self, node: str, head: Dict[str, Any]) -> None:
        self._rows.put("ledger_heads", node, json.dumps(head), otherwise="REPLACE")

    def put_node(self, run: str, node: str, figures: Dict[str, Any]) -> None:
        self._rows.put("nodes", run, node, json.dumps(figures), otherwise="REPLACE")

    def nodes(self, run: str) -> Dict[str, Dict[str, Any]]:
        return {node: json.loads(figures) for _, node, figures in self._rows.get("nodes", "run = ?", run, order="node")}

    def close(self) -> None:
        self._flusher.shutdown()
        self.database.close()


def _fsync(path: Path) -> None:
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror or error}: look at that disk, then give the same command again"
        ) from error
