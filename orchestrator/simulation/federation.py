"""`edgeward simulate`: a task's whole run with its nodes in this process, before it is brought to hospitals.

Gateway, nodes and key holder are the classes that run apart, with their stores, ledgers, checks, masks and noise. What is
missing is what lies between them: broker, network, TLS, identities. So nothing here is protected from anybody, and results
say that they are simulated.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Type

import numpy as np

from orchestrator.errors import RoundError, UsageError
from orchestrator.gateway.federation import run_federation
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.run import RunResult, open_run
from orchestrator.gateway.run_store import RunStore
from orchestrator.gateway.settings import Config
from orchestrator.gateway.simulated import check_apart
from orchestrator.node.agent import NodeAgent
from orchestrator.node.key_holder import KeyHolderAgent
from orchestrator.node.member import Member
from orchestrator.node.policy import WITHIN
from orchestrator.node.run import TrainerFactory
from orchestrator.node.trainer import GradientTrainer
from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.state import GATHERING
from orchestrator.simulation.turns import Party, take_turns
from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.plain import many
from orchestrator.wire.post import Post
from orchestrator.wire.task import Task
from orchestrator.wire.topics import check_name

NODES = "nodes"
"""Folder below OUT with the nodes' own: stores and ledgers, so that a simulation that was cut off goes on as a run does."""


class SimulatedNodes:
    """Nodes of one task, from `with` to its end. Each has its folder below `folder`, as on machines of their own; without one
    these are gone at the end.
    """

    def __init__(
        self,
        task: Task,
        federation: str,
        data: Mapping[str, Path],
        folder: Optional[Path] = None,
        trainer: TrainerFactory = GradientTrainer,
        clock: Clock = SYSTEM,
    ) -> None:
        """data: node -> what `edgeward node run --data` is given. clock: all parties', for instance a `TurnedClock`."""
        self.broker = Post(clock)
        self.agents: Dict[str, Member] = {}
        self._task, self._federation, self._data, self._given = task, federation, dict(data), folder
        self._trainer = trainer
        self._folder = Path()
        self._open_things = ExitStack()

    def __enter__(self) -> "SimulatedNodes":
        with ExitStack() as stack:
            self._folder = self._given or Path(stack.enter_context(TemporaryDirectory(prefix="edgeward-nodes-")))
            holder = self._task.aggregation.key_holder
            if holder:
                self._add(
                    stack, holder, KeyHolderAgent(self.broker, self._federation, holder, self._state(holder), once=True)
                )
            for name, path in sorted(self._data.items()):
                at = (self.broker, self._federation, name, path, self._state(name))
                self._add(stack, name, NodeAgent(*at, self._trainer, once=True, otherwise=WITHIN))
            self._open_things = stack.pop_all()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._open_things.__exit__(kind, error, trace)

    def serve(self, gateway: Gateway) -> None:
        """Runs the gateway, and these nodes, until it is over. RoundError where too few take part: no others will come."""
        parties: List[Party] = [gateway, *self.agents.values()]
        take_turns(parties, lambda: gateway.over or self._in_vain(gateway.coordinator), self.broker.clock)

    def run(
        self, store: RunStore, run: str, graph: bytes, weights: np.ndarray, progress: Progress = lambda event: None
    ) -> RunResult:
        """Runs (or continues) the task with a gateway whose runs are in `store`; RoundError where it stops before its end.

        weights: float32 (P,), the first ones. With a `MemoryStore` the gateway writes nothing to any disk.
        """
        task, _ = open_run(store, run, self._task, graph, weights)
        if task != self._task:
            raise UsageError(f"run {run} is stored with other settings than these nodes have: give it another name")
        gateway = Gateway(store, run, self._federation, self.broker, progress=progress)
        gateway.begin()
        try:
            self.serve(gateway)
        finally:
            gateway.close()
        return gateway.result()

    def _in_vain(self, coordinator: Coordinator) -> bool:
        left = set(self._data) - set(coordinator.declined)
        if coordinator.phase == GATHERING and len(left) < self._task.rounds.least_nodes:
            declined = "; ".join(f"{node}: {reason}" for node, reason in sorted(coordinator.declined.items()))
            raise RoundError(f"{len(left)} of {len(self._data)} nodes take part, too few for the task ({declined})")
        return False

    def cut(self, name: str) -> None:
        """Ends a node's connection as a crash would, for good; BrokerError where it has none."""
        self.broker.cut(self.agents[name].link.client_id)

    def _add(self, stack: ExitStack, name: str, agent: Member) -> None:
        stack.callback(agent.close)
        agent.begin()
        self.agents[name] = agent

    def _state(self, name: str) -> Path:
        state = self._folder / check_name(name, "node")
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return state


def simulate(config: Config, base: Path, data: Mapping[str, Path], out: Path, progress: Progress) -> Dict[str, Any]:
    """Runs (or continues) the federation of `config` with a node for each of `data` (name -> file), all in this process.

    Returns what it also writes to OUT/result.json, as `run_federation` does. UsageError for what cannot be simulated.
    """
    task = config.task
    wanted = task.rounds.least_nodes
    if len(data) < wanted:
        raise UsageError(
            f"the task needs {many(wanted, 'node')} and data of {len(data)} are named: name one file a node"
        )
    if task.aggregation.key_holder in data:
        raise UsageError(f"{task.aggregation.key_holder!r} is the task's key holder, and has no data")
    if config.gateway.sites:
        strangers = sorted(set(data) - set(config.gateway.sites))
        if strangers:
            raise UsageError(f"not among the sites of edgeward.toml: {', '.join(strangers)}")
    check_apart(out, True)  # before nodes have folders there
    gateway = replace(config.gateway, identity="", dashboard="")
    alone = replace(config, gateway=gateway)
    with SimulatedNodes(task, gateway.federation, data, out / NODES) as nodes:
        return run_federation(alone, base, out, progress, simulated=nodes)
