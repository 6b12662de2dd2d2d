"""A private sum that stays on its node: on a finer grid, where rounding takes no draws.

Where a node adds all of the noise itself, what it sums its vectors in is its own affair. On a grid `FINER` times as fine as
the one that tasks name, each coordinate goes to its nearest step. That lengthens a vector by sqrt(size) / 2 fine steps at
most, which is less than random rounding may lengthen it by on the coarse grid:

    finer * levels + sqrt(size) / 2 <= finer * D,    D: the coarse grid's bound (`lattice.py`)

so the coarse grid's noise, drawn in fine steps, covers it, and whatever is charged for the coarse grid holds. A vector is
off by half a fine step in each number: under a part in 100,000 of the least noise there is. Rounding at random takes four
times as long (benchmarks/results/training.md).
"""

import math
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from orchestrator.errors import PrivacyError
from orchestrator.privacy.discrete import MAX_SIGMA, MAX_SKELLAM_VARIANCE
from orchestrator.privacy.lattice import MAX_NEAREST_LEVELS, Lattice, party_variance
from orchestrator.privacy.noisy_sum import NoisySum, training_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.task import Task

FINER = 64
"""Least fine steps to a coarse one."""


@dataclass(frozen=True)
class OwnSum(NoisySum):
    """`coarse`, on the finer grid `lattice`. Its tally, which is sent, stays in coarse steps."""

    coarse: Optional[NoisySum] = None

    @property
    def std(self) -> int:
        shared = replace(self.shared, noise_multiplier=self.noise_multiplier)
        return shared.std * (self.lattice.levels // shared.lattice.levels)

    @property
    def bound(self) -> float:
        """In fine steps, the tally's among them."""
        return math.hypot(self.lattice.bound, self.beside * (self.lattice.levels // self.shared.lattice.levels))

    @property
    def tally_deviation(self) -> float:
        return replace(self.shared, noise_multiplier=self.noise_multiplier).tally_deviation

    def tally(self, units: int, random: SecureRandom, limit: Optional[int] = None) -> np.ndarray:
        return self.shared.tally(units, random, limit)

    @property
    def shared(self) -> NoisySum:
        if self.coarse is None:
            raise PrivacyError("an own sum without the sum it stands for")
        return self.coarse


def own_sum(shared: NoisySum) -> NoisySum:
    """`shared` on a finer grid, for a node that adds all of its noise; `shared` itself where no grid is fine enough."""
    lattice = shared.lattice
    room = lattice.bound - lattice.levels * (1 + 1e-9)
    if shared.parties > 1 or room <= 0:
        return shared
    finer = FINER
    while finer * room < math.sqrt(lattice.size) / 2:
        finer *= 2
    if lattice.levels * finer > MAX_NEAREST_LEVELS or not _drawable(shared, finer):
        return shared
    fine = Lattice(lattice.clip_norm, lattice.size, lattice.levels * finer, nearest=True)
    return OwnSum(fine, shared.noise_multiplier, 1, shared.mechanism, shared.beside, shared)


def _drawable(shared: NoisySum, finer: int) -> bool:
    std = shared.std * finer
    return std <= MAX_SIGMA and (
        shared.mechanism != "skellam" or party_variance(shared.mechanism, std) <= MAX_SKELLAM_VARIANCE
    )


def step_sum(task: Task, parameters: int) -> NoisySum:
    """Of one private step of a node: on a grid of its own, but where its answer is one share of a sum that others add to."""
    shared = training_sum(task, parameters)
    return own_sum(shared) if task.privacy.local and task.privacy.within_node else shared
