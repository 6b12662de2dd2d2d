"""Medians and other quantiles, exact on a public grid: an analysis is one file with both its halves.

They are of numbers, overall and by group. A value counts as the nearest point of its column's grid, and a quantile is the
smallest point that at least that share of the records is at or below (Hyndman and Fan 1996, definition 1). The first round
counts records in bins of equally many points. Where a bin has several, further rounds halve the bin that each quantile is in:
they count the records at or below one point for each. With noise there is the first round only, and a grid of no more points
than bins.
"""

import math
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import (
    CERTAINTY,
    MOST_REASONS,
    Analysis,
    Cell,
    Folded,
    Result,
    State,
    Sums,
    Table,
    Total,
    as_pairs,
    from_pairs,
    interval,
)
from orchestrator.analyses.blocks import CELLS, EVERYBODY, MARGINS, MISSING, UPTO, Block, aside, places, unused
from orchestrator.wire.bounds import count, near, refuse, twice, within
from orchestrator.wire.schema import Feature, Schema

MOST_QUANTILES = 99
MOST_COLUMNS = 1000
MOST_POINTS = 1 << 30
ENDS = 0.01
"""The share of records that is beyond every quantile, on either side: what is nearer to an end is a value of single people."""

_ROUNDING = 1e-9
"""Of a count: what float64 may leave of a share of it."""


@dataclass(frozen=True)
class QuantilesOptions:
    """Of kind "quantiles"."""

    columns: Tuple[str, ...] = ()  # numbers of which they are; left out: all numbers of the schema [columns]
    quantiles: Tuple[float, ...] = (0.25, 0.5, 0.75)  # as shares of the records, in rising order [0.01 to 0.99 each]
    by: str = ""  # column with categories: they are also of each of its groups [a column, or empty]
    bins: int = 100  # counted in the first round, for each column and group [2 to 10000]
    # distance between points of the grid, one for each column; left out: as many points as bins, over the whole range. More
    # points than bins take further rounds, and sums without noise [above 0, up to the column's range]
    step: Tuple[float, ...] = ()
    least: int = 10  # records there have to be on either side of a quantile, else it is left out [5 to 1000000]

    def __post_init__(self) -> None:
        wrong = [*count("bins", self.bins, 2, 10_000), *count("least", self.least, 5, 1_000_000)]
        wrong += count("quantiles", len(self.quantiles), 1, MOST_QUANTILES)
        wrong += count("columns", len(self.columns), 0, MOST_COLUMNS)
        for share in self.quantiles[:MOST_QUANTILES]:
            expected = f"{ENDS:g} to {1 - ENDS:g}: nearer to an end a quantile shows single records"
            wrong += within("quantiles", share, ENDS, 1 - ENDS, expected)
        if any(b <= a for a, b in zip(self.quantiles, self.quantiles[1:])):
            wrong.append("quantiles: expected each once, in rising order")
        refuse(wrong[:MOST_REASONS])


class _Grid(NamedTuple):
    """Of one column. Cell i is what is nearer to low + i * step than to any other point."""

    feature: Feature
    column: int  # of the inputs
    step: float
    points: int
    halvings: int  # until one bin is one point

    def cells(self, x: np.ndarray) -> np.ndarray:
        """int64 (n,): the cell of each record, -1 where the value is missing."""
        values = x[:, self.column]
        known = ~np.isnan(values)
        raw = np.where(known, values, self.feature.scaled_range[0])
        low, high = self.feature.range
        raw = np.clip(np.exp(raw) if self.feature.transform else raw, low, high)
        nearest = np.floor((raw - low) / self.step + 0.5).astype(np.int64)
        return np.where(known, np.minimum(nearest, self.points - 1), -1)

    def value(self, cell: float) -> float:
        """The point of a cell."""
        return float(self.feature.range[0] + cell * self.step)


class _Asked(NamedTuple):
    """What is announced. stage: 0 for bins, then how many halvings there were. left_out: records of no group. known, missing:
    records (targets,). low: (targets, quantiles), the first cell of the bin a quantile is in; a target is a column of a group.
    """

    stage: int
    left_out: float
    known: np.ndarray
    missing: np.ndarray
    low: np.ndarray


class Quantiles(Analysis):
    """Both halves, in one class.

    The vector of the first round: for each column, for records of no group and for each group its bins, and 1 where the value
    is missing; in the last cell 1 for a record of no group. Of a later one: for each column, for all records and for each group,
    and for each quantile 1 where the value is at or below the announced point.
    """

    Options = QuantilesOptions

    def __init__(self, schema: Schema, options: QuantilesOptions) -> None:
        self._places: Dict[str, Tuple[Feature, int]] = {}
        column = 0
        for feature in schema.features:
            self._places[feature.name] = feature, column
            column += feature.width
        self._names = options.columns or tuple(feature.name for _, feature in schema.numbers())
        self._grids: List[_Grid] = []
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """Columns are numbers with a grid, groups those of a column with categories."""
        numbers = [feature.name for _, feature in self.schema.numbers()]
        wrong = [name for name in self._names if name not in numbers]
        for name in wrong:
            what = "has categories" if name in self._places else f"no such column{near(name, numbers)}"
            yield f"columns: {name!r}: {what}; quantiles are of numbers"
        if not self._names:
            yield "columns: the schema has no column that is a number"
        yield from twice("columns", self._names)
        if self.options.by and (self.options.by not in self._places or self.options.by in numbers):
            groups = [name for name in self._places if name not in numbers]
            yield f"by: {self.options.by!r} is no column with categories{near(self.options.by, groups)}"
        if self.options.step and len(self.options.step) != len(self._names):
            yield f"step: {len(self.options.step)} numbers, expected one for each of {len(self._names)} columns"
        elif not wrong:
            yield from self._lay_grids()

    def _lay_grids(self) -> Iterator[str]:
        for number, name in enumerate(self._names):
            feature, column = self._places[name]
            low, high = feature.range
            step = self.options.step[number] if self.options.step else (high - low) / (self.options.bins - 1)
            if not (math.isfinite(step) and 0 < step <= high - low) or (high - low) / step >= MOST_POINTS:
                yield f"step: {step:g} for {name}: expected above 0, up to its range, and at most {MOST_POINTS} points"
                continue
            points = math.floor((high - low) / step + 0.5) + 1
            halvings = max(0, math.ceil(math.log2(points / self.options.bins)))
            self._grids.append(_Grid(feature, column, step, points, halvings))

    def objection_to(self, noisy: bool) -> str:
        """Further rounds find a point by single records."""
        return (
            "noise would leave nothing of halved bins (leave `step` out, or have as many bins as points)"
            if noisy and self.rounds > 1
            else ""
        )

    @property
    def rounds(self) -> int:
        """One of bins, and one for each halving."""
        return 1 + max(grid.halvings for grid in self._grids)

    @property
    def _groups(self) -> Tuple[str, ...]:
        return self._places[self.options.by][0].categories if self.options.by else ()

    @property
    def _shape(self) -> Tuple[int, int, int]:
        """(columns, groups of records with all of them as the first, quantiles)."""
        return len(self._grids), 1 + len(self._groups), len(self.options.quantiles)

    @property
    def sums(self) -> Sums:
        """In the first round a record is in one cell of each column, and in the last where it has no group; in a later one each
        quantile counts it twice for each column: among all, and in its group.
        """
        columns, groups, quantiles = self._shape
        first = columns + bool(self.options.by)
        later = columns * quantiles * min(groups, 2) if self.rounds > 1 else 0
        size = max(columns * groups * (self.options.bins + 1) + 1, columns * groups * quantiles if later else 0)
        return Sums(size, math.sqrt(max(first, later)))

    def begin(self, seed: int) -> np.ndarray:
        """The first round needs no numbers."""
        columns, groups, quantiles = self._shape
        return as_pairs(np.zeros(2 + columns * groups * (2 + quantiles)))

    def question(self, asked: np.ndarray) -> np.ndarray:
        """1 and the points up to which is counted; zeros in the first round."""
        found, announced = np.zeros((1 + math.prod(self._shape),)), self._announced(asked)
        if announced.stage:
            found[0], found[1:] = 1.0, self._middles(announced).ravel()
        return found

    def scope(self, question: np.ndarray) -> np.ndarray:
        """Counts up to two points, over two sets of nodes, would show single values of one node: all sums are of one set."""
        return np.zeros(0)

    def _announced(self, asked: np.ndarray) -> _Asked:
        """Within what there is, whatever was announced."""
        columns, groups, quantiles = self._shape
        values, targets = np.round(from_pairs(asked)), columns * groups
        known, missing = values[2 : 2 + targets], values[2 + targets : 2 + 2 * targets]
        low = np.clip(values[2 + 2 * targets :].reshape(targets, quantiles), 0, MOST_POINTS)
        return _Asked(int(np.clip(values[0], 0, self.rounds - 1)), float(values[1]), known, missing, low)

    def _middles(self, announced: _Asked) -> np.ndarray:
        """float64 (columns, groups, quantiles): the last cell of the first half of each bin."""
        left = np.array([max(0, grid.halvings - announced.stage) for grid in self._grids])
        last = np.array([grid.points - 1 for grid in self._grids], np.float64)
        middles = announced.low.reshape(self._shape) + (2.0**left - 1)[:, np.newaxis, np.newaxis]
        return np.minimum(middles, last[:, np.newaxis, np.newaxis])

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        columns, groups, _ = self._shape
        cells = np.stack([grid.cells(x) for grid in self._grids], axis=1)
        group = self._group(x)
        found = np.zeros((len(x), self.sums.size))
        if question[0]:
            points = question[1:].reshape(self._shape)
            below = (cells[:, :, np.newaxis, np.newaxis] <= points) & (cells >= 0)[:, :, np.newaxis, np.newaxis]
            mine = (np.arange(groups) == group[:, np.newaxis]) | (np.arange(groups) == 0)
            counted = below & mine[:, np.newaxis, :, np.newaxis]
            found[:, : math.prod(self._shape)] = counted.reshape(len(x), -1)
            return found
        bins = self.options.bins
        wide = np.array([1 << grid.halvings for grid in self._grids])
        at = np.where(cells >= 0, cells // wide, bins)
        block = found[:, :-1].reshape(len(x), columns, groups, bins + 1)
        block[np.arange(len(x))[:, np.newaxis], np.arange(columns), group[:, np.newaxis], at] = 1.0
        found[:, -1] = (group == 0) & bool(self.options.by)
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Bins of a column and group; later counts up to points, where the first group is everybody."""
        columns, groups, _ = self._shape
        by, found = self.options.by, []
        names = ["", *self._groups]
        if question[0]:
            points = places(0, *self._shape)
            for at, grid in enumerate(self._grids):
                for group, level in enumerate(names):
                    among = (by, level) if level else EVERYBODY
                    column = (grid.feature.name,)
                    found.append(Block(f"{column[0]} up to points", UPTO, points[at, group], column, among))
            return [*found, *unused(points.size, self.sums.size)]
        cells = places(0, columns, groups, self.options.bins + 1)
        for at, grid in enumerate(self._grids):
            name = grid.feature.name
            for group, level in enumerate(names):
                among = (by, level) if by else EVERYBODY
                found.append(Block(f"bins of {name}", CELLS, cells[at, group, :-1], (name,), among, ordered=True))
            if by:
                found.append(Block(f"bins of {name}", MARGINS, cells[at, :, :-1], (name,), ordered=True))
            found.append(aside(f"missing {name}", cells[at, 0, -1]))
            if by:
                found.append(Block(f"missing {name} by {by}", CELLS, cells[at, 1:, -1], (by, name), what=MISSING))
        return [*found, aside("of no group", cells.size), *unused(cells.size + 1, self.sums.size)]

    def _group(self, x: np.ndarray) -> np.ndarray:
        """int64 (n,): 1 and more for the groups, 0 for a record of none."""
        if not self.options.by:
            return np.zeros(len(x), np.int64)
        feature, column = self._places[self.options.by]
        levels = x[:, column : column + feature.width]
        return np.where(levels.sum(axis=1) > 0.5, 1 + levels.argmax(axis=1), 0)

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """Each quantile moves to the bin, then to the half of its bin, that it is in."""
        announced = self._announced(asked)
        after = self._halved(announced, total) if announced.stage else self._binned(total)
        stage = announced.stage + 1
        state = {"known": after.known, "missing": after.missing, "low": after.low.ravel()}
        state.update(left_out=np.array([after.left_out]), deviation=np.array([total.deviation]))
        if total.deviation:
            state["bins"] = self._targets(total)[0].ravel()
        sent = [np.array([min(stage, self.rounds - 1), after.left_out]), after.known, after.missing, after.low.ravel()]
        return as_pairs(np.concatenate(sent)), Folded(state, {"halvings": float(stage - 1)}, stage >= self.rounds)

    def _targets(self, total: Total) -> Tuple[np.ndarray, np.ndarray]:
        """Of the first round: ((targets, bins), missing (targets,)), where the first group has become all records."""
        columns, groups, _ = self._shape
        size = columns * groups * (self.options.bins + 1)
        blocks = total.values[:size].reshape(columns, groups, self.options.bins + 1).copy()
        blocks[:, 0] = blocks.sum(axis=1)
        flat = blocks.reshape(columns * groups, self.options.bins + 1)
        return flat[:, :-1], flat[:, -1]

    def _binned(self, total: Total) -> _Asked:
        bins, missing = self._targets(total)
        known = bins.sum(axis=1)
        reached = bins.cumsum(axis=1)[:, np.newaxis, :] >= self._ranks(known)[:, :, np.newaxis]
        at = reached.argmax(axis=2).reshape(self._shape)
        wide = np.array([1 << grid.halvings for grid in self._grids])[:, np.newaxis, np.newaxis]
        last = np.array([grid.points for grid in self._grids])[:, np.newaxis, np.newaxis]
        # What is not to be shown is not looked for: its bin is the end of the grid.
        shown = self._enough(known).reshape(self._shape)
        low = np.where(shown, at * wide, last).reshape(len(known), -1)
        return _Asked(0, float(total.values[-1]), known, missing, low.astype(np.float64))

    def _halved(self, announced: _Asked, total: Total) -> _Asked:
        counts = total.values[: math.prod(self._shape)].reshape(announced.low.shape)
        middles = self._middles(announced).reshape(announced.low.shape)
        beyond = (counts < self._ranks(announced.known)) & self._enough(announced.known)
        return announced._replace(low=np.where(beyond, middles + 1, announced.low))

    def _ranks(self, known: np.ndarray) -> np.ndarray:
        """float64 (targets, quantiles): how many records are at or below a quantile, at least."""
        return known[:, np.newaxis] * (np.array(self.options.quantiles) - _ROUNDING)

    def _enough(self, known: np.ndarray) -> np.ndarray:
        """bool (targets, quantiles): whether so many records are on either side that it is no matter of single ones."""
        shares = np.array(self.options.quantiles)
        return known[:, np.newaxis] * np.minimum(shares, 1 - shares) >= self.options.least * (1 - _ROUNDING)

    def result(self, state: State, units: str) -> Result:
        """Table "columns", and one for each column with its quantiles; with noise each has an interval."""
        deviation, groups = float(state["deviation"][0]), self._shape[1]
        names = ("all", *(f"{self.options.by} = {level}" for level in self._groups))
        rows: List[Tuple[Cell, ...]] = []
        tables: List[Table] = []
        hidden = 0
        for number, grid in enumerate(self._grids):
            targets = range(number * groups, (number + 1) * groups)
            for name, target in zip(names, targets):
                counts = _plain(float(state["known"][target])), _plain(float(state["missing"][target]))
                rows.append((grid.feature.name, name, *counts, grid.step))
            found = [self._column(grid, state, target, deviation) for target in targets]
            hidden += sum(line[0] is None for each in found for line in each)
            heads = [(name, f"{name} from", f"{name} to")[: 3 if deviation else 1] for name in names]
            body: List[Tuple[Cell, ...]] = []
            for place, share in enumerate(self.options.quantiles):
                body.append((_percent(share), *(cell for each in found for cell in each[place])))
            tables.append(Table(f"quantiles {grid.feature.name}", ("quantile", *sum(heads, ())), body, "all"))
        columns_table = Table("columns", ("column", "group", units, "missing", "step"), rows)
        return Result([columns_table, *tables], list(self._notes(state, units, hidden)))

    def _column(self, grid: _Grid, state: State, target: int, deviation: float) -> List[Tuple[Cell, ...]]:
        """Of one target, for each quantile: (value,), or with noise (value, from, to); None for what is not shown."""
        known, quantiles = state["known"][target : target + 1], len(self.options.quantiles)
        shown = self._enough(known)[0]
        if not deviation:
            low = state["low"].reshape(-1, quantiles)[target]
            return [(grid.value(float(at)) if seen else None,) for at, seen in zip(low, shown)]
        bins = state["bins"].reshape(-1, self.options.bins)[target][: grid.points]
        # The bins of all records are sums of those of the groups, and of records of none.
        summed = self._shape[1] if target % self._shape[1] == 0 else 1
        found: List[Tuple[Cell, ...]] = []
        for share, seen in zip(self.options.quantiles, shown):
            cells = noisy_cell(bins, share, deviation * math.sqrt(summed)) if seen else None
            found.append((None,) * 3 if cells is None else tuple(grid.value(cell) for cell in cells))
        return found

    def _notes(self, state: State, units: str, hidden: int) -> Iterator[str]:
        deviation, left_out = float(state["deviation"][0]), float(state["left_out"][0])
        yield (
            "a quantile is the smallest point of the grid that at least this share is at or below; values count as the nearest "
            "point, so each is right within half a step"
        )
        if left_out > interval(deviation):
            yield f"{left_out:.6g} {units} of no group count among all only"
        if hidden:
            why = " or whose interval is the whole range" if deviation else ""
            yield f"{hidden} quantiles with fewer than {self.options.least} {units} on either side{why} are left out"
        if deviation:
            bins, groups = self.options.bins, self._shape[1]
            each, of_all = (interval(deviation * math.sqrt(summed)) for summed in (bins, bins * groups))
            yield (
                f"every bin carries noise: with 95 % it is within {interval(deviation):.3g} of what would be there without. "
                f"{units.capitalize()} of table columns are sums of bins: within {of_all:.3g} for all, {each:.3g} for a group"
            )
            yield (
                "what a quantile would be without noise is within its columns from and to with 95 % or more; chance in who was "
                "sampled is not counted there"
            )
        if units == "patients":
            yield "a patient counts once, spread evenly over its records"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is counted, and how finely."""
        names = ", ".join(quoted(name) for name in self._names[:5]) + (" and more" if self._names[5:] else "")
        by = f", overall and by {quoted(self.options.by)}" if self.options.by else ""
        lines = [f"{len(self.options.quantiles)} quantiles of {names}{by}: counts in {self.options.bins} bins each"]
        if self.rounds > 1:
            steps = ", ".join(f"{grid.step:.4g}" for grid in self._grids[:5]) + (" ..." if self._grids[5:] else "")
            lines.append(
                f"then in {self.rounds - 1} rounds how many values are at or below points the gateway chooses, down to steps of "
                f"{steps}: without noise that can show single values"
            )
        return lines


def noisy_cell(bins: np.ndarray, share: float, deviation: float) -> Optional[Tuple[float, float, float]]:
    """(the cell a quantile is in, the first and the last it can be in with 95 %) from noised counts; None where noise hides it.

    With j of n cells up to one, the count up to it less `share` of all has the variance deviation^2 ((1 - share)^2 j +
    share^2 (n - j)). The quantile's cell is the first where it would not be negative without noise; each end errs in 2.5 %.
    """
    upto = np.arange(1, len(bins) + 1)
    above = bins.cumsum() - share * bins.sum()
    spread = CERTAINTY * deviation * np.sqrt((1 - share) ** 2 * upto + share**2 * (len(bins) - upto))
    last = len(bins) - 1
    at = min(int(np.count_nonzero(above[:-1] < 0)), last)  # with noise it may change signs several times
    first = int(np.argmax(above + spread >= 0)) if (above + spread >= 0).any() else last
    below = np.flatnonzero(above - spread < 0)
    end = min(int(below[-1]) + 1, last) if below.size else 0
    if first == 0 and end == last:
        return None
    return float(min(max(at, first), max(first, end))), float(first), float(max(first, end))


def _percent(share: float) -> str:
    return "median" if share == 0.5 else f"{100 * share:.10g} %"


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
