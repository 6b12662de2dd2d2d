"""A shared coder for the search of similar patients (Lee et al. 2018, JMIR Med Inform 6(2):e20), learned from sums.

The first round sums counts, terms by class, and products of terms. From these come class means and pooled covariance, and from
them projections: each is a direction drawn from a public seed in the space where records of a class are spread evenly, drawn
towards where classes differ (Fisher's discriminant). The second round counts the projections on a public grid; a bit's threshold
is the edge of the grid nearest to a quantile that is drawn for it. Lee et al. learn their codes by an alternating minimization
over the sites; this is simpler, and takes two sums.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, NamedTuple, Tuple

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
    as_pairs,
    from_pairs,
    interval,
)
from orchestrator.analyses.blocks import CELLS, MISSING, PRODUCTS, SUMS, Block, aside, places, unused
from orchestrator.analyses.codes import LEAST_BITS, MOST_BITS, Coder, Terms
from orchestrator.analyses.inputs import columns_of
from orchestrator.analyses.splits import evenly
from orchestrator.wire.bounds import count, near, refuse, within
from orchestrator.wire.schema import Feature, Schema

REACH = 4.0
"""Standard deviations on either side of the mean over which projections are counted."""

LEVELS = 0.1, 0.9
"""Between which the quantiles of thresholds are drawn: a bit that nearly all records share says next to nothing."""

_MOST = 1e6
"""Of an announced weight."""


@dataclass(frozen=True)
class HashingOptions:
    """Of kind "hashing"."""

    outcome: str  # column with categories: the classes that similar patients should share [a column]
    inputs: Tuple[str, ...] = ()  # columns a code is made of; left out: all others [columns]
    bits: int = 64  # of a code [8 to 256]
    pull: float = 1.0  # how far projections are drawn towards where classes differ; 0: not at all [0 to 100]
    ridge: float = 0.05  # added to the variances within classes, as a share of their mean [0.000001 to 10]
    bins: int = 64  # in which each projection is counted; with noise few are better [8 to 1000]
    seed: int = 1  # directions and quantiles are drawn from it [0 to 9223372036854775807]

    def __post_init__(self) -> None:
        wrong = [*count("bits", self.bits, LEAST_BITS, MOST_BITS), *count("bins", self.bins, 8, 1000)]
        wrong += [*within("pull", self.pull, 0.0, 100.0), *within("ridge", self.ridge, 1e-6, 10.0)]
        refuse([*wrong, *count("seed", self.seed, 0, (1 << 63) - 1)])


class _Asked(NamedTuple):
    """What is announced. counting: whether it is the second round. weights: float64 (bits, terms). middle: float64 (bits,), from
    where the grid reaches to both sides.
    """

    counting: bool
    weights: np.ndarray
    middle: np.ndarray


class Hashing(Analysis):
    """The vector of the first round: for each class 1 and the terms of a record in it; the upper triangle of the products of the
    terms. Of the second one: for each bit 1 in the bin where its projection is. In the last cell 1 for a record of no class.
    """

    Options = HashingOptions
    probing = True  # weights on either side of one person's numbers

    def __init__(self, schema: Schema, options: HashingOptions) -> None:
        self.terms = Terms(schema, options.inputs, options.outcome)
        by_name = {feature.name: feature for feature in schema.features}
        self._names, self._outcome = tuple(by_name), by_name.get(options.outcome)
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The outcome has classes, and something makes a code."""
        name = self.options.outcome
        if self._outcome is None:
            yield f"outcome: no column {name!r} in the schema{near(name, self._names)}"
        elif not self._outcome.categories:
            yield f"outcome: {name!r} is a number; classes are those of a column with categories"
        yield from self.terms.objections()

    @property
    def _classes(self) -> Tuple[str, ...]:
        return self._outcome.categories if self._outcome is not None else ()

    @property
    def _shape(self) -> Tuple[int, int]:
        """(bits, terms)."""
        return int(self.options.bits), self.terms.size

    @property
    def _products(self) -> int:
        """The place of the first one."""
        return len(self._classes) * (1 + self.terms.size)

    @property
    def rounds(self) -> int:
        """Means and products; then where projections are."""
        return 2

    @property
    def sums(self) -> Sums:
        """With d columns the terms are at most the root of d long, and their products that of (d^2 + d) / 2; a record is in one
        bin of each projection.
        """
        bits, terms = self._shape
        columns = len(self.terms.features)
        first, second = self._products + (terms**2 + terms) // 2, bits * self.options.bins
        return Sums(max(first, second) + 1, math.sqrt(max(1 + columns + (columns**2 + columns) / 2, bits)))

    def begin(self, seed: int) -> np.ndarray:
        """The first round needs no numbers."""
        bits, terms = self._shape
        return as_pairs(np.zeros(1 + bits * (1 + terms)))

    def _announced(self, asked: np.ndarray) -> _Asked:
        """Within what there is, whatever was announced."""
        bits, _ = self._shape
        values = from_pairs(asked)
        numbers = np.clip(values[1:], -_MOST, _MOST)
        return _Asked(bool(values[0] >= 0.5), numbers[bits:].reshape(self._shape), numbers[:bits])

    def question(self, asked: np.ndarray) -> np.ndarray:
        """1, middles and weights; zeros in the first round."""
        announced = self._announced(asked)
        if not announced.counting:
            return np.zeros(asked.size // 2)
        return np.concatenate([[1.0], announced.middle, announced.weights.ravel()])

    def scope(self, question: np.ndarray) -> np.ndarray:
        """Projections of two announcements may differ by single records: all sums are of one set of nodes."""
        return np.zeros(0)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        terms, outcome = self.terms.read(x), columns_of(x, self.schema)[self.options.outcome]
        used = outcome.sum(axis=1) > 0.5
        found = np.zeros((len(x), self.sums.size))
        if question[0]:
            self._count(found, question, terms)
        else:
            each = np.concatenate([np.ones((len(x), 1)), terms], axis=1)
            by_class = outcome[:, :, np.newaxis] * each[:, np.newaxis, :]
            found[:, : self._products] = by_class.reshape(len(x), -1)
            upper = np.triu_indices(self.terms.size)
            found[:, self._products : self._products + len(upper[0])] = terms[:, upper[0]] * terms[:, upper[1]]
        found[~used] = 0.0
        found[~used, -1] = 1.0
        return found

    def _count(self, found: np.ndarray, question: np.ndarray, terms: np.ndarray) -> None:
        bits, bins = self._shape[0], int(self.options.bins)
        middle, weights = question[1 : 1 + bits], question[1 + bits :].reshape(self._shape)
        share = (terms @ weights.T - middle + REACH) / (2 * REACH)
        cell = np.clip(np.floor(share * bins), 0, bins - 1).astype(np.int64) + np.arange(bits) * bins
        found[np.arange(len(terms))[:, np.newaxis], cell] = 1.0

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Classes, what they have of each column, and products; then bins of what a gateway chose to look at."""
        size, outcome = self.sums.size, self.options.outcome
        bits, bins = self._shape[0], int(self.options.bins)
        named = tuple(feature.name for feature in self.terms.features)
        left_out = aside("no class", size - 1)
        if question[0]:
            found = [Block("projections", CELLS, each, ordered=True) for each in places(0, bits, bins)]
            return [*found, *unused(bits * bins, size - 1), left_out]
        parts = places(0, len(self._classes), 1 + self.terms.size)
        found = [Block(f"classes of {outcome}", CELLS, parts[:, 0], (outcome,), summed=True), left_out]
        for feature, start in self._starts():
            both, name, end = (outcome, feature.name), feature.name, start + len(feature.categories)
            if feature.categories:
                found.append(Block(f"levels of {name} by {outcome}", CELLS, parts[:, start:end], both))
            else:
                found.append(Block(f"sums of {name} by {outcome}", SUMS, parts[:, start], both))
                found.append(Block(f"missing {name} by {outcome}", CELLS, parts[:, start + 1], both, what=MISSING))
        triangle = (self.terms.size**2 + self.terms.size) // 2
        products = places(self._products, triangle)
        found.append(Block("products", PRODUCTS, products, named, parameters=self.terms.size, split=named))
        return [*found, *unused(self._products + triangle, size - 1)]

    def _starts(self) -> Iterator[Tuple[Feature, int]]:
        """(column, the place of its first term among a class's values)."""
        start = 1
        for feature in self.terms.features:
            yield feature, start
            start += len(feature.categories) or 2

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """Projections from means and covariance; then thresholds from counts."""
        announced = self._announced(asked)
        deviation = np.array([total.deviation])
        if announced.counting:
            state = {"counts": total.values[: self._shape[0] * self.options.bins], "deviation": deviation}
            state["announced"] = np.concatenate([announced.middle, announced.weights.ravel()])
            return asked, Folded(state, {}, done=True)
        by_class = total.values[: self._products].reshape(len(self._classes), -1)
        weights, middle = self._projections(by_class, total)
        state = {"classes": by_class[:, 0], "left_out": total.values[-1:], "first_deviation": deviation}
        return as_pairs(np.concatenate([[1.0], middle, weights.ravel()])), Folded(
            state, {"records": float(by_class[:, 0].sum())}
        )

    def _projections(self, by_class: np.ndarray, total: Total) -> Tuple[np.ndarray, np.ndarray]:
        """(weights, middles): of mean 0 and standard deviation 1 over all records."""
        terms, triangle = self.terms.size, (self.terms.size**2 + self.terms.size) // 2
        counts = np.maximum(by_class[:, 0], 0.0)
        known, size = counts > max(1.0, interval(total.deviation)), max(float(counts.sum()), 1.0)
        mean = by_class[:, 1:].sum(axis=0) / size
        means = np.where(known[:, np.newaxis], by_class[:, 1:] / np.where(known, counts, 1.0)[:, np.newaxis], mean)
        apart = np.clip(means, -1.0, 1.0) - mean
        second = np.zeros((terms, terms))
        second[np.triu_indices(terms)] = total.values[self._products : self._products + triangle] / size
        second = second + np.triu(second, 1).T - np.outer(mean, mean)
        between = (apart * (np.where(known, counts, 0.0) / size)[:, np.newaxis]).T @ apart
        whole = _positive(second, 2 * total.deviation * math.sqrt(terms) / size)
        spread = _positive(second - between, 2 * total.deviation * math.sqrt(terms) / size)
        spread = spread + self.options.ridge * max(float(np.trace(spread)) / terms, 1e-9) * np.eye(terms)
        values, vectors = np.linalg.eigh(spread)
        even = (vectors / np.sqrt(values)) @ vectors.T
        drawn = _unit(_normal(f"hashing {self.options.seed}", self._shape) @ even, whole)
        # Of two classes this is Fisher's direction; of more each bit has one class's.
        towards = np.linalg.solve(spread, apart.T).T[np.arange(len(drawn)) % len(apart)]
        weights = _unit(drawn + self.options.pull * _unit(towards, whole), whole)
        return weights, weights @ mean

    def coder(self, state: State) -> Coder:
        """What the sums come to."""
        bits, bins = self._shape[0], int(self.options.bins)
        middle, weights = state["announced"][:bits], state["announced"][bits:].reshape(self._shape)
        counts = state["counts"].reshape(bits, bins)
        upto = np.cumsum(counts, axis=1)[:, :-1] / np.maximum(counts.sum(axis=1), 1.0)[:, np.newaxis]
        edge = np.abs(upto - self._levels()[:, np.newaxis]).argmin(axis=1) + 1
        thresholds = middle - REACH + 2 * REACH * edge / bins
        return Coder(self.schema, self.options.outcome, tuple(self.options.inputs), weights, thresholds)

    def _levels(self) -> np.ndarray:
        """float64 (bits,): the quantile of each threshold, evenly between LEVELS in an order that is drawn."""
        bits, (low, high) = self._shape[0], LEVELS
        order = np.argsort(evenly(f"hashing levels {self.options.seed}", bits), kind="stable")
        return np.asarray(low + (high - low) * (order + 0.5) / bits)

    def result(self, state: State, units: str) -> Result:
        """Tables "classes", "bits" and "coder", which is the coder itself."""
        sizes: List[Tuple[Cell, ...]] = [(name, _plain(size)) for name, size in zip(self._classes, state["classes"])]
        classes = Table("classes", (self.options.outcome, units), sizes, units)
        if "counts" not in state:
            return Result([classes], ["projections were not counted, so that there is no coder"])
        coder, bins = self.coder(state), int(self.options.bins)
        counts = state["counts"].reshape(coder.bits, bins)
        edge = np.rint((coder.thresholds - state["announced"][: coder.bits] + REACH) * bins / (2 * REACH)).astype(int)
        shares: List[Tuple[Cell, ...]] = []
        for bit, (row, at) in enumerate(zip(counts, edge)):
            shares.append((bit + 1, float(np.clip(row[at:].sum() / max(float(row.sum()), 1.0), 0.0, 1.0))))
        rows: List[Tuple[Cell, ...]] = []
        for bit in range(coder.bits):
            rows.append((bit + 1, float(coder.thresholds[bit]), *map(float, coder.weights[bit])))
        tables = [
            classes,
            Table("bits", ("bit", "share of 1"), shares, "share of 1"),
            Table("coder", ("bit", "threshold", *self.terms.names()), rows),
        ]
        return Result(tables, list(self._notes(state, coder, units)))

    def _notes(self, state: State, coder: Coder, units: str) -> Iterator[str]:
        yield f"digest of the coder: {coder.digest}"
        yield (
            "a bit is 1 where the weights times the terms of a record are above its threshold; numbers are over -1 to 1 of their "
            "ranges, levels and what is missing 0 or 1. `edgeward similar coder` makes a file of it, to search patients by"
        )
        deviation = float(state["first_deviation"][0])
        left_out = float(state["left_out"][0])
        if left_out > interval(deviation):
            yield f"{left_out:.6g} {units} of no class were left out"
        if deviation:
            yield (
                f"every count of a class carries noise: with 95 % it is within {interval(deviation):.3g} of what would be there "
                f"without, and the counts of a bin within {interval(float(state['deviation'][0])):.3g}: shares of 1 are as rough"
            )

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is computed, and of what."""
        names = [quoted(feature.name) for feature in self.terms.features[:5]]
        more = f" and {len(self.terms.features) - 5} more" if len(self.terms.features) > 5 else ""
        return [
            f"a coder of {self.options.bits} bits for the search of similar patients: sums by {quoted(self.options.outcome)} and "
            f"products of columns; then how many records are in each of {self.options.bins} bins of each of "
            f"{self.options.bits} projections",
            f"codes are made of {', '.join(names)}{more}",
        ]


def _positive(matrix: np.ndarray, least: float) -> np.ndarray:
    """Without what noise, or rounding, leaves of a direction in which nothing varies."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, max(least, 0.0))) @ vectors.T)


def _unit(rows: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Each row over the standard deviation of what it projects on; zeros where that has none."""
    spread = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", rows, covariance, rows), 0.0))
    return np.asarray(rows / np.where(spread > 1e-9, spread, np.inf)[:, np.newaxis])


def _normal(words: str, shape: Tuple[int, int]) -> np.ndarray:
    """float64 `shape`, standard normal (Box and Muller 1958), drawn from the words."""
    size = shape[0] * shape[1]
    even = evenly(words, 2 * size)
    radius = np.sqrt(-2 * np.log1p(-even[:size]))
    return np.asarray(radius * np.cos(2 * np.pi * even[size:])).reshape(shape)


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
