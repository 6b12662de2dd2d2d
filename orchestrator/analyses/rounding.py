"""What rounding leaves of a difference of sums that is 0, such as the variance of a column with one value."""

from typing import Union

import numpy as np

Number = Union[float, np.ndarray]

_STEPS, _RECORDS = 64, 500
"""Roundings that a figure of few records has behind it, and records that add one more: nodes add up in pieces, pair by pair."""

_PLACES = 2.0**-51
"""What is left of masked sums, whose values have 60 binary places at each of 500 nodes, however small they are."""

_NEXT_TO_NOTHING = 1e-8


def rounding(records: float) -> float:
    """By how much, as a share of what is subtracted, rounding moves a difference of sums over so many records."""
    return float(np.finfo(np.float64).eps) * (_STEPS + max(records, 0.0) / _RECORDS)


def settled(difference: Number, of: Number, records: float, scale: float = 0.0) -> Number:
    """A difference of exact sums, 0 where it is no more than rounding leaves of sums as large as `of`. NaN stays.

    scale: what the sums' values within -1 to 1 were multiplied by, where they may have been masked.
    """
    return np.where(np.abs(difference) <= rounding(records) * np.abs(of) + _PLACES * scale, 0.0, difference)[()]


def settled_likelihood(difference: float, of: float, records: float, scale: float) -> float:
    """The same of log-likelihoods, whose scale may be so large that all digits of masked sums would be below it."""
    return float(settled(difference, of, records, min(scale, _NEXT_TO_NOTHING * of / _PLACES)))


def around_mean(first: Number, second: Number, records: float) -> Number:
    """The sum of squares around the mean, from exact sums of values within -1 to 1 and of their squares: 0 of values that are all
    the same.
    """
    return settled(second - first * first / records, second, records, 1.0)
