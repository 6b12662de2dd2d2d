"""Aggregates a few wrong or malicious nodes cannot drag away. Every node counts alike: records are a claim of the node.

All of them compare single updates, so they hold them in memory, and cannot work where only a sum is visible.
"""

import math
from typing import Iterable, Iterator, Mapping, Tuple

import numpy as np

from orchestrator.rounds.strategy import State, Update, WeightsOnly, option, stacked, step, whole_option


class Median(WeightsOnly):
    """Coordinate-wise median (Yin et al. 2018, Definition 1)."""

    OPTIONS: Tuple[str, ...] = ()
    least_updates = 1

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        self.server_learning_rate = server_learning_rate

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update], state: State) -> Tuple[np.ndarray, State]:
        _, deltas = stacked(updates)
        return step(weights, self.combine(deltas.astype(np.float64)), self.server_learning_rate), state

    def idle(self, updates: int) -> Iterator[str]:
        """Why a round of so many updates would be a plain mean, which a single one drags anywhere."""
        return iter(())

    def combine(self, deltas: np.ndarray) -> np.ndarray:
        """float64 (P,) from float64 (n, P)."""
        return np.median(deltas, axis=0)


def _at_least_one(trim: float) -> int:
    """Least number of updates of which the share leaves one out."""
    updates = max(1, math.floor(1 / trim))
    return next(n for n in (updates, updates + 1, updates + 2) if int(trim * n) >= 1)


class TrimmedMean(Median):
    """Coordinate-wise mean without the `trim` share of the smallest and of the largest values (Yin et al. 2018)."""

    OPTIONS = ("trim",)

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        super().__init__(server_learning_rate, options)
        self.trim = option(options, "trim", 0.2, 0.0, 0.49)

    def idle(self, updates: int) -> Iterator[str]:
        if self.trim and int(self.trim * updates) < 1:
            yield (
                f"option 'trim' is {self.trim:g}, which of a quorum of {updates} updates leaves none out: raise rounds.quorum to "
                f"{_at_least_one(self.trim)} or more, or set trim to 0, or choose strategy 'median'"
            )

    def combine(self, deltas: np.ndarray) -> np.ndarray:
        cut = int(self.trim * len(deltas))
        return np.asarray(np.sort(deltas, axis=0)[cut : len(deltas) - cut].mean(axis=0))


class MultiKrum(Median):
    """Mean of the `keep` updates with the least Krum score (Blanchard et al. 2017, section 4).

    An update's score is the sum of squared distances to its n - f - 2 nearest others; `byzantine` is f.
    """

    OPTIONS: Tuple[str, ...] = ("byzantine", "keep")

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        super().__init__(server_learning_rate, options)
        self.byzantine = whole_option(options, "byzantine", 1, 0, 1_000_000)
        self.keep = whole_option(options, "keep", 0, 0, 1_000_000)
        self.least_updates = 2 * self.byzantine + 3

    def combine(self, deltas: np.ndarray) -> np.ndarray:
        nodes = len(deltas)
        if nodes < self.least_updates:
            raise ValueError(
                f"Krum with byzantine = {self.byzantine} needs at least {self.least_updates} updates, there are {nodes}"
            )
        squares = (deltas * deltas).sum(axis=1)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * deltas @ deltas.T, 0)
        nearest = np.sort(distances, axis=1)[:, 1 : nodes - self.byzantine - 1]  # column 0 is the update itself
        best = np.argsort(nearest.sum(axis=1), kind="stable")
        return np.asarray(deltas[best[: self.kept(nodes)]].mean(axis=0))

    def idle(self, updates: int) -> Iterator[str]:
        right = updates - self.byzantine - 2
        if self.keep > right:
            yield (
                f"option 'keep' is {self.keep}: of a quorum of {updates} updates with byzantine = {self.byzantine}, at most "
                f"{right} are sure to be right; lower keep, or raise rounds.quorum"
            )

    def kept(self, nodes: int) -> int:
        return self.keep or nodes - self.byzantine - 2


class Krum(MultiKrum):
    """The one update with the least Krum score."""

    OPTIONS = ("byzantine",)

    def kept(self, nodes: int) -> int:
        return 1


class GeometricMedian(Median):
    """The point with the least sum of distances to all updates, by Weiszfeld's iteration (Pillutla et al. 2022)."""

    ITERATIONS = 100

    def combine(self, deltas: np.ndarray) -> np.ndarray:
        point = np.median(deltas, axis=0)
        for _ in range(self.ITERATIONS):
            distances = np.maximum(np.linalg.norm(deltas - point, axis=1), 1e-12)
            closer = (deltas / distances[:, None]).sum(axis=0) / (1 / distances).sum()
            if np.linalg.norm(closer - point) <= 1e-9 * max(1.0, float(np.linalg.norm(point))):
                return np.asarray(closer)
            point = closer
        return np.asarray(point)
