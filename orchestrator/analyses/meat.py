"""Standard errors that hold whatever the variance of a record, or however records of a patient hang together.

The covariance is A^-1 M A^-1, A the information and M ("meat") the sum of products of each one's part of the gradient with
itself: of records White 1980, of patients Liang and Zeger 1986. A further round sums M at the last coefficients: in place of the
triangle the products over their scale, in place of the first of the gradient 1 for a patient whose part was cut, and of the
counts 1 for each record, or patient.
"""

import math
from typing import List, NamedTuple, Tuple

import numpy as np

from orchestrator.analyses.family import Summed
from orchestrator.wire.plain import many

MODEL, HC0, HC1, CLUSTERED = "model", "hc0", "hc1", "clustered"
ERRORS = (MODEL, HC0, HC1, CLUSTERED)

MOST_RECORDS = 100.0
"""Of a patient, each with the largest part of a gradient there can be, before their sum is cut. Few parts are nearly as large."""

LEAST_PRODUCTS = 1e-13
"""Sum of the squares of all parts over their scale, below which a masked sum, of 60 binary places at each node, may have fewer
than four digits of it.
"""
TOO_SMALL = (
    "residuals are too small beside those that the ranges of columns allow for robust errors: narrow the ranges of outcome, "
    "inputs and exposure or offset, or ask for errors of the model"
)

_FEW = 30
"""Patients, below which errors are too small (Cameron and Miller 2015, section VI)."""


class Sandwich(NamedTuple):
    """middle: (terms, terms), with its factor for small samples. degrees: of Student's t, where there is one."""

    middle: np.ndarray
    degrees: float
    notes: Tuple[str, ...] = ()


def of_patient(summed: np.ndarray, squared: float) -> Tuple[np.ndarray, bool]:
    """(the sum (terms,) of a patient's parts of the gradient over `MOST_RECORDS`, whether it was cut).

    squared: the longest square of a record's part, and after this of a patient's.
    """
    score = summed / MOST_RECORDS
    inside = np.clip(score, -1.0, 1.0)
    length = float(np.linalg.norm(inside))
    inside = inside * min(1.0, math.sqrt(squared) / max(length, 1e-300))
    return inside, not np.array_equal(score, inside)


def sandwich_of(errors: str, products: np.ndarray, cut: float, counted: float, summed: Summed) -> Sandwich:
    """products: M, in the units of the gradient. counted: how many the sum is over. summed: of the model."""
    records, terms = summed.records, summed.estimated
    if errors == HC0:
        return Sandwich(products, records - terms)
    if records <= terms or (errors == CLUSTERED and counted < 1.5):
        return Sandwich(np.full_like(products, math.nan), math.nan, ("there are too few for robust errors",))
    if errors == HC1:
        return Sandwich(products * records / (records - terms), records - terms)
    notes: List[str] = [f"errors are of {many(counted, 'patient')}"]
    if counted < _FEW:
        notes.append(f"of fewer than {_FEW} patients clustered errors are too small")
    if cut > 0.5:
        notes.append(f"the part of {many(cut, 'patient')} in the errors was cut, so that they are too small")
    factor = counted / (counted - 1) * (records - 1) / (records - terms)
    return Sandwich(products * factor, counted - 1, tuple(notes))
