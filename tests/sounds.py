"""Sounds for tests of the audio front end, and what TensorFlow's own code makes of them."""

from dataclasses import replace
from typing import Any, Dict, Iterator

import numpy as np
import pytest

from model_export.audio.log_mel import LogMelParameters
from model_export.audio.parameters import AudioParameters
from model_export.audio.tables import AudioTables, make_tables
from model_export.errors import AudioError

RATE_HZ = 16_000
FEATURE = 0.0390625
"""pymicro-features gives a feature times this."""

PARAMETERS: Dict[str, AudioParameters] = {
    "micro_speech": AudioParameters(step_ms=20),
    "the original's defaults": AudioParameters(window_ms=25, channels=32),
    "32 ms, a whole transform": AudioParameters(window_ms=32, step_ms=16),
    "64 ms, the largest window": AudioParameters(window_ms=64, step_ms=32, channels=64),
    "4 ms at 8 kHz, the smallest window": AudioParameters(
        sample_rate_hz=8000, window_ms=4, step_ms=3, channels=4, highest_hz=3500.0
    ),
    "an odd window": AudioParameters(sample_rate_hz=22_050, window_ms=25, step_ms=10, channels=30, lowest_hz=60.0),
    "48 kHz": AudioParameters(sample_rate_hz=48_000, window_ms=20, step_ms=20, highest_hz=15_000.0),
    "channels without bins": AudioParameters(window_ms=8, step_ms=8, channels=60, lowest_hz=0.0),
    "without gain control": AudioParameters(gain_control=False),
    "without a logarithm": AudioParameters(step_ms=20, logarithm=False),
    "neither": AudioParameters(gain_control=False, logarithm=False, step_ms=30),
    "other noise": AudioParameters(
        smoothing_bits=7, even_smoothing=0.1, odd_smoothing=0.5, least_signal=0.3, step_ms=20
    ),
    "other gain": AudioParameters(gain_strength=0.5, gain_offset=200.0, gain_bits=18, log_shift=8, step_ms=20),
    "one channel": AudioParameters(channels=1, lowest_hz=300.0, highest_hz=3000.0),
}
LOG_MEL: Dict[str, LogMelParameters] = {
    "the streaming wake word": LogMelParameters(),
    "20 ms, a window that is no power of two": LogMelParameters(window_ms=20, step_ms=10, channels=32, lowest_hz=60.0),
    "4 ms at 8 kHz": LogMelParameters(sample_rate_hz=8000, window_ms=4, step_ms=4, channels=4, highest_hz=4000.0),
    "48 kHz": LogMelParameters(sample_rate_hz=48_000, window_ms=21, step_ms=7, channels=64, highest_hz=24_000.0),
    "without emphasis": LogMelParameters(preemphasis=0.0, least_decibels=-60.0, most_decibels=30.0),
    "all of it, and a narrow range": LogMelParameters(preemphasis=1.0, least_decibels=-20.0, most_decibels=-14.0),
    "filters narrower than a bin": LogMelParameters(window_ms=8, step_ms=8, channels=60),
}


def sounds(seconds: float = 1.0, seed: int = 0) -> Dict[str, np.ndarray]:
    """int16 at RATE_HZ, by name: silence, noise, full scale of both signs, tones, clicks, and what is like speech."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE_HZ)
    number = np.arange(count)
    time = number / RATE_HZ
    made = {
        "silence": np.zeros(count),
        "white noise": rng.integers(-32768, 32768, count),
        "faint noise": rng.integers(-3, 4, count),
        "noise": np.clip(rng.normal(0, 3000, count), -32768, 32767),
        "highest": np.full(count, 32767),
        "lowest": np.full(count, -32768),
        "square wave": np.where(np.sin(2 * np.pi * 440 * time) > 0, 32767, -32768),
        "highest pitch": np.where(number % 2, 32767, -32768),
        "sine": 32767 * np.sin(2 * np.pi * 1000 * time),
        "sweep": 30000 * np.sin(2 * np.pi * (50 + 7800 / (2 * seconds) * time) * time),
        "clicks": np.where(number % 997 == 0, 32767, 0),
        "lowest clicks": np.where(number % 997 == 0, -32768, 0),
        "faintest clicks": np.where(number % 1777 == 0, 1, 0),
        "like speech": speech_like(count, rng),
    }
    return {name: np.asarray(values).astype(np.int16) for name, values in made.items()}


def speech_like(count: int, rng: np.random.Generator) -> np.ndarray:
    """Syllables: harmonics of a gliding voice under three moving formants, with hisses and pauses between."""
    time = np.arange(count) / RATE_HZ
    pitch = 2 * np.pi * np.cumsum(130 + 40 * np.sin(2 * np.pi * 0.7 * time)) / RATE_HZ
    formants = [
        (500 + 250 * np.sin(2 * np.pi * 2.1 * time), 90.0),
        (1500 + 600 * np.sin(2 * np.pi * 1.3 * time), 120.0),
        (2600 + 200 * np.sin(2 * np.pi * 0.9 * time), 180.0),
    ]
    voice = np.zeros(count)
    for harmonic in range(1, 30):
        heard = harmonic * 130.0
        loudness = sum(1 / (1 + ((heard - centre) / (2 * width)) ** 2) for centre, width in formants)
        voice += loudness * np.sin(harmonic * pitch) / harmonic**0.5
    syllable = np.clip(np.sin(2 * np.pi * 3.7 * time), 0, 1) ** 0.5 * (np.sin(2 * np.pi * 0.31 * time) > -0.8)
    hiss = np.clip(-np.sin(2 * np.pi * 3.7 * time) - 0.6, 0, 1) * rng.normal(0, 1, count)
    return np.clip(6000 * syllable * voice + 2500 * hiss + rng.normal(0, 12, count), -32768, 32767)


def by_micro_features(samples: np.ndarray) -> np.ndarray:
    """uint16 (steps, 40): what pymicro-features makes of int16 samples, with micro-wake-word's parameters."""
    reason = "pymicro-features is TensorFlow's own front end, the oracle"
    front_end: Any = pytest.importorskip("pymicro_features", reason=reason).MicroFrontend()
    found = []
    at = 0
    while at + 160 <= len(samples):
        said = front_end.process_samples(samples[at : at + 160].astype("<i2").tobytes())
        at += said.samples_read
        if said.features:
            found.append(said.features)
    return np.round(np.array(found) / FEATURE).astype(np.uint16)


def in_float64(asked: AudioParameters) -> AudioTables:
    """The tables as TensorFlow's operator has them: window and weights in float64, rounded to float32 here and there.

    Boards and micro-wake-word have float32 throughout, and a few weights other by 1/4096.
    """
    tables = make_tables(asked)
    single = np.float32

    def mel(hertz: Any) -> np.ndarray:
        return (1127.0 * np.log1p(single(hertz).astype(np.float64) / 700.0)).astype(single)

    low = mel(asked.lowest_hz)
    centres = low + (mel(asked.highest_hz) - low) / single(asked.channels + 1) * np.arange(
        1, asked.channels + 2, dtype=single
    )
    filters = np.repeat(np.arange(asked.channels + 1), tables.widths)
    bins = tables.first_bin + np.arange(len(filters), dtype=single)
    bin_hz = single(asked.sample_rate_hz / asked.transform_samples)
    below = np.append(low, centres[:-1])[filters]
    weight = ((centres[filters] - mel(bins * bin_hz)) / (centres[filters] - below)).astype(single).astype(np.float64)
    step = single(2 * np.pi / asked.window_samples)
    window = single(0.5 - 0.5 * np.cos(float(step) * (np.arange(asked.window_samples) + 0.5)))
    return replace(
        tables,
        window=np.floor(4096 * window.astype(np.float64) + 0.5).astype(np.int16),
        falling=np.floor(4096 * weight + 0.5).astype(np.int16),
        rising=np.floor(4096 * (1 - weight) + 0.5).astype(np.int16),
    )


def by_tensorflow(samples: np.ndarray, asked: AudioParameters) -> np.ndarray:
    """uint16 (steps, channels): what TensorFlow's operator makes of int16 samples."""
    reason = "TensorFlow's operator is the oracle for other parameters"
    tensorflow: Any = pytest.importorskip("tensorflow", reason=reason)
    from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op

    found = audio_microfrontend_op.audio_microfrontend(
        tensorflow.constant(samples),
        sample_rate=asked.sample_rate_hz,
        window_size=asked.window_ms,
        window_step=asked.step_ms,
        num_channels=asked.channels,
        upper_band_limit=asked.highest_hz,
        lower_band_limit=asked.lowest_hz,
        smoothing_bits=asked.smoothing_bits,
        even_smoothing=asked.even_smoothing,
        odd_smoothing=asked.odd_smoothing,
        min_signal_remaining=asked.least_signal,
        enable_pcan=asked.gain_control,
        pcan_strength=asked.gain_strength,
        pcan_offset=asked.gain_offset,
        gain_bits=asked.gain_bits,
        enable_log=asked.logarithm,
        scale_shift=asked.log_shift,
    )
    return np.asarray(found.numpy())


def random_tables(tries: int, seed: int) -> Iterator[AudioTables]:
    """Of parameters drawn at random, those that are not refused."""
    rng = np.random.default_rng(seed)
    for _ in range(tries):
        asked: Dict[str, Any] = {
            "sample_rate_hz": int(rng.choice([8000, 11_025, 16_000, 44_100, 48_000])),
            "window_ms": int(rng.integers(1, 70)),
            "step_ms": int(rng.integers(1, 40)),
            "channels": int(rng.integers(1, 66)),
            "lowest_hz": float(rng.choice([0.0, 125.0, 1000.0])),
            "highest_hz": float(rng.uniform(500, 9000)),
            "smoothing_bits": int(rng.integers(0, 12)),
            "gain_control": bool(rng.random() < 0.8),
            "gain_bits": int(rng.integers(10, 32)),
            "gain_strength": float(rng.uniform(0, 4)),
            "gain_offset": float(10 ** rng.uniform(-3, 4)),
            "logarithm": bool(rng.random() < 0.8),
            "log_shift": int(rng.integers(0, 13)),
        }
        try:
            yield make_tables(AudioParameters(**asked))
        except AudioError:
            continue
