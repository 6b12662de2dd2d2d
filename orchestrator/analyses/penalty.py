"""Penalties on coefficients, which the gateway's half alone applies, to the summed quadratic form of a Newton step.

Ridge, lasso and elastic net as of Friedman, Hastie and Tibshirani 2010 (J Stat Software 33:1): minus the log-likelihood over the
sum of weights, plus lambda (mix |b|_1 + (1 - mix) / 2 |b|_2^2), b without the intercept and over inputs as they are summed:
numbers over [-1, 1], levels as 0 or 1. AdaSSP as of Wang 2018 (UAI; arXiv 1803.02596).
"""

import math
from typing import NamedTuple, Optional

import numpy as np

RIDGE, LASSO, ELASTIC_NET, ADASSP = "ridge", "lasso", "elasticnet", "adassp"
PENALTIES = ("none", RIDGE, LASSO, ELASTIC_NET, ADASSP)
MOST_STRENGTHS = 50

_SWEEPS = 10_000
_RISK = 0.05
"""With which noise may be larger than AdaSSP counts on."""


class Penalty(NamedTuple):
    """absolute, squared: what |b|_1 and |b|_2^2 / 2 are multiplied by, over all records together. The intercept is free."""

    absolute: float
    squared: float

    def value(self, coefficients: np.ndarray) -> float:
        """What is added to minus the log-likelihood."""
        free = coefficients[1:]
        return float(self.absolute * np.abs(free).sum() + self.squared / 2 * free @ free)


def penalty_of(kind: str, strength: float, mix: float, weight: float, unit: float) -> Penalty:
    """weight: of all records. unit: of the outcome, where it was divided by one, as of a linear model by half of its range."""
    share = {RIDGE: 0.0, LASSO: 1.0}.get(kind, mix)
    # Coefficients of an outcome divided by `unit` are smaller by that: |b|_1 by it, |b|_2^2 and the likelihood by its square.
    return Penalty(weight * strength * share / unit, weight * strength * (1 - share))


def minimum(matrix: np.ndarray, linear: np.ndarray, penalty: Penalty) -> np.ndarray:
    """The b with the least b'Hb / 2 - c'b + penalty, for a symmetric H (n, n) whose noise may have made it indefinite."""
    values, vectors = np.linalg.eigh(matrix)
    bent = (vectors * np.maximum(values, 1e-12 * max(float(values.max(initial=0.0)), 1.0))) @ vectors.T
    curved = bent + np.diag(np.append(0.0, np.full(len(linear) - 1, penalty.squared)))
    if not penalty.absolute:
        return np.asarray(np.linalg.solve(curved, linear))
    thresholds = np.append(0.0, np.full(len(linear) - 1, penalty.absolute))
    found, signs = np.zeros(len(linear)), np.full(len(linear), np.nan)
    for _ in range(_SWEEPS):
        _sweep(found, curved, linear, thresholds)
        if np.array_equal(np.sign(found), signs):
            exact = _on(found, curved, linear, thresholds)
            if exact is not None:
                return exact
        signs = np.sign(found)
    return found


def _sweep(found: np.ndarray, curved: np.ndarray, linear: np.ndarray, thresholds: np.ndarray) -> None:
    """Coordinate descent over all coefficients, once."""
    for place in range(len(found)):
        pull = linear[place] - curved[place] @ found + curved[place, place] * found[place]
        kept = max(abs(pull) - thresholds[place], 0.0)
        found[place] = math.copysign(kept, pull) / curved[place, place]


def _on(found: np.ndarray, curved: np.ndarray, linear: np.ndarray, thresholds: np.ndarray) -> Optional[np.ndarray]:
    """The minimum among coefficients of these signs, where it is that of all; else None."""
    active = found != 0
    exact = np.zeros(len(found))
    wanted = linear[active] - thresholds[active] * np.sign(found[active])
    exact[active] = np.linalg.solve(curved[np.ix_(active, active)], wanted)
    same = np.array_equal(np.sign(exact)[1:], np.sign(found)[1:])
    slope = np.abs(linear - curved @ exact)
    within = (slope <= thresholds * (1 + 1e-9) + 1e-12 * np.abs(linear).max(initial=0.0))[~active].all()
    return exact if same and within else None


def adaptive_ridge(matrix: np.ndarray, noise: float) -> float:
    """AdaSSP's ridge, of a symmetric matrix (n, n) with noise of this standard deviation on each value of its triangle.

    With all but a risk of 5 % noise is no longer than t = noise sqrt(n log(2 n^2 / 0.05)) in any direction. Wang releases the
    least eigenvalue for itself, with a third of the budget; here it is that of the released matrix less t, which costs nothing.
    """
    terms = len(matrix)
    reach = noise * math.sqrt(terms * math.log(2 * terms**2 / _RISK))
    least = max(0.0, float(np.linalg.eigvalsh(matrix)[0]) - reach)
    return max(0.0, reach - least)
