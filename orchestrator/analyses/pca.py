"""Correlations and principal components (Pearson 1901) of all numbers, from one round of sums of their products.

Numbers are mapped to [-1, 1] over their ranges; components are of the correlation matrix, so that no column counts for more
because its range is tight. Records that lack a number are left out, and counted.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, Tuple

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
    in_unit_range,
    interval,
)
from orchestrator.analyses.blocks import CELLS, PRODUCTS, SUMS, Block, aside, places
from orchestrator.analyses.rounding import around_mean, settled
from orchestrator.wire.bounds import count, refuse
from orchestrator.wire.schema import Schema

MOST_NUMBERS = 300


@dataclass(frozen=True)
class PcaOptions:
    """Of kind "pca". Columns with categories are not read."""

    components: int = 10  # shown at most, those with the largest share first [1 to 300]

    def __post_init__(self) -> None:
        refuse(count("components", self.components, 1, MOST_NUMBERS))


class Pca(Analysis):
    """The vector: 1, the numbers, the upper triangle of their products; in the last cell a record that is left out."""

    Options = PcaOptions

    def __init__(self, schema: Schema, options: PcaOptions) -> None:
        self._names = [feature.name for _, feature in schema.numbers()]
        self._upper = np.triu_indices(min(len(self._names), MOST_NUMBERS))
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """There are at least two numbers, and no more than fit."""
        if not 2 <= len(self._names) <= MOST_NUMBERS:
            yield f"components: the schema has {len(self._names)} numbers, expected 2 to {MOST_NUMBERS}"

    @property
    def rounds(self) -> int:
        """All sums are of one."""
        return 1

    @property
    def sums(self) -> Sums:
        """With d numbers: 1, d, and (d^2 + d) / 2 for the triangle."""
        numbers = len(self._names)
        return Sums(2 + numbers + len(self._upper[0]), math.sqrt(1 + numbers + (numbers**2 + numbers) / 2))

    def begin(self, seed: int) -> np.ndarray:
        """Nodes need no numbers."""
        return np.zeros(1, np.float32)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        u = in_unit_range(x, self.schema)
        known = ~np.isnan(u).any(axis=1)
        whole = np.where(known[:, np.newaxis], u, 0.0)
        found = np.zeros((len(x), self.sums.size))
        found[:, 0] = 1.0
        found[:, 1 : 1 + len(self._names)] = whole
        found[:, 1 + len(self._names) : -1] = whole[:, self._upper[0]] * whole[:, self._upper[1]]
        found[~known] = 0.0
        found[~known, -1] = 1.0
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """As many parameters as numbers: what a correlation may be of at least (as DataSHIELD counts them)."""
        numbers, products = tuple(self._names), 1 + len(self._names)
        found = [Block("records used", CELLS, places(0, 1))]
        for at, name in enumerate(numbers):
            found.append(Block(f"the sum of {name}", SUMS, places(1 + at, 1), (name,)))
        at_products = np.arange(products, self.sums.size - 1)
        found.append(Block("products", PRODUCTS, at_products, numbers, parameters=len(numbers)))
        return [*found, aside("left out", self.sums.size - 1)]

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The sums are the result."""
        state = {"total": total.values, "deviation": np.array([total.deviation])}
        return asked, Folded(state, {"records": float(total.values[0])}, done=True)

    def result(self, state: State, units: str) -> Result:
        """Tables "columns", "correlation", "explained" and "components"."""
        total, deviation = state["total"], float(state["deviation"][0])
        known, left_out, numbers = float(total[0]), float(total[-1]), len(self._names)
        if known < 2 or interval(deviation) > known / 2:
            return Result([], [f"{known:.4g} {units} have all numbers: too few to say anything"])
        mean = total[1 : 1 + numbers] / known
        covariance = np.zeros((numbers, numbers))
        covariance[self._upper] = total[1 + numbers : -1] / known
        covariance = covariance + np.triu(covariance, 1).T - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        least = interval(
            math.sqrt(5) * deviation / known
        )  # of a mean of squares less a squared mean, as in standardization
        squares = total[1 + numbers : -1][self._upper[0] == self._upper[1]]
        exact = np.asarray(around_mean(total[1 : 1 + numbers], squares, known))
        varies = spread**2 > least if deviation else exact > 0
        spread = spread if deviation else np.sqrt(np.maximum(exact, 0.0) / known)
        safe = np.where(varies, spread, 1.0)
        correlation = np.where(np.outer(varies, varies), covariance / np.outer(safe, safe), 0.0)
        correlation = np.clip(correlation, -1.0, 1.0)
        np.fill_diagonal(correlation, varies.astype(float))
        values, vectors = np.linalg.eigh(correlation)
        values, vectors = values[::-1], vectors[:, ::-1]
        values = values if deviation else np.asarray(settled(values, numbers, known))
        vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(numbers)] < 0, -1.0, 1.0)
        shown = min(int(self.options.components), int(varies.sum()))
        return Result(
            [
                self._columns(mean, spread * math.sqrt(known / (known - 1)), varies, units, known, not deviation),
                self._correlation(correlation, varies),
                self._explained(values, shown, int(varies.sum())),
                self._components(vectors, shown),
            ],
            list(self._notes(known, left_out, deviation, varies, units)),
        )

    def _columns(
        self, mean: np.ndarray, spread: np.ndarray, varies: np.ndarray, units: str, known: float, exact: bool
    ) -> Table:
        """exact: a column that does not vary has a deviation of 0, and not one that noise hides."""
        rows: List[Tuple[Cell, ...]] = []
        size: Cell = int(known) if known.is_integer() else known
        for name, m, s, seen, (_, feature) in zip(self._names, mean, spread, varies, self.schema.numbers()):
            low, high = feature.scaled_range
            half = (high - low) / 2
            rows.append((name, size, low + half * (1 + float(m)), half * float(s) if seen or exact else None))
        return Table("columns", ("column", units, "mean", "standard deviation"), rows)

    def _correlation(self, correlation: np.ndarray, varies: np.ndarray) -> Table:
        def cell(i: int, j: int) -> Cell:
            return float(correlation[i, j]) if varies[i] and varies[j] else None

        numbers = range(len(self._names))
        return Table(
            "correlation", ("", *self._names), [(self._names[i], *(cell(i, j) for j in numbers)) for i in numbers]
        )

    @staticmethod
    def _explained(values: np.ndarray, shown: int, whole: int) -> Table:
        rows: List[Tuple[Cell, ...]] = []
        for number in range(shown):
            rows.append(
                (
                    f"{number + 1}",
                    float(values[number]),
                    float(values[number]) / whole,
                    float(values[: number + 1].sum()) / whole,
                )
            )
        return Table("explained", ("component", "variance", "share", "share so far"), rows, "share")

    def _components(self, vectors: np.ndarray, shown: int) -> Table:
        heads = ("column", *(f"component {number + 1}" for number in range(shown)))
        rows: List[Tuple[Cell, ...]] = [(name, *map(float, row[:shown])) for name, row in zip(self._names, vectors)]
        return Table("components", heads, rows)

    def _notes(self, known: float, left_out: float, deviation: float, varies: np.ndarray, units: str) -> Iterator[str]:
        yield "columns are divided by their standard deviations; the sign of a component makes its largest part positive"
        same = [name for name, seen in zip(self._names, varies) if not seen]
        if same:
            why = "noise hides their spread" if deviation else "all their values are the same"
            yield f"{', '.join(same)}: {why}, so they are in no component"
        if left_out > interval(deviation):
            yield f"{left_out:.6g} {units} that lack a number were left out"
        logarithms = [feature.name for _, feature in self.schema.numbers() if feature.transform]
        if logarithms:
            yield f"{', '.join(logarithms)}: of natural logarithms"
        if deviation:
            level = 2 * deviation * math.sqrt(len(self._names)) / known
            yield (
                f"noise: before they are divided by deviations, products of columns (each in half ranges) are right within "
                f"{interval(deviation) / known:.2g} (95 %), and what varies by less than {level:.2g} is noise"
            )

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """One line."""
        return [f"principal components and correlations of {len(self._names)} numbers"]
