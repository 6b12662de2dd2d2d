"""The energies of a spectrum, in the integers of firmware/audio/spectrum.h: KISS FFT's real transform with 16 bits, or the same
steps with 32.

`samples` real numbers are half as many complex ones, transformed in stages of radix 4, the innermost of radix 2 where their
number is no power of 4. Each stage divides by its radix before it adds, so the result is the transform over its length.
"""

from __future__ import annotations

from typing import Any, List, Tuple, Type

import numpy as np

_ONE = 0x7FFF
_Complex = Tuple[np.ndarray, np.ndarray]
"""Real and imaginary part, of twice the bits that a board gives them."""


class Words:
    """What the parts of a board's complex numbers are: int16, or int32."""

    def __init__(self, part: Type[np.signedinteger[Any]], held: Type[np.signedinteger[Any]]) -> None:
        self._part, self.held = part, held

    def wrapped(self, value: np.ndarray) -> np.ndarray:
        return value.astype(self._part).astype(self.held)

    def divided(self, value: _Complex, by: int) -> _Complex:
        """KISS FFT multiplies parts of 16 bits; those of 32 are shifted, halves upwards."""
        if self._part is np.int16:
            return self._rounded(value[0] * (_ONE // by)), self._rounded(value[1] * (_ONE // by))
        places = by.bit_length() - 1
        return (value[0] + by // 2) >> places, (value[1] + by // 2) >> places

    def multiplied(self, value: _Complex, turn: np.ndarray) -> _Complex:
        real, imaginary = turn[:, 0].astype(self.held), turn[:, 1].astype(self.held)
        return (
            self._rounded(value[0] * real - value[1] * imaginary),
            self._rounded(value[0] * imaginary + value[1] * real),
        )

    def _rounded(self, product: np.ndarray) -> np.ndarray:
        """Over 2^15, halves upwards."""
        return self.wrapped((product + (1 << 14)) >> 15)

    def added(self, one: _Complex, other: _Complex) -> _Complex:
        return self.wrapped(one[0] + other[0]), self.wrapped(one[1] + other[1])

    def subtracted(self, one: _Complex, other: _Complex) -> _Complex:
        return self.wrapped(one[0] - other[0]), self.wrapped(one[1] - other[1])


NARROW, WIDE = Words(np.int16, np.int32), Words(np.int32, np.int64)


def energies(heard: np.ndarray, turns: np.ndarray, samples: int, words: Words) -> np.ndarray:
    """Whole numbers (steps, up to `samples`) -> int64 (steps, samples / 2); of the constant part, which no filter takes, 0.

    `turns` as in AudioTables. Numbers are below 2^15, or with 32 bits below 2^29.5.
    """
    padded = np.zeros((len(heard), samples), words.held)
    padded[:, : heard.shape[1]] = heard
    count = samples // 2
    real, imaginary = _transform((padded[:, 0::2], padded[:, 1::2]), turns, count, words)
    energy = np.zeros((len(heard), count), np.int64)
    low = np.arange(1, count // 2 + 1)
    high = count - low
    one = words.divided((real[:, low], imaginary[:, low]), 2)
    other = words.divided((real[:, high], words.wrapped(-imaginary[:, high])), 2)
    even, odd = words.added(one, other), words.subtracted(one, other)
    turned = words.multiplied(odd, turns[samples // 4 + low])
    for bins, sign in ((low, 1), (high, -1)):  # the middle one is both: the second counts
        halves = (even[0] + sign * turned[0]) >> 1, (turned[1] + sign * even[1]) >> 1
        energy[:, bins] = (
            words.wrapped(halves[0]).astype(np.int64) ** 2 + words.wrapped(halves[1]).astype(np.int64) ** 2
        )
    return energy


def _transform(values: _Complex, turns: np.ndarray, count: int, words: Words) -> _Complex:
    radices = _radices(count)
    order = _order(radices)
    real, imaginary = values[0][:, order], values[1][:, order]
    size = 1
    for radix in reversed(radices):
        shape = (len(real), count // (radix * size), radix, size)
        stage = real.reshape(shape), imaginary.reshape(shape)
        turn = 2 * count // (radix * size) * np.arange(size)
        legs = [words.divided((stage[0][:, :, leg], stage[1][:, :, leg]), radix) for leg in range(radix)]
        legs[1:] = [_turned(leg, turns[number * turn], words) for number, leg in enumerate(legs[1:], 1)]
        joined = (_four if radix == 4 else _two)(legs, words)
        real, imaginary = (np.stack([leg[part] for leg in joined], axis=2).reshape(len(real), count) for part in (0, 1))
        size *= radix
    return real, imaginary


def _turned(leg: _Complex, turn: np.ndarray, words: Words) -> _Complex:
    turned = words.multiplied(leg, turn)
    for part, before in zip(turned, leg):
        part[..., 0] = before[..., 0]  # the first root is 1, not 32767/32768
    return turned


def _two(legs: List[_Complex], words: Words) -> List[_Complex]:
    return [words.added(legs[0], legs[1]), words.subtracted(legs[0], legs[1])]


def _four(legs: List[_Complex], words: Words) -> List[_Complex]:
    even, across = words.added(legs[0], legs[2]), words.subtracted(legs[0], legs[2])
    odd, difference = words.added(legs[1], legs[3]), words.subtracted(legs[1], legs[3])
    quarter = (difference[1], words.wrapped(-difference[0]))  # times -i
    return [
        words.added(even, odd),
        words.added(across, quarter),
        words.subtracted(even, odd),
        words.subtracted(across, quarter),
    ]


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
