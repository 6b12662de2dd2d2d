"""A node that trains nothing: it answers every round with random noise. Measures what coordination alone costs.

python benchmarks/no_training_node.py BROKER FEDERATION NAME DATA STATE
"""

import sys
from pathlib import Path
from typing import Optional

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.errors import UsageError
from orchestrator.node.agent import NodeAgent
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.task import Task


class NoTraining:
    """Random updates: they do not compress better than real ones."""

    def __init__(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> None:
        self._random = np.random.default_rng()

    def train(self, weights: np.ndarray, round_number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        return np.float32(1e-3) * self._random.standard_normal(weights.size, np.float32)

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        raise UsageError("this node answers tasks without noise in shares only")


def main() -> None:
    broker, federation, name, data, state = sys.argv[1:]
    NodeAgent(BrokerAddress.parse(broker), federation, name, Path(data), Path(state), NoTraining, once=True).run()


if __name__ == "__main__":
    main()
