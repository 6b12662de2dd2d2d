"""Local training: from the round's weights to this node's update, with the privacy the task declares."""

from itertools import islice
from typing import Iterator, Optional, Protocol

import numpy as np

from orchestrator.node.data import Dataset
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.noise import SecureRandom
from orchestrator.privacy.noisy_sum import NoisySum, noised_count, training_sum
from orchestrator.wire.task import Task


class Trainer(Protocol):
    """Computes a node's update; the agent does not care how."""

    def train(self, weights: np.ndarray, round_number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        """float32 (P,): what the weights should change by, from float32 weights (P,).

        `correction`, float32 (P,), is added to every gradient (SCAFFOLD; none is given for other strategies).
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
        self._expected_units = 0
        self._units = dataset.units(task.privacy.unit) if task.privacy.within_node else []
        self._gradients: Iterator[np.ndarray] = iter(())
        training = task.training
        self._proximal = training.options.get("mu", 0.01) if training.strategy == "fedprox" else 0.0

    def record_seconds(self) -> float:
        """What one record's gradient takes here, on rows of random numbers."""
        return self.graph.record_seconds()

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
            if correction is not None:  # like FedProx's pull, of no record
                gradient = gradient + correction
            pull = self._proximal * (current - weights)  # FedProx; of no record, so outside clipping and noise
            current = (current - learning_rate * (gradient + pull)).astype(np.float32)
        return current - weights

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        gradients = self._sampled_gradients(weights.astype(np.float32))
        return self._noisy_sum(weights).release(gradients, self._random, limit)

    def _noisy_sum(self, weights: np.ndarray) -> NoisySum:
        return training_sum(self._task, weights.size)

    def _private_gradient(self, weights: np.ndarray) -> np.ndarray:
        """Noised mean gradient of a Poisson sample, divided by its expected size as stated (the real ones are private)."""
        mechanism = self._noisy_sum(weights)
        total = mechanism.to_float(mechanism.release(self._sampled_gradients(weights), self._random))
        if not self._expected_units:
            self._expected_units = noised_count(self._task, len(self._units), self._random)
        return total / (self._task.privacy.sampling_rate * self._expected_units)

    def _sampled_gradients(self, weights: np.ndarray) -> Iterator[np.ndarray]:
        """The gradients of a Poisson sample of the units, one at a time: a batch of them would not fit a small machine."""
        sample = [int(i) for i in self._random.poisson_sample(len(self._units), self._task.privacy.sampling_rate)]
        rows = np.concatenate([np.zeros(0, np.int64), *(self._some(self._units[i]) for i in sample)]).astype(np.int64)
        # Streamed: the way to the graph's process and back takes longer than a small model's gradient.
        self._gradients = self.graph.record_gradients(weights, self._dataset.x, self._dataset.y, rows)
        for i in sample:
            yield self._unit_gradient(weights, i)

    def _some(self, rows: np.ndarray) -> np.ndarray:
        """A patient's rows, or a random choice of as many as the task uses: a patient with more would take longer."""
        most = self._task.privacy.records_per_patient
        if len(rows) <= most:
            return rows
        return rows[np.argsort(self._random.uniform(len(rows)))[:most]]

    def _unit_gradient(self, weights: np.ndarray, unit: int) -> np.ndarray:
        """float64 (P,), before clipping: a record's gradient, or the mean of a patient's, off the sample's stream."""
        count = min(len(self._units[unit]), self._task.privacy.records_per_patient)
        total = np.zeros(weights.size, np.float64)
        for gradient in islice(self._gradients, count):
            total += gradient
        return total / count

    def _plain_gradient(self, weights: np.ndarray, round_number: int, step: int) -> np.ndarray:
        """FedSGD: over all records. Otherwise one mini-batch, walking through a shuffled epoch."""
        data, batch = self._dataset, self.graph.batch_size
        if self._task.training.strategy == "fedsgd":
            chosen = np.arange(data.records)
        else:
            position = ((round_number - 1) * self._task.training.local_steps + step) * batch
            epoch, offset = divmod(position, -(-data.records // batch) * batch)
            seed = [self._task.seed, epoch, *self._node.encode()]
            chosen = np.random.default_rng(seed).permutation(data.records)[offset : offset + batch]
        total = np.zeros(weights.size, np.float64)
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            total += len(part) * self.graph.gradient(weights, data.x[part], data.y[part]).astype(np.float64)
        return total / len(chosen)
