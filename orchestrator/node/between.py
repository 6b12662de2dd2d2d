"""Sets of records of two answers, or of three, that tell few people apart.

Of three, two are of different records and one is of nearly all of both, or of what one leaves of the other. Of more than three
nothing is seen: four may leave one person over.
"""

from typing import Iterable, Iterator, List, Tuple

import numpy as np

from orchestrator.node.seen import Seen

_PIECE = 1 << 20
"""Counts that are in memory at a time."""

_MOST_COMPARED = 2000
"""Pairs of sets whose people are counted one by one."""


def alike(one: np.ndarray, other: np.ndarray, empty: object) -> Tuple[np.ndarray, np.ndarray]:
    """Both as long as the longer one, filled up with `empty`."""
    longest = max(len(one), len(other))
    found = []
    for each in (one, other):
        longer = np.full(longest, empty, each.dtype)
        longer[: len(each)] = each
        found.append(longer)
    return found[0], found[1]


def fewest_between(seen: Seen, cells: np.ndarray, before: np.ndarray, ordered: bool, least: int) -> int:
    """How many people are in one of two sets and not in the other, where these are some and fewer than `least`; else 0.

    The sets are a cell of each answer; where cells follow each other, all up to one of each. Of people with several records the
    _MOST_COMPARED sets that differ in the fewest records are looked at.
    """
    one, other = (_numbered(each) for each in alike(cells, before, -1))
    near = sorted(_near(one, other, ordered, least * seen.most_records))
    for _, i, j in near[:_MOST_COMPARED]:
        mine = (one >= 0) & (one <= i) if ordered else one == i
        theirs = (other >= 0) & (other <= j) if ordered else other == j
        few = seen.patients_of(mine != theirs)
        if few < least:
            return few
    return 0


def _numbered(cells: np.ndarray) -> np.ndarray:
    """The same cells, numbered without those that are empty."""
    return np.asarray(np.unique(np.append(cells, -1), return_inverse=True)[1].ravel()[:-1] - 1)


def _near(one: np.ndarray, other: np.ndarray, ordered: bool, most: int) -> Iterator[Tuple[int, int, int]]:
    """(records, i, j): those that are in one only of the sets i and j, where these are some and fewer than `most`."""
    rows, columns = 1 + int(one.max(initial=-1)), 1 + int(other.max(initial=-1))
    if not rows or not columns:
        return
    of_one, of_other = np.bincount(one + 1, minlength=rows + 1)[1:], np.bincount(other + 1, minlength=columns + 1)[1:]
    if ordered:
        of_one, of_other = of_one.cumsum(), of_other.cumsum()
    order = np.argsort(one, kind="stable")
    some, so_far = max(1, _PIECE // columns), np.zeros(columns, np.int64)
    for first in range(0, rows, some):
        start, end = np.searchsorted(one[order], (first, first + some))
        here = order[start:end][other[order[start:end]] >= 0]
        count = min(some, rows - first)
        both = np.bincount((one[here] - first) * columns + other[here], minlength=count * columns).reshape(
            count, columns
        )
        if ordered:
            both = both.cumsum(axis=0).cumsum(axis=1) + so_far
            so_far = both[-1]
        between = of_one[first : first + count, np.newaxis] + of_other - 2 * both
        for i, j in np.argwhere((between > 0) & (between < most))[:_MOST_COMPARED]:
            yield int(between[i, j]), first + int(i), int(j)


def left_over(one: np.ndarray, before: Iterable[np.ndarray], most: int) -> Iterator[np.ndarray]:
    """bool (lines,): records that are counted in `one` (bool (lines,)) less, or more, than in the sum or the difference of two of
    the sets before, where these are some and fewer than `most`.
    """
    sets = [one, *before]
    lines = max(map(len, sets))
    packed = np.zeros((len(sets), (lines + 7) // 8), np.uint8)
    for at, each in enumerate(sets):
        bits = np.packbits(each)
        packed[at, : len(bits)] = bits
    sizes = np.array([int(each.sum()) for each in sets], np.int64)
    for whole, first, second in _candidates(sizes, most):
        a, b = packed[first], packed[second]
        rest = np.unpackbits((packed[whole] ^ a ^ b) | (a & b))[:lines].astype(bool)
        if 0 < int(rest.sum()) < most:
            yield rest


def _candidates(sizes: np.ndarray, most: int) -> Iterator[List[int]]:
    """(whole, part, part), with the first set as one of them, whose sizes let fewer than `most` records be left over: of a record
    in both parts twice as many.
    """
    for at in range(1, len(sizes)):
        others = np.arange(1, len(sizes))
        as_whole = np.abs(sizes[0] - sizes[at] - sizes[1:]) < 2 * most
        yield from ([0, at, int(other)] for other in others[as_whole & (others > at)])
        as_part = np.abs(sizes[at] - sizes[0] - sizes[1:]) < 2 * most
        yield from ([at, 0, int(other)] for other in others[as_part & (others != at)])
