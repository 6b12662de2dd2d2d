"""A mixture of Gaussians by expectation and maximization (Dempster, Laird and Rubin 1977), full or diagonal covariances.

In each round nodes add up, for each component, how far records belong to it at the announced parameters, and that times their
numbers and the products of them; the next parameters follow. Without noise they are those of all records together. Numbers count
mapped to [-1, 1] over their public ranges. Records that lack a number are left out, and counted.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, NamedTuple, Tuple

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
from orchestrator.analyses.blocks import PRODUCTS, Block, aside, places
from orchestrator.wire.bounds import count, not_negative, one_of, refuse, within
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Schema

FULL, DIAGONAL = "full", "diagonal"
MOST_COMPONENTS = 100
MOST_NUMBERS = 100

_LEAST_WEIGHT = 1e-12
_NEVER = -1e30
_HIDDEN = 0.5
"""Of a variance: noise whose interval is wider hides it."""


@dataclass(frozen=True)
class MixtureOptions:
    """Of kind "mixture". Components are of all numbers of the schema; columns with categories are not read."""

    components: int = 3  # how many [1 to 100]
    # whether the numbers of a component may be correlated; diagonal: they are not, and noise is less [full, diagonal]
    covariance: str = FULL
    rounds: int = 100  # at most; with noise all are computed [1 to 1000]
    # it ends when a record's log-likelihood changes by no more in the mean; sums without noise only [0 or more]
    tolerance: float = 1e-4
    regularization: float = 1e-6  # added to each variance, in squares of half a range [1e-08 to 1]
    # first means, one list of numbers a component in the order of the schema's; left out: drawn from the ranges by seed
    # [a list of numbers a component]
    start: Tuple[Tuple[float, ...], ...] = ()
    spread: float = 0.25  # first standard deviation of each number, in units of half a range [0.001 to 1]

    def __post_init__(self) -> None:
        wrong = [*count("components", self.components, 1, MOST_COMPONENTS), *count("rounds", self.rounds, 1, 1000)]
        wrong += one_of("covariance", self.covariance, (FULL, DIAGONAL))
        wrong += not_negative("tolerance", self.tolerance)
        wrong += within("regularization", self.regularization, 1e-8, 1.0)
        wrong += within("spread", self.spread, 1e-3, 1.0)
        if self.start and len(self.start) != self.components:
            wrong.append(f"start: {len(self.start)} means, expected one for each of {self.components} components")
        refuse(wrong)


class _Model(NamedTuple):
    """weights (k,), means (k, d), covariances (k, d, d), over [-1, 1]; diagonal ones have zeros elsewhere."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


class Mixture(Analysis):
    """Both halves, in one class.

    The vector: for each component the share r of the record that belongs to it, r u, and of r u u' the upper triangle or the
    diagonal; then the log of the record's likelihood over the largest there can be; then 1 where it is left out.

    Shares add up to 1, so their squares add up to 1 at most: the vector is no longer than 1, u, u u' and the likelihood together.
    Announced are weights, means, covariances, and the mean log-likelihood before (`as_pairs`).
    """

    Options = MixtureOptions

    def __init__(self, schema: Schema, options: MixtureOptions) -> None:
        self._names = [feature.name for _, feature in schema.numbers()]
        self._shape = options.components, len(self._names)
        some = min(len(self._names), MOST_NUMBERS)
        self._upper = np.triu_indices(some) if options.covariance == FULL else np.diag_indices(some)
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """There are numbers, and means are within their ranges."""
        if not 1 <= len(self._names) <= MOST_NUMBERS:
            yield f"components: the schema has {len(self._names)} numbers, expected 1 to {MOST_NUMBERS}"
            return
        yield from points.objections(self.options.start, self.schema)

    @property
    def rounds(self) -> int:
        """As declared."""
        return int(self.options.rounds)

    @property
    def _block(self) -> int:
        """Values of a component."""
        return 1 + self._shape[1] + len(self._upper[0])

    @property
    def sums(self) -> Sums:
        """1, d ones for u, a one for each product of two of them, and 1 for the likelihood."""
        return Sums(self._shape[0] * self._block + 2, math.sqrt(self._block + 1))

    @property
    def _largest(self) -> float:
        """Of a record's log-likelihood, on either side: covariances have eigenvalues of half the regularization at least, 2 d at
        most, a squared distance is at most 4 d, and a component has a weight of 1 / k or more.
        """
        components, numbers = self._shape
        least = self.options.regularization / 2
        spread = max(math.log(2.0 * numbers), -math.log(least))
        return math.log(components) + numbers * (math.log(2 * math.pi) / 2 + spread / 2 + 2 / least)

    def begin(self, seed: int) -> np.ndarray:
        """Equal weights, the first means, and covariances without correlation."""
        components, numbers = self._shape
        means = points.first(self.options.start, components, self.schema, seed)
        covariances = np.repeat(np.eye(numbers)[np.newaxis] * self.options.spread**2, components, axis=0)
        return self._announce(_Model(np.full(components, 1 / components), means, covariances), _NEVER)

    def _announce(self, model: _Model, likelihood: float) -> np.ndarray:
        return as_pairs(np.append(self._flat(model), likelihood))

    def _flat(self, model: _Model) -> np.ndarray:
        triangles = model.covariances[:, self._upper[0], self._upper[1]]
        return np.concatenate([model.weights, model.means.ravel(), triangles.ravel()])

    def question(self, asked: np.ndarray) -> np.ndarray:
        """Weights, means and covariances."""
        return self._flat(self.model_of(from_pairs(asked)[:-1]))

    def model_of(self, values: np.ndarray) -> _Model:
        """A mixture that can be computed with, whatever was announced; an honest one as it is."""
        components, numbers = self._shape
        weights = np.clip(values[:components], _LEAST_WEIGHT, 1.0)
        means = np.clip(values[components : components * (1 + numbers)].reshape(components, numbers), -1.0, 1.0)
        triangles = np.clip(values[components * (1 + numbers) :].reshape(components, -1), -2.0, 2.0)
        full = np.zeros((components, numbers, numbers))
        full[:, self._upper[0], self._upper[1]] = full[:, self._upper[1], self._upper[0]] = triangles
        floors = np.full(components, self.options.regularization / 2)
        return _Model(weights / weights.sum(), means, self._floored(full, floors))

    def _floored(self, covariances: np.ndarray, floors: np.ndarray) -> np.ndarray:
        """Covariances (k, d, d) with eigenvalues of `floors` (k,) at least."""
        if self.options.covariance == DIAGONAL:
            diagonals = np.maximum(np.diagonal(covariances, axis1=1, axis2=2), floors[:, np.newaxis])
            return np.asarray(diagonals[:, :, np.newaxis] * np.eye(self._shape[1]))
        values, vectors = np.linalg.eigh(covariances)
        raised = (vectors * np.maximum(values, floors[:, np.newaxis])[:, np.newaxis, :]) @ vectors.transpose(0, 2, 1)
        low = values.min(axis=1) < floors
        return np.where(low[:, np.newaxis, np.newaxis], (raised + raised.transpose(0, 2, 1)) / 2, covariances)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        u = in_unit_range(x, self.schema)
        known = ~np.isnan(u).any(axis=1)
        whole = np.where(known[:, np.newaxis], u, 0.0)
        logarithms = self._densities(self.model_of(question), whole)
        top = logarithms.max(axis=1, keepdims=True)
        shares = np.exp(logarithms - top)
        summed = shares.sum(axis=1, keepdims=True)
        shares = shares / summed
        products = whole[:, self._upper[0]] * whole[:, self._upper[1]]
        block = np.concatenate([np.ones((len(x), 1)), whole, products], axis=1)
        found = np.zeros((len(x), self.sums.size))
        found[:, :-2] = (shares[:, :, np.newaxis] * block[:, np.newaxis, :]).reshape(len(x), -1)
        found[:, -2] = np.clip((top + np.log(summed))[:, 0] / self._largest, -1.0, 1.0)
        found[~known] = 0.0
        found[~known, -1] = 1.0
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Sums of shares, and of what they weigh; free parameters are those of the fit."""
        end, names = self.sums.size, tuple(self._names)
        free = self._shape[0] * self._block - 1
        sums = Block("sums by component", PRODUCTS, places(0, end - 1), names, parameters=free, split=names)
        return [sums, aside("left out", end - 1)]

    def _densities(self, model: _Model, u: np.ndarray) -> np.ndarray:
        """float64 (n, k): the log of weight times density of each component at u (n, d)."""
        found = []
        for weight, mean, covariance in zip(*model):
            root = np.linalg.cholesky(covariance)
            apart = (u - mean) @ np.linalg.inv(root).T
            half = np.log(np.diag(root)).sum() + 0.5 * self._shape[1] * math.log(2 * math.pi)
            found.append(math.log(weight) - half - 0.5 * (apart**2).sum(axis=1))
        return np.stack(found, axis=1)

    def over_others(self, asked: np.ndarray) -> np.ndarray:
        """Without the mean log-likelihood before, so that it does not end where other records happen to have the same."""
        return as_pairs(np.append(from_pairs(asked)[:-1], _NEVER))

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The parameters that these shares make likeliest."""
        values = from_pairs(asked)
        before, model = float(values[-1]), self.model_of(values[:-1])
        counts = total.values[:-2].reshape(self._shape[0], self._block)[:, 0]
        known = float(counts.sum())
        likelihood = float(total.values[-2]) * self._largest
        after = self.maximized(model, total)
        # Without noise the parameters shown are those whose likelihood is known.
        shown = after if total.deviation else model
        change = likelihood / max(known, 1.0) - before
        state = {"model": self._flat(shown), "counts": counts, "likelihood": np.array([likelihood, change])}
        state.update(left_out=total.values[-1:], deviation=np.array([total.deviation]))
        figures = {"moved": float(np.abs(after.means - model.means).max())}
        if not total.deviation:
            figures["log-likelihood"] = likelihood - self._shift(known)
        done = not total.deviation and abs(change) <= self.options.tolerance
        return self._announce(after, likelihood / max(known, 1.0)), Folded(state, figures, done)

    def maximized(self, model: _Model, total: Total) -> _Model:
        """A component whose count is next to nothing, or drowns in noise, keeps mean and covariance."""
        components, numbers = self._shape
        sums = total.values[:-2].reshape(components, self._block)
        counts = sums[:, 0]
        moves = counts > max(_LEAST_WEIGHT, interval(total.deviation))
        safe = np.where(moves, counts, 1.0)
        means = np.clip(sums[:, 1 : 1 + numbers] / safe[:, np.newaxis], -1.0, 1.0)
        full = np.zeros((components, numbers, numbers))
        triangles = sums[:, 1 + numbers :] / safe[:, np.newaxis]
        full[:, self._upper[0], self._upper[1]] = full[:, self._upper[1], self._upper[0]] = triangles
        full -= (means[:, :, np.newaxis] * means[:, np.newaxis, :]) * self._kept
        full += np.eye(numbers) * self.options.regularization
        noise = self._level(total.deviation) / safe
        full = self._floored(np.clip(full, -2.0, 2.0), self.options.regularization / 2 + noise)
        weights = np.clip(counts, _LEAST_WEIGHT * max(1.0, float(counts.sum())), None)
        return _Model(
            weights / weights.sum(),
            np.where(moves[:, np.newaxis], means, model.means),
            np.where(moves[:, np.newaxis, np.newaxis], full, model.covariances),
        )

    def _level(self, deviation: float) -> float:
        """To which the eigenvalues of noise on sums of products reach: of a symmetric matrix about 2 sqrt(d) of its deviation."""
        return 2 * deviation * math.sqrt(self._shape[1] if self.options.covariance == FULL else 1)

    @property
    def _kept(self) -> np.ndarray:
        """float64 (d, d): 1 where a covariance may be other than 0."""
        numbers = self._shape[1]
        return np.ones((numbers, numbers)) if self.options.covariance == FULL else np.eye(numbers)

    def result(self, state: State, units: str) -> Result:
        """Tables "components", "deviations", "correlations" of full covariances, and "fit" without noise; largest first."""
        model, deviation = self.model_of(state["model"]), float(state["deviation"][0])
        order = np.argsort(-model.weights, kind="stable")
        tables = [self._components(model, state, order, units), self._deviations(model, state, order)]
        if self.options.covariance == FULL and self._shape[1] > 1:
            tables.append(self._correlations(model, state, order))
        if not deviation:
            tables.append(self._fit(state, units))
        return Result(tables, list(self._notes(state, units)))

    def _components(self, model: _Model, state: State, order: np.ndarray, units: str) -> Table:
        deviation, means = float(state["deviation"][0]), points.in_their_units(model.means.copy(), self.schema)
        rows: List[Tuple[Cell, ...]] = []
        for rank, at in enumerate(order, 1):
            size = float(state["counts"][at])
            row: Tuple[Cell, ...] = (f"{rank}", float(model.weights[at]), size, *map(float, means[at]))
            if deviation:
                # To first order, with a mean at the end of a range, where the noise of the count weighs most.
                moved = size > interval(deviation)
                row = (*row, 100 * interval(math.sqrt(2) * deviation) / (2 * size) if moved else None)
            rows.append(row)
        heads = ("component", "weight", units, *self._names, *(("± % of a range",) if deviation else ()))
        return Table("components", heads, rows, "weight")

    def _deviations(self, model: _Model, state: State, order: np.ndarray) -> Table:
        low, high = points.ends(self.schema)
        rows: List[Tuple[Cell, ...]] = []
        for rank, at in enumerate(order, 1):
            cells = [
                None if hides else float(half * math.sqrt(variance))
                for half, variance, hides in zip(
                    (high - low) / 2, np.diag(model.covariances[at]), self._hidden(model, state, at)
                )
            ]
            rows.append((f"{rank}", *cells))
        return Table("deviations", ("component", *self._names), rows)

    def _hidden(self, model: _Model, state: State, at: int) -> np.ndarray:
        """bool (d,): whether noise hides the variance of each number in a component."""
        noise, variances, means = float(state["deviation"][0]), np.diag(model.covariances[at]), model.means[at]
        wide = np.maximum(interval(noise) * np.sqrt(1 + 4 * means**2), self._level(noise))
        wide = wide / max(float(state["counts"][at]), 1e-9)
        hidden: np.ndarray = (wide > _HIDDEN * variances) & (noise > 0)
        return hidden

    def _correlations(self, model: _Model, state: State, order: np.ndarray) -> Table:
        """None where noise hides one of the two deviations."""
        rows: List[Tuple[Cell, ...]] = []
        for rank, at in enumerate(order, 1):
            hidden, spread = self._hidden(model, state, at), np.sqrt(np.diag(model.covariances[at]))
            scaled = model.covariances[at] / np.outer(spread, spread)
            for i, j in zip(*np.triu_indices(self._shape[1], 1)):
                known = None if hidden[i] or hidden[j] else float(scaled[i, j])
                rows.append((f"{rank}", self._names[i], self._names[j], known))
        return Table("correlations", ("component", "column", "and", "correlation"), rows)

    def _shift(self, known: float) -> float:
        """What the log-likelihood of so many records loses from [-1, 1] to the units of the columns: densities are of those."""
        low, high = points.ends(self.schema)
        return known * float(np.log((high - low) / 2).sum())

    def _fit(self, state: State, units: str) -> Table:
        known = float(state["counts"].sum())
        likelihood = float(state["likelihood"][0]) - self._shift(known)
        free = self._shape[0] * self._block - 1
        rows: List[Tuple[Cell, ...]] = [
            (f"{units} used", round(known)),
            (f"{units} left out", round(float(state["left_out"][0]))),
            ("log-likelihood", likelihood),
            ("free parameters", free),
            ("AIC", 2 * free - 2 * likelihood),
            ("BIC", free * math.log(max(known, 1.0)) - 2 * likelihood),
        ]
        return Table("fit", ("figure", "value"), rows)

    def _notes(self, state: State, units: str) -> Iterator[str]:
        deviation, change = float(state["deviation"][0]), float(state["likelihood"][1])
        left_out = float(state["left_out"][0])
        if not deviation and not abs(change) <= self.options.tolerance:
            yield (
                f"not converged: in the last round the log-likelihood of a record changed by {change:.3g}, more than the "
                f"tolerance of {self.options.tolerance:.3g}; allow more rounds"
            )
        if not deviation and self._shape[0] > 1:
            yield "from another start it may end in another mixture; of several, the one with the smallest BIC fits best"
        yield f"{units} of a component are a sum of probabilities to belong to it"
        if left_out > interval(deviation):
            yield f"{left_out:.6g} {units} that lack a number were left out"
        logarithms = [feature.name for _, feature in self.schema.numbers() if feature.transform]
        if logarithms:
            yield f"means of {', '.join(logarithms)} are geometric means, their deviations are of natural logarithms"
        if deviation:
            yield (
                f"every count carries noise: with 95 % it is within {interval(deviation):.3g} of what would be there without, "
                "and components that are not larger than that kept what they were; means are within the last column of what the "
                "last round would have given without noise. Deviations that noise hides are left out with their correlations, as "
                "are likelihood and BIC"
            )

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """One line."""
        components, numbers = self._shape
        return [
            f"mixture of {components} Gaussians with {self.options.covariance} covariances of {many(numbers, 'number')} in "
            f"at most {many(self.rounds, 'round')}"
        ]
