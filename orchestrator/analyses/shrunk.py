"""Tables of coefficients with a penalty: without standard errors, which would not say how far they are pulled towards 0."""

import math
from typing import Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Cell, Result, Table, interval
from orchestrator.analyses.family import Fit, Summed
from orchestrator.analyses.fitted import Counts, fit_table, in_column_units, notes_on_terms
from orchestrator.analyses.inputs import Term
from orchestrator.analyses.penalty import adaptive_ridge

_SMALL = 1e-6
"""Last step, in half ranges, with which rounds have come to their end."""


class Shrunk(NamedTuple):
    """What came of one strength. coefficients: over [-1, 1]. deviance: of the model. moved: the last step, in half ranges."""

    strength: float
    coefficients: np.ndarray
    deviance: float
    moved: float


def shrunk_result(
    path: Sequence[Shrunk], asked: int, fit: Fit, terms: Sequence[Term], counts: Counts, exact: bool
) -> Result:
    """Tables "coefficients", a column for each strength that was come to of those `asked`, "path" and "fit"."""
    change, shift = in_column_units(fit, terms)
    columns = [change @ each.coefficients + shift for each in path]
    heads = ("term", *(f"at {each.strength:g}" for each in path))
    rows: List[Tuple[Cell, ...]] = [
        (term.name, *(float(column[place]) for column in columns)) for place, term in enumerate(terms)
    ]
    along: List[Tuple[Cell, ...]] = [
        (each.strength, int(np.count_nonzero(each.coefficients[1:])), each.deviance if exact else None) for each in path
    ]
    tables = [
        Table("coefficients", heads, rows),
        Table("path", ("strength", "other than 0", "deviance"), along),
        fit_table(counts),
    ]
    return Result(tables, list(_notes(path, asked, fit, terms, exact)))


def _notes(path: Sequence[Shrunk], asked: int, fit: Fit, terms: Sequence[Term], exact: bool) -> Iterator[str]:
    yield "coefficients with a penalty have no standard errors: they are pulled towards 0, by how much nobody knows"
    yield "a strength is for numbers over [-1, 1] of their ranges, and levels as 0 or 1"
    if any(len(term.factors) > 1 for term in terms):
        yield "in the units of the columns a product has a part in its columns' coefficients, also where it is 0 over [-1, 1]"
    late = [f"{each.strength:g}" for each in path if each.moved > _SMALL]
    if late and exact:
        yield f"not converged at {', '.join(late)}: allow more rounds"
    if len(path) < asked:
        yield f"no round was left for {asked - len(path)} of {asked} strengths"
    if not exact:
        yield "coefficients carry the noise of the sums"
        yield from filter(None, [fit.bound])
    yield from notes_on_terms(terms)


def adassp_result(
    matrix: np.ndarray,
    summed: Summed,
    noises: Tuple[float, float],
    fit: Fit,
    terms: Sequence[Term],
    counts: Counts,
) -> Result:
    """Tables "coefficients" and "fit". noises: standard deviation on each value of the matrix, and of the gradient.

    Noise E on the matrix and e on the gradient g move (A + l I)^-1 g by (A + l I)^-1 (e - E b), to first order. Where noise made
    an eigenvalue of A negative, it counts as 0, as none of sums of squares is: the paper leaves it, and divides by what is left.
    """
    matrix_noise, gradient_noise = noises
    ridge = adaptive_ridge(matrix, matrix_noise)
    values, vectors = np.linalg.eigh(matrix)
    inverse = (vectors / np.maximum(np.maximum(values, 0.0) + ridge, 1e-300)) @ vectors.T
    fitted = inverse @ summed.gradient
    noise = gradient_noise**2 + (matrix_noise * float(np.linalg.norm(fitted))) ** 2
    change, shift = in_column_units(fit, terms)
    moved = [interval(math.sqrt(noise * float(row @ inverse @ inverse @ row))) for row in change]
    rows: List[Tuple[Cell, ...]] = [
        (term.name, float(estimate), half) for term, estimate, half in zip(terms, change @ fitted + shift, moved)
    ]
    figures = fit_table([*counts, ("ridge", ridge)])
    notes = ["± is how far noise alone moves an estimate, with 95 % and to first order; it does not cover the sample"]
    if ridge:
        notes.append(f"nor does it cover the ridge of {ridge:.4g}, which pulls coefficients over [-1, 1] towards 0")
    return Result([Table("coefficients", ("term", "estimate", "±"), rows), figures], [*notes, *notes_on_terms(terms)])
