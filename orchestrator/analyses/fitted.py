"""From the last round of a regression to its tables: estimates, errors and intervals in the units of the columns."""

import math
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import CERTAINTY, Cell, Result, Table
from orchestrator.analyses.family import Fit, Summed
from orchestrator.analyses.inputs import Term, to_units
from orchestrator.analyses.meat import Sandwich

SINGULAR = 1e-10
"""Smallest over largest eigenvalue of an information matrix below which some of its columns say the same."""

APART = 12.0
"""A coefficient, in half ranges or for a level, from which a model that does not converge counts as separated."""

Counts = List[Tuple[str, float]]
"""What a table "fit" begins with."""

_LARGEST_EXPONENT = 700.0


class Fitted(NamedTuple):
    """step: the last one. matrix: the information where it was made. sandwich: for robust errors.

    *_noise: standard deviation of the noise on each value of matrix and gradient; 0 without.
    """

    summed: Summed
    step: np.ndarray
    matrix: np.ndarray
    matrix_noise: float = 0.0
    gradient_noise: float = 0.0
    sandwich: Optional[Sandwich] = None


def inverse_of(matrix: np.ndarray, noise: float) -> Tuple[np.ndarray, np.ndarray]:
    """(pseudo-inverse of a symmetric matrix, (n, k) directions it leaves out).

    Left out is what is next to nothing, or drowns in noise of that standard deviation on each value, whose own eigenvalues reach
    to about twice the root of n of it.
    """
    values, vectors = np.linalg.eigh(matrix)
    least = max(SINGULAR * float(values.max(initial=0.0)), 2 * noise * math.sqrt(len(matrix)), 0.0)
    kept = values > least
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T, vectors[:, ~kept]


def result_of(fitted: Fitted, fit: Fit, terms: Sequence[Term], counts: Counts, tolerance: float) -> Result:
    """Tables "coefficients" and "fit" of a model with these terms."""
    inverse, lost = inverse_of(fitted.matrix, fitted.matrix_noise)
    change, shift = in_column_units(fit, terms)
    estimates = change @ fitted.summed.coefficients + shift
    variances = np.einsum("ij,jk,ik->i", change, _covariance(fitted, fit, inverse), change)
    hidden = [_hidden(row, lost) for row in change]
    unknown, whole = [not variance > 0 for variance in variances], _explains_all(fitted, fit)
    degrees = fitted.summed.degrees if fitted.sandwich is None else fitted.sandwich.degrees
    rows: List[Tuple[Cell, ...]] = []
    for term, estimate, variance, gone, unsure in zip(terms, estimates, variances, hidden, unknown):
        columns = 6 + bool(fit.ratio)
        row: Tuple[Cell, ...] = (None,) * columns
        if not gone and not unsure:
            row = _figures(float(estimate), math.sqrt(variance), degrees, fit)
        elif not gone and whole:
            row = float(estimate), *row[1:]
        rows.append((term.name, *row))
    ratio = (fit.ratio,) if fit.ratio else ()
    tested = "t" if fit.once else "z"
    heads = ("term", "estimate", "standard error", "from", "to", tested, "p", *ratio)
    tables = [Table("coefficients", heads, rows, tested), _fit(fitted, fit, counts)]
    names = [term.name for term, gone in zip(terms, hidden) if gone]
    unsure_of = [term.name for term, gone, unsure in zip(terms, hidden, unknown) if unsure and not gone]
    return Result(tables, list(_notes(fitted, fit, terms, names, unsure_of, tolerance)))


def _explains_all(fitted: Fitted, fit: Fit) -> bool:
    """Whether nothing is left of the outcome beyond the model, with records to see it by."""
    exact = not fitted.gradient_noise and fitted.sandwich is None
    return exact and fitted.summed.degrees > 0 and not fit.spread(fitted.summed)


def _covariance(fitted: Fitted, fit: Fit, inverse: np.ndarray) -> np.ndarray:
    """Of the coefficients over [-1, 1]."""
    if fitted.sandwich is not None:
        return inverse @ fitted.sandwich.middle @ inverse
    # Noise on the gradient moves the result by the inverse times it; that on the matrix by as much times how far the step went.
    moved = float(np.linalg.norm(fitted.step))
    noise = fitted.gradient_noise**2 + (fitted.matrix_noise * moved) ** 2
    return np.asarray(fit.spread(fitted.summed) * inverse + noise * inverse @ inverse)


def _figures(estimate: float, error: float, degrees: float, fit: Fit) -> Tuple[Cell, ...]:
    """estimate, standard error, interval of 95 %, estimate over error, p, and exp of the estimate."""
    value = estimate / error
    if fit.once:
        from scipy.special import stdtr, stdtrit  # late: nodes do without, and a gateway until its end

        half, p = float(stdtrit(degrees, 0.975)) * error, 2 * float(stdtr(degrees, -abs(value)))
    else:
        half, p = CERTAINTY * error, math.erfc(abs(value) / math.sqrt(2))
    more = (math.exp(min(estimate, _LARGEST_EXPONENT)),) if fit.ratio else ()
    return estimate, error, estimate - half, estimate + half, value, p, *more


def _fit(fitted: Fitted, fit: Fit, counts: Counts) -> Table:
    figures = fit.figures(fitted.summed)
    figures = figures if fitted.gradient_noise else [*figures, *fit.exact_figures(fitted.summed)]
    return fit_table([*counts, *figures])


def fit_table(figures: Counts) -> Table:
    """Table "fit"."""
    return Table("fit", ("figure", "value"), [(name, _plain(value)) for name, value in figures])


def in_column_units(fit: Fit, terms: Sequence[Term]) -> Tuple[np.ndarray, np.ndarray]:
    """(matrix, constant) that make coefficients in the columns' units of those over [-1, 1]."""
    change, shift = to_units(terms), np.zeros(len(terms))
    if fit.once:
        low, high = fit.outcome.range
        change *= fit.outcome_unit
        shift[0] = (low + high) / 2
    return change, shift


def _hidden(row: np.ndarray, lost: np.ndarray) -> bool:
    """Whether a coefficient has a part in directions of which the sums say nothing."""
    return bool(np.abs(row @ lost).max(initial=0.0) > 1e-6 * np.abs(row).max())


def _notes(
    fitted: Fitted, fit: Fit, terms: Sequence[Term], hidden: List[str], unsure: List[str], tolerance: float
) -> Iterator[str]:
    noisy, moved = fitted.gradient_noise > 0, float(np.abs(fitted.step).max())
    converged = fit.once or noisy or moved <= max(tolerance, 1e-6)
    apart = [term.name for term, value in zip(terms, fitted.summed.coefficients) if abs(value) > APART]
    if hidden and noisy:
        yield f"noise hides {', '.join(hidden)}: ask for fewer columns, or spend more"
    elif hidden:
        yield f"{', '.join(hidden)}: these say the same, or never vary, so that no figure is theirs alone; leave one out"
    if not converged and apart:
        yield f"{', '.join(apart)}: these tell the outcome apart, so that coefficients grow without an end and mean nothing"
    elif not converged:
        yield f"not converged: the last step was {moved:.2g} half ranges long; allow more rounds"
    elif unsure and _explains_all(fitted, fit):
        yield f"{', '.join(unsure)}: the model explains every outcome but for rounding, so that nothing is left to tell errors by"
    elif unsure:
        yield f"{', '.join(unsure)}: nothing is known of their errors, and so no figure is shown"
    yield from fit.notes(fitted.summed)
    yield from fitted.sandwich.notes if fitted.sandwich is not None else ()
    yield from notes_on_terms(terms)
    if noisy and fit.bound:
        yield fit.bound
    if noisy:
        yield "errors and intervals count the sample, and noise to first order: with much of it they are too short"


def notes_on_terms(terms: Sequence[Term]) -> Iterator[str]:
    """What coefficients are of, where it is not the column itself."""
    logarithms = [term.name for term in terms if term.logarithm]
    if logarithms:
        yield f"coefficients of {', '.join(logarithms)} are for a natural logarithm that is larger by 1"


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
