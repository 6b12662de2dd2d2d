"""SCAFFOLD over MQTT: real broker, real gateway, agents in threads with exact gradients of losses that disagree."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from harness import SIZE, Harness, make_task

from orchestrator.data.dataset import Dataset
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.run_store import STATE_PREFIX
from orchestrator.gateway.store import Store
from orchestrator.node.agent import NodeAgent
from orchestrator.node.store import NodeStore
from orchestrator.rounds.scaffold import PENDING
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Task

RECORDS = {"a": 10, "b": 30}
CURVATURE = {"a": 2.0, "b": 0.5}
CENTRE = {"a": 3.0, "b": -1.0}
STEPS, RATE, ROUNDS = 5, 0.2, 30


class Quadratic:
    def __init__(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> None:
        self._node = node

    def train(self, weights: np.ndarray, number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        w = weights.astype(np.float64)
        for _ in range(STEPS):
            gradient = CURVATURE[self._node] * (w - CENTRE[self._node])
            w -= RATE * (gradient + (0 if correction is None else correction))
        return (w - weights).astype(np.float32)

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        raise NotImplementedError("its tasks have no distributed noise")


@pytest.mark.parametrize("strategy", ["scaffold", "fedavg"])
def test_nodes_that_disagree_over_mqtt(tmp_path: Path, strategy: str) -> None:
    task = make_task(rounds=ROUNDS, statistics=False, nodes=2, quorum=2)
    training = replace(task.training, strategy=strategy, local_steps=STEPS, learning_rate=RATE)
    task = replace(task, training=training, privacy=Privacy(unit="none"), codec="int8")
    with Harness(tmp_path, task) as harness:

        def serve(name: str) -> None:
            folder = tmp_path / name
            NodeAgent(
                harness.broker.address, "test", name, tmp_path / f"{name}.csv", folder, Quadratic, once=True
            ).run()

        threads = [threading.Thread(target=serve, args=(name,), daemon=True) for name in RECORDS]
        for name, records in RECORDS.items():
            (tmp_path / f"{name}.csv").write_text("x,y\n" + "0.5,1\n" * records)
        for thread in threads:
            thread.start()
        store = Store(harness.store_path)
        result = Gateway(store, "run", "test", harness.broker.address).run()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        pull = {n: RECORDS[n] * CURVATURE[n] for n in RECORDS}
        best = sum(pull[n] * CENTRE[n] for n in RECORDS) / sum(pull.values())
        distance = float(np.abs(result.weights - best).max())
        control = store.vectors("run", STATE_PREFIX).get(f"{STATE_PREFIX}control")
    if strategy == "fedavg":
        assert distance > 0.1
        assert control is None
        return
    assert distance < 0.02
    # The last round counted for both, so what they would go on with is what they are left with.
    kept = {n: NodeStore(tmp_path / n / "node.sqlite").kept("run", PENDING) for n in RECORDS}
    assert [k.round for k in kept.values() if k is not None] == [ROUNDS, ROUNDS]
    mean = sum(RECORDS[n] * k.vector for n, k in kept.items() if k is not None) / sum(RECORDS.values())
    assert control is not None
    assert control.shape == (SIZE,)
    np.testing.assert_allclose(control, mean, atol=1e-4)
