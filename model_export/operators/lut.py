"""Operators on single values: what each makes of the 256 int8 values, computed ahead of time with TFLM's roundings.

A table is int8 (256,), for the inputs from -128 to 127. What makes one raises ValueError for scales TFLM's own arithmetic has no
meaning for.
"""

from __future__ import annotations

import math
from typing import Callable, Tuple

import numpy as np

from model_export.operator_entry import Agreement, Operator
from model_export.plan_context import Context, zero_point
from model_export.plan_math import (
    INT8_MAX,
    INT8_MIN,
    INT32_MAX,
    activation_range,
    exp_on_negative,
    high_multiply,
    input_radius,
    multiply_by_quantized,
    one_over_one_plus,
    quantize_multiplier,
    rounding_shift,
    saturating_shift_left,
)
from model_export.plan_steps import Kind, Step
from model_export.roundings import product_in_double, quotient_in_float, rescale
from model_export.tflite_model import Op, TfliteModel
from model_export.tflite_options import Options, number
from model_export.tflm_structs import Kernel

LUT = Kind("lut", 8)
"""Table: int8 output[256], for the inputs -128 to 127."""

_FIXED_BITS = 4  # before the point, of what LOGISTIC and TANH are computed of
_INT16_MIN, _INT16_MAX = -(2**15), 2**15 - 1
_MAX_SHIFT = 22  # a difference of two int8 values, shifted, still has 32 bits
_MAX_RELU_SHIFT = 23  # the same, as RELU has it
_ONE_QUARTER_BITS = 29  # 1 in Q2.29


def _lookup(c: Context, table: np.ndarray) -> Step:
    """Each value replaced by its entry in `table`, int8 (256,)."""
    source = c.input()
    if int(np.prod(source.shape)) != int(np.prod(c.output.shape)):
        raise c.error(f"input {source.shape}, output {c.output.shape}")
    shape = (1, 1, int(np.prod(source.shape)))
    return Step(LUT, c.op, (source.index,), c.output.index, shape, shape, table=table.tobytes(), lag=0)


def logistic(c: Context) -> Step:
    c.unit_output()
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


def relu_table(
    input_scale: np.float32, input_zero_point: int, output_scale: np.float32, output_zero_point: int
) -> np.ndarray:
    """int8 (256,): max(x, 0) for each input from -128 to 127, in the scale of the output.

    Raises ValueError where the scales differ by more than 32 bits hold.
    """
    multiplier, shift = quantize_multiplier(float(np.float32(input_scale)) / float(np.float32(output_scale)))
    if shift > _MAX_RELU_SHIFT:
        raise ValueError(f"output scale {output_scale:g} is too small for the input scale {input_scale:g}")
    low, high = activation_range("relu", output_scale, output_zero_point)
    inputs = range(INT8_MIN - input_zero_point, INT8_MAX + 1 - input_zero_point)
    values = [output_zero_point + multiply_by_quantized(x, multiplier, shift) for x in inputs]
    return np.array([min(max(value, low), high) for value in values], np.int8)


def logistic_table(input_scale: float, input_zero_point: int) -> np.ndarray:
    """int8 (256,): the output for each input from -128 to 127; output scale 1/256, zero point -128.

    Raises ValueError where the shift is one TFLM's own arithmetic has no meaning for.
    """

    def logistic(scaled: int) -> int:
        positive = one_over_one_plus(exp_on_negative(-abs(scaled), _FIXED_BITS))
        real = 1 << 30 if scaled == 0 else positive if scaled > 0 else INT32_MAX - positive
        return rounding_shift(real, 23) + INT8_MIN

    return _table_of_scaled(input_scale, input_zero_point, logistic)


def _table(value_of: Callable[[int], int]) -> np.ndarray:
    values = [value_of(q) for q in range(INT8_MIN, INT8_MAX + 1)]
    return np.array([min(max(value, INT8_MIN), INT8_MAX) for value in values], np.int8)


def rescale_table(in_scale: np.float32, in_zero: int, out_scale: np.float32, out_zero: int) -> np.ndarray:
    """The same real value in another scale."""
    multiplier, shift = _multiplier(float(in_scale) / float(out_scale))
    return _table(lambda q: out_zero + multiply_by_quantized(q - in_zero, multiplier, shift))


def leaky_relu_table(
    alpha: float,
    in_scale: np.float32,
    in_zero: int,
    out_scale: np.float32,
    out_zero: int,
    in_double: bool = True,
) -> np.ndarray:
    """x where it is not negative, else alpha * x. Not `in_double`: as earlier versions of TFLM divide the scales."""
    if not alpha >= 0:
        raise ValueError(f"alpha is {alpha:g}; supported is 0 and more")
    kind = np.float64 if in_double else np.float32
    same = _multiplier(float(kind(in_scale) / kind(out_scale)))
    below = _multiplier(float(kind(in_scale) * kind(np.float32(alpha)) / kind(out_scale)))
    return _table(lambda q: out_zero + multiply_by_quantized(q - in_zero, *(same if q >= in_zero else below)))


def tanh_table(in_scale: float, in_zero: int) -> np.ndarray:
    """Output scale 1/128, zero point 0."""

    def tanh(scaled: int) -> int:
        size = _one_minus_over_one_plus(exp_on_negative(-abs(scaled), _FIXED_BITS + 1))  # of exp(-2 |x|)
        return rounding_shift(size if scaled > 0 else -size if scaled < 0 else 0, 24)

    return _table_of_scaled(in_scale, in_zero, tanh)


def hard_swish_table(in_scale: np.float32, in_zero: int, out_scale: np.float32, out_zero: int) -> np.ndarray:
    """x * min(max(x + 3, 0), 6) / 6, in 16 bits."""
    fine = np.float32(1 / 128) * np.float32(in_scale)
    out_multiplier, out_shift = _multiplier(float(fine / np.float32(out_scale)))
    if out_shift > 0:
        raise ValueError(f"output scale {out_scale:g} is too small for the input scale {in_scale:g}")
    gate_multiplier, gate_shift = quantize_multiplier(float(fine / (np.float32(3) / np.float32(32768))))
    if out_shift < -15 or gate_shift < -15:
        raise ValueError(f"input scale {in_scale:g} and output scale {out_scale:g}: more than 16 bits apart")
    out16, gate16 = _to_16_bits(out_multiplier), _to_16_bits(gate_multiplier)

    def swish(q: int) -> int:
        x = _wrapped_16(128 * (q - in_zero))
        gate = x if gate_shift <= 0 else _shifted_16(x, gate_shift - 1)
        gate = _high_multiply_16(gate, gate16)
        gate = _shifted_16(gate, 1) if gate_shift > 0 else rounding_shift(gate, -gate_shift)
        gate = (gate + 2**15) >> 1
        product = gate * _high_multiply_16(x, out16)
        high = -(-product // 2**15) if product < 0 else product // 2**15
        return rounding_shift(high, -out_shift) + out_zero

    return _table(swish)


def _multiplier(real: float) -> Tuple[int, int]:
    multiplier, shift = quantize_multiplier(real)
    if shift > _MAX_SHIFT:
        raise ValueError(
            f"an output scale {real:.3g} times smaller than the input's; supported is {2.0**_MAX_SHIFT:.3g}"
        )
    return multiplier, shift


def _one_minus_over_one_plus(a: int) -> int:
    """(1 - a) / (1 + a) for a in [0, 1], both Q0.31: twice the reciprocal of 1 + a, less 1."""
    half = (a + 2**31) >> 1
    x = 1515870810 + high_multiply(half, -1010580540)  # 48/17 - 32/17 * half, Q2.29
    for _ in range(3):
        x += saturating_shift_left(high_multiply(x, (1 << _ONE_QUARTER_BITS) - high_multiply(half, x)), 2)
    return saturating_shift_left(x - (1 << _ONE_QUARTER_BITS), 2)


def _to_16_bits(multiplier: int) -> int:
    return min((multiplier + 2**15) >> 16, _INT16_MAX)


def _wrapped_16(value: int) -> int:
    return (value + 2**15) % 2**16 - 2**15


def _shifted_16(value: int, exponent: int) -> int:
    return min(max(value << min(exponent, 16), _INT16_MIN), _INT16_MAX)


def _high_multiply_16(a: int, b: int) -> int:
    """round(a * b / 2**15), halves away from zero but for one bias of TFLM below zero."""
    product = a * b
    nudged = product + (2**14 if product >= 0 else 1 - 2**14)
    return nudged // 2**15 if nudged >= 0 else -(-nudged // 2**15)


def _table_of_scaled(input_scale: float, input_zero_point: int, value_of: Callable[[int], int]) -> np.ndarray:
    """int8 (256,): `value_of` each input from -128 to 127 in fixed point (_FIXED_BITS); the ends of int8 where that has no room.

    Raises ValueError where the shift is one TFLM's own arithmetic has no meaning for.
    """
    fraction, left_shift = math.frexp(input_scale * 2 ** (31 - _FIXED_BITS))
    if not 0 <= left_shift < 63:
        raise ValueError(f"input scale {input_scale:g}; supported is {2.0**-28:g} to {2.0**35:g}")
    multiplier = math.floor(fraction * 2**31 + 0.5)
    radius = input_radius(_FIXED_BITS, left_shift)

    def entry(x: int) -> int:
        # In this order: from an input scale of 8 the radius is 0, and the zero point itself goes to the lowest value.
        if x <= -radius:
            return INT8_MIN
        if x >= radius:
            return INT8_MAX
        return min(max(value_of(multiply_by_quantized(x, multiplier, left_shift)), INT8_MIN), INT8_MAX)

    return np.array([entry(q - input_zero_point) for q in range(INT8_MIN, INT8_MAX + 1)], np.int8)


def relu_agreement(model: TfliteModel, op: Op) -> Agreement:
    """One of its own that changes the scale: the wheel divides in double, earlier versions of TFLM in float."""
    source, output = model.tensors[op.inputs[0]], model.tensors[op.outputs[0]]

    def agree(inputs: np.ndarray) -> np.ndarray:
        centred = inputs.astype(np.int64) - int(source.zero_points[0])
        scales = source.scales[0], np.float32(1), output.scales[0]
        one, other = (rescale(centred, *way(*scales)) for way in (product_in_double, quotient_in_float))
        return (one == other).reshape(len(inputs), -1).all(1)

    return agree


def leaky_relu_agreement(model: TfliteModel, op: Op) -> Agreement:
    source, output = model.tensors[op.inputs[0]], model.tensors[op.outputs[0]]

    def agree(inputs: np.ndarray) -> np.ndarray:
        edges = source.scales[0], int(source.zero_points[0]), output.scales[0], int(output.zero_points[0])
        one, other = (leaky_relu_table(float(op.options["alpha"]), *edges, in_double=way) for way in (True, False))
        return (one == other)[inputs.astype(np.int64) + 128].reshape(len(inputs), -1).all(1)

    return agree


def _known(name: str, data: str, plan: Callable[[Context], Step], scores: bool = False) -> Operator:
    """One without options."""
    return Operator(name, kernel=Kernel((0, 1), data), kinds=(LUT,), plan=plan, scores=scores)


OPERATORS = (
    _known("HARD_SWISH", 5 * "i", hard_swish),
    Operator(
        "LEAKY_RELU",
        options=Options(75, (("alpha", number("<f", 0.0)),)),
        kernel=Kernel((4, 4), 6 * "i"),
        kinds=(LUT,),
        plan=leaky_relu,
        agreement=leaky_relu_agreement,
    ),
    _known("LOGISTIC", "iiii", logistic, scores=True),
    _known("QUANTIZE", "i" + "d" + "iii", quantize),
    Operator("RELU", kernel=Kernel((0, 1), "b" + 6 * "i"), kinds=(LUT,), plan=relu, agreement=relu_agreement),
    _known("RELU6", "bb", relu6),
    _known("TANH", "iiii", tanh),
)
