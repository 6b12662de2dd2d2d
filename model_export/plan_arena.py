"""Where each activation lives in the arena: buffers share bytes when they are never needed at the same time.

An operator that walks its input front to back may also write over what it has already read. For such a pair the
operator states a lag: the output may begin `lag` or more bytes before the input, even where the two then overlap.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np


@dataclass(frozen=True)
class Buffer:
    """`size` bytes needed from operator `first` to operator `last`, both included (positions in execution order)."""

    size: int
    first: int
    last: int
    even: bool = False
    """It begins at an even offset."""


Lags = Dict[Tuple[int, int], int]
"""(input buffer, output buffer) -> lag in bytes."""

_TRIES = 200


def place(buffers: Sequence[Buffer], lags: Lags) -> Tuple[List[int], int]:
    """Offsets of the buffers and the bytes of the arena. Tries several orders (seeded) and keeps the smallest."""
    by_size = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first))
    by_time = sorted(range(len(buffers)), key=lambda i: (buffers[i].first, -buffers[i].size))
    least = _lower_bound(buffers) if not lags else 0
    best: Optional[Tuple[List[int], int]] = None
    rng = random.Random(0)
    orders = [by_size, by_time, by_time[::-1]]
    for attempt in range(_TRIES):
        order = orders[attempt] if attempt < len(orders) else _perturbed(orders[attempt % len(orders)], rng)
        offsets = _place_in_order(buffers, lags, order)
        total = max((offset + b.size for offset, b in zip(offsets, buffers)), default=0)
        if best is None or total < best[1]:
            best = offsets, total
        if best[1] == least:
            break
    assert best is not None
    return best


def _lower_bound(buffers: Sequence[Buffer]) -> int:
    times = {b.first for b in buffers}
    return max((sum(b.size for b in buffers if b.first <= t <= b.last) for t in times), default=0)


def _perturbed(order: Sequence[int], rng: random.Random) -> List[int]:
    keyed = [(place + rng.uniform(-3, 3), index) for place, index in enumerate(order)]
    return [index for _, index in sorted(keyed)]


def _place_in_order(buffers: Sequence[Buffer], lags: Lags, order: Sequence[int]) -> List[int]:
    offsets: Dict[int, int] = {}
    for index in order:
        new = buffers[index]
        taken = []
        for other, offset in offsets.items():
            old = buffers[other]
            if new.last < old.first or old.last < new.first:
                continue
            low, high = offset - new.size, offset + old.size  # forbidden: low < new offset < high
            if (other, index) in lags:
                low = max(low, offset - lags[other, index])
            if (index, other) in lags:
                high = min(high, offset + lags[index, other])
            if low < high:
                taken.append((low, high))
        offsets[index] = _first_free(taken, 2 if new.even else 1)
    return [offsets[i] for i in range(len(buffers))]


def _first_free(taken: Sequence[Tuple[int, int]], step: int) -> int:
    """The lowest offset >= 0, a multiple of `step`, inside none of the open intervals."""
    at = 0
    moved = True
    while moved:
        moved = False
        for low, high in taken:
            if low < at < high:
                at, moved = -(-high // step) * step, True
    return at


def window_lag(
    in_hwc: Tuple[int, int, int],
    out_hwc: Tuple[int, int, int],
    strides: Tuple[int, int],
    pads: Tuple[int, int],
) -> int:
    """Lag of an operator that computes output pixels in order, each from a window of the input.

    While pixel i is written, the windows of pixels i, i+1, ... are still to be read.
    """
    (in_h, in_w, in_c), (out_h, out_w, out_c) = in_hwc, out_hwc
    rows = np.clip(np.arange(out_h) * strides[0] - pads[0], 0, in_h)
    columns = np.clip(np.arange(out_w) * strides[1] - pads[1], 0, in_w)
    first_read = (rows[:, None] * in_w + columns[None, :]).reshape(-1) * in_c
    still_needed = np.minimum.accumulate(first_read[::-1])[::-1]
    written = (np.arange(out_h * out_w) + 1) * out_c
    return int(np.max(written - still_needed))
