"""How an update (float32 vector) travels: float32, float16, or int8 with one float32 scale per 1,024 values.

int8 rounds stochastically: the decoded vector equals the update in expectation, so the errors of many nodes and rounds
average out instead of adding up. Applied after clipping and noise, it is post-processing and costs no privacy.
"""

from typing import Dict

import numpy as np

from orchestrator.errors import WireError

BLOCK = 1024
CODECS = ("float32", "float16", "int8")


def encode_update(update: np.ndarray, codec: str, generator: np.random.Generator) -> Dict[str, np.ndarray]:
    """Tensors for a float32 vector of shape (P,). `generator` drives int8's rounding."""
    if codec == "float32":
        return {"update": update.astype(np.float32)}
    if codec == "float16":
        return {"update": np.clip(update, -65504, 65504).astype(np.float16)}
    if codec == "int8":
        scales = _scales(update)
        scaled = update / np.repeat(scales, BLOCK)[: update.size]
        rounded = np.floor(scaled + generator.random(update.size, dtype=np.float32))
        return {"update": np.clip(rounded, -127, 127).astype(np.int8), "scales": scales}
    raise WireError(f"unknown update codec {codec!r}; this program has {', '.join(CODECS)}")


def _scales(update: np.ndarray) -> np.ndarray:
    blocks = -(-update.size // BLOCK)
    padded = np.zeros(blocks * BLOCK, np.float32)
    padded[: update.size] = np.abs(update)
    peak = padded.reshape(blocks, BLOCK).max(axis=1) if blocks else np.zeros(0, np.float32)
    return np.where(peak > 0, peak / 127, 1).astype(np.float32)


def decode_update(tensors: Dict[str, np.ndarray], codec: str, size: int) -> np.ndarray:
    """float32 vector of shape (size,); raises WireError for anything that is not `size` finite numbers."""
    update = tensors.get("update")
    wanted = {"float32": np.float32, "float16": np.float16, "int8": np.int8}.get(codec)
    if wanted is None:
        raise WireError(f"unknown update codec {codec!r}; this program has {', '.join(CODECS)}")
    if update is None or update.shape != (size,) or update.dtype != np.dtype(wanted):
        found = "none" if update is None else f"{update.dtype} {update.shape}"
        raise WireError(f"update tensor is {found}, expected {codec} ({size},)")
    decoded = update.astype(np.float32)
    if codec == "int8":
        scales = tensors.get("scales")
        blocks = -(-size // BLOCK)
        if scales is None or scales.shape != (blocks,) or scales.dtype != np.float32:
            raise WireError(f"int8 update lacks its {blocks} float32 scales")
        decoded *= np.repeat(scales, BLOCK)[:size]
    if not np.isfinite(decoded).all():
        raise WireError("update holds values that are not finite numbers")
    return decoded
