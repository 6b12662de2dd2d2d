"""Descriptive statistics: counts, missing values, means, standard deviations, histograms, levels, crosstabs.

One round. A record adds 1 to each count it is in, and u and u^2 of each number, mapped to [-1, 1] over its public range: the
deviation follows from the two sums. With a range a million times as wide as the spread of the values float64 leaves it about six
digits.
"""

import math
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import (
    MOST_REASONS,
    Analysis,
    Cell,
    Folded,
    Result,
    State,
    Sums,
    Table,
    Total,
    in_unit_range,
    interval,
)
from orchestrator.analyses.blocks import BY_ITSELF, CELLS, MARGINS, PRODUCTS, SUMS, Block, aside, places
from orchestrator.analyses.rounding import around_mean
from orchestrator.wire.bounds import count, near, refuse, twice
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema

MOST_CELLS = 10_000
"""Of one crosstab."""

MOST_CROSSTABS = 1000

LEAST_SHARE = 0.5
"""Of a count: noise whose interval is wider than that leaves nothing of what is divided by it."""


@dataclass(frozen=True)
class StatisticsOptions:
    """Of kind "statistics". All columns of the schema are described."""

    bins: int = (
        20  # of each number's histogram, of equal width over its range (its logarithm's, with transform) [1 to 1000]
    )
    # pairs of columns with categories, each counted level by level [at most 1000 pairs of column names]
    crosstabs: Tuple[Tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        wrong = count("bins", self.bins, 1, 1000)
        wrong += count("crosstabs", len(self.crosstabs), 0, MOST_CROSSTABS)
        wrong += [
            f"crosstabs: {list(pair)} names {many(len(pair), 'column')}, expected two"
            for pair in self.crosstabs
            if len(pair) != 2
        ]
        refuse(wrong[:MOST_REASONS])


class _Place(NamedTuple):
    """Where a feature's part of the vector begins: of a number u, u^2, bins, missing; of a category levels, missing."""

    feature: Feature
    column: int  # of the inputs
    start: int
    cells: int  # bins or levels


class Statistics(Analysis):
    """The vector: the number of units, then each feature's part (`_Place`), then the cells of each crosstab."""

    Options = StatisticsOptions

    def __init__(self, schema: Schema, options: StatisticsOptions) -> None:
        self._bins, self._pairs = options.bins, tuple(options.crosstabs)
        self._places: Dict[str, _Place] = {}
        column, start = 0, 1
        for feature in schema.features:
            cells = len(feature.categories) or options.bins
            self._places[feature.name] = _Place(feature, column, start, cells)
            column += feature.width
            start += cells + (1 if feature.categories else 3)
        self._end = start
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """A crosstab is of two different columns with categories."""
        known = [each.name for each in self.schema.features if each.categories]
        for pair in self._pairs:
            for name in pair:
                if name not in self._places:
                    yield f"crosstabs: no column {name!r} in the schema{near(name, known)}"
                elif not self._places[name].feature.categories:
                    yield f"crosstabs: {name!r} is a number; a crosstab is of columns with categories"
            if len(set(pair)) < len(pair):
                yield f"crosstabs: {pair[0]!r} with itself"
            elif all(name in self._places for name in pair) and self._cells(pair) > MOST_CELLS:
                yield f"crosstabs: {' x '.join(pair)} has {self._cells(pair)} cells, at most {MOST_CELLS}"
        yield from twice("crosstabs", (tuple(sorted(pair)) for pair in self._pairs))

    @property
    def rounds(self) -> int:
        """All sums are of one."""
        return 1

    @property
    def sums(self) -> Sums:
        """A record is in one cell of each histogram, each column of categories and each crosstab; u and u^2 are at most 1."""
        most = 1 + sum(1 if place.feature.categories else 3 for place in self._places.values()) + len(self._pairs)
        return Sums(self._end + sum(map(self._cells, self._pairs)), math.sqrt(most))

    def _cells(self, pair: Tuple[str, ...]) -> int:
        return math.prod(self._places[name].cells for name in pair)

    def begin(self, seed: int) -> np.ndarray:
        """Nodes need to know nothing."""
        return np.zeros(1, np.float32)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        found = np.zeros((len(x), self.sums.size))
        found[:, 0] = 1.0
        unit_range = dict(zip((f.name for _, f in self.schema.numbers()), in_unit_range(x, self.schema).T))
        for name, place in self._places.items():
            if place.feature.categories:
                found[:, place.start : place.start + place.cells + 1] = _levels(place, x)
                continue
            u = unit_range[name]
            known = ~np.isnan(u)
            whole = np.where(known, u, 0.0)
            found[:, place.start], found[:, place.start + 1] = whole, whole**2
            inside = np.searchsorted(_edges(place), x[:, place.column], side="right") - 1
            cell = np.where(known, np.clip(inside, 0, place.cells - 1), place.cells)
            found[np.arange(len(x)), place.start + 2 + cell] = 1.0
        end = self._end
        for pair in self._pairs:
            first, second = (_levels(self._places[name], x)[:, :-1] for name in pair)
            start, end = end, end + self._cells(pair)
            found[:, start:end] = (first[:, :, np.newaxis] * second[:, np.newaxis, :]).reshape(len(x), -1)
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """A node leaves out a column as if it were missing, and a crosstab by itself."""
        found = [Block("records", CELLS, places(0, 1))]
        for name, place in self._places.items():
            first, numeric = place.start, not place.feature.categories
            if numeric:
                found.append(Block(f"the sum of {name}", SUMS, places(first, 1), (name,), out=name))
                found.append(Block(f"the sum of squares of {name}", PRODUCTS, places(first + 1, 1), (name,), out=name))
                first += 2
            at, kind = places(first, place.cells), "histogram" if numeric else "levels"
            found.append(Block(f"{kind} of {name}", CELLS, at, (name,), ordered=numeric, out=name, shown=True))
            found.append(aside(f"missing {name}", first + place.cells))
        end = self._end
        for pair in self._pairs:
            at = places(end, *(self._places[name].cells for name in pair))
            found.append(Block(f"crosstab of {' and '.join(pair)}", CELLS, at, pair, out=BY_ITSELF, shown=True))
            for name, cells in zip(pair, (at.T, at)):
                found.append(Block(f"{name} in the crosstab of {' and '.join(pair)}", MARGINS, cells, (name,)))
            end += at.size
        return found

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The sums are the result."""
        state = {"total": total.values, "deviation": np.array([total.deviation])}
        return asked, Folded(state, {"units": float(total.values[0])}, done=True)

    def result(self, state: State, units: str) -> Result:
        """Tables "columns", "histogram NAME", "levels NAME" and "crosstab A x B"."""
        total = Total(state["total"], float(state["deviation"][0]))
        columns = ("column", units, "missing", "mean", "standard deviation", "± of the mean")[
            : 6 if total.deviation else 5
        ]
        tables = [Table("columns", columns, [_row(place, total)[: len(columns)] for place in self._places.values()])]
        for name, place in self._places.items():
            tables.append(self._cell_table(name, place, total, units))
        end = self._end
        for pair in self._pairs:
            start, end = end, end + self._cells(pair)
            rows, cols = (self._places[name].feature.categories for name in pair)
            counts = total.values[start:end].reshape(len(rows), len(cols))
            body: List[Tuple[Cell, ...]] = [(level, *map(_number, line)) for level, line in zip(rows, counts)]
            tables.append(Table(f"crosstab {pair[0]} x {pair[1]}", (pair[0], *cols), body))
        return Result(tables, list(self._notes(total, units)))

    def _notes(self, total: Total, units: str) -> Iterator[str]:
        logarithms = [name for name, place in self._places.items() if place.feature.transform]
        if logarithms:
            yield f"means and deviations of {', '.join(logarithms)} are of natural logarithms"
        if total.deviation:
            whole = interval(total.deviation)
            yield (
                f"every count carries noise: with 95 % it is within {whole:.3g} of what would be there without, whatever its "
                f"size, and may come out negative; {units} of table columns are a difference of two counts: within "
                f"{math.sqrt(2) * whole:.3g}"
            )
            yield "means and standard deviations that noise hides are left out"
        rows = [] if total.deviation else [_row(place, total) for place in self._places.values()]
        same = [str(name) for name, _, _, _, std, *_ in rows if std == 0]
        if same:
            yield f"{', '.join(same)}: all values are the same"
        if units == "patients":
            yield "a patient counts once, spread evenly over its records: counts are of patients, and means are over patients"

    def _cell_table(self, name: str, place: _Place, total: Total, units: str) -> Table:
        first = place.start + (0 if place.feature.categories else 2)
        counts = [_number(value) for value in total.values[first : first + place.cells + 1]]
        if place.feature.categories:
            rows: List[Tuple[Cell, ...]] = list(zip((*place.feature.categories, "(missing)"), counts))
            return Table(f"levels {name}", (name, units), rows, units)
        edges = np.exp(_edges(place)) if place.feature.transform else _edges(place)
        bins: List[Tuple[Cell, Cell]] = [*((float(a), float(b)) for a, b in zip(edges, edges[1:])), ("(missing)", None)]
        return Table(
            f"histogram {name}", ("from", "to", units), [(*ends, each) for ends, each in zip(bins, counts)], units
        )

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """A line on the columns, and one for each crosstab."""
        numbers = sum(not place.feature.categories for place in self._places.values())
        lines = [
            f"statistics of {many(len(self._places), 'column')}: counts, missing values, means and deviations; histograms of "
            f"{many(self._bins, 'bin')} of {many(numbers, 'number')}, levels of "
            f"{many(len(self._places) - numbers, 'category', 'categories')}"
        ]
        return [*lines, *(f"crosstab of {quoted(a)} and {quoted(b)}" for a, b in self._pairs)]


def _edges(place: _Place) -> np.ndarray:
    """float64 (bins + 1,): a value on one of them is in the bin that begins there, the largest in the last one."""
    return np.linspace(*place.feature.scaled_range, place.cells + 1)


def _levels(place: _Place, x: np.ndarray) -> np.ndarray:
    """float64 (n, levels + 1): 1 for a record's level, in the last column for one that is missing."""
    known = x[:, place.column : place.column + place.cells].astype(np.float64)
    return np.concatenate([known, 1.0 - known.sum(axis=1, keepdims=True)], axis=1)


def _number(value: float) -> Cell:
    """A whole number where it is one."""
    return int(value) if float(value).is_integer() else float(value)


def _row(place: _Place, total: Total) -> Tuple[Cell, ...]:
    """name, count, missing, mean, deviation, half the mean's interval of 95 %; None for what is hidden or is no number's."""
    name, values = place.feature.name, total.values
    missing = values[place.start + place.cells + (0 if place.feature.categories else 2)]
    known = values[0] - missing
    if place.feature.categories:
        return name, _number(known), _number(missing), None, None, None
    mean, std, spread = _moments(values[place.start], values[place.start + 1], known, total.deviation)
    low, high = place.feature.scaled_range
    half = (high - low) / 2
    if mean is None:
        return name, _number(known), _number(missing), None, None, None
    return (
        name,
        _number(known),
        _number(missing),
        low + half * (1 + mean),
        None if std is None else half * std,
        half * interval(spread) if total.deviation else None,
    )


def _moments(
    first: float, second: float, known: float, deviation: float
) -> Tuple[Optional[float], Optional[float], float]:
    """(mean of u, standard deviation of u with n - 1, standard deviation of the noise in the mean); None for what noise hides.

    `known` is a difference of two counts. What noise does to mean and variance is to first order.
    """
    if known <= 0 or interval(math.sqrt(2) * deviation) > LEAST_SHARE * known:
        return None, None, 0.0
    mean = float(np.clip(first / known, -1, 1))
    squared, spread = second - first * first / known, deviation / known
    squared = squared if deviation else float(around_mean(first, second, known))
    std = math.sqrt(squared / (known - 1)) if known > 1 and squared >= 0 else None
    variance = max(0.0, squared / known)
    hidden = interval(spread * math.sqrt(1 + 4 * mean**2 + 2 * (mean**2 - variance) ** 2)) > LEAST_SHARE * variance
    return mean, None if deviation and hidden else std, spread * math.sqrt(1 + 2 * mean * mean)
