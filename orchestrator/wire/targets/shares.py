"""Intervals of 95 % for shares, and for means of values in a known range, that have a width whatever was counted.

Where all of a sample say the same, a normal interval has no width: three records of three do not show that all others are
like them. Wilson's score interval (1927, J. Am. Stat. Assoc. 22:209) has a width there too. It is for means of values between 0
and 1 as well, whose variance is at most that of a share with the same mean.
"""

import math
from typing import List, Optional, Tuple

import numpy as np

Z = 1.959964


def wilson(part: float, whole: float) -> Tuple[float, float]:
    """Of part / whole."""
    if whole <= 0:
        return 0.0, 1.0
    value, z2 = min(1.0, max(0.0, part / whole)), Z * Z
    middle = (value + z2 / (2 * whole)) / (1 + z2 / whole)
    half = Z * math.sqrt(value * (1 - value) / whole + z2 / (4 * whole**2)) / (1 + z2 / whole)
    return max(0.0, middle - half), min(1.0, middle + half)


def around(value: float, half: float, count: float, most: float = 1.0) -> Optional[Tuple[float, float]]:
    """The mean of `count` values in [0, most], and half its normal interval: Wilson's where that has no width; None beyond."""
    if half > 1e-9 * most:
        return max(0.0, value - half), value + half
    if not 0 <= value <= most * (1 + 1e-9):
        return None
    low, high = wilson(value / most * count, count)
    return min(value, most * low), max(value, most * high)


def of_mean(values: np.ndarray) -> Optional[List[float]]:
    """Of the mean of values of 0 or more that nothing bounds; None where all are the same, which does not say how others vary."""
    mean, half = float(values.mean()), Z * float(values.std()) / math.sqrt(len(values))
    return [max(0.0, mean - half), mean + half] if half > 1e-9 * max(mean, 1e-9) else None
