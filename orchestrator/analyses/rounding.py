"""What rounding leaves of a difference of sums that is 0, such as the variance of a column with one value."""

from typing import Union

import numpy as np

Number = Union[float, np.ndarray]

_STEPS, _RECORDS = 64, 500
"""Roundings that a figure of few records has behind it, and records that add one more: nodes add up in pieces, pair by pair."""

_PLACES = 2.0**-51
"""What is left of sums that are masked, of 60 binary places at each node, whose values are so small that this is more: of 500 nodes."""


def rounding(records: float) -> float:
    """By how much, as a share of what is subtracted, rounding moves a difference of sums over so many records."""
    return float(np.finfo(np.float64).eps) * (_STEPS + max(records, 0.0) / _RECORDS)


def settled(difference: Number, of: Number, records: float) -> Number:
    """A difference of exact sums, 0 where it is no more than rounding leaves of sums as large as `of`. NaN stays."""
    return np.where(np.abs(difference) <= rounding(records) * np.abs(of), 0.0, difference)[()]


def around_mean(first: Number, second: Number, records: float) -> Number:
    """The sum of squares around the mean, from exact sums of values within -1 to 1 and of their squares: 0 of values that are all
    the same.
    """
    found = second - first * first / records
    return settled(np.where(np.abs(found) <= _PLACES, 0.0, found), second, records)
