"""Samples to a board's stream over serial, each of them exactly once."""

from __future__ import annotations

import struct
from typing import List, Tuple

import numpy as np

from orchestrator.boards.conversation import BoardError, Conversation
from orchestrator.boards.protocol import FRAME_SAMPLES, Record, encode_frame

_FRAME_VALUES = 500
_AHEAD = 2
"""Frames on their way at a time: a board without flow control buffers 4096 bytes."""
_ATTEMPTS = 6


def send_samples(board: Conversation, samples: np.ndarray, first: int) -> Tuple[int, List[Record]]:
    """See BoardClient.feed; `first` is the number of the first sample. Returns the next number and the records that came."""
    if samples.dtype != np.int16 or samples.ndim not in (1, 2):
        raise BoardError(
            f"{board.port}: samples must be int16 (samples, channels); they are {samples.dtype} of shape {samples.shape}"
        )
    table = samples.reshape(len(samples), -1)
    step = max(1, _FRAME_VALUES // table.shape[1])
    records: List[Record] = []
    at = attempts = 0
    while at < len(table):
        starts = range(at, min(len(table), at + _AHEAD * step), step)
        ids = board.new_ids(len(starts))
        frames = [
            encode_frame(FRAME_SAMPLES, number, struct.pack("<I", (first + s) % 2**32) + _bytes(table[s : s + step]))
            for number, s in zip(ids, starts)
        ]
        reached = at
        for answer in board.exchange(frames, ids, "fed", board.timeout_s / 2, records):
            reached = max(reached, (answer.fields["next_sample"] - first) % 2**32)
        attempts = 0 if reached > at else attempts + 1
        if attempts == _ATTEMPTS or reached > len(table):
            raise BoardError(f"{board.port}: sample {first + at} was not accepted in {_ATTEMPTS} attempts")
        at = reached
    return first + len(table), [record for record in records if record.kind in ("detect", "drift")]


def _bytes(values: np.ndarray) -> bytes:
    return values.astype("<i2").tobytes()
