"""Federated evaluation: what a node counts on records it never trains on (gateway/scores.py reads it).

A node sends one vector of sums, float32 (cells + 1,): a histogram over (true class, predicted class, bin of the confidence),
then the sum of the losses, each clipped to [0, 10] and divided by 10. Adding the vectors of all nodes gives the pooled one.
One record changes one cell by 1 and the loss by at most 1, so its L2 sensitivity is sqrt(2).
"""

from typing import Any

import numpy as np

from orchestrator.errors import WireError

LOSS_BOUND = 10.0
SENSITIVITY = float(np.sqrt(2.0))


def vector_size(classes: int, bins: int) -> int:
    return classes * classes * bins + 1


def count(y: np.ndarray, probabilities: np.ndarray, bins: int) -> np.ndarray:
    """float64 sums of int labels (n,) and probabilities (n, classes)."""
    classes = probabilities.shape[1]
    rows = np.arange(len(y))
    predicted = probabilities.argmax(axis=1)
    cell = (y * classes + predicted) * bins + _bin(probabilities[rows, predicted], classes, bins)
    losses = np.clip(-np.log(np.maximum(probabilities[rows, y], 1e-30)), 0.0, LOSS_BOUND) / LOSS_BOUND
    return np.append(np.bincount(cell, minlength=classes * classes * bins), losses.sum()).astype(np.float64)


def check(sums: Any, size: int) -> np.ndarray:
    """float64 (size,); raises WireError for what no node of a task with so many sums can have counted."""
    if not isinstance(sums, np.ndarray) or sums.shape != (size,) or sums.dtype != np.dtype("<f4"):
        raise WireError(f"evaluation sums: expected float32 ({size},)")
    if not np.isfinite(sums).all():
        raise WireError("evaluation sums hold values that are not finite numbers")
    return sums.astype(np.float64)


def _bin(confidence: np.ndarray, classes: int, bins: int) -> np.ndarray:
    """The confidence of the predicted class lies in [1/classes, 1]; `bins` equal parts of it."""
    scaled = (confidence - 1 / classes) / (1 - 1 / classes)
    return np.clip((scaled * bins).astype(np.int64), 0, bins - 1)
