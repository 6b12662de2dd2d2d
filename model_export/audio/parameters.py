"""What an audio front end is asked to compute, and whether it can.

Left out, a number is micro-wake-word's; docs/audio.md says which stage each belongs to. Whatever passes here overflows nowhere on
a board.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, Iterator

from model_export.errors import AudioError

LEAST_WINDOW, MOST_WINDOW = 32, 1024
"""Samples: the memory a board keeps for them (firmware/audio/audio_tables.h)."""
MOST_CHANNELS = 64
LEAST_RATE_HZ, MOST_RATE_HZ = 8_000, 48_000
MOST_SMOOTHING_BITS = 10
"""A channel is at most 2^21: the root of 2^12 times the mean square of a full window. 10 more fit in 32 bits."""
MOST_LOG_SHIFT = 11
"""A logarithm is below 2^21 in 1/65536."""
MOST_SHIFT = 31
WEIGHT_BITS = 12
"""Of a window's coefficients and of a filter's weights."""
SMOOTHING_ONE = 1 << 14
RATIO_BITS = 12
"""Of signal over noise."""


@dataclass(frozen=True)
class SoundParameters:
    """Windows of sound and filters over their spectra: every front end begins with these."""

    sample_rate_hz: int = 16_000
    window_ms: int = 30
    step_ms: int = 10
    channels: int = 40
    lowest_hz: float = 125.0
    """Of the first filter; highest_hz that of the last."""
    highest_hz: float = 7_500.0

    def __post_init__(self) -> None:
        for wrong in self._wrong():
            raise AudioError(f"audio: {wrong}")

    @property
    def window_samples(self) -> int:
        return self.window_ms * self.sample_rate_hz // 1000

    @property
    def step_samples(self) -> int:
        return self.step_ms * self.sample_rate_hz // 1000

    @property
    def transform_samples(self) -> int:
        """The least power of two that holds a window."""
        return 1 << (self.window_samples - 1).bit_length()

    def as_dict(self) -> Dict[str, Any]:
        return asdict(self)

    def _wrong(self) -> Iterator[str]:
        """Each mistake, by its name; types before values, since the latter follow from each other."""
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if not _is_a(kind, value):
                yield f"{field.name} must be {_KINDS[kind]}, not {value!r}"
        yield from self._out_of_range("sample_rate_hz", LEAST_RATE_HZ, MOST_RATE_HZ)
        yield from self._out_of_range("window_ms", 1, 1000)
        yield from self._out_of_range("step_ms", 1, 1000)
        if not LEAST_WINDOW <= self.window_samples <= MOST_WINDOW:
            yield (
                f"window_ms {self.window_ms} at {self.sample_rate_hz} Hz is {self.window_samples} samples; "
                f"a board has room for {LEAST_WINDOW} to {MOST_WINDOW}"
            )
        if self.step_ms > self.window_ms:
            yield f"step_ms {self.step_ms} is longer than window_ms {self.window_ms}: sound between windows would be lost"
        yield from self._out_of_range("channels", 1, MOST_CHANNELS)
        if not 0 <= self.lowest_hz < self.highest_hz:
            yield f"lowest_hz {self.lowest_hz} must be from 0 on and below highest_hz, which is {self.highest_hz}"
        if self.highest_hz > self.sample_rate_hz / 2:
            yield f"highest_hz {self.highest_hz} is above half of sample_rate_hz, {self.sample_rate_hz / 2:g}"
        yield from self._further_wrong()

    def _further_wrong(self) -> Iterator[str]:
        """What is wrong with the numbers that only this front end has."""
        return iter(())

    def _out_of_range(self, name: str, least: float, most: float) -> Iterator[str]:
        value = getattr(self, name)
        if not least <= value <= most:
            yield f"{name} must be from {least:g} to {most:g}, not {value:g}"


@dataclass(frozen=True)
class AudioParameters(SoundParameters):
    """The settings of micro-wake-word, which are those of TensorFlow Lite Micro's micro_speech but for the step (20 ms there)."""

    smoothing_bits: int = 10
    """Binary places that the estimate of the noise has more than the signal."""
    even_smoothing: float = 0.025
    """How much of a step enters the estimate of the noise, in channels 0, 2, ...; odd_smoothing in 1, 3, ..."""
    odd_smoothing: float = 0.06
    least_signal: float = 0.05
    """What is left of a signal at least, however much of it is noise."""
    gain_control: bool = True
    gain_strength: float = 0.95
    gain_offset: float = 80.0
    gain_bits: int = 21
    logarithm: bool = True
    log_shift: int = 6
    """A feature is the logarithm times 2 to this power."""

    @property
    def correction_bits(self) -> int:
        """Binary places that a channel has lost: the transform divides by its length, of which the root of the weights gives
        half of theirs back.
        """
        return self.transform_samples.bit_length() - 1 - WEIGHT_BITS // 2

    @property
    def ratio_shift(self) -> int:
        """From signal times gain to signal over noise."""
        return self.gain_bits - self.correction_bits - RATIO_BITS

    @property
    def noise_bits(self) -> int:
        """Binary places of an estimate of noise, measured in what the gain is computed of."""
        return self.smoothing_bits - self.correction_bits

    def _further_wrong(self) -> Iterator[str]:
        for name in ("even_smoothing", "odd_smoothing", "least_signal"):
            yield from self._out_of_range(name, 0, 1)
        yield from self._out_of_range("smoothing_bits", 0, MOST_SMOOTHING_BITS)
        yield from self._out_of_range("log_shift", 0, MOST_LOG_SHIFT)
        if self.gain_control:
            yield from self._wrong_gain()

    def _wrong_gain(self) -> Iterator[str]:
        yield from self._out_of_range("gain_strength", 0, 4)
        yield from self._out_of_range("gain_offset", 1e-3, 1e6)
        least = self.correction_bits + RATIO_BITS
        yield from self._out_of_range("gain_bits", max(1, least), min(MOST_SHIFT, least + MOST_SHIFT))
        if self.noise_bits < 0:
            yield f"smoothing_bits {self.smoothing_bits} must be at least {self.correction_bits} for gain control of this window"


_KINDS = {int: "a whole number below 1e9", float: "a finite number below 1e9", bool: "true or false"}


def _is_a(kind: type, value: Any) -> bool:
    if kind is bool or isinstance(value, bool):
        return type(value) is kind
    return isinstance(value, (int, float) if kind is float else int) and abs(value) < 1e9


MICRO_WAKE_WORD = AudioParameters()
