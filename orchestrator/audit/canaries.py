"""Canaries: privacy units that are not there to be learned from, but to be found again in what leaves the nodes.

In each step a canary's gradient has one coordinate and one sign, drawn again and spread evenly, and is far longer than the clip
norm. So all clipping that works leaves exactly the clip norm of it, canaries hardly cover each other, and what any number of
steps say of one of them adds up. Memory does not grow with the model.

The attacker knows the task, the data of all nodes and which real units each step sampled, and takes their part off the sums. It
does not know which canaries are in. That is no more than what differential privacy promises to withstand.
"""

from dataclasses import dataclass, field
from typing import Any, Iterator, List

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.node.trainer import GradientTrainer
from orchestrator.wire.task import Task

LOUDNESS = 1000.0
"""Length of a canary's gradient before clipping, in clip norms."""


def clipped_to(vector: np.ndarray, clip_norm: float) -> np.ndarray:
    """float64 (P,): what clipping ought to leave, computed without the code that is audited."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(vector).all():
        return np.zeros(vector.size)
    return np.asarray(vector, np.float64) * min(1.0, clip_norm / max(length, 1e-30))


class Canaries:
    """`count` of them, each in with probability 1/2, for vectors of `parameters` numbers."""

    def __init__(self, count: int, parameters: int, clip_norm: float) -> None:
        self._random = np.random.default_rng()  # what an attacker draws; unpredictable to the tested code all the same
        self.parameters, self.clip_norm = parameters, clip_norm
        self.included = self._random.random(count) < 0.5
        self.members = np.flatnonzero(self.included)
        self.scores = np.zeros(count, np.float64)

    @property
    def count(self) -> int:
        return len(self.included)

    def directions(self) -> "Directions":
        """Of a new step."""
        order = self._random.permutation(self.parameters)
        places = np.resize(order, self.count)[self._random.permutation(self.count)]
        return Directions(places, self._random.choice(np.array([-1.0, 1.0]), self.count))

    def vector(self, directions: "Directions", canary: int) -> np.ndarray:
        """float64 (P,): the canary's gradient, or update, before clipping."""
        result = np.zeros(self.parameters, np.float64)
        result[directions.places[canary]] = directions.signs[canary] * LOUDNESS * self.clip_norm
        return result

    def listen(self, released: np.ndarray, directions: "Directions") -> np.ndarray:
        """float64 (count,): what a step's released sum, without the real units' part, has in each canary's direction.

        Counted into the scores, in clip norms.
        """
        heard = directions.signs * released[directions.places] / self.clip_norm
        self.scores += heard
        return heard


@dataclass(frozen=True)
class Directions:
    """places: int (count,), the coordinates of a step's canaries; signs: float (count,), -1 or 1."""

    places: np.ndarray
    signs: np.ndarray


@dataclass
class Step:
    """One gradient step as the attacker knows it.

    weights: float32 (P,), at its beginning. real, everything: float64 (P,), clipped sums over the sampled real units, and over
    all sampled ones. sampled: canaries in it.
    """

    weights: np.ndarray
    directions: Directions
    real: np.ndarray
    everything: np.ndarray
    sampled: List[int] = field(default_factory=list)


class CanaryTrainer(GradientTrainer):
    """The node's own trainer, with canaries among its units. Sampling, clipping, noise and steps are the node's."""

    def __init__(self, task: Task, graph: bytes, dataset: Dataset, node: str, canaries: Canaries) -> None:
        super().__init__(task, graph, dataset, node)
        self._canaries, self._real = canaries, len(self._units)
        self._units = [*self._units, *(np.empty(0, np.int64) for _ in canaries.members)]
        self.steps: List[Step] = []

    @property
    def units(self) -> int:
        """With the canaries that are in."""
        return len(self._units)

    def _sampled_gradients(self, weights: np.ndarray) -> Iterator[np.ndarray]:
        zeros = np.zeros(weights.size, np.float64)
        self.steps.append(Step(weights.copy(), self._canaries.directions(), zeros, zeros.copy()))
        return super()._sampled_gradients(weights)

    def _unit_gradients(self, weights: np.ndarray, units: np.ndarray) -> Iterator[np.ndarray]:
        step, real = self.steps[-1], units < self._real
        for some in super()._unit_gradients(weights, units[real]):
            for gradient in some:
                clipped = clipped_to(gradient, self._canaries.clip_norm)
                step.everything += clipped
                step.real += clipped
            yield some
        for unit in units[~real]:
            canary = int(self._canaries.members[unit - self._real])
            gradient = self._canaries.vector(step.directions, canary)
            step.sampled.append(canary)
            step.everything += clipped_to(gradient, self._canaries.clip_norm)
            yield gradient[np.newaxis]

    def released(self, weights: np.ndarray, update: np.ndarray, round_number: int) -> List[np.ndarray]:
        """float64 (P,) for each step of a round, read back from the update: the noised sum its gradient was made of."""
        task: Any = self._task
        rate = task.training.learning_rate_at(round_number)
        ends = [*(step.weights for step in self.steps[1:]), weights + update]
        stated = int(getattr(self, "_expected_units", 0)) or len(self._units)  # what the node divides by, and says
        scale = task.privacy.sampling_rate * stated
        sums = []
        for step, end in zip(self.steps, ends):
            gradient = (step.weights.astype(np.float64) - end) / rate - self._half.pull(step.weights - weights)
            sums.append(gradient * scale)
        return sums
