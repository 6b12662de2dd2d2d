"""A value round height and width, or along any one axis."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from model_export.operator_entry import Operator
from model_export.plan_context import Context, Hwc, zero_point
from model_export.plan_steps import Kind, Step
from model_export.tflm_structs import Kernel

PAD = Kind("pad", 9)
"""Output zero point: what is written round the input. No table."""

_MOST_AXES = 4


def pad(c: Context) -> Step:
    source, amounts = c.input(), c.numbers(1)
    shape, pairs = source.shape, [amounts[at : at + 2] for at in range(0, len(amounts), 2)]
    whole = tuple(size + sum(pair) for size, pair in zip(shape, pairs))
    if (
        len(amounts) != 2 * len(shape)
        or len(shape) > _MOST_AXES
        or whole != c.output.shape
        or min(amounts, default=-1) < 0
    ):
        raise c.error(f"paddings {pairs} of {shape} to {c.output.shape}; supported are {_MOST_AXES} axes and no cuts")
    padded = [axis for axis, pair in enumerate(pairs) if any(pair)] or [len(shape) - 1]
    first, last = padded[0], padded[-1]
    if last - first > 1 or (first < last and _count(shape[:first]) > 1):
        raise c.error(f"paddings {pairs} of {shape}; supported are those of height and width, or of one axis")
    rows = slice(first, last) if first < last else slice(0, first)

    def hwc(of: Sequence[int]) -> Hwc:
        return _count(of[rows]), of[last], _count(of[last + 1 :])

    return Step(
        PAD, c.op, (source.index,), c.output.index, hwc(shape), hwc(whole),
        padding=(pairs[first][0] if first < last else 0, pairs[last][0]), out_zero_point=_value(c),
    )  # fmt: skip


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _value(c: Context) -> int:
    """What is written round the input: a third input, in the output's scale, or the output's zero point."""
    if len(c.op.inputs) < 3:
        return zero_point(c.output)
    value = c.constant(2, "int8")
    assert value.data is not None
    if value.data.size != 1 or len(value.scales) != 1 or len(c.op.inputs) > 3:
        raise c.error(f"value {value.shape} ({value.name}); supported is one int8 with one scale")
    c.same_scale(value)
    return int(value.data.reshape(()))


OPERATORS = tuple(Operator(name, kernel=Kernel((0, 1), 14 * "i"), kinds=(PAD,), plan=pad) for name in ("PAD", "PADV2"))
