"""One open serial port with a board behind it: commands and their answers, frames and theirs."""

from __future__ import annotations

import math
import secrets
import time
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Collection, Deque, Dict, Iterator, List, Optional, Sequence, TypeVar

from orchestrator.boards.ports import list_ports
from orchestrator.boards.protocol import RECORD_SCHEMA, Record, RecordParser, RecordStats
from orchestrator.errors import EdgewardError, GivenError

BAUD = 115200
_POLL_S = 0.05
_LOOK_S = 5.0
_INFO = ("chip", "simulated", "engine", "state")
_INFO_OF_A_MODEL = (
    "input_bytes",
    "input_scale",
    "input_zero_point",
    "output_bytes",
    "output_scale",
    "output_zero_point",
)


_Self = TypeVar("_Self", bound="Conversation")


class BoardError(EdgewardError):
    """A board cannot be reached, does not answer, or refused. The message names the port."""


class PortError(BoardError, GivenError):
    """There is no such port, or it is no serial port."""


class NoAnswerError(BoardError):
    """A board said nothing in time to what it was asked."""


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
        raise PortError(f"cannot open {port}: {_why(error)}; {there}") from error
    return device


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number is not None:
        import os

        return os.strerror(number)
    return str(error)


class Conversation:
    """One open port. `on_record` sees every intact record as it arrives, asked for or not."""

    def __init__(
        self,
        port: str,
        *,
        baud: int = BAUD,
        timeout_s: float = 10.0,
        on_record: Optional[Callable[[Record], None]] = None,
    ) -> None:
        self._begin_without_device(port, timeout_s, on_record)
        self._parser = RecordParser()
        self.device = open_port(port, baud)
        self.device.reset_input_buffer()

    def _begin_without_device(self, port: str, timeout_s: float, on_record: Optional[Callable[[Record], None]]) -> None:
        self.port = port
        self.timeout_s = timeout_s
        self.on_record = on_record
        # Anywhere, so that late answers to the previous user of the port are not mistaken for ours.
        self._next_id = secrets.randbelow(2**30)
        self._unread: Deque[Record] = deque()  # arrived while something else was waited for
        self._bad_frames = 0

    @property
    def stats(self) -> RecordStats:
        return self._parser.stats

    @property
    def damaged(self) -> int:
        """Frames that arrived damaged there, as the board says, and records that arrived damaged here."""
        return self._bad_frames + self.stats.corrupt

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.device.close()

    def info(self) -> Dict[str, Any]:
        """The fields of the board's info record, `input_scale` and `output_scale` as floats, plus boot, model and kind."""
        record = self.ask("info", "info")
        ready = record.fields.get("state") == "ready"
        content = self.whole(record, (*_INFO, *_INFO_OF_A_MODEL) if ready else _INFO)
        for key in ("input_scale", "output_scale"):
            if key in content:
                content[key] = math.ldexp(*content[key])
        return content

    def restarted(self, before: str, timeout_s: float) -> Dict[str, Any]:
        """The info of the boot after `before`, which is over; waits for it. Raises NoAnswerError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with suppress(NoAnswerError):
                self.wait_for("boot", "reboot", min(_LOOK_S, timeout_s))
            with suppress(NoAnswerError):  # it is still starting, or its record was lost
                info = self.info()
                if info["boot"] != before:
                    return info
        raise NoAnswerError(f"{self.port}: it has not been back for {timeout_s:g} s since it was restarted")

    def whole(self, record: Record, needed: Sequence[str]) -> Dict[str, Any]:
        """The record as a table; BoardError where a field is missing without which it is no answer."""
        content = record.as_dict()
        missing = [name for name in needed if name not in content]
        if missing:
            raise BoardError(
                f"{self.port}: its {record.kind} record has no {', '.join(missing)}: is it an Edgeward board?"
            )
        return content

    def selftest(self) -> Dict[str, Any]:
        """Runs the known answers the model carries on the board: `rows` and `mismatches`."""
        return self.ask("selftest", "selftest").as_dict()

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
        self.forget_unread()
        for left in reversed(range(attempts)):
            self.write(b"\n" + command.encode("ascii") + b"\n")
            try:
                return self.wait_for(answer, command, timeout_s, passing)
            except NoAnswerError:
                if not left:
                    raise
        raise ValueError(f"{attempts} attempts")

    def forget_unread(self) -> None:
        """Drops records that arrived while something else was waited for."""
        self._unread.clear()

    def exchange(
        self,
        frames: Sequence[bytes],
        ids: Collection[int],
        kind: str,
        timeout_s: float,
        passing: Optional[List[Record]] = None,
    ) -> Iterator[Record]:
        """Send frames; yields the records of `kind` that answer one of `ids`, until all came or `timeout_s` passed.

        Other records go to `passing`; without it, those behind the last answer are for who waits next. Raises BoardError for an
        error record about one of `ids`.
        """
        for frame in frames:
            self.write(frame)
        open_ids = set(ids)
        deadline = time.monotonic() + timeout_s
        while open_ids and time.monotonic() < deadline:
            for record in self.read():
                if record.kind == kind and record.fields.get("id") in open_ids:
                    open_ids.discard(record.fields["id"])
                    yield record
                elif record.kind == "error" and record.fields.get("code") in ("bad_frame", "unknown_frame"):
                    open_ids.clear()  # one of them did not arrive: no use in waiting for its answer
                elif record.kind == "error" and record.fields.get("id") in open_ids:
                    raise BoardError(f"{self.port}: {record.fields.get('code')}: {record.fields.get('reason')}")
                elif passing is not None:
                    passing.append(record)
                elif not open_ids:
                    self._unread.append(record)  # behind the last answer, such as the boot that follows it

    def new_ids(self, count: int) -> range:
        """Frame numbers nobody used before on this port."""
        first = self._next_id
        self._next_id = (self._next_id + count) % 2**31
        return range(first, first + count)

    def wait_for(
        self, kind: str, command: str, timeout_s: Optional[float] = None, passing: Optional[List[Record]] = None
    ) -> Record:
        """The next record of `kind`, which answers `command`; earlier ones go to `passing`. Raises BoardError."""
        wait_s = self.timeout_s / 2 if timeout_s is None else timeout_s
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if not self._unread:
                self._unread.extend(self.read())
                continue
            record = self._unread.popleft()
            if record.kind == kind:
                return record
            if record.kind == "error":
                self._raise_if_about(command, record)
            if passing is not None:
                passing.append(record)
        raise NoAnswerError(f"{self.port}: no answer to {command!r} in {wait_s:g} s: is it an Edgeward board?")

    def _raise_if_about(self, command: str, record: Record) -> None:
        """Raises for an error record that answers a text command, not one about a frame, the line or the model slot."""
        code = record.fields.get("code")
        about_slot = "slot" in record.fields and command != "reload"
        if "id" in record.fields or about_slot or code in ("bad_frame", "line_too_long"):
            return
        # Noise that ran into a command makes it unknown: that one is worth another try.
        kind = NoAnswerError if code == "unknown_command" else BoardError
        raise kind(f"{self.port}: {command!r}: {code}: {record.fields.get('reason')}")

    def arrived(self) -> List[Record]:
        """As `read`, with those first that arrived while something else was waited for."""
        waiting = [*self._unread]
        self.forget_unread()
        return waiting or self.read()

    def read(self) -> List[Record]:
        """The intact records that arrived, after at most 50 ms. Raises BoardError when the port went away."""
        try:
            waiting = self.device.in_waiting
            data = self.device.read(waiting or 1)
        except OSError as error:
            raise BoardError(f"{self.port} went away: {_why(error)}") from error
        records = self._parser.feed(data)
        for record in records:
            if record.schema != RECORD_SCHEMA:
                raise BoardError(f"{self.port}: records of schema {record.schema}, this edgeward knows {RECORD_SCHEMA}")
            self._bad_frames += record.kind == "error" and record.fields.get("code") == "bad_frame"
            if self.on_record is not None:
                self.on_record(record)
        return records

    def write(self, data: bytes) -> None:
        """Sends bytes as they are. Raises BoardError when the port went away or takes nothing."""
        import serial

        try:
            self.device.write(data)
        except serial.SerialTimeoutException as error:
            raise BoardError(f"{self.port} does not take any data: is the board running?") from error
        except OSError as error:
            raise BoardError(f"{self.port} went away: {_why(error)}") from error
