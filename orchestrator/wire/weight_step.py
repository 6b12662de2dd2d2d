"""New weights as a change of those a node has: 8 bits a value, and the same float32 numbers on both sides.

What rounding leaves out is not lost: it is owed, and added to the next change, so weights stay within one step of what they would
be without. Rounding is to the nearest level, without chance: a round computed again after a crash gives the same bits.
"""

import hashlib
from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np

from orchestrator.wire.codec import decode_update, encode_nearest

CODEC = "int8"
LEVELS, SCALES = "step", "step_scales"
"""Tensors of a change in a round's message."""

MODEL, SINCE = "model", "since"
"""Fields of its header: digest of the weights the round is about, and of those the change begins from."""


@dataclass(frozen=True)
class WeightStep:
    """A change of weights. since, to: digests of the weights before and after. tensors: int8 levels (P,), float32 scales."""

    since: str
    to: str
    tensors: Dict[str, np.ndarray]


def digest_of_weights(weights: np.ndarray) -> str:
    """SHA-256 of float32 weights (P,), little-endian, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(weights, "<f4").tobytes()).hexdigest()


def step_towards(before: np.ndarray, wanted: np.ndarray, owed: np.ndarray) -> Tuple[WeightStep, np.ndarray, np.ndarray]:
    """(the change, the weights after it, what is owed then), float32 (P,), from weights `before` towards `wanted` + `owed`.

    Raises ValueError where the change is beyond float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        change = (wanted - before + owed).astype(np.float32)
    if not np.isfinite(change).all():
        raise ValueError("the weights would change by more than float32 can hold")
    encoded = encode_nearest(change)
    tensors = {LEVELS: encoded["update"], SCALES: encoded["scales"]}
    after = stepped(before, tensors)
    return WeightStep(digest_of_weights(before), digest_of_weights(after), tensors), after, change - (after - before)


def stepped(before: np.ndarray, tensors: Dict[str, np.ndarray]) -> np.ndarray:
    """The float32 weights (P,) after a change; WireError for tensors that do not fit weights of this size."""
    named = {"update": tensors.get(LEVELS), "scales": tensors.get(SCALES)}
    change = decode_update({name: tensor for name, tensor in named.items() if tensor is not None}, CODEC, before.size)
    return (before + change).astype(np.float32)
