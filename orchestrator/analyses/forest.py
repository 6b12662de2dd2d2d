"""A forest of trees drawn at random, whose leaves are counted in one round: an analysis is one file with both its halves.

Columns and splits of all trees are drawn from a public seed and public ranges, without a look at any outcome (the totally random
trees of Geurts, Ernst and Wehenkel 2006), so that nodes only count classes in leaves. A record is in one leaf of each tree. In a
second round records that a hash keeps apart are scored: how many of each class have which score.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import (
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
from orchestrator.analyses.blocks import CELLS, MARGINS, Block, aside, places, unused
from orchestrator.analyses.grown import Grown, Node, OfTrees, Rows, Split, nodes_of
from orchestrator.analyses.impurity import gain_of
from orchestrator.analyses.scores import auc_of
from orchestrator.analyses.splits import Columns, Drawn, apart, drawn, nothing_fitted
from orchestrator.wire.bounds import count, near, refuse, within
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema

MOST_TREES = 2000
MOST_DEPTH = 12


@dataclass(frozen=True)
class ForestOptions:
    """Of kind "forest"."""

    outcome: str  # column with categories: the classes [a column]
    inputs: Tuple[str, ...] = ()  # columns it is explained by; left out: all others [columns]
    trees: int = 100  # how many [1 to 2000]
    depth: int = 4  # splits from the root to each leaf [1 to 12]
    held_out: float = (
        0.25  # share of records that are kept apart to measure with, in a second round; 0: none [0 to 0.5]
    )
    bins: int = 20  # in which the scores of those are counted; with noise few are better [2 to 1000]
    least: int = 5  # records of a leaf below which it says no more than all records do [1 to 1000000]
    seed: int = 1  # trees, and who is held out, are drawn from it [0 to 9223372036854775807]

    def __post_init__(self) -> None:
        wrong = [*count("trees", self.trees, 1, MOST_TREES), *count("depth", self.depth, 1, MOST_DEPTH)]
        wrong += within("held_out", self.held_out, 0.0, 0.5)
        wrong += [*count("bins", self.bins, 2, 1000), *count("least", self.least, 1, 1_000_000)]
        refuse([*wrong, *count("seed", self.seed, 0, (1 << 63) - 1)])


class _Asked(NamedTuple):
    """What is announced. scores: 1 in the second round. low, high: between which scores are counted. counts: records fitted on,
    held out, left out. importance: (2, inputs). shares: (trees, leaves, scored classes).
    """

    scores: int
    low: float
    high: float
    counts: np.ndarray
    importance: np.ndarray
    shares: np.ndarray


class Forest(OfTrees):
    """Both halves, in one class.

    The vector of the first round: for each tree, leaf and class 1 where the record is; then 1 where it is held out, 1 where
    its class is missing. Of the second one, of a held-out record: for each scored class, and whether it is the record's, 1 at
    its score, written as often as fits into the length of the first.
    """

    Options = ForestOptions

    def __init__(self, schema: Schema, options: ForestOptions) -> None:
        self._columns = Columns(schema, options.inputs, options.outcome)
        self._outcome: Optional[Feature] = self._columns.by_name.get(options.outcome)
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The outcome has classes, and something explains it."""
        if self._outcome is None:
            yield f"outcome: no column {self.options.outcome!r} in the schema{near(self.options.outcome, self._columns.by_name)}"
        elif not self._outcome.categories:
            yield f"outcome: {self.options.outcome!r} is a number; classes are those of a column with categories"
        yield from self._columns.objections()
        if self._outcome is not None and self.options.held_out and self._scored * 2 * self.options.bins > self._cells:
            yield f"bins: {self.options.bins}, more than the leaves leave room for: use fewer, or more trees"

    @property
    def _classes(self) -> Tuple[str, ...]:
        return self._outcome.categories if self._outcome is not None else ()

    @property
    def _scored(self) -> int:
        """Classes with a score: of two the second."""
        return 1 if len(self._classes) == 2 else len(self._classes)

    @property
    def _leaves(self) -> int:
        return int(2**self.options.depth)

    @property
    def _cells(self) -> int:
        return int(self.options.trees) * self._leaves * len(self._classes)

    @cached_property
    def trees(self) -> Drawn:
        """Without their leaves, from the seed alone: the same at every node."""
        return drawn(self._columns.features, self.options.trees, self.options.depth, self.options.seed)

    @property
    def rounds(self) -> int:
        """One of leaves, and one of scores."""
        return 2 if self.options.held_out else 1

    @property
    def sums(self) -> Sums:
        """A record is in one leaf of each tree; scores are written so often that they are no longer."""
        return Sums(self._cells + 2, math.sqrt(max(self.options.trees, self._copies * self._scored)))

    @property
    def _copies(self) -> int:
        """Of the counts of scores: their mean has less noise."""
        if not self.options.held_out:
            return 0
        room = self._cells // (self._scored * 2 * self.options.bins)
        return max(1, min(self.options.trees // self._scored, room))

    def begin(self, seed: int) -> np.ndarray:
        """The first round needs no numbers."""
        return as_pairs(
            np.zeros(6 + 2 * len(self._columns.features) + self.options.trees * self._leaves * self._scored)
        )

    def question(self, asked: np.ndarray) -> np.ndarray:
        """1, the ends of the scores, and the shares of all leaves; zeros in the first round."""
        announced, size = self._announced(asked), self.options.trees * self._leaves * self._scored
        if not announced.scores:
            return np.zeros(3 + size)
        return np.concatenate([[1.0, announced.low, announced.high], announced.shares.ravel()])

    def scope(self, question: np.ndarray) -> np.ndarray:
        """Leaves of two forests may differ by single records: all sums are of one set of nodes."""
        return np.zeros(0)

    def _announced(self, asked: np.ndarray) -> _Asked:
        """Within what there is, whatever was announced."""
        values, inputs = from_pairs(asked), 2 * len(self._columns.features)
        low = float(np.clip(values[1], 0.0, 1.0 - 1e-6))
        shares = np.clip(values[6 + inputs :], 0.0, 1.0).reshape(self.options.trees, self._leaves, self._scored)
        return _Asked(
            int(self.rounds > 1 and values[0] >= 0.5),
            low,
            float(np.clip(values[2], low + 1e-6, 1.0)),
            values[3:6],
            values[6 : 6 + inputs].reshape(2, -1),
            shares,
        )

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        values, level = self._columns.read(x), self._level(x)
        categories = np.array([bool(feature.categories) for feature in self._columns.features])
        leaf = self.trees.leaves(values, categories)
        held = apart(values, self.options.held_out, self.options.seed) & (level >= 0)
        found = np.zeros((len(x), self.sums.size))
        if question[0]:
            self._score(found, question, leaf, np.where(held, level, -1))
            return found
        fitted = np.flatnonzero(~held & (level >= 0))
        cell = (np.arange(self.options.trees) * self._leaves + leaf[fitted]) * len(self._classes)
        found[fitted[:, np.newaxis], cell + level[fitted][:, np.newaxis]] = 1.0
        found[held, -2] = 1.0
        found[level < 0, -1] = 1.0
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Leaves and classes of each tree, and above them those of its nodes; then the scores by class, of each copy."""
        size, outcome = self.sums.size, self.options.outcome
        if question[0]:
            scores = places(0, self._copies, self._scored * 2, self.options.bins)
            found = [Block("scores", CELLS, each, ordered=True) for each in scores[1:].reshape(-1, self.options.bins)]
            found += [
                Block("scores", CELLS, each, (outcome,), ordered=True, what=f"score {place}")
                for place, each in enumerate(scores[0])
            ]
            return [*found, *unused(scores.size, size)]
        leaves = places(0, int(self.options.trees), self._leaves * len(self._classes))
        found = [aside("held out, no class", size - 2, size - 1)]
        for each in leaves:
            found.append(Block("leaves of a tree", CELLS, each, (outcome,)))
            for level in range(1, int(self.options.depth)):
                below = each.reshape(2**level, -1, len(self._classes)).swapaxes(0, 1)
                found.append(Block("nodes of a tree", MARGINS, below.reshape(below.shape[0], -1), (outcome,)))
        return found

    def _level(self, x: np.ndarray) -> np.ndarray:
        """int64 (n,): the number of each record's class, -1 where it is missing."""
        classes = self._columns.one(x, self.options.outcome)
        return np.where(np.isnan(classes), -1, classes).astype(np.int64)

    def _score(self, found: np.ndarray, question: np.ndarray, leaf: np.ndarray, level: np.ndarray) -> None:
        """Writes where held-out records are; level: -1 for others."""
        shares = question[3:].reshape(self.options.trees, self._leaves, self._scored)
        held, bins = np.flatnonzero(level >= 0), self.options.bins
        score = shares[np.arange(self.options.trees), leaf[held]].mean(axis=1)
        at = np.floor((score - question[1]) / (question[2] - question[1]) * bins).clip(0, bins - 1).astype(np.int64)
        wanted = np.arange(self._scored) if self._scored > 1 else np.array([1])
        mine = (level[held][:, np.newaxis] == wanted).astype(np.int64)
        cell = (np.arange(self._scored) * 2 + mine) * bins + at
        for copy in range(self._copies):
            found[held[:, np.newaxis], cell + copy * self._scored * 2 * bins] = 1.0

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The shares of classes in leaves; then the counts of scores."""
        announced = self._announced(asked)
        state = {"deviation": np.array([total.deviation])}
        if not announced.scores:
            announced = self._fitted(total)
        else:
            size = self._copies * self._scored * 2 * self.options.bins
            copies = total.values[:size].reshape(self._copies, self._scored, 2, self.options.bins)
            state["scores"] = copies.mean(axis=0).ravel()
        written = np.concatenate(
            [
                [float(announced.scores), announced.low, announced.high],
                announced.counts,
                announced.importance.ravel(),
                announced.shares.ravel(),
            ]
        )
        state["fitted"] = written
        done = self.rounds == 1 or "scores" in state
        written = np.append(1.0, written[1:])
        return as_pairs(written), Folded(state, {"records": float(announced.counts[0])}, done)

    def _fitted(self, total: Total) -> _Asked:
        shape = self.options.trees, self._leaves, len(self._classes)
        counts = total.values[:-2].reshape(shape)
        whole = counts.sum(axis=(0, 1)) / self.options.trees
        prior = np.maximum(whole, 0.0) / max(float(np.maximum(whole, 0.0).sum()), 1e-9)
        size = np.maximum(counts, 0.0).sum(axis=2)
        # As many records of the prior as keep what is next to nothing from being sure, and noise from being believed.
        extra = 1.0 + total.deviation
        shares = (np.maximum(counts, 0.0) + extra * prior) / (size + extra)[:, :, np.newaxis]
        few = counts.sum(axis=2) < self.options.least
        shares = np.where(few[:, :, np.newaxis], prior, shares)
        scored = shares[:, :, 1:] if self._scored == 1 else shares
        low, high = self._ends(counts, scored)
        numbers = np.array([float(whole.sum()), *total.values[-2:]])
        return _Asked(0, low, high, numbers, self._importance(counts, total.deviation), scored)

    def _ends(self, counts: np.ndarray, scored: np.ndarray) -> Tuple[float, float]:
        """Between which scores are counted: as far beyond the means of the classes as those are apart."""
        means = []
        for place in range(self._scored):
            of_class = place if self._scored > 1 else 1
            mine, others = counts[:, :, of_class], counts.sum(axis=2) - counts[:, :, of_class]
            for weights in (mine, others):
                means.append(float((weights * scored[:, :, place]).sum() / max(float(weights.sum()), 1e-9)))
        apart_by = max(means) - min(means)
        low, high = min(means) - apart_by, max(means) + apart_by
        low, high = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
        return (low, high) if high - low > 1e-3 else (0.0, 1.0)

    def _importance(self, counts: np.ndarray, deviation: float) -> np.ndarray:
        """float64 (2, inputs): by how much the splits of a column lower the Gini impurity (Breiman et al. 1984), over all trees,
        as shares of the whole, and the standard deviation that noise leaves of each; zeros where it hides the whole.
        """
        found, level, leaves = np.zeros((2, len(self._columns.features))), counts, 1
        for depth in reversed(range(self.options.depth)):
            columns = self.trees.column[:, 2**depth - 1 : 2 ** (depth + 1) - 1].ravel()
            for place, each in enumerate(gain_of(level[:, 0::2], level[:, 1::2], leaves, deviation)):
                found[place] += np.bincount(columns, each.ravel(), found.shape[1])
            level, leaves = level[:, 0::2] + level[:, 1::2], 2 * leaves
        whole, spread = float(found[0].sum()), math.sqrt(float(found[1].sum()))
        if whole <= max(interval(spread), 1e-9):
            return np.zeros_like(found)
        return np.stack([found[0], np.sqrt(found[1])]) / whole

    def result(self, state: State, units: str) -> Result:
        """Tables "fit", "importances", "held out" of each scored class, and "trees", which is the forest itself."""
        deviation, announced = float(state["deviation"][0]), self._announced(as_pairs(state["fitted"]))
        rows = self._sizes(announced, deviation, units)
        if not deviation and not announced.counts[0]:
            only = Table("fit", ("figure", "value", "from", "to"), rows)
            return Result([only], [nothing_fitted(units, float(announced.counts[1]))])
        tables: List[Table] = []
        classes = self._classes[1:] if self._scored == 1 else self._classes
        if "scores" in state:
            spread = deviation / math.sqrt(self._copies)
            counts = state["scores"].reshape(self._scored, 2, self.options.bins)
            for name, pair in zip(classes, counts):
                found = auc_of(pair, spread)
                rows.append((f"AUC of {name}", *((None,) * 3 if found is None else found)))
                tables.append(self._held_out(name, pair, announced, spread, units))
        first = Table("fit", ("figure", "value", "from", "to"), rows)
        importances = self._importances(announced.importance, deviation)
        return Result(
            [first, importances, *tables, self._table(announced.shares, classes)],
            list(self._notes(state, announced, units)),
        )

    def _sizes(self, announced: _Asked, deviation: float, units: str) -> List[Tuple[Cell, ...]]:
        """How many records there are of each sort; with noise each with an interval."""
        of_trees = math.sqrt(self._leaves * len(self._classes) / self.options.trees)
        named = [("fitted on", of_trees), ("held out", 1.0), ("left out", 1.0)]
        rows: List[Tuple[Cell, ...]] = []
        for (name, times), value in zip(named, map(float, announced.counts)):
            half = interval(deviation * times)
            ends: Tuple[Cell, Cell] = (value - half, value + half) if deviation else (None, None)
            if name != "held out" or self.options.held_out:
                rows.append((f"{units} {name}", _plain(value), *ends))
        return rows

    def _importances(self, importance: np.ndarray, deviation: float) -> Table:
        """Largest first."""
        rows: List[Tuple[Cell, ...]] = []
        for at in np.argsort(-importance[0], kind="stable"):
            figures: Tuple[Cell, ...] = (None, None)
            if importance[:, at].any():
                figures = float(importance[0, at]), interval(float(importance[1, at]))
            rows.append((self._columns.features[at].name, *figures)[: 3 if deviation else 2])
        return Table("importances", ("column", "importance", "±")[: 3 if deviation else 2], rows, "importance")

    def _held_out(self, name: str, counts: np.ndarray, announced: _Asked, spread: float, units: str) -> Table:
        edges = np.linspace(announced.low, announced.high, self.options.bins + 1)
        rows: List[Tuple[Cell, ...]] = []
        for place in range(self.options.bins):
            mine, size = float(counts[1, place]), float(counts[:, place].sum())
            enough = size >= max(self.options.least, 2 * interval(math.sqrt(2) * spread))
            share = min(max(mine / size, 0.0), 1.0) if enough else None
            rows.append((float(edges[place]), float(edges[place + 1]), _plain(size), _plain(mine), share))
        heads = ("score from", "to", units, f"of them {name}", "share")
        return Table(f"held out {name}", heads, rows, "share")

    def _table(self, shares: np.ndarray, classes: Tuple[str, ...]) -> Table:
        """A row for each node: 1 is the root, 2 i and 2 i + 1 are below i, on the left and on the right."""
        trees, rows, inner = self.trees, [], self._leaves - 1
        for tree in range(self.options.trees):
            for node in range(inner):
                rows.append((tree + 1, node + 1, *self._split(trees, (tree, node)), *(None,) * len(classes)))
            for leaf in range(self._leaves):
                rows.append((tree + 1, inner + leaf + 1, *(None,) * 4, *map(float, shares[tree, leaf])))
        cells: List[Tuple[Cell, ...]] = list(rows)
        heads = (
            "tree",
            "node",
            "column",
            "right if above",
            "right if",
            "missing",
            *(f"share {name}" for name in classes),
        )
        return Table("trees", heads, cells)

    def _split(self, trees: Drawn, at: Tuple[int, int]) -> Tuple[Cell, ...]:
        feature = self._columns.features[int(trees.column[at])]
        side = "right" if trees.missing[at] else "left"
        if feature.categories:
            levels = [level for level, right in zip(feature.categories, trees.right[at]) if right]
            return feature.name, None, ", ".join(levels), side
        low, high = feature.scaled_range
        cut = low + (high - low) * (1 + float(trees.threshold[at])) / 2
        return feature.name, math.exp(cut) if feature.transform else cut, None, side

    def grown(self, tables: Rows) -> Grown:
        """The forest of a result's tables: splits are drawn again from the seed. ValueError for tables of another one."""
        assert self._outcome is not None
        drawn_again, features, trees = self.trees, self._columns.features, []
        for tree, rows in enumerate(nodes_of(tables["trees"], int(self.options.trees), self._scored)):
            found: Dict[int, Node] = {}
            for number, (cells, values) in rows.items():
                if cells[0] is None:
                    found[number] = values
                    continue
                at = tree, number - 1
                if number > self._leaves - 1 or cells != self._split(drawn_again, at):
                    raise ValueError(f"table trees: tree {tree + 1} was drawn otherwise at node {number}")
                feature = features[int(drawn_again.column[at])]
                levels = tuple(np.flatnonzero(drawn_again.right[at][: len(feature.categories)]).tolist())
                split = Split(int(drawn_again.column[at]), bool(drawn_again.missing[at]), levels)
                if not feature.categories:
                    split = split._replace(levels=None, cut=float(drawn_again.threshold[at]), scaled=True)
                    split = split._replace(low=feature.scaled_range[0], high=feature.scaled_range[1])
                found[number] = split
            trees.append(found)
        return Grown(features, self._outcome, trees, self._classes, mean=True)

    def _notes(self, state: State, announced: _Asked, units: str) -> Iterator[str]:
        deviation = float(state["deviation"][0])
        yield (
            "the score of a record is the mean of the shares in the leaves it is in; the table trees is the forest: node 1 is "
            "the root, and nodes 2 i and 2 i + 1 are below node i, on its left and on its right"
        )
        yield (
            f"leaves with fewer than {self.options.least} {units} have the share that all {units} have, and every score is drawn "
            "towards it: scores rank, and are no probabilities. What one means is in the tables of those held out"
        )
        if "scores" in state:
            yield (
                "the interval of an AUC is of 95 % (DeLong); scores in one bin count as equal, and the first and last bins hold "
                "what is beyond them"
            )
            if units == "patients" or self.schema.patient:
                yield "records are held out one by one: with several of a patient on both sides the AUC is too good"
        if deviation:
            yield (
                f"every count of a leaf carries noise: with 95 % it is within {interval(deviation):.3g} of what would be there "
                "without"
            )
            if not announced.importance.any():
                yield "noise hides which columns matter: with more records, fewer leaves or a larger epsilon it would not"
            if "scores" in state:
                each = interval(deviation / math.sqrt(self._copies))
                yield f"counts of scores are within {each:.3g}; the interval of an AUC counts that"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """How many counts leave, and of what."""
        names = [quoted(feature.name) for feature in self._columns.features[:5]]
        more = f" and {len(self._columns.features) - 5} more" if len(self._columns.features) > 5 else ""
        held = f"; then scores of the {self.options.held_out:.0%} held out" if self.options.held_out else ""
        return [
            f"forest of {many(self.options.trees, 'tree')} drawn from a seed: how many records of each class of "
            f"{quoted(self.options.outcome)} are in each of {self._leaves} leaves of a tree{held}",
            f"explained by {', '.join(names)}{more}",
        ]


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
