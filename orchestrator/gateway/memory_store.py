"""A gateway's store in the memory of this process: for simulations and tests, which nobody continues in another process.

It keeps what `store.py` puts into its rows, as the same text and bytes. What only readers of the file ask for (phases, times of
rounds) has nobody here to read it, and is not kept.
"""

import json
import secrets
import time
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from orchestrator.gateway.run_store import (
    has_run,
    joined_in,
    kept_of,
    lacks_journal,
    lacks_result,
    lacks_update,
    nested,
    vector_dtype,
)
from orchestrator.rounds.events import Compacted, Event, event_from_dict, event_to_dict
from orchestrator.rounds.stages import FIRST_ROUND

Key = Tuple[Any, ...]

_NAME = "the store in memory"


class MemoryStore:
    """Of one gateway after another in this process; a `RunStore`. Its content is there as long as it is."""

    def __init__(self) -> None:
        self._tables: Dict[str, Dict[Key, Any]] = {}
        self._before: Optional[Dict[str, Dict[Key, Any]]] = None  # tables, as they were when the open transaction began

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[None]:
        if self._before is not None:
            raise nested(_NAME)
        self._before = {}
        try:
            yield
        except BaseException:
            self._tables.update(self._before)
            raise
        finally:
            self._before = None

    def flush(self) -> "Future[None]":
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def sync(self) -> None:
        """Nothing here outlives the process."""

    def find_run(self, run: str) -> Optional[Tuple[Dict[str, Any], bytes]]:
        found = self._table("runs").get((run,))
        return (json.loads(found[0]), found[1]) if found else None

    def create_run(self, run: str, task: Dict[str, Any], graph: bytes, weights: np.ndarray) -> None:
        with self.transaction():
            if (run,) in self._table("runs"):
                raise has_run(run)
            self._put("runs", (run,), (json.dumps(task), bytes(graph)))
            self.put_vector(run, "weights", weights)

    def tasks(self) -> List[Tuple[str, str]]:
        return [(run, task) for (run,), (task, _) in self._table("runs").items()]

    def append(self, run: str, event: Event) -> None:
        before: Tuple[str, ...] = self._table("events").get((run,), ())
        self._put("events", (run,), (*before, json.dumps(event_to_dict(event))))

    def journal(self, run: str) -> List[Event]:
        return [event_from_dict(json.loads(text)) for text in self._table("events").get((run,), ())]

    def compact(self, run: str, event: Compacted) -> None:
        with self.transaction():
            if (run,) not in self._table("events"):
                raise lacks_journal(run)
            self._put("events", (run,), (json.dumps(event_to_dict(event)),))

    def joined(self, run: str) -> Set[str]:
        return joined_in(self.journal(run))

    def put_update(self, run: str, round_number: int, node: str, body: bytes) -> None:
        self._put("updates", (run, round_number, node), bytes(body))

    def updates(self, run: str, round_number: int, nodes: Sequence[str]) -> Iterator[Tuple[str, bytes]]:
        for node in nodes:
            found = self._table("updates").get((run, round_number, node))
            if found is None:
                raise lacks_update(node, round_number)
            yield node, found

    def drop_updates(self, run: str, round_number: int) -> None:
        self._drop("updates", [key for key in self._table("updates") if key[0] == run and key[1] <= round_number])

    def put_answer(self, run: str, round_number: int, attempt: int, step: str, node: str, body: bytes) -> None:
        self._put("answers", (run, round_number, attempt, step, node), bytes(body))

    def answers(self, run: str, round_number: int, attempt: int, step: str) -> Iterator[Tuple[str, bytes]]:
        for node in self.answerers(run, round_number, attempt, step):
            yield node, self._table("answers")[(run, round_number, attempt, step, node)]

    def answerers(self, run: str, round_number: int, attempt: int, step: str) -> List[str]:
        of_step = (run, round_number, attempt, step)
        return sorted(node for *key, node in self._table("answers") if tuple(key) == of_step)

    def answer(self, run: str, round_number: int, attempt: int, step: str, node: str) -> Optional[bytes]:
        return self._table("answers").get((run, round_number, attempt, step, node))

    def keep_answers(self, run: str, round_number: int, attempt: int, step: str, nodes: Sequence[str]) -> None:
        with self.transaction(durable=False):
            of_step = (run, round_number, attempt, step)
            self._drop("answers", [(*of_step, node) for node in self.answerers(*of_step) if node not in nodes])

    def drop_answers(self, run: str, round_number: int) -> None:
        self._drop("answers", [key for key in self._table("answers") if key[0] == run and key[1] <= round_number])

    def put_vector(self, run: str, name: str, vector: np.ndarray) -> None:
        self._put("vectors", (run, name), np.ascontiguousarray(vector, vector_dtype(name)).tobytes())

    def vector(self, run: str, name: str) -> Optional[np.ndarray]:
        found = self._table("vectors").get((run, name))
        return None if found is None else np.frombuffer(found, vector_dtype(name))

    def vectors(self, run: str, prefix: str) -> Dict[str, np.ndarray]:
        found = {name: data for (of, name), data in self._table("vectors").items() if of == run}
        return {
            name: np.frombuffer(data, vector_dtype(name)) for name, data in found.items() if name.startswith(prefix)
        }

    def put_result(self, run: str, round_number: int, result: Dict[str, Any]) -> None:
        self._put("results", (run, round_number), json.dumps(result))

    def add_to_result(self, run: str, round_number: int, figures: Dict[str, Any]) -> None:
        found = self._table("results").get((run, round_number))
        if found is None:
            raise lacks_result(round_number)
        self.put_result(run, round_number, {**json.loads(found), **figures})

    def results(self, run: str) -> List[Dict[str, Any]]:
        return list(self.each_result(run))

    def each_result(self, run: str, first: int = FIRST_ROUND) -> Iterator[Dict[str, Any]]:
        for number in sorted(number for of, number in self._table("results") if of == run and number >= first):
            yield json.loads(self._table("results")[(run, number)])

    def newest_round(self, run: str) -> int:
        return max((number for of, number in self._table("results") if of == run), default=-1)

    def secret(self, run: str, name: str) -> bytes:
        self._put_once("secrets", (run, name), secrets.token_bytes(32))
        return bytes(self._table("secrets")[(run, name)])

    def serial(self, run: str) -> int:
        with self.transaction():
            newest = max(self._table("serials").values(), default=0)
            self._put_once("serials", (run,), max(int(time.time() * 1000), newest + 1))
        return int(self._table("serials")[(run,)])

    def keep_certificates(self, run: str, entries: List[Dict[str, Any]]) -> None:
        if not self.journal(run):
            with self.transaction():
                self._put_once("certificates", (run,), json.dumps(entries))

    def certificates(self, run: str) -> List[Dict[str, Any]]:
        return list(json.loads(self._table("certificates").get((run,), "[]")))

    def put_phase(self, run: str, at: float, phase: str, round_number: int, reason: str) -> None:
        if self._before is not None:
            raise nested(_NAME)
        # Nobody reads this store but its gateway, which goes by the journal.

    def put_report(self, run: str, at: float, report: Dict[str, Any]) -> None:
        self._put("reports", (run,), json.dumps(kept_of(report)))

    def report(self, run: str) -> Optional[Dict[str, Any]]:
        found = self._table("reports").get((run,))
        return None if found is None else json.loads(found)

    def put_ledger_head(self, node: str, head: Dict[str, Any]) -> None:
        self._put("ledger_heads", (node,), json.dumps(head))

    def ledger_head(self, node: str) -> Optional[Dict[str, Any]]:
        found = self._table("ledger_heads").get((node,))
        return None if found is None else json.loads(found)

    def put_node(self, run: str, node: str, figures: Dict[str, Any]) -> None:
        self._put("nodes", (run, node), json.dumps(figures))

    def nodes(self, run: str) -> Dict[str, Dict[str, Any]]:
        table = self._table("nodes")
        return {node: json.loads(table[(of, node)]) for of, node in sorted(table) if of == run}

    def close(self) -> None:
        """What it holds stays, for the next gateway of this process."""

    # Rows: whatever is in a table cannot be changed, only replaced

    def _table(self, name: str) -> Mapping[Key, Any]:
        return self._tables.get(name, {})

    def _put(self, table: str, key: Key, value: Any) -> None:
        """As the newest row of the table."""
        rows = self._writable(table)
        rows.pop(key, None)
        rows[key] = value

    def _put_once(self, table: str, key: Key, value: Any) -> None:
        if key not in self._table(table):
            self._put(table, key, value)

    def _drop(self, table: str, keys: Sequence[Key]) -> None:
        rows = self._writable(table)
        for key in keys:
            del rows[key]

    def _writable(self, table: str) -> Dict[Key, Any]:
        rows = self._tables.setdefault(table, {})
        if self._before is not None and table not in self._before:
            self._before[table] = dict(rows)
        return rows
