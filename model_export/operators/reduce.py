"""One value for many along axes side by side."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from model_export.operator_entry import Operator
from model_export.operators.pool import MAX_POOL
from model_export.plan_context import Context, beyond, zero_point
from model_export.plan_math import quantize_multiplier
from model_export.plan_steps import Kind, Step
from model_export.tflite_model import Op, Subgraph, Tensor
from model_export.tflite_options import Options, flag
from model_export.tflm_structs import Kernel

MEAN = Kind("mean", 5)
"""No table; parameters 0 and 1: multiplier and shift, the division by the count among them."""

_MAX_WINDOW = 1 << 12


def mean(c: Context) -> Step:
    source = c.input()
    rows, count, channels = _reduced(c, source)
    multiplier, shift = quantize_multiplier(float(source.scales[0]) / float(c.output.scales[0]))
    if shift > 30:
        raise c.error("the output scale is too small for the input scale")
    # The division by `count` is folded into the multiplier, keeping as many bits as 64 allow.
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    multiplier, shift = (multiplier << extra) // count, shift - extra
    return Step(
        MEAN, c.op, (source.index,), c.output.index, (rows, count, channels), (rows, 1, channels),
        in_zero_point=zero_point(source), out_zero_point=zero_point(c.output), parameters=(multiplier, shift),
        lag=0 if rows == 1 else None,
    )  # fmt: skip


def reduce_max(c: Context) -> Step:
    """A pool over all of a row."""
    source = c.input()
    c.same_scale(source)
    rows, count, channels = _reduced(c, source)
    if count > _MAX_WINDOW:
        raise c.error(f"{count} values at a time; supported are {_MAX_WINDOW}")
    return Step(
        MAX_POOL, c.op, (source.index,), c.output.index, (rows, count, channels), (rows, 1, channels), (1, count),
    )  # fmt: skip


def _reduced(c: Context, source: Tensor) -> Tuple[int, int, int]:
    """The input as rows, values that become one, channels."""
    shape = source.shape
    axes = sorted({c.axis(number, shape) for number in c.numbers(1)})
    wide = [axis for axis in axes if shape[axis] > 1] or axes[:1]
    between = [axis for axis in range(wide[0], wide[-1]) if shape[axis] > 1 and axis not in axes] if wide else [0]
    kept = [n for axis, n in enumerate(shape) if axis not in axes]
    if between or int(np.prod(kept)) != int(np.prod(c.output.shape)):
        raise c.error(f"axes {axes} of {shape} to {c.output.shape}; supported are axes side by side")
    before, inside, after = shape[: wide[0]], shape[wide[0] : wide[-1] + 1], shape[wide[-1] + 1 :]
    rows, count, channels = (int(np.prod(part, dtype=np.int64)) for part in (before, inside, after))
    return rows, count, channels


def _beyond_axes(graph: Subgraph, op: Op) -> Optional[str]:
    if len(op.inputs) < 2 or min(op.inputs[:2]) < 0:
        return None  # refused by TFLM itself
    source, axes = (graph.tensors[index] for index in op.inputs[:2])
    return None if axes.data is None else beyond(map(int, axes.data.reshape(-1)), source.shape)


_OPTIONS = Options(27, (("keep_dims", flag),))
OPERATORS = (
    Operator("MEAN", _OPTIONS, Kernel((1, 1), 11 * "i", scratch_handles=3), (MEAN,), mean, tflm_stops=_beyond_axes),
    Operator(
        "REDUCE_MAX",
        _OPTIONS,
        Kernel((1, 1), 11 * "i", scratch_handles=2),
        (MAX_POOL,),
        reduce_max,
        tflm_stops=_beyond_axes,
    ),
)
