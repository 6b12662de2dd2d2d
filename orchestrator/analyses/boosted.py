"""Gradient boosted trees (Friedman 2001), grown level by level from sums: an analysis is one file with both its halves.

They are grown on histograms of public bins. In each round nodes add up, for each node of the growing level and each bin of
each column, gradients and second derivatives of the loss, and how many records there are; the gateway splits where the loss is
lowered most (Chen and Guestrin 2016, section 2.2). Bins come from ranges, and not from quantiles of any node's records: the
trees are those of all records together. Two classes with the logistic loss, or a number with the squared one.
"""

import math
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import Cell, Folded, Result, State, Sums, Table, Total, as_pairs, from_pairs
from orchestrator.analyses.blocks import CELLS, PRODUCTS, Block, aside, places, unused
from orchestrator.analyses.boosted_rows import read_trees, trees_table
from orchestrator.analyses.grown import Grown, OfTrees, Rows, number_of
from orchestrator.analyses.histograms import MOST_VALUE, Histograms, Rule
from orchestrator.analyses.rounding import around_mean
from orchestrator.analyses.scores import auc_of
from orchestrator.analyses.splits import Columns, apart, nothing_fitted
from orchestrator.wire.bounds import count, near, refuse, within
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema

BASE, GROW, SCORE = 0, 1, 2
"""Phases: the mean outcome, the trees, and scores of records that are held out."""

MOST_TREES = 500
MOST_DEPTH = 8

_SCORES = 200
"""Bins of probabilities of held-out records, of which a table has ten at a time."""
_TOGETHER = 20

_MOST_SCORE = 500.0
"""Of all trees together: what a gateway may announce beyond is cut."""


@dataclass(frozen=True)
class BoostedOptions:
    """Of kind "boosted". Without noise only."""

    outcome: str  # column that is explained: two categories, the second is the event, or a number [a column]
    inputs: Tuple[str, ...] = ()  # columns it is explained by; left out: all others [columns]
    trees: int = 30  # at most [1 to 500]
    depth: int = 3  # splits from the root to a leaf at most [1 to 8]
    bins: int = 32  # of equal width over the range of each number; trees split between them [2 to 256]
    shrinkage: float = 0.3  # share of its value that a tree adds [0.001 to 1]
    penalty: float = 1.0  # added to second derivatives: it draws leaves of few records to 0 [0 to 1000000]
    least: int = 10  # records on each side of a split [5 to 1000000]
    held_out: float = 0.25  # share of records that are kept apart to measure with; 0: none [0 to 0.5]
    seed: int = 1  # who is held out is drawn from it [0 to 9223372036854775807]

    def __post_init__(self) -> None:
        wrong = [*count("trees", self.trees, 1, MOST_TREES), *count("depth", self.depth, 1, MOST_DEPTH)]
        wrong += [*count("bins", self.bins, 2, 256), *count("least", self.least, 5, 1_000_000)]
        wrong += [*within("shrinkage", self.shrinkage, 1e-3, 1.0), *within("penalty", self.penalty, 0.0, 1e6)]
        wrong += [*within("held_out", self.held_out, 0.0, 0.5), *count("seed", self.seed, 0, (1 << 63) - 1)]
        refuse(wrong)


class _Model(NamedTuple):
    """What is announced. tree, level: those that grow. counts: records fitted on, held out, left out. gains: (inputs,). codes:
    (trees, inner nodes), see `Histograms`. values: (trees, nodes), of leaves.
    """

    phase: int
    tree: int
    level: int
    base: float
    counts: np.ndarray
    gains: np.ndarray
    codes: np.ndarray
    values: np.ndarray


class Boosted(OfTrees):
    """Both halves, in one class.

    The vector of a growing level: for each of its nodes and each cell gradient (of a number half of it), second derivative and
    1 where the record is. Of the first round 1, the outcome, and 1 where it is held out; of the last one, of a held-out record, 1
    at its probability by class and its squared error, or what a number's errors are made of. In the last cell 1 without outcome.
    """

    Options = BoostedOptions

    def __init__(self, schema: Schema, options: BoostedOptions) -> None:
        self._columns = Columns(schema, options.inputs, options.outcome)
        self._outcome: Optional[Feature] = self._columns.by_name.get(options.outcome)
        self._histograms = Histograms(schema, self._columns.features, options.bins)
        self._rule = Rule(options.shrinkage, options.penalty, options.least)
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The outcome is of a kind with a loss, and something explains it."""
        outcome = self._outcome
        if outcome is None:
            yield f"outcome: no column {self.options.outcome!r} in the schema{near(self.options.outcome, self._columns.by_name)}"
        elif len(outcome.categories) not in (0, 2):
            yield f"outcome: {outcome.name!r} has {len(outcome.categories)} categories; it is one of two, or a number"
        yield from self._columns.objections()

    def objection_to(self, noisy: bool) -> str:
        """Sums of so many rounds are small."""
        return "noise would leave nothing of boosted trees (a forest needs one release)" if noisy else ""

    @property
    def _two(self) -> bool:
        """Whether the outcome is one of two classes."""
        return self._outcome is not None and bool(self._outcome.categories)

    @property
    def _event(self) -> str:
        return self._outcome.categories[1] if self._outcome is not None else ""

    @property
    def rounds(self) -> int:
        """One for the mean outcome, one for each level of each tree, and one of scores."""
        return int(1 + self.options.trees * self.options.depth + (self.options.held_out > 0))

    @property
    def _grown(self) -> int:
        """Cells of a level."""
        return int(2 ** (self.options.depth - 1) * self._histograms.size * 3)

    @property
    def sums(self) -> Sums:
        """A record is in one cell of each of c columns. Of two classes g^2 + h^2 <= 1 with g = p - y, h = p (1 - p); of a number
        (g / 2)^2 <= 1 and h = 1. So it is 2 c or 3 c squared; in the first and the last round 4 at most.
        """
        each = 2.0 if self._two else 3.0
        return Sums(max(self._grown, 2 * _SCORES + 2) + 1, math.sqrt(max(4.0, each * len(self._columns.features))))

    @property
    def _inner(self) -> int:
        return int(2**self.options.depth - 1)

    def begin(self, seed: int) -> np.ndarray:
        """The first round needs no numbers."""
        trees, inner = self.options.trees, self._inner
        return self.announce(
            _Model(
                BASE,
                0,
                0,
                0.0,
                np.zeros(3),
                np.zeros(len(self._columns.features)),
                np.zeros((trees, inner), np.int64),
                np.zeros((trees, 2 * inner + 1)),
            )
        )

    def announce(self, model: _Model) -> np.ndarray:
        """What nodes are sent of it; `model_of` reads it."""
        head = [float(model.phase), float(model.tree), float(model.level), model.base]
        return as_pairs(np.concatenate([head, model.counts, model.gains, model.codes.ravel(), model.values.ravel()]))

    def model_of(self, asked: np.ndarray) -> _Model:
        """Within what there is, whatever was announced."""
        values, trees, inner, inputs = from_pairs(asked), self.options.trees, self._inner, len(self._columns.features)
        codes, leaves = np.split(values[7 + inputs :], [trees * inner])
        phase, tree, level = (
            int(np.clip(round(value), 0, most))
            for value, most in zip(values, (SCORE, trees - 1, self.options.depth - 1))
        )
        return _Model(
            phase,
            tree,
            level,
            float(np.clip(values[3], -MOST_VALUE, MOST_VALUE)),
            values[4:7],
            values[7 : 7 + inputs],
            np.clip(np.round(codes), 0, 2 * self._histograms.size).astype(np.int64).reshape(trees, inner),
            np.clip(leaves, -MOST_VALUE, MOST_VALUE).reshape(trees, 2 * inner + 1),
        )

    def question(self, asked: np.ndarray) -> np.ndarray:
        """Phase, growing tree and level, the mean, and the trees so far; zeros in the first round."""
        model = self.model_of(asked)
        found = np.concatenate(
            [[model.phase, model.tree, model.level, model.base], model.codes.ravel(), model.values.ravel()]
        )
        return found if model.phase else np.zeros_like(found)

    def scope(self, question: np.ndarray) -> np.ndarray:
        """Cells below two trees may differ by single records: all sums are of one set of nodes."""
        return np.zeros(0)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        phase, tree, level = (int(value) for value in question[:3])
        found = np.zeros((len(x), self.sums.size))
        outcome, used = self._read(x)
        held = apart(self._columns.read(x), self.options.held_out, self.options.seed)
        if phase == BASE:
            found[:, 0], found[:, 1], found[:, 2] = used & ~held, np.where(held, 0.0, outcome), used & held
        else:
            codes, values = np.split(question[4:], [self.options.trees * self._inner])
            trees = codes.astype(np.int64).reshape(-1, self._inner), values.reshape(-1, 2 * self._inner + 1)
            cells = self._histograms.cells(x)
            whole = tree if phase == GROW else self.options.trees
            at = self._histograms.nodes(trees[0][: whole + 1], cells, self.options.depth)
            score = np.full(len(x), question[3])
            for number in range(whole):
                score += trees[1][number, at[:, number]]
            score = np.clip(score, -_MOST_SCORE, _MOST_SCORE)
            if phase == GROW:
                self._grow(found, cells, at[:, tree] - (2**level - 1), 2**level, score, outcome, used & ~held)
            else:
                self._score(found, score, outcome, used & held)
        found[~used] = 0.0
        found[~used, -1] = 1.0
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Gradients show the outcome, too, where it has two classes."""
        phase, level, end, outcome = int(question[0]), int(question[2]), self.sums.size - 1, (self.options.outcome,)
        left_out = aside("left out", end)
        if phase == GROW:
            cells = places(0, 2**level, self._histograms.size, 3)
            found = [Block("gradients", PRODUCTS, cells[:, :, :2], outcome, split=outcome)]
            for column in self._histograms.columns:
                counts = cells[:, column.start : column.missing + 1, 2]
                found.append(Block(f"bins of {column.feature.name}", CELLS, counts, (column.feature.name,)))
            return [*found, *unused(cells.size, end), left_out]
        if phase == BASE:
            found = [Block("records", CELLS, places(0, 1)), Block("the outcome", PRODUCTS, places(1, 1), outcome)]
            return [*found, aside("held out", 2), *unused(3, end), left_out]
        if not self._two:
            found = [Block("held out", CELLS, places(0, 1)), Block("errors", PRODUCTS, places(1, 3), outcome)]
            return [*found, *unused(4, end), left_out]
        scores = places(0, 2, _SCORES)
        found = [
            Block("scores by class", CELLS, each, outcome, ordered=True, what=f"score {place}")
            for place, each in enumerate(scores)
        ]
        brier = Block("squared errors", PRODUCTS, places(scores.size, 1))
        return [*found, brier, *unused(scores.size + 1, end), left_out]

    def _read(self, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(outcome: 0 or 1, or a number over [-1, 1]; which records have one)."""
        values = self._columns.one(x, self.options.outcome)
        used = ~np.isnan(values)
        return np.where(used, values, 0.0), used

    def _grow(
        self,
        found: np.ndarray,
        cells: np.ndarray,
        node: np.ndarray,
        nodes: int,
        score: np.ndarray,
        outcome: np.ndarray,
        fitted: np.ndarray,
    ) -> None:
        """Writes the sums of those that are in a node of the level."""
        here = np.flatnonzero(fitted & (node >= 0) & (node < nodes))
        slope, curve = self._derivatives(score[here], outcome[here])
        start = ((node[here] * self._histograms.size)[:, np.newaxis] + cells[here]) * 3
        for place, value in enumerate((slope, curve, np.ones(len(here)))):
            found[here[:, np.newaxis], start + place] = value[:, np.newaxis]

    def _derivatives(self, score: np.ndarray, outcome: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(first, second) of the loss by the score; of a number half of the first."""
        if not self._two:
            return (np.clip(score, -1.0, 1.0) - outcome) / 2, np.ones(len(score))
        share = _logistic(score)
        return share - outcome, share * (1 - share)

    def _score(self, found: np.ndarray, score: np.ndarray, outcome: np.ndarray, held: np.ndarray) -> None:
        """Writes what held-out records are measured by."""
        rows = np.flatnonzero(held)
        if not self._two:
            guess = np.clip(score[rows], -1.0, 1.0)
            found[rows, :4] = np.stack(
                [np.ones(len(rows)), ((guess - outcome[rows]) / 2) ** 2, outcome[rows], outcome[rows] ** 2], axis=1
            )
            return
        share = _logistic(score[rows])
        cell = np.minimum((share * _SCORES).astype(np.int64), _SCORES - 1)
        found[rows, outcome[rows].astype(np.int64) * _SCORES + cell] = 1.0
        found[rows, 2 * _SCORES] = (share - outcome[rows]) ** 2

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The mean outcome; then the splits of a level; then the scores."""
        model = self.model_of(asked)
        figures: Dict[str, float] = {"trees": float(model.tree)}
        if model.phase == SCORE:
            state = {"model": asked.astype(np.float64), "scores": total.values[:-1]}
            return asked, Folded(state, figures, done=True)
        after = self._based(total.values) if model.phase == BASE else self._split_level(model, total.values)
        done = after.phase == SCORE and not self.options.held_out
        announced = self.announce(after)
        return announced, Folded({"model": announced.astype(np.float64)}, figures, done)

    def _based(self, values: np.ndarray) -> _Model:
        known, summed, held = (float(value) for value in values[:3])
        empty = self.model_of(self.begin(0))
        mean = summed / max(known, 1.0)
        if self._two:
            mean = min(max(mean, 1e-6), 1 - 1e-6)
            mean = math.log(mean / (1 - mean))
        return empty._replace(phase=GROW if known else SCORE, base=mean, counts=np.array([known, held, values[-1]]))

    def _split_level(self, model: _Model, values: np.ndarray) -> _Model:
        """The model with a level more, on to the next tree, or to scores where no further split is worth it."""
        codes, leaves, gains = model.codes.copy(), model.values.copy(), model.gains.copy()
        first = 2**model.level - 1
        sums = values[: self._grown].reshape(-1, self._histograms.size, 3) * np.array(
            [1.0 if self._two else 2.0, 1.0, 1.0]
        )
        found = False
        for node in range(2**model.level):
            split = self._histograms.best(sums[node], self._rule)
            if split is not None:
                at, found = first + node, True
                codes[model.tree, at] = split.code
                leaves[model.tree, 2 * at + 1], leaves[model.tree, 2 * at + 2] = split.values
                gains[split.column] += split.gain
        after = model._replace(codes=codes, values=leaves, gains=gains)
        if found and model.level + 1 < self.options.depth:
            return after._replace(level=model.level + 1)
        grown = model.tree + bool(found or model.level)
        if grown == model.tree or grown == self.options.trees:
            return after._replace(phase=SCORE, tree=min(grown, self.options.trees - 1), level=0)
        return after._replace(tree=grown, level=0)

    def result(self, state: State, units: str) -> Result:
        """Tables "fit", "importances", "held out" and "trees", which is the model itself."""
        model = self.model_of(state["model"].astype(np.float32))
        grown = int((model.codes[:, 0] > 0).sum())
        rows: List[Tuple[Cell, ...]] = [
            (f"{units} fitted on", round(float(model.counts[0])), None, None),
            (f"{units} left out", round(float(model.counts[2])), None, None),
            ("trees", grown, None, None),
        ]
        if self.options.held_out:
            rows.insert(1, (f"{units} held out", round(float(model.counts[1])), None, None))
        tables = [Table("fit", ("figure", "value", "from", "to"), rows)]
        if not model.counts[0]:
            return Result(tables, [nothing_fitted(units, float(model.counts[1]))])
        order = np.argsort(-model.gains, kind="stable")
        whole = max(float(model.gains.sum()), 1e-12)
        shares: List[Tuple[Cell, ...]] = [
            (self._columns.features[at].name, float(model.gains[at]) / whole) for at in order
        ]
        tables.append(Table("importances", ("column", "importance"), shares, "importance"))
        if "scores" in state and self._two:
            rows += self._measured(state["scores"])
            tables.append(self._held_out(state["scores"], units))
        elif "scores" in state:
            rows += self._errors(state["scores"])
        rows.append(("base (log-odds)" if self._two else "base", self._raw(model.base), None, None))
        return Result(
            [*tables, trees_table(model.codes[:grown], self._added(model.values), self._histograms)],
            list(self._notes(model, grown, units)),
        )

    def _measured(self, scores: np.ndarray) -> Iterator[Tuple[Cell, ...]]:
        counts = scores[: 2 * _SCORES].reshape(2, _SCORES)
        area = auc_of(counts, 0.0)
        yield (f"AUC of {self._event}", *((None,) * 3 if area is None else area))
        known = float(counts.sum())
        yield "Brier score", float(scores[2 * _SCORES]) / known if known else None, None, None

    def _errors(self, scores: np.ndarray) -> Iterator[Tuple[Cell, ...]]:
        """Of a number, in its units."""
        known, halves, first, second = (float(value) for value in scores[:4])
        if not known:
            return
        squared, low, high = 4 * halves, *self._range()
        yield "root mean squared error", (high - low) / 2 * math.sqrt(squared / known), None, None
        spread = float(around_mean(first, second, known))
        yield "R squared", 1 - squared / spread if spread > 0 else None, None, None

    def _range(self) -> Tuple[float, float]:
        assert self._outcome is not None
        return self._outcome.scaled_range

    def _raw(self, score: float) -> float:
        """A score in the units of the outcome; of two classes it is one of log-odds."""
        if self._two:
            return score
        low, high = self._range()
        return (high - low) / 2 * score + (high + low) / 2

    def _added(self, values: np.ndarray) -> np.ndarray:
        """What leaves add to a score, in the same units."""
        low, high = (-1.0, 1.0) if self._two else self._range()
        return (high - low) / 2 * values + 0.0

    def _held_out(self, scores: np.ndarray, units: str) -> Table:
        counts = scores[: 2 * _SCORES].reshape(2, -1, _TOGETHER).sum(axis=2)
        rows: List[Tuple[Cell, ...]] = []
        for place, (others, mine) in enumerate(counts.T):
            size = float(others + mine)
            share = float(mine) / size if size >= self.options.least else None
            ends = place * _TOGETHER / _SCORES, (place + 1) * _TOGETHER / _SCORES
            rows.append((*ends, round(size), round(float(mine)), share))
        return Table(
            "held out", ("predicted from", "to", units, f"of them {self._event}", "observed"), rows, "observed"
        )

    def grown(self, tables: Rows) -> Grown:
        """The model of a result's tables. ValueError for tables of another one."""
        assert self._outcome is not None
        figures = {str(row[0]): row[1] for row in tables["fit"]}
        trees = read_trees(tables["trees"], figures["trees"], self._histograms)
        classes = self._outcome.categories
        base = number_of(figures["base (log-odds)" if self._two else "base"], "table fit: base")
        return Grown(self._columns.features, self._outcome, trees, classes, mean=False, base=base)

    def _notes(self, model: _Model, grown: int, units: str) -> Iterator[str]:
        what = "the log-odds" if self._two else "the prediction"
        yield (
            f"{what} of a record: base, and what the leaf it is in adds, over all trees; the table trees is the model: node 1 is "
            "the root, and nodes 2 i and 2 i + 1 are below node i, on its left and on its right"
        )
        if self._outcome is not None and self._outcome.transform:
            yield f"predictions and errors of {self._outcome.name} are of natural logarithms"
        if grown < self.options.trees:
            yield f"after {many(grown, 'tree')} no split of {self.options.least} {units} on each side lowers the loss"
        if self.options.held_out and self._two:
            yield "the interval of the AUC is of 95 % (DeLong); probabilities within a bin of 0.005 count as equal"
        if self.options.held_out and (units == "patients" or self.schema.patient):
            yield "records are held out one by one: with several of a patient on both sides figures are too good"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """How many sums leave, and of what."""
        names = [quoted(feature.name) for feature in self._columns.features[:5]]
        more = f" and {len(self._columns.features) - 5} more" if len(self._columns.features) > 5 else ""
        return [
            f"boosted trees for {quoted(self.options.outcome)}: sums of gradients, second derivatives and records in "
            f"{self._histograms.size} bins of columns, for each of up to {2 ** (self.options.depth - 1)} groups of records",
            "the gateway chooses the groups, by splits of any of the columns: without noise small ones are people",
            f"explained by {', '.join(names)}{more}",
        ]


def _logistic(score: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-score)))
