"""Raw samples of a board's own source, as they come: what was measured, what is missing, and why it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from orchestrator.boards.conversation import BoardError, Conversation
from orchestrator.boards.protocol import Record

MOST_RATE_HZ, MOST_CHANNELS, MOST_SAMPLES = 10_000, 32, 2**31 - 1
"""As firmware/core/board_recording.cpp has them."""

_AWAKE_S = 1.0
"""How often the board hears that somebody listens; it ends a recording after 5 s of silence."""
_SLACK_S, _SLACK_SHARE = 0.5, 0.02
"""How far the time of the samples may be from the time they took: records leave up to 0.2 s late, and clocks differ a little."""
_LIMITS = (-(2**15), 2**15 - 1)

Progress = Callable[[int, int], None]
"""Called with the samples that have passed and how many there are to be."""


@dataclass(frozen=True)
class Source:
    """What a board is asked for. ValueError for what no board does."""

    name: str
    rate_hz: int
    channels: int
    samples: int
    """Whole samples, of every channel; those that go missing count."""

    def __post_init__(self) -> None:
        if not (self.name.isascii() and self.name.isalnum() and len(self.name) <= 16):
            raise ValueError(f"source {self.name!r}: expected a name such as imu, adc or file")
        bounds = (("rate_hz", MOST_RATE_HZ), ("channels", MOST_CHANNELS), ("samples", MOST_SAMPLES))
        for name, most in bounds:
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 to {most}")


@dataclass
class Segment:
    """Samples without a gap between them. first: number of the first one, counted from the beginning of the recording."""

    first: int
    pieces: List[np.ndarray] = field(default_factory=list)
    length: int = 0

    def values(self) -> np.ndarray:
        """int16 (length, channels), in counts."""
        return np.concatenate(self.pieces)


class Recording:
    """What one board sent. It holds all that came, whatever ended it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.segments: List[Segment] = []
        self.next = 0
        """Number of the sample that comes next; those that are missing count."""
        self.lost_on_the_line = 0
        self.missed_by_the_board = 0
        self.clipped = 0
        """Values at an end of what 16 bits hold."""
        self.problem = ""
        """Why it ended before its time; empty where it did not."""
        self.ended = ""
        """The board's own word for why it ended; empty where it said none."""
        self._sequence: Optional[int] = None
        self._line_lost = False
        self._first_us: Optional[int] = None
        self._first_next = 0
        self._last_us = 0

    @property
    def kept(self) -> int:
        return sum(segment.length for segment in self.segments)

    @property
    def measured_rate_hz(self) -> Optional[float]:
        """Samples a second of the board's clock; None where too few came to tell."""
        if self._first_us is None or self._last_us <= self._first_us:
            return None
        return (self.next - self._first_next) * 1e6 / (self._last_us - self._first_us)

    def take(self, record: Record) -> None:
        """Takes a record of this boot, in order of arrival. Raises RateError, and BoardError for what no board of ours sends."""
        if self._sequence is not None and record.seq != (self._sequence + 1) % 2**32:
            self._line_lost = True
        self._sequence = record.seq
        if record.kind == "samples":
            self._take_samples(record.fields, record.t_us)
        elif record.kind == "recorded":
            self._pass(min(record.fields["samples"], self.source.samples))
            self.ended = record.fields["why"]

    def _take_samples(self, fields: Dict[str, Any], t_us: int) -> None:
        channels = self.source.channels
        if fields["of_channels"] != channels or len(fields["values"]) % (4 * channels):
            raise BoardError(f"samples of {fields['of_channels']} channels, and {channels} were asked for")
        values = np.frombuffer(bytes.fromhex(fields["values"]), "<i2").astype(np.int16).reshape(-1, channels)
        first = fields["first_sample"]
        if first < self.next or first + len(values) > self.source.samples:
            raise BoardError(f"sample {first} again, or beyond the {self.source.samples} asked for")
        self._pass(first)
        if not self.segments or self.segments[-1].first + self.segments[-1].length != first:
            self.segments.append(Segment(first))
        self.segments[-1].pieces.append(values)
        self.segments[-1].length += len(values)
        self.next += len(values)
        self.clipped += int(np.isin(values, _LIMITS).sum())
        self._look_at_the_clock(t_us)

    def _pass(self, number: int) -> None:
        """Counts what is missing before a sample: a skipped number of a record says that the line lost it."""
        missing, line, self._line_lost = max(0, number - self.next), self._line_lost, False
        self.lost_on_the_line += missing if line else 0
        self.missed_by_the_board += 0 if line else missing
        self.next += missing

    def _look_at_the_clock(self, t_us: int) -> None:
        if self._first_us is None:
            self._first_us, self._first_next = t_us, self.next
        self._last_us = t_us
        took_s, is_s = (t_us - self._first_us) / 1e6, (self.next - self._first_next) / self.source.rate_hz
        if abs(took_s - is_s) > _SLACK_S + _SLACK_SHARE * took_s:
            raise RateError(
                f"{self.next - self._first_next} samples took {took_s:.2f} s of the board's clock, which is "
                f"{self.measured_rate_hz or 0:.4g} Hz and not {self.source.rate_hz}: ask for the rate that the source has"
            )


class RateError(BoardError):
    """The samples do not come at the rate asked for, so that no window of them is as long as it says."""


def record(board: Conversation, source: Source, recording: Recording, progress: Optional[Progress] = None) -> None:
    """Fills `recording` until it is whole, or `recording.problem` says what ended it; the board stops also where this raises.

    Raises BoardError where the board does not begin, since it may not record or has no such source, and RateError.
    """
    _check_allowed(board)
    begun = board.ask(f"record {source.name} {source.rate_hz} {source.channels} {source.samples}", "ok")
    recording.take(begun)
    try:
        _listen(board, begun.boot, recording, progress)
    except RateError:
        raise
    except BoardError as error:
        recording.problem = str(error)
    finally:
        if not recording.ended:
            _stop(board, begun.boot, recording)
    if recording.next < source.samples and not recording.problem:
        recording.problem = f"{board.port}: the board ended by itself: {recording.ended}"


def _check_allowed(board: Conversation) -> None:
    info = board.info()
    if "recording_allowed" not in info:
        raise BoardError(f"{board.port}: its firmware cannot record; flash one of this version (--everything)")
    if not info["recording_allowed"]:
        raise BoardError(
            f"{board.port}: this board sends no raw samples, since they may be a patient's. Who flashes it can allow it: "
            "edgeward flash --allow-recording, with --key FILE or --without-keys; nothing over its serial port does"
        )


def _listen(board: Conversation, boot: str, recording: Recording, progress: Optional[Progress]) -> None:
    awake = heard = time.monotonic()
    while not recording.ended:
        before = recording.next
        for each in board.arrived():
            _take(board, boot, recording, each)
        now = time.monotonic()
        if recording.next > before:
            heard = now
            if progress is not None:
                progress(recording.next, recording.source.samples)
        elif now - heard > board.timeout_s:
            raise BoardError(f"{board.port}: no sample came for {board.timeout_s:g} s: has its source ended?")
        if now - awake > _AWAKE_S:
            board.write(b"\n")
            awake = now


def _take(board: Conversation, boot: str, recording: Recording, each: Record) -> None:
    if each.boot != boot:
        raise BoardError(f"{board.port}: the board restarted, or another one is at the port now")
    try:
        recording.take(each)
    except RateError as error:
        raise RateError(f"{board.port}: {error}") from error
    except BoardError as error:
        raise BoardError(f"{board.port}: {error}") from error


def _stop(board: Conversation, boot: str, recording: Recording) -> None:
    """Ends it on the board, and takes what was on its way, also where the user interrupts."""
    passing: List[Record] = []
    try:
        last = board.ask("record off", "recorded", passing=passing)
        for each in (*passing, last) if not recording.problem else ():
            _take(board, boot, recording, each)
    except RateError:
        raise
    except BoardError as error:
        recording.problem = recording.problem or str(error)
