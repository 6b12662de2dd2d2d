"""Operators on single values, alone or two by two: what engine/direct must know of each."""

from __future__ import annotations

import struct
from typing import List, Sequence, Tuple

import numpy as np

from model_export.plan_context import Context, Hwc, zero_point
from model_export.plan_math import (
    INT8_MAX,
    INT8_MIN,
    activation_range,
    logistic_table,
    quantize_multiplier,
    relu_table,
    softmax_table,
)
from model_export.plan_steps import Step
from model_export.plan_tables import hard_swish_table, leaky_relu_table, rescale_table, tanh_table
from model_export.tflite_file import Tensor

_ADD_LEFT_SHIFT = 20
_MAX_DIFFERENCE_SHIFT = 22  # a difference of two int8 values has 9 bits
_MAX_PRODUCT_SHIFT = 14  # a product of two differences has 17 bits
_MAX_SOFTMAX_DEPTH = 511  # beyond it, TFLM's own shift is out of range


def add(c: Context) -> Step:
    one, two = c.operand(0), c.operand(1)
    words = _common_scale(c)
    if one.shape != two.shape or one.shape != c.output.shape:
        hwc, steps = _broadcast(c, one, two)
        return Step(
            "add_broadcast", c.op, (one.index, two.index), c.output.index, (1, 1, 1), hwc,
            table=struct.pack("<14i", *words, *steps), out_zero_point=zero_point(c.output), clamp=c.clamp(),
        )  # fmt: skip
    size = int(np.prod(one.shape))
    return Step(
        "add", c.op, (one.index, two.index), c.output.index, (1, 1, size), (1, 1, size),
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
        "arithmetic", c.op, (one.index, two.index), c.output.index, (1, 1, 1), hwc, parameters=(which,),
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


def _check_unit_output(c: Context) -> None:
    if float(c.output.scales[0]) != 1 / 256 or zero_point(c.output) != -128:
        raise c.error("the output must have scale 1/256 and zero point -128")


def softmax(c: Context) -> Step:
    _check_unit_output(c)
    source = c.input()
    depth = source.shape[-1]
    if depth > _MAX_SOFTMAX_DEPTH:
        raise c.error(f"{depth} classes; supported are {_MAX_SOFTMAX_DEPTH}")
    shape = (1, int(np.prod(source.shape)) // depth, depth)
    with c.named_errors():
        exps = softmax_table(float(c.op.options["beta"]), float(source.scales[0]))
    table = struct.pack(f"<{1 + len(exps)}i", len(exps), *exps)
    return Step("softmax", c.op, (source.index,), c.output.index, shape, shape, table=table, lag=0)


def _lookup(c: Context, table: np.ndarray) -> Step:
    """Each value replaced by its entry in `table`, int8 (256,)."""
    source = c.input()
    if int(np.prod(source.shape)) != int(np.prod(c.output.shape)):
        raise c.error(f"input {source.shape}, output {c.output.shape}")
    shape = (1, 1, int(np.prod(source.shape)))
    return Step("lut", c.op, (source.index,), c.output.index, shape, shape, table=table.tobytes(), lag=0)


def logistic(c: Context) -> Step:
    _check_unit_output(c)
    with c.named_errors():
        table = logistic_table(float(c.input().scales[0]), zero_point(c.input()))
    return _lookup(c, table)


def tanh(c: Context) -> Step:
    if float(c.output.scales[0]) != 1 / 128 or zero_point(c.output) != 0:
        raise c.error("the output must have scale 1/128 and zero point 0")
    with c.named_errors():
        table = tanh_table(float(c.input().scales[0]), zero_point(c.input()))
    return _lookup(c, table)


def quantize(c: Context) -> Step:
    with c.named_errors():
        table = rescale_table(*_scales(c))
    return _lookup(c, table)


def leaky_relu(c: Context) -> Step:
    with c.named_errors():
        table = leaky_relu_table(float(c.op.options["alpha"]), *_scales(c))
    return _lookup(c, table)


def hard_swish(c: Context) -> Step:
    with c.named_errors():
        table = hard_swish_table(*_scales(c))
    return _lookup(c, table)


def _scales(c: Context) -> Tuple[np.float32, int, np.float32, int]:
    source = c.input()
    return source.scales[0], zero_point(source), c.output.scales[0], zero_point(c.output)


def relu(c: Context) -> Step:
    source = c.input()
    with c.named_errors():
        table = relu_table(source.scales[0], zero_point(source), c.output.scales[0], zero_point(c.output))
    return _lookup(c, table)


def relu6(c: Context) -> Step:
    source = c.input()
    if source.scales[0] != c.output.scales[0] or zero_point(source) != zero_point(c.output):
        raise c.error(
            f"{source.name} has another scale than the output, which TFLM's RELU6 passes over: values come out wrong"
        )
    with c.named_errors():
        low, high = activation_range("relu6", source.scales[0], zero_point(source))
    return _lookup(c, np.clip(np.arange(INT8_MIN, INT8_MAX + 1), low, high).astype(np.int8))
