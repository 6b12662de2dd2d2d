"""Many node agents in one process, each with a real MQTT connection of its own and none with a thread.

python benchmarks/swarm.py BROKER FEDERATION COUNT FOLDER NUMBER

The agents are the product's; only what drives their sockets is different, because a thousand of them share two cores here.
"""

import selectors
import sys
import time
from pathlib import Path
from typing import List

import numpy as np

import orchestrator.node.session as session_module
from orchestrator.data.dataset import Dataset
from orchestrator.node.agent import NodeAgent
from orchestrator.wire.link import KEEPALIVE_S, BrokerAddress, Link
from orchestrator.wire.process import peak_memory_mib
from orchestrator.wire.task import Task


class NoTraining:
    """Random updates: they do not compress better than real ones."""

    def __init__(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> None:
        self._random = np.random.default_rng()

    def train(self, weights: np.ndarray, round_number: int) -> np.ndarray:
        return self._random.normal(0, 1e-3, weights.size).astype(np.float32)


class SelectedLink(Link):
    """A link whose socket somebody else watches."""

    def open(self, timeout_s: float) -> None:
        self._client.connect(self.address.host, self.address.port, keepalive=KEEPALIVE_S * 6)

    def flush(self, timeout_s: float) -> bool:
        return True  # nobody reads the broker's acknowledgements while this waits

    @property
    def client(self) -> "object":
        return self._client


class DrivenAgent(NodeAgent):
    """An agent that does its next piece of work when told to."""

    def connect(self) -> None:
        self.link.open(30.0)

    def work(self) -> None:
        while not self.link.events.empty():
            self._handle(self.link.events.get())
        self._answer_newest_round()

    def remind(self) -> None:
        self._publish(self.outbox.due(time.monotonic()))

    @property
    def stopped(self) -> bool:
        return self.stopping


def drive(agents: List[DrivenAgent]) -> None:
    """Until every agent has seen its run end."""
    selector = selectors.DefaultSelector()
    for agent in agents:
        agent.connect()
        selector.register(agent.link.client.socket(), selectors.EVENT_READ, agent)  # type: ignore[attr-defined]
    reminded = time.monotonic()
    while any(not agent.stopped for agent in agents):
        for key, _ in selector.select(0.2):
            agent = key.data
            agent.link.client.loop_read()
            agent.work()
        for agent in agents:
            if agent.link.client.want_write():  # type: ignore[attr-defined]
                agent.link.client.loop_write()  # type: ignore[attr-defined]
        if time.monotonic() - reminded > 2.0:
            reminded = time.monotonic()
            for agent in agents:
                agent.remind()
                agent.link.client.loop_misc()  # type: ignore[attr-defined]


def main() -> None:
    broker, federation, count, folder, number = sys.argv[1:]
    session_module.Link = SelectedLink  # type: ignore[misc]
    data = Path(folder, "data.csv")
    data.write_text("x,y\n0.5,1\n")
    address = BrokerAddress.parse(broker)
    agents = [
        DrivenAgent(address, federation, f"node-{number}-{i:04}", data, Path(folder, f"{i:04}"), NoTraining, once=True)
        for i in range(int(count))
    ]
    drive(agents)
    print(f"{peak_memory_mib():.1f}", flush=True)


if __name__ == "__main__":
    main()
