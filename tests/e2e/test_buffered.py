"""Buffered asynchronous rounds beside synchronous ones, with one straggler: real processes, real broker."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from harness import HERE, make_task
from learning_node import D, records

from orchestrator.errors import EdgewardError
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.wire.task import task_to_dict

TARGET = 0.93
FAST_S, STRAGGLER = 0.1, 10


def seconds_to_target(folder: Path, strategy: str) -> float:
    """Wall time from the first round to TARGET accuracy with 4 nodes, one of them 10 times slower."""
    task = make_task(rounds=60, statistics=False, nodes=4, quorum=3 if strategy == "fedbuff" else 4)
    task = replace(task, training=replace(task.training, strategy=strategy, server_learning_rate=5.0))
    x, y = records(99, 2000)
    times: Dict[str, float] = {}

    class ReachedError(Exception):
        pass

    def evaluate(weights: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Dict[str, Any]:
        return {"accuracy": float(((x @ weights > 0) == (y > 0)).mean())}

    def progress(event: Dict[str, Any]) -> None:
        if event["event"] == "round":
            times.setdefault("start", time.monotonic())
        if event["event"] == "aggregated" and event["accuracy"] >= TARGET:
            times["end"] = time.monotonic()
            raise ReachedError

    processes: List[subprocess.Popen[bytes]] = []
    with OwnBroker("embedded") as broker:
        try:
            for i in range(4):
                delay = FAST_S * (STRAGGLER if i == 3 else 1)
                arguments = [str(broker.address), f"n{i}", str(folder / f"n{i}"), str(i), str(delay)]
                processes.append(subprocess.Popen([sys.executable, str(HERE / "learning_node.py"), *arguments]))
            store = Store(folder / "gateway.sqlite")
            store.create_run("run", task_to_dict(task), b"graph", np.zeros(D, np.float32))
            with pytest.raises(ReachedError):
                Gateway(store, "run", "test", broker.address, evaluate=evaluate, progress=progress).run()
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return times["end"] - times["start"]


def test_with_a_straggler_buffered_rounds_reach_the_target_in_half_the_time(tmp_path: Path) -> None:
    synchronous = seconds_to_target(tmp_path / "synchronous", "fedavg")
    buffered = seconds_to_target(tmp_path / "buffered", "fedbuff")
    print(f"to accuracy {TARGET}: synchronous {synchronous:.1f} s, buffered {buffered:.1f} s")
    assert buffered <= 0.5 * synchronous


def test_what_fedbuff_cannot_do_is_refused_at_start(tmp_path: Path) -> None:
    task = make_task(statistics=False)
    task = replace(
        task,
        training=replace(task.training, strategy="fedbuff"),
        selection=replace(task.selection, sampling_rate=0.5),
    )
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(task), b"graph", np.zeros(D, np.float32))
    with pytest.raises(EdgewardError, match="not a Poisson sample"):
        Gateway(store, "run", "test", OwnBroker("embedded").address)
