"""Mondrian (LeFevre, DeWitt and Ramakrishnan 2006, ICDE): a table is cut in two, and each part again, while demands are met.

Each column is cut near its middle, and of these cuts the one is made after which least of the domains is written (NCP).
"""

import math
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.data.anonymity.domains import Domain
from orchestrator.data.anonymity.rules import Rules
from orchestrator.data.cells import finite, folded

MOST_TRIES = 8
"""Places of one column that are tried, from the middle outwards, where a part lacks diversity or persons."""


class Sensitive:
    """The sensitive values of rows, and how they are distributed in all of them. `1` and `1.0`, `Flu` and `flu` are one."""

    def __init__(self, cells: Sequence[str]) -> None:
        numbers = [finite(cell) for cell in cells]
        self.ordered = all(number is not None for number in numbers)
        keys: Sequence[Any] = numbers if self.ordered else [folded(cell) for cell in cells]
        _, codes = np.unique(np.array(keys), return_inverse=True)
        self._codes = codes.ravel()
        self._count = int(self._codes.max()) + 1
        self.whole = shares(self._codes, self._count)

    def among(self, rows: np.ndarray) -> np.ndarray:
        """float64 (values,): their shares among some rows."""
        return shares(self._codes[rows], self._count)

    def far(self, found: np.ndarray) -> float:
        """How far such shares are from those of all rows."""
        return distance(found, self.whole, self.ordered)


class Demands:
    """What each class must have: k persons (rows, where whose they are is not said), l values, closeness of at most t."""

    def __init__(self, rules: Rules, sensitive: "Optional[Sensitive]", persons: Optional[np.ndarray]) -> None:
        """persons: int (rows,)."""
        self.k, self._rules = rules.k, rules
        self._persons = persons
        asked = rules.l_diversity > 1 or rules.t_closeness < 1
        self._sensitive = sensitive if asked else None
        self.plain = persons is None and self._sensitive is None

    def met(self, rows: np.ndarray) -> bool:
        """Whether a class of these rows, int (rows,), has what is demanded."""
        if len(rows) < self.k:
            return False
        if self._persons is not None and len(np.unique(self._persons[rows])) < self.k:
            return False
        if self._sensitive is None:
            return True
        found = self._sensitive.among(rows)
        diverse = diversity(found, self._rules.diversity) >= self._rules.l_diversity - 1e-9
        return diverse and self._sensitive.far(found) <= self._rules.t_closeness + 1e-12


def shares(values: np.ndarray, count: int) -> np.ndarray:
    """float64 (count,): of each value, int, the share of rows that have it."""
    return np.bincount(values, minlength=count) / len(values)


def diversity(found: np.ndarray, kind: str) -> float:
    """l: the number of different values, or e to the entropy of their shares (Machanavajjhala 2007, TKDD 1:3)."""
    there = found[found > 0]
    return float(len(there)) if kind == "distinct" else math.exp(-float((there * np.log(there)).sum()))


def distance(found: np.ndarray, whole: np.ndarray, ordered: bool) -> float:
    """t: the earth mover's distance of two distributions (Li 2007, ICDE).

    ordered: the values are numbers in their order, of which neighbours are 1/(m - 1) apart; otherwise all are equally far, and it
    is half of L1.
    """
    if ordered and len(whole) > 1:
        return float(np.abs(np.cumsum(found - whole)).sum() / (len(whole) - 1))
    return float(np.abs(found - whole).sum() / 2)


class _Cut(NamedTuple):
    left: float
    """What is written after it, summed over rows: less is better."""
    parts: List[np.ndarray]


def mondrian(codes: np.ndarray, domains: Sequence[Domain], demands: Demands, relaxed: bool = False) -> List[np.ndarray]:
    """The classes, each the int (rows,) it has, of float64 (rows, columns). The whole must meet the demands."""
    done: List[np.ndarray] = []
    ahead = [np.arange(len(codes))]
    while ahead:
        rows = ahead.pop()
        cut = _best(codes, rows, domains, demands, relaxed)
        if cut is None:
            done.append(rows)
        else:
            ahead += cut.parts
    return done


def _best(
    codes: np.ndarray, rows: np.ndarray, domains: Sequence[Domain], demands: Demands, relaxed: bool
) -> Optional[_Cut]:
    if len(rows) < 2 * demands.k:
        return None
    values = codes[rows]
    best: Optional[_Cut] = None
    for column in np.flatnonzero(values.max(axis=0) > values.min(axis=0)).tolist():
        order = np.argsort(values[:, column], kind="stable")
        ordered = rows[order]
        parts = _parts(values[order, column], ordered, domains[column], demands, relaxed)
        if parts is not None:
            left = sum(len(part) * _written(codes[part], domains) for part in parts)
            if best is None or left < best.left:
                best = _Cut(left, parts)
    return best


def _parts(
    values: np.ndarray, ordered: np.ndarray, domain: Domain, demands: Demands, relaxed: bool
) -> Optional[List[np.ndarray]]:
    """Rows in the order of a column, cut as near to the middle as the demands let them be; None where they do not."""
    if relaxed:
        middle = len(ordered) // 2
        halves = [ordered[:middle], ordered[middle:]]
        return halves if all(map(demands.met, halves)) else None
    places = domain.places(values)
    if domain.everywhere:
        found = np.split(ordered, places) if len(places) else []
        return found if found and all(map(demands.met, found)) else None
    allowed = places[(places >= demands.k) & (places <= len(ordered) - demands.k)]
    nearest = allowed[np.argsort(np.abs(allowed - len(ordered) / 2), kind="stable")[:MOST_TRIES]]
    for place in nearest:
        halves = [ordered[:place], ordered[place:]]
        if demands.plain or all(map(demands.met, halves)):
            return halves
    return None


def _written(values: np.ndarray, domains: Sequence[Domain]) -> float:
    """The mean share of the domains that is written for a class."""
    low, high = values.min(axis=0), values.max(axis=0)
    return sum(domain.extent(a, b) for domain, a, b in zip(domains, low, high)) / len(domains)


def written(codes: np.ndarray, classes: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """(least, largest) of each class in each column, float64 (classes, columns)."""
    low = np.array([codes[rows].min(axis=0) for rows in classes])
    return low, np.array([codes[rows].max(axis=0) for rows in classes])
