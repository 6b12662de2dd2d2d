"""Tasks with damaged training graphs, put before a live node: its word on each, and what its processes took meanwhile.

A graph the node takes is run, too: on training rows in the answer to a round, and on those held out. Declarations are two, of a
task about records and of one without privacy, so that every signature is run and a day's limit on declarations is not reached.
"""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set

import numpy as np
from inside import make_schema, make_task
from malicious import Attack

from orchestrator.errors import GraphError
from orchestrator.node.graph_check import check_graph
from orchestrator.wire.process import resident_memory_mib
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature
from orchestrator.wire.task import Evaluation, Task, task_to_dict
from orchestrator.wire.training import Training

CHILD = "graph_child.py"

AGAIN_S = 1.5
"""Of several refusals in a second a node says one: a round without a word is announced again after this."""


class Word(NamedTuple):
    """What a node said. verdict: of the task, "ready" or a code; answer: of its round, "update", a code, or "" without one."""

    verdict: str
    answer: str


def declarations(features: int, classes: int = 2) -> List[Dict[str, Any]]:
    """A task about records and one without privacy, both with an evaluation, of graphs of any size."""
    names = tuple(str(i) for i in range(classes))
    schema = make_schema(
        patient="",
        features=tuple(Feature(f"x{i}", -1.0, 1.0) for i in range(features)),
        classes=names,
        label_values={name: int(name) for name in names},
    )
    strong: Dict[str, Any] = {name: 5.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    about_records = Privacy(unit="record", epsilon=50.0, delta=1e-3, sampling_rate=0.5, **strong)
    task = make_task(
        schema,
        training=Training("fedsgd", rounds=1, learning_rate=1.0),
        privacy=about_records,
        evaluation=Evaluation(share=0.3, bins=2),
    )
    without: Task = replace(task, privacy=Privacy(unit="none"))
    return [task_to_dict(task), task_to_dict(without)]


def table(features: int, rows: int = 40, classes: int = 2) -> List[List[object]]:
    """Rows of a data file for them."""
    rng = np.random.default_rng(0)
    return [[*np.round(rng.uniform(-0.5, 0.5, features), 3), i % classes] for i in range(rows)]


def put_before(attack: Attack, run: str, declared: Dict[str, Any], graph: bytes) -> Word:
    """Offers a task with this graph, and has it run where the node takes it. AssertionError when the node dies."""
    word = offered(attack, run, declared, graph)
    return word if word.verdict != "ready" else word._replace(answer=answer(attack, run, graph))


def offered(attack: Attack, run: str, declared: Dict[str, Any], graph: bytes) -> Word:
    """Offers a task with this graph and leaves it at that."""
    gateway, node = attack
    for kept in (gateway.presences, gateway.transfers, gateway.payloads):
        kept.clear()
    verdict = gateway.offer(node.name, run, declared, graph)
    return Word("ready" if verdict["kind"] == "ready" else str(verdict.get("code", verdict["kind"])), "")


def answer(attack: Attack, run: str, graph: bytes) -> str:
    """The node's word on round 1: "update", or the code it refused it with."""
    gateway, node = attack
    checked = check_graph(graph)
    weights = np.random.default_rng(0).standard_normal(checked.parameters).astype(np.float32)
    zero = np.zeros(checked.input_shape, np.float32)
    presences, again = len(gateway.presences), [0.0, 0]

    def word() -> Optional[str]:
        if time.monotonic() >= again[0]:
            header = {"kind": "round", "run": run, "round": 1, "again": again[1]}
            gateway.send(node.name, header, {"weights": weights, "mean": zero, "std": zero + 1})
            again[:] = [time.monotonic() + AGAIN_S, int(again[1]) + 1]
        if any(t.header.get("run") == run for t in gateway.transfers):
            return "update"
        refused = [p for p in gateway.presences[presences:] if p["kind"] == "refused"]
        return str(refused[0]["code"]) if refused else None

    return gateway.until(word, f"{node.name} answers round 1 of {run}", node.name)


def computes(graph: bytes) -> str:
    """Digest of what a graph computes; "" where the allow-list refuses it."""
    try:
        return check_graph(graph).digest()
    except GraphError:
        return ""


class Watch(threading.Thread):
    """Samples a node and its processes for graphs. peak_mib: of their resident memory together; longest_s: the life of one."""

    def __init__(self, pid: int, every_s: float = 0.02) -> None:
        super().__init__(daemon=True)
        self.peak_mib = self.longest_s = 0.0
        self.children = self.most = 0
        """How many there were, and at once."""
        self._pid, self._every_s = pid, every_s
        self._born: Dict[int, float] = {}
        self._over = threading.Event()

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(self._every_s):
            now, there = time.monotonic(), self._there()
            for pid in there - set(self._born):
                self._born[pid] = now
                self.children += 1
            for pid in set(self._born) - there:
                del self._born[pid]
            self.longest_s = max([self.longest_s, *(now - born for born in self._born.values())])
            self.most = max(self.most, len(there))
            pids = (self._pid, *there)
            self.peak_mib = max(self.peak_mib, sum(resident_memory_mib(str(pid)) for pid in pids))

    def _there(self) -> Set[int]:
        try:
            listed = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text()
        except OSError:
            return set()
        return {int(pid) for pid in listed.split() if _runs_graphs(pid)}


def _runs_graphs(pid: str) -> bool:
    """False for a child that is still a copy of the node, whose memory is the node's."""
    try:
        return CHILD.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
