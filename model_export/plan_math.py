"""Fixed-point arithmetic of int8 TFLite models, written from its definition: gemmlowp's rounding, exp and reciprocal.

Python integers throughout; the firmware does the same per output value (firmware/engine/direct/fixed_point.h), the plan
compiler does here whatever can be known before an input is seen.
"""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

INT8_MIN, INT8_MAX = -128, 127
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_EXP_MINUS_ONE_EIGHTH = 1895147668  # Q0.31
_ONE_THIRD = 715827883
_LARGEST_RATIO = 2.0**31 - 256  # a zero point is added to it in 32 bits
# exp(-2**k) in Q0.31 for k = -2 .. 4
_EXP_MINUS_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}


def quantize_multiplier(real: float) -> Tuple[int, int]:
    """`real` as (q, shift) with real ~ q / 2**31 * 2**shift and q in [2**30, 2**31), or (0, 0). OverflowError if infinite."""
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    q = math.floor(fraction * 2**31 + 0.5)
    if q == 2**31:
        q, shift = q // 2, shift + 1
    return (0, 0) if shift < -31 else (q, shift)


def high_multiply(a: int, b: int) -> int:
    """Saturating rounding doubling high multiply: round(a * b / 2**31), halves towards plus infinity."""
    if a == b == INT32_MIN:
        return INT32_MAX
    return (a * b + 2**30) >> 31


def rounding_shift(x: int, exponent: int) -> int:
    """round(x / 2**exponent), halves away from zero."""
    if exponent == 0:
        return x
    return (x + (1 << (exponent - 1)) - (x < 0)) >> exponent


def multiply_by_quantized(x: int, multiplier: int, shift: int) -> int:
    """Both roundings of TFLM: the high multiply, then the shift."""
    return rounding_shift(high_multiply(x << max(shift, 0), multiplier), max(-shift, 0))


def saturating_shift_left(x: int, exponent: int) -> int:
    return min(max(x << exponent, INT32_MIN), INT32_MAX)


def exp_on_negative(a: int, integer_bits: int) -> int:
    """exp(a) for a <= 0 in Q`integer_bits`, as Q0.31; integer_bits at most 5."""
    if a == 0:
        return INT32_MAX
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    below_quarter = (a & (quarter - 1)) - quarter
    # A Taylor polynomial around -1/8 for the part in [-1/4, 0), then one factor for each set bit of the rest.
    x = saturating_shift_left(below_quarter, integer_bits) + (1 << 28)
    x2 = high_multiply(x, x)
    x3 = high_multiply(x2, x)
    x4 = high_multiply(x2, x2)
    tail = rounding_shift(high_multiply(rounding_shift(x4, 2) + x3, _ONE_THIRD) + x2, 1)
    result = _EXP_MINUS_ONE_EIGHTH + high_multiply(_EXP_MINUS_ONE_EIGHTH, x + tail)
    remainder = below_quarter - a
    for exponent, factor in _EXP_MINUS_POWERS.items():
        if exponent < integer_bits and remainder & (1 << (fraction_bits + exponent)):
            result = high_multiply(result, factor)
    return result


def one_over_one_plus(a: int) -> int:
    """1 / (1 + a) for a in [0, 1), both Q0.31: three Newton steps on half the denominator."""
    half = (a + INT32_MAX + 1) >> 1
    x = 1515870810 + high_multiply(half, -1010580540)  # 48/17 - 32/17 * half, Q2.29
    for _ in range(3):
        x += saturating_shift_left(high_multiply(x, (1 << 29) - high_multiply(half, x)), 2)
    return saturating_shift_left(x, 1)


def input_radius(integer_bits: int, left_shift: int) -> int:
    """Largest |input| whose rescaled value still fits `integer_bits`."""
    return math.floor((2**integer_bits - 1) * 2 ** (31 - integer_bits) / 2.0**left_shift)


def activation_range(activation: str, scale: np.float32, zero_point: int) -> Tuple[int, int]:
    """The int8 range a fused activation clamps to. Raises ValueError for one that is not a clamp, or a scale too small for it."""

    def quantize(value: float) -> int:
        ratio = float(np.float32(value) / scale)
        if abs(ratio) > _LARGEST_RATIO:
            raise ValueError(f"scale {scale:g} is too small for {activation}: {value:g} is beyond 32 bits in it")
        return zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))

    bounds = {"none": (None, None), "relu": (0.0, None), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}
    if activation not in bounds:
        raise ValueError(f"fused {activation}; supported: none, relu, relu6, relu_n1_to_1")
    low, high = bounds[activation]
    return (
        INT8_MIN if low is None else max(INT8_MIN, quantize(low)),
        INT8_MAX if high is None else min(INT8_MAX, quantize(high)),
    )
