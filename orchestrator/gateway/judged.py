"""The figures of what a model says, whatever its task learns: those of classes by scores.py, others by their target."""

from typing import Any, Dict

import numpy as np

from orchestrator.gateway import counts, scores
from orchestrator.wire.schema import Schema


def figures_of_rows(schema: Schema, y: np.ndarray, answers: np.ndarray, resample: bool = True) -> Dict[str, Any]:
    """Of codes (n,) and answers of a model for them. resample: also the intervals of classes that need resamples."""
    if schema.declared is not None:
        return schema.declared.of_rows(y, answers)
    return scores.figures(counts.of_rows(y, answers), schema.classes, resample)


def figures_of_sums(schema: Schema, sums: np.ndarray, bins: int, noise: float) -> Dict[str, Any]:
    """Of federated sums (size,). noise: standard deviation of each."""
    if schema.declared is not None:
        return schema.declared.of_sums(sums, bins, noise)
    return scores.figures(counts.of_sums(sums, len(schema.classes), bins, noise), schema.classes)
