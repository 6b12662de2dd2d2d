"""What a family of generalized linear models is: what a record adds at given coefficients, and what sums of that mean."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, List, NamedTuple, Tuple

import numpy as np

from orchestrator.wire.schema import Feature

LIMIT = 40.0
"""Of a linear predictor, either way: exp of more is beyond every count and every share."""

_BEYOND, _FARTHEST = 1e3, 1e6
"""How many times above the largest count, at one offset and over all, a mean may be where there is no noise: fitted means add up
to what counts do, so that none comes near. More would cost digits of exact sums of squares.
"""

NO_MORE = np.zeros(0)
NO_OFFSET = (0.0, 0.0)


class Parts(NamedTuple):
    """Of records: weight (n,) in the information matrix, residual (n,), cells (n, family.cells) of the log-likelihood."""

    weight: np.ndarray
    residual: np.ndarray
    cells: np.ndarray


class Summed(NamedTuple):
    """What sums over all records come to, in the units of the family: scales are multiplied in."""

    coefficients: np.ndarray  # over [-1, 1]
    more: np.ndarray  # parameters beyond the coefficients
    gradient: np.ndarray
    cells: np.ndarray
    weight: float  # sum of the records' weights; without weights how many there are
    records: float  # how many there are, each as often as it counts
    plain: bool = True  # whether a record counts as often as its weight says, or has none
    shifted: bool = False  # whether there is an offset
    hidden: int = 0  # directions of coefficients of which the sums say nothing, as of columns that say the same

    @property
    def estimated(self) -> int:
        """Coefficients that are: the rank of the information matrix."""
        return len(self.coefficients) - self.hidden

    @property
    def degrees(self) -> float:
        """Records beyond coefficients."""
        return self.records - self.estimated


Figures = List[Tuple[str, float]]


class Fit(ABC):
    """What tables of a fitted model ask of it, over one outcome."""

    once: ClassVar[bool] = False
    """Whether one round is enough."""
    ratio: ClassVar[str] = ""
    """What exp of a coefficient is called; "" where it is nothing."""

    def __init__(self, outcome: Feature) -> None:
        self.outcome = outcome

    @property
    def outcome_unit(self) -> float:
        """What outcomes were divided by."""
        return 1.0

    def spread(self, summed: Summed) -> float:
        """The dispersion: what the inverse information is multiplied by for a covariance; 0 where it is not known."""
        return 1.0

    def figures(self, summed: Summed) -> Figures:
        """Of the whole model, where sums may carry noise."""
        return []

    @abstractmethod
    def exact_figures(self, summed: Summed) -> Figures:
        """Those that only exact sums have."""

    def notes(self, summed: Summed) -> List[str]:
        """What people must know of its parameters."""
        return []

    @property
    def bound(self) -> str:
        """What people must know of a bound on means where sums carry noise; "" where there is none."""
        return ""


class Family(Fit):
    """A fit that is summed record by record, of an outcome to which there is no objection.

    `parts` are over `matrix_scale` and `gradient_scale`, within -1 to 1. offset: the range of what is added to the linear
    predictor.
    """

    fixed: ClassVar[bool] = False
    """Whether the information, or all there is, is the same whatever the coefficients."""
    never_noised: ClassVar[str] = ""
    """Why its sums would drown in noise; "" where they need not."""

    def __init__(self, outcome: Feature, offset: Tuple[float, float] = NO_OFFSET, exact: bool = False) -> None:
        """exact: sums carry no noise, which would be as large as the largest mean."""
        super().__init__(outcome)
        self.offset, self.exact = offset, exact
        self.cells, self.matrix_scale, self.gradient_scale = 1, 1.0, 1.0

    @classmethod
    @abstractmethod
    def objection(cls, outcome: Feature) -> str:
        """Why a column is no outcome of this family; "" where it is one."""

    @abstractmethod
    def parts(self, predictor: np.ndarray, outcome: np.ndarray, more: np.ndarray) -> Parts:
        """outcome: (n,) a number's place in its range, -1 to 1; of a category 1 for its second level, else 0."""

    def score(self, predictor: np.ndarray, outcome: np.ndarray, more: np.ndarray, scale: float) -> np.ndarray:
        """float64 (n,) within -1 to 1: what of a record's gradient is not its inputs, over a `score_scale`."""
        return np.clip(self.parts(predictor, outcome, more).residual * (self.gradient_scale / scale), -1.0, 1.0)

    def score_scale(self, ends: Tuple[float, float], more: np.ndarray) -> float:
        """Of `score`, where linear predictors are between these ends: sums are of its square, so that no digits may be lost on
        means that coefficients at hand cannot have.
        """
        return self.gradient_scale

    def shift(self, outcome: np.ndarray, offset: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(outcome, what is added to the linear predictor) with an offset (n,)."""
        return outcome, offset

    @abstractmethod
    def likelihood(self, cells: np.ndarray) -> float:
        """The log-likelihood, but for what no parameter changes, of summed cells."""

    @abstractmethod
    def deviance(self, summed: Summed) -> float:
        """Twice how far the log-likelihood is from that of a model with a parameter for each record, at a dispersion of 1."""

    def step(self, cells: np.ndarray, more: np.ndarray) -> np.ndarray:
        """By how much the parameters beyond the coefficients move."""
        return NO_MORE

    @property
    def first_more(self) -> np.ndarray:
        """These parameters to begin with."""
        return NO_MORE

    @property
    def first(self) -> float:
        """The intercept to begin with."""
        return 0.0


def largest_mean(most: float, offset: Tuple[float, float], exact: bool) -> float:
    """Of a count: with noise the largest count, and without what no fitted mean comes near, so that all can be computed with.

    With an exposure the mean is a rate times it: largest where the rate is that of the largest count at the least exposure.
    """
    return most * min(_FARTHEST, _BEYOND * math.exp(offset[1] - offset[0])) if exact else most


def note_on_bound(most: float) -> str:
    """What noise makes of means beyond the largest count."""
    return (
        f"with noise a mean above {most:g}, the largest count there can be, counts as that: with an exposure, or counts near the "
        "largest, estimates differ from those without noise; a larger maximum of the outcome's range helps, and brings more noise"
    )


def clipped(predictor: np.ndarray) -> np.ndarray:
    """A linear predictor that can be computed with."""
    return np.asarray(np.clip(predictor, -LIMIT, LIMIT))


def counted(outcome: np.ndarray, feature: Feature) -> np.ndarray:
    """float64 (n,): outcomes in their own units, of places in their range."""
    low, high = feature.range
    return low + (high - low) * (1.0 + outcome) / 2


def log_gamma(values: np.ndarray) -> np.ndarray:
    """float64, of positive numbers: nodes have no SciPy, and few values that differ."""
    distinct, places = np.unique(values, return_inverse=True)
    return np.array([math.lgamma(value) for value in distinct])[places.reshape(values.shape)]
