"""Messages that are nearly right: a valid body with something changed in its header, its tensors, its bytes or its frames."""

import random
import struct
from typing import Any, Dict, List, Tuple

import cbor2
import numpy as np
import zstandard

from orchestrator.wire.frames import Ack, Chunk, Want, encode_frame, split
from orchestrator.wire.transfer import transfer_id

Body = Tuple[Dict[str, Any], Dict[str, np.ndarray]]

_DEEP: Any = 1
for _ in range(40):
    _DEEP = [_DEEP]

VALUES: List[Any] = [
    None, True, False, -1, 0, 1, 2, 7, 1 << 31, 1 << 62, (1 << 63) - 1, -(1 << 63), 1 << 63, 1 << 20_000, 0.5, -1.0, 1e300,
    float("nan"), float("inf"), "", "a", "b", "run", "keys", "masked", "\x00\x1b[2J", "x" * 5000,
    b"", b"x" * 32, b"x" * 33, b"\xff", [], ["a"], ["a", "a"], [1, [2]], _DEEP,
    {}, {"a": 1}, {"a": b"x" * 32}, {"a": {"a": b"x"}}, {"": None}, {"b": [b"s", b"x" * 33]},
]  # fmt: skip
_WORDS = [
    "kind",
    "run",
    "round",
    "attempt",
    "step",
    "records",
    "units",
    "codec",
    "shares",
    "signature",
    "survivors",
    "ledger",
    "labels",
]


def mutated(rng: random.Random, header: Any, words: List[str]) -> Any:
    """Plain data with one thing in it changed, at any depth."""
    if isinstance(header, dict):
        keys = list(header)
        if keys and rng.random() < 0.4:
            inner = rng.choice(keys)
            return {**header, inner: mutated(rng, header[inner], words)}
        roll = rng.random()
        if keys and roll < 0.25:
            dropped = rng.choice(keys)
            return {key: value for key, value in header.items() if key != dropped}
        key = rng.choice(keys) if keys and roll < 0.8 else rng.choice(words + _WORDS)
        return {**header, key: rng.choice(VALUES)}
    if isinstance(header, list) and header and rng.random() < 0.6:
        at = rng.randrange(len(header))
        return [*header[:at], mutated(rng, header[at], words), *header[at + 1 :]]
    return rng.choice(VALUES)


def mutated_tensors(rng: random.Random, tensors: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    changed, names = dict(tensors), list(tensors)
    name = rng.choice([*names, "weights", "update", "evaluation", "graph", "x"])
    roll = rng.randrange(7)
    if roll == 0 or name not in changed:
        changed[name] = rng.choice([np.zeros(0, np.float32), np.ones((2, 2), np.int8), np.full(8, np.nan, np.float32)])
    elif roll == 1:
        del changed[name]
    elif roll == 2:
        changed[name] = changed[name].astype(rng.choice(["float32", "int8", "uint8", "float64", "int64", "uint32"]))
    elif roll == 3:
        changed[name] = changed[name].ravel()[: rng.randrange(1 + changed[name].size)]
    elif roll == 4:
        changed[name] = changed[name].reshape(1, *changed[name].shape)
    elif changed[name].size:
        data = np.array(changed[name])
        extreme = [np.nan, np.inf, -np.inf, 3e38, -3e38, 0] if data.dtype.kind == "f" else [0, 1, 127]
        data.ravel()[rng.randrange(data.size)] = rng.choice(extreme)
        changed[name] = data
    return changed


def damaged(rng: random.Random, data: bytes) -> bytes:
    edited = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(edited) + 1)
        roll = rng.randrange(3)
        if roll == 0 and at < len(edited):
            edited[at] = rng.randrange(256)
        elif roll == 1:
            del edited[at : at + rng.randrange(20)]
        else:
            edited[at:at] = rng.randbytes(rng.randrange(9)) if hasattr(rng, "randbytes") else bytes(rng.randrange(9))
    return bytes(edited)


def content_of(body: Body) -> bytes:
    """Header and tensors uncompressed, written without any check."""
    header, tensors = body
    described = [[name, array.dtype.name, list(array.shape)] for name, array in tensors.items()]
    packed = cbor2.dumps({**header, "tensors": described})
    return struct.pack("<I", len(packed)) + packed + b"".join(array.tobytes() for array in tensors.values())


def wrapped(content: bytes) -> bytes:
    return b"EWB\x01" + zstandard.ZstdCompressor(level=1).compress(content)


def any_body(rng: random.Random, valid: List[Body]) -> bytes:
    """A body made of a valid one, with up to four changes; now and then bytes that are no body at all."""
    roll = rng.random()
    if roll < 0.02:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
    header, tensors = rng.choice(valid)
    words = list(rng.choice(valid)[0])
    for _ in range(rng.randrange(4)):
        header = mutated(rng, header, words) if isinstance(header, dict) else header
    if rng.random() < 0.3:
        tensors = mutated_tensors(rng, tensors)
    content = content_of((header, tensors))
    if roll < 0.1:
        return wrapped(damaged(rng, content))
    if roll < 0.14:
        return damaged(rng, wrapped(content))
    return wrapped(content)


def any_frames(rng: random.Random, body: bytes) -> List[bytes]:
    """The frames that carry a body; now and then others."""
    roll = rng.random()
    key = transfer_id(body)
    if roll < 0.02:
        return [encode_frame(Ack(key))]
    if roll < 0.04:
        return [encode_frame(Want(key, tuple(rng.choices((0, 1, 5, 1 << 31), k=3))))]
    if roll < 0.06:
        size = rng.choice([0, 1, 300_000, 1 << 30, (1 << 63) + 5])
        count = max(1, -(-size // (256 * 1024)))
        whole = Chunk(key, 0, min(count, 0xFFFFFFFF), size, bytes(min(size, 256 * 1024)))
        return [encode_frame(whole)]
    frames = [encode_frame(chunk) for chunk in split(key, body)]
    return [damaged(rng, frame) for frame in frames] if roll < 0.08 else frames
