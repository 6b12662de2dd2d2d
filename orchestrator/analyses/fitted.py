"""From the last round of a regression to its tables: estimates, errors and intervals in the units of the columns."""

import math
from typing import Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import CERTAINTY, Cell, Result, Table
from orchestrator.analyses.families import Family
from orchestrator.analyses.inputs import Term

SINGULAR = 1e-10
"""Smallest over largest eigenvalue of an information matrix below which some of its columns say the same."""

APART = 12.0
"""A coefficient, in half ranges or for a level, from which a model that does not converge is taken to be separated."""

_LARGEST_EXPONENT = 700.0


class Fitted(NamedTuple):
    """coefficients: over [-1, 1]. step: the last one. matrix, gradient, cells: where it was made from. known, left_out: records.

    *_noise: standard deviation of the noise on each value of matrix and gradient; 0 without.
    """

    coefficients: np.ndarray
    step: np.ndarray
    matrix: np.ndarray
    gradient: np.ndarray
    cells: np.ndarray
    known: float
    left_out: float
    matrix_noise: float
    gradient_noise: float


def inverse_of(matrix: np.ndarray, noise: float) -> Tuple[np.ndarray, np.ndarray]:
    """(pseudo-inverse of a symmetric matrix, (n, k) directions it leaves out).

    Left out is what is next to nothing, or drowns in noise of that standard deviation on each value, whose own eigenvalues reach
    to about twice the root of n of it.
    """
    values, vectors = np.linalg.eigh(matrix)
    least = max(SINGULAR * float(values.max(initial=0.0)), 2 * noise * math.sqrt(len(matrix)), 0.0)
    kept = values > least
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T, vectors[:, ~kept]


def result_of(fitted: Fitted, family: Family, terms: Sequence[Term], units: str, tolerance: float) -> Result:
    """Tables "coefficients" and "fit" of a model with these terms."""
    inverse, lost = inverse_of(fitted.matrix, fitted.matrix_noise)
    spread, figures = _whole(fitted, family)
    # Noise on the gradient moves the result by the inverse times it; that on the matrix by as much times how far the step went.
    moved = float(np.linalg.norm(fitted.step))
    noise = fitted.gradient_noise**2 + (fitted.matrix_noise * moved) ** 2
    covariance = spread * inverse + noise * inverse @ inverse
    change, shift = _to_raw(family, terms)
    estimates = change @ fitted.coefficients + shift
    variances = np.einsum("ij,jk,ik->i", change, covariance, change)
    hidden = [_hidden(row, lost) or not variance > 0 for row, variance in zip(change, variances)]
    degrees = fitted.known - len(terms)
    rows: List[Tuple[Cell, ...]] = []
    for term, estimate, variance, gone in zip(terms, estimates, variances, hidden):
        columns = 6 + bool(family.ratio)
        row = (None,) * columns if gone else _figures(float(estimate), math.sqrt(variance), degrees, family)
        rows.append((term.name, *row))
    ratio = (family.ratio,) if family.ratio else ()
    tested = "t" if family.once else "z"
    heads = ("term", "estimate", "standard error", "from", "to", tested, "p", *ratio)
    counts: List[Tuple[Cell, ...]] = [
        (f"{units} used", _plain(fitted.known)),
        (f"{units} left out", _plain(fitted.left_out)),
    ]
    tables = [Table("coefficients", heads, rows, tested), Table("fit", ("figure", "value"), [*counts, *figures])]
    names = [term.name for term, gone in zip(terms, hidden) if gone]
    return Result(tables, list(_notes(fitted, family, terms, names, tolerance)))


def _figures(estimate: float, error: float, degrees: float, family: Family) -> Tuple[Cell, ...]:
    """estimate, standard error, interval of 95 %, estimate over error, p, and exp of the estimate."""
    value = estimate / error
    if family.once:
        from scipy.special import stdtr, stdtrit  # late: nodes do without, and a gateway until its end

        half, p = float(stdtrit(degrees, 0.975)) * error, 2 * float(stdtr(degrees, -abs(value)))
    else:
        half, p = CERTAINTY * error, math.erfc(abs(value) / math.sqrt(2))
    more = (math.exp(min(estimate, _LARGEST_EXPONENT)),) if family.ratio else ()
    return estimate, error, estimate - half, estimate + half, value, p, *more


def _whole(fitted: Fitted, family: Family) -> Tuple[float, List[Tuple[Cell, ...]]]:
    """(what the inverse information is multiplied by for a covariance, figures of the whole model)."""
    terms = len(fitted.coefficients)
    if not family.once:
        likelihood = family.likelihood(fitted.cells) + family.constant(fitted.cells)
        if fitted.gradient_noise:
            return 1.0, []
        return 1.0, [("log-likelihood", likelihood), ("AIC", 2 * terms - 2 * likelihood)]
    degrees = fitted.known - terms
    explained = float(fitted.coefficients @ fitted.gradient)
    residual = float(fitted.cells[0]) - explained
    if degrees <= 0 or residual <= 0:
        return 0.0, []
    low, high = family.outcome.range
    figures: List[Tuple[Cell, ...]] = [
        ("residual standard deviation", (high - low) / 2 * math.sqrt(residual / degrees))
    ]
    around = float(fitted.cells[0]) - float(fitted.gradient[0]) ** 2 / fitted.known
    if around > 0:
        figures.append(("R squared", 1 - residual / around))
    return residual / degrees, figures


def _to_raw(family: Family, terms: Sequence[Term]) -> Tuple[np.ndarray, np.ndarray]:
    """(matrix, constant) that make coefficients in the columns' units of those over [-1, 1]."""
    change, shift = np.eye(len(terms)), np.zeros(len(terms))
    for number, term in enumerate(terms):
        if term.feature is not None and not term.level:
            low, high = term.feature.scaled_range
            change[number, number] = 2 / (high - low)
            if terms[0].feature is None:
                change[0, number] = -1 - 2 * low / (high - low)
    if family.once:
        low, high = family.outcome.range
        change *= (high - low) / 2
        shift[0] = (low + high) / 2
    return change, shift


def _hidden(row: np.ndarray, lost: np.ndarray) -> bool:
    """Whether a coefficient has a part in directions of which the sums say nothing."""
    return bool(np.abs(row @ lost).max(initial=0.0) > 1e-6 * np.abs(row).max())


def _notes(fitted: Fitted, family: Family, terms: Sequence[Term], hidden: List[str], tolerance: float) -> Iterator[str]:
    noisy, moved = fitted.gradient_noise > 0, float(np.abs(fitted.step).max())
    converged = family.once or noisy or moved <= max(tolerance, 1e-6)
    apart = [term.name for term, value in zip(terms, fitted.coefficients) if abs(value) > APART]
    if hidden and noisy:
        yield f"noise hides {', '.join(hidden)}: ask for fewer columns, or spend more"
    elif hidden:
        yield f"{', '.join(hidden)}: these say the same, or never vary, so that no figure is theirs alone; leave one out"
    if not converged and apart:
        yield f"{', '.join(apart)}: these tell the outcome apart, so that coefficients grow without an end and mean nothing"
    elif not converged:
        yield f"not converged: the last step was {moved:.2g} half ranges long; allow more rounds"
    logarithms = [term.name for term in terms if term.feature is not None and term.feature.transform]
    if logarithms:
        yield f"coefficients of {', '.join(logarithms)} are for a natural logarithm that is larger by 1"
    if noisy:
        yield "errors and intervals count the sample, and noise to first order: with much of it they are too short"


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
