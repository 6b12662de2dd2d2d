"""Randomness nobody can predict: AES-256 in counter mode under a key from the operating system.

The samples are floating-point numbers; what an attacker could learn from their lowest bits (Mironov 2012) is not covered
by the privacy statement. Updates leave the node rounded to int8 or float16, which coarsens them, but that is no proof.
"""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class SecureRandom:
    """Uniform and Gaussian numbers from a CSPRNG; a new key per object, never a seed."""

    def __init__(self) -> None:
        self._stream = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()

    def uniform(self, size: int) -> np.ndarray:
        """float64 (size,), uniform in [0, 1) with 53 random bits."""
        words = np.frombuffer(self._stream.update(bytes(8 * size)), np.uint64)
        return (words >> np.uint64(11)) * 2.0**-53

    def gaussian(self, size: int, sigma: float) -> np.ndarray:
        """float64 (size,), normal with mean 0 and standard deviation `sigma` (Box and Muller 1958)."""
        half = -(-size // 2)
        # 1 - u lies in (0, 1], so the logarithm is finite.
        radius = np.sqrt(-2.0 * np.log(1.0 - self.uniform(half)))
        angle = 2.0 * np.pi * self.uniform(half)
        return sigma * np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]

    def poisson_sample(self, size: int, rate: float) -> np.ndarray:
        """Indices of a sample in which each of `size` items is included independently with probability `rate`."""
        return np.flatnonzero(self.uniform(size) < rate)
