"""Shamir's secret sharing (1979) of 32-byte secrets modulo 2^256 + 297: any t shares rebuild, t - 1 say nothing."""

import secrets
from typing import Dict, Sequence

PRIME = (1 << 256) + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
"""A field element may need one byte more than a secret."""


def split_secret(secret: bytes, holders: Sequence[int], threshold: int) -> Dict[int, bytes]:
    """holder -> share, for distinct holder numbers from 1 on. Raises ValueError for a threshold that makes no sense."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if not 1 <= threshold <= len(holders) or len(set(holders)) != len(holders) or min(holders) < 1:
        raise ValueError(f"threshold {threshold} of the {len(holders)} holders {list(holders)[:5]}...")
    coefficients = [int.from_bytes(secret, "big")] + [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    shares = {}
    for x in holders:
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * x + coefficient) % PRIME
        shares[x] = value.to_bytes(SHARE_BYTES, "big")
    return shares


def combine_shares(shares: Dict[int, bytes], threshold: int) -> bytes:
    """The secret from at least `threshold` shares by Lagrange interpolation at 0; ValueError for too few, or for wrong ones.

    Wrong shares are noticed only where they lead out of the range of secrets; who needs certainty compares the secret with
    something public made of it.
    """
    if len(shares) < threshold:
        raise ValueError(f"{len(shares)} shares, {threshold} are needed")
    points = sorted(shares.items())[:threshold]
    total = 0
    for i, (x, share) in enumerate(points):
        numerator, denominator = 1, 1
        for j, (other, _) in enumerate(points):
            if i != j:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - x) % PRIME
        total = (total + int.from_bytes(share, "big") * numerator * pow(denominator, -1, PRIME)) % PRIME
    if total >> (8 * SECRET_BYTES):
        raise ValueError("the shares do not fit together")
    return total.to_bytes(SECRET_BYTES, "big")
