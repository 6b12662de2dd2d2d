"""Intervals of 95 % for figures of a classifier, with the noise of a private sum beside the chance of the sample.

Each is a test turned round: the values of the figure that what was counted does not contradict at |z| = 1.96. Of a ratio of two
noisy sums that is Fieller's interval (Fieller 1954, J. R. Stat. Soc. B 16:175); of a share of exact counts it is Wilson's score
interval (Wilson 1927, J. Am. Stat. Assoc. 22:209); of an exact area under a curve Newcombe's (2006, Stat. Med. 25:559), with the
variance of Hanley and McNeil (1982, Radiology 143:29). Where noise drowns a sum they are as wide as the figure's range.
"""

import math
from typing import Tuple

import numpy as np

from orchestrator.wire.targets.shares import Z, around
from orchestrator.wire.targets.shares import wilson as _wilson

TAIL = 0.025
"""Beyond each end of an interval of 95 %."""

_GRID = np.linspace(0.0, 1.0, 2001)

Interval = Tuple[float, float]


def share(part: float, whole: float, noise: float = 0.0, part_cells: int = 0, whole_cells: int = 0) -> Interval:
    """Of part / whole, counts of which the part is some. noise: standard deviation of each of the cells they are sums of."""
    if not noise:
        return _wilson(part, whole)
    spread = noise**2 * (part_cells * (1 - _GRID) ** 2 + (whole_cells - part_cells) * _GRID**2)
    return _where(np.abs(part - _GRID * whole) <= Z * np.sqrt(spread + max(whole, 0.0) * _GRID * (1 - _GRID)))


def share_noise(part: float, whole: float, noise: float, part_cells: int, whole_cells: int) -> float:
    """By how much the noise alone moves part / whole (95 %); inf where it may be all of the whole."""
    if whole <= Z * noise * math.sqrt(whole_cells):
        return math.inf
    value = min(1.0, max(0.0, part / whole))
    return Z * noise * math.sqrt(part_cells * (1 - value) ** 2 + (whole_cells - part_cells) * value**2) / whole


def mean(
    total: float, count: float, deviation: float, most: float, noise: Tuple[float, float] = (0.0, 0.0)
) -> Interval:
    """Of total / count in [0, most], of values of so large a standard deviation. noise: standard deviations of both sums.

    Values that are all the same do not say how others vary: without noise their mean's interval is a share's of `most`.
    """
    if not any(noise) and deviation <= 1e-9 * most and count > 0:
        found = around(min(most, max(0.0, total / count)), 0.0, count, most)
        assert found is not None, "it is within"
        return found
    grid = most * _GRID
    spread = noise[0] ** 2 + (grid * noise[1]) ** 2 + max(count, 0.0) * deviation**2
    found = _where(np.abs(total - grid * count) <= Z * np.sqrt(spread))
    return most * found[0], most * found[1]


def mean_noise(total: float, count: float, noise: Tuple[float, float]) -> float:
    """By how much the noise alone moves total / count (95 %)."""
    if count <= Z * noise[1]:
        return math.inf
    return Z * math.hypot(noise[0], max(0.0, total / count) * noise[1]) / count


def area(value: float, positives: float, negatives: float, noise: float = 0.0) -> Interval:
    """Of an area under the ROC curve. noise: the standard deviation that noise gives it.

    An area of 1, or of 0, is of classes of which nobody overlaps. Of the smaller class each record makes a pair with another one
    of the other, and these pairs are independent: where the true area is a, all m of them are right with a probability of a^m
    at most, whatever the scores' distributions. So the interval goes on to the a at which that is 2.5 %, which is also that of
    Clopper and Pearson (1934, Biometrika 26:404) for m of m; the variance alone would rest on a model of the scores. An area
    below 1 says no more for a high one than 1 does, so no interval begins above that a.
    """
    p, n = max(positives, 1.0), max(negatives, 1.0)
    a = _GRID
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (p - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (p * n)
    low, high = _where(np.abs(value - a) <= Z * np.sqrt(np.maximum(variance, 0.0) + noise**2))
    all_right = TAIL ** (1 / min(p, n))
    low, high = min(low, all_right), max(high, 1 - all_right)
    return (low, 1.0) if value >= 1 - 1e-12 else (0.0, high) if value <= 1e-12 else (low, high)


def difference_exceeds(won: float, lost: float, noise: float = 0.0, cells: int = 0) -> bool:
    """Whether more were won than lost by more than chance and noise explain (McNemar 1947, Psychometrika 12:153)."""
    spread = max(won, 0.0) + max(lost, 0.0) + noise**2 * cells
    return won - lost > Z * math.sqrt(spread)


def _where(accepted: np.ndarray) -> Interval:
    """The ends of the values accepted, a step of the grid wider; of none of them, everything."""
    chosen = np.flatnonzero(accepted)
    if not len(chosen):
        return 0.0, 1.0
    last = len(_GRID) - 1
    return float(_GRID[max(0, chosen[0] - 1)]), float(_GRID[min(last, chosen[-1] + 1)])
