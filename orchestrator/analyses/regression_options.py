"""What a regression may be asked: options, and which of them go together."""

from dataclasses import dataclass
from typing import Dict, Iterator, Tuple, Type

from orchestrator.analyses.dispersed import MOST_ALPHA, Gamma, NegativeBinomial
from orchestrator.analyses.families import Linear, Logistic, Poisson
from orchestrator.analyses.family import Family
from orchestrator.analyses.inputs import MOST_PAIRS, MOST_TERMS
from orchestrator.analyses.meat import CLUSTERED, ERRORS, MODEL
from orchestrator.analyses.penalty import ADASSP, ELASTIC_NET, MOST_STRENGTHS, PENALTIES
from orchestrator.wire.bounds import count, not_negative, one_of, refuse, within
from orchestrator.wire.schema import Schema

LINEAR, NEGATIVE_BINOMIAL = "linear", "negative-binomial"
FAMILIES: Dict[str, Type[Family]] = {
    LINEAR: Linear,
    "logistic": Logistic,
    "poisson": Poisson,
    "gamma": Gamma,
    NEGATIVE_BINOMIAL: NegativeBinomial,
}
FREQUENCY, PRECISION = "frequency", "precision"
NO_PENALTY = PENALTIES[0]


@dataclass(frozen=True)
class RegressionOptions:
    """Of kind "regression"."""

    # what is explained: a number; of logistic a column with two categories, the second is the event [a column]
    outcome: str
    # of what kind the outcome is: any number; one of two; a count; a number above 0; a count that spreads more than Poisson's,
    # with variance m + alpha m^2 [linear, logistic, poisson, gamma, negative-binomial]
    family: str = "linear"
    inputs: Tuple[str, ...] = ()  # columns it is explained by; left out: all others [columns]
    # pairs of inputs whose products are inputs, too; a number with itself is its square [pairs of column names]
    interactions: Tuple[Tuple[str, ...], ...] = ()
    # a number that is added to the linear predictor as it is; with transform "log" its logarithm [a column, or empty]
    offset: str = ""
    exposure: str = ""  # a number above 0 whose logarithm is added, such as time in view [a column, or empty]
    weights: str = ""  # a number of 0 or more: for how much a record counts [a column, or empty]
    weighting: str = FREQUENCY  # so many records like this one, or one so many times as precise [frequency, precision]
    # of negative-binomial; 0: estimated, without noise only [0, or 0.0001 to 10000]
    alpha: float = 0.0
    # standard errors: of the model; of records whose variance may be any; with the factor n / (n - k); of patients, whose records
    # may hang together; all but the first take a further round, without noise [model, hc0, hc1, clustered]
    errors: str = MODEL
    # on coefficients but the intercept, of inputs within -1 to 1, without standard errors; adassp: of linear with noise, a ridge
    # that follows from the noise [none, ridge, lasso, elasticnet, adassp]
    penalty: str = NO_PENALTY
    # strengths (lambda) of ridge, lasso or elasticnet: one, or a path, each from where the one before ended [numbers of 0 or
    # more]
    strengths: Tuple[float, ...] = ()
    mix: float = 0.5  # of elasticnet: 0 is ridge, 1 is lasso [0 to 1]
    rounds: int = 25  # at most, for each strength; linear takes one [1 to 1000]
    tolerance: float = 1e-9  # it ends when no coefficient moves further, in units of half a range [0 or more]

    def __post_init__(self) -> None:
        wrong = [*one_of("family", self.family, tuple(FAMILIES)), *count("rounds", self.rounds, 1, 1000)]
        wrong += count("inputs", len(self.inputs), 0, MOST_TERMS)
        wrong += count("interactions", len(self.interactions), 0, MOST_PAIRS)
        if any(len(pair) != 2 for pair in self.interactions):
            wrong.append("interactions: each is of two columns")
        wrong += one_of("weighting", self.weighting, (FREQUENCY, PRECISION))
        wrong += one_of("errors", self.errors, ERRORS)
        wrong += self._wrong_of_penalty()
        if self.alpha:
            wrong += within(
                "alpha", self.alpha, 1 / MOST_ALPHA, MOST_ALPHA, f"0, or {1 / MOST_ALPHA:g} to {MOST_ALPHA:g}"
            )
        refuse([*wrong, *not_negative("tolerance", self.tolerance)])

    def _wrong_of_penalty(self) -> Iterator[str]:
        yield from one_of("penalty", self.penalty, PENALTIES)
        yield from within("mix", self.mix, 0.0, 1.0)
        yield from count("strengths", len(self.strengths), 0, MOST_STRENGTHS)
        for strength in self.strengths[:MOST_STRENGTHS]:
            yield from within("strengths", strength, 0.0, 1e12, "0 to 1e12")

    @property
    def robust(self) -> bool:
        """Whether errors take a further round."""
        return self.errors != MODEL

    def objections(self, schema: Schema) -> Iterator[str]:
        """Which options make no sense together, or with the schema."""
        if self.alpha and self.family != NEGATIVE_BINOMIAL:
            yield f"alpha: a {self.family} model has none"
        if self.weighting != FREQUENCY and not self.weights:
            yield "weighting: there are no weights"
        if self.errors == CLUSTERED and not schema.patient:
            yield "errors: 'clustered' needs schema.patient, the column that says whose record it is"
        if self.robust and self.penalty != NO_PENALTY:
            yield f"errors: {self.errors!r}, and coefficients with a penalty have none; leave it out"
        if (self.penalty in (NO_PENALTY, ADASSP)) == bool(self.strengths):
            expected = "expected none" if self.strengths else "expected one at least"
            yield f"strengths: {len(self.strengths)} of penalty {self.penalty!r}, {expected}"
        if self.mix != RegressionOptions.mix and self.penalty != ELASTIC_NET:
            yield f"mix: penalty {self.penalty!r} has none"
        if self.penalty == ADASSP and self.family != LINEAR:
            yield "penalty: 'adassp' is of linear models"
        if self.penalty != NO_PENALTY and self.estimates_alpha:
            yield "alpha: with a penalty it is given, not estimated"

    @property
    def estimates_alpha(self) -> bool:
        """Of a negative binomial model."""
        return self.family == NEGATIVE_BINOMIAL and not self.alpha

    def objection_to(self, noisy: bool, family: Family) -> str:
        """As `Analysis.objection_to`."""
        if not noisy:
            alone = self.penalty == ADASSP
            return "the ridge of 'adassp' follows from the noise; without noise leave the penalty out" if alone else ""
        if self.robust:
            return (
                f"products of single ones' gradients drown in noise, so that errors {self.errors!r} would mean nothing"
            )
        if self.estimates_alpha:
            return "noise would leave nothing of an estimated alpha; give one"
        if len(self.strengths) > 1 and not family.once:
            return "each of several strengths takes rounds of its own, and all of them noise; give one"
        return family.never_noised
