"""Models whose outcomes spread more than their mean says, with a logarithm as link: gamma, and negative binomial (NB2).

Gamma: McCullagh and Nelder 1989, chapter 8. Negative binomial: variance m + alpha m^2 at a mean of m, Lawless 1987; alpha, where
it is not given, by Newton's method on -log(alpha) in the same rounds as the coefficients, which it does not depend on to first
order.
"""

import math
from typing import List, Tuple

import numpy as np

from orchestrator.analyses.families import MOST_COUNT, Poisson, times_log, with_aic
from orchestrator.analyses.family import (
    LIMIT,
    NO_MORE,
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
from orchestrator.analyses.rounding import settled_likelihood
from orchestrator.wire.schema import Feature

MOST_ALPHA = 1e4
"""Of a negative binomial model; at 1 over it, it is a Poisson model but for a thousandth or so."""

_LEAST = 1e-12
"""Outcome of a gamma model."""

_BEYOND = 10.0
"""How many times below the least or above the largest outcome, at the same offset, a mean of a gamma model may be."""


_MOST_SHARE = 1e6
"""How many times its mean an outcome of a gamma model is for its dispersion: shares add up to as many as there are."""


class Gamma(Family):
    """An outcome above 0 whose deviation grows with its mean, such as costs. The information is X'X, whatever the coefficients.

    A mean beyond `_BEYOND` is counted as that, and the likelihood goes on in a line. Cells: the log-likelihood -(log m + y / m),
    ((y - m) / m)^2, log y.
    """

    fixed = True
    ratio = "ratio of means"
    never_noised = "noise is as large as the largest outcome over the least, and a gamma model would drown in it"

    def __init__(self, outcome: Feature, offset: Tuple[float, float] = NO_OFFSET, exact: bool = False) -> None:
        super().__init__(outcome, offset, exact)
        self.cells = 3
        self._low, self._high = (math.log(end) for end in outcome.range)
        beyond = math.log(_BEYOND) + offset[1] - offset[0]
        self._lowest, self._highest = max(self._low - beyond, -LIMIT), min(self._high + beyond, LIMIT)
        self.gradient_scale = math.exp(self._high - self._lowest)
        self._share_scale = min(self.gradient_scale, _MOST_SHARE)
        farthest = LIMIT + max(abs(self._lowest), abs(self._highest))
        self._likelihood_scale = farthest * (1 + self.gradient_scale) + self.gradient_scale
        self._log_scale = max(1.0, abs(self._low), abs(self._high))

    @classmethod
    def objection(cls, outcome: Feature) -> str:
        if not outcome.categories and not outcome.transform:
            low, high = outcome.range
            if low >= _LEAST and high <= 1 / _LEAST and high <= MOST_COUNT * low:
                return ""
        return (
            f"it is a number without transform, from {_LEAST:g} to {1 / _LEAST:g}, whose range ends at most {MOST_COUNT:g} times "
            "where it begins"
        )

    def parts(self, predictor: np.ndarray, outcome: np.ndarray, more: np.ndarray) -> Parts:
        values = counted(outcome, self.outcome)
        inside = np.clip(predictor, self._lowest, self._highest)
        share = values * np.exp(-inside)
        likelihood = -(inside + share) + (predictor - inside) * (share - 1.0)
        squared = ((share - 1.0) / self._share_scale) ** 2
        cells = np.stack(
            [likelihood / self._likelihood_scale, squared, np.log(values) / self._log_scale],
            axis=1,
        )
        residual = (share - 1.0) / self.gradient_scale
        return Parts(np.ones(len(values)), np.clip(residual, -1.0, 1.0), np.clip(cells, -1.0, 1.0))

    def score_scale(self, ends: Tuple[float, float], more: np.ndarray) -> float:
        return max(1.0, math.exp(self._high - max(self._lowest, ends[0])))

    def likelihood(self, cells: np.ndarray) -> float:
        return float(cells[0] * self._likelihood_scale)

    def deviance(self, summed: Summed) -> float:
        logarithms = float(summed.cells[2] * self._log_scale)
        likelihood = self.likelihood(summed.cells)
        of = abs(likelihood) + abs(logarithms) + summed.weight
        scale = self._likelihood_scale + self._log_scale
        return -2 * settled_likelihood(likelihood + logarithms + summed.weight, of, summed.records, scale) + 0.0

    def spread(self, summed: Summed) -> float:
        """Pearson's: the mean of ((y - m) / m)^2; where the means are the outcomes within rounding, 0."""
        if not self.deviance(summed):
            return 0.0
        squares = float(summed.cells[1] * self._share_scale**2)
        return squares / summed.degrees if summed.degrees > 0 and squares > 0 else 0.0

    def exact_figures(self, summed: Summed) -> Figures:
        deviance = self.deviance(summed)
        found = [("deviance", deviance), ("dispersion", self.spread(summed))]
        if deviance <= 0 or summed.weight <= 0:
            return found
        shape = summed.weight / deviance  # for a likelihood, as R's glm has it
        logarithms = float(summed.cells[2] * self._log_scale)
        each = shape * math.log(shape) - math.lgamma(shape)
        likelihood = summed.weight * each + shape * self.likelihood(summed.cells) + (shape - 1) * logarithms
        aic = 2 * (summed.estimated + 1) - 2 * likelihood  # the dispersion is a parameter, too
        return [*found, ("log-likelihood", likelihood), ("AIC", aic)]

    @property
    def first(self) -> float:
        """High rather than low, where a step would go too far."""
        return self._high - sum(self.offset) / 2


class NegativeBinomial(Family):
    """A count. Means beyond `largest_mean` are counted as that, as of `Poisson`. alpha: 0 to estimate it.

    Cells, with r = 1 / alpha: the log-likelihood as far as it depends on the mean m, y log m - (y + r) log(1 + m / r); the rest
    of it; the first at a mean of y; and to estimate alpha the first and second derivative of the likelihood by log r.
    """

    ratio = "rate ratio"

    def __init__(
        self, outcome: Feature, offset: Tuple[float, float] = NO_OFFSET, exact: bool = False, alpha: float = 0.0
    ) -> None:
        super().__init__(outcome, offset, exact)
        self._alpha = alpha
        self.cells = 3 if alpha else 5
        self._most = max(1.0, outcome.range[1])
        self._reach = most = largest_mean(self._most, offset, exact)
        self.gradient_scale = most
        self.matrix_scale = most / (1 + alpha * most)
        grown = math.log1p((alpha or MOST_ALPHA) * most)
        self._likelihood_scale = most * (2 * LIMIT + 1 + grown)
        self._rest_scale = most * (grown + 1) + math.lgamma(most + 1) + 10
        self._full_scale = most * (1 + max(1.0, math.log(most)) + grown)
        # Neither derivative grows with the mean beyond the largest r there is.
        slow = 4 * (self._most + MOST_ALPHA * (2 + math.log1p(most / MOST_ALPHA)))
        self._newton_scale = min(8 * most, slow) + 8

    @classmethod
    def objection(cls, outcome: Feature) -> str:
        return Poisson.objection(outcome)

    def _shape(self, more: np.ndarray) -> float:
        """r = 1 / alpha."""
        return 1 / self._alpha if self._alpha else math.exp(float(np.clip(more[0], *_ENDS)))

    def parts(self, predictor: np.ndarray, outcome: np.ndarray, more: np.ndarray) -> Parts:
        r, most, counts = self._shape(more), self._reach, counted(outcome, self.outcome)
        inside = np.minimum(predictor, math.log(most))
        mean = np.exp(inside)
        beyond = (predictor - inside) * (counts - most) / (1 + most / r)
        likelihood = counts * inside - (counts + r) * np.log1p(mean / r) + beyond
        rest = log_gamma(counts + r) - math.lgamma(r) - counts * math.log(r) - log_gamma(counts + 1.0)
        full = times_log(counts, counts) - (counts + r) * np.log1p(counts / r)
        cells = [likelihood / self._likelihood_scale, rest / self._rest_scale, full / self._full_scale]
        if not self._alpha:
            cells += [each / self._newton_scale for each in _derivatives(counts, mean, r)]
        weight, residual = mean / (1 + mean / r), (counts - mean) / (1 + mean / r)
        found = np.clip(np.stack(cells, axis=1), -1.0, 1.0)
        return Parts(np.minimum(weight / self.matrix_scale, 1.0), residual / self.gradient_scale, found)

    def score_scale(self, ends: Tuple[float, float], more: np.ndarray) -> float:
        mean = min(self._reach, math.exp(ends[1]))
        return max(self._most, mean / (1 + mean / self._shape(more)))

    def likelihood(self, cells: np.ndarray) -> float:
        kernel = float(cells[0] * self._likelihood_scale)
        return kernel if self._alpha else kernel + float(cells[1] * self._rest_scale)

    def step(self, cells: np.ndarray, more: np.ndarray) -> np.ndarray:
        """Newton's where the likelihood is bent the right way, else one towards where it grows; neither is longer than 1."""
        if self._alpha:
            return NO_MORE
        slope, bend = (float(cells[place] * self._newton_scale) for place in (3, 4))
        step = np.clip(-slope / bend, -1.0, 1.0) if bend < 0 else np.sign(slope)
        return np.clip(more + step, *_ENDS) - more

    def notes(self, summed: Summed) -> List[str]:
        if self._alpha or self._shape(summed.more) < MOST_ALPHA:
            return []
        return ["counts spread no more than those of a Poisson model: use that"]

    @property
    def bound(self) -> str:
        return note_on_bound(self._most)

    @property
    def first_more(self) -> np.ndarray:
        return NO_MORE if self._alpha else np.zeros(1)

    def deviance(self, summed: Summed) -> float:
        full, kernel = summed.cells[2] * self._full_scale, summed.cells[0] * self._likelihood_scale
        scale = self._full_scale + self._likelihood_scale
        return 2 * settled_likelihood(float(full - kernel), float(abs(full) + abs(kernel)), summed.records, scale)

    def exact_figures(self, summed: Summed) -> Figures:
        kernel, rest = summed.cells[0] * self._likelihood_scale, summed.cells[1] * self._rest_scale
        parameters = summed.estimated + len(self.first_more)
        found = with_aic(self.deviance(summed), float(kernel + rest), parameters)
        alpha = 1 / self._shape(summed.more)
        if self._alpha:
            return [*found, ("alpha, given", alpha)]
        bend = float(summed.cells[4] * self._newton_scale)
        error = [("standard error of alpha", alpha / math.sqrt(-bend))] if bend < 0 else []
        return [*found, ("alpha", alpha), *error]

    @property
    def first(self) -> float:
        """As of `Poisson`."""
        return math.log(max(0.5, self._most / 2)) - sum(self.offset) / 2


_ENDS = (-math.log(MOST_ALPHA), math.log(MOST_ALPHA))
"""Of log r."""


def _derivatives(counts: np.ndarray, mean: np.ndarray, r: float) -> Tuple[np.ndarray, np.ndarray]:
    """First and second derivative by log r of a count's log-likelihood at a mean."""
    at, alone = polygamma(counts + r), polygamma(np.array([r]))
    first = at[0] - alone[0] - np.log1p(mean / r) + (mean - counts) / (r + mean)
    second = at[1] - alone[1] + (mean**2 + r * counts) / (r * (r + mean) ** 2)
    return r * first, r * first + r**2 * second


def polygamma(values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(digamma, trigamma) of positive numbers: raised to 10 and more by recurrence, there by their asymptotic series, to 1e-13
    (Abramowitz and Stegun 1964, 6.3.5, 6.3.18, 6.4.6 and 6.4.12).
    """
    x, first, second = values.astype(np.float64), np.zeros(values.shape), np.zeros(values.shape)
    for _ in range(10):
        low = x < 10.0
        first -= np.where(low, 1 / x, 0.0)
        second += np.where(low, 1 / x**2, 0.0)
        x = np.where(low, x + 1, x)
    y = 1 / x**2
    first += np.log(x) - 1 / (2 * x) - y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    series = 1 / 6 - y * (1 / 30 - y * (1 / 42 - y * (1 / 30 - y * 5 / 66)))
    return first, second + 1 / x + y / 2 + y / x * series
