"""Counts of a classifier's answers by cell: a true class, a predicted one, and the confidence in it."""

from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from orchestrator.wire.evaluation import LOSS_BOUND

_MOST_ROWS, _LEVELS = 5000, 4000
"""Of more rows confidences are rounded to so many levels: a resample stays small."""


@dataclass(frozen=True)
class Counts:
    """Counts (k,) of cells. floor: where the positive class's score begins in a cell. noise: standard deviation of each count.

    losses: the sum of log losses, bounded if they are noised; None where it is left out. loss_noise: its standard deviation.
    """

    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    floor: np.ndarray
    counts: np.ndarray
    classes: int
    losses: Optional[float]
    noise: float = 0.0
    loss_noise: float = 0.0

    @property
    def score(self) -> np.ndarray:
        """Of the positive class, of two."""
        return np.where(self.predicted == 1, self.confidence, 1 - self.confidence)

    @property
    def total(self) -> float:
        return float(self.counts.sum())


def of_rows(y: np.ndarray, probabilities: np.ndarray) -> Counts:
    """Of int labels (n,) and the probabilities (n, classes) that rows were given."""
    rows, classes = np.arange(len(y)), probabilities.shape[1]
    p = probabilities.astype(np.float64)
    losses = float(-np.log(np.maximum(p[rows, y], 1e-12)).sum())
    predicted = p.argmax(axis=1)
    confidence, truth = p[rows, predicted], np.asarray(y)
    counts: np.ndarray = np.ones(len(y))
    if len(y) > _MOST_ROWS:
        level = np.rint(confidence * _LEVELS).astype(np.int64)
        cells, counts = np.unique(np.stack([truth, predicted, level]), axis=1, return_counts=True)
        truth, predicted, confidence = cells[0], cells[1], cells[2] / _LEVELS
    found = Counts(truth, predicted, confidence, confidence, counts.astype(np.float64), classes, losses)
    return replace(found, floor=found.score)


def of_sums(sums: np.ndarray, classes: int, bins: int, noise: float = 0.0) -> Counts:
    """Of federated sums (cells + 1,). noise: standard deviation of each number."""
    truth, predicted, bin_ = (a.ravel() for a in np.indices((classes, classes, bins)))
    width = (1 - 1 / classes) / bins
    middle = 1 / classes + (bin_ + 0.5) * width
    floor = np.where(predicted == 1, middle, 1 - middle) - width / 2
    losses = float(sums[-1]) * LOSS_BOUND
    counts = np.asarray(sums[:-1], np.float64)
    return Counts(truth, predicted, middle, floor, counts, classes, losses, noise, LOSS_BOUND * noise)
