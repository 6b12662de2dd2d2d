"""Randomness nobody can predict: AES-256 in counter mode under a key from the operating system.

What is released is noised with whole numbers, exactly distributed: `discrete.py`.
"""

import os
from typing import Callable, Dict, Hashable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

_ZEROS = memoryview(bytes(1 << 17))
"""What is encrypted, a piece at a time: the key stream itself."""

_AHEAD = 1 << 13


def key_stream() -> CipherContext:
    """What makes the next bits, of a key and a counter nobody else has."""
    return Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()


class SecureRandom:
    """Uniform bits, and numbers made of them, from a CSPRNG; a new key per object and process, never a seed."""

    def __init__(self) -> None:
        self._piece = bytearray(len(_ZEROS) + 16)  # the library wants room for one block more than it writes
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._key_stream = key_stream()
        self.ahead: Dict[Hashable, np.ndarray] = {}
        """Numbers of some law that were drawn and not yet used, by law: `drawn_ahead` hands each out once."""

    @property
    def _stream(self) -> CipherContext:
        """Of this process alone: two that went on from one fork would draw the same noise, and a difference would have none."""
        if self._process != os.getpid():
            self._begin()
        return self._key_stream

    def words(self, size: int) -> np.ndarray:
        """uint64 (size,), all 64 bits uniform and independent."""
        buffer = bytearray(8 * size + 16)
        view = memoryview(buffer)
        for start in range(0, 8 * size, len(_ZEROS)):
            self._stream.update_into(_ZEROS[: 8 * size - start], view[start:])
        return np.frombuffer(buffer, np.uint64, size)

    def uniform(self, size: int) -> np.ndarray:
        """float64 (size,), uniform in [0, 1) with 52 random bits."""
        # As the fraction of a float of [1, 2): machines have no fast conversion of 64-bit integers.
        return (self.words(size) >> np.uint64(12) | np.uint64(0x3FF << 52)).view(np.float64) - 1.0

    def fractions(self, size: int) -> np.ndarray:
        """float64 (size,), uniform multiples of 2^-32 in [0, 1): half the bits of `uniform`, in half the time."""
        found, view = np.empty(size, np.float64), memoryview(self._piece)
        digits = np.frombuffer(self._piece, np.uint32)
        for start in range(0, size, len(_ZEROS) // 4):
            count = min(size - start, len(_ZEROS) // 4)
            self._stream.update_into(_ZEROS[: 4 * count], view)
            np.multiply(digits[:count], 2.0**-32, out=found[start : start + count])
        return found

    def drawn_ahead(self, law: Hashable, size: int, draw: Callable[[int], np.ndarray]) -> np.ndarray:
        """The next `size` independent numbers of a law, of which `draw` gives as many as it is asked for.

        Drawn together they take a fraction of the time. So a caller that comes back has more drawn than it needs now.
        """
        if self._process != os.getpid():
            self._begin()
        stock = self.ahead.get(law)
        if stock is None:
            self.ahead[law] = draw(0)
            return draw(size)
        if len(stock) < size:
            stock = np.concatenate([stock, draw(max(size - len(stock), min(16 * size, _AHEAD)))])
        self.ahead[law] = stock[size:]
        return stock[:size].copy()

    def gaussian(self, size: int, sigma: float) -> np.ndarray:
        """float64 (size,), normal with mean 0 and standard deviation `sigma` (Box and Muller 1958).

        For experiments. The lowest bits of such a sample can tell what it was added to (Mironov 2012), so no privacy
        statement covers it.
        """
        half = -(-size // 2)
        # 1 - u lies in (0, 1], so the logarithm is finite.
        radius = np.sqrt(-2.0 * np.log(1.0 - self.uniform(half)))
        angle = 2.0 * np.pi * self.uniform(half)
        return sigma * np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]

    def poisson_sample(self, size: int, rate: float) -> np.ndarray:
        """Indices of a sample in which each of `size` items is included independently with probability `rate`."""
        return np.flatnonzero(self.uniform(size) < rate)

    def subset(self, size: int, most: int) -> np.ndarray:
        """int64 (most,): different ones of `size` items, all sets alike. How many items there are costs no time."""
        if size <= 2 * most:
            return np.argsort(self.uniform(size))[:most]
        chosen = np.zeros(0, np.int64)
        while len(chosen) < most:  # one that comes twice is drawn again
            drawn = np.append(chosen, (self.uniform(most - len(chosen)) * size).astype(np.int64))
            chosen = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        return chosen


class Fractions:
    """Uniform numbers of 32 bits off a generator: enough to round by, where a step is a thousandth of the noise."""

    def __init__(self, random: SecureRandom) -> None:
        self._random = random

    def uniform(self, *, size: int) -> np.ndarray:
        return self._random.fractions(size)
