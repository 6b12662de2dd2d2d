"""What an operator makes of each of the 256 int8 values, computed ahead of time with TFLM's roundings. int8 (256,) throughout.

Each raises ValueError for scales TFLM's own arithmetic has no meaning for.
"""

from __future__ import annotations

from typing import Callable, Tuple

import numpy as np

from model_export.plan_math import (
    FIXED_BITS,
    INT8_MAX,
    INT8_MIN,
    exp_on_negative,
    high_multiply,
    multiply_by_quantized,
    quantize_multiplier,
    rounding_shift,
    saturating_shift_left,
    table_of_scaled,
)

_INT16_MIN, _INT16_MAX = -(2**15), 2**15 - 1
_MAX_SHIFT = 22  # a difference of two int8 values, shifted, still has 32 bits
_ONE_QUARTER_BITS = 29  # 1 in Q2.29


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
        size = _one_minus_over_one_plus(exp_on_negative(-abs(scaled), FIXED_BITS + 1))  # of exp(-2 |x|)
        return rounding_shift(size if scaled > 0 else -size if scaled < 0 else 0, 24)

    return table_of_scaled(in_scale, in_zero, tanh)


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
