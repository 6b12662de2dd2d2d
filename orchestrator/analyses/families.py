"""Linear, logistic and Poisson models (McCullagh and Nelder 1989, chapters 3, 4 and 6)."""

import math
from typing import Tuple

import numpy as np

from orchestrator.analyses.family import (
    LIMIT,
    NO_OFFSET,
    Family,
    Figures,
    Parts,
    Summed,
    counted,
    largest_mean,
    log_gamma,
    note_on_bound,
)
from orchestrator.analyses.rounding import settled, settled_likelihood
from orchestrator.wire.schema import Feature

MOST_COUNT = 1e6


class Linear(Family):
    """An outcome with normal errors. Its sums do not depend on coefficients: X'X, X'y and y'y. An offset is subtracted from y."""

    once = fixed = True

    def __init__(self, outcome: Feature, offset: Tuple[float, float] = NO_OFFSET, exact: bool = False) -> None:
        super().__init__(outcome, offset, exact)
        self._half = (outcome.range[1] - outcome.range[0]) / 2
        self.gradient_scale = 1.0 + max(map(abs, offset)) / self._half

    @classmethod
    def objection(cls, outcome: Feature) -> str:
        return "it is a number without transform" if outcome.categories or outcome.transform else ""

    def shift(self, outcome: np.ndarray, offset: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        return outcome - offset / self._half, np.zeros(len(outcome))

    def parts(self, predictor: np.ndarray, outcome: np.ndarray, more: np.ndarray) -> Parts:
        scaled = outcome / self.gradient_scale
        return Parts(np.ones(len(outcome)), scaled, scaled[:, np.newaxis] ** 2)

    def score(self, predictor: np.ndarray, outcome: np.ndarray, more: np.ndarray, scale: float) -> np.ndarray:
        return np.clip((outcome - predictor) / scale, -1.0, 1.0)

    def score_scale(self, ends: Tuple[float, float], more: np.ndarray) -> float:
        return self.gradient_scale + LIMIT

    def likelihood(self, cells: np.ndarray) -> float:
        return 0.0

    def _squares(self, summed: Summed) -> float:
        return float(summed.cells[0]) * self.gradient_scale**2

    def _residual(self, summed: Summed) -> float:
        squares = self._squares(summed)
        found = squares - float(summed.coefficients @ summed.gradient)
        return self._settled(found, squares, 1 + len(summed.coefficients), summed)

    def _settled(self, difference: float, squares: float, terms: int, summed: Summed) -> float:
        return float(settled(difference, squares * terms, summed.records, self.gradient_scale**2 * terms))

    def spread(self, summed: Summed) -> float:
        residual = self._residual(summed)
        return residual / summed.degrees if summed.degrees > 0 and residual > 0 else 0.0

    def deviance(self, summed: Summed) -> float:
        return self._half**2 * self._residual(summed)

    @property
    def outcome_unit(self) -> float:
        return self._half

    def deviance_at(self, coefficients: np.ndarray, matrix: np.ndarray, summed: Summed) -> float:
        """`deviance` at other coefficients: the sums are those of all. matrix: the information."""
        squares = self._squares(summed)
        residual = squares - float(2 * coefficients @ summed.gradient - coefficients @ matrix @ coefficients)
        return self._half**2 * self._settled(residual, squares, 1 + len(coefficients), summed)

    def figures(self, summed: Summed) -> Figures:
        spread = self.spread(summed)
        if not spread:
            return []
        found = [("residual standard deviation", self._half * math.sqrt(spread))]
        squares, mean = self._squares(summed), float(summed.gradient[0]) ** 2 / summed.weight
        around = self._settled(squares - mean, squares, 1, summed)
        if around > 0 and not summed.shifted:  # with an offset a mean explains nothing
            found.append(("R squared", 1 - self._residual(summed) / around))
        return found

    def exact_figures(self, summed: Summed) -> Figures:
        deviance = self.deviance(summed)
        if not summed.plain or deviance <= 0:  # a likelihood would have the logarithms of all weights in it
            return [("deviance", deviance)]
        likelihood = -summed.records / 2 * (math.log(2 * math.pi * deviance / summed.records) + 1)
        aic = 2 * (summed.estimated + 1) - 2 * likelihood  # the deviation is a parameter, too
        return [("deviance", deviance), ("log-likelihood", likelihood), ("AIC", aic)]


class Logistic(Family):
    """Whether the second of two levels is there."""

    ratio = "odds ratio"

    def __init__(self, outcome: Feature, offset: Tuple[float, float] = NO_OFFSET, exact: bool = False) -> None:
        super().__init__(outcome, offset, exact)
        self.matrix_scale = 0.25  # p (1 - p) at most

    @classmethod
    def objection(cls, outcome: Feature) -> str:
        return (
            ""
            if len(outcome.categories) == 2
            else "it is a column with two categories, of which the second is the event"
        )

    def parts(self, predictor: np.ndarray, outcome: np.ndarray, more: np.ndarray) -> Parts:
        mean = 1.0 / (1.0 + np.exp(-predictor))
        likelihood = -np.logaddexp(0.0, np.where(outcome > 0.5, -predictor, predictor)) / (LIMIT + 1)
        return Parts(4.0 * mean * (1.0 - mean), outcome - mean, likelihood[:, np.newaxis])

    def likelihood(self, cells: np.ndarray) -> float:
        return float(cells[0] * (LIMIT + 1))

    def deviance(self, summed: Summed) -> float:
        return -2 * self.likelihood(summed.cells)

    def exact_figures(self, summed: Summed) -> Figures:
        likelihood = self.likelihood(summed.cells)
        return with_aic(self.deviance(summed), likelihood, summed.estimated)


class Poisson(Family):
    """A count. Means beyond `largest_mean` are counted as that, with the likelihood such a bound has.

    Cells: the log-likelihood; of each count y, log y!, and the log-likelihood at a mean of y.
    """

    ratio = "rate ratio"

    def __init__(self, outcome: Feature, offset: Tuple[float, float] = NO_OFFSET, exact: bool = False) -> None:
        super().__init__(outcome, offset, exact)
        self.cells = 3
        self.most = max(1.0, outcome.range[1])
        self._reach = largest_mean(self.most, offset, exact)
        self.matrix_scale = self.gradient_scale = self._reach
        self._likelihood_scale = self._reach * (2 * LIMIT + 1 + math.log(MOST_COUNT))
        self._factorial_scale = max(1.0, math.lgamma(self.most + 1.0))
        self._full_scale = self.most * max(1.0, math.log(self.most))

    @classmethod
    def objection(cls, outcome: Feature) -> str:
        if outcome.categories or outcome.transform or outcome.range[0] < 0 or outcome.range[1] > MOST_COUNT:
            return f"it is a number of 0 to {MOST_COUNT:g} without transform"
        return ""

    def parts(self, predictor: np.ndarray, outcome: np.ndarray, more: np.ndarray) -> Parts:
        counts = counted(outcome, self.outcome)
        mean = np.minimum(np.exp(predictor), self._reach)
        beyond = self._reach * np.maximum(predictor - math.log(self._reach), 0.0)
        likelihood = (counts * predictor - mean - beyond) / self._likelihood_scale
        factorial = log_gamma(counts + 1.0) / self._factorial_scale
        full = (times_log(counts, counts) - counts) / self._full_scale
        cells = np.clip(np.stack([likelihood, factorial, full], axis=1), -1.0, 1.0)
        return Parts(mean / self._reach, (counts - mean) / self._reach, cells)

    def score_scale(self, ends: Tuple[float, float], more: np.ndarray) -> float:
        return max(self.most, min(self._reach, math.exp(ends[1])))

    @property
    def bound(self) -> str:
        return note_on_bound(self.most)

    def likelihood(self, cells: np.ndarray) -> float:
        return float(cells[0] * self._likelihood_scale)

    def deviance(self, summed: Summed) -> float:
        full, likelihood = float(summed.cells[2] * self._full_scale), self.likelihood(summed.cells)
        scale = self._full_scale + self._likelihood_scale
        return 2 * settled_likelihood(full - likelihood, abs(full) + abs(likelihood), summed.records, scale)

    def exact_figures(self, summed: Summed) -> Figures:
        likelihood = self.likelihood(summed.cells) - float(summed.cells[1] * self._factorial_scale)
        return with_aic(self.deviance(summed), likelihood, summed.estimated)

    @property
    def first(self) -> float:
        """High rather than low, where a step would go too far."""
        return math.log(max(0.5, self.most / 2)) - sum(self.offset) / 2


def with_aic(deviance: float, likelihood: float, parameters: int) -> Figures:
    """The figures of a fitted model (Akaike 1974)."""
    return [("deviance", deviance), ("log-likelihood", likelihood), ("AIC", 2 * parameters - 2 * likelihood)]


def times_log(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """values log(of), which is 0 where values are."""
    return np.asarray(values * np.log(np.where(values > 0, of, 1.0)))
