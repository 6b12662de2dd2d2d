"""A node that really learns (logistic regression in numpy on records of its own) and takes its time over it.

python learning_node.py BROKER NAME STATE SEED DELAY_S
"""

import sys
import time
from pathlib import Path
from typing import Optional

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.node.agent import NodeAgent
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.task import Task

D = 20


def records(seed: int, count: int) -> "tuple[np.ndarray, np.ndarray]":
    rng = np.random.default_rng([1, seed])
    truth = np.random.default_rng(0).standard_normal(D)
    x = rng.standard_normal((count, D)) * np.linspace(0.2, 2, D)  # some features need many steps
    return x, (x @ truth + 0.2 * rng.standard_normal(count) > 0).astype(float)


class Logistic:
    seed, delay_s = 0, 0.0

    def __init__(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> None:
        self._x, self._y = records(self.seed, dataset.records)

    def train(self, weights: np.ndarray, round_number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        time.sleep(self.delay_s)
        p = 1 / (1 + np.exp(-self._x @ weights))
        return (0.1 * self._x.T @ (self._y - p) / len(p)).astype(np.float32)

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        raise NotImplementedError("its tasks have no distributed noise")


def main() -> None:
    broker, name, state, seed, delay = sys.argv[1:]
    Logistic.seed, Logistic.delay_s = int(seed), float(delay)
    data = Path(state) / f"{name}.csv"
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("x,y\n" + "0.5,1\n" * 200)
    NodeAgent(BrokerAddress.parse(broker), "test", name, data, Path(state), Logistic, once=True).run()


if __name__ == "__main__":
    main()
