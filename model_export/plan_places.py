"""Operators that move values and leave them as they are: what engine/direct must know of each."""

from __future__ import annotations

from typing import List

import numpy as np

from model_export.plan_context import Context, zero_point
from model_export.plan_steps import Step


def concatenation(c: Context) -> List[Step]:
    if c.op.options["activation"] != "none":
        raise c.error(f"fused {c.op.options['activation']}, which is not supported: train without a fused activation")
    rank = len(c.output.shape)
    axis = int(c.op.options["axis"]) % rank
    rows = int(np.prod(c.output.shape[:axis], dtype=np.int64))
    width = int(np.prod(c.output.shape[axis:], dtype=np.int64))
    steps, at = [], 0
    for position in range(len(c.op.inputs)):
        source = c.operand(position)
        same = len(source.shape) == rank and source.shape[:axis] == c.output.shape[:axis]
        if not same or source.shape[axis + 1 :] != c.output.shape[axis + 1 :]:
            raise c.error(f"input {position} has shape {source.shape}, the output {c.output.shape}")
        c.same_scale(source)
        part = int(np.prod(source.shape[axis:], dtype=np.int64))
        steps.append(
            Step("copy", c.op, (source.index,), c.output.index, (1, rows, part), (1, rows, width), padding=(0, at))
        )
        at += part
    if at != width:
        raise c.error(f"the inputs have {at} values a row, the output {width}")
    return steps


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
        "pad", c.op, (source.index,), c.output.index, in_hwc, out_hwc,
        padding=(spatial[1][0], spatial[2][0]), out_zero_point=zero_point(c.output),
    )  # fmt: skip
