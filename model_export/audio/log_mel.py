"""Logarithms of mel energies, with which MLPerf Tiny's streaming wake word hears: in numpy, the bits of firmware/audio/log_mel.h.

A window of samples less most of the sample before each; under a Hamming window; its power spectrum; mel filters over it; decibels
of a full scale of 1, cut to a range. TensorFlow's training code has this in float32 (`get_lfbe_func` of the benchmark's streaming
wake word, Apache-2.0), as its reference board has. Here all is in integers, wide enough that the largest part of what is left
between the two is their rounding (docs/audio.md).

Tables, little-endian, as `pack_log_mel` writes them:

    u32 magic "EWAU"      u32 version (2)       u32 sample_rate_hz    u32 window_samples    u32 step_samples
    u32 channels          u32 first_bin         u32 bins              u32 preemphasis in 1/1024
    i32 floor: the binary logarithm of the energy of which the feature is 0, in 1/65536
    u32 slope: of a feature over a binary logarithm, in 1/4096        u32 toward_zero (0 or 1)
    i16 window[window_samples], in 1/16384
    i16 turns[3/4 transform_samples][2], u16 widths[channels + 1], i16 rising[bins], i16 falling[bins]: as in tables.py, the last
        two in 1/16384
    u16 log[129], as in tables.py
    each from a multiple of 4 on, zero bytes between
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Iterator, Tuple

import numpy as np

from model_export.audio.parameters import SoundParameters
from model_export.audio.spectrum import WIDE, energies
from model_export.audio.tables import LOG_SEGMENTS, MAGIC, SpectrumTables, aligned, log_excess, turns
from model_export.audio.windows import Windows
from model_export.errors import AudioError

VERSION = 2
LEAST_DECIBELS = -66
"""Below, the board's integers have too few places of an energy."""
LARGEST = 0xFFFF
"""A feature, from the loudest end of the range on."""
_HEAD = struct.Struct("<9IiII")
_WEIGHT_BITS = 14
"""Of a window's coefficients and of a filter's weights."""
_EMPHASIS_BITS = 10
_HEARD_SHIFT = 11
"""From a sample times both to what is transformed: 13 of their 24 binary places stay."""
_POWER_SHIFT = 12
_LOG_BITS, _SLOPE_BITS = 16, 12
_SAMPLE_BITS = 15
"""A sample at full scale is 1."""
_OCTAVE = 10 * math.log10(2)
"""Decibels of twice the energy."""


@dataclass(frozen=True)
class LogMelParameters(SoundParameters):
    """Those of MLPerf Tiny's streaming wake word."""

    window_ms: int = 64
    step_ms: int = 32
    lowest_hz: float = 0.0
    highest_hz: float = 8_000.0
    preemphasis: float = 0.96875
    """How much of the sample before is taken off each."""
    least_decibels: float = -52.0
    """A feature is 0 up to there, and largest from most_decibels on; of the mean power of a sample at full scale."""
    most_decibels: float = 12.0
    toward_zero: bool = True
    """An input is quantized as the benchmark's reference does: cut off toward zero, where others take the nearest."""

    def _further_wrong(self) -> Iterator[str]:
        yield from self._out_of_range("preemphasis", 0, 1)
        yield from self._out_of_range("least_decibels", LEAST_DECIBELS, 94)
        yield from self._out_of_range("most_decibels", -60, 100)
        if self.most_decibels - self.least_decibels < 6:
            yield f"most_decibels {self.most_decibels:g} must be at least 6 above least_decibels, {self.least_decibels:g}"


@dataclass(frozen=True)
class LogMelTables(SpectrumTables):
    parameters: LogMelParameters
    preemphasis: int
    """In 1/1024; floor and slope as above."""
    floor: int
    slope: int


def make_log_mel(asked: LogMelParameters) -> LogMelTables:
    """Raises AudioError where no bin of the spectrum is between the filters' ends."""
    first_bin, widths, rising, falling = _filters(asked)
    # How many binary places a board's integers have of an energy; the transform there is over its length.
    places = 2 * (_SAMPLE_BITS + _EMPHASIS_BITS + _WEIGHT_BITS - _HEARD_SHIFT) + _WEIGHT_BITS - _POWER_SHIFT
    places -= 2 * (asked.transform_samples.bit_length() - 1)
    floor = places + math.log2(asked.window_samples) + asked.least_decibels / _OCTAVE
    slope = LARGEST * _OCTAVE / (asked.most_decibels - asked.least_decibels)
    return LogMelTables(
        parameters=asked,
        window=_window(asked.window_samples),
        turns=turns(asked.transform_samples),
        first_bin=first_bin,
        widths=widths,
        rising=rising,
        falling=falling,
        preemphasis=round(asked.preemphasis * (1 << _EMPHASIS_BITS)),
        floor=round(floor * (1 << _LOG_BITS)),
        slope=round(slope * (1 << _SLOPE_BITS)),
        log=log_excess(),
    )


def pack_log_mel(tables: LogMelTables) -> bytes:
    asked = tables.parameters
    head = _HEAD.pack(
        *(MAGIC, VERSION, asked.sample_rate_hz, asked.window_samples, asked.step_samples, asked.channels),
        *(tables.first_bin, len(tables.rising), tables.preemphasis, tables.floor, tables.slope, int(asked.toward_zero)),
    )
    return head + aligned([tables.window, tables.turns, tables.widths, tables.rising, tables.falling, tables.log])


class LogMelFrontEnd:
    """Takes samples in pieces of any size: what it gives is the same, however they are cut."""

    def __init__(self, tables: LogMelTables) -> None:
        self.tables = tables
        self._windows = Windows(tables.parameters)

    def reset(self) -> None:
        """Forgets samples."""
        self._windows.reset()

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """int16 (n,) -> uint16 (steps that these complete, channels)."""
        made = [np.zeros((0, self.tables.parameters.channels), np.uint16)]
        made += [self._features(windows) for windows in self._windows.feed(samples)]
        return np.concatenate(made)

    def _features(self, windows: np.ndarray) -> np.ndarray:
        """int16 (steps, 1 + window_samples), the sample before each window first."""
        tables = self.tables
        wide = windows.astype(np.int64)
        emphasized = (wide[:, 1:] << _EMPHASIS_BITS) - tables.preemphasis * wide[:, :-1]
        heard = (emphasized * tables.window + (1 << (_HEARD_SHIFT - 1))) >> _HEARD_SHIFT
        power = energies(heard, tables.turns, tables.parameters.transform_samples, WIDE) >> _POWER_SHIFT
        power = power[:, tables.first_bin : tables.first_bin + len(tables.rising)]
        return self._decibels(self._channels(power))

    def _channels(self, power: np.ndarray) -> np.ndarray:
        """int64 (steps, bins) -> int64 (steps, channels)"""
        ends = np.cumsum(self.tables.widths.astype(np.int64))
        totals = [np.cumsum(power * weights, axis=1) for weights in (self.tables.rising, self.tables.falling)]
        risen, fallen = (np.diff(np.pad(total, ((0, 0), (1, 0)))[:, np.append(0, ends)], axis=1) for total in totals)
        channels: np.ndarray = risen[:, :-1] + fallen[:, 1:]
        return channels

    def _decibels(self, energy: np.ndarray) -> np.ndarray:
        """int64 (steps, channels) -> uint16"""
        high = energy >> 32
        whole = np.where(high > 0, 31 + _bit_length(high), _bit_length(energy & 0xFFFFFFFF) - 1)
        above = energy - (np.int64(1) << np.maximum(whole, 0))
        part = np.where(
            whole < _LOG_BITS, above << np.maximum(_LOG_BITS - whole, 0), above >> np.maximum(whole - _LOG_BITS, 0)
        )
        segment_bits = _LOG_BITS - (LOG_SEGMENTS.bit_length() - 1)
        segment = np.where(energy > 0, part, 0) >> segment_bits
        low, high_end = (self.tables.log.astype(np.int64)[segment + further] for further in (0, 1))
        between = ((high_end - low) * (part - (segment << segment_bits))) >> segment_bits
        level = (whole << _LOG_BITS) + part + low + between
        bits = _LOG_BITS + _SLOPE_BITS
        feature = ((level - self.tables.floor) * self.tables.slope + (1 << (bits - 1))) >> bits
        return np.where(energy > 0, np.clip(feature, 0, LARGEST), 0).astype(np.uint16)


def _bit_length(values: np.ndarray) -> np.ndarray:
    """int64, of values below 2^32; 0 of 0."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _window(samples: int) -> np.ndarray:
    """Hamming's, whose ends are the first and the last sample: 0.54 - 0.46 cos(2 pi i / (samples - 1))."""
    angles = 2 * np.pi * np.arange(samples) / (samples - 1)
    return np.rint((0.54 - 0.46 * np.cos(angles)) * (1 << _WEIGHT_BITS)).astype(np.int16)


def _filters(asked: LogMelParameters) -> Tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(first bin, widths, rising, falling): triangles over mel, 1127 ln(1 + f / 700), whose corners are the centres of their
    neighbours; never over the constant part.
    """
    bin_hz = asked.sample_rate_hz / asked.transform_samples
    mels = _mel(np.arange(1, asked.transform_samples // 2) * bin_hz)
    low, high = _mel(np.array([asked.lowest_hz, asked.highest_hz]))
    corners = np.linspace(low, high, asked.channels + 2)
    places = np.searchsorted(mels, corners)
    inside = mels[places[0] : places[-1]]
    if not len(inside):
        raise AudioError(
            f"audio: no bin of the spectrum lies between lowest_hz and highest_hz; a bin is {bin_hz:g} Hz wide"
        )
    below = np.searchsorted(corners, inside, side="right") - 1
    share = (inside - corners[below]) / (corners[below + 1] - corners[below])
    rising, falling = (np.rint(weight * (1 << _WEIGHT_BITS)).astype(np.int16) for weight in (share, 1 - share))
    return 1 + int(places[0]), np.diff(places).astype(np.uint16), rising, falling


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(hertz / 700.0)
