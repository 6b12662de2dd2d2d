"""Parts of a tensor, and the same values in another order."""

from __future__ import annotations

import struct
from typing import List, Sequence, Tuple

import numpy as np

from model_export.operator_entry import Operator
from model_export.plan_context import Context
from model_export.plan_steps import Kind, Step
from model_export.tflite_model import Tensor
from model_export.tflite_options import Options, int0
from model_export.tflm_structs import Kernel

MOVE = Kind("move", 14)
"""Table: int32 first place in the input, counts along four axes, steps in bytes along them."""


def strided_slice(c: Context) -> Step:
    options = c.op.options
    if options["ellipsis_mask"] or options["new_axis_mask"]:
        raise c.error("a mask for an ellipsis or a new axis, which are not supported")
    source = c.input()
    begin, end, stride = (c.numbers(position) for position in (1, 2, 3))
    if not len(begin) == len(end) == len(stride) <= len(source.shape):
        raise c.error(f"{len(begin)} begins of {source.shape}")
    spans = []
    for axis, size in enumerate(source.shape):
        if axis >= len(begin):
            spans.append(range(size))
            continue
        first = None if options["begin_mask"] >> axis & 1 else begin[axis]
        last = None if options["end_mask"] >> axis & 1 else end[axis]
        if options["shrink_axis_mask"] >> axis & 1:
            place = begin[axis] + (size if begin[axis] < 0 else 0)
            spans.append(range(place, place + 1))
        elif stride[axis] == 0:
            raise c.error("a stride of 0")
        else:
            spans.append(range(*slice(first, last, stride[axis]).indices(size)))
    return _move_spans(c, source, spans, c.output)


def slice_(c: Context) -> Step:
    source, begin, size = c.input(), c.numbers(1), c.numbers(2)
    if not len(begin) == len(size) == len(source.shape):
        raise c.error(f"{len(begin)} begins of {source.shape}")
    spans = [
        range(first, whole if count == -1 else first + count) for first, count, whole in zip(begin, size, source.shape)
    ]
    return _move_spans(c, source, spans, c.output)


def split(c: Context) -> List[Step]:
    source = c.input(1)
    parts = len(c.outputs)
    axis = _axis(c, c.numbers(0), source)
    if source.shape[axis] % parts:
        raise c.error(f"{source.shape} in {parts} parts along axis {axis}")
    return _parts(c, source, axis, [source.shape[axis] // parts] * parts)


def split_v(c: Context) -> List[Step]:
    source, sizes = c.input(), list(c.numbers(1))
    axis = _axis(c, c.numbers(2), source)
    if -1 in sizes:
        sizes[sizes.index(-1)] = source.shape[axis] - sum(sizes) - 1
    return _parts(c, source, axis, sizes)


def unpack(c: Context) -> List[Step]:
    source = c.input()
    axis = _axis(c, [int(c.op.options["axis"])], source)
    return _parts(c, source, axis, [1] * source.shape[axis])


def transpose(c: Context) -> Step:
    source, order = c.input(), c.numbers(1)
    rank = len(source.shape)
    order = [axis + rank if axis < 0 else axis for axis in order]
    if sorted(order) != list(range(rank)) or tuple(source.shape[axis] for axis in order) != c.output.shape:
        raise c.error(f"order {order} of {source.shape} to {c.output.shape}")
    steps = _steps(source.shape)
    return _move(c, source, c.output, 0, c.output.shape, [steps[axis] for axis in order])


def _axis(c: Context, numbers: Sequence[int], source: Tensor) -> int:
    if len(numbers) != 1:
        raise c.error(f"axis {list(numbers)} of {source.shape}")
    return c.axis(numbers[0], source.shape)


def _parts(c: Context, source: Tensor, axis: int, sizes: Sequence[int]) -> List[Step]:
    if len(sizes) != len(c.outputs) or min(sizes) < 1 or sum(sizes) != source.shape[axis]:
        raise c.error(f"parts of {list(sizes)} along axis {axis} of {source.shape}")
    steps, at = [], 0
    for size, part in zip(sizes, c.outputs):
        spans = [range(whole) for whole in source.shape]
        spans[axis] = range(at, at + size)
        steps.append(_move_spans(c, source, spans, part))
        at += size
    return steps


def _move_spans(c: Context, source: Tensor, spans: Sequence[range], output: Tensor) -> Step:
    if any(
        not span or not 0 <= min(span[0], span[-1]) <= max(span[0], span[-1]) < n
        for span, n in zip(spans, source.shape)
    ):
        raise c.error(f"a slice of {source.shape} that holds nothing, or reaches outside")
    steps = _steps(source.shape)
    first = sum(step * span[0] for step, span in zip(steps, spans))
    return _move(c, source, output, first, [len(s) for s in spans], [step * s.step for step, s in zip(steps, spans)])


def _steps(shape: Sequence[int]) -> List[int]:
    """Bytes from one place to the next along each axis."""
    return [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]


def _move(c: Context, source: Tensor, output: Tensor, first: int, counts: Sequence[int], steps: Sequence[int]) -> Step:
    """`output` is `counts` values along axes, each `steps` bytes of `source` from the last; axes that are one are joined."""
    c.same_scale(source, output)
    axes: List[Tuple[int, int]] = []
    for count, step in zip(counts, steps):
        if count == 1:
            continue
        if axes and axes[-1][1] == count * step:
            axes[-1] = axes[-1][0] * count, step
        else:
            axes.append((count, step))
    if len(axes) > 4:
        raise c.error(f"{len(axes)} axes that cannot be joined; supported are 4")
    axes = [(1, 0)] * (4 - len(axes)) + axes
    size = int(np.prod(counts, dtype=np.int64))
    if size != int(np.prod(output.shape, dtype=np.int64)):
        raise c.error(f"{size} values for {output.shape}")
    table = struct.pack("<9i", first, *(count for count, _ in axes), *(step for _, step in axes))
    whole = int(np.prod(source.shape, dtype=np.int64))
    return Step(MOVE, c.op, (source.index,), output.index, (1, 1, whole), (1, 1, size), table=table)


_MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
OPERATORS = (
    Operator("SLICE", kernel=Kernel((0, 1), ""), kinds=(MOVE,), plan=slice_),
    Operator("SPLIT", kernel=Kernel((4, 4), ""), kinds=(MOVE,), plan=split, several_outputs=True),
    Operator("SPLIT_V", kernel=Kernel((4, 4), ""), kinds=(MOVE,), plan=split_v, several_outputs=True),
    Operator(
        "STRIDED_SLICE",
        options=Options(32, tuple((f"{name}_mask", int0) for name in _MASKS)),
        kernel=Kernel((24, 4), 21 * "i"),
        kinds=(MOVE,),
        plan=strided_slice,
    ),
    Operator("TRANSPOSE", kernel=Kernel((0, 1), ""), kinds=(MOVE,), plan=transpose),
    Operator(
        "UNPACK",
        options=Options(64, (("num", int0), ("axis", int0))),
        kernel=Kernel((8, 4), ""),
        kinds=(MOVE,),
        plan=unpack,
        several_outputs=True,
    ),
)
