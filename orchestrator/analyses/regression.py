"""Generalized linear models with standard errors, by Newton's method (iteratively reweighted least squares).

In each round a record adds its part of the gradient and of the information matrix (McCullagh and Nelder 1989, section 2.5) at
the announced coefficients, and of the log-likelihood (families.py, dispersed.py). Without noise estimates and standard errors are
those of all records together. Numbers are mapped to [-1, 1] over their ranges, a category to one indicator for each level but the
first, which is the reference. Records that lack a used value are left out, and counted. One further round sums the products of
each record's, or patient's, part of the gradient with itself, for errors that hold where the model's do not (meat.py). Penalties
are applied to the sums, and change nothing of what is asked (penalty.py).
"""

import math
from copy import copy
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import (
    Analysis,
    Folded,
    Result,
    State,
    Sums,
    Total,
    as_pairs,
    from_pairs,
    other_than_zero,
)
from orchestrator.analyses.blocks import CELLS, PRODUCTS, Block, aside, places, unused
from orchestrator.analyses.families import Linear
from orchestrator.analyses.family import Family, Summed, clipped
from orchestrator.analyses.fitted import Counts, Fitted, inverse_of, result_of
from orchestrator.analyses.inputs import MOST_TERMS
from orchestrator.analyses.meat import (
    CLUSTERED,
    LEAST_PRODUCTS,
    MOST_RECORDS,
    TOO_SMALL,
    Sandwich,
    of_patient,
    sandwich_of,
)
from orchestrator.analyses.penalty import ADASSP, Penalty, minimum, penalty_of
from orchestrator.analyses.reading import Read, Reading
from orchestrator.analyses.regression_options import FREQUENCY, NO_PENALTY, RegressionOptions
from orchestrator.analyses.shrunk import Shrunk, adassp_result, shrunk_result
from orchestrator.wire.schema import Schema

_SHOWN = 5
_NEVER = -1e30


class _Announced(NamedTuple):
    """What goes out with a round. Nodes read `now` and `scored`; the rest is for the gateway's own next step."""

    now: np.ndarray  # coefficients, and the family's parameters beyond them
    before: np.ndarray  # those of the round before
    best: float = _NEVER  # the log-likelihood there, less the penalty
    scored: bool = False  # whether the products of each one's part of the gradient are asked
    place: int = 0  # among the strengths

    def packed(self) -> np.ndarray:
        rest = [self.best, float(self.scored), float(self.place)]
        return as_pairs(np.concatenate([self.now, self.before, rest]))


class Regression(Analysis):
    """Both halves, in one class.

    The vector: the information matrix's upper triangle, the gradient, the family's cells, the weight where there are weights,
    1 for a record that is used, 1 for one that is left out. Of the round for robust errors see meat.py.

    Announced is `_Announced`, as `as_pairs` has it.
    """

    Options = RegressionOptions
    options: RegressionOptions

    def __init__(self, schema: Schema, options: RegressionOptions) -> None:
        self._reading = Reading(schema, options)
        self.terms = self._reading.inputs.terms
        self._upper = np.triu_indices(min(len(self.terms), MOST_TERMS))
        super().__init__(schema, options)

    def without_noise(self) -> Analysis:
        """Its means may be beyond the largest outcome."""
        found = copy(self)
        found._reading = Reading(self.schema, self.options, exact=True)
        return found

    def objections(self) -> Iterator[str]:
        """The columns are there and of their kind, and options go together."""
        yield from self._reading.objections()
        yield from self.options.objections(self.schema)

    def objection_to(self, noisy: bool) -> str:
        """Without noise AdaSSP has no ridge; with it much has no meaning."""
        return self.options.objection_to(noisy, self.family)

    @property
    def _adaptive(self) -> bool:
        return self.options.penalty == ADASSP

    @property
    def family(self) -> Family:
        """Of the outcome."""
        return self._reading.family

    @property
    def rounds(self) -> int:
        """Sums of a linear model do not depend on what was announced; robust errors take one more round."""
        steps = 1 if self.family.once else self.options.rounds * max(1, len(self.options.strengths))
        return steps + self.options.robust

    @property
    def _cells(self) -> int:
        return self.family.cells + self._reading.weighted

    @property
    def sums(self) -> Sums:
        """With q the longest square of a record's inputs: (q^2 + q) / 2 for the triangle, q for the gradient, 1 for each cell."""
        squared, cells = self._reading.inputs.squared, self._cells + 1
        size = len(self._upper[0]) + len(self.terms) + cells + 1
        return Sums(size, math.sqrt((squared**2 + squared) / 2 + squared + cells))

    def begin(self, seed: int) -> np.ndarray:
        """All coefficients 0 but the intercept."""
        first = np.zeros(len(self.terms))
        first[0] = self.family.first
        first = np.append(first, self.family.first_more)
        return _Announced(first, first).packed()

    def question(self, asked: np.ndarray) -> np.ndarray:
        """The coefficients and the family's parameters; of a linear model, whose sums are the same everywhere, zeros. Then
        whether robust errors are asked, for which a linear model's coefficients count as well.
        """
        at = self._announced(asked)
        now = np.zeros_like(at.now) if self.family.once and not at.scored else at.now
        return np.append(now, float(at.scored))

    def scope(self, question: np.ndarray) -> np.ndarray:
        """The coefficients other than 0: where they are the same, sums of all families and options have parts in common.

        None where the information is the same whatever they are.
        """
        return other_than_zero(question[: 0 if self.family.fixed and not question[-1] else len(self.terms)])

    def of_patients(self, question: np.ndarray) -> bool:
        """Where clustered errors are asked."""
        return bool(self.options.errors == CLUSTERED and question[-1])

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        read, terms = self._reading.read(x), len(self.terms)
        coefficients, more = question[:terms], question[terms:-1]
        predictor = clipped(read.inputs @ coefficients + read.offset)
        weight = read.weight[:, np.newaxis]
        found = np.zeros((len(x), self.sums.size))
        if question[-1]:
            scale = self.family.score_scale(self._ends(coefficients), more)
            self._score(found, read, self.family.score(predictor, read.outcome, more, scale))
        else:
            parts = self.family.parts(predictor, read.outcome, more)
            outer = self._products(read.inputs) * parts.weight[:, np.newaxis]
            whole = np.concatenate([outer, read.inputs * parts.residual[:, np.newaxis], parts.cells], axis=1) * weight
            found[:, : whole.shape[1]] = whole
            if self._reading.weighted:
                found[:, -3] = read.weight
        found[:, -2] = 1.0
        found[~read.used] = 0.0
        found[~read.used, -1] = 1.0
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """All but the counts is of the model."""
        end, named = self.sums.size - 2, self._reading.names
        counts = [Block("records used", CELLS, places(end, 1)), aside("left out", end + 1)]
        parameters, triangle = len(question) - 1, len(self._upper[0])
        if not question[-1]:
            return [Block("sums of the model", PRODUCTS, places(0, end), named, parameters=parameters), *counts]
        meat = Block("products of gradients", PRODUCTS, places(0, triangle), named, parameters=parameters)
        cut = triangle + (self.options.errors == CLUSTERED)
        return [meat, *(aside("parts cut", at) for at in range(triangle, cut)), *unused(cut, end), *counts]

    def _ends(self, coefficients: np.ndarray) -> Tuple[float, float]:
        """Between which linear predictors are, whatever a record's inputs and offset."""
        reach, offset = float(np.abs(coefficients[1:]).sum()), self.family.offset
        ends = np.array([coefficients[0] - reach + offset[0], coefficients[0] + reach + offset[1]])
        low, high = clipped(ends)
        return float(low), float(high)

    def _products(self, inputs: np.ndarray) -> np.ndarray:
        return inputs[:, self._upper[0]] * inputs[:, self._upper[1]]

    def _score(self, found: np.ndarray, read: Read, score: np.ndarray) -> None:
        """The products of each record's part of the gradient; of patients the parts, of which `joined` makes products."""
        triangle, terms = len(self._upper[0]), len(self.terms)
        if self.options.errors == CLUSTERED:
            found[:, triangle : triangle + terms] = read.inputs * (read.weight * score)[:, np.newaxis]
            return
        weight = read.weight if self.options.weighting == FREQUENCY else read.weight**2
        found[:, :triangle] = self._products(read.inputs) * (weight * score**2)[:, np.newaxis]

    def joined(self, question: np.ndarray, summed: np.ndarray, records: int) -> np.ndarray:
        """Of a patient where clustered errors are asked: the products of the sum of its records' parts of the gradient."""
        if not self.of_patients(question):
            return super().joined(question, summed, records)
        triangle, found = len(self._upper[0]), np.zeros(self.sums.size)
        if summed[-2] < 0.5:
            found[-1] = 1.0
            return found
        score, cut = of_patient(summed[triangle : triangle + len(self.terms)], self._reading.inputs.squared)
        found[:triangle] = self._products(score[np.newaxis])[0]
        found[triangle], found[-2] = float(cut), 1.0
        return found

    def over_others(self, asked: np.ndarray) -> np.ndarray:
        """Without the best likelihood: of fewer records it is larger wherever the coefficients lead."""
        return self._announced(asked)._replace(best=_NEVER).packed()

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """A step of Newton's method; after one to a smaller likelihood half of it instead. After the last the robust round."""
        at = self._announced(asked)
        if at.scored:
            return asked, Folded({"meat": total.values}, {}, True)
        matrix, summed = self._split(total.values, at.now)
        noise = total.deviation * self._reading.unit * np.array([self.family.matrix_scale, self.family.gradient_scale])
        value = self.family.likelihood(summed.cells) - self._penalty(at.place, summed).value(summed.coefficients)
        worse = not self.family.once and not total.deviation and value < at.best - 1e-9 * abs(at.best)
        if worse and np.abs(at.now - at.before).max() > 0:
            state = {"coefficients": at.now, "total": total.values, "noise": noise, "step": at.now - at.before}
            return at._replace(now=(at.now + at.before) / 2).packed(), Folded(state, {"halved": 1.0})
        # Of a linear model the sums are the same everywhere, and the first step leads to the end.
        now = np.zeros_like(at.now) if self.family.once else at.now
        step = self._step(now, matrix, summed, noise, at.place)
        state = {"coefficients": now + step, "total": total.values, "noise": noise, "step": step}
        if self.options.strengths and not self.family.once:
            figures = [self.family.deviance(summed), float(np.abs(step).max())]
            state[f"path {at.place}"] = np.concatenate([now + step, figures])
        folded = Folded(state, {"step": float(np.abs(step).max())})
        return self._next(at, now, step, value, folded, bool(total.deviation))

    def _step(self, now: np.ndarray, matrix: np.ndarray, summed: Summed, noise: np.ndarray, place: int) -> np.ndarray:
        """From the parameters the sums are of to the next ones; with noise no longer than the root of how many there are."""
        terms = len(self.terms)
        if self.options.strengths:
            linear = summed.gradient + matrix @ now[:terms]
            step = minimum(matrix, linear, self._penalty(place, summed)) - now[:terms]
        else:
            step = inverse_of(matrix, float(noise[0]))[0] @ summed.gradient
        longest = math.sqrt(terms) if noise.any() and not self.family.once else math.inf
        step = step * min(1.0, longest / max(float(np.linalg.norm(step)), 1e-300))
        return np.append(step, self.family.step(summed.cells, summed.more))

    def _next(
        self, at: _Announced, now: np.ndarray, step: np.ndarray, value: float, folded: Folded, noisy: bool
    ) -> Tuple[np.ndarray, Folded]:
        """What is asked after a step: there again, or with the next strength, or for robust errors, or nothing."""
        after, moved = now + step, folded.figures["step"]
        if not noisy and not self.family.once:
            folded.figures["log-likelihood"] = value
        if not self.family.once and (noisy or moved > self.options.tolerance):
            return _Announced(after, now, value, place=at.place).packed(), folded
        if not self.family.once and at.place + 1 < len(self.options.strengths):
            return _Announced(after, after, place=at.place + 1).packed(), folded
        announced = _Announced(after, now, value, scored=self.options.robust, place=at.place)
        return announced.packed(), folded._replace(done=not self.options.robust)

    def _penalty(self, place: int, summed: Summed) -> Penalty:
        if not self.options.strengths:
            return Penalty(0.0, 0.0)
        strength, unit = self.options.strengths[place], self.family.outcome_unit
        return penalty_of(self.options.penalty, strength, self.options.mix, max(summed.weight, 0.0), unit)

    def result(self, state: State, units: str) -> Result:
        """Tables "coefficients" and "fit", in the units of the columns; with strengths "path"."""
        now = np.asarray(state["coefficients"])
        matrix, summed = self._split(state["total"], now)
        counts, noises = self._counts(state["total"], units), (float(state["noise"][0]), float(state["noise"][1]))
        summed = summed._replace(hidden=inverse_of(matrix, noises[0])[1].shape[1])
        if self._adaptive:
            return adassp_result(matrix, summed, noises, self.family, self.terms, counts)
        if self.options.strengths:
            path, asked = self._path(state, matrix, summed), len(self.options.strengths)
            return shrunk_result(path, asked, self.family, self.terms, counts, not any(noises))
        sandwich = self._sandwich(state.get("meat"), summed) if self.options.robust else None
        fitted = Fitted(summed, state["step"], matrix, *noises, sandwich)
        return result_of(fitted, self.family, self.terms, counts, self.options.tolerance)

    def _counts(self, values: np.ndarray, units: str) -> Counts:
        found: Counts = [(f"{units} used", float(values[-2])), (f"{units} left out", float(values[-1]))]
        return [*found, ("sum of weights", float(values[-3]) * self._reading.unit)] if self._reading.weighted else found

    def _path(self, state: State, matrix: np.ndarray, summed: Summed) -> List[Shrunk]:
        """What came of each strength: of a linear model all from the same sums."""
        found = []
        for place, strength in enumerate(self.options.strengths):
            kept = state.get(f"path {place}")
            if isinstance(self.family, Linear):
                coefficients = minimum(matrix, summed.gradient, self._penalty(place, summed))
                deviance = self.family.deviance_at(coefficients, matrix, summed)
                found.append(Shrunk(strength, coefficients, deviance, 0.0))
            elif kept is not None:
                found.append(Shrunk(strength, kept[: len(self.terms)], float(kept[-2]), float(kept[-1])))
        return found

    def _sandwich(self, meat: Optional[np.ndarray], summed: Summed) -> Sandwich:
        """From the sums of the further round; without them nothing is known of errors."""
        terms, triangle, errors = len(self.terms), len(self._upper[0]), self.options.errors
        if meat is None:
            return Sandwich(np.full((terms, terms), math.nan), math.nan)
        counted = errors != CLUSTERED and self.options.weighting == FREQUENCY
        unit = self._reading.unit if counted else self._reading.unit**2
        scale = self.family.score_scale(self._ends(summed.coefficients), summed.more)
        scale = unit * scale**2 * (MOST_RECORDS**2 if errors == CLUSTERED else 1.0)
        products = self._symmetric(meat[:triangle] * scale)
        if 0 < meat[0] < LEAST_PRODUCTS:
            return Sandwich(np.full((terms, terms), math.nan), math.nan, (TOO_SMALL,))
        return sandwich_of(errors, products, float(meat[triangle]), float(meat[-2]), summed)

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is explained by what, and what else is asked."""
        features = self._reading.inputs.features
        names = [quoted(feature.name) for feature in features[:_SHOWN]]
        more = f" and {len(features) - _SHOWN} more" if len(features) > _SHOWN else ""
        options, lines = self.options, []
        if options.interactions:
            lines.append(f"and by products of {len(options.interactions)} pairs of them")
        if options.offset or options.exposure:
            lines.append(f"with the offset {quoted(options.offset or options.exposure)}")
        if options.weights:
            lines.append(f"each record weighted by {quoted(options.weights)} ({options.weighting})")
        if options.errors == CLUSTERED:
            lines.append("in a last round the sum, over patients, of products of each one's part of the gradient")
        elif self.options.robust:
            lines.append("in a last round the sum, over records, of products of each one's part of the gradient")
        if options.penalty != NO_PENALTY:
            lines.append(f"coefficients with the penalty {options.penalty}, which the gateway applies to the sums")
        return [
            f"{options.family} regression of {quoted(options.outcome)} with {len(self.terms)} coefficients",
            f"explained by {', '.join(names)}{more}",
            *lines,
        ]

    def _announced(self, asked: np.ndarray) -> _Announced:
        """Within what can be computed with whatever was announced."""
        values, size = from_pairs(asked), len(self.terms) + len(self.family.first_more)
        now, before = (np.clip(values[start : start + size], -1e6, 1e6) for start in (0, size))
        best, scored, place = values[2 * size :]
        most = max(0, len(self.options.strengths) - 1)
        asks = self.options.robust and bool(scored > 0.5)
        return _Announced(now, before, float(best), asks, int(np.clip(place, 0, most)))

    def _split(self, values: np.ndarray, now: np.ndarray) -> Tuple[np.ndarray, Summed]:
        """(information matrix, the rest) of a round's sums, where the parameters are `now`."""
        terms, triangle, options = len(self.terms), len(self._upper[0]), self.options
        matrix = self._symmetric(values[:triangle] * self.family.matrix_scale * self._reading.unit)
        gradient = values[triangle : triangle + terms] * self.family.gradient_scale * self._reading.unit
        cells = values[triangle + terms : triangle + terms + self.family.cells] * self._reading.unit
        used = float(values[-2])
        weight = float(values[-3]) * self._reading.unit if self._reading.weighted else used
        plain = options.weighting == FREQUENCY
        records = weight if plain else used
        shifted = self._reading.shifted
        return matrix, Summed(now[:terms], now[terms:], gradient, cells, weight, records, plain, shifted)

    def _symmetric(self, triangle: np.ndarray) -> np.ndarray:
        matrix = np.zeros((len(self.terms), len(self.terms)))
        matrix[self._upper] = triangle
        return matrix + np.triu(matrix, 1).T
