"""The tables of an audio front end: all of its real numbers, rounded to integers once, so that a board needs none.

What a stage computes, and the widths of its integers, are those of TensorFlow's microfrontend
(tensorflow/lite/experimental/microfrontend, Apache-2.0), as micro-wake-word has it: it makes its tables when it starts, in
float32. Here each step is rounded to the nearest float32, whatever the machine's own cosine. `pack_tables` writes, little-endian:

    u32 magic "EWAU"      u32 version (1)      u32 sample_rate_hz   u32 window_samples     u32 step_samples
    u32 channels          u32 first_bin        u32 bins             u32 smoothing_bits     u32 even_smoothing
    u32 odd_smoothing     u32 least_signal (these three in 1/16384) u32 gain_control (0 or 1)
    u32 ratio_shift       u32 logarithm (0 or 1)                    u32 log_shift
    i16 window[window_samples], in 1/4096
    i16 turns[3/4 transform_samples][2]: e^(-2 pi i k / transform_samples) in 1/32767, real and imaginary part
    u16 widths[channels + 1]: bins that channel k - 1 falls over, and k rises over; their sum is `bins`
    i16 rising[bins], i16 falling[bins], in 1/4096
    with gain control: i16 gain[125]
    with a logarithm: u16 log[129]
    each from a multiple of 4 on, zero bytes between
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Iterable, List, Tuple

import numpy as np

from model_export.audio.mel import mel
from model_export.audio.parameters import SMOOTHING_ONE, WEIGHT_BITS, AudioParameters
from model_export.errors import AudioError

MAGIC, VERSION = 0x55415745, 1
_HEAD = struct.Struct("<16I")
_INT16 = 0x7FFF
LOG_SEGMENTS = 128
GAIN_INTERVALS = 32
_F = np.float32


@dataclass(frozen=True)
class SpectrumTables:
    """What every front end has tables of."""

    window: np.ndarray
    """int16 (window_samples,)"""
    turns: np.ndarray
    """int16 (3/4 transform_samples, 2)"""
    first_bin: int
    widths: np.ndarray
    """uint16 (channels + 1,)"""
    rising: np.ndarray
    """int16 (bins,): the share of a bin in the channel that rises over it; `falling`: in the one before, which falls."""
    falling: np.ndarray
    log: np.ndarray
    """uint16 (129,): how far log2(1 + k / 128) is above k / 128, in 1/65536; empty without a logarithm."""


@dataclass(frozen=True)
class AudioTables(SpectrumTables):
    parameters: AudioParameters
    smoothing: Tuple[int, int]
    """Of even and of odd channels, in 1/16384."""
    least_signal: int
    gain: np.ndarray
    """int16 (125,): see `_gain`; empty without gain control."""


def make_tables(parameters: AudioParameters) -> AudioTables:
    """Raises AudioError where filters reach beyond the spectrum or the gain changes faster than int16 can say."""
    first_bin, widths, rising, falling = _filters(parameters)
    return AudioTables(
        parameters=parameters,
        window=_window(parameters.window_samples),
        turns=turns(parameters.transform_samples),
        first_bin=first_bin,
        widths=widths,
        rising=rising,
        falling=falling,
        smoothing=(_share(parameters.even_smoothing), _share(parameters.odd_smoothing)),
        least_signal=_share(parameters.least_signal),
        gain=_gain(parameters) if parameters.gain_control else np.zeros(0, np.int16),
        log=log_excess() if parameters.logarithm else np.zeros(0, np.uint16),
    )


def pack_tables(tables: AudioTables) -> bytes:
    asked = tables.parameters
    head = _HEAD.pack(
        *(MAGIC, VERSION, asked.sample_rate_hz, asked.window_samples, asked.step_samples, asked.channels),
        *(tables.first_bin, len(tables.rising), asked.smoothing_bits, *tables.smoothing, tables.least_signal),
        *(int(asked.gain_control), asked.ratio_shift if asked.gain_control else 0),
        *(int(asked.logarithm), asked.log_shift),
    )
    arrays = (tables.window, tables.turns, tables.widths, tables.rising, tables.falling, tables.gain, tables.log)
    return head + aligned(arrays)


def aligned(arrays: Iterable[np.ndarray]) -> bytes:
    """Values of 16 bits, each array from a multiple of 4 on."""
    parts = [array.astype(f"<{array.dtype.kind}2").tobytes() for array in arrays]
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def _fixed(value: np.ndarray, one: int) -> np.ndarray:
    """float32 in parts of `one`, halves upwards."""
    return np.floor(value * _F(one) + _F(0.5)).astype(np.int16)


def _share(value: float) -> int:
    """A share in 1/16384, cut off."""
    return int(_F(value) * _F(SMOOTHING_ONE))


def _window(samples: int) -> np.ndarray:
    """A Hann window whose samples lie in the middle of their intervals: (1 - cos(2 pi (i + 1/2) / samples)) / 2."""
    step = _F(math.pi) * _F(2) / _F(samples)
    angles = step * (np.arange(samples, dtype=np.float32) + _F(0.5))
    cosines = np.cos(angles.astype(np.float64)).astype(np.float32)
    return _fixed(_F(0.5) - _F(0.5) * cosines, 1 << WEIGHT_BITS)


def turns(samples: int) -> np.ndarray:
    """The roots of unity of a transform over `samples`, in 1/32767, halves upwards."""
    angles = -2 * np.pi * np.arange(3 * samples // 4) / samples
    return np.floor(_INT16 * np.column_stack([np.cos(angles), np.sin(angles)]) + 0.5).astype(np.int16)


def _filters(asked: AudioParameters) -> Tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(first bin, widths, rising, falling): triangles over mel whose corners are the centres of their neighbours."""
    low, high = mel(np.array([asked.lowest_hz, asked.highest_hz]))
    spacing = (high - low) / _F(asked.channels + 1)
    centres = low + spacing * np.arange(1, asked.channels + 2, dtype=np.float32)
    bin_hz = _F(0.5 * asked.sample_rate_hz / (asked.transform_samples // 2))
    first = int(1.5 + float(_F(asked.lowest_hz) / bin_hz))  # never the constant part
    mels = mel(np.arange(asked.transform_samples // 2 + 2, dtype=np.float32) * bin_hz)
    widths: List[int] = []
    falling: List[np.ndarray] = []
    at = first
    for number, centre in enumerate(centres):
        end = max(at, int(np.searchsorted(mels, centre, side="right")))
        below = centres[number - 1] if number else low
        falling.append((centre - mels[at:end]) / (centre - below))
        widths.append(end - at)
        at = end
    if at > asked.transform_samples // 2:
        raise AudioError(
            f"audio: highest_hz {asked.highest_hz:g} reaches beyond the last bin of the spectrum; it must be at least "
            f"{float(bin_hz):g} Hz below half of sample_rate_hz"
        )
    if at == first:
        raise AudioError(
            f"audio: no bin of the spectrum lies between lowest_hz and highest_hz; a bin is {float(bin_hz):g} Hz wide"
        )
    share = np.concatenate(falling).astype(np.float32)
    one = 1 << WEIGHT_BITS
    return first, np.array(widths, np.uint16), _fixed(_F(1) - share, one), _fixed(share, one)


def _gain(asked: AudioParameters) -> np.ndarray:
    """The gain at an estimate of noise x, (x + offset)^-strength: PCEN of Wang et al., arXiv 1607.05666, without its root.

    Of 0 and of 1, then four numbers for every power of two from 2 to 2^31: the gain there, slope and curvature of the parabola
    through the gains at its beginning, middle and end, and 0.
    """

    def gain_at(x: int) -> int:
        level = float(_F(_F(x) / _F(1 << asked.noise_bits)) + _F(asked.gain_offset))
        gain = _F(1 << asked.gain_bits) * _F(level ** -float(_F(asked.gain_strength)))
        return _INT16 if gain > _INT16 else int(gain + _F(0.5))

    table = np.zeros(4 * GAIN_INTERVALS - 3, np.int16)
    table[0], table[1] = gain_at(0), gain_at(1)
    for interval in range(2, GAIN_INTERVALS + 1):
        begin = 1 << (interval - 1)
        end = 2 * begin - (interval == GAIN_INTERVALS)
        at_begin = gain_at(begin)
        to_middle, to_end = gain_at(begin + begin // 2) - at_begin, gain_at(end) - at_begin
        slope = 4 * to_middle - to_end
        curvature = to_end - slope
        if max(abs(slope), abs(curvature)) > _INT16:
            raise AudioError(
                f"audio: gain_strength {asked.gain_strength:g} with gain_offset {asked.gain_offset:g} and gain_bits "
                f"{asked.gain_bits} lets the gain fall faster than a board can follow; raise gain_offset or lower gain_bits"
            )
        table[4 * interval - 6 : 4 * interval - 3] = at_begin, slope, curvature
    return table


def log_excess() -> np.ndarray:
    """Between powers of two a binary logarithm is a straight line and this (Hall et al., IEEE Trans. Computers C-19, 1970)."""
    fraction = np.arange(LOG_SEGMENTS + 1) / LOG_SEGMENTS
    return np.floor(65536 * (np.log2(1 + fraction) - fraction) + 0.5).astype(np.uint16)
