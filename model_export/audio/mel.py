"""The mel scale in float32: 1127 ln(1 + f / 700) (O'Shaughnessy, Speech Communication, 1987).

A filter's weight follows from the difference of two such numbers, so their last bit decides some weights. The C libraries of
ESP32 (newlib) and, before glibc 2.41, of Linux have log1pf from Sun's fdlibm, which is not always the nearest float32: so the
logarithm here takes its steps, each rounded to float32 (fdlibm's s_log1p.c says why they suffice).
"""

import numpy as np

_F = np.float32
_LN2_HIGH, _LN2_LOW = _F(0.693138122558593750), _F(9.05800061445916071534e-06)
_SERIES = [
    _F(c)
    for c in (0.66666668653, 0.40000000596, 0.28571429849, 0.22222198546, 0.1818357259, 0.15313838422, 0.1479819864)
]
_ONE, _HALF_BITS = 0x3F800000, 0x3F000000
_SMALL = _F(0.41421387)
_ROOT_HALF = 0x3504F7
"""The mantissa from which on half a number is nearer to 1."""


def mel(hertz: np.ndarray) -> np.ndarray:
    """float32 of frequencies from 0 to 1e9."""
    return _F(1127) * log_of_one_plus(np.asarray(hertz, np.float32) / _F(700))


def log_of_one_plus(x: np.ndarray) -> np.ndarray:
    """ln(1 + x) of float32 from 0 to 1e9: 1 + x = 2^k (1 + f), where sqrt(1/2) < 1 + f < sqrt(2)."""
    x = np.asarray(x, np.float32)
    total = _F(1) + x
    bits = total.view(np.int32)
    k = (bits >> 23) - 127
    lost = np.where(k > 0, _F(1) - (total - x), x - (total - _F(1))) / total
    mantissa = bits & 0x7FFFFF
    above = mantissa >= _ROOT_HALF
    f = (mantissa | np.where(above, _HALF_BITS, _ONE)).astype(np.int32).view(np.float32) - _F(1)
    k = (k + above).astype(np.float32)
    small = x < _SMALL
    f, k = np.where(small, x, f), np.where(small, _F(0), k)
    half_square = _F(0.5) * f * f
    s = f / (_F(2) + f)
    square = s * s
    rest = np.full_like(square, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        rest = coefficient + square * rest
    rest = square * rest
    direct = f - (half_square - s * (half_square + rest))
    scaled = k * _LN2_HIGH - ((half_square - (s * (half_square + rest) + (k * _LN2_LOW + lost))) - f)
    return np.where(k == 0, direct, scaled).astype(np.float32)
