"""Families of generalized linear models: what a record adds at given coefficients, within -1 to 1, and what sums of that mean."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Dict, NamedTuple, Type

import numpy as np

from orchestrator.wire.schema import Feature

LIMIT = 40.0
"""Of a linear predictor, either way: exp of more is beyond every count and every share."""

MOST_COUNT = 1e6


class Parts(NamedTuple):
    """Of records: weight (n,) in the information matrix, residual (n,), cells (n, family.cells) of the log-likelihood."""

    weight: np.ndarray
    residual: np.ndarray
    cells: np.ndarray


class Family(ABC):
    """Over one outcome. `parts` are divided by `matrix_scale` and `gradient_scale`, so that they are within -1 to 1."""

    cells: ClassVar[int] = 1
    once: ClassVar[bool] = False
    """Whether one round is enough."""
    ratio: ClassVar[str] = ""
    """What exp of a coefficient is called; "" where it is nothing."""

    def __init__(self, outcome: Feature) -> None:
        self.outcome = outcome
        self.matrix_scale = self.gradient_scale = 1.0

    @classmethod
    @abstractmethod
    def objection(cls, outcome: Feature) -> str:
        """Why a column is no outcome of this family; "" where it is one."""

    @abstractmethod
    def parts(self, predictor: np.ndarray, outcome: np.ndarray) -> Parts:
        """outcome: (n,) a number's place in its range, -1 to 1; of a category 1 for its second level, else 0."""

    @abstractmethod
    def likelihood(self, cells: np.ndarray) -> float:
        """The log-likelihood, but for what no coefficient changes, of summed cells."""

    def constant(self, cells: np.ndarray) -> float:
        """What no coefficient changes of the log-likelihood."""
        return 0.0

    @property
    def first(self) -> float:
        """The intercept to begin with."""
        return 0.0


class Linear(Family):
    """An outcome with normal errors. Its sums do not depend on coefficients: X'X, X'y and y'y."""

    once = True

    @classmethod
    def objection(cls, outcome: Feature) -> str:
        return "it is a number without transform" if outcome.categories or outcome.transform else ""

    def parts(self, predictor: np.ndarray, outcome: np.ndarray) -> Parts:
        return Parts(np.ones(len(outcome)), outcome, outcome[:, np.newaxis] ** 2)

    def likelihood(self, cells: np.ndarray) -> float:
        return 0.0


class Logistic(Family):
    """Whether the second of two levels is there."""

    ratio = "odds ratio"

    def __init__(self, outcome: Feature) -> None:
        super().__init__(outcome)
        self.matrix_scale = 0.25  # p (1 - p) at most

    @classmethod
    def objection(cls, outcome: Feature) -> str:
        return (
            ""
            if len(outcome.categories) == 2
            else "it is a column with two categories, of which the second is the event"
        )

    def parts(self, predictor: np.ndarray, outcome: np.ndarray) -> Parts:
        mean = 1.0 / (1.0 + np.exp(-predictor))
        likelihood = -np.logaddexp(0.0, np.where(outcome > 0.5, -predictor, predictor)) / (LIMIT + 1)
        return Parts(4.0 * mean * (1.0 - mean), outcome - mean, likelihood[:, np.newaxis])

    def likelihood(self, cells: np.ndarray) -> float:
        return float(cells[0] * (LIMIT + 1))


class Poisson(Family):
    """A count. Means beyond the largest count there can be are counted as that, with the likelihood such a bound has."""

    cells = 2
    ratio = "rate ratio"

    def __init__(self, outcome: Feature) -> None:
        super().__init__(outcome)
        self._low, self._high = outcome.range
        self._most = max(1.0, self._high)
        self.matrix_scale = self.gradient_scale = self._most
        self._likelihood_scale = self._most * (2 * LIMIT + 1 + math.log(MOST_COUNT))
        self._factorial_scale = max(1.0, math.lgamma(self._most + 1.0))

    @classmethod
    def objection(cls, outcome: Feature) -> str:
        if outcome.categories or outcome.transform or outcome.range[0] < 0 or outcome.range[1] > MOST_COUNT:
            return f"it is a number of 0 to {MOST_COUNT:g} without transform"
        return ""

    def parts(self, predictor: np.ndarray, outcome: np.ndarray) -> Parts:
        counts = self._low + (self._high - self._low) * (1.0 + outcome) / 2
        mean = np.minimum(np.exp(predictor), self._most)
        beyond = self._most * np.maximum(predictor - math.log(self._most), 0.0)
        likelihood = (counts * predictor - mean - beyond) / self._likelihood_scale
        factorial = np.array([math.lgamma(value + 1.0) for value in counts]) / self._factorial_scale
        cells = np.stack([likelihood, np.clip(factorial, -1.0, 1.0)], axis=1)
        return Parts(mean / self._most, (counts - mean) / self._most, cells)

    def likelihood(self, cells: np.ndarray) -> float:
        return float(cells[0] * self._likelihood_scale)

    def constant(self, cells: np.ndarray) -> float:
        return -float(cells[1] * self._factorial_scale)

    @property
    def first(self) -> float:
        return math.log(max(0.5, self._most / 2))


FAMILIES: Dict[str, Type[Family]] = {"linear": Linear, "logistic": Logistic, "poisson": Poisson}


def clipped(predictor: np.ndarray) -> np.ndarray:
    """A linear predictor that can be computed with."""
    return np.asarray(np.clip(predictor, -LIMIT, LIMIT))
