"""k-means (Lloyd 1982): in each round nodes add up, for each cluster, how many records are nearest to its centre, and where.

Numbers count mapped to [-1, 1] over their public ranges, so that no unit outweighs another. Without noise the centres are those
of Lloyd's algorithm over all records together. With noise a cluster whose count drowns in it keeps its centre. Records that lack
a number are left out, and counted.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, Tuple

import numpy as np

from orchestrator.analyses import centres as points
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
    in_unit_range,
    interval,
)
from orchestrator.analyses.blocks import CELLS, PRODUCTS, SUMS, Block, aside, places
from orchestrator.wire.bounds import count, not_negative, refuse
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Schema

MOST_CLUSTERS = 1000


@dataclass(frozen=True)
class KMeansOptions:
    """Of kind "kmeans". Clusters are of all numbers of the schema; columns with categories are not read."""

    clusters: int = 3  # how many [2 to 1000]
    rounds: int = 10  # at most [1 to 1000]
    tolerance: float = 0.0  # it ends when no centre moves further, in units of half a range [0 or more]
    # first centres, one list of numbers a cluster in the order of the schema's; left out: drawn from the ranges by seed
    # [a list of numbers a cluster]
    start: Tuple[Tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        wrong = [*count("clusters", self.clusters, 2, MOST_CLUSTERS), *count("rounds", self.rounds, 1, 1000)]
        wrong += not_negative("tolerance", self.tolerance)
        if self.start and len(self.start) != self.clusters:
            wrong.append(f"start: {len(self.start)} centres, expected one for each of {self.clusters} clusters")
        refuse(wrong)


class KMeans(Analysis):
    """The vector: for each cluster 1 and the record's numbers where it is the nearest; then its squared distance over the largest
    there can be; then 1 where it is left out.

    Announced are the centres, each as two float32 that add up to it, in 48 bits.
    """

    Options = KMeansOptions

    def __init__(self, schema: Schema, options: KMeansOptions) -> None:
        self._names = [feature.name for _, feature in schema.numbers()]
        self._shape = options.clusters, len(self._names)
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """Centres are of the schema's numbers, within their ranges."""
        if not self._names:
            yield "clusters: the schema has no column that is a number"
            return
        yield from points.objections(self.options.start, self.schema)

    @property
    def rounds(self) -> int:
        """As declared."""
        return int(self.options.rounds)

    @property
    def sums(self) -> Sums:
        """A record is in one cluster: a one, at most d ones for where it is, and one for how far from the centre."""
        clusters, numbers = self._shape
        return Sums(clusters * (1 + numbers) + 2, math.sqrt(2 + numbers))

    def begin(self, seed: int) -> np.ndarray:
        """The first centres."""
        return as_pairs(points.first(self.options.start, self.options.clusters, self.schema, seed))

    def question(self, asked: np.ndarray) -> np.ndarray:
        """The centres."""
        return self._centres(asked).ravel()

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        clusters, numbers = self._shape
        centres, u = question.reshape(self._shape), in_unit_range(x, self.schema)
        known = ~np.isnan(u).any(axis=1)
        whole = np.where(known[:, np.newaxis], u, 0.0)
        distances = ((whole[:, np.newaxis, :] - centres) ** 2).sum(axis=2)
        nearest = distances.argmin(axis=1)
        found = np.zeros((len(x), self.sums.size))
        of_cluster = found[:, :-2].reshape(len(x), clusters, 1 + numbers)
        rows = np.arange(len(x))
        of_cluster[rows, nearest, 0] = 1.0
        of_cluster[rows, nearest, 1:] = whole
        # No centre is beyond the ranges, so no square is beyond 4.
        found[:, -2] = np.minimum(distances[rows, nearest] / (4.0 * numbers), 1.0)
        found[~known] = 0.0
        found[~known, -1] = 1.0
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Clusters are groups of records, whose numbers are summed."""
        clusters, numbers = self._shape
        cells, end = places(0, clusters, 1 + numbers), self.sums.size
        found = [Block("clusters", CELLS, cells[:, 0], tuple(self._names))]
        for at, name in enumerate(self._names):
            found.append(Block(f"sums of {name} by cluster", SUMS, cells[:, 1 + at], (name,), split=(name,)))
        inertia = Block("squared distances", PRODUCTS, places(end - 2, 1), parameters=clusters * numbers)
        return [*found, inertia, aside("left out", end - 1)]

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """Each centre moves to the mean of its records."""
        clusters, numbers = self._shape
        before, sums = self._centres(asked), total.values[:-2].reshape(clusters, 1 + numbers)
        counts = sums[:, 0]
        moves = counts > max(0.0, interval(total.deviation))
        means = sums[:, 1:] / np.where(moves, counts, 1.0)[:, np.newaxis]
        centres = np.where(moves[:, np.newaxis], np.clip(means, -1.0, 1.0), before)
        announced = as_pairs(centres)
        shift = float(np.abs(self._centres(announced) - before).max())
        state = {"centres": centres.ravel(), "counts": counts, "rest": total.values[-2:]}
        state["deviation"] = np.array([total.deviation])
        figures = {"shift": shift}
        if total.values[-2] > interval(total.deviation):  # else it drowns in the noise
            figures["inertia"] = float(total.values[-2] * 4.0 * numbers)
        # With exact sums a centre that does not move never will again; with noise it may by chance.
        done = shift <= self.options.tolerance and (not total.deviation or self.options.tolerance > 0)
        return announced, Folded(state, figures, done)

    def result(self, state: State, units: str) -> Result:
        """Table "centres": one row a cluster, largest first, in the units of the columns. Counts are of the round before the last
        move, which led to these centres.
        """
        centres = points.in_their_units(state["centres"].reshape(self._shape), self.schema)
        deviation, notes = float(state["deviation"][0]), []
        rows: List[Tuple[Cell, ...]] = []
        for rank, cluster in enumerate(np.argsort(-state["counts"], kind="stable"), 1):
            size = float(state["counts"][cluster])
            shown: Tuple[Cell, ...] = int(size) if size.is_integer() else size, *map(float, centres[cluster])
            # To first order, with a centre at the end of a range, where the noise of the count weighs most.
            moved = size > interval(deviation)
            spread = 100 * interval(math.sqrt(2) * deviation) / (2 * size) if deviation and moved else None
            rows.append((f"{rank}", *shown, spread) if deviation else (f"{rank}", *shown))
        if deviation:
            notes.append(
                f"every count carries noise: with 95 % it is within {interval(deviation):.3g} of what would be there without, "
                "and clusters that are not larger than that kept the centre they had; numbers of a centre are within the last "
                "column of what the last round would have given without noise"
            )
        left_out = float(state["rest"][1])
        if left_out > interval(deviation):
            notes.append(f"{left_out:.6g} {units} that lack a number were left out")
        logarithms = [feature.name for _, feature in self.schema.numbers() if feature.transform]
        if logarithms:
            notes.append(f"centres of {', '.join(logarithms)} are geometric means")
        columns = ("cluster", units, *self._names, *(("± % of a range",) if deviation else ()))
        return Result([Table("centres", columns, rows, units)], notes)

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """One line."""
        clusters, numbers = self._shape
        return [f"k-means: {clusters} clusters of {many(numbers, 'number')} in at most {many(self.rounds, 'round')}"]

    def _centres(self, asked: np.ndarray) -> np.ndarray:
        """float64 (clusters, numbers), within the ranges whatever was announced."""
        return np.asarray(np.clip(from_pairs(asked).reshape(self._shape), -1.0, 1.0))
