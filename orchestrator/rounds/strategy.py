"""What a strategy is: how the updates of a round become the next weights."""

from typing import Iterable, NamedTuple, Protocol

import numpy as np


class Update(NamedTuple):
    node: str
    weight: float  # records of the node
    delta: np.ndarray  # float32 (P,)


class Strategy(Protocol):
    """Stateless so far: everything it needs comes in, so that a round can be computed again after a crash."""

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update]) -> np.ndarray:
        """New float32 weights (P,) from the old ones and this round's updates, read one at a time."""
        ...


def weighted_mean(updates: Iterable[Update], size: int) -> np.ndarray:
    """Sum of weight * delta over sum of weight, in float64; memory does not grow with the number of updates.

    The caller gives the updates in a fixed order (node name), so the result does not depend on who was faster.
    """
    total, weight_sum = np.zeros(size, np.float64), 0.0
    scratch = np.empty(size, np.float64)
    for update in updates:
        np.multiply(update.delta, update.weight, out=scratch, dtype=np.float64)
        total += scratch
        weight_sum += update.weight
    if weight_sum <= 0:
        raise ValueError("no update with a positive weight")
    return total / weight_sum
