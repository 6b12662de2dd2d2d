"""Features of sound in numpy, the bits of firmware/audio/: to make training data, and to see what a board would.

Six stages, in integers: a window of samples; its spectrum; the energies of its bins under mel filters, and the roots of their
sums; less a slow estimate of the noise; times a gain that falls with the noise; a logarithm. Formulas and widths are those of
TensorFlow's microfrontend and, for the transform, of KISS FFT with 16 bits; docs/audio.md has them.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from model_export.audio.log_scale import log_scaled
from model_export.audio.parameters import RATIO_BITS, SMOOTHING_ONE, WEIGHT_BITS
from model_export.audio.spectrum import NARROW, energies
from model_export.audio.tables import AudioTables
from model_export.audio.windows import Windows

_U32 = np.uint64(0xFFFFFFFF)


def nearest_root(values: np.ndarray) -> np.ndarray:
    """The nearest whole number to the square root of uint64 below 2^53; below 2^32, at most 65535."""
    root = np.sqrt(values.astype(np.float64)).astype(np.uint64)
    root -= root * root > values
    root += values - root * root > root
    return np.minimum(root, np.where(values < 1 << 32, np.uint64(0xFFFF), _U32))


class AudioFrontEnd:
    """Takes samples in pieces of any size: what it gives is the same, however they are cut."""

    def __init__(self, tables: AudioTables) -> None:
        self.tables = tables
        self._falling, self._rising = _by_channel(tables)
        self._windows = Windows(tables.parameters)
        self.reset()

    def reset(self) -> None:
        """Forgets samples and noise."""
        self._windows.reset()
        self._noise = np.zeros(self.tables.parameters.channels, np.uint64)

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """int16 (n,) -> uint16 (steps that these complete, channels)."""
        made = [np.zeros((0, self.tables.parameters.channels), np.uint16)]
        made += [self._features(windows[:, 1:]) for windows in self._windows.feed(samples)]
        return np.concatenate(made)

    def _features(self, windows: np.ndarray) -> np.ndarray:
        signal, noise = self._without_noise(self._channels(windows))
        if self.tables.parameters.gain_control:
            signal = self._with_gain(signal, noise)
        return log_scaled(signal, self.tables)

    def _channels(self, windows: np.ndarray) -> np.ndarray:
        """int16 (steps, window_samples) -> uint64 (steps, channels)"""
        heard = ((windows.astype(np.int32) * self.tables.window) >> WEIGHT_BITS).astype(np.int16)
        loudest = np.abs(heard).max(axis=1)  # of int16: -32768 stays below all others
        shift = 15 - _bit_length(np.maximum(loudest, 0))
        heard = (heard.astype(np.int32) << shift[:, None]).astype(np.int16)
        energy = energies(heard, self.tables.turns, self.tables.parameters.transform_samples, NARROW)
        first = self.tables.first_bin
        energy = energy[:, first : first + len(self.tables.rising)].astype(np.float64)
        sums = energy @ self._rising + energy @ self._falling  # whole numbers below 2^53
        return nearest_root(sums.astype(np.uint64)) >> shift[:, None].astype(np.uint64)

    def _without_noise(self, signal: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(signal less noise, noise), both uint64 of 32 bits (steps, channels)."""
        tables, asked = self.tables, self.tables.parameters
        bits, one = np.uint64(asked.smoothing_bits), np.uint64(SMOOTHING_ONE.bit_length() - 1)
        share = np.resize(np.array(tables.smoothing, np.uint64), asked.channels)
        fine = (signal << bits) & _U32
        entering, kept = fine * share, np.uint64(SMOOTHING_ONE) - share
        noise = np.empty_like(signal)
        for step, new in enumerate(entering):
            self._noise = ((new + self._noise * kept) >> one) & _U32
            noise[step] = self._noise
        least = (signal * np.uint64(tables.least_signal)) >> one
        return np.maximum((fine - np.minimum(noise, fine)) >> bits, least), noise

    def _with_gain(self, signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
        gain = _gain(noise.astype(np.int64), self.tables.gain.astype(np.int64))
        ratio = ((signal * gain) >> np.uint64(self.tables.parameters.ratio_shift)) & _U32
        small = ratio < (2 << RATIO_BITS)
        square = (ratio * np.where(small, ratio, np.uint64(0))) >> np.uint64(2 * RATIO_BITS - 4)
        return np.where(small, square, (ratio >> np.uint64(6)) - np.uint64(64))


def _by_channel(tables: AudioTables) -> Tuple[np.ndarray, np.ndarray]:
    """float64 (bins, channels): the weights of bins over which a channel falls, and rises."""
    channels = tables.parameters.channels
    rises = np.repeat(np.arange(channels + 1), tables.widths)
    bins = np.arange(len(rises))
    falling, rising = np.zeros((2, len(rises), channels + 2))  # one more at either end, which are left out
    falling[bins, rises] = tables.falling
    rising[bins, rises + 1] = tables.rising
    return falling[:, 1:-1], rising[:, 1:-1]


def _bit_length(values: np.ndarray) -> np.ndarray:
    """int32; 0 of 0."""
    return np.frexp(values.astype(np.float64))[1]


def _gain(noise: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The table's parabola at `noise`, in uint64."""
    interval = _bit_length(noise)
    at = np.where(noise <= 2, 0, 4 * interval - 6)
    within = (
        np.where(interval < 11, noise << np.maximum(11 - interval, 0), noise >> np.maximum(interval - 11, 0)) & 0x3FF
    )
    slope, curvature = table[at + 1], table[np.minimum(at + 2, len(table) - 1)]
    rise = (((((curvature * within) >> 5) + (slope << 5)) * within) + (1 << 14)) >> 15
    gain = np.where(noise <= 2, table[np.minimum(noise, 2)], table[at] + rise)
    return gain.astype(np.int16).astype(np.uint32).astype(np.uint64)
