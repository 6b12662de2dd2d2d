"""Zeros round height and width."""

from __future__ import annotations

from model_export.operator_entry import Operator
from model_export.plan_context import Context, zero_point
from model_export.plan_steps import Kind, Step
from model_export.tflm_structs import Kernel

PAD = Kind("pad", 9)
"""No table."""


def pad(c: Context) -> Step:
    source, amounts = c.input(), c.constant(1, "int32")
    assert amounts.data is not None
    in_hwc, out_hwc = c.hwc(source), c.hwc(c.output)
    pairs = amounts.data.reshape(-1, 2).tolist()
    spatial = [[0, 0]] * (4 - len(pairs)) + pairs
    fits = len(spatial) == 4 and [o - i for i, o in zip(in_hwc, out_hwc)] == [sum(p) for p in spatial[1:]]
    if not fits or spatial[0] != [0, 0] or spatial[3] != [0, 0] or min(map(min, spatial)) < 0:
        raise c.error(f"paddings {pairs} of {source.shape}; supported is padding of height and width")
    return Step(
        PAD, c.op, (source.index,), c.output.index, in_hwc, out_hwc,
        padding=(spatial[1][0], spatial[2][0]), out_zero_point=zero_point(c.output),
    )  # fmt: skip


OPERATORS = (Operator("PAD", kernel=Kernel((0, 1), 14 * "i"), kinds=(PAD,), plan=pad),)
