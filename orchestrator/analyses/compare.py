"""Groups side by side ("Table 1" of a study): each column's figures by group, and whether groups differ.

One round. A record is in the part of its group, and adds there what statistics.py has it add, but for histograms. Tests are
Welch's (1951) of means, Pearson's of levels, and of two by two Fisher's exact one; they need exact sums.
"""

import math
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import (
    Analysis,
    Cell,
    Folded,
    Result,
    State,
    Sums,
    Table,
    Total,
    interval,
)
from orchestrator.analyses.blocks import CELLS, MARGINS, MISSING, PRODUCTS, SUMS, Block, aside, places
from orchestrator.analyses.inputs import columns_of
from orchestrator.analyses.rounding import around_mean
from orchestrator.wire.bounds import near
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema

_LEFT_OUT = 0.5
"""Of a count: noise whose interval is wider hides what is divided by it."""

MOST_TABLES = 1 << 20
"""That Fisher's exact test goes through; with more chi squared says the same."""


@dataclass(frozen=True)
class CompareOptions:
    """Of kind "compare". All other columns of the schema are compared."""

    by: str  # column with categories: the groups [a column]


class Compare(Analysis):
    """The vector: for each group 1, of each number u, u^2 and 1 where it is missing, of each category its levels and missing; in
    the last cell records of no group.
    """

    Options = CompareOptions

    def __init__(self, schema: Schema, options: CompareOptions) -> None:
        self._by_name = {feature.name: feature for feature in schema.features}
        self._columns = [feature for feature in schema.features if feature.name != options.by]
        self._starts: Dict[str, int] = {}
        start = 1
        for feature in self._columns:
            self._starts[feature.name] = start
            start += len(feature.categories) + 1 if feature.categories else 3
        self._block = start
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The groups are there, and something to compare."""
        feature = self._by_name.get(self.options.by)
        if feature is None:
            known = [each.name for each in self.schema.features if each.categories]
            yield f"by: no column {self.options.by!r} in the schema{near(self.options.by, known)}"
        elif not feature.categories:
            yield f"by: {self.options.by!r} is a number; groups are those of a column with categories"
        elif not self._columns:
            yield "by: there is no other column to compare"

    @property
    def _groups(self) -> Tuple[str, ...]:
        return self._by_name[self.options.by].categories

    @property
    def rounds(self) -> int:
        """All sums are of one."""
        return 1

    @property
    def sums(self) -> Sums:
        """A record is in one group: 1, of each number u and u^2, or missing, of each category one cell."""
        most = 1 + sum(1 if feature.categories else 2 for feature in self._columns)
        return Sums(len(self._groups) * self._block + 1, math.sqrt(most))

    def begin(self, seed: int) -> np.ndarray:
        """Nodes need no numbers."""
        return np.zeros(1, np.float32)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        columns = columns_of(x, self.schema)
        block = np.zeros((len(x), self._block))
        block[:, 0] = 1.0
        for feature in self._columns:
            start, values = self._starts[feature.name], columns[feature.name]
            if feature.categories:
                block[:, start : start + values.shape[1]] = values
                block[:, start + values.shape[1]] = 1.0 - values.sum(axis=1)
                continue
            known = ~np.isnan(values[:, 0])
            whole = np.where(known, values[:, 0], 0.0)
            block[:, start : start + 3] = np.stack([whole, whole**2, 1.0 - known], axis=1)
        groups = columns[self.options.by]
        found = np.zeros((len(x), self.sums.size))
        found[:, :-1] = (groups[:, :, np.newaxis] * block[:, np.newaxis, :]).reshape(len(x), -1)
        found[:, -1] = 1.0 - groups.sum(axis=1)
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """A node leaves out a column as if it were missing; groups it cannot."""
        by, parts = self.options.by, places(0, len(self._groups), self._block)
        found = [Block(f"groups of {by}", CELLS, parts[:, 0], (by,), shown=True, summed=True)]
        for feature in self._columns:
            start, both, name = self._starts[feature.name], (by, feature.name), feature.name
            end = start + (len(feature.categories) if feature.categories else 2)
            if feature.categories:
                cells = parts[:, start:end]
                found.append(Block(f"levels of {name} by {by}", CELLS, cells, both, out=name, shown=True))
                found.append(Block(f"levels of {name} in all {by}", MARGINS, cells, (name,)))
                found.append(Block(f"{by} of those with {name}", MARGINS, cells.T, (by,)))
            else:
                found.append(Block(f"sums of {name} by {by}", SUMS, parts[:, start], both, out=name))
                found.append(Block(f"squares of {name} by {by}", PRODUCTS, parts[:, start + 1], both, out=name))
            found.append(Block(f"missing {name} by {by}", CELLS, parts[:, end], both, out=name, what=MISSING))
        return [*found, aside(f"no {by}", parts.size)]

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The sums are the result."""
        state = {"total": total.values, "deviation": np.array([total.deviation])}
        units = float(total.values[:-1].reshape(len(self._groups), self._block)[:, 0].sum())
        return asked, Folded(state, {"units": units}, done=True)

    def result(self, state: State, units: str) -> Result:
        """Tables "groups", "numbers", "levels NAME", and "tests" where sums are exact."""
        deviation = float(state["deviation"][0])
        parts = state["total"][:-1].reshape(len(self._groups), self._block)
        size: List[Tuple[Cell, ...]] = [(name, _plain(count)) for name, count in zip(self._groups, parts[:, 0])]
        tables = [Table("groups", (self.options.by, units), size, units)]
        numbers: List[Tuple[Cell, ...]] = []
        tests: List[Tuple[Cell, ...]] = []
        for feature in self._columns:
            start = self._starts[feature.name]
            if feature.categories:
                counts = parts[:, start : start + len(feature.categories) + 1]
                tables.append(self._levels(feature, counts))
                tests += [] if deviation else level_tests(feature.name, counts[:, :-1])
                continue
            figures = [self._figures(feature, part, start, deviation) for part in parts]
            numbers += [(feature.name, group, *each) for group, each in zip(self._groups, figures)]
            tests += [] if deviation else mean_test(feature.name, figures)
        if numbers:
            heads = ("column", self.options.by, "known", "missing", "mean", "standard deviation")
            tables.insert(1, Table("numbers", heads, numbers))
        if not deviation:
            tables.append(Table("tests", ("column", "test", "statistic", "degrees of freedom", "p"), tests))
        same = [] if deviation else list(dict.fromkeys(str(name) for name, *_, spread in numbers if spread == 0))
        return Result(tables, list(self._notes(float(state["total"][-1]), same, deviation, units)))

    def _figures(
        self, feature: Feature, part: np.ndarray, start: int, deviation: float
    ) -> Tuple[Cell, Cell, Cell, Cell]:
        """(known, missing, mean, standard deviation) of one group."""
        first, second, missing = (float(value) for value in part[start : start + 3])
        known = float(part[0]) - missing
        mean: Optional[float] = None
        spread: Optional[float] = None
        low, high = feature.scaled_range
        half = (high - low) / 2
        if known > 0 and interval(math.sqrt(2) * deviation) <= _LEFT_OUT * known:
            u = float(np.clip(first / known, -1, 1))
            exact = float(around_mean(first, second, known))
            squared = second - first * first / known if deviation else exact
            mean = low + half * (1 + u)
            hidden = interval(deviation / known * math.sqrt(1 + 4 * u * u)) > _LEFT_OUT * max(0.0, squared / known)
            if known > 1 and squared >= 0 and not (deviation and hidden):
                spread = half * math.sqrt(squared / (known - 1))
        return _plain(known), _plain(missing), mean, spread

    def _levels(self, feature: Feature, counts: np.ndarray) -> Table:
        rows: List[Tuple[Cell, ...]] = [
            (level, *map(_plain, column)) for level, column in zip((*feature.categories, "(missing)"), counts.T)
        ]
        return Table(f"levels {feature.name}", (feature.name, *self._groups), rows)

    def _notes(self, left_out: float, same: List[str], deviation: float, units: str) -> Iterator[str]:
        logarithms = [feature.name for feature in self._columns if feature.transform]
        if logarithms:
            yield f"means and deviations of {', '.join(logarithms)} are of natural logarithms"
        if same:
            yield f"{', '.join(same)}: all values of a group are the same, so that there is no test of means"
        if left_out > interval(deviation):
            yield f"{left_out:.6g} {units} of no group were left out"
        if deviation:
            within = f"with 95 % it is within {interval(deviation):.3g} of what would be there without"
            yield f"every count carries noise: {within}, and may come out negative. What it hides is left out, as are tests"
        else:
            yield "tests are of each column by itself: among many, some differ by chance"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is compared."""
        return [
            f"groups of {quoted(self.options.by)} ({len(self._groups)}) side by side: counts, means, deviations and levels of "
            f"{many(len(self._columns), 'column')}"
        ]


def mean_test(name: str, figures: List[Tuple[Cell, Cell, Cell, Cell]]) -> List[Tuple[Cell, ...]]:
    """Welch's test that all groups have one mean; of two groups his t, else his F. None where a group tells nothing."""
    known = [(float(n), float(mean), float(std)) for n, _, mean, std in figures if n and mean is not None and std]
    if len(known) < 2 or len(known) < sum(bool(n) for n, *_ in figures):
        return []
    n, mean, std = (np.array(each) for each in zip(*known))
    weight = n / std**2
    share = 1 - weight / weight.sum()
    groups = len(known)
    around = float((weight * mean).sum() / weight.sum())
    above = float((weight * (mean - around) ** 2).sum()) / (groups - 1)
    spread = float((share**2 / (n - 1)).sum())
    value = above / (1 + 2 * (groups - 2) / (groups**2 - 1) * spread)
    degrees = (groups**2 - 1) / (3 * spread)
    from scipy.special import fdtrc  # late: nodes do without, and a gateway until its end

    p = float(fdtrc(groups - 1, degrees, value))
    if groups == 2:
        return [(name, "Welch's t", math.copysign(math.sqrt(value), mean[0] - mean[1]), degrees, p)]
    return [(name, "Welch's F", value, f"{groups - 1}, {degrees:.6g}", p)]


def level_tests(name: str, counts: np.ndarray) -> List[Tuple[Cell, ...]]:
    """Pearson's chi squared of counts (groups, levels), without those nobody is in; of two by two Fisher's exact test, too."""
    if np.isnan(counts).any():  # cells that are not shown would follow from a test
        return []
    seen = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    rows, columns = seen.shape
    if rows < 2 or columns < 2:
        return []
    from scipy.special import gammaincc, gammaln

    expected = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / seen.sum()
    value, degrees = float(((seen - expected) ** 2 / expected).sum()), (rows - 1) * (columns - 1)
    found: List[Tuple[Cell, ...]] = [(name, "chi squared", value, degrees, float(gammaincc(degrees / 2, value / 2)))]
    if (rows, columns) != (2, 2) or not bool((seen == np.round(seen)).all()):
        return found
    (a, b), (c, d) = seen
    if min(b, c) + min(a, d) < MOST_TABLES:
        first = np.arange(max(0.0, a - d), min(a + b, a + c) + 1)
        each = (first, a + b - first, a + c - first, d - a + first)
        logarithm = -sum(gammaln(cell + 1) for cell in each)
        likely = np.exp(logarithm - logarithm.max())
        at = likely[int(a - first[0])]
        found.append(
            (name, "Fisher's exact", None, None, float(likely[likely <= at * (1 + 1e-7)].sum() / likely.sum()))
        )
    return found


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
