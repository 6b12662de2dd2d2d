"""Talk to one board over its serial port: what it is, inference row by row, metrics. The same for real and virtual boards."""

from __future__ import annotations

import math
import secrets
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, Callable, Collection, Deque, Dict, Iterator, List, Optional, Sequence

import numpy as np

from orchestrator.boards.ports import list_ports
from orchestrator.boards.protocol import FRAME_INFER, RECORD_SCHEMA, Record, RecordParser, RecordStats, encode_frame
from orchestrator.errors import EdgewardError

BAUD = 115200
_POLL_S = 0.05
_WINDOW_BYTES = 3000
"""Bytes sent ahead of the answers: a board without flow control buffers 4096."""
_ATTEMPTS = 6
_SLOWEST_INFERENCE_S = 8.0
_INFO = ("chip", "simulated", "engine", "state")
_INFO_OF_A_MODEL = (
    "input_bytes",
    "input_scale",
    "input_zero_point",
    "output_bytes",
    "output_scale",
    "output_zero_point",
)


class BoardError(EdgewardError):
    """A board cannot be reached, does not answer, or refused. The message names the port."""


@dataclass(frozen=True)
class Inference:
    outputs: np.ndarray
    """int8 (rows, output elements)"""
    latency_us: np.ndarray
    """int64 (rows,): the engine alone, on the board's clock"""


def open_port(port: str, baud: int = BAUD) -> Any:
    """An open serial.Serial that did not reset the board. Raises BoardError when the port is missing or in use."""
    import serial

    device = serial.Serial(baudrate=baud, timeout=_POLL_S, write_timeout=10.0, exclusive=True)
    device.port = port
    # On most boards these lines are wired to reset and boot mode; pyserial would raise both while it opens.
    device.dtr = False
    device.rts = False
    try:
        device.open()
    except (OSError, ValueError) as error:
        known = list_ports()
        there = f"ports here: {', '.join(known)}" if known else "this machine has no serial port"
        if "exclusively lock" in str(error):
            raise BoardError(f"{port} is in use by another program; close it and try again") from error
        raise BoardError(f"cannot open {port}: {_why(error)}; {there}") from error
    return device


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number is not None:
        import os

        return os.strerror(number)
    return str(error)


class BoardClient:
    """One open port. `on_record` sees every intact record as it arrives, asked for or not."""

    def __init__(
        self,
        port: str,
        *,
        baud: int = BAUD,
        timeout_s: float = 10.0,
        on_record: Optional[Callable[[Record], None]] = None,
    ) -> None:
        self.port = port
        self._timeout_s = timeout_s
        self._on_record = on_record
        self._parser = RecordParser()
        # Anywhere, so that late answers to the previous user of the port are not mistaken for ours.
        self._next_id = secrets.randbelow(2**30)
        self._next_sample = 0
        self._unread: Deque[Record] = deque()  # arrived while something else was waited for
        self._device = open_port(port, baud)
        self._device.reset_input_buffer()

    @property
    def timeout_s(self) -> float:
        return self._timeout_s

    @property
    def stats(self) -> RecordStats:
        return self._parser.stats

    def __enter__(self) -> BoardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._device.close()

    def info(self) -> Dict[str, Any]:
        """The fields of the board's info record, `input_scale` and `output_scale` as floats, plus boot, model and kind."""
        record = self.ask("info", "info")
        ready = record.fields.get("state") == "ready"
        content = self._whole(record, (*_INFO, *_INFO_OF_A_MODEL) if ready else _INFO)
        for key in ("input_scale", "output_scale"):
            if key in content:
                content[key] = math.ldexp(*content[key])
        return content

    def metrics(self) -> Dict[str, Any]:
        """The fields of a metrics record: counts, latency percentiles in us, memory in bytes."""
        return self._whole(self.ask("metrics", "metrics"), ("arena_used_bytes", "arena_bytes"))

    def _whole(self, record: Record, needed: Sequence[str]) -> Dict[str, Any]:
        """The record as a table; BoardError where a field is missing without which it is no answer."""
        content = record.as_dict()
        missing = [name for name in needed if name not in content]
        if missing:
            raise BoardError(
                f"{self.port}: its {record.kind} record has no {', '.join(missing)}: is it an Edgeward board?"
            )
        return content

    def keys(self) -> Dict[str, Any]:
        """`keys`, the ids of the public keys whose signature a model needs (none: any model runs), and `locked`."""
        return self.ask("key list", "keys").fields

    def set_key(self, key: bytes) -> Dict[str, Any]:
        """Trust a public key of 32 bytes, too; returns what keys() does. Raises BoardError when the board refuses."""
        return self.ask(f"key set {key.hex()}", "keys").fields

    def remove_key(self, key: bytes) -> Dict[str, Any]:
        return self.ask(f"key remove {key.hex()}", "keys").fields

    def lock_keys(self) -> Dict[str, Any]:
        """From now on only flashing changes the keys."""
        return self.ask("key lock", "keys").fields

    def selftest(self) -> Dict[str, Any]:
        """Runs the known answers the model carries on the board: `rows` and `mismatches`."""
        return self.ask("selftest", "selftest").as_dict()

    def reboot(self) -> Dict[str, Any]:
        """Restarts the board; returns the info of the new boot."""
        self.ask("reboot", "reboot")
        self._wait("boot", "reboot")
        return self.info()

    def bench(self, count: int = 10) -> Dict[str, Any]:
        """`count` inferences on the board: `latency_*_us`, `output_crc32`, and `ops`, a list of {name, op, total_us, runs}.

        The operators are timed in a second pass of `count` inferences. On a simulated board (`info()["simulated"]`) these
        are times of the machine that simulates.
        """
        self.info()  # a board that is not there should not be waited for as long as a slow one
        passing: List[Record] = []
        patience_s = self._timeout_s + _SLOWEST_INFERENCE_S * 2 * count
        content = self.ask(f"bench {count}", "bench", attempts=1, timeout_s=patience_s, passing=passing).as_dict()
        content["ops"] = [record.fields for record in passing if record.kind == "op"]
        return content

    def rollback(self) -> Dict[str, Any]:
        """Back to the model in the other slot; returns the board's info. Raises BoardError where there is none to go back to.

        A second rollback goes forward again, so nothing is sent twice: without an answer the board's info decides.
        """
        before = self.info()["model"]
        try:
            self.ask("rollback", "ok", attempts=1)
        except _NoAnswerError:
            if self.info()["model"] == before:
                raise
        return self.info()

    def update(self, model_bin: bytes, progress: Optional[Callable[[int, int], None]] = None) -> Dict[str, Any]:
        """Send a model.bin to the slot that is not in use; the board tests it and takes it, or keeps the one it has.

        `progress` gets bytes sent and bytes in all. Returns the board's info, whose `model` is the new digest. Raises
        BoardError with the board's reason when it refuses, and when what runs afterwards does not pass its self-test.
        """
        from orchestrator.boards.update import send_model

        return send_model(self, model_bin, progress)

    def stream(
        self,
        *,
        counts_per_unit: int = 1,
        hop: int = 0,
        agree: int = 1,
        least_confidence: float = 0.0,
        source: Optional[str] = None,
        rate_hz: int = 125,
    ) -> Dict[str, Any]:
        """Run the model on a stream of samples from now on: a window every `hop` samples (0: windows side by side).

        A class that `agree` windows in a row choose with `least_confidence` or more is a detection, unless the last one
        was the same. Without `source` the samples come from feed(); else from the board: "adc", "imu", or "file" where it
        is virtual. A model.bin says how samples become inputs; `counts_per_unit` divides them first. Returns
        window_samples, channels and hop_samples.
        """
        where = "" if source is None else f" {source} {rate_hz}"
        least = math.ceil(least_confidence * 256)
        self._next_sample = 0
        return self.ask(f"stream {counts_per_unit} {hop} {agree} {least}{where}", "ok").fields

    def feed(self, samples: np.ndarray) -> List[Record]:
        """Send int16 samples (n, channels), or (n,) for one channel, to the stream; its `detect` and `drift` records."""
        from orchestrator.boards.stream import send_samples

        self._next_sample, records = send_samples(self, samples, self._next_sample)
        return records

    def stream_off(self) -> None:
        self.ask("stream off", "ok")

    def ask(
        self,
        command: str,
        answer: str,
        *,
        attempts: int = 3,
        timeout_s: Optional[float] = None,
        passing: Optional[List[Record]] = None,
    ) -> Record:
        """Send a text command; the next record of kind `answer`, those before it go to `passing`.

        `timeout_s` is for each attempt. Raises BoardError on an error record or no answer.
        """
        error: Optional[BoardError] = None
        self._unread.clear()
        for _ in range(attempts):
            self._write(b"\n" + command.encode("ascii") + b"\n")
            try:
                return self._wait(answer, command, timeout_s, passing)
            except _NoAnswerError as silence:
                error = silence
        assert error is not None
        raise error

    def infer(self, rows: np.ndarray) -> Inference:
        """Run int8 rows (n, input elements, any shape that flattens to it) on the board.

        Rows are sent ahead within the board's buffer; one whose frame or answer got lost or damaged is sent again.
        Raises BoardError when the board refuses a row, loses its model, or stays silent.
        """
        if rows.dtype != np.int8 or rows.ndim < 1:
            raise BoardError(
                f"{self.port}: rows must be int8, one per line; they are {rows.dtype} of shape {rows.shape}"
            )
        self._unread.clear()
        transfer = _Transfer(self.new_ids(len(rows)).start, rows.reshape(len(rows), -1))
        heard_at = time.monotonic()
        while not transfer.done:
            for frame in transfer.frames_to_send():
                self._write(frame)
            progress = False
            for record in self._read():
                progress |= self._take(transfer, record)
            now = time.monotonic()
            if progress:
                heard_at = now
            elif now - heard_at > max(self._timeout_s, 4e-6 * transfer.slowest_us):
                if not transfer.send_again():
                    raise BoardError(f"{self.port}: no answer to row {transfer.first_open} after {_ATTEMPTS} attempts")
                heard_at = now
        return transfer.result()

    def exchange(
        self,
        frames: Sequence[bytes],
        ids: Collection[int],
        kind: str,
        timeout_s: float,
        passing: Optional[List[Record]] = None,
    ) -> Iterator[Record]:
        """Send frames; yields the records of `kind` that answer one of `ids`, until all came or `timeout_s` passed.

        Other records go to `passing`. Raises BoardError for an error record about one of `ids`.
        """
        for frame in frames:
            self._write(frame)
        open_ids = set(ids)
        deadline = time.monotonic() + timeout_s
        while open_ids and time.monotonic() < deadline:
            for record in self._read():
                if record.kind == kind and record.fields.get("id") in open_ids:
                    open_ids.discard(record.fields["id"])
                    yield record
                elif record.kind == "error" and record.fields.get("code") in ("bad_frame", "unknown_frame"):
                    open_ids.clear()  # one of them did not arrive: no use in waiting for its answer
                elif record.kind == "error" and record.fields.get("id") in open_ids:
                    raise BoardError(f"{self.port}: {record.fields.get('code')}: {record.fields.get('reason')}")
                elif passing is not None:
                    passing.append(record)

    def new_ids(self, count: int) -> range:
        """Frame numbers nobody used before on this port."""
        first = self._next_id
        self._next_id = (self._next_id + count) % 2**31
        return range(first, first + count)

    def _take(self, transfer: _Transfer, record: Record) -> bool:
        if record.kind == "boot" and self.stats.boots > 1:  # the first was said before this port was opened
            transfer.send_again()
            return True
        number = record.fields.get("id")
        if record.kind == "error" and transfer.knows(number):
            expected, got = record.fields.get("expected_bytes"), record.fields.get("got_bytes")
            sizes = f" ({got} bytes, the model takes {expected})" if got != expected else ""
            raise BoardError(f"{self.port}: {record.fields.get('code')}: {record.fields.get('reason')}{sizes}")
        if record.kind != "result" or not transfer.knows(number):
            return False
        return transfer.take(self.port, record)

    def _wait(
        self, kind: str, command: str, timeout_s: Optional[float] = None, passing: Optional[List[Record]] = None
    ) -> Record:
        wait_s = self._timeout_s / 2 if timeout_s is None else timeout_s
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if not self._unread:
                self._unread.extend(self._read())
                continue
            record = self._unread.popleft()
            if record.kind == kind:
                return record
            if record.kind == "error":
                self._raise_if_about(command, record)
            if passing is not None:
                passing.append(record)
        raise _NoAnswerError(f"{self.port}: no answer to {command!r} in {wait_s:g} s: is it an Edgeward board?")

    def _raise_if_about(self, command: str, record: Record) -> None:
        """Raises for an error record that answers a text command, not one about a frame, the line or the model slot."""
        code = record.fields.get("code")
        about_slot = "slot" in record.fields and command != "reload"
        if "id" in record.fields or about_slot or code in ("bad_frame", "line_too_long"):
            return
        # Noise that ran into a command makes it unknown: that one is worth another try.
        kind = _NoAnswerError if code == "unknown_command" else BoardError
        raise kind(f"{self.port}: {command!r}: {code}: {record.fields.get('reason')}")

    def _read(self) -> List[Record]:
        try:
            waiting = self._device.in_waiting
            data = self._device.read(waiting or 1)
        except OSError as error:
            raise BoardError(f"{self.port} went away: {_why(error)}") from error
        records = self._parser.feed(data)
        for record in records:
            if record.schema != RECORD_SCHEMA:
                raise BoardError(f"{self.port}: records of schema {record.schema}, this edgeward knows {RECORD_SCHEMA}")
            if self._on_record is not None:
                self._on_record(record)
        return records

    def _write(self, data: bytes) -> None:
        import serial

        try:
            self._device.write(data)
        except serial.SerialTimeoutException as error:
            raise BoardError(f"{self.port} does not take any data: is the board running?") from error
        except OSError as error:
            raise BoardError(f"{self.port} went away: {_why(error)}") from error


class _NoAnswerError(BoardError):
    pass


class _Transfer:
    """The rows of one infer(): what is waiting, on its way, and answered."""

    def __init__(self, first_id: int, rows: np.ndarray) -> None:
        self._first_id, self._rows = first_id, rows
        self._waiting: Deque[int] = deque(range(len(rows)))
        self._under_way: OrderedDict[int, int] = OrderedDict()  # row -> bytes of its frame, in the order sent
        self._attempts = [0] * len(rows)
        self._outputs: Dict[int, np.ndarray] = {}
        self._latency_us = np.zeros(len(rows), np.int64)
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
            self._waiting.appendleft(earlier)
        self._outputs[row] = np.frombuffer(bytes.fromhex(record.fields["out"]), np.int8)
        self._latency_us[row] = record.fields["latency_us"]
        self.slowest_us = max(self.slowest_us, int(self._latency_us[row]))
        return True

    def result(self) -> Inference:
        if not len(self._rows):
            return Inference(np.zeros((0, 0), np.int8), self._latency_us)
        return Inference(np.stack([self._outputs[i] for i in range(len(self._rows))]), self._latency_us)
