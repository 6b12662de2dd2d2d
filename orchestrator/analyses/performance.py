"""How well a score that is known predicts an outcome: discrimination, calibration, and what a threshold finds.

One round. Scores are counted in bins of equal width over a public range, apart for those with the outcome and those without. The
area under the ROC curve follows from the counts (Hanley and McNeil 1982, Radiology 143:29, ties half), the Brier score (1950) and
calibration in the large from two sums more.
"""

import math
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis, Cell, Folded, Result, State, Sums, Table, Total, interval
from orchestrator.analyses.blocks import CELLS, EVERYBODY, MARGINS, PRODUCTS, Block, aside, places
from orchestrator.analyses.inputs import columns_of
from orchestrator.wire.bounds import count, near
from orchestrator.wire.schema import Feature, Schema

INTERCEPT = "(intercept)"
BETWEEN = " = "
BANDS = 10
_OUTCOMES = ("without the outcome", "with the outcome")
_HIDDEN = 0.25
"""Width from which noise hides a figure between 0 and 1."""


@dataclass(frozen=True)
class PerformanceOptions:
    """Of kind "performance". Either `score` or `coefficients`."""

    outcome: str  # column of two categories: what is predicted is the second [a column]
    score: str = ""  # column with the score, a number; one within 0 and 1 is a probability [a column, or empty]
    # of a logistic model: "(intercept)", of a number by its unit, of a category for a level as "sex = m" [names = numbers]
    coefficients: Dict[str, float] = field(default_factory=dict)
    by: str = ""  # column with categories: figures of each, besides those of all [a column, or empty]
    bins: int = 100  # of equal width over the score's range [2 to 1000]
    thresholds: Tuple[float, ...] = ()  # of the score; rounded to the edge of a bin [numbers]


def _bins_of_scores(options: PerformanceOptions, groups: Sequence[str], parts: np.ndarray) -> List[Block]:
    """A model is of the columns of its terms, whatever their weights."""
    terms = sorted({name.split(BETWEEN)[0] for name in options.coefficients if name != INTERCEPT})
    score = (options.score,) if options.score else tuple(terms)
    cells = parts[:, : 2 * options.bins].reshape(len(parts), 2, options.bins)
    found = []
    for both, level in zip(cells, groups):
        among = (options.by, level) if options.by else EVERYBODY
        for at, what in zip(both, _OUTCOMES):
            found.append(Block(f"scores {what} {level}", CELLS, at, score, among, ordered=True, what=what))
        found.append(Block(f"scores {level}", MARGINS, both, score, among, ordered=True))
    if options.by:
        found.append(Block("scores of all groups", MARGINS, cells, score, ordered=True))
        for place, what in enumerate(_OUTCOMES):
            at = cells[:, place]
            found.append(Block(f"scores {what} of all groups", MARGINS, at, score, ordered=True, what=what))
    return found


class Performance(Analysis):
    """The vector: for each group the bins of those without the outcome and of those with it and, of a probability p, p and
    (p - y)^2; in the last cell 1 where something is missing.
    """

    Options = PerformanceOptions

    def __init__(self, schema: Schema, options: PerformanceOptions) -> None:
        self._by_name = {feature.name: feature for feature in schema.features}
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The outcome has two values, the score is a number, groups are categories, and coefficients have columns."""
        options: PerformanceOptions = self.options
        yield from count("bins", options.bins, 2, 1000)
        yield from self._of_categories("outcome", options.outcome, 2)
        if options.by:
            yield from self._of_categories("by", options.by, 0)
        if bool(options.score) == bool(options.coefficients):
            yield "score: either the column with the score, or coefficients of a model"
        elif options.score:
            feature = self._by_name.get(options.score)
            if feature is None:
                yield f"score: no column {options.score!r} in the schema{near(options.score, self._by_name)}"
            elif feature.categories or feature.transform:
                yield f"score: {options.score!r}: expected a number without a transform"
        yield from self._of_coefficients()
        if not all(math.isfinite(each) for each in options.thresholds):
            yield "thresholds: expected finite numbers"

    def _of_categories(self, option: str, name: str, wanted: int) -> Iterator[str]:
        feature = self._by_name.get(name)
        if feature is None:
            yield f"{option}: no column {name!r} in the schema{near(name, self._by_name)}"
        elif not feature.categories or (wanted and len(feature.categories) != wanted):
            yield f"{option}: {name!r}: expected a column with {wanted or 'some'} categories"

    def _of_coefficients(self) -> Iterator[str]:
        known = {INTERCEPT, *(name for name, _ in self._factors())}
        for name, value in self.options.coefficients.items():
            if name not in known:
                yield f"coefficients: {name!r} is no number, no level as 'sex = m' and not {INTERCEPT!r}{near(name, known)}"
            elif name.split(BETWEEN)[0] == self.options.outcome:
                yield f"coefficients: {name!r} is the outcome"
            if not math.isfinite(value) or abs(value) > 1e6:
                yield f"coefficients: {name!r}: {value}, expected a number up to 1e6"

    def _factors(self) -> Iterator[Tuple[str, Tuple[Feature, int]]]:
        """Name of a coefficient -> its column and the place of its level, -1 of a number."""
        for feature in self.schema.features:
            if not feature.categories:
                yield feature.name, (feature, -1)
            yield from (
                (f"{feature.name}{BETWEEN}{level}", (feature, at)) for at, level in enumerate(feature.categories)
            )

    @property
    def _range(self) -> Tuple[float, float]:
        return (0.0, 1.0) if self.options.coefficients else self._by_name[self.options.score].range

    @property
    def _probable(self) -> bool:
        low, high = self._range
        return low >= 0 and high <= 1

    @property
    def _groups(self) -> Tuple[str, ...]:
        return self._by_name[self.options.by].categories if self.options.by else ("all",)

    @property
    def _block(self) -> int:
        return 2 * self.options.bins + 2 * self._probable

    @property
    def rounds(self) -> int:
        """All sums are of one."""
        return 1

    @property
    def sums(self) -> Sums:
        """A record is in one bin of one group; p and (p - y)^2 are at most 1."""
        return Sums(len(self._groups) * self._block + 1, math.sqrt(3) if self._probable else 1.0)

    def begin(self, seed: int) -> np.ndarray:
        """Nodes need no numbers."""
        return np.zeros(1, np.float32)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        columns = columns_of(x, self.schema)
        score, used = self._scores(columns)
        outcome = columns[self.options.outcome]
        groups = columns[self.options.by] if self.options.by else np.ones((len(x), 1))
        used &= (outcome.sum(axis=1) > 0.5) & (groups.sum(axis=1) > 0.5)
        low, high = self._range
        share = np.clip((np.where(used, score, low) - low) / (high - low), 0.0, 1.0)
        bins = self.options.bins
        cell = np.minimum((share * bins).astype(np.int64), bins - 1)
        event = outcome[:, 1]
        block = np.zeros((len(x), self._block))
        rows = np.arange(len(x))
        block[rows, cell + bins * (event > 0.5)] = 1.0
        if self._probable:
            p = np.clip(low + share * (high - low), 0.0, 1.0)
            block[:, -2], block[:, -1] = p, (p - event) ** 2
        found = np.zeros((len(x), self.sums.size))
        found[:, :-1] = (groups[:, :, np.newaxis] * block[:, np.newaxis, :]).reshape(len(x), -1)
        found[~used] = 0.0
        found[:, -1] = ~used
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Bins of scores by group and outcome, and what they add up to."""
        parts = places(0, len(self._groups), self._block)
        found = _bins_of_scores(self.options, self._groups, parts)
        if self._probable:
            for part, level in zip(parts, self._groups):
                found.append(Block(f"probabilities {level}", PRODUCTS, part[2 * self.options.bins :]))
        return [*found, aside("left out", parts.size)]

    def _scores(self, columns: Dict[str, np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
        """(the score of each record, which ones have it)."""
        options: PerformanceOptions = self.options
        if options.score:
            score = _in_units(columns[options.score], self._by_name[options.score])
            return score, ~np.isnan(score)
        factors = dict(self._factors())
        rows = len(next(iter(columns.values())))
        sum_, used = np.full(rows, options.coefficients.get(INTERCEPT, 0.0)), np.ones(rows, bool)
        for name, value in options.coefficients.items():
            if name == INTERCEPT:
                continue
            feature, at = factors[name]
            column = columns[feature.name]
            used &= column.sum(axis=1) > 0.5 if feature.categories else ~np.isnan(column[:, 0])
            sum_ = sum_ + value * (column[:, at] if feature.categories else _in_units(column, feature))
        return 1.0 / (1.0 + np.exp(-np.clip(np.where(used, sum_, 0.0), -700.0, 700.0))), used

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The sums are the result."""
        state = {"total": total.values, "deviation": np.array([total.deviation])}
        parts = total.values[:-1].reshape(len(self._groups), self._block)
        return asked, Folded(state, {"units": float(parts[:, : 2 * self.options.bins].sum())}, done=True)

    def result(self, state: State, units: str) -> Result:
        """Tables "performance", "calibration" of a probability, and "thresholds" where some are named."""
        deviation = float(state["deviation"][0])
        parts = state["total"][:-1].reshape(len(self._groups), self._block)
        named = list(zip(self._groups, parts, [deviation] * len(parts)))
        if len(named) > 1:
            named.insert(0, ("all", parts.sum(axis=0), deviation * math.sqrt(len(parts))))
        heads: Tuple[str, ...] = (self.options.by or "group", units, "with the outcome", "AUC", "from", "to")
        heads += ("Brier score", "expected / observed") if self._probable else ()
        rows = [(name, *self._figures(part, noise)) for name, part, noise in named]
        tables = [Table("performance", heads, rows, units)]
        if self._probable:
            calibration = [(name, *row) for name, part, noise in named for row in self._bands(part, noise)]
            bands = (self.options.by or "group", "from", "to", units, "observed", "from (95 %)", "to (95 %)")
            tables.append(Table("calibration", bands, calibration))
        if self.options.thresholds:
            found = [(name, *row) for name, part, noise in named for row in self._thresholds(part, noise)]
            columns = (self.options.by or "group", "score from", "sensitivity", "specificity", "PPV", "NPV")
            tables.append(Table("thresholds", columns, found))
        return Result(tables, list(self._notes(float(state["total"][-1]), deviation, units)))

    def _figures(self, part: np.ndarray, noise: float) -> Tuple[Cell, ...]:
        without, with_it = self._bins(part)
        events, others = float(with_it.sum()), float(without.sum())
        records = events + others
        area = area_of(without, with_it, noise)
        cells: List[Cell] = [_plain(records), _plain(events), *(area if area else (None, None, None))]
        if self._probable:
            expected, squared = float(part[-2]), float(part[-1])
            shown = records > 0 and 2 * interval(noise) <= _HIDDEN * records
            cells.append(squared / records if shown and squared >= 0 else None)
            several = math.sqrt(len(with_it)) * interval(noise)
            cells.append(expected / events if events > 0 and several <= _HIDDEN * events else None)
        return tuple(cells)

    def _bins(self, part: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        bins = self.options.bins
        return part[:bins], part[bins : 2 * bins]

    def _bands(self, part: np.ndarray, noise: float) -> Iterator[Tuple[Cell, ...]]:
        """Of each tenth of the range: how many, and how many of them have the outcome, with Wilson's interval (1927)."""
        without, with_it = self._bins(part)
        low, high = self._range
        edges = np.unique(np.linspace(0, len(without), min(BANDS, len(without)) + 1).round().astype(int))
        for start, end in zip(edges[:-1], edges[1:]):
            events, n = float(with_it[start:end].sum()), float((without + with_it)[start:end].sum())
            ends = [low + (high - low) * edge / len(without) for edge in (start, end)]
            hides = interval(noise) * math.sqrt(2 * (end - start)) > _HIDDEN * n
            if n <= 0 or hides or not 0 <= events <= n:
                yield (*ends, _plain(n), None, None, None)
                continue
            p, z = events / n, 1.96
            middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            scale = 1 + z * z / n
            yield (
                *ends,
                _plain(n),
                p,
                min(p, max(0.0, (middle - half) / scale)),
                max(p, min(1.0, (middle + half) / scale)),
            )

    def _thresholds(self, part: np.ndarray, noise: float) -> Iterator[Tuple[Cell, ...]]:
        without, with_it = self._bins(part)
        low, high = self._range
        bins = len(without)
        for threshold in self.options.thresholds:
            place = int(np.clip(round((threshold - low) / (high - low) * bins), 0, bins))
            hit, missed = float(with_it[place:].sum()), float(with_it[:place].sum())
            false, right = float(without[place:].sum()), float(without[:place].sum())
            hidden = interval(noise) * math.sqrt(2 * bins)
            shares = [
                a / (a + b) if a + b > 0 and hidden <= _HIDDEN * (a + b) and 0 <= a <= a + b else None
                for a, b in ((hit, missed), (right, false), (hit, false), (right, missed))
            ]
            yield (low + (high - low) * place / bins, *shares)

    def _notes(self, missing: float, deviation: float, units: str) -> Iterator[str]:
        width = (self._range[1] - self._range[0]) / self.options.bins
        yield f"scores are counted in bins of {width:.3g}: of two in one bin neither is higher; thresholds are edges of bins"
        yield "the interval of an AUC is Hanley and McNeil's, of 95 %" + (
            " with that of the noise" if deviation else ""
        )
        if missing > interval(deviation):
            yield f"{missing:.6g} {units} without score, outcome or group were left out"
        if deviation:
            yield f"each count carries noise: with 95 % it is within {interval(deviation):.3g}. What that hides is left out"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is computed."""
        options: PerformanceOptions = self.options
        score = (
            f"the score {quoted(options.score)}"
            if options.score
            else f"a model of {len(options.coefficients)} coefficients"
        )
        groups = f", by {quoted(options.by)} ({len(self._groups)})" if options.by else ""
        return [f"how well {score} predicts {quoted(options.outcome)}: counts of scores in {options.bins} bins{groups}"]


def area_of(without: np.ndarray, with_it: np.ndarray, noise: float) -> Optional[Tuple[float, float, float]]:
    """(AUC, from, to) from counts (bins,); None where a side is empty or noise of that deviation on each count hides it."""
    events, others = float(with_it.sum()), float(without.sum())
    several = math.sqrt(len(with_it)) * interval(noise)
    if min(events, others) <= 0 or several > _HIDDEN * min(events, others):
        return None
    below = np.cumsum(without) - without / 2
    above = events - np.cumsum(with_it) + with_it / 2
    area = float(with_it @ below) / (events * others)
    if not 0 <= area <= 1:
        return None
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (events - 1) * (q1 - area**2) + (others - 1) * (q2 - area**2)
    variance = max(0.0, variance) / (events * others)
    slopes = np.concatenate([(below - area * others), (above - area * events)]) / (events * others)
    half = interval(math.sqrt(variance + noise**2 * float(slopes @ slopes)))
    return area, max(0.0, area - half), min(1.0, area + half)


def _in_units(column: np.ndarray, feature: Feature) -> np.ndarray:
    """float64 (n,): a number over [-1, 1] of `columns_of` in the units a model sees."""
    low, high = feature.scaled_range
    return np.asarray(low + (high - low) * (column[:, 0] + 1) / 2)


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
