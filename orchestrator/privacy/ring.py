"""Vectors of integers modulo 2^bits: what masks are added to. Packed, so that 20 bits cost 20 bits on the wire.

In memory they are words of 16 bits where these are enough, else of 32 (`word_of`), whose unused bits mean nothing.
Sums of ring vectors are exact as long as they do not wrap around: `fits` says whether they can.
"""

from typing import Any

import numpy as np

MIN_BITS, MAX_BITS = 8, 32


def word_of(bits: int) -> "np.dtype[Any]":
    """uint16 or uint32."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"a ring of 2^{bits}: {MIN_BITS} to {MAX_BITS} bits are supported")
    return np.dtype(np.uint16 if bits <= 16 else np.uint32)


def mask_of(bits: int) -> Any:
    """The word with the ring's bits set."""
    return word_of(bits).type((1 << bits) - 1)


def fits(bits: int, largest: int, parties: int) -> bool:
    """Whether `parties` values in [-largest, largest] add up without wrapping around."""
    return parties * largest <= (1 << (bits - 1)) - 1


def to_ring(values: np.ndarray, bits: int) -> np.ndarray:
    """Words (n,) from signed integers (n,), modulo 2^bits."""
    return np.asarray(values).astype(word_of(bits)) & mask_of(bits)  # the cast keeps the low bits


def from_ring(vector: np.ndarray, bits: int) -> np.ndarray:
    """int64 (n,) in [-2^(bits-1), 2^(bits-1)) from a ring vector."""
    word = word_of(bits)
    unused = 8 * word.itemsize - bits
    signed = (vector.astype(word) << word.type(unused)).view(f"i{word.itemsize}")  # the top bit is the sign
    return np.asarray(signed >> unused, np.int64)


def pack(vector: np.ndarray, bits: int) -> bytes:
    """A ring vector as ceil(n bits / 8) bytes, most significant bit first."""
    if bits == 16:
        return vector.astype(">u2").tobytes()
    if bits % 8 == 0:  # whole bytes: a copy of the low ones, much faster than bit by bit
        return vector.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 4 - bits // 8 :].tobytes()
    planes = np.unpackbits(vector.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)[:, MAX_BITS - bits :]
    return np.packbits(planes).tobytes()


def unpack(data: bytes, bits: int, size: int) -> np.ndarray:
    """Words (size,); ValueError when the bytes are not `size` values of `bits` bits."""
    if len(data) != -(-size * bits // 8):
        raise ValueError(f"{len(data)} bytes are not {size} values of {bits} bits")
    if bits == 16:
        return np.frombuffer(data, ">u2").astype(np.uint16)
    if bits % 8 == 0:
        words = np.zeros((size, 4), np.uint8)
        words[:, 4 - bits // 8 :] = np.frombuffer(data, np.uint8).reshape(size, bits // 8)
        return words.view(">u4").ravel().astype(word_of(bits))
    planes = np.zeros((size, MAX_BITS), np.uint8)
    planes[:, MAX_BITS - bits :] = np.unpackbits(np.frombuffer(data, np.uint8), count=size * bits).reshape(size, bits)
    return np.packbits(planes, axis=1).view(">u4").ravel().astype(word_of(bits))
