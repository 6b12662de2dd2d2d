"""The nodes' own code on records whose gradients and logits are chosen: what leaves a node is then known, but for its noise.

Only the graph is replaced. Units, sampling, clipping, grid, noise and steps are the product's, from the contributor down.
A record's first number says which one it is; mean 0 and standard deviation 1 leave it as it is.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Dict, Iterator, List, NamedTuple, Optional
from unittest.mock import patch

import numpy as np

import orchestrator.node.run as run_module
import orchestrator.node.trainer as trainer_module
from orchestrator.data.dataset import Dataset
from orchestrator.node.contribution import Contributor
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.noisy_sum import TALLY, evaluation_counts, parties_of, statistics_sum, training_sum
from orchestrator.privacy.releases import work_of
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.vector_layout import UPDATE, Layout, bits_for, parts_of
from orchestrator.rounds.stages import EVALUATION, STATISTICS
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Evaluation, Task
from orchestrator.wire.training import Training


class Rows(NamedTuple):
    """gradients: float32 (n, P). patients: int32 (n,) or None."""

    gradients: np.ndarray
    patients: Optional[np.ndarray] = None

    @property
    def units(self) -> int:
        return len(self.gradients) if self.patients is None else len(np.unique(self.patients))


class ChosenGraph:
    """In the place of a training graph: answers from a table, by the first number of a record. `seen`: rows asked for."""

    batch_size = infer_batch = 1 << 20

    def __init__(self, table: np.ndarray) -> None:
        self._table, self.parameters = table, table.shape[1]
        self.seen: List[int] = []

    def gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(self._of(x).mean(axis=0, dtype=np.float64), np.float32)

    def record_gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._of(x)[0]

    def gradient_blocks(
        self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, rows: Optional[np.ndarray] = None
    ) -> Iterator[np.ndarray]:
        asked = x if rows is None else x[rows]
        if len(asked):
            yield self._of(asked)

    def logits(self, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._of(x)

    record_logits = logits

    def close(self) -> None:
        pass

    def _of(self, x: np.ndarray) -> np.ndarray:
        which = np.rint(x.reshape(len(x), -1)[:, 0]).astype(np.int64)
        self.seen += which.tolist()
        return self._table[which]


class Bench:
    """Nodes of one task, one play after another; each play is a new contributor."""

    def __init__(self, task: Task, store: NodeStore) -> None:
        self.task, self.store = task, store

    @property
    def steps_std(self) -> float:
        """Of one party's noise on a training sum, in clip norms, as declared."""
        return work_of(self.task).noise_multiplier / np.sqrt(parties_of(self.task))

    def changed(self, **privacy: Any) -> "Bench":
        return Bench(replace(self.task, privacy=replace(self.task.privacy, **privacy)), self.store)

    def sums(self, rows: Rows, rounds: int, local_steps: int = 1) -> np.ndarray:
        """float64 (rounds, P): what one node's releases say its sums were, in clip norms, one training round after another.

        Of a task with a tally of clipped units (rounds, P + 1): the last column is the tally, in the same unit.
        """
        task = _for_rounds(self.task, rows, rounds, local_steps)
        dataset = _dataset(task, len(rows.gradients), rows.patients, len(task.schema.classes))
        contributor = self._contributor(task, dataset, dataset.take(np.empty(0, np.int64)))
        tensors = _tensors(task, np.zeros(rows.gradients.shape[1], np.float32))
        with _graphs(ChosenGraph(rows.gradients)):
            answers = [self._release(contributor, task, rows, number, tensors) for number in range(1, rounds + 1)]
        return np.stack(answers)

    def _release(
        self, contributor: Contributor, task: Task, rows: Rows, number: int, tensors: Dict[str, np.ndarray]
    ) -> np.ndarray:
        privacy, size = task.privacy, rows.gradients.shape[1]
        layout = _layout(task, number, size, rows) if privacy.distributed else None
        contribution = contributor.contribute(number, {}, tensors, layout)
        answer = contribution.parts[UPDATE]
        if privacy.distributed:
            return self._with_tally(
                contribution.parts, training_sum(task, size).to_float(answer) / privacy.clip_norm, task
            )
        # As many units as the node says it has: that is what its sums are divided by, and what others know.
        units = privacy.sampling_rate * float(contribution.fields["units"]) if privacy.within_node else 1.0
        if privacy.central:  # as the gateway adds it (gateway/aggregation.py)
            mechanism = training_sum(task, size)
            answer = answer + mechanism.to_float(mechanism.noise(SecureRandom()))
        return self._with_tally(contribution.parts, -answer.astype(np.float64) * units / privacy.clip_norm, task)

    @staticmethod
    def _with_tally(parts: Dict[str, np.ndarray], sums: np.ndarray, task: Task) -> np.ndarray:
        if TALLY not in parts:
            return np.asarray(sums)
        mechanism = training_sum(task, sums.size)
        return np.append(sums, parts[TALLY] * mechanism.lattice.step / task.privacy.clip_norm)

    @property
    def untallied(self) -> "Bench":
        """The same without a tally."""
        return self.changed(clip_tally=False)

    def statistics(self, x: np.ndarray, patients: Optional[np.ndarray], count: int) -> np.ndarray:
        """float64 (count, 2 * numbers): standardization sums of raw records float32 (n, d), released `count` times."""
        task = replace(self.task, evaluation=Evaluation())
        dataset = Dataset(x, np.zeros(len(x), np.int32), patients)
        mechanism, sums = statistics_sum(task), []
        for _ in range(count):
            contributor = self._contributor(task, dataset, dataset.take(np.empty(0, np.int64)))
            layout = _layout(task, 0, 1, Rows(x, patients)) if task.privacy.distributed else None
            sums.append(mechanism.to_float(contributor.contribute(0, {}, {}, layout).parts[STATISTICS]))
        return np.stack(sums)

    def evaluations(self, logits: np.ndarray, patients: Optional[np.ndarray], count: int) -> np.ndarray:
        """float64 (count, cells): evaluation sums over held-out records of the first class; logits: float32 (n, classes)."""
        training = Training(rounds=1, parameters=1)
        task = replace(self.task, training=training, evaluation=replace(self.task.evaluation, share=0.2, every=1))
        held = _dataset(task, len(logits), patients, 1)
        counts, sums = evaluation_counts(task), []
        rows = Rows(np.zeros((len(logits), 1), np.float32), patients)
        with _graphs(ChosenGraph(logits)):
            for _ in range(count):
                contributor = self._contributor(task, held, held)
                layout = _layout(task, task.last_round, 1, rows) if task.privacy.distributed else None
                answer = contributor.contribute(task.last_round, {}, _tensors(task, np.zeros(1, np.float32)), layout)
                sums.append(counts.to_float(answer.parts[EVALUATION]))
        return np.stack(sums)

    def sides(self, trained: Dataset, held: Dataset, parameters: int) -> "tuple[List[int], List[int]]":
        """Records (by their first number) whose gradients, and whose logits, a node asks its graph for."""
        rows = Rows(np.zeros((1 << 12, parameters), np.float32))
        task = replace(
            _for_rounds(self.changed(sampling_rate=1.0).task, rows, 1, 1),
            evaluation=replace(self.task.evaluation, share=0.2, every=1),
        )
        contributor, tensors = self._contributor(task, trained, held), _tensors(task, np.zeros(parameters, np.float32))
        asked = []
        for number, width in ((1, parameters), (2, len(task.schema.classes))):
            graph = ChosenGraph(np.zeros((1 << 12, width), np.float32))
            with _graphs(graph):
                own = Rows(rows.gradients[: max(1, trained.records)], trained.patients)
                layout = _layout(task, number, parameters, own) if task.privacy.distributed else None
                contributor.contribute(number, {}, tensors, layout)
            asked.append(graph.seen)
        return asked[0], asked[1]

    def _contributor(self, task: Task, dataset: Dataset, held_out: Dataset) -> Contributor:
        run = Run("audit", "", task, b"", dataset, held_out)
        run.state(
            max(1, run.units)
        )  # as it is: limits and divisors are made of it, and its noise is a release of its own
        return Contributor(run, self.store, "node", GradientTrainer)


@contextmanager
def _graphs(graph: ChosenGraph) -> Iterator[None]:
    """Every training graph that a node loads is this one."""
    with ExitStack() as stack:
        for module in (trainer_module, run_module):
            stack.enter_context(patch.object(module, "TrainingGraph", lambda content, *limits: graph))
        yield


def _for_rounds(task: Task, rows: Rows, rounds: int, local_steps: int) -> Task:
    """A learning rate of 1, so that the update is the gradient. FedProx's pull is 0 in a first step, and left out of others."""
    same = task.training.strategy if local_steps == 1 else "fedavg"
    training = Training(
        same,
        rounds,
        local_steps,
        learning_rate=1.0,
        parameters=rows.gradients.shape[1],
        options=task.training.options if local_steps == 1 else {},
    )
    return replace(task, training=training, evaluation=Evaluation())


def _dataset(task: Task, count: int, patients: Optional[np.ndarray], classes: int) -> Dataset:
    """Labels go round through the first `classes` classes."""
    x = np.zeros((count, int(np.prod(task.schema.input_shape))), np.float32)
    x[:, 0] = np.arange(count)
    labels = np.resize(np.arange(classes), count).astype(np.int32)
    return Dataset(x.reshape(count, *task.schema.input_shape), labels, patients)


def _tensors(task: Task, weights: np.ndarray) -> Dict[str, np.ndarray]:
    shape = task.schema.input_shape
    return {"weights": weights, "mean": np.zeros(shape, np.float32), "std": np.ones(shape, np.float32)}


def _layout(task: Task, number: int, parameters: int, rows: Rows) -> Layout:
    """Of a secure sum in which every party has as many units as this node."""
    parts, parties = parts_of(task, number, parameters), parties_of(task)
    units = parties * (rows.units if task.privacy.within_node else 1)
    return Layout(parts, bits_for(parts, units, parties), parties, units, parties * len(rows.gradients))


def of_unit(privacy: Privacy, patients: np.ndarray) -> Optional[np.ndarray]:
    """Whose the records are, where the task's unit asks."""
    return patients.astype(np.int32) if privacy.of_patients else None
