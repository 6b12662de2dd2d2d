"""How well a score that is known predicts an outcome: discrimination, calibration, and what a threshold finds.

One round. Scores are counted in bins of equal width over a public range, apart for those with the outcome and those without. The
area under the ROC curve follows from the counts (Hanley and McNeil 1982, Radiology 143:29, ties half), the Brier score (1950) and
calibration in the large from two sums more.
"""

import math
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis, Folded, Result, State, Sums, Table, Total
from orchestrator.analyses.blocks import CELLS, EVERYBODY, MARGINS, PRODUCTS, Block, aside, places
from orchestrator.analyses.class_performance import ClassPerformance
from orchestrator.analyses.inputs import columns_of
from orchestrator.analyses.performance_figures import CONFUSION, Scale, notes
from orchestrator.analyses.performance_options import (
    LATER,
    ONE_OUTCOME,
    PerformanceOptions,
    objections_of_signals,
    of_classes,
)
from orchestrator.analyses.scored_model import NO_MODEL, ScoredModel, Scoring
from orchestrator.analyses.signals import SIGNALS
from orchestrator.wire.bounds import count, near
from orchestrator.wire.schema import Feature, Schema

INTERCEPT = "(intercept)"
BETWEEN = " = "
_OUTCOMES = ("without the outcome", "with the outcome")
EVEN = 0.5
"""The threshold of a model's score where none is named."""


def _bins_of_scores(
    options: PerformanceOptions, groups: Sequence[str], parts: np.ndarray, inputs: Tuple[str, ...]
) -> List[Block]:
    """A model is of the columns of its terms or `inputs`, whatever their weights."""
    terms = sorted({name.split(BETWEEN)[0] for name in options.coefficients if name != INTERCEPT})
    score = (options.score,) if options.score else tuple(terms) or inputs
    cells = parts[:, : 2 * options.bins].reshape(len(parts), 2, options.bins)
    found = []
    for both, level in zip(cells, groups):
        among = (options.by, level) if options.by else EVERYBODY
        for at, what in zip(both, _OUTCOMES):
            found.append(Block(f"scores {what} {level}", CELLS, at, score, among, ordered=True, what=ONE_OUTCOME))
        found.append(Block(f"scores {level}", MARGINS, both, score, among, ordered=True))
    if options.by:
        found.append(Block("scores of all groups", MARGINS, cells, score, ordered=True))
        for place, what in enumerate(_OUTCOMES):
            at = cells[:, place]
            found.append(Block(f"scores {what} of all groups", MARGINS, at, score, ordered=True, what=ONE_OUTCOME))
    return found


class Performance(Analysis):
    """The vector: for each group the bins of those without the outcome and of those with it and, of a probability p, p and
    (p - y)^2; in the last cell 1 where something is missing.
    """

    Options = PerformanceOptions
    later, of_signals = LATER, True

    @classmethod
    def over(cls, schema: Schema, options: PerformanceOptions) -> Analysis:
        """Of all classes at once where that is what they ask for."""
        return ClassPerformance(schema, options) if of_classes(schema, options) else cls(schema, options)

    def __init__(self, schema: Schema, options: PerformanceOptions) -> None:
        self._by_name = {feature.name: feature for feature in schema.features}
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The outcome has two values, the score is a number, groups are categories, and coefficients have columns."""
        options: PerformanceOptions = self.options
        yield from count("bins", options.bins, 2, 1000)
        yield from objections_of_signals(self.schema, options)
        of_table, known = self.schema.kind != SIGNALS, self._by_name
        if of_table or options.outcome in known:
            yield from self._of_categories("outcome", options.outcome, 0 if options.event else 2)
        categories = known[options.outcome].categories if options.outcome in known else ()
        if options.event and options.outcome in known and options.event not in categories:
            yield f"event: {options.outcome!r} has no category {options.event!r}{near(options.event, categories)}"
        yield from self._of_columns() if of_table else ()
        if self.scored is not None:
            yield from self.scored.objections()
            if self.options.model.outputs:
                yield "model.outputs: one `output` is judged here: leave them out"
        if not all(math.isfinite(each) for each in options.thresholds):
            yield "thresholds: expected finite numbers"

    def _of_columns(self) -> Iterator[str]:
        options: PerformanceOptions = self.options
        if options.by:
            yield from self._of_categories("by", options.by, 0)
        if [bool(options.score), bool(options.coefficients), self.scored is not None].count(True) != 1:
            yield "score: either the column with the score, or coefficients of a model, or a model's file"
        elif options.score:
            feature = self._by_name.get(options.score)
            if feature is None:
                yield f"score: no column {options.score!r} in the schema{near(options.score, self._by_name)}"
            elif feature.categories or feature.transform:
                yield f"score: {options.score!r}: expected a number without a transform"
        yield from self._of_coefficients()

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
    def scored(self) -> Optional[Scoring]:
        """Its options name one."""
        options: PerformanceOptions = self.options
        return None if options.model == NO_MODEL else Scoring(options.model, self.schema, options.outcome)

    @property
    def _range(self) -> Tuple[float, float]:
        return self._by_name[self.options.score].range if self.options.score else (0.0, 1.0)

    @property
    def _scale(self) -> Scale:
        return Scale(self.options.bins, *self._range)

    @property
    def _probable(self) -> bool:
        return self._scale.probable

    @property
    def _event(self) -> int:
        """Place of the category that is predicted."""
        event: str = self.options.event
        return self._by_name[self.options.outcome].categories.index(event) if event else 1

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
        score, used = self._scores(columns, x)
        outcome = columns[self.options.outcome]
        groups = columns[self.options.by] if self.options.by else np.ones((len(x), 1))
        used &= (outcome.sum(axis=1) > 0.5) & (groups.sum(axis=1) > 0.5)
        low, high = self._range
        share = np.clip((np.where(used, score, low) - low) / (high - low), 0.0, 1.0)
        bins = self.options.bins
        cell = np.minimum((share * bins).astype(np.int64), bins - 1)
        event = outcome[:, self._event]
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
        found = _bins_of_scores(self.options, self._groups, parts, self._inputs)
        if self._probable:
            for part, level in zip(parts, self._groups):
                found.append(Block(f"probabilities {level}", PRODUCTS, part[2 * self.options.bins :]))
        return [*found, aside("left out", parts.size)]

    @property
    def _inputs(self) -> Tuple[str, ...]:
        return self.scored.columns if self.scored is not None else ()

    def _scores(self, columns: Dict[str, np.ndarray], x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(the score of each record, which ones have it)."""
        options: PerformanceOptions = self.options
        if self.scored is not None:
            score = x[:, -1]
            return score, np.isfinite(score)
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
        scale = self._scale
        rows = [(name, *scale.figures(part, noise)) for name, part, noise in named]
        tables = [Table("performance", heads, rows, units)]
        if self._probable:
            calibration = [(name, *row) for name, part, noise in named for row in scale.bands(part, noise)]
            bands = (self.options.by or "group", "from", "to", units, "observed", "from (95 %)", "to (95 %)")
            tables.append(Table("calibration", bands, calibration))
        thresholds = self.options.thresholds or ((EVEN,) if self.scored is not None else ())
        if thresholds:
            first = (self.options.by or "group", "score from")
            found = [(name, *row) for name, part, noise in named for row in scale.shares(part, noise, thresholds)]
            tables.append(Table("thresholds", (*first, "sensitivity", "specificity", "PPV", "NPV"), found))
            found = [(name, *row) for name, part, noise in named for row in scale.confusion(part, noise, thresholds)]
            tables.append(Table("confusion", (*first, *CONFUSION), found))
        return Result(tables, list(notes(scale, float(state["total"][-1]), deviation, units)))

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is computed."""
        options: PerformanceOptions = self.options
        score = (
            f"the score {quoted(options.score)}"
            if options.score
            else f"a model of {len(options.coefficients)} coefficients"
        )
        groups = f", by {quoted(options.by)} ({len(self._groups)})" if options.by else ""
        event = f" = {quoted(options.event)}" if options.event else ""
        predicted = f"{quoted(options.outcome)}{event}"
        model: ScoredModel = options.model
        if self.scored is None:
            return [f"how well {score} predicts {predicted}: counts of scores in {options.bins} bins{groups}"]
        return [
            f"how well a model file predicts {predicted}: counts of scores in {options.bins} bins{groups}",
            self.scored.words(quoted),
            f"its output {model.output}, kept within 0 and 1, leaves this node only in sums: how many records have a score in "
            "which of these bins, and what scores and their squared errors add up to",
        ]


def _in_units(column: np.ndarray, feature: Feature) -> np.ndarray:
    """float64 (n,): a number over [-1, 1] of `columns_of` in the units a model sees."""
    low, high = feature.scaled_range
    return np.asarray(low + (high - low) * (column[:, 0] + 1) / 2)
