"""Which row of a call each record gets, and the first try of a function of many rows (node/graph_rows.py)."""

import math
from typing import List, NamedTuple, Tuple

import numpy as np

from orchestrator.node.graph_file import Function

_SAMPLE = 256
"""Records of a step, when it is estimated how many places stay empty."""


def filled(rows: int) -> float:
    """Places for each record, about: 1 of one row, 1.6 of 16."""
    return 1 + math.sqrt(2 * math.log(rows) * rows / _SAMPLE)


class Trial(NamedTuple):
    """Made-up records for a first try. columns: x (calls, rows, 1, *S), y (calls, rows, 1). spoilt: bool (calls, rows), those
    whose own answers are not looked at.
    """

    weights: np.ndarray
    columns: List[np.ndarray]
    spoilt: np.ndarray


CLOSE = 1e-5
"""Of a gradient's largest number."""

_PLAIN = 4
"""Calls of records as they come: two, and the same in reverse. Behind them the first again, with one record spoilt."""

_SPOILS = (np.nan, np.inf, -np.inf, 1e38, 0.0)

TRIED_CALLS = _PLAIN + len(_SPOILS)


def trial(function: Function) -> Trial:
    """Records in one order and the other, and beside records that are not finite. No graph knows beforehand which."""
    random = np.random.default_rng()
    w, x, y = (function.tensors[i].shape for i in function.inputs)
    calls = TRIED_CALLS
    records, labels = random.standard_normal((2, *x)).astype("<f4"), random.integers(0, 2, (2, *y)).astype("<i4")
    columns = [np.empty((calls, *x), "<f4"), np.empty((calls, *y), "<i4")]
    for column, made in zip(columns, (records, labels)):
        column[:2], column[2:_PLAIN], column[_PLAIN:] = made, made[:, ::-1], made[0]
    spoilt = np.zeros((calls, x[0]), bool)
    for call, value in enumerate(_SPOILS, _PLAIN):
        place = int(random.integers(0, x[0]))
        columns[0][call, place] = value
        spoilt[call, place] = True
    return Trial((0.3 * random.standard_normal(w)).astype("<f4"), columns, spoilt)


def alike(tried: Trial, found: np.ndarray, right: np.ndarray) -> bool:
    """Whether float32 (calls, rows, P) are what `grad1` gives, `right`, up to rounding; bit for bit, whatever is beside a row.

    Runtimes round otherwise in a product of one row than in one of many. That says nothing of other rows, see `places`.
    """
    kept = ~tried.spoilt
    beside = found[_PLAIN:].view(np.uint32) == found[0].view(np.uint32)
    if not beside.all(axis=2)[kept[_PLAIN:]].all():
        return False
    given, wanted = found[kept].astype(np.float64), right[kept].astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinite ones
        largest = np.max(np.abs(wanted), axis=1, keepdims=True, initial=0.0, where=np.isfinite(wanted))
        close = np.abs(given - wanted) <= CLOSE * largest
    return bool((close | (given == wanted) | (np.isnan(given) & np.isnan(wanted))).all())


def sums_trial(function: Function) -> Tuple[np.ndarray, List[np.ndarray]]:
    """(weights, columns) for a first try of sums over a call's records (node/graph_row_sums.py): two calls, and the first again.

    columns: x (3, rows, 1, *S), y (3, rows, 1), sample weights (3, rows, 1) of 0 to 1.
    """
    random = np.random.default_rng()
    w, x, y, sw = (function.tensors[i].shape for i in function.inputs)
    made = random.standard_normal((2, *x)), random.integers(0, 2, (2, *y)), random.random((2, *sw))
    columns = [column[[0, 1, 0]].astype(kind) for column, kind in zip(made, ("<f4", "<i4", "<f4"))]
    return (0.3 * random.standard_normal(w)).astype("<f4"), columns


def sums_alike(shares: np.ndarray, found: np.ndarray, each: np.ndarray) -> bool:
    """Whether float32 (3, P) are the sums of `grad1`'s gradients of each record, (3 rows, P), by their sample weights.

    Up to rounding, and bit for bit the same where the records are.
    """
    parts = shares.reshape(len(found), -1, 1) * each.reshape(len(found), -1, each.shape[1]).astype(np.float64)
    most = np.abs(parts).sum(axis=1).max(axis=1, keepdims=True)
    close = np.abs(found - parts.sum(axis=1)) <= CLOSE * most
    return bool(close.all() and found[0].tobytes() == found[2].tobytes())


def places(count: int, rows: int, random: np.random.Generator) -> Tuple[int, np.ndarray]:
    """(calls, flat place of each of `count` records among calls x rows): each record's place in a call is drawn by itself.

    A runtime may round a row otherwise in another place (the last numbers of a vector, the rest of a block), and a graph may
    blow that up. Were records put in one behind the other, one record less would move all that follow, and with them their
    gradients. As it is, a record's place is independent of the other records, and so is its gradient: it is a function of the
    record and of its place. The price are empty places: most draws that fall on one place say how many calls it takes.
    """
    drawn = random.integers(0, rows, count, np.uint8)  # of small numbers, which are sorted many times faster
    order = np.argsort(drawn, kind="stable")
    counts = np.bincount(drawn, minlength=rows)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    call = np.empty(count, np.int64)
    call[order] = np.arange(count) - before[drawn[order]]
    return int(counts.max(initial=0)), call * rows + drawn
