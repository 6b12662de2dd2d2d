"""Sound files: PCM of 16 bits, one channel, at the rate that the front end is made for. Nothing is resampled or mixed."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from model_export.audio.kinds import features
from model_export.audio.parameters import MICRO_WAKE_WORD, SoundParameters
from model_export.errors import AudioError

_BYTES = 2


def features_of_wav(path: Path, parameters: SoundParameters = MICRO_WAKE_WORD) -> np.ndarray:
    """uint16 (steps, channels) of a whole file, from silence on. Raises AudioError."""
    return features(read_wav(path, parameters.sample_rate_hz), parameters)


def read_wav(path: Path, rate_hz: int) -> np.ndarray:
    """int16 (samples,). Raises AudioError where a file is anything else than a WAV file of one channel, 16 bits and this rate."""
    try:
        with open(path, "rb") as file, wave.open(file, "rb") as sound:
            found = sound.getframerate(), sound.getnchannels(), sound.getsampwidth()
            length = sound.getnframes()
            held = sound.readframes(length)
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from error
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk is longer than the file says it is
        raise AudioError(f"{path}: not read as a WAV file: {str(error) or 'it ends too early'}") from error
    for name, value, wanted, fix in (
        ("Hz", found[0], rate_hz, "resample it"),
        ("channels", found[1], 1, "mix it to one"),
        ("bits a value", 8 * found[2], 8 * _BYTES, "save it as PCM of 16 bits"),
    ):
        if value != wanted:
            raise AudioError(f"{path}: {value} {name}, expected {wanted}; {fix}")
    if len(held) != length * _BYTES:
        raise AudioError(f"{path}: ends after {len(held) // _BYTES} of the {length} samples it says; is it cut off?")
    return np.frombuffer(held, "<i2").astype(np.int16)
