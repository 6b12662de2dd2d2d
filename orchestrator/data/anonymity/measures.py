"""What a written table is worth and shows, counted from its texts alone: independent of how its classes were made."""

import math
from collections import defaultdict
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from orchestrator.data.anonymity.mondrian import Sensitive, diversity
from orchestrator.data.cells import folded


class Anonymity(NamedTuple):
    """k: persons (or rows) of the smallest class. l_distinct, l_entropy: least of all classes; t: greatest; None without a
    sensitive column. classes: how many; rows: that are written. unique: share of rows that are alone in their class."""

    k: int
    l_distinct: "int | None"
    l_entropy: "float | None"
    t: "float | None"
    classes: int
    rows: int
    unique: float
    largest: int
    squares: int
    """Sum of the squares of the classes' rows: discernibility, without what is suppressed (Bayardo and Agrawal 2005)."""

    def risks(self) -> Dict[str, float]:
        """Of being known again by somebody who knows that a person is in the table (prosecutor): the greatest, and the mean over
        rows (El Emam 2013)."""
        return {"greatest": 1 / self.k, "mean": self.classes / self.rows}


def measure(quasi: Sequence[Tuple[str, ...]], sensitive: Sequence[str], persons: Sequence[str]) -> Anonymity:
    """Of rows: their texts in the quasi-identifiers; their sensitive value, or nothing; whose they are, or nothing.

    A person may be named in several spellings.
    """
    persons = [folded(cell) for cell in persons]
    members: Dict[Tuple[str, ...], List[int]] = defaultdict(list)
    for row, texts in enumerate(quasi):
        members[texts].append(row)
    sizes = [len(rows) for rows in members.values()]
    counted = [len({persons[row] for row in rows}) for rows in members.values()] if persons else sizes
    distinct = entropy = far = None
    if sensitive:
        distinct, entropy, far = _worst(Sensitive(sensitive), members.values())
    alone = sum(size == 1 for size in sizes)
    return Anonymity(
        min(counted),
        distinct,
        entropy,
        far,
        len(sizes),
        len(quasi),
        alone / len(quasi),
        max(sizes),
        sum(size * size for size in sizes),
    )


def _worst(values: Sensitive, classes: Iterable[List[int]]) -> Tuple[int, float, float]:
    """(least l by different values, least l by entropy, greatest t), class by class: the shares of all would fill the memory."""
    distinct, entropy, far = len(values.whole), math.inf, 0.0
    for rows in classes:
        found = values.among(np.array(rows))
        distinct = min(distinct, int(diversity(found, "distinct")))
        entropy = min(entropy, diversity(found, "entropy"))
        far = max(far, values.far(found))
    return distinct, entropy, far
