"""The cells an owner answers a question with, by what it shows: noised counts, or how many patients are at which distance."""

from functools import lru_cache
from itertools import count
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.errors import PrivacyError
from orchestrator.privacy.secure_random import SecureRandom

COUNTS, DISTANCES = "counts", "distances"
SHOWN = (COUNTS, DISTANCES)

NEVER, ALWAYS = -1, -2
"""In place of a patient: a cell that is no hit, and one that is, for every question of bits."""

PADDED = 32
"""How many patients of a class there are is shown to the next multiple."""

DELTA = 1e-6
"""Of the noise on a count: how likely it is at each of its two ends."""

MOST_CELLS = 1 << 20


class Cells(NamedTuple):
    """Cells, in an order that says nothing. patients: int64 (n,), places in the owner's codes, NEVER or ALWAYS; distances: int64
    (n,).
    """

    patients: np.ndarray
    distances: np.ndarray


class Group(NamedTuple):
    """Cells of one kind. label: of their patients; distance: which they test for, None where all up to the largest are mixed."""

    label: str
    distance: Optional[int]
    cells: int


class Shown(NamedTuple):
    """What an owner shows. show: one of SHOWN; within: the largest distance; minimum_cell: patients of a class, with fewer of
    whom it is left out; epsilon: of the noise on a count.
    """

    show: str
    within: int
    minimum_cell: int
    epsilon: float


class Asked(NamedTuple):
    """shift: what a count has too much, in the middle; 0 where there is no noise."""

    cells: Cells
    groups: List[Group]
    shift: int


def cells_for(levels: np.ndarray, classes: Sequence[str], shown: Shown, random: SecureRandom) -> Asked:
    """The cells of one question. levels: int64 (patients,), places in `classes`, -1 for a patient of none, who is left out."""
    shift = shift_of(shown.epsilon) if shown.show == COUNTS else 0
    parts: List[Cells] = []
    groups: List[Group] = []
    for level, label in enumerate(classes):
        own = np.flatnonzero(levels == level)
        if len(own) < max(1, shown.minimum_cell):
            continue
        tested = np.arange(shown.within + 1)
        if shown.show == DISTANCES:
            for distance in tested:
                parts.append(_group(own, np.full(len(own), distance), _padded(len(own)), 0, random))
                groups.append(Group(label, int(distance), len(parts[-1].patients)))
        else:
            patients, distances = np.tile(own, len(tested)), np.repeat(tested, len(own))
            size = _padded(len(own)) * len(tested) + 2 * shift
            parts.append(_group(patients, distances, size, drawn(shown.epsilon, random), random))
            groups.append(Group(label, None, len(parts[-1].patients)))
    if not parts:
        raise PrivacyError(
            f"no class has {max(1, shown.minimum_cell)} patients here ([similar] minimum_cell): nothing is answered"
        )
    if sum(group.cells for group in groups) > MOST_CELLS:
        raise PrivacyError(f"more than {MOST_CELLS} tests of patients and distances: lower [similar] within")
    return Asked(Cells(*(np.concatenate(each) for each in zip(*parts))), groups, shift)


def _padded(patients: int) -> int:
    """As many as are shown for so many of a class."""
    return -(-patients // PADDED) * PADDED


def _group(patients: np.ndarray, distances: np.ndarray, size: int, hits: int, random: SecureRandom) -> Cells:
    """`size` cells, shuffled, with `hits` that always are hits, and filled up with cells that never are."""
    filled = np.full(size, NEVER)
    filled[: len(patients)] = patients
    filled[len(patients) : len(patients) + hits] = ALWAYS
    at = np.zeros(size, np.int64)
    at[: len(distances)] = distances
    order = np.argsort(random.words(size), kind="stable")
    return Cells(filled[order], at[order])


def _law(epsilon: float, shift: int) -> np.ndarray:
    """Probabilities of 0 to 2 shift: in proportion to exp(-epsilon |k - shift|) (Ghosh, Roughgarden and Sundararajan 2009, cut
    off at both ends).
    """
    weights = np.exp(-epsilon * np.abs(np.arange(2 * shift + 1) - shift))
    return np.asarray(weights / weights.sum())


@lru_cache(maxsize=None)
def shift_of(epsilon: float) -> int:
    """The least at which the noise on a count is at either end with probability DELTA at most."""
    return next(shift for shift in count(1) if _law(epsilon, shift)[0] <= DELTA)


def drawn(epsilon: float, random: SecureRandom) -> int:
    """0 to 2 shift."""
    shift = shift_of(epsilon)
    place = np.searchsorted(np.cumsum(_law(epsilon, shift)), random.uniform(1)[0], side="right")
    return min(int(place), 2 * shift)


def half_width(epsilon: float) -> int:
    """Half the interval in which the noise is in 95 of 100 draws."""
    shift = shift_of(epsilon)
    law = _law(epsilon, shift)
    inside = (float(law[shift - half : shift + half + 1].sum()) for half in range(shift + 1))
    return next(half for half, share in enumerate(inside) if share >= 0.95 or half == shift)


Near = Dict[str, Dict[int, int]]
"""Label -> distance -> how many patients are at it."""


def near_of(sums: np.ndarray, groups: Sequence[Group]) -> Near:
    """What an answer shows of one question, distance by distance; sums: as `Querier.read` has them."""
    found: Near = {}
    for group, hits in zip(groups, hits_of(sums, groups)):
        if hits and group.distance is not None:
            found.setdefault(group.label, {})[group.distance] = hits
    return found


def hits_of(sums: np.ndarray, groups: Sequence[Group]) -> List[int]:
    """How many cells of each group are 0."""
    ends = np.cumsum([group.cells for group in groups])
    return [int((part == 0).sum()) for part in np.split(sums, ends[:-1])]


def votes(
    near: Sequence[Near], labels: Sequence[str], most: int, reach: Optional[int] = None
) -> Optional[Tuple[Dict[str, float], int]]:
    """(the share of each label among the `most` nearest, how many these are) over several answers; None where nobody is near.

    reach: the distance up to which all answers show patients; beyond it others may be nearer than those that are shown. Of those
    at the last distance that counts, each counts in part, so that the order of equals says nothing.
    """
    whole: Dict[int, Dict[str, int]] = {}
    for each in near:
        for label, by_distance in each.items():
            for distance, size in by_distance.items():
                if reach is not None and distance > reach:
                    continue
                at = whole.setdefault(distance, {})
                at[label] = at.get(label, 0) + size
    found, left = dict.fromkeys(labels, 0.0), float(most)
    for distance in sorted(whole):
        size = sum(whole[distance].values())
        part = min(1.0, left / size)
        for label, number in whole[distance].items():
            found[label] += part * number
        left -= part * size
        if left <= 1e-9:
            break
    used = most - left
    if used <= 0:
        return None
    return {label: value / used for label, value in found.items()}, round(used)


def plainly_near(code: np.ndarray, codes: np.ndarray, levels: np.ndarray, classes: Sequence[str]) -> Near:
    """The same of one's own patients: code (bits,), codes (patients, bits), levels (patients,) as of `cells_for`."""
    distances, found = (codes != code).sum(axis=1), {}
    for level, label in enumerate(classes):
        each, sizes = np.unique(distances[levels == level], return_counts=True)
        found[label] = {int(distance): int(size) for distance, size in zip(each, sizes)}
    return found
