"""Operators on values of two tensors, two by two."""

from __future__ import annotations

import struct
from typing import List, Sequence, Tuple

import numpy as np

from model_export.operator_entry import Operator
from model_export.plan_context import Context, Hwc, zero_point
from model_export.plan_math import INT8_MAX, INT8_MIN, quantize_multiplier
from model_export.plan_steps import Kind, Step
from model_export.tflite_model import Tensor
from model_export.tflite_options import ACTIVATION, Options
from model_export.tflm_structs import Kernel

ADD = Kind("add", 6)
"""Table: int32 zero point, multiplier, shift of input 1; the same of input 2; multiplier, shift of the sum."""
ADD_BROADCAST = Kind("add_broadcast", 12)
"""Table: as of ADD, then for each input the steps in bytes of a row, a column and a channel; 0 repeats."""
ARITHMETIC = Kind("arithmetic", 13)
"""Table: as of ADD_BROADCAST; parameter 0 says what: product, difference, larger, smaller, or the first by the second where it is
negative: then multiplier, shift are of the one and of the product."""

_ADD_LEFT_SHIFT = 20
_MAX_DIFFERENCE_SHIFT = 22  # a difference of two int8 values has 9 bits
_MAX_PRODUCT_SHIFT = 14  # a product of two differences has 17 bits


def add(c: Context) -> Step:
    one, two = c.operand(0), c.operand(1)
    words = _common_scale(c)
    if one.shape != two.shape or one.shape != c.output.shape:
        hwc, steps = _broadcast(c, one, two)
        return Step(
            ADD_BROADCAST, c.op, (one.index, two.index), c.output.index, (1, 1, 1), hwc,
            table=struct.pack("<14i", *words, *steps), out_zero_point=zero_point(c.output), clamp=c.clamp(),
        )  # fmt: skip
    size = int(np.prod(one.shape))
    return Step(
        ADD, c.op, (one.index, two.index), c.output.index, (1, 1, size), (1, 1, size),
        table=struct.pack("<8i", *words), out_zero_point=zero_point(c.output), clamp=c.clamp(), lag=0,
    )  # fmt: skip


def _common_scale(c: Context) -> List[int]:
    """Zero point, multiplier and shift that bring each input to twice the larger scale; multiplier and shift to the output's."""
    one, two = c.operand(0), c.operand(1)
    twice_max = 2.0 * float(max(one.scales[0], two.scales[0]))
    words: List[int] = []
    for tensor in (one, two):
        words += [zero_point(tensor), *quantize_multiplier(float(tensor.scales[0]) / twice_max)]
    words += quantize_multiplier(twice_max / (2**_ADD_LEFT_SHIFT * float(c.output.scales[0])))
    if words[-1] > 0:
        raise c.error("the output scale is too small for the input scales")
    return words


def multiply(c: Context) -> Step:
    one, two = c.operand(0), c.operand(1)
    real = float(one.scales[0]) * float(two.scales[0]) / float(c.output.scales[0])
    multiplier, shift = quantize_multiplier(real)
    if shift > _MAX_PRODUCT_SHIFT:
        raise c.error("the output scale is too small for the input scales")
    return _arithmetic(c, 0, (zero_point(one), 0, 0, zero_point(two), 0, 0, multiplier, shift), c.clamp())


def subtract(c: Context) -> Step:
    return _arithmetic(c, 1, _common_scale(c), c.clamp())


def maximum(c: Context) -> Step:
    return _larger_or_smaller(c, 2)


def minimum(c: Context) -> Step:
    return _larger_or_smaller(c, 3)


def prelu(c: Context) -> Step:
    """The value itself where it is not negative, else times the second input."""
    source, slope = c.operand(0), c.operand(1)
    in_scale, slope_scale, out_scale = (float(tensor.scales[0]) for tensor in (source, slope, c.output))
    same = quantize_multiplier(in_scale / out_scale)
    below = quantize_multiplier(in_scale * slope_scale / out_scale)
    if same[1] > _MAX_DIFFERENCE_SHIFT or below[1] > _MAX_PRODUCT_SHIFT:
        raise c.error("the output scale is too small for the input scales")
    words = (zero_point(source), *same, zero_point(slope), *below, 0, 0)
    return _arithmetic(c, 4, words, (INT8_MIN, INT8_MAX))


def _larger_or_smaller(c: Context, which: int) -> Step:
    for position in (0, 1):
        c.same_scale(c.operand(position))
    return _arithmetic(c, which, (0,) * 8, (INT8_MIN, INT8_MAX))


def _arithmetic(c: Context, which: int, words: Sequence[int], clamp: Tuple[int, int]) -> Step:
    one, two = c.operand(0), c.operand(1)
    hwc, steps = _broadcast(c, one, two)
    return Step(
        ARITHMETIC, c.op, (one.index, two.index), c.output.index, (1, 1, 1), hwc, parameters=(which,),
        table=struct.pack("<14i", *words, *steps), out_zero_point=zero_point(c.output), clamp=clamp,
    )  # fmt: skip


def _broadcast(c: Context, one: Tensor, two: Tensor) -> Tuple[Hwc, List[int]]:
    """The output as height, width, channels, and the steps of both inputs through it."""
    shapes = [(1,) * (4 - len(tensor.shape)) + tuple(tensor.shape) for tensor in (one, two, c.output)]
    out = shapes[2]
    fits = all(len(shape) == 4 for shape in shapes) and out[0] == 1
    if (
        not fits
        or tuple(map(max, shapes[0], shapes[1])) != out
        or any(n not in (1, o) for shape in shapes[:2] for n, o in zip(shape, out))
    ):
        raise c.error(
            f"shapes {one.shape} and {two.shape} to {c.output.shape}; supported is broadcasting of a batch of 1"
        )
    steps: List[int] = []
    for _, height, width, channels in shapes[:2]:
        steps += [width * channels * (height > 1), channels * (width > 1), int(channels > 1)]
    return (out[1], out[2], out[3]), steps


def _fused(table: int) -> Options:
    return Options(table, (ACTIVATION,))


OPERATORS = (
    Operator("ADD", _fused(11), Kernel((8, 4), "b" + 14 * "i"), (ADD, ADD_BROADCAST), add),
    Operator("MAXIMUM", kernel=Kernel((0, 1), ""), kinds=(ARITHMETIC,), plan=maximum),
    Operator("MINIMUM", kernel=Kernel((0, 1), ""), kinds=(ARITHMETIC,), plan=minimum),
    Operator("MUL", _fused(21), Kernel((4, 4), 9 * "i"), (ARITHMETIC,), multiply),
    Operator("PRELU", kernel=Kernel((0, 1), 7 * "i"), kinds=(ARITHMETIC,), plan=prelu),
    Operator("SUB", _fused(28), Kernel((8, 4), "b" + 12 * "i"), (ARITHMETIC,), subtract),
)
