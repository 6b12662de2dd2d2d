"""What a split takes from the Gini impurity, with or without noise on its counts."""

import math
from typing import Tuple

import numpy as np


def gain_of(left: np.ndarray, right: np.ndarray, leaves: int, deviation: float) -> Tuple[np.ndarray, np.ndarray]:
    """(what splits take from the impurity, its variance by noise), each (trees, nodes), from counts (trees, nodes, classes) on
    both sides, each of so many leaves; zeros where noise hides who is on a side.

    With f the sum of squares of the counts over their sum, the gain is f(left) + f(right) - f(both). Noise of variance v on a
    count adds v / 2 times the trace of the second derivatives, which is subtracted, and to first order moves it by the gradient.
    """
    both, v = left + right, deviation**2 * leaves
    least = 3 * deviation * math.sqrt(leaves * left.shape[2])
    seen = (left.sum(axis=2) > least) & (right.sum(axis=2) > least)
    value, slope, _ = _concentration(both, 2 * v)
    gain, variance = -value, np.zeros(seen.shape)
    for side in (left, right):
        value, own, second = _concentration(side, v)
        gain += value
        variance += v * ((own - slope) ** 2).sum(axis=2) + second
    return np.where(seen, gain, 0.0), np.where(seen, variance, 0.0)


def _concentration(counts: np.ndarray, variance: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(f, its gradient, the variance of its second-order part) of `gain_of`, f without what noise of this variance adds."""
    size, classes = np.maximum(counts.sum(axis=2), 1e-9), counts.shape[2]
    shares = counts / size[:, :, np.newaxis]
    squares = (shares**2).sum(axis=2)
    added = variance / size * (classes - 2 + classes * squares)
    return squares * size - added, 2 * shares - squares[:, :, np.newaxis], 2 * (classes - 1) * (variance / size) ** 2
