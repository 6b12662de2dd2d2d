"""The one mechanism behind every private release: a sum of clipped vectors, on a grid, with exact discrete noise.

Gradients, standardization sums, evaluation sums and whole updates all leave as such a sum. Both sides, and the accountant, build
it from the task alone, so they agree on the grid, on the sensitivity and on each party's share of the noise.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Optional

import numpy as np

from orchestrator.errors import PrivacyError
from orchestrator.privacy.lattice import (
    MAX_LEVELS,
    MIN_NOISE_STD,
    Draws,
    Lattice,
    Uniform,
    clamp,
    clip_l2,
    draw,
    make_lattice,
    party_variance,
    row_norms,
)
from orchestrator.privacy.releases import work_of
from orchestrator.privacy.secure_random import Fractions, SecureRandom
from orchestrator.wire.task import Task

CLIP_NORM, WITHIN = "clip_norm", "within"
"""Fields of a round and of its answer when the clip norm follows the updates: the norm, and whether this update kept below it."""

TALLY = "clipped"
"""Part of an answer: how many units of its steps were longer than the clip norm, with noise."""

_TALLY = 20
"""A unit moves the tally of clipped ones by so small a part of the clip norm: all noise grows by a part in 800."""

PART = 9 << 14
"""Numbers of clipped vectors worked on at a time."""


@dataclass(frozen=True)
class NoisySum:
    """Sums of vectors (size,) of L2 norm at most `lattice.clip_norm`, each party adding noise of `std` steps.

    The sum over `parties` parties has noise of at least noise_multiplier times what one vector can change it by. beside: steps by
    which one unit moves a tally that is released along with the sum: one number more, with the same noise.
    """

    lattice: Lattice
    noise_multiplier: float
    parties: int
    mechanism: str
    beside: int = 0

    @property
    def bound(self) -> float:
        """What one unit moves the sum, and the tally beside it, by at most, in steps."""
        return math.sqrt(self.lattice.squared_bound + self.beside**2)

    @property
    def size(self) -> int:
        return self.lattice.size

    @property
    def std(self) -> int:
        return self.lattice.noise_std(self.noise_multiplier, self.parties, self.beside)

    def noise(self, random: SecureRandom) -> np.ndarray:
        """int64 (size,): one party's share, in steps."""
        return draw(random, self.mechanism, self.lattice.size, self.std)

    def tally(self, units: int, random: SecureRandom, limit: Optional[int] = None) -> np.ndarray:
        """int64 (1,): what one party gives away of a count of units, `beside` steps each; cut to `limit` before the noise."""
        steps = np.array([units * self.beside], np.int64)
        return (steps if limit is None else clamp(steps, limit)) + draw(random, self.mechanism, 1, self.std)

    @property
    def tally_deviation(self) -> float:
        """Of one party's noise on a tally, in units."""
        return math.sqrt(party_variance(self.mechanism, self.std)) / self.beside

    def total(
        self, vectors: Iterable[np.ndarray], rounding: Uniform, longer: Optional[Callable[[int], None]] = None
    ) -> np.ndarray:
        """int64 (size,): the sum, in steps and without noise, of float vectors, each clipped first.

        They come one by one, (size,), or several at a time, (n, size); which way changes nothing. longer: is given how many of
        some vectors were longer than the clip norm, or not finite.
        """
        lattice = self.lattice
        total, draws = np.zeros(lattice.size, np.float64), Draws(rounding, together=PART)
        for some in self._blocks(vectors):
            numbers = np.array(some, np.float64)
            norms = row_norms(numbers)
            if longer is not None:
                longer(int((~(norms <= lattice.clip_norm)).sum()))
            clipped = clip_l2(numbers, lattice.clip_norm, norms, lattice.step, numbers)
            total += lattice.whole_steps(clipped, draws).sum(axis=0)
            if draws.full:
                total += lattice.put_off(draws)
        total += lattice.put_off(draws)
        return np.asarray(total.astype(np.int64))

    def _blocks(self, vectors: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The vectors as (n, size), of `PART` numbers about: together where they are small, in pieces where they are many."""
        most = max(1, PART // self.lattice.size)
        alone: List[np.ndarray] = []
        for vector in vectors:
            if vector.ndim == 1:
                alone.append(vector)
            if alone and (vector.ndim > 1 or len(alone) == most):
                yield np.stack(alone)
                alone = []
            if vector.ndim > 1:
                yield from np.array_split(vector, max(1, -(-len(vector) // most)))
        if alone:
            yield np.stack(alone)

    def release(
        self,
        vectors: Iterable[np.ndarray],
        random: SecureRandom,
        limit: Optional[int] = None,
        longer: Optional[Callable[[int], None]] = None,
    ) -> np.ndarray:
        """int64 (size,): what one party gives away, in steps; its sum is cut to `limit` first, which widens nothing."""
        total = self.total(vectors, Fractions(random), longer)
        return (total if limit is None else clamp(total, limit)) + self.noise(random)

    def to_float(self, steps: np.ndarray) -> np.ndarray:
        return self.lattice.to_float(steps)


@dataclass(frozen=True)
class NoisyCounts:
    """Sums in which one unit changes at most one cell by 1 and one bounded value by at most 1: L2 sensitivity sqrt(2).

    A patient's cells are the mean of its records'. Whole numbers of `scale` for 1, rounded down.
    """

    size: int
    noise_multiplier: float
    parties: int
    mechanism: str
    fine: int = (
        1  # least steps for 1, where cells are fractions even of a record: rounding down must not bias their sums
    )

    @property
    def scale(self) -> int:
        """Steps for 1: a power of two, at least `fine`, with which a party's noise has at least MIN_NOISE_STD steps.

        Raises PrivacyError for noise so small that it would take more than MAX_LEVELS.
        """
        least = MIN_NOISE_STD * math.sqrt(self.parties) / (self.noise_multiplier * math.sqrt(2.0))
        if not least <= MAX_LEVELS:
            raise PrivacyError(
                f"no grid for counts with noise multiplier {self.noise_multiplier:g} from {self.parties} parties"
            )
        return max(self.fine, 1 << max(0, math.ceil(math.log2(least))))

    @property
    def std(self) -> int:
        variance = (self.noise_multiplier * self.scale) ** 2 * 2.0 / self.parties
        return math.ceil(math.sqrt(variance + 1 / 12))  # 1/12: what rounding takes off (privacy/closeness.py)

    @property
    def bound(self) -> float:
        """What one unit moves the sum by at most, in steps."""
        return math.sqrt(2.0) * self.scale

    def total(self, contributions: Iterable[np.ndarray]) -> np.ndarray:
        """int64 (size,): the sum, in steps and without noise, of one float vector (size,) for each unit.

        A vector that is not finite, or beyond what one unit may add, counts as zero: the noise is matched to no more.
        """
        total = np.zeros(self.size, np.int64)
        for contribution in contributions:
            if self._allowed(contribution):
                total += np.floor(self.scale * np.asarray(contribution, np.float64)).astype(np.int64)
        return total

    def release(
        self, contributions: Iterable[np.ndarray], random: SecureRandom, limit: Optional[int] = None
    ) -> np.ndarray:
        """int64 (size,): what one party gives away, in steps; its sum is cut to `limit` first, which widens nothing."""
        total = self.total(contributions)
        return (total if limit is None else clamp(total, limit)) + self.noise(random)

    def _allowed(self, contribution: np.ndarray) -> bool:
        if np.shape(contribution) != (self.size,):
            raise ValueError(f"a contribution of shape {np.shape(contribution)} to {self.size} sums")
        # Written so that NaN fails. A part in 1e9 is float rounding; rounding down takes more off again.
        cells, value = contribution[:-1], contribution[-1]
        return bool((cells >= 0).all() and cells.sum() <= 1 + 1e-9 and 0 <= value <= 1)

    def noise(self, random: SecureRandom) -> np.ndarray:
        """int64 (size,): one party's share, in steps."""
        return draw(random, self.mechanism, self.size, self.std)

    def to_float(self, steps: np.ndarray) -> np.ndarray:
        return np.asarray(steps / self.scale)


def parties_of(task: Task) -> int:
    """How many parties' noise a private sum of this task rests on."""
    return task.aggregation.honest if task.privacy.distributed else 1


def training_sum(task: Task, parameters: int, clip_norm: float = 0.0) -> NoisySum:
    """Of one step's gradients or, for unit node, of one round's updates. clip_norm: the round's, where it is not the task's."""
    privacy, parties, noise = task.privacy, parties_of(task), work_of(task).noise_multiplier
    lattice = make_lattice(clip_norm or privacy.clip_norm, parameters, noise, parties)
    beside = max(1, lattice.levels // _TALLY) if privacy.clip_tally and privacy.within_node else 0
    return NoisySum(lattice, noise, parties, privacy.mechanism, beside)


def analysis_sum(task: Task) -> NoisySum:
    """Of one round of an analysis, as `orchestrator/analyses` declares it."""
    return training_sum(task, task.training.parameters)


def statistics_sum(task: Task) -> NoisySum:
    """Of the standardization sums: u and u^2 of every number."""
    privacy, parties = task.privacy, parties_of(task)
    multiplier, size = privacy.statistics_noise_multiplier, 2 * len(task.schema.numbers())
    lattice = make_lattice(privacy.statistics_clip_norm, size, multiplier, parties)
    return NoisySum(lattice, multiplier, parties, privacy.mechanism)


def evaluation_counts(task: Task) -> NoisyCounts:
    """Of federated evaluation (wire/evaluation.py)."""
    learned, privacy = task.schema.learned, task.privacy
    multiplier, size = privacy.evaluation_noise_multiplier, learned.size(task.evaluation.bins)
    return NoisyCounts(size, multiplier, parties_of(task), privacy.mechanism, learned.fine)


def evaluation_noise(task: Task, nodes: int) -> float:
    """Standard deviation of the noise on each number of the evaluation sums of `nodes` nodes together; 0 without privacy."""
    if not task.privacy.on:
        return 0.0
    counts = evaluation_counts(task)
    return math.sqrt(nodes * party_variance(counts.mechanism, counts.std)) / counts.scale


def score_sum(task: Task) -> NoisySum:
    """Of what one unit says of another node's model, -1 to 1 (privacy/scoring.py). All of the noise is the node's own."""
    privacy = task.privacy
    multiplier = privacy.score_noise_multiplier
    return NoisySum(make_lattice(1.0, 1, multiplier, 1), multiplier, 1, privacy.mechanism)


def count_sum(task: Task) -> NoisySum:
    """Of ones, one for each unit a node trains on: how many it says it has. All of the noise is the node's own."""
    privacy = task.privacy
    multiplier = privacy.count_noise
    return NoisySum(make_lattice(1.0, 1, multiplier, 1), multiplier, 1, privacy.mechanism)


def noised_count(task: Task, units: int, random: SecureRandom) -> int:
    """A draw of the number of units a node may state, 1 at least. It differs from `units` by noise alone."""
    released = count_sum(task)
    steps = units * released.lattice.levels + int(released.noise(random)[0])
    return max(1, round(steps / released.lattice.levels))
