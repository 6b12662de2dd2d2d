"""The store of a long federation: many runs, the newest of many nodes and rounds, which goes on round by round when asked."""

import math
import sqlite3
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from orchestrator.gateway.figures import ANSWERS
from orchestrator.gateway.run import plan_of
from orchestrator.gateway.store import Store
from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.events import Aggregated, Arrived, Compacted, Event, Joined, Started
from orchestrator.rounds.members import Members
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

ROUND_S = 6.0
UPDATE_BYTES = 5312
NODES_BEFORE = 4
"""Of each run before the newest."""
MOST_EVENTS = 2000
"""In the journal; with more it is compacted."""
_COPIED = (("runs", "id"), ("events", "run"), ("results", "run"), ("reports", "run"))


def crowd_task(nodes: int, rounds: int, privacy: Privacy) -> Task:
    features = (Feature("age", 0, 110), Feature("lactate", 0, 30), Feature("map", 20, 180))
    schema = Schema("table", "sepsis", ("no", "yes"), {"0": 0, "1": 1}, features)
    rules = Rounds(nodes=nodes, quorum=nodes, deadline_s=300.0)
    return Task("sepsis", schema, {"kind": "mlp", "hidden": [64, 32]}, Training(rounds=rounds), privacy, rules)


def result_of(number: int, names: List[str]) -> Dict[str, Any]:
    """What a gateway keeps of a round; nodes take different times."""
    gain = 1 - math.exp(-number / 400)
    scores = {"accuracy": 0.55 + 0.3 * gain + 0.01 * math.sin(2.3 * number), "auc": 0.52 + 0.4 * gain}
    scores["loss"] = 0.7 - 0.38 * gain + 0.01 * math.cos(1.7 * number)
    took = {name: [round(1.5 + n % 7 + 0.3 * math.sin(number + n), 3), UPDATE_BYTES] for n, name in enumerate(names)}
    kept = {"round": number, "updates": len(names), "nodes": names, "seconds": ROUND_S - 0.4, "codec_error": 0.0041}
    sizes = {"bytes_up": UPDATE_BYTES * len(names), "bytes_down": 2 * UPDATE_BYTES * len(names)}
    return {**kept, **sizes, ANSWERS: took, **(scores if number else {})}


class Course:
    """One run as a gateway would have stored it: the rounds that are done as results, with a compacted journal."""

    def __init__(self, store: Store, run: str, nodes: int, planned: int, privacy: Privacy, done: int) -> None:
        self.run, self.planned = run, planned
        self.names = [f"hospital-{number:02d}-intensive-care" for number in range(nodes)]
        self._store = store
        task = crowd_task(nodes, planned, privacy)
        store.create_run(run, task_to_dict(task), b"graph", np.zeros(5, np.float32))
        self.coordinator = Coordinator(plan_of(task, store.secret(run, "selection")))
        self._members = Members()
        self._at = time.time() - ROUND_S * (done + 1)
        self._note(Started(self._at))
        for number, name in enumerate(self.names):
            self._note(Joined(self._at, name, 200 + number))
        with store.transaction(durable=False):
            for number in range(done + 1):
                for name in self.names:
                    self._note(Arrived(self._at, name, number, "d", 200.0))
                self._at += ROUND_S
                store.put_result(run, number, result_of(number, self.names))
                self._note(Aggregated(self._at, number))
            store.append(run, self._compacted())
        self._journalled = 1

    def _note(self, event: Event) -> None:
        self._members.take(event, self.coordinator)
        self.coordinator.handle(event)

    def _compacted(self) -> Compacted:
        return Compacted(self._at, self.coordinator.snapshot(), self._members.as_dict())

    def happens(self, event: Event) -> None:
        self._store.append(self.run, event)
        self._note(event)
        self._journalled += 1

    def answer(self, many: int) -> None:
        """The next nodes answer the open round, until there are so many."""
        number = self.coordinator.round
        for name in self.names[len(self.coordinator.arrived) : many]:
            self._store.put_update(self.run, number, name, b"x" * UPDATE_BYTES)
            self.happens(Arrived(time.time(), name, number, "d", 200.0))

    def next_round(self, arrived: int) -> int:
        """The open round ends, and of the next one so many updates arrive; returns its number."""
        with self._store.transaction(durable=False):
            self.answer(len(self.names))
            number = self.coordinator.round
            self._store.put_result(self.run, number, result_of(number, self.names))
            self._store.drop_updates(self.run, number)
            self.happens(Aggregated(time.time(), number))
            self.answer(arrived)
        if self._journalled > MOST_EVENTS:
            self._store.compact(self.run, self._compacted())
            self._journalled = 1
        return self.coordinator.round

    def finish(self) -> None:
        last = self.coordinator.round
        self.happens(Aggregated(time.time(), last, True))
        self._store.put_report(self.run, time.time(), {"digest": "5f0e1c2b9d3a4f68", "bundle": "bundle"})


def make_crowd(
    out: Path,
    privacy: Privacy,
    nodes: int = 40,
    rounds: int = 2000,
    runs: int = 62,
    before: int = 100,
    more: int = 1000,
) -> Course:
    """A store of `runs` runs: the newest in round rounds + 1 of rounds + more, those before it finished, of `before` rounds."""
    store = Store(out / "gateway.sqlite")
    first = Course(store, "sepsis-00000001", NODES_BEFORE, before, privacy, before)
    first.finish()
    _copy(out, first.run, [f"sepsis-{number:08x}" for number in range(2, runs)])
    newest = Course(store, f"sepsis-{runs:08x}", nodes, rounds + more, privacy, rounds)
    newest.answer(nodes // 2)
    return newest


def _copy(out: Path, first: str, names: List[str]) -> None:
    with sqlite3.connect(out / "gateway.sqlite") as database:
        for table, key in _COPIED:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != key]
            listed = ", ".join(columns)
            kept = ", ".join(
                "NULL" if column == "digest" else column for column in columns
            )  # a digest is of the key, too
            query = f"INSERT INTO {table} ({key}, {listed}) SELECT ?, {kept} FROM {table} WHERE {key} = ?"
            database.executemany(query, [(name, first) for name in names])
    database.close()
