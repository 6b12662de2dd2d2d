"""Rows to a board's model over serial, and its answers: each row once, however many frames get lost."""

from __future__ import annotations

import contextlib
import math
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, List, Optional

import numpy as np

from orchestrator.boards.conversation import BoardError, Conversation
from orchestrator.boards.protocol import FRAME_INFER, Record, encode_frame

_WINDOW_BYTES = 3000
"""Bytes sent ahead of the answers: a board without flow control buffers 4096."""
_ATTEMPTS = 6


@dataclass(frozen=True)
class Inference:
    outputs: np.ndarray
    """int8 (rows, output elements)"""
    latency_us: np.ndarray
    """int64 (rows,): the engine alone, on the board's clock"""
    scores: Optional[np.ndarray] = None
    """float32 (rows,), of a model with a threshold: how far its outputs are from its inputs"""
    over: Optional[np.ndarray] = None
    """bool (rows,): whether a score is above the threshold"""


class _OutOfTimeError(Exception):
    """A row got lost, and with it where the state of the model stands."""


def run_rows(board: Conversation, rows: np.ndarray) -> Inference:
    """See BoardClient.infer."""
    if rows.dtype != np.int8 or rows.ndim < 1:
        raise BoardError(f"{board.port}: rows must be int8, one per line; they are {rows.dtype} of shape {rows.shape}")
    if not len(rows) or not board.info().get("state_bytes"):
        return _run(board, rows, in_time=False)
    for _ in range(_ATTEMPTS):
        board.ask("reset", "ok")
        with contextlib.suppress(_OutOfTimeError):
            return _run(board, rows, in_time=True)
    raise BoardError(
        f"{board.port}: a row got lost in each of {_ATTEMPTS} attempts, and rows of a model with state must arrive in order"
    )


def _run(board: Conversation, rows: np.ndarray, in_time: bool) -> Inference:
    board.forget_unread()
    transfer = _Transfer(board.new_ids(len(rows)).start, rows.reshape(len(rows), -1), in_time)
    heard_at = time.monotonic()
    while not transfer.done:
        for frame in transfer.frames_to_send():
            board.write(frame)
        progress = False
        for record in board.read():
            progress |= _take(board, transfer, record)
        now = time.monotonic()
        if progress:
            heard_at = now
        elif now - heard_at > max(board.timeout_s, 4e-6 * transfer.slowest_us):
            if not transfer.send_again():
                raise BoardError(f"{board.port}: no answer to row {transfer.first_open} after {_ATTEMPTS} attempts")
            heard_at = now
    return transfer.result()


def _take(board: Conversation, transfer: _Transfer, record: Record) -> bool:
    if record.kind == "boot" and board.stats.boots > 1:  # the first was said before this port was opened
        transfer.send_again()
        return True
    number = record.fields.get("id")
    if record.kind == "error" and transfer.knows(number):
        expected, got = record.fields.get("expected_bytes"), record.fields.get("got_bytes")
        sizes = f" ({got} bytes, the model takes {expected})" if got != expected else ""
        raise BoardError(f"{board.port}: {record.fields.get('code')}: {record.fields.get('reason')}{sizes}")
    if record.kind != "result" or not transfer.knows(number):
        return False
    return transfer.take(board.port, record)


class _Transfer:
    """The rows of one infer(): what is waiting, on its way, and answered.

    With `in_time` no row may be run twice or before an earlier one: what gets lost raises _OutOfTimeError.
    """

    def __init__(self, first_id: int, rows: np.ndarray, in_time: bool) -> None:
        self._first_id, self._rows, self._in_time = first_id, rows, in_time
        self._waiting: Deque[int] = deque(range(len(rows)))
        self._under_way: OrderedDict[int, int] = OrderedDict()  # row -> bytes of its frame, in the order sent
        self._attempts = [0] * len(rows)
        self._outputs: Dict[int, np.ndarray] = {}
        self._latency_us = np.zeros(len(rows), np.int64)
        self._scores, self._over, self._scored = np.zeros(len(rows), np.float32), np.zeros(len(rows), bool), 0
        self.slowest_us = 0
        self._model: Optional[str] = None

    @property
    def done(self) -> bool:
        return len(self._outputs) == len(self._rows)

    @property
    def first_open(self) -> int:
        return min(set(range(len(self._rows))) - set(self._outputs), default=-1)

    def knows(self, number: Any) -> bool:
        return type(number) is int and 0 <= number - self._first_id < len(self._rows)

    def frames_to_send(self) -> List[bytes]:
        frames = []
        while self._waiting:
            row = self._waiting[0]
            frame = encode_frame(FRAME_INFER, self._first_id + row, self._rows[row].tobytes())
            if self._under_way and sum(self._under_way.values()) + len(frame) > _WINDOW_BYTES:
                break
            self._waiting.popleft()
            self._under_way[row] = len(frame)
            self._attempts[row] += 1
            frames.append(frame)
        return frames

    def send_again(self) -> bool:
        """Everything unanswered goes back to the queue. False when some row has been tried too often."""
        if self._in_time:
            raise _OutOfTimeError
        lost = list(self._under_way)
        self._under_way.clear()
        self._waiting.extendleft(reversed(lost))
        return all(self._attempts[row] < _ATTEMPTS for row in lost)

    def take(self, port: str, record: Record) -> bool:
        row = record.fields["id"] - self._first_id
        if row in self._outputs:
            return False
        if self._model not in (None, record.model):
            raise BoardError(f"{port}: the board changed its model from {self._model} to {record.model} in between")
        self._model = record.model
        # Boards answer in order: whatever was sent before this row and has no answer is lost.
        while self._under_way and row in self._under_way:
            earlier, _ = self._under_way.popitem(last=False)
            if earlier == row:
                break
            if self._in_time:
                raise _OutOfTimeError
            self._waiting.appendleft(earlier)
        self._outputs[row] = np.frombuffer(bytes.fromhex(record.fields["out"]), np.int8)
        self._latency_us[row] = record.fields["latency_us"]
        if "score" in record.fields:
            mantissa, exponent = record.fields["score"]
            self._scores[row] = math.ldexp(mantissa, exponent)
            self._over[row] = bool(record.fields.get("over"))
            self._scored += 1
        self.slowest_us = max(self.slowest_us, int(self._latency_us[row]))
        return True

    def result(self) -> Inference:
        if not len(self._rows):
            return Inference(np.zeros((0, 0), np.int8), self._latency_us)
        outputs = np.stack([self._outputs[i] for i in range(len(self._rows))])
        if self._scored < len(self._rows):
            return Inference(outputs, self._latency_us)
        return Inference(outputs, self._latency_us, self._scores, self._over)
