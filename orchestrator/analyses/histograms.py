"""Columns in public bins, trees that split between them, and the split of a node that lowers a loss most."""

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.wire.schema import Feature, Schema

MOST_VALUE = 100.0
"""Of a leaf."""

_ALIKE = 1e-9
"""Share of a gain by which two may differ and still be one: sums of nodes round otherwise than sums of all."""


class Binned(NamedTuple):
    """Of a column among all cells: bins of a number or levels of a category from `start`, then one for a missing value."""

    feature: Feature
    column: int  # of the inputs
    start: int
    width: int

    @property
    def missing(self) -> int:
        """The cell of a missing value."""
        return self.start + self.width

    def edges(self) -> np.ndarray:
        """float64 (bins + 1,): a value on one of them is in the bin that begins there."""
        return np.linspace(*self.feature.scaled_range, self.width + 1)

    def cells(self, x: np.ndarray) -> np.ndarray:
        """int64 (n,): the cell of each record."""
        if self.feature.categories:
            levels = x[:, self.column : self.column + self.width]
            return self.start + np.where(levels.sum(axis=1) > 0.5, levels.argmax(axis=1), self.width)
        values = x[:, self.column]
        known = ~np.isnan(values)
        inside = np.searchsorted(self.edges(), np.where(known, values, 0.0), side="right") - 1
        return self.start + np.where(known, np.clip(inside, 0, self.width - 1), self.width)


class Split(NamedTuple):
    """gain: of the loss, twice. code: of the node, see `Histograms`. column: number of the input. values: of left and right."""

    gain: float
    code: int
    column: int
    values: Tuple[float, float]


class Rule(NamedTuple):
    """How trees grow. shrinkage: share of its value that a leaf adds. penalty: added to second derivatives. least: records on
    each side of a split.
    """

    shrinkage: float
    penalty: float
    least: int


class Histograms:
    """The cells of some columns. A node's code is 0 for a leaf, else 1 + 2 cell + whether missing values go right; to the right
    go larger bins than that of the cell, of a category the level of the cell alone, and none but missing values where the cell is
    theirs. Node i leads to 2 i + 1 and 2 i + 2.
    """

    def __init__(self, schema: Schema, features: Sequence[Feature], bins: int) -> None:
        columns, column = {}, 0
        for feature in schema.features:
            columns[feature.name] = column
            column += feature.width
        self.columns: List[Binned] = []
        start = 0
        for feature in features:
            self.columns.append(Binned(feature, columns[feature.name], start, len(feature.categories) or bins))
            start = self.columns[-1].missing + 1
        self.size = start

    def cells(self, x: np.ndarray) -> np.ndarray:
        """int64 (n, columns): the cells of each record; x as of `Analysis.vectors`."""
        return np.stack([column.cells(x) for column in self.columns], axis=1)

    def column_of(self, code: int) -> Tuple[Binned, int, bool]:
        """(the column a node splits, its bin or level, whether missing values go right)."""
        cell = (code - 1) // 2
        column = next(each for each in self.columns if cell <= each.missing)
        return column, cell - column.start, (code - 1) % 2 == 1

    def nodes(self, codes: np.ndarray, cells: np.ndarray, depth: int) -> np.ndarray:
        """int64 (n, trees): where each record stops in each tree; codes (trees, 2^depth - 1), cells (n, columns)."""
        of_cell = np.repeat(np.arange(len(self.columns)), [column.width + 1 for column in self.columns])
        missing = np.array([column.missing for column in self.columns])
        alone = np.array([bool(column.feature.categories) for column in self.columns])
        trees, rows = np.arange(len(codes)), np.arange(len(cells))[:, np.newaxis]
        at, stopped = np.zeros((len(cells), len(codes)), np.int64), np.zeros((len(cells), len(codes)), bool)
        for _ in range(depth):
            code = np.where(stopped, 0, codes[trees, np.minimum(at, codes.shape[1] - 1)])
            stopped |= code == 0
            cell = np.maximum(code - 1, 0) // 2
            column = of_cell[np.minimum(cell, self.size - 1)]
            mine = cells[rows, column]
            right = np.where(alone[column], mine == cell, mine > cell)
            right = np.where(mine == missing[column], (code - 1) % 2 == 1, right)
            at = np.where(stopped, at, 2 * at + 1 + right)
        return at

    def best(self, sums: np.ndarray, rule: Rule) -> Optional[Split]:
        """Of one node, from (cells, 3) gradients, second derivatives and records; None where none is allowed and worth it."""
        found = [_candidates(sums, column, rule) for column in self.columns]
        largest = max(float(gains.max(initial=-np.inf)) for gains, _ in found)
        if not largest > _ALIKE:
            return None
        # The first of those that are alike.
        number = next(place for place, (gains, _) in enumerate(found) if (gains >= largest * (1 - _ALIKE)).any())
        gains, sides = found[number]
        cut = int(np.argmax(gains >= largest * (1 - _ALIKE)))
        column = self.columns[number]
        cell, right = divmod(cut, 2) if cut < len(gains) - 1 else (column.width, 1)
        left_sums, right_sums = sides[cut]
        if sums[column.missing, 2] < 0.5:  # nobody lacks it here: to the side where more are
            right = int(right_sums[2] > left_sums[2])
        ends = _value(left_sums, rule), _value(right_sums, rule)
        return Split(largest, 1 + 2 * (column.start + cell) + right, number, ends)


def _candidates(sums: np.ndarray, column: Binned, rule: Rule) -> Tuple[np.ndarray, np.ndarray]:
    """(gains (2 cuts + 1,), sums of both sides (2 cuts + 1, 2, 3)) of a column: of each cut with missing values on the left and
    on the right, and of missing values alone.
    """
    own, missing = sums[column.start : column.missing], sums[column.missing]
    whole = own.sum(axis=0) + missing
    right = own if column.feature.categories else own.sum(axis=0) - own.cumsum(axis=0)[:-1]
    both = np.append(np.stack([right, right + missing], axis=1).reshape(-1, 3), missing[np.newaxis], axis=0)
    sides = np.stack([whole - both, both], axis=1)
    worth = (sides[:, :, 0] ** 2 / np.maximum(sides[:, :, 1] + rule.penalty, 1e-12)).sum(axis=1)
    gains = worth - whole[0] ** 2 / max(whole[1] + rule.penalty, 1e-12)
    allowed = (sides[:, :, 2] > rule.least - 0.5).all(axis=1)
    return np.where(allowed, gains, -np.inf), sides


def _value(sums: np.ndarray, rule: Rule) -> float:
    """Of a leaf."""
    value = -rule.shrinkage * sums[0] / max(float(sums[1]) + rule.penalty, 1e-12)
    return float(np.clip(value, -MOST_VALUE, MOST_VALUE))
