"""The energies of a spectrum, in the integers of firmware/audio/spectrum.h: KISS FFT's real transform with 16 bits.

`samples` real numbers are half as many complex ones, transformed in stages of radix 4, the innermost of radix 2 where their
number is no power of 4. Each stage divides by its radix before it adds, so the result is the transform over its length.
"""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

_ONE = 0x7FFF
_Complex = Tuple[np.ndarray, np.ndarray]
"""Real and imaginary part, int32 that hold what int16 can."""


def energies(heard: np.ndarray, turns: np.ndarray, samples: int) -> np.ndarray:
    """int16 (steps, up to `samples`) -> int64 (steps, samples / 2); of the constant part, which no filter takes, 0.

    `turns` as in AudioTables.
    """
    padded = np.zeros((len(heard), samples), np.int32)
    padded[:, : heard.shape[1]] = heard
    count = samples // 2
    real, imaginary = _transform((padded[:, 0::2], padded[:, 1::2]), turns, count)
    energy = np.zeros((len(heard), count), np.int64)
    low = np.arange(1, count // 2 + 1)
    high = count - low
    one = _divided((real[:, low], imaginary[:, low]), 2)
    other = _divided((real[:, high], _int16(-imaginary[:, high])), 2)
    even, odd = _added(one, other), _subtracted(one, other)
    turned = _multiplied(odd, turns[samples // 4 + low])
    for bins, sign in ((low, 1), (high, -1)):  # the middle one is both: the second counts
        halves = (even[0] + sign * turned[0]) >> 1, (turned[1] + sign * even[1]) >> 1
        energy[:, bins] = _int16(halves[0]).astype(np.int64) ** 2 + _int16(halves[1]).astype(np.int64) ** 2
    return energy


def _transform(values: _Complex, turns: np.ndarray, count: int) -> _Complex:
    radices = _radices(count)
    order = _order(radices)
    real, imaginary = values[0][:, order], values[1][:, order]
    size = 1
    for radix in reversed(radices):
        shape = (len(real), count // (radix * size), radix, size)
        stage = real.reshape(shape), imaginary.reshape(shape)
        turn = 2 * count // (radix * size) * np.arange(size)
        legs = [_divided((stage[0][:, :, leg], stage[1][:, :, leg]), radix) for leg in range(radix)]
        legs[1:] = [_multiplied(leg, turns[number * turn]) for number, leg in enumerate(legs[1:], 1)]
        joined = (_four if radix == 4 else _two)(legs)
        real, imaginary = (np.stack([leg[part] for leg in joined], axis=2).reshape(len(real), count) for part in (0, 1))
        size *= radix
    return real, imaginary


def _two(legs: List[_Complex]) -> List[_Complex]:
    return [_added(legs[0], legs[1]), _subtracted(legs[0], legs[1])]


def _four(legs: List[_Complex]) -> List[_Complex]:
    even, across = _added(legs[0], legs[2]), _subtracted(legs[0], legs[2])
    odd, difference = _added(legs[1], legs[3]), _subtracted(legs[1], legs[3])
    quarter = (difference[1], _int16(-difference[0]))  # times -i
    return [_added(even, odd), _added(across, quarter), _subtracted(even, odd), _subtracted(across, quarter)]


def _radices(count: int) -> List[int]:
    """4 as often as it divides, then 2."""
    radices = []
    while count > 1:
        radices.append(4 if count % 4 == 0 else 2)
        count //= radices[-1]
    return radices


def _order(radices: List[int]) -> np.ndarray:
    """Which value each place of the innermost stage takes: the digits of a place, read backwards."""
    order = np.zeros(1, np.int64)
    step = 1
    for radix in radices:
        order = (order[:, None] + step * np.arange(radix)).ravel()
        step *= radix
    return order


def _int16(value: np.ndarray) -> np.ndarray:
    return value.astype(np.int16).astype(np.int32)


def _divided(value: _Complex, by: int) -> _Complex:
    return _rounded(value[0] * (_ONE // by)), _rounded(value[1] * (_ONE // by))


def _multiplied(value: _Complex, turn: np.ndarray) -> _Complex:
    real, imaginary = turn[:, 0].astype(np.int32), turn[:, 1].astype(np.int32)
    return (
        _rounded(value[0] * real - value[1] * imaginary),
        _rounded(value[0] * imaginary + value[1] * real),
    )


def _rounded(product: np.ndarray) -> np.ndarray:
    """Over 2^15, halves upwards."""
    return _int16((product + (1 << 14)) >> 15)


def _added(one: _Complex, other: _Complex) -> _Complex:
    return _int16(one[0] + other[0]), _int16(one[1] + other[1])


def _subtracted(one: _Complex, other: _Complex) -> _Complex:
    return _int16(one[0] - other[0]), _int16(one[1] - other[1])
