"""A node whose updates follow from its name and the round, so that a run's exact result can be computed.

python fixed_node.py BROKER NAME DATA STATE DELAY_S
"""

import os
import sys
import time
import zlib
from pathlib import Path
from typing import Optional

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.node.agent import NodeAgent
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.task import Task

ONCE = os.environ.get("FIXED_NODE_ONCE", "yes") == "yes"


def fixed_update(node: str, round_number: int, size: int) -> np.ndarray:
    return np.random.default_rng([zlib.crc32(node.encode()), round_number]).standard_normal(size).astype(np.float32)


HOLD = os.environ.get("FIXED_NODE_HOLD")
"""A file: while it is there the second round, and any later, waits for this node, so that a test has all the time it needs."""


class Fixed:
    delay_s = 0.0

    def __init__(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> None:
        self._node = node

    def train(self, weights: np.ndarray, round_number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        time.sleep(self.delay_s)
        while HOLD and round_number > 1 and os.path.exists(HOLD):
            time.sleep(0.02)
        update = fixed_update(self._node, round_number, weights.size)
        return update if correction is None else update - np.float32(0.05) * correction

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        raise NotImplementedError("its tasks have no distributed noise")


def main() -> None:
    broker, name, data, state, delay = sys.argv[1:]
    Fixed.delay_s = float(delay)
    NodeAgent(BrokerAddress.parse(broker), "test", name, Path(data), Path(state), Fixed, once=ONCE).run(
        float(os.environ.get("FIXED_NODE_CONNECT_S", "30"))
    )


if __name__ == "__main__":
    main()
