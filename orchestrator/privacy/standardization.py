"""Federated standardization: each node releases sums, the gateway adds them up, everybody uses the same mean and std.

Standardizing each node by its own mean would wipe out differences between nodes that the model needs (10 points of
accuracy on the four heart-disease hospitals).

The release. Each number is mapped to u in [-1, 1] over its public range; a record contributes (u, u^2) of all its numbers, a
patient the mean of that over its records, clipped to an L2 norm (privacy/noisy_sum.py). A 1 for the count is not needed since
the sums are divided by the numbers of units that nodes state, which are noised and charged by themselves. So it is one Gaussian
mechanism of the declared multiplier.
"""

from typing import List, Tuple

import numpy as np

from orchestrator.wire.task import Schema

MIN_STD = 0.05
"""Least standard deviation, as a share of half the public range: noise may leave less, or even a negative variance."""


def to_unit_range(x: np.ndarray, schema: Schema) -> np.ndarray:
    """float64 (n, numbers) in [-1, 1] from raw float32 inputs (n, d)."""
    numbers = schema.numbers()
    columns = [column for column, _ in numbers]
    low = np.array([feature.range[0] for _, feature in numbers])
    high = np.array([feature.range[1] for _, feature in numbers])
    return 2.0 * (x[:, columns].astype(np.float64) - low) / (high - low) - 1.0


def moments(x: np.ndarray, schema: Schema, units: List[np.ndarray]) -> np.ndarray:
    """float64 (units, 2 * numbers): u and u^2 of raw float32 inputs (n, d), each unit's mean over its records."""
    unit_range = to_unit_range(x, schema)
    both = np.concatenate([unit_range, unit_range * unit_range], axis=1)
    if len(units) == len(both):
        return both  # one record each
    return np.stack([both[rows].mean(axis=0) for rows in units])


def mean_and_std(sums: np.ndarray, records: float, schema: Schema) -> Tuple[np.ndarray, np.ndarray]:
    """float32 (d,) each, in raw units, for all inputs.

    The one-hot inputs of a feature with k categories get the mean 1/k and std sqrt(k - 1)/k of categories that are all
    alike: public, so nothing is released for it, and centred inputs lose much less to the clipping of gradients.

    `sums` is the total over nodes and units of `moments`, as released; `records` the total number of units.
    """
    numbers = schema.numbers()
    unit_mean = np.clip(sums[: len(numbers)] / records, -1, 1)
    variance = sums[len(numbers) :] / records - unit_mean**2
    unit_std = np.sqrt(np.clip(variance, MIN_STD**2, 1.0))
    mean = np.zeros(schema.input_shape, np.float32)
    std = np.ones(schema.input_shape, np.float32)
    column = 0
    for feature in schema.features:
        if feature.width > 1:
            mean[column : column + feature.width] = 1 / feature.width
            std[column : column + feature.width] = np.sqrt(feature.width - 1) / feature.width
        column += feature.width
    for i, (column, feature) in enumerate(numbers):
        half = (feature.range[1] - feature.range[0]) / 2
        mean[column] = feature.range[0] + half * (1 + unit_mean[i])
        std[column] = half * unit_std[i]
    return mean, std


def range_scaling(schema: Schema) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and std that only map public ranges to [-1, 1]: for inputs whose statistics need not be learned."""
    return mean_and_std(np.concatenate([np.zeros(len(schema.numbers())), np.ones(len(schema.numbers()))]), 1.0, schema)


def standardize(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """float32 inputs with the federation's mean taken off and std divided out."""
    return ((x - mean) / std).astype(np.float32)
