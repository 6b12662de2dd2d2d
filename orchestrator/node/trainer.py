"""Local training: from the round's weights to this node's update, with the privacy the task declares."""

import math
from functools import lru_cache
from itertools import islice
from typing import Iterator, Optional, Protocol, Sequence, Tuple

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.node.pace import Work, tried
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.noisy_sum import PART, NoisySum, noised_count
from orchestrator.privacy.own_sum import step_sum
from orchestrator.privacy.secure_random import Fractions, SecureRandom
from orchestrator.privacy.terms import unit_of
from orchestrator.rounds.declared import declared
from orchestrator.rounds.strategies import node_half
from orchestrator.wire.task import Task
from orchestrator.wire.training import BALANCED, MOST_CLASS_WEIGHT


class Trainer(Protocol):
    """Computes a node's update; the agent does not care how."""

    def train(self, weights: np.ndarray, round_number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        """float32 (P,): what the weights should change by, from float32 weights (P,).

        `correction`, float32 (P,), is added to every gradient (rounds/strategy.py NodeHalf).
        """
        ...

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        """int64 (P,): the clipped gradients of one step's sample, summed in grid steps, with this node's share of the noise.

        The sum is cut to [-limit, limit] before the noise. For distributed noise: private only in a sum over enough nodes
        (privacy/noisy_sum.py says how to read it).
        """
        ...


class GradientTrainer:
    """SGD over a training graph: plain mini-batches, or clipping of every record or patient, and noise (Abadi et al. 2016)."""

    def __init__(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> None:
        """`dataset` is already standardized."""
        self._task = task
        self.graph = TrainingGraph(graph)
        self._dataset = dataset
        self._node = node
        self._random = SecureRandom()
        self._counts = record_counts(task, dataset.y)
        self._mechanism: Optional[NoisySum] = None
        self._expected_units = 0
        self._clipped = 0  # units of this step that were longer than the clip norm: private
        self._tally: Optional[np.ndarray] = None
        self.tally_limit: Optional[int] = None  # to what a step's tally is cut before its noise, for a secure sum
        self._epoch: Optional[Tuple[int, np.ndarray]] = None
        self._units = dataset.units(unit_of(task.privacy)) if task.privacy.within_node else []
        self._half = node_half(task.training.strategy, task.training.options)

    def record_seconds(self) -> float:
        """What one record's gradient takes here, on rows of random numbers."""
        return self.graph.record_seconds()

    def step_seconds(self) -> float:
        """What a step's gradients take beside that."""
        return self.graph.step_seconds()

    def expect(self, units: int) -> None:
        """Takes `units`, the count this node stated, for what a private step's sum is divided by (times the sampling rate).

        The true number would show: every value of an update is a whole multiple of the grid over the divisor.
        """
        self._expected_units = units

    def train(self, weights: np.ndarray, round_number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        current = weights.astype(np.float32)
        learning_rate = self._task.training.learning_rate_at(round_number)
        for step in range(self._task.training.local_steps):
            gradient = (
                self._private_gradient(current)
                if self._task.privacy.within_node
                else self._plain_gradient(current, round_number, step)
            )
            if correction is not None:  # like the pull, of no record, so outside clipping and noise
                gradient = gradient + correction
            current = (current - learning_rate * (gradient + self._half.pull(current - weights))).astype(np.float32)
        return current - weights

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        return self._step(self._noisy_sum(weights), weights.astype(np.float32), limit)

    def take_tally(self) -> Optional[np.ndarray]:
        """int64 (1,): clipped units of the steps since the last call, in steps of the sum's grid, with the noise of each.

        None where the task has no tally.
        """
        tally, self._tally = self._tally, None
        return tally

    def _noisy_sum(self, weights: np.ndarray) -> NoisySum:
        if self._mechanism is None or self._mechanism.size != weights.size:
            self._mechanism = step_sum(self._task, weights.size)
        return self._mechanism

    def _private_gradient(self, weights: np.ndarray) -> np.ndarray:
        """Noised mean gradient of a Poisson sample, divided by its expected size as stated (the real ones are private)."""
        mechanism = self._noisy_sum(weights)
        total = mechanism.to_float(self._step(mechanism, weights))
        if not self._expected_units:
            self._expected_units = noised_count(self._task, len(self._units), self._random)
        return total / (self._task.privacy.sampling_rate * self._expected_units)

    def _step(self, mechanism: NoisySum, weights: np.ndarray, limit: Optional[int] = None) -> np.ndarray:
        """int64 (P,): one step's noised sum; the tally of its clipped units is kept for `take_tally`."""
        self._clipped = 0
        released = mechanism.release(self._sampled_gradients(weights), self._random, limit, self._count_clipped)
        if mechanism.beside:
            tally = mechanism.tally(self._clipped, self._random, self.tally_limit)
            self._tally = tally if self._tally is None else self._tally + tally
        return released

    def _count_clipped(self, units: int) -> None:
        self._clipped += units

    def _sampled_gradients(self, weights: np.ndarray) -> Iterator[np.ndarray]:
        """float (n, P) of a Poisson sample of the units, some at a time: all of them would not fit a small machine."""
        return self._unit_gradients(
            weights, self._random.poisson_sample(len(self._units), self._task.privacy.sampling_rate)
        )

    def _unit_gradients(self, weights: np.ndarray, units: np.ndarray) -> Iterator[np.ndarray]:
        """float (n, P) of these units, some at a time, before clipping: a record's gradient, or the mean of a patient's."""
        if not self._task.privacy.of_patients:
            return self._record_gradients(weights, units)
        taken = [self._some(self._units[unit]) for unit in units]
        rows = np.concatenate([np.zeros(0, np.int64), *taken]).astype(np.int64)
        return _means(self._record_gradients(weights, rows), [len(some) for some in taken])

    def _record_gradients(self, weights: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
        blocks = self.graph.gradient_blocks(weights, self._dataset.x, self._dataset.y, rows)
        return blocks if self._counts is None else _weighted(blocks, self._counts[rows])

    def _some(self, rows: np.ndarray) -> np.ndarray:
        """A patient's rows, or a random choice of as many as the task uses: a patient with more would take longer."""
        most = self._task.privacy.records_per_patient
        if len(rows) <= most:
            return rows
        return rows[self._random.subset(len(rows), most)]

    def _plain_gradient(self, weights: np.ndarray, round_number: int, step: int) -> np.ndarray:
        """Over all records, of a strategy of one step. Otherwise one mini-batch, walking through a shuffled epoch."""
        data, batch = self._dataset, self.graph.batch_size
        if declared(self._task.training.strategy).one_step:
            chosen = np.arange(data.records)
        else:
            position = ((round_number - 1) * self._task.training.local_steps + step) * batch
            epoch, offset = divmod(position, -(-data.records // batch) * batch)
            chosen = self._order(epoch)[offset : offset + batch]
        total = np.zeros(weights.size, np.float64)
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            total += self._summed(weights, part)
        return total / len(chosen)

    def _order(self, epoch: int) -> np.ndarray:
        """The node's records in the order of an epoch; that of the last one asked for is kept."""
        if self._epoch is None or self._epoch[0] != epoch:
            seed = [self._task.seed, epoch, *self._node.encode()]
            self._epoch = epoch, np.random.default_rng(seed).permutation(self._dataset.records)
        return self._epoch[1]

    def _summed(self, weights: np.ndarray, part: np.ndarray) -> np.ndarray:
        """float64 (P,): the sum of a batch's gradients, each as much as its class counts for."""
        x, y = self._dataset.x[part], self._dataset.y[part]
        if self._counts is None:
            return len(part) * self.graph.gradient(weights, x, y).astype(np.float64)
        counts = self._counts[part].astype(np.float32)
        return max(1.0, float(counts.sum())) * self.graph.gradient(weights, x, y, counts).astype(np.float64)


def _means(blocks: Iterator[np.ndarray], counts: Sequence[int]) -> Iterator[np.ndarray]:
    """float64 (n, P): of so many rows each, some means at a time."""
    each, some = (gradient for block in blocks for gradient in block), []
    for count in counts:
        some.append(_mean(each, count))
        if len(some) * some[0].size >= PART:
            yield np.stack(some)
            some = []
    if some:
        yield np.stack(some)


def _mean(gradients: Iterator[np.ndarray], count: int) -> np.ndarray:
    total = next(gradients).astype(np.float64)
    for gradient in islice(gradients, count - 1):
        total += gradient
    return np.asarray(total / count)


def _weighted(blocks: Iterator[np.ndarray], counts: np.ndarray) -> Iterator[np.ndarray]:
    """Before they are clipped, so that no class moves a sum by more than another may."""
    start = 0
    for block in blocks:
        yield counts[start : start + len(block), np.newaxis] * block
        start += len(block)


def step_work(task: Task, parameters: int) -> Work:
    """What a private step takes beside the graph's gradients: clipping and rounding each unit's, and drawing the noise."""
    return _step_work(step_sum(task, parameters), task.privacy.of_patients)


@lru_cache(maxsize=8)
def _step_work(mechanism: NoisySum, means: bool) -> Work:
    lattice, random = mechanism.lattice, SecureRandom()
    # Half a step beside the grid in all coordinates: then random rounding has to be tried again most often (lattice.py).
    steps = max(0.5, math.floor(lattice.levels / math.sqrt(lattice.size)) - 0.5)
    worst = np.full(lattice.size, steps * lattice.step, np.float32)

    def gradients(units: int) -> Iterator[np.ndarray]:
        most = max(1, PART // lattice.size)
        for start in range(0, units, most):
            some = np.tile(worst, (min(most, units - start), 1))
            yield from _means(iter([some]), [1] * len(some)) if means else (some,)

    def noise() -> None:
        fresh = SecureRandom()  # which has drawn nothing ahead
        mechanism.release((), fresh)
        if mechanism.beside:
            mechanism.tally(0, fresh)

    def total(units: int) -> np.ndarray:
        return mechanism.total(gradients(units), Fractions(random), lambda count: None)

    return tried(noise, total, max(4, min(256, 100_000 // lattice.size)))


def record_counts(task: Task, y: np.ndarray) -> Optional[np.ndarray]:
    """float64 (n,): what each record counts for by its class (training.class_weights); None where all count alike.

    Balanced, a node's classes count for the same in all: n / (classes it has x records of the class), at most
    MOST_CLASS_WEIGHT. That depends on all of a node's records, so tasks that protect single ones or patients cannot have it.
    """
    weights = task.training.class_weights
    if not weights:
        return None
    if weights == BALANCED:
        if task.privacy.within_node:
            raise ValueError("balanced class weights are of all records, and the task protects single ones")
        present = np.bincount(y, minlength=len(task.schema.classes))
        share = len(y) / np.maximum(1, (present > 0).sum() * present)
        return np.asarray(np.minimum(share, MOST_CLASS_WEIGHT)[y])
    return np.asarray(weights, np.float64)[y]
