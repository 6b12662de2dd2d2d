"""Masks of a secure sum: streams of random words that fit its vectors, drawn from a seed or from what two parties share."""

from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from orchestrator.privacy.ring import word_of
from orchestrator.privacy.secure_session import Session

SELF, PAIR = b"b", b"s"
"""Kinds of shares: of the mask a party drew for itself, and of the key its pairwise masks come from."""


class Ring(NamedTuple):
    """The form of the vectors: `size` values modulo 2^bits."""

    bits: int
    size: int


def mask_from(seed: bytes, ring: Ring) -> np.ndarray:
    """Words (size,), AES-256 in counter mode. All their bits are random; sums are cut to the ring, which divides them."""
    word = word_of(ring.bits)
    buffer = np.zeros(ring.size + 16 // word.itemsize, word)
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    stream.update_into(bytes(word.itemsize * ring.size), buffer.data.cast("B"))
    return buffer[: ring.size]


def pair_mask(session: Session, private: X25519PrivateKey, public: bytes, ring: Ring) -> np.ndarray:
    """The mask two parties share; each can make it with its own private and the other's public key."""
    return mask_from(session.key(private.exchange(X25519PublicKey.from_public_bytes(public)), PAIR), ring)
