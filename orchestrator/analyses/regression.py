"""Generalized linear models with standard errors, by Newton's method (iteratively reweighted least squares).

In each round a record adds its part of the gradient and of the information matrix (McCullagh and Nelder 1989, section 2.5) at the
announced coefficients, and of the log-likelihood (families.py). Without noise estimates and standard errors are those of all
records together. Numbers are mapped to [-1, 1] over their ranges, a category to one indicator for each level but the first, which
is the reference. Records that lack a used value are left out, and counted.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis, Folded, Result, State, Sums, Total, as_pairs, from_pairs
from orchestrator.analyses.families import FAMILIES, Family, clipped
from orchestrator.analyses.fitted import Fitted, inverse_of, result_of
from orchestrator.analyses.inputs import MOST_TERMS, Inputs, columns_of, present
from orchestrator.wire.bounds import count, near, not_negative, one_of, refuse
from orchestrator.wire.schema import Schema

_SHOWN = 5
_NEVER = -1e30


@dataclass(frozen=True)
class RegressionOptions:
    """Of kind "regression"."""

    outcome: (
        str  # what is explained: a number; of logistic a column with two categories, the second is the event [a column]
    )
    # of what kind the outcome is: any number, one of two, a count [linear, logistic, poisson]
    family: str = "linear"
    inputs: Tuple[str, ...] = ()  # columns it is explained by; left out: all others [columns]
    rounds: int = 25  # at most; linear takes one [1 to 1000]
    tolerance: float = 1e-9  # it ends when no coefficient moves further, in units of half a range [0 or more]

    def __post_init__(self) -> None:
        wrong = [*one_of("family", self.family, tuple(FAMILIES)), *count("rounds", self.rounds, 1, 1000)]
        wrong += count("inputs", len(self.inputs), 0, MOST_TERMS)
        refuse([*wrong, *not_negative("tolerance", self.tolerance)])


class Regression(Analysis):
    """The vector: the information matrix's upper triangle, the gradient, the family's cells, 1 for a record that is used, 1 for
    one that is left out.

    Announced are the coefficients, those before, and the log-likelihood there (`as_pairs`).
    """

    Options = RegressionOptions

    def __init__(self, schema: Schema, options: RegressionOptions) -> None:
        by_name = {feature.name: feature for feature in schema.features}
        self._outcome = by_name.get(options.outcome)
        self._inputs = Inputs(schema, options.inputs, (options.outcome,), intercept=True)
        self.terms = self._inputs.terms
        self._upper = np.triu_indices(min(len(self.terms), MOST_TERMS))
        kind = FAMILIES[options.family]
        fits = self._outcome is not None and not kind.objection(self._outcome)
        self._family: Optional[Family] = kind(self._outcome) if self._outcome is not None and fits else None
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The outcome is of the family, and every named column is there once."""
        yield from self._inputs.objections()
        options, outcome = self.options, self._outcome
        if outcome is None:
            names = [feature.name for feature in self.schema.features]
            yield f"outcome: no column {options.outcome!r} in the schema{near(options.outcome, names)}"
        elif self._family is None:
            why = FAMILIES[options.family].objection(outcome)
            yield f"outcome {outcome.name!r}: of a {options.family} model {why}"

    @property
    def family(self) -> Family:
        """Of the outcome."""
        assert self._family is not None, "an object of this class has an outcome that fits"
        return self._family

    @property
    def rounds(self) -> int:
        """Sums of a linear model do not depend on what was announced."""
        return 1 if self.family.once else int(self.options.rounds)

    @property
    def sums(self) -> Sums:
        """With q the longest square of a record's inputs: (q^2 + q) / 2 for the triangle, q for the gradient, 1 for each cell."""
        squared, cells = self._inputs.squared, self.family.cells + 1
        size = len(self._upper[0]) + len(self.terms) + cells + 1
        return Sums(size, math.sqrt((squared**2 + squared) / 2 + squared + cells))

    def begin(self, seed: int) -> np.ndarray:
        """All coefficients 0 but the intercept."""
        first = np.zeros(len(self.terms))
        first[0] = self.family.first
        return as_pairs(np.concatenate([first, first, [_NEVER]]))

    def question(self, asked: np.ndarray) -> np.ndarray:
        """The coefficients; of a linear model, whose sums are the same everywhere, zeros."""
        now, _, _ = self._announced(asked)
        return np.zeros_like(now) if self.family.once else now

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        inputs, outcome, used = self._read(x)
        parts = self.family.parts(clipped(inputs @ question), outcome)
        outer = inputs[:, self._upper[0]] * inputs[:, self._upper[1]] * parts.weight[:, np.newaxis]
        found = np.zeros((len(x), self.sums.size))
        found[:, :-2] = np.concatenate([outer, inputs * parts.residual[:, np.newaxis], parts.cells], axis=1)
        found[:, -2] = 1.0
        found[~used] = 0.0
        found[~used, -1] = 1.0
        return found

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """A step of Newton's method; after one to a smaller likelihood half of it instead."""
        now, before, best = self._announced(asked)
        matrix, gradient, cells = self._split(total.values)
        noise = total.deviation * self.family.matrix_scale, total.deviation * self.family.gradient_scale
        likelihood = self.family.likelihood(cells)
        worse = not self.family.once and not total.deviation and likelihood < best - 1e-9 * abs(best)
        if worse and np.abs(now - before).max() > 0:
            state = self._state(now, total, noise, now - before)
            return as_pairs(np.concatenate([(now + before) / 2, before, [best]])), Folded(state, {"halved": 1.0})
        # Of a linear model the sums are the same everywhere, and the first step leads to the end.
        at = np.zeros_like(now) if self.family.once else now
        step = inverse_of(matrix, noise[0])[0] @ gradient
        longest = math.sqrt(len(now)) if total.deviation and not self.family.once else math.inf
        step = step * min(1.0, longest / max(float(np.linalg.norm(step)), 1e-300))
        moved = float(np.abs(step).max())
        state = self._state(at + step, total, noise, step)
        figures = (
            {"step": moved} if total.deviation or self.family.once else {"step": moved, "log-likelihood": likelihood}
        )
        done = self.family.once or (not total.deviation and moved <= self.options.tolerance)
        return as_pairs(np.concatenate([at + step, at, [likelihood]])), Folded(state, figures, done)

    def result(self, state: State, units: str) -> Result:
        """Tables "coefficients" and "fit", in the units of the columns."""
        matrix, gradient, cells = self._split(state["total"])
        matrix_noise, gradient_noise = map(float, state["noise"])
        known, left_out = float(state["total"][-2]), float(state["total"][-1])
        fitted = Fitted(
            state["coefficients"], state["step"], matrix, gradient, cells, known, left_out, matrix_noise, gradient_noise
        )
        return result_of(fitted, self.family, self.terms, units, float(self.options.tolerance))

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is explained by what."""
        names = [quoted(feature.name) for feature in self._inputs.features[:_SHOWN]]
        more = f" and {len(self._inputs.features) - _SHOWN} more" if len(self._inputs.features) > _SHOWN else ""
        return [
            f"{self.options.family} regression of {quoted(self.options.outcome)} with {len(self.terms)} coefficients",
            f"explained by {', '.join(names)}{more}",
        ]

    def _announced(self, asked: np.ndarray) -> Tuple[np.ndarray, np.ndarray, float]:
        """(coefficients, those before, the log-likelihood there), within what can be computed with whatever was announced."""
        values, terms = from_pairs(asked), len(self.terms)
        return np.clip(values[:terms], -1e6, 1e6), np.clip(values[terms : 2 * terms], -1e6, 1e6), float(values[-1])

    def _split(self, values: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(information matrix, gradient, cells of the family) of a round's sums."""
        terms, triangle = len(self.terms), len(self._upper[0])
        matrix = np.zeros((terms, terms))
        matrix[self._upper] = values[:triangle] * self.family.matrix_scale
        matrix += np.triu(matrix, 1).T
        return matrix, values[triangle : triangle + terms] * self.family.gradient_scale, values[triangle + terms : -2]

    @staticmethod
    def _state(coefficients: np.ndarray, total: Total, noise: Tuple[float, float], step: np.ndarray) -> State:
        return {"coefficients": coefficients, "total": total.values, "noise": np.array(noise), "step": step}

    def _read(self, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(inputs (n, terms) within -1 to 1, outcome (n,), which records lack nothing); zeros where something is lacking."""
        inputs, used = self._inputs.read(x)
        feature = self.family.outcome
        outcome = columns_of(x, self.schema)[feature.name]
        used &= present(outcome, feature)
        values = outcome[:, 1 if feature.categories else 0]
        return np.where(used[:, np.newaxis], inputs, 0.0), np.where(used, values, 0.0), used
