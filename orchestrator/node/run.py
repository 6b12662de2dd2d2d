"""A run this node takes part in: its task, graph and data, what is stated of their number, and how long a round's work takes."""

import logging
from contextlib import suppress
from typing import Any, Callable, Dict, Optional, Set, Tuple

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError, GraphError
from orchestrator.node.evaluation import evaluation_work
from orchestrator.node.graph_admission import functions_of
from orchestrator.node.graph_check import check_graph
from orchestrator.node.pace import most_held_out, quantum_s
from orchestrator.node.runtime import TrainingGraph
from orchestrator.node.trainer import GradientTrainer, Trainer, step_work
from orchestrator.privacy.noisy_sum import noised_count
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.task import Task

log = logging.getLogger("edgeward.node")

Tensors = Dict[str, np.ndarray]
TrainerFactory = Callable[[Task, bytes, Dataset, str], Trainer]


class Run:
    """The run this node takes part in: task, graph, data; the trainer once mean and std are known."""

    def __init__(
        self,
        run: str,
        digest: str,
        task: Task,
        graph: bytes,
        dataset: Dataset,
        held_out: Dataset,
        certificates: Optional[int] = None,
    ) -> None:
        """`certificates`: entries of the certificate log that the run goes by (`Peers.see_log`), None where none is kept."""
        self.id = run
        self.digest = digest
        self.task = task
        self.graph = graph
        self.certificates = certificates
        self.dataset = dataset
        self.held_out = held_out  # raw; evaluated on, never trained on
        self.units = len(dataset.units(unit_of(task.privacy)))  # private: nothing that is sent may depend on it
        self._stated: Optional[int] = None
        self._parameters: Optional[int] = None
        self.trainer: Optional[Trainer] = None
        # (round, digest of its model, parts) of a secure round, while it may be attempted again
        self.parts: Optional[Tuple[int, str, Tensors]] = None
        self.said: Dict[str, Any] = {}  # with an answer without noise: what its owner's rules left out of it
        # (round, answer, what is said of it) of an exchange with neighbours that is over
        self.exchanged: Optional[Tuple[int, np.ndarray, Dict[str, Any]]] = None
        self._evaluation_graph: Optional[TrainingGraph] = None
        self._awake: Optional[TrainingGraph] = None

    def state(self, units: int) -> None:
        """Fixes what others are given as how many records or units there are (Gatekeeper.state_count)."""
        self._stated = units

    @property
    def stated(self) -> int:
        """How many records this node says it has: all of them without privacy, else a noised count of its units; of a node 1.

        Weights, divisors and limits are made of it, so that what is sent is a function of noised sums and of this.
        """
        privacy = self.task.privacy
        if self._stated is None:
            self._stated = self.dataset.records
            if privacy.on:
                self._stated = noised_count(self.task, self.units, SecureRandom()) if privacy.within_node else 1
        return self._stated if privacy.on else self.dataset.records

    @property
    def parameters(self) -> int:
        """Of the model: as declared, or as the graph has it where the task leaves it out; 0 where there is no graph."""
        if self._parameters is None:
            self._parameters = self.task.training.parameters
            if not self._parameters:
                with suppress(GraphError):  # what computes here is no graph
                    self._parameters = check_graph(self.graph).parameters
        return self._parameters

    @property
    def stated_units(self) -> int:
        return self.stated if self.task.privacy.on else self.units

    def quantum_s(self, number: int) -> float:
        """Of what a round's answer is held up to a multiple (node/pace.py), from public numbers; 0 where no graph ran."""
        task, seconds = self.task, 0.0
        if not task.privacy.within_node:
            return 0.0  # what such a task promises does not rest on a secret sample
        most = task.privacy.most_units(self.stated)  # a gateway chooses how much noise is on the stated number
        rows = task.privacy.records_per_patient if task.privacy.of_patients else 1
        passes = task.evaluates(number) + task.scores(number)
        if passes and self._evaluation_graph is not None:
            seconds = passes * self._evaluation_s(
                self._evaluation_graph, most_held_out(most, task.evaluation.share), rows
            )
        if not isinstance(self.trainer, GradientTrainer) or not task.stages.trains(number):
            return quantum_s(0.0, 0, 0.0, other_s=seconds) if seconds else 0.0
        steps, rate = task.training.local_steps, task.privacy.sampling_rate
        work = step_work(task, self.trainer.graph.parameters)
        seconds += steps * (work.fixed_s + self.trainer.step_seconds())
        return quantum_s(self.trainer.record_seconds(), most, rate, steps, rows, seconds, work.unit_s)

    def _evaluation_s(self, graph: TrainingGraph, units: float, rows: int) -> float:
        """rows: of a patient, at most. How fast inference is has nothing to do with how fast gradients are."""
        *_, inference = functions_of(check_graph(self.graph), self.task)
        work = evaluation_work(self.task)
        return work.fixed_s + units * (rows * graph.record_seconds(inference) + work.unit_s)

    def rest(self) -> None:
        """Ends the processes of the run's graph; the next round that needs one starts it, on the mean and std it comes with."""
        if isinstance(self.trainer, GradientTrainer):
            self.trainer = None
        self._evaluation_graph = self._awake = None

    def wake(self) -> None:
        """Starts the graph's process, and measures a round's work, before a request's time counts: else an answer behind it
        would leave a multiple later.

        A graph that fails here fails in the answer as well, where that is charged and said.
        """
        if self._awake is not None and not self._awake.process.broken:
            return
        try:
            self._awake = TrainingGraph(self.graph)
            for name in functions_of(check_graph(self.graph), self.task):
                self._awake.record_seconds(name)
            self._try_work(self._awake.parameters)
        except EdgewardError as error:
            log.warning("run %s: %s", self.id, error)

    def _try_work(self, parameters: int) -> None:
        """Measures what a round takes beside the graph; from then on it is known."""
        if self.task.privacy.within_node:
            step_work(self.task, parameters)
            if self.task.evaluation.on:
                evaluation_work(self.task)

    def processes(self) -> Set[int]:
        """Process ids of the graphs that run."""
        graphs = [self._evaluation_graph, self._awake, getattr(self.trainer, "graph", None)]
        return {graph.process.pid for graph in graphs if isinstance(graph, TrainingGraph)}

    def evaluation_graph(self) -> TrainingGraph:
        if self._evaluation_graph is None:
            self._evaluation_graph = TrainingGraph(self.graph)
        return self._evaluation_graph
