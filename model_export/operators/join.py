"""Several tensors beside each other in one."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np

from model_export.operator_entry import Operator
from model_export.plan_context import Context, beyond
from model_export.plan_steps import Kind, Step
from model_export.tflite_model import Op, Subgraph, Tensor, TfliteModel
from model_export.tflite_options import ACTIVATION, Options, int0
from model_export.tflm_structs import Kernel

COPY = Kind("copy", 11)
"""One for each input; padding left is where it goes in a row of the output. No table."""


def concatenation(c: Context) -> List[Step]:
    if c.op.options["activation"] != "none":
        raise c.error(f"fused {c.op.options['activation']}, which is not supported: train without a fused activation")
    rank = len(c.output.shape)
    axis = c.axis(int(c.op.options["axis"]), c.output.shape)
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
        steps.append(_copy(c, source, (rows, part, width), at))
        at += part
    if at != width:
        raise c.error(f"the inputs have {at} values a row, the output {width}")
    return steps


def pack(c: Context) -> List[Step]:
    """Each input becomes one place of a new axis."""
    axis = c.axis(int(c.op.options["axis"]), c.output.shape)
    count = len(c.op.inputs)
    if c.output.shape[axis] != count:
        raise c.error(f"{count} inputs along axis {c.op.options['axis']} of {c.output.shape}")
    each = c.output.shape[:axis] + c.output.shape[axis + 1 :]
    rows, part = (int(np.prod(places, dtype=np.int64)) for places in (each[:axis], each[axis:]))
    steps = []
    for position in range(count):
        source = c.operand(position)
        if source.shape != each:
            raise c.error(f"input {position} has shape {source.shape}, the output {c.output.shape}")
        c.same_scale(source)
        steps.append(_copy(c, source, (rows, part, count * part), position * part))
    return steps


def _copy(c: Context, source: Tensor, sizes: Tuple[int, int, int], at: int) -> Step:
    """`sizes`: rows, how much of each the input is, and how much the output. It goes `at` so far into the output's."""
    rows, part, width = sizes
    return Step(COPY, c.op, (source.index,), c.output.index, (1, rows, part), (1, rows, width), padding=(0, at))


def _scale_and_zero_point_of_each(model: TfliteModel, op: Op) -> List[int]:
    return [4 * len(op.inputs)] * 2


def _beyond_axes(graph: Subgraph, op: Op) -> Optional[str]:
    if not op.outputs:
        return None  # refused by TFLM itself
    return beyond([int(op.options["axis"])], graph.tensors[op.outputs[0]].shape)


def _unlike(graph: Subgraph, op: Op) -> Optional[str]:
    if not op.outputs:
        return None  # refused by TFLM itself
    output, count, axis = graph.tensors[op.outputs[0]], len(op.inputs), int(op.options["axis"])
    said = beyond([axis], output.shape)
    if said is not None or min(op.inputs, default=-1) < 0:
        return said or "lacks an input, which TFLM reads all the same"
    size = int(np.prod(output.shape, dtype=np.int64))
    parts = [graph.tensors[index] for index in op.inputs]
    fits = all(int(np.prod(part.shape, dtype=np.int64)) * count == size for part in parts)
    same = all(part.dtype == output.dtype for part in parts)
    if not fits or not same or not output.shape[axis] == count == op.options["values_count"]:
        return f"packs {count} inputs of {parts[0].shape} into {output.shape}, which TFLM does not check"
    return None


OPERATORS = (
    Operator(
        "CONCATENATION",
        options=Options(10, (("axis", int0), ACTIVATION)),
        kernel=Kernel((8, 4), "b" + "pp" + "iii", _scale_and_zero_point_of_each),
        kinds=(COPY,),
        plan=concatenation,
        tflm_stops=_beyond_axes,
    ),
    Operator(
        "PACK",
        options=Options(59, (("values_count", int0), ("axis", int0))),
        kernel=Kernel((8, 4), ""),
        kinds=(COPY,),
        plan=pack,
        tflm_stops=_unlike,
    ),
)
