"""A node's part in a round of an analysis: the vectors of its privacy units, in pieces that fit into memory."""

from typing import Iterator, Optional

import numpy as np

from orchestrator.analyses.base import Analysis
from orchestrator.data.dataset import Dataset
from orchestrator.errors import WireError

_PIECE = 1 << 20
"""Values of vectors that are in memory at a time."""


def asked_of(analysis: Analysis, asked: Optional[np.ndarray], number: int) -> np.ndarray:
    """What the gateway announced with a round, float32; WireError where it is not of this analysis."""
    wanted = analysis.begin(0).shape
    if asked is None or asked.dtype != np.float32 or asked.shape != wanted or not np.isfinite(asked).all():
        raise WireError(f"round {number} came without the {wanted[0]} finite float32 numbers its analysis asks with")
    return asked


def unit_vectors(analysis: Analysis, asked: np.ndarray, dataset: Dataset, unit: str) -> Iterator[np.ndarray]:
    """float64 (k, size) of some units at a time: a record's vector, or what those of a patient's records come to."""
    rows, question = max(1, _PIECE // analysis.sums.size), analysis.question(asked)
    if unit != "patient" and not analysis.of_patients(question):
        for start in range(0, dataset.records, rows):
            yield analysis.vectors(question, dataset.x[start : start + rows])
        return
    for of_one in dataset.units("patient"):
        pieces = np.split(of_one, range(rows, len(of_one), rows))
        summed = sum(analysis.vectors(question, dataset.x[piece]).sum(axis=0) for piece in pieces)
        yield np.atleast_2d(analysis.joined(question, np.asarray(summed), len(of_one)))


def total(vectors: Iterator[np.ndarray], size: int) -> np.ndarray:
    """float64 (size,): the sum of all of them; of each piece pair by pair, so that few roundings add up."""
    found = np.zeros(size)
    for some in vectors:
        found += np.ascontiguousarray(some.T).sum(axis=1)
    return found
