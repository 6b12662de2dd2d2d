"""Invented rows that fit a schema, drawn from the schema alone: to try a task before anybody has data for it."""

from pathlib import Path
from typing import Iterator, List, Optional

import numpy as np

from orchestrator.data.dataset import INPUT
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema

WHOLE_SPAN = 5
"""Width of a range with whole ends from which its values are drawn as whole numbers."""

_PER_PATIENT = 3


def mock_rows(schema: Schema, rows: int, seed: int, missing: float = 0.0) -> Iterator[List[str]]:
    """Cells of a table: the line of names, where the schema names no columns, then `rows` lines, each value drawn by itself.

    missing: share of the features' cells that are left empty, or hold the schema's first marker.
    """
    draw = np.random.default_rng(seed)
    by_name = {feature.name: feature for feature in schema.features}
    learned = schema.learned
    names = list(schema.columns) or [*by_name, *(name for name in (schema.patient, *learned.columns) if name)]
    if not schema.columns:
        yield names
    marker = "" if "" in schema.missing_markers or not schema.missing_markers else schema.missing_markers[0]
    for number in range(rows):
        cells, label = [], learned.invented(draw) if schema.labelled else []
        for name in names:
            if name in by_name:
                gone = missing and draw.random() < missing
                cells.append(marker if gone else _value(by_name[name], draw))
            elif name == schema.patient:
                cells.append(f"p{number // _PER_PATIENT + 1}")
            elif name in learned.columns:
                cells.append(label[learned.columns.index(name)])
            else:
                cells.append("0")
        yield cells


def _value(feature: Feature, draw: np.random.Generator) -> str:
    if feature.categories:
        return str(feature.categories[int(draw.integers(len(feature.categories)))])
    low, high = feature.range
    if feature.transform:
        return f"{min(high, max(low, float(np.exp(draw.uniform(np.log(low), np.log(high)))))):.6g}"
    if float(low).is_integer() and float(high).is_integer() and high - low >= WHOLE_SPAN:
        return str(int(draw.integers(int(low), int(high) + 1)))
    return f"{min(high, max(low, draw.uniform(low, high))):.6g}"


def write_signals(schema: Schema, path: Path, rows: int, seed: int) -> None:
    """An .npz of noise in the schema's shape."""
    draw = np.random.default_rng(seed)
    shape = (rows, schema.samples) if schema.channels == 1 else (rows, *schema.input_shape)
    arrays = {INPUT: (draw.normal(0, 0.3, shape) * schema.unit_scale).astype(np.float32)}
    labels = [schema.learned.invented(draw) for _ in range(rows)]
    arrays.update({name: np.array(column) for name, column in zip(schema.learned.columns, zip(*labels))})
    if schema.patient:
        arrays[schema.patient] = np.array([f"p{number // _PER_PATIENT + 1}" for number in range(rows)])
    np.savez(path, **arrays)  # type: ignore[arg-type]


def in_words(schema: Schema, rows: int, path: Optional[Path] = None) -> str:
    """What was made."""
    kind = many(len(schema.features), "column") if schema.kind == "table" else f"signals of {schema.samples} samples"
    place = f" in {path}" if path else ""
    return f"{many(rows, 'invented record')} of {kind}{place}: drawn from the schema alone, each value by itself"
