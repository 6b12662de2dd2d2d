"""Boosted trees as the table "trees" of a result, and read back from it."""

import math
import sys
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Cell, Table
from orchestrator.analyses.grown import Node, Split, nodes_of, number_of
from orchestrator.analyses.histograms import Histograms

_MISSING = "(missing)"


def trees_table(codes: np.ndarray, values: np.ndarray, histograms: Histograms) -> Table:
    """A row for each node that there is: 1 is the root, 2 i and 2 i + 1 are below i, on the left and on the right.

    codes: int64 (trees, inner nodes). values: (trees, nodes), what their leaves add.
    """
    rows: List[Tuple[Cell, ...]] = []
    for tree, (splits, adds) in enumerate(zip(codes.tolist(), values.tolist()), 1):
        nodes = [0]
        for node in nodes:  # it grows while it is read
            code = splits[node] if node < len(splits) else 0
            if code:
                rows.append((tree, node + 1, *_split_cells(code, histograms), None))
                nodes += [2 * node + 1, 2 * node + 2]
            else:
                rows.append((tree, node + 1, *(None,) * 4, adds[node]))
    return Table("trees", ("tree", "node", "column", "right if at least", "right if", "missing", "adds"), rows)


def read_trees(rows: Sequence[Sequence[Any]], trees: Any, histograms: Histograms) -> List[Dict[int, Node]]:
    """The trees of such a table. ValueError for one of other columns, or of another number of trees."""
    return [
        {n: values if cells[0] is None else _split_of(cells, histograms) for n, (cells, values) in nodes.items()}
        for nodes in nodes_of(rows, trees, 1)
    ]


def _split_cells(code: int, histograms: Histograms) -> Tuple[Cell, ...]:
    column, cell, right = histograms.column_of(code)
    feature, side = column.feature, "right" if right else "left"
    if cell == column.width:
        return feature.name, None, _MISSING, side
    if feature.categories:
        return feature.name, None, feature.categories[cell], side
    edge = float(column.edges()[cell + 1])
    return feature.name, math.exp(edge) if feature.transform else edge, None, side


def _split_of(cells: Tuple[Cell, ...], histograms: Histograms) -> Split:
    """What `_split_cells` wrote."""
    name, edge, level, side = cells
    columns = [column for column in histograms.columns if column.feature.name == name]
    if not columns or side not in ("left", "right"):
        raise ValueError(f"table trees: {list(cells)} splits no column of the task")
    column, missing = columns[0], side == "right"
    number = histograms.columns.index(column)
    if level in column.feature.categories and level == _MISSING:
        raise ValueError(
            f"table trees: {name} has a category {level!r}, which is also what stands for values that are missing"
        )
    if level == _MISSING and edge is None:
        return Split(number, True, () if column.feature.categories else None, math.inf)
    if column.feature.categories:
        if level not in column.feature.categories:
            raise ValueError(f"table trees: {name} has no category {level!r}")
        return Split(number, missing, (column.feature.categories.index(level),))
    edges, place = column.edges(), number_of(edge, f"table trees: edge of {name}")
    if column.feature.transform:
        place = math.log(max(place, sys.float_info.min))
    nearest = int(np.abs(edges - place).argmin())
    if not abs(edges[nearest] - place) <= 1e-9 * (edges[-1] - edges[0]):
        raise ValueError(f"table trees: {edge} is not where a bin of {name} begins")
    return Split(number, missing, None, float(edges[nearest]))
