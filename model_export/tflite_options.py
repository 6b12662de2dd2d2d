"""How an operator's options lie in a .tflite file: the type of their table, and what its fields are."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Tuple

from model_export.errors import TfliteError
from model_export.flatbuffer import FlatTable

ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")
PADDINGS = ("same", "valid")

Reader = Callable[[Optional[FlatTable], int], Any]
"""What a field of this number holds in a table, or where there is none."""
Field = Tuple[str, Reader]
"""Its name in Op.options; without a name it is passed over."""


class Options(NamedTuple):
    table: int
    """Its number in the schema's union BuiltinOptions."""
    fields: Tuple[Field, ...]
    """In the order of the schema, field 0 first."""


def number(fmt: str, default: Any) -> Reader:
    return lambda table, field: default if table is None else table.scalar(field, fmt, default)


def _enum(names: Tuple[str, ...]) -> Reader:
    def read(table: Optional[FlatTable], field: int) -> str:
        value = 0 if table is None else table.scalar(field, "<b", 0)
        if not 0 <= value < len(names):
            raise TfliteError(f"{table.what if table else 'options'}: value {value} is not one of {', '.join(names)}")
        return names[value]

    return read


def flag(table: Optional[FlatTable], field: int) -> bool:
    return table is not None and bool(table.scalar(field, "<b", 0))


def ints(table: Optional[FlatTable], field: int) -> Tuple[int, ...]:
    return () if table is None else tuple(int(v) for v in table.vector(field, "<i4"))


def text(table: Optional[FlatTable], field: int) -> str:
    return "" if table is None else table.text(field)


int0, int1 = number("<i", 0), number("<i", 1)

PADDING: Field = ("padding", _enum(PADDINGS))
ACTIVATION: Field = ("activation", _enum(ACTIVATIONS))
STRIDES: Tuple[Field, ...] = (("stride_w", int0), ("stride_h", int0))
