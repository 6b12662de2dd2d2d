"""Rows that are nobody's: drawn over the int8 range from a fixed seed, never from data, to check a model with.

A bundle travels, so what it carries to be checked with must not be a record. These rows differ in kind, since noise alone
averages out in a network that pools: ends of the range, noise of any size, one constant a channel, slow waves.
"""

from typing import List, Optional, Tuple

import numpy as np

from model_export.tflite_file import read_tflite
from model_export.tflm import Quantized, TflmModel

ROWS = 256
LARGE_INPUT = 8192
"""From so many values a row, a pool of an eighth of ROWS is enough work."""
REACHED_OUTPUTS = 16
_INNER_BYTES = 1 << 26


def synthetic_rows(entry: Quantized, count: int = ROWS, seed: int = 0) -> np.ndarray:
    """int8 (count, *input shape without batch), the same for the same arguments."""
    rng = np.random.default_rng(seed)
    shape = entry.shape[1:]
    size, channels = int(np.prod(shape)), int(shape[-1])
    rows = np.empty((count, size))
    for n in range(count):
        spread = 2.0 ** rng.uniform(2, 7)
        kind = n % 5
        if kind == 0:
            rows[n] = rng.integers(-128, 128, size)
        elif kind == 1:
            rows[n] = rng.choice([-128, 127], size)
        elif kind == 2:
            rows[n] = rng.normal(entry.zero_point, spread, size)
        elif kind == 3:
            rows[n] = np.resize(rng.normal(entry.zero_point, 2 * spread, channels), size)
        else:
            turns = rng.uniform(0.5, 20) * np.arange(size) / size + rng.random()
            rows[n] = entry.zero_point + spread * np.sin(2 * np.pi * turns)
    ends = np.array([[-128] * size, [127] * size], float)
    rows[: min(2, count)] = ends[:count]
    return np.clip(np.rint(rows), -128, 127).astype(np.int8).reshape(count, *shape)


def telling_rows(model: TflmModel) -> Tuple[np.ndarray, np.ndarray]:
    """(inputs, outputs), int8: synthetic rows, and further ones made to drive the outputs to their ends, as TFLM answers."""
    inputs = synthetic_rows(model.input, pool_size(model.input))
    outputs = model.run(inputs)
    pushed = _pushed(inputs, outputs)
    if len(pushed):
        inputs = np.concatenate([inputs, pushed])
        outputs = np.concatenate([outputs, model.run(pushed)])
    return inputs, outputs


def pool_size(entry: Quantized) -> int:
    return ROWS if int(np.prod(entry.shape)) < LARGE_INPUT else ROWS // 8


def inner_ends(model: TflmModel, rows: np.ndarray) -> np.ndarray:
    """bool (rows, 2 * operators): whether a row drives an operator to -128, and to 127. The last one's values are the outputs."""
    parsed = read_tflite(model.blob)
    known = parsed.tensors
    tensors = sorted({index for op in parsed.ops for index in op.outputs if known[index].dtype == "int8"})
    at_once = max(1, _INNER_BYTES // sum(int(np.prod(known[index].shape)) for index in tensors))
    parts = []
    for start in range(0, len(rows), at_once):
        found = model.run_tensors(rows[start : start + at_once], tensors)
        parts.append(np.stack([(found[index] == end).any(1) for index in tensors for end in (-128, 127)], axis=1))
    return np.concatenate(parts)


def choose_rows(outputs: np.ndarray, count: int, inner: Optional[np.ndarray] = None) -> List[int]:
    """Up to `count` rows that together show most outputs at their lowest and highest, and most of `inner` (rows, flags).

    Ties go to the lower row.
    """
    flat = outputs.reshape(len(outputs), -1)
    ends = np.concatenate([flat == flat.min(0), flat == flat.max(0)], axis=1)
    kinds = [ends] if inner is None else [ends, inner]
    kinds = [kind[:, kind.any(0)] for kind in kinds]
    chosen: List[int] = []
    while len(chosen) < min(count, len(flat)):
        gain = sum(kind.sum(1) / max(1, kind.shape[1]) for kind in kinds)
        if not np.any(gain):
            chosen += [n for n in range(len(flat)) if n not in chosen][: count - len(chosen)]
            break
        best = int(np.argmax(gain))
        chosen.append(best)
        kinds = [kind & ~kind[best] for kind in kinds]
    return chosen


def _pushed(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """For each output two rows of ends of the range, by the sign of how it goes with each input over the rows seen."""
    x = inputs.reshape(len(inputs), -1).astype(np.float64)
    y = outputs.reshape(len(outputs), -1).astype(np.float64)[:, :REACHED_OUTPUTS]
    together = (y - y.mean(0)).T @ (x - x.mean(0))
    rows = np.concatenate([np.where(together > 0, 127, -128), np.where(together > 0, -128, 127)])
    return rows.astype(np.int8).reshape(-1, *inputs.shape[1:])
