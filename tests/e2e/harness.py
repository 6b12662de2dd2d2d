"""Real processes for the fault tests: a broker, nodes with predictable updates, a gateway that can be killed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for those who run this folder's files as programs

from fixed_node import fixed_update
from graph_samples import softmax_regression

from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.store import Store
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

HERE = Path(__file__).parent
BROKER_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
SIZE = 50
GRAPH = softmax_regression(1, 2)
"""Of the task's data. Nodes of fixed updates do not run it; those of the command line want one they could."""
RECORDS = {"a": 10, "b": 20, "c": 30, "d": 25, "e": 15}


def make_task(rounds: int = 2, statistics: bool = True, **rule: Any) -> Task:
    schema = Schema(
        "table",
        "y",
        ("no", "yes"),
        {"0": 0, "1": 1},
        features=(Feature("x", 0, 1),),
        standardization="federated" if statistics else "range",
    )
    rules = Rounds(**{"nodes": 3, "quorum": 2, "deadline_s": 60.0, **rule})
    return Task(
        "test",
        schema,
        {"kind": "mlp", "hidden": []},
        Training(rounds=rounds),
        Privacy(unit="none"),
        rules,
        codec="float32",
    )


def expected_weights(cohorts: Sequence[Sequence[str]], stated: Optional[Dict[str, int]] = None) -> np.ndarray:
    """Weights after one FedAvg round a cohort, from zero; the records are RECORDS, or as the nodes stated them."""
    records = RECORDS if stated is None else stated
    weights = np.zeros(SIZE, np.float32)
    for number, nodes in enumerate(cohorts, 1):
        total = sum(records[n] * fixed_update(n, number, SIZE).astype(np.float64) for n in sorted(nodes))
        weights = (weights + total / sum(records[n] for n in nodes)).astype(np.float32)
    return weights


class Harness:
    """One broker, one store; start and kill nodes and gateways at will. Everything ends with `close`."""

    def __init__(self, folder: Path, task: Task, size: int = SIZE) -> None:
        self.folder = folder
        self.broker = OwnBroker("mosquitto" if shutil.which("mosquitto", path=BROKER_PATH) else "embedded")
        self.broker.start()
        self.store_path = folder / "gateway.sqlite"
        store = Store(self.store_path)
        store.create_run("run", task_to_dict(task), GRAPH, np.zeros(size, np.float32))
        store.close()
        self.processes: List[subprocess.Popen[Any]] = []

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.broker.close()

    def node(self, name: str, delay_s: float = 0.0) -> "subprocess.Popen[str]":
        return self.start_script("fixed_node.py", [*self.node_arguments(name), str(delay_s)])

    def forgetful_node(self, name: str) -> "subprocess.Popen[str]":
        """Forgets the weights it has after every round."""
        return self.start_script("forgetful_node.py", [*self.node_arguments(name), "0"])

    def dropping_node(self, name: str, number: int, step: str, when: str = "before") -> "subprocess.Popen[str]":
        """Killed around its answer to one step of a secure round."""
        return self.start_script("dropping_node.py", [*self.node_arguments(name), str(number), step, when])

    def many_nodes(self, names: Sequence[str]) -> "subprocess.Popen[str]":
        """In one process."""
        for name in names:
            self.node_arguments(name)
        return self.start_script("many_nodes.py", [str(self.broker.address), str(self.folder), *names])

    def key_holder(self, name: str, *death: object) -> "subprocess.Popen[str]":
        """`death`: round, step, before|after."""
        arguments = [str(self.broker.address), name, str(self.folder / name), *map(str, death)]
        return self.start_script("fixed_key_holder.py", arguments)

    def log(self, name: str) -> str:
        """What the node, key holder or "gateway" of that name wrote for its owner."""
        return (self.folder / f"{name}.log").read_text()

    def node_arguments(self, name: str) -> List[str]:
        data = self.folder / f"{name}.csv"
        data.write_text("x,y\n" + "0.5,1\n" * RECORDS[name])
        return [str(self.broker.address), name, str(data), str(self.folder / name)]

    def gateway(self, *crash: object, run: str = "run") -> "subprocess.Popen[str]":
        arguments = [str(self.store_path), run, str(self.broker.address), *map(str, crash)]
        return self.start_script("crashing_gateway.py", arguments)

    def start_script(self, script: str, arguments: List[str]) -> "subprocess.Popen[str]":
        name = "gateway" if script == "crashing_gateway.py" else Path(arguments[1]).name
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, str(HERE / script), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.processes.append(process)
        return process


def events(process: "subprocess.Popen[str]") -> Iterator[Dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def finish(process: "subprocess.Popen[str]") -> Dict[str, Any]:
    """Runs a gateway to its end; returns its `weights` line."""
    last: Dict[str, Any] = {}
    for event in events(process):
        last = event
    assert process.wait() == 0
    assert last["event"] == "weights"
    return last


def wait_for(process: "subprocess.Popen[str]", kind: str, **fields: Any) -> Dict[str, Any]:
    for event in events(process):
        if event["event"] == kind and all(event[k] == v for k, v in fields.items()):
            return event
    raise AssertionError(f"the gateway ended without {kind} {fields}")
