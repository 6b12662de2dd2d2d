"""How an update (float32 vector) travels: whole, in 16, 8 or 4 bits a value, or only its largest values.

int8 and int4 round stochastically: the decoded vector equals the update in expectation, so the errors of many nodes and
rounds average out instead of adding up. top10 sends the tenth of the values with the largest magnitude as float16; what
it leaves out is not lost but added to the node's next update (error feedback, Stich et al. 2018), which is the node's
work. All of it happens after clipping and noise, so it is post-processing and costs no privacy.
"""

from typing import Dict, Optional, Tuple

import numpy as np

from orchestrator.errors import WireError

CODECS = ("float32", "float16", "int8", "int4", "top10")
EXACT = "float64"
"""Of standardization sums without noise; no task can choose it for updates."""

ERROR_FEEDBACK = ("top10",)
"""Codecs whose error is large and one-sided: the node carries it over to its next update."""

_KEPT_SHARE = 0.1
_LEVELS = {"int8": (127, 1024), "int4": (7, 128)}
"""Codec -> (largest level, values that share one float32 scale)."""

_PART = 1 << 16
"""Values worked on at a time; a multiple of every block."""

Tensors = Dict[str, np.ndarray]


def encode_update(update: np.ndarray, codec: str, generator: np.random.Generator) -> Tensors:
    """Tensors for a vector of shape (P,), float64 for EXACT, else float32. `generator` drives the stochastic rounding."""
    if codec == EXACT:
        return {"update": update.astype(np.float64)}
    if codec == "float32":
        return {"update": update.astype(np.float32)}
    if codec == "float16":
        return {"update": _half(update)}
    if codec == "top10":
        chosen = np.sort(np.argpartition(-np.abs(update), _kept(update.size) - 1)[: _kept(update.size)])
        return {"index": chosen.astype(np.uint32), "update": _half(update[chosen])}
    if codec in _LEVELS:
        top, block = _LEVELS[codec]
        scales = _scales(update, top, block)
        levels = _rounded(update, scales, top, block, generator)
        return {"update": levels if codec == "int8" else _pack(levels), "scales": scales}
    raise WireError(f"unknown update codec {codec!r}; this program has {', '.join(CODECS)}")


def encode_nearest(change: np.ndarray) -> Tensors:
    """int8 tensors for a float32 vector (P,), as decode_update reads them, each value rounded to the nearest level."""
    top, block = _LEVELS["int8"]
    scales = _scales(change, top, block)
    return {"update": _rounded(change, scales, top, block, None), "scales": scales}


def decode_update(tensors: Tensors, codec: str, size: int) -> np.ndarray:
    """float32 vector of shape (size,), float64 of EXACT; raises WireError for anything that is not `size` finite numbers."""
    if codec in ("float32", "float16"):
        decoded = _tensor(tensors, "update", codec, (size,), codec).astype(np.float32)
    elif codec == EXACT:
        decoded = _tensor(tensors, "update", EXACT, (size,), codec).astype(np.float64)
    elif codec == "top10":
        decoded = _decode_top(tensors, size)
    elif codec in _LEVELS:
        _, block = _LEVELS[codec]
        packed = size if codec == "int8" else -(-size // 2)
        stored = _tensor(tensors, "update", "int8" if codec == "int8" else "uint8", (packed,), codec)
        scales = _tensor(tensors, "scales", "float32", (-(-size // block),), codec)
        levels = stored if codec == "int8" else _unpack(stored, size)
        decoded = levels.astype(np.float32)
        for start in range(0, size, _PART):  # a vector of scales as long as the update need not exist
            part = slice(start, min(size, start + _PART))
            with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused below
                decoded[part] *= np.repeat(scales[start // block : -(-part.stop // block)], block)[: part.stop - start]
    else:
        raise WireError(f"unknown update codec {codec!r}; this program has {', '.join(CODECS)}")
    if not np.isfinite(decoded).all():
        raise WireError("update holds values that are not finite numbers")
    return decoded


def _tensor(tensors: Tensors, name: str, dtype: str, shape: Tuple[int, ...], codec: str) -> np.ndarray:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape or tensor.dtype != np.dtype(dtype):
        found = "missing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
        raise WireError(f"tensor {name!r} of a {codec} update is {found}, expected {dtype} {shape}")
    return tensor


def _decode_top(tensors: Tensors, size: int) -> np.ndarray:
    index = _tensor(tensors, "index", "uint32", (_kept(size),), "top10")
    values = _tensor(tensors, "update", "float16", (_kept(size),), "top10")
    if index.size and (index.max() >= size or (np.diff(index.astype(np.int64)) <= 0).any()):
        raise WireError(f"indices of a top10 update must ascend below {size}")
    decoded = np.zeros(size, np.float32)
    decoded[index] = values
    return decoded


def _kept(size: int) -> int:
    return min(size, max(1, int(np.ceil(_KEPT_SHARE * size))))


def _half(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -65504, 65504).astype(np.float16)


def _scales(update: np.ndarray, top: int, block: int) -> np.ndarray:
    starts = np.arange(0, update.size, block)
    if not starts.size:
        return np.zeros(0, np.float32)
    peak = np.maximum(np.maximum.reduceat(update, starts), -np.minimum.reduceat(update, starts))
    scales = (peak / top).astype(np.float32)
    return np.where(scales > 0, scales, np.float32(1))  # of the smallest numbers a 127th is zero


def _rounded(
    update: np.ndarray, scales: np.ndarray, top: int, block: int, generator: Optional[np.random.Generator]
) -> np.ndarray:
    """int8 (n,): levels, rounded stochastically, or to the nearest without a generator.

    In parts, so that a small machine holds no second copy of a large update.
    """
    levels = np.empty(update.size, np.int8)
    for start in range(0, update.size, _PART):
        values = update[start : start + _PART]
        scaled = values / np.repeat(scales[start // block : (start + _PART) // block], block)[: values.size]
        if generator is None:
            np.rint(scaled, out=scaled)
        else:
            scaled += generator.random(values.size, dtype=np.float32)
            np.floor(scaled, out=scaled)
        levels[start : start + _PART] = np.clip(scaled, -top, top)
    return levels


def _pack(levels: np.ndarray) -> np.ndarray:
    """Two levels of -7..7 a byte, the first in the low half, as level + 8."""
    padded = np.zeros(levels.size + levels.size % 2, np.int8)
    padded[: levels.size] = levels
    halves = (padded + 8).astype(np.uint8)
    return np.asarray(halves[0::2] | (halves[1::2] << 4))


def _unpack(packed: np.ndarray, size: int) -> np.ndarray:
    levels = np.empty(2 * packed.size, np.int8)
    levels[0::2] = (packed & 15).astype(np.int8) - 8
    levels[1::2] = (packed >> 4).astype(np.int8) - 8
    return levels[:size]
