"""Federated standardization: each node releases sums, the gateway adds them up, everybody uses the same mean and std.

Standardizing each node by its own mean would wipe out differences between nodes that the model needs (10 points of
accuracy on the four heart-disease hospitals).

The release. Each number is mapped to u in [-1, 1] over its public range; a record contributes (u, u^2) of all its numbers, a
patient the mean of that over its records, clipped to an L2 norm (privacy/noisy_sum.py). A 1 for the count is not needed since
the sums are divided by the numbers of units that nodes state, which are noised and charged by themselves. So it is one Gaussian
mechanism of the declared multiplier.

Noise, and the rounding of masked sums, can leave a variance too small or even negative: there the standard deviation is held
at MIN_STD, and `on_floor` names the columns; `at_an_end` those that clipping gives a spread they do not have. Without
either, nodes send what a variance can be computed from exactly, however
wide the range: sums, and squared distances from their own mean (Chan, Golub and LeVeque 1983).
"""

from typing import Iterable, List, Sequence, Tuple

import numpy as np

from orchestrator.wire.plain import plain
from orchestrator.wire.schema import Schema

MIN_STD = 0.05
"""Least standard deviation of noised or rounded sums, as a share of half the public range."""

_NAMED = 5

_LEAST_EXACT_STD = 1e-12
"""Of exact sums: a column with less, as a share of half the range, holds one value for all float32 can tell."""


def to_unit_range(x: np.ndarray, schema: Schema) -> np.ndarray:
    """float64 (n, numbers) in [-1, 1] from raw float32 inputs (n, d)."""
    numbers = schema.numbers()
    columns = [column for column, _ in numbers]
    low = np.array([feature.scaled_range[0] for _, feature in numbers])
    high = np.array([feature.scaled_range[1] for _, feature in numbers])
    return 2.0 * (x[:, columns].astype(np.float64) - low) / (high - low) - 1.0


def moments(x: np.ndarray, schema: Schema, units: List[np.ndarray]) -> np.ndarray:
    """float64 (units, 2 * numbers): u and u^2 of raw float32 inputs (n, d), each unit's mean over its records."""
    unit_range = to_unit_range(x, schema)
    both = np.concatenate([unit_range, unit_range * unit_range], axis=1)
    if len(units) == len(both):
        return both  # one record each
    return np.stack([both[rows].mean(axis=0) for rows in units])


def spread(x: np.ndarray, schema: Schema) -> np.ndarray:
    """float64 (2 * numbers,): the sums of u of raw float32 inputs (n, d), and of (u - mean of u)^2."""
    unit_range = to_unit_range(x, schema)
    return np.concatenate([unit_range.sum(axis=0), ((unit_range - unit_range.mean(axis=0)) ** 2).sum(axis=0)])


def pooled(parts: Iterable[Tuple[int, np.ndarray]]) -> Tuple[np.ndarray, int]:
    """`spread` of all rows together, and how many they are, from (rows, `spread`) of each part."""
    kept = [(count, np.asarray(vector, np.float64).reshape(2, -1)) for count, vector in parts if count > 0]
    records = sum(count for count, _ in kept)
    total = np.sum([vector[0] for _, vector in kept], axis=0)
    mean = total / records
    apart = [np.maximum(vector[1], 0) + count * (vector[0] / count - mean) ** 2 for count, vector in kept]
    return np.concatenate([total, np.sum(apart, axis=0)]), records


def spread_of_moments(sums: np.ndarray, records: int) -> np.ndarray:
    """`spread`, as well as it can be known, from a sum of `moments` over `records` rows."""
    first, second = np.split(np.asarray(sums, np.float64), 2)
    return np.concatenate([first, np.maximum(second - first**2 / records, 0)])


def mean_and_std(sums: np.ndarray, records: float, schema: Schema) -> Tuple[np.ndarray, np.ndarray]:
    """float32 (d,) each, in raw units, for all inputs.

    The one-hot inputs of a feature with k categories get the mean 1/k and std sqrt(k - 1)/k of categories that are all
    alike: public, so nothing is released for it, and centred inputs lose much less to the clipping of gradients.

    `sums` is the total over nodes and units of `moments`, as released; `records` the total number of units.
    """
    count = len(schema.numbers())
    unit_mean = np.clip(sums[:count] / records, -1, 1)
    variance = sums[count:] / records - unit_mean**2
    return _in_raw_units(unit_mean, np.sqrt(np.clip(variance, MIN_STD**2, 1.0)), schema)


def exact_mean_and_std(sums: np.ndarray, records: float, schema: Schema) -> Tuple[np.ndarray, np.ndarray]:
    """As mean_and_std, of `spread` without noise and with no floor: a column that holds one value is scaled by its range."""
    count = len(schema.numbers())
    unit_std = np.sqrt(np.clip(sums[count:] / records, 0.0, 1.0))
    unit_std = np.where(unit_std < _LEAST_EXACT_STD, 1.0, unit_std)
    return _in_raw_units(np.clip(sums[:count] / records, -1, 1), unit_std, schema)


def constant_columns(sums: np.ndarray, records: float, schema: Schema) -> List[str]:
    """Names of the numbers that hold one value only, by exact sums as of `exact_mean_and_std`."""
    spreads = np.sqrt(np.clip(sums[len(schema.numbers()) :] / records, 0.0, 1.0))
    return [feature.name for (_, feature), each in zip(schema.numbers(), spreads) if each < _LEAST_EXACT_STD]


def on_floor(std: np.ndarray, schema: Schema, least: float = MIN_STD) -> List[str]:
    """Names of the numbers whose standard deviation, (d,) in raw units, is at most `least` of half their range."""
    return [
        feature.name
        for column, feature in schema.numbers()
        if std[column] <= least * (feature.scaled_range[1] - feature.scaled_range[0]) / 2 * (1 + 1e-6)
    ]


def at_an_end(mean: np.ndarray, std: np.ndarray, schema: Schema, noise: float = 0.0) -> List[str]:
    """Names of the numbers whose values all lie at one end of their range, by mean and std as released, (d,) in raw units.

    Such values have a u of about -1 or 1, which is its square: clipped records make both smaller alike, so that there seems to
    be a spread where there is not. noise: standard deviation of the noise in a mean of u.
    """
    found = []
    for column, feature in schema.numbers():
        half = (feature.scaled_range[1] - feature.scaled_range[0]) / 2
        u = abs((float(mean[column]) - feature.scaled_range[0]) / half - 1)
        apart = u - (u * u + (float(std[column]) / half) ** 2)
        beyond = 2 * np.sqrt(2) * noise + 1e-6
        if u > max(2 * MIN_STD, 4 * noise) and -beyond <= apart <= MIN_STD * u + beyond:
            found.append(feature.name)
    return found


def noise_of_std(noise_std: float, units: float) -> float:
    """`least` of `on_floor` for sums with noise of `noise_std`: 97 of 100 columns without any spread come out below it.

    The variance is a mean of squares less a squared mean of at most 1: noise of sqrt(1 + 4) times that of one mean.
    """
    return float(np.sqrt(MIN_STD**2 + 2 * np.sqrt(5) * noise_std / units))


def floor_warning(names: Sequence[str]) -> str:
    """What to say of columns `on_floor`."""
    return (
        f"noise or rounding hides how the values of {_listed(names)} spread over their range. If the range is far wider "
        "than the values, the model sees next to nothing of them: give the range that values really have, or "
        'transform = "log" where they span powers of ten'
    )


def constant_warning(names: Sequence[str]) -> str:
    """What to say of `constant_columns`."""
    return (
        f"all values of {_listed(names)} are the same on all nodes: the model learns nothing from them. Where values are beyond "
        "the range they count as its nearest end: are range and unit right?"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(plain(name, 40) for name in names[:_NAMED]) + more


def _in_raw_units(unit_mean: np.ndarray, unit_std: np.ndarray, schema: Schema) -> Tuple[np.ndarray, np.ndarray]:
    numbers = schema.numbers()
    mean = np.zeros(schema.input_shape, np.float32)
    std = np.ones(schema.input_shape, np.float32)
    column = 0
    for feature in schema.features:
        if feature.width > 1:
            mean[column : column + feature.width] = 1 / feature.width
            std[column : column + feature.width] = np.sqrt(feature.width - 1) / feature.width
        column += feature.width
    for i, (column, feature) in enumerate(numbers):
        half = (feature.scaled_range[1] - feature.scaled_range[0]) / 2
        mean[column] = feature.scaled_range[0] + half * (1 + unit_mean[i])
        std[column] = half * unit_std[i]
    return mean, std


def range_scaling(schema: Schema) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and std that only map public ranges to [-1, 1]: for inputs whose statistics need not be learned."""
    return mean_and_std(np.concatenate([np.zeros(len(schema.numbers())), np.ones(len(schema.numbers()))]), 1.0, schema)


def standardize(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """float32 inputs less the federation's mean, over its std."""
    return ((x - mean) / std).astype(np.float32)
