"""Whole-number arithmetic of int8 models on arrays, as TensorFlow Lite Micro rounds: gemmlowp's products, exp and reciprocal.

The exporter (model_export/plan_math.py, operators/) has the same for one number at a time, which a node's rooms do without; a
test compares the two. All arrays are int64 and hold what 32 bits hold.
"""

import math
from typing import Any, Callable, Tuple

import numpy as np

INT8_MIN, INT8_MAX = -128, 127
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_FIXED_BITS = 4
_EXP_BITS = 5
_EXP_MINUS_ONE_EIGHTH, _ONE_THIRD = 1895147668, 715827883
_EXP_MINUS_POWERS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
_SUM_BITS = 12
"""Before the point, of what a softmax adds up: 4,095 numbers at most."""


def multiplier_of(real: float) -> Tuple[int, int]:
    """`real` (>= 0) as (q, shift): real is about q / 2^31 * 2^shift, q in [2^30, 2^31), or (0, 0)."""
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    q = math.floor(fraction * 2**31 + 0.5)
    if q == 2**31:
        q, shift = q // 2, shift + 1
    return (0, 0) if shift < -31 else (q, shift)


def high_multiply(a: Any, b: Any) -> np.ndarray:
    """round(a b / 2^31), halves up, at most what 32 bits hold."""
    return np.asarray(np.minimum((a * b + 2**30) >> 31, _INT32_MAX))


def rounding_shift(x: np.ndarray, exponent: Any) -> np.ndarray:
    """round(x / 2^exponent), halves away from zero; exponents of 0 to 31."""
    half = np.where(exponent > 0, np.int64(1) << np.maximum(exponent - 1, 0), 0)
    return np.asarray((x + half - ((x < 0) & (exponent > 0))) >> exponent)


def rescaled(x: np.ndarray, multiplier: Any, shift: Any) -> np.ndarray:
    """x times what `multiplier_of` gave; x 2^shift has to fit 32 bits."""
    return rounding_shift(high_multiply(x << np.maximum(shift, 0), multiplier), np.maximum(-shift, 0))


def softmax(values: np.ndarray, scale: float, beta: float) -> np.ndarray:
    """int64 (n, depth) of int8 values: shares in 256ths less 128. ValueError for a scale that 32 bits do not hold."""
    real = min(beta * scale * 2 ** (31 - _EXP_BITS), 2.0**31 - 1.0)
    if not real > 1:
        raise ValueError(f"scale {scale:g} of a softmax's input is too small")
    multiplier, left = multiplier_of(real)
    entries = min(_radius(_EXP_BITS, left), 255) + 1
    exps = _exp_on_negative(high_multiply(-np.arange(entries) << left, np.int64(multiplier)), _EXP_BITS)
    below = values.max(axis=1, keepdims=True) - values
    counts = below < entries
    own = np.where(counts, exps[np.minimum(below, entries - 1)], 0)
    whole = np.where(counts, rounding_shift(own, np.int64(_SUM_BITS)), 0).sum(axis=1, keepdims=True)
    leading = 32 - np.frexp(whole.astype(np.float64))[1].astype(np.int64)
    reciprocal = _one_over_one_plus((whole << leading) - 2**31)
    shares = rounding_shift(high_multiply(own, reciprocal), _SUM_BITS - leading + 31 - 8)
    return np.clip(np.where(counts, shares, 0) + INT8_MIN, INT8_MIN, INT8_MAX)


def logistic_table(scale: float, zero_point: int) -> np.ndarray:
    """int64 (256,): 1 / (1 + exp(-x)) of each int8 value, in 256ths less 128. ValueError as of `softmax`."""

    def logistic(scaled: np.ndarray) -> np.ndarray:
        positive = _one_over_one_plus(_exp_on_negative(-np.abs(scaled), _FIXED_BITS))
        real = np.where(scaled == 0, 1 << 30, np.where(scaled > 0, positive, _INT32_MAX - positive))
        return rounding_shift(real, np.int64(23)) + INT8_MIN

    return _table(scale, zero_point, logistic)


def tanh_table(scale: float, zero_point: int) -> np.ndarray:
    """int64 (256,): tanh of each int8 value, in 128ths. ValueError as of `softmax`."""

    def tanh(scaled: np.ndarray) -> np.ndarray:
        size = _one_minus_over_one_plus(_exp_on_negative(-np.abs(scaled), _FIXED_BITS + 1))
        return rounding_shift(np.sign(scaled) * size, np.int64(24))

    return _table(scale, zero_point, tanh)


def _table(scale: float, zero_point: int, value_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    fraction, left = math.frexp(scale * 2 ** (31 - _FIXED_BITS))
    if not 0 <= left < 63:
        raise ValueError(f"scale {scale:g} of an input is too small or too large")
    radius = _radius(_FIXED_BITS, left)
    x = np.arange(INT8_MIN, INT8_MAX + 1) - zero_point
    inside = (x > -radius) & (x < radius)
    multiplier = np.int64(math.floor(fraction * 2**31 + 0.5))
    scaled = rescaled(np.where(inside, x, 0), multiplier, np.int64(min(left, 31)))
    found = np.where(inside, value_of(scaled), np.where(x <= -radius, INT8_MIN, INT8_MAX))
    return np.clip(found, INT8_MIN, INT8_MAX)


def _radius(integer_bits: int, left: int) -> int:
    return math.floor((2**integer_bits - 1) * 2 ** (31 - integer_bits) / 2.0**left)


def _shifted_left(x: np.ndarray, exponent: int) -> np.ndarray:
    return np.clip(x << exponent, _INT32_MIN, _INT32_MAX)


def _exp_on_negative(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """exp(a) of a <= 0 with so many bits before the point, in 2^-31."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    below_quarter = (a & (quarter - 1)) - quarter
    x = _shifted_left(below_quarter, integer_bits) + (1 << 28)
    x2 = high_multiply(x, x)
    x3, x4 = high_multiply(x2, x), high_multiply(x2, x2)
    third = high_multiply(rounding_shift(x4, np.int64(2)) + x3, np.int64(_ONE_THIRD))
    tail = rounding_shift(third + x2, np.int64(1))
    found = _EXP_MINUS_ONE_EIGHTH + high_multiply(np.int64(_EXP_MINUS_ONE_EIGHTH), x + tail)
    rest = below_quarter - a
    for exponent, factor in _EXP_MINUS_POWERS:
        if exponent < integer_bits:
            bit = (rest & (1 << (fraction_bits + exponent))) != 0
            found = np.where(bit, high_multiply(found, np.int64(factor)), found)
    return np.where(a == 0, _INT32_MAX, found)


def _newton(a: np.ndarray) -> np.ndarray:
    """1 / (1 + a) for a in [0, 1] of 2^-31, doubled, in 2^-30 and before the last shift: three steps on half the denominator."""
    half = (a + 2**31) >> 1
    x = 1515870810 + high_multiply(half, np.int64(-1010580540))
    for _ in range(3):
        x = x + _shifted_left(high_multiply(x, (1 << 29) - high_multiply(half, x)), 2)
    return np.asarray(x)


def _one_over_one_plus(a: np.ndarray) -> np.ndarray:
    return _shifted_left(_newton(a), 1)


def _one_minus_over_one_plus(a: np.ndarray) -> np.ndarray:
    return _shifted_left(_newton(a) - (1 << 29), 2)
