"""What TensorFlow Lite Micro allocates for an operator: structs, whose sizes follow from the width of a pointer."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Tuple

from model_export.tflite_model import Op, TfliteModel


class Kernel(NamedTuple):
    options: Tuple[int, int]
    """Size and alignment of the builtin options; size 0 where nothing is parsed."""
    data: str
    """Fields of the struct that Init allocates, one letter each (struct_bytes); empty for none."""
    prepared: Optional[Callable[[TfliteModel, Op], List[int]]] = None
    """Sizes of what Prepare allocates beside scratch buffers."""
    weights: bool = False
    """`data` has two more indices where compression is built in."""
    scratch_handles: int = 0
    option_pointers: int = 0
    """How many pointers the builtin options have beside `options`."""
    compressed: str = ""
    """Fields of the struct that Init allocates where compression is built in, and not elsewhere."""
    newer_options_bytes: Optional[int] = None
    """Size of the options in the wheel, where they grew after the version boards have."""


def struct_bytes(fields: str, pointer: int) -> int:
    """sizeof a C struct with these fields in order.

    i: 4 bytes (int32, int, float, enum), h: 2 bytes, p: pointer, d: double, b: 1 byte (bool)
    """
    sizes = {"i": 4, "h": 2, "p": pointer, "d": 8, "b": 1}
    at, widest = 0, 1
    for field in fields:
        size = sizes[field]
        at = -(-at // size) * size + size
        widest = max(widest, size)
    return -(-at // widest) * widest
