"""How well an attack tells two neighbouring data sets apart, as a lower bound on epsilon that holds with confidence.

A mechanism that is (epsilon, delta)-private allows P[guess | in] <= e^epsilon P[guess | out] + delta for any guess. Counted rates
are replaced by Clopper-Pearson bounds, so that a private mechanism exceeds its claim only with probability 1 - confidence.
"""

import math
from typing import Tuple

import numpy as np
from scipy.stats import beta

CONFIDENCE = 1 - 1e-6
"""So high that a test of a mechanism that holds does not fail by chance."""


def lower_bound(hits: int, n: int, false: int, m: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """Epsilon that is at least spent by what guesses right in `hits` of `n` cases and wrong in `false` of `m`; 0 at least."""
    risk = (1 - confidence) / 2
    low = float(beta.ppf(risk, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - risk, false + 1, m - false)) if false < m else 1.0
    return max(0.0, math.log((low - delta) / high)) if low > delta else 0.0


def tell_apart(one: np.ndarray, other: np.ndarray, delta: float, confidence: float = CONFIDENCE) -> float:
    """The lower bound of a simple attack on draws (n, size), or (n,), of what two neighbours release.

    The first half of the draws chooses direction and threshold, the second half is counted; both sides are guessed.
    """
    (learn_one, test_one), (learn_other, test_other) = _halves(one), _halves(other)
    # Each value by its own spread; what never varied in either counts most of all.
    spread = np.sqrt(learn_one.var(axis=0) + learn_other.var(axis=0))
    between = learn_one.mean(axis=0) - learn_other.mean(axis=0)
    scale = np.abs(between).max(initial=0.0) * 1e-6 + 1e-300
    direction = between / (spread**2 + scale)
    cut = float(_along(learn_one, direction).mean() + _along(learn_other, direction).mean()) / 2
    hits, false = (int((_along(test, direction) > cut).sum()) for test in (test_one, test_other))
    n, m, risk = len(test_one), len(test_other), 1 - (1 - confidence) / 2
    return max(
        lower_bound(hits, n, false, m, delta, risk),
        lower_bound(m - false, m, n - hits, n, delta, risk),
    )


def _halves(draws: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    rows = np.asarray(draws, np.float64).reshape(len(draws), -1)
    half = len(rows) // 2
    return rows[:half], rows[half:]


def _along(rows: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return rows @ direction
