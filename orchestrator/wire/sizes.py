"""How large a declaration may be. Its author chooses what nodes read, hold and count, so all parties refuse more."""

from typing import Any, Iterator

MOST_INPUTS = 4096
"""Of a table, each category being one."""

MOST_SAMPLES = 1 << 20
"""Numbers in a record of a signal."""

MOST_VALUES = 1000
"""Categories of a column, classes, values of the label."""

MOST_MARKERS = 100
MOST_COLUMNS = 8192
MOST_CHARACTERS = 200
"""Of a name or value."""

MOST_CELLS = 1 << 18
"""Sums of a federated evaluation: classes x classes x bins."""

MOST_CONTEXT_BYTES = 1 << 20
"""Of the public keys of an encrypted sum."""


def too_large(schema: Any) -> Iterator[str]:
    """What is beyond these bounds in a `Schema`."""
    for feature in schema.features:
        yield from _most(f"features: {feature.name[:40]!r}: categories", len(feature.categories), MOST_VALUES)
    if schema.kind == "table":
        yield from _most(
            "features: inputs in all, one for each number and each category", schema.input_shape[0], MOST_INPUTS
        )
    else:
        yield from _most("samples: samples x channels", schema.samples * schema.channels, MOST_SAMPLES)
    for name, values, most in (
        ("classes", schema.classes, MOST_VALUES),
        ("label_values", schema.label_values, MOST_VALUES),
        ("missing_markers", schema.missing_markers, MOST_MARKERS),
        ("columns", schema.columns, MOST_COLUMNS),
    ):
        yield from _most(name, len(values), most)
    names = {
        "label": [schema.label],
        "patient": [schema.patient],
        "classes": schema.classes,
        "label_values": schema.label_values,
        "missing_markers": schema.missing_markers,
        "columns": schema.columns,
        **{f"features[{i}]": (feature.name, *feature.categories) for i, feature in enumerate(schema.features)},
    }
    for key, texts in names.items():
        longest = max(texts, key=len, default="")
        yield from _most(f"{key}: characters of {longest[:40]!r}", len(longest), MOST_CHARACTERS)


def too_many_cells(cells: int) -> Iterator[str]:
    """Whether an evaluation would be of more sums than there may be."""
    yield from _most("evaluation: classes x classes x bins", cells, MOST_CELLS)


def _most(what: str, count: int, most: int) -> Iterator[str]:
    if count > most:
        yield f"{what}: {count}, at most {most}"
