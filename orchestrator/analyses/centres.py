"""Points among a schema's numbers, as analyses of clusters begin with them and show them."""

from typing import Iterator, Sequence, Tuple

import numpy as np

from orchestrator.wire.schema import Schema

MOST_NAMES = 20
"""Of columns, in an error."""


def objections(start: Sequence[Sequence[float]], schema: Schema) -> Iterator[str]:
    """Why declared points are none of the schema's numbers, within their ranges."""
    names = [feature.name for _, feature in schema.numbers()]
    for number, centre in enumerate(start):
        if len(centre) != len(names):
            some = ", ".join(names[:MOST_NAMES]) + (", ..." if names[MOST_NAMES:] else "")
            yield f"start[{number}]: {len(centre)} numbers, the schema has {len(names)}: {some}"
            continue
        for value, (_, feature) in zip(centre, schema.numbers()):
            low, high = feature.range
            if not low <= value <= high:
                yield f"start[{number}]: {feature.name} {value:g} is beyond its range {low:g} to {high:g}"


def first(start: Sequence[Sequence[float]], count: int, schema: Schema, seed: int) -> np.ndarray:
    """float64 (count, numbers) in [-1, 1]: the declared points, or some drawn evenly from the ranges."""
    if not start:
        return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, len(schema.numbers())))
    raw = np.array(start, np.float64)
    for column, (_, feature) in enumerate(schema.numbers()):
        raw[:, column] = np.log(raw[:, column]) if feature.transform else raw[:, column]
    low, high = ends(schema)
    return np.asarray(2.0 * (raw - low) / (high - low) - 1.0)


def in_their_units(u: np.ndarray, schema: Schema) -> np.ndarray:
    """float64 (n, numbers) in the units of the columns, from [-1, 1]; of a column with a transform geometric means."""
    low, high = ends(schema)
    raw = low + (high - low) * (1 + u) / 2
    for column, (_, feature) in enumerate(schema.numbers()):
        raw[:, column] = np.exp(raw[:, column]) if feature.transform else raw[:, column]
    return np.asarray(raw)


def ends(schema: Schema) -> Tuple[np.ndarray, np.ndarray]:
    """(least, largest) values of the numbers as models see them, float64 (numbers,) each."""
    found = [feature.scaled_range for _, feature in schema.numbers()]
    return np.array([low for low, _ in found]), np.array([high for _, high in found])
