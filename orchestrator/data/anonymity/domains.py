"""The values a quasi-identifier can have, as numbers that can be cut: a number, levels in an order, leaves of a hierarchy.

Leaves are numbered so that those under a node are neighbours: what is written for a class follows from its least and its largest.
"""

import bisect
import csv
import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

from orchestrator.data.anonymity.rules import Quasi
from orchestrator.data.cells import canonical, finite, shown
from orchestrator.data.sources.base import plain
from orchestrator.errors import DataError
from orchestrator.wire.special_files import read_file


class Domain(ABC):
    """width: of all of it, by which intervals are measured. everywhere: it is cut at all places at once, or at one of them."""

    width: float
    everywhere = False

    @abstractmethod
    def code(self, cell: str) -> float:
        """The number of a cell; ValueError where it is not of the domain."""

    @abstractmethod
    def places(self, ordered: np.ndarray) -> np.ndarray:
        """int (cuts,): where rows, float64 (rows,) in order, can be cut: the number of those before."""

    @abstractmethod
    def extent(self, low: float, high: float) -> float:
        """The share of the domain that is written for a class from `low` to `high`, in [0, 1] (NCP; Xu 2006, KDD)."""

    @abstractmethod
    def written(self, low: float, high: float) -> str:
        """What is written for such a class."""

    @abstractmethod
    def middle(self, low: float, high: float) -> str:
        """A value of the domain in place of such a class, for those who compute with it."""


class Numbers(Domain):
    """A number in [minimum, maximum]. cuts: where alone it is cut, then written between these; without: exact."""

    def __init__(self, quasi: Quasi) -> None:
        self._low, self._high, self._cuts = quasi.minimum, quasi.maximum, quasi.cuts
        self.width = quasi.maximum - quasi.minimum

    def code(self, cell: str) -> float:
        value = finite(cell)
        if value is None or not self._low <= value <= self._high:
            raise ValueError(
                f"{shown(cell)} is not a number from {self._low:g} to {self._high:g}: correct it, or the range in the rules"
            )
        return value

    def places(self, ordered: np.ndarray) -> np.ndarray:
        if self._cuts:
            found = np.unique(np.searchsorted(ordered, self._cuts, side="left"))
            return found[(found > 0) & (found < len(ordered))]
        return np.flatnonzero(ordered[1:] != ordered[:-1]) + 1

    def bounds(self, low: float, high: float) -> Tuple[float, float]:
        """From and to: the cuts around, where there are some."""
        if not self._cuts:
            return low, high
        edges = (self._low, *self._cuts, self._high)
        first = bisect.bisect_right(edges, low) - 1
        last = bisect.bisect_right(edges, high)
        return edges[min(first, len(edges) - 2)], edges[min(last, len(edges) - 1)]

    def extent(self, low: float, high: float) -> float:
        first, last = self.bounds(low, high)
        return (last - first) / self.width

    def written(self, low: float, high: float) -> str:
        first, last = self.bounds(low, high)
        if first == last:
            return plain(first)
        closed = not self._cuts or last == self._high
        return f"[{plain(first)}-{plain(last)}{']' if closed else ')'}"

    def middle(self, low: float, high: float) -> str:
        return plain(sum(self.bounds(low, high)) / 2)


class Levels(Domain):
    """Values in an order; a class has those from one to another."""

    def __init__(self, quasi: Quasi) -> None:
        self._levels = quasi.levels
        self._codes: Dict[str, int] = {}
        for number, level in enumerate(quasi.levels):
            self._codes.setdefault(canonical(level), number)
        self.width = float(len(quasi.levels) - 1)

    def code(self, cell: str) -> float:
        found = self._codes.get(canonical(cell))
        if found is None:
            raise ValueError(
                f"{shown(cell)} is not one of {', '.join(self._levels[:12])}: correct it, or list it in the rules"
            )
        return float(found)

    def places(self, ordered: np.ndarray) -> np.ndarray:
        return np.flatnonzero(ordered[1:] != ordered[:-1]) + 1

    def extent(self, low: float, high: float) -> float:
        return (high - low) / self.width

    def written(self, low: float, high: float) -> str:
        found = self._levels[int(low) : int(high) + 1]
        return found[0] if len(found) == 1 else "{" + "|".join(found) + "}"

    def middle(self, low: float, high: float) -> str:
        return self._levels[int((low + high) // 2)]


class Hierarchy(Domain):
    """Leaves of a tree; a class has those under one node."""

    everywhere = True

    def __init__(self, path: Path) -> None:
        self._leaves, self._paths = _read_tree(path)
        self._codes = {canonical(leaf): number for number, leaf in enumerate(self._leaves)}
        self.width = float(len(self._leaves) - 1)
        self._spans: Dict[str, Tuple[int, int]] = {}
        self._parts: Dict[str, List[Tuple[int, int]]] = {}
        for number, names in enumerate(self._paths):
            for node in names:
                first, _ = self._spans.get(node, (number, number))
                self._spans[node] = (first, number)

    def code(self, cell: str) -> float:
        found = self._codes.get(canonical(cell))
        if found is None:
            raise ValueError(
                f"{shown(cell)} is no leaf of the hierarchy ({', '.join(self._leaves[:12])}): correct it, or put it there"
            )
        return float(found)

    def node(self, low: float, high: float) -> str:
        """The lowest that has both leaves below it."""
        over = set(self._paths[int(high)])
        return next(node for node in self._paths[int(low)] if node in over)

    def parts(self, low: float, high: float) -> List[Tuple[int, int]]:
        """(first leaf, last) under each child of that node."""
        node = self.node(low, high)
        if node not in self._parts:
            first, last = self._spans[node]
            children = {names[names.index(node) - 1] for names in self._paths[first : last + 1]}
            self._parts[node] = sorted(self._spans[child] for child in children)
        return self._parts[node]

    def places(self, ordered: np.ndarray) -> np.ndarray:
        if ordered[0] == ordered[-1]:
            return np.zeros(0, np.int64)
        starts = [first for first, _ in self.parts(ordered[0], ordered[-1])]
        found = np.unique(np.searchsorted(ordered, starts, side="left"))
        return found[(found > 0) & (found < len(ordered))]

    def extent(self, low: float, high: float) -> float:
        first, last = self._spans[self.node(low, high)]
        return (last - first) / self.width

    def written(self, low: float, high: float) -> str:
        return self.node(low, high)

    def middle(self, low: float, high: float) -> str:
        first, last = self._spans[self.node(low, high)]
        return self._leaves[(first + last) // 2]


def domain_of(name: str, quasi: Quasi, folder: Path) -> Domain:
    """The domain of a column; DataError where its hierarchy cannot be read. folder: that of the rules."""
    if quasi.hierarchy:
        return Hierarchy(folder / quasi.hierarchy)
    return Levels(quasi) if quasi.levels else Numbers(quasi)


def _read_tree(path: Path) -> Tuple[List[str], List[Tuple[str, ...]]]:
    """(leaves, of each the names from it up to the root), in an order in which those under a node are neighbours."""
    try:
        rows = csv.reader(io.StringIO(read_file(path).decode("utf-8-sig"), newline=""), strict=True)
        lines = [[cell.strip() for cell in row] for row in rows if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    parents: Dict[str, Optional[str]] = {}
    for number, names in enumerate(lines, 1):
        if len(names) < 2 or not all(names) or len(set(names)) != len(names):
            raise DataError(f"{path}:{number}: expected a value and what it belongs to, up to the root, each once")
        for child, parent in zip(names, [*names[1:], None]):
            if parents.setdefault(child, parent) != parent:
                raise DataError(f"{path}:{number}: {child!r} belongs to {parents[child]!r} and to {parent!r}")
    if len({names[-1] for names in lines}) != 1:
        raise DataError(f"{path}: expected one root, which ends every line")
    leaves = [names[0] for names in lines]
    above = set(parents.values())
    inner = [leaf for leaf in leaves if leaf in above]
    if inner or len(set(leaves)) != len(leaves) or len(leaves) < 2:
        raise DataError(
            f"{path}: expected two or more leaves, each once and none above another: {', '.join(inner[:3])}"
        )
    first: Dict[
        str, int
    ] = {}  # where each node first stands in the file: in this order those under a node come together
    for number, names in enumerate(lines):
        for node in names:
            first.setdefault(node, number)
    ordered = sorted(lines, key=lambda names: [first[node] for node in reversed(names)])
    return [names[0] for names in ordered], [tuple(names) for names in ordered]
