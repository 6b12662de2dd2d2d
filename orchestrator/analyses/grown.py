"""Trees an analysis ended in, read back from its tables, to run them elsewhere."""

import sys
from abc import abstractmethod
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from orchestrator.analyses.base import Analysis
from orchestrator.wire.schema import Feature

Rows = Mapping[str, Sequence[Sequence[Any]]]
"""The rows of a result's tables, by name."""


class Split(NamedTuple):
    """A node. column: number of the input. missing: whether a value that is missing goes right.

    levels: numbers of those of a category that go right; None of a number, which goes right where `beyond` a cut.
    """

    column: int
    missing: bool
    levels: Optional[Tuple[int, ...]]
    cut: float = 0.0
    low: float = -1.0
    high: float = 1.0
    scaled: bool = False

    def beyond(self, value: float) -> bool:
        """Whether a number in the units of the model goes right, as the analysis decides it.

        scaled: the cut is over [-1, 1], which `low` to `high` is; a larger value goes right, else one of at least the cut.
        """
        if not self.scaled:
            return value >= self.cut
        place = 2.0 * (value - self.low) / (self.high - self.low) - 1.0
        return float(np.clip(place, -1.0, 1.0)) > self.cut


Node = Union[Split, Tuple[float, ...]]
"""Of a leaf its values."""


class Grown(NamedTuple):
    """trees: of each its nodes by number, 1 the root, and 2 i and 2 i + 1 below i, on its left and on its right.

    classes: of what is predicted, empty of a number. mean: whether a score is the mean of leaves and a probability; else it is
    their sum and the base, log-odds of the second class or the number itself.
    """

    inputs: List[Feature]
    outcome: Feature
    trees: List[Dict[int, Node]]
    classes: Tuple[str, ...]
    mean: bool
    base: float = 0.0


class OfTrees(Analysis):
    """An analysis whose tables are a model: result.json also says of which columns, and `edgeward model export` makes a bundle of
    it.
    """

    @abstractmethod
    def grown(self, tables: Rows) -> Grown:
        """The trees of a result's tables. ValueError for tables of another one."""


def number_of(cell: Any, what: str) -> float:
    """A number of a table. ValueError for a cell that holds none, or one that is not finite."""
    if not is_number(cell):
        raise ValueError(f"{what}: {cell!r:.80} is not a finite number")
    return float(cell)


def is_number(cell: Any) -> bool:
    """Whether a cell holds a finite number; JSON has whole ones that no float holds."""
    return isinstance(cell, (int, float)) and not isinstance(cell, bool) and abs(cell) <= sys.float_info.max


def nodes_of(
    rows: Sequence[Sequence[Any]], trees: Any, values: int
) -> List[Dict[int, Tuple[Tuple[Any, ...], Tuple[float, ...]]]]:
    """Of each tree, by number of the node, (its split's cells, its leaf's values) of a table "trees".

    ValueError for rows that are of no such table, or of another number of trees. A row: tree, node, four cells of a split, values
    of a leaf.
    """
    if not isinstance(trees, int) or not 0 <= trees <= len(rows):
        raise ValueError(f"table trees: has {len(rows)} rows, and is of {trees!r:.80} trees")
    found: List[Dict[int, Tuple[Tuple[Any, ...], Tuple[float, ...]]]] = [{} for _ in range(trees)]
    for row in rows:
        tree, node = row[:2] if len(row) == 6 + values else (0, 0)
        split, leaf = tuple(row[2:6]), tuple(row[6:])
        numbers = tuple(float(value) for value in leaf if is_number(value))
        whole = isinstance(tree, int) and isinstance(node, int) and 1 <= tree <= trees and node >= 1
        if not whole or (split[0] is None and len(numbers) < values) or node in found[tree - 1]:
            raise ValueError(f"table trees: invalid row {list(row)!r:.200}")
        found[tree - 1][node] = split, numbers
    for number, nodes in enumerate(found, 1):
        wanted = [1]
        for node in wanted:  # it grows while it is read
            if node not in nodes:
                raise ValueError(f"table trees: tree {number} lacks node {node}")
            wanted += [2 * node, 2 * node + 1] if nodes[node][0][0] is not None else []
        if len(wanted) != len(nodes):
            raise ValueError(f"table trees: tree {number} has nodes that no other leads to")
    return found
