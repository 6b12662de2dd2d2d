"""The figures that follow from a confusion matrix of several classes: counts by true class and by predicted class.

A share's interval is that of analyses/intervals.py. F1 = 2a / (2a + b), of a records that are of a class and predicted as such
and b that are one of the two, is 2q / (1 + q) of the share q = a / (a + b), and so are the ends of its interval. The interval of
their mean is by the delta method, of cells that are drawn together and of noise on each.
"""

import math
from typing import Iterator, List, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Cell
from orchestrator.analyses.intervals import share, share_noise
from orchestrator.wire.targets.shares import Z

HIDDEN = 0.25
"""A figure between 0 and 1 that noise alone moves by more (95 %) is left out."""

OF_ALL = ("accuracy", "from", "to", "macro F1", "macro F1 from", "macro F1 to", "base rate")
OF_A_CLASS = tuple(f"{name}{end}" for name in ("sensitivity", "PPV", "F1") for end in ("", " from", " to"))

_NONE: Tuple[Cell, Cell, Cell] = (None, None, None)


def of_all(matrix: np.ndarray, noise: float) -> Tuple[Cell, ...]:
    """The columns of OF_ALL. matrix: (true, predicted); noise: standard deviation of each of its cells."""
    k, whole, right = len(matrix), float(matrix.sum()), float(np.trace(matrix))
    (most,) = _shared(float(matrix.sum(axis=1).max()), whole, noise, k, k * k)[:1]
    return (*_shared(right, whole, noise, k, k * k), *macro_f1(matrix, noise), most)


def of_classes(matrix: np.ndarray, noise: float) -> Iterator[Tuple[Cell, ...]]:
    """Of each class: how many are of it, how many are predicted as it, and the columns of OF_A_CLASS."""
    k = len(matrix)
    for hit, true, predicted in zip(matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)):
        either = float(true + predicted - hit)
        f1 = [None if q is None else 2 * float(q) / (1 + float(q)) for q in _shared(hit, either, noise, 1, 2 * k - 1)]
        counts = (plain(true), plain(predicted))
        yield (*counts, *_shared(hit, true, noise, 1, k), *_shared(hit, predicted, noise, 1, k), *f1)


def macro_f1(matrix: np.ndarray, noise: float) -> Tuple[Cell, Cell, Cell]:
    """The mean F1 of the classes that occur, true or predicted, and its interval; None of records of one class, which say
    nothing of the others.
    """
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    either = true + predicted
    occurs = either > math.sqrt(2 * len(matrix)) * Z * noise
    if (true > math.sqrt(len(matrix)) * Z * noise).sum() < 2:
        return _NONE
    base = np.where(occurs, either, 1.0)
    f1 = np.where(occurs, 2 * matrix.diagonal() / base, 0.0)
    # What a record more in cell (i, j) adds to the sum of all F1: -F1 / base of class i and of class j, and 2 / base where i = j.
    falls = np.where(occurs, f1 / base, 0.0)
    slopes = np.diag(np.where(occurs, 2 / base, 0.0)) - falls[:, np.newaxis] - falls[np.newaxis, :]
    slopes /= occurs.sum()
    value = float(f1.sum() / occurs.sum())
    moved = Z * noise * math.sqrt(float((slopes**2).sum()))
    if moved > HIDDEN or not 0 <= value <= 1:
        return _NONE
    sampled = float((np.maximum(matrix, 0.0) * slopes**2).sum())
    if sampled <= 1e-15:
        return value, *_means_of_ends(matrix, noise, occurs, value)
    half = math.hypot(moved, Z * math.sqrt(sampled))
    return value, max(0.0, value - half), min(1.0, value + half)


def _means_of_ends(matrix: np.ndarray, noise: float, occurs: np.ndarray, value: float) -> Tuple[float, float]:
    """Of the intervals of all F1: where each of them is 0 or 1, the delta method sees no spread. Wider than the mean's own."""
    k = len(matrix)
    ends = []
    for hit, true, predicted in zip(
        *(each[occurs] for each in (matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)))
    ):
        both = share(float(hit), float(true + predicted - hit), noise, *((1, 2 * k - 1) if noise else ()))
        ends.append([2 * q / (1 + q) for q in both])
    low, high = np.mean(ends, axis=0)
    return min(value, float(low)), max(value, float(high))


def confusion(matrix: np.ndarray, names: Sequence[str]) -> List[Tuple[Cell, ...]]:
    """A row of each true class."""
    return [(name, *map(plain, row)) for name, row in zip(names, matrix)]


def plain(value: float) -> Cell:
    """A count, which noise makes a number with a fraction."""
    return int(value) if float(value).is_integer() else float(value)


def _shared(part: float, whole: float, noise: float, *cells: int) -> Tuple[Cell, Cell, Cell]:
    """(part / whole, from, to); None where there is nothing, or noise hides it. cells: in the part, in the whole."""
    if whole <= 0 or not 0 <= part <= whole or (noise and share_noise(part, whole, noise, *cells) > HIDDEN):
        return _NONE
    low, high = share(part, whole, noise, *(cells if noise else ()))
    return part / whole, min(low, part / whole), max(high, part / whole)
