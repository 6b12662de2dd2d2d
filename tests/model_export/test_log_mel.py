"""Logarithms of mel energies in whole numbers: TensorFlow's, which compute them in float32, to a fraction of a step of int8."""

import functools
import math
from typing import Any, Dict

import numpy as np
import pytest
from sounds import LOG_MEL, sounds

from model_export.audio.hearing import read_hearing, said_of
from model_export.audio.kinds import as_declared, features, read_parameters
from model_export.audio.log_mel import LARGEST, LogMelFrontEnd, LogMelParameters, make_log_mel
from model_export.audio.parameters import MICRO_WAKE_WORD
from model_export.errors import AudioError

pytestmark = pytest.mark.slow

SOUNDS = sounds(1.0)


def by_tensorflow(samples: np.ndarray, asked: LogMelParameters) -> np.ndarray:
    """float64 (steps, channels), 0 to 1: by TensorFlow's transform and its matrix of mel weights."""
    tensorflow: Any = pytest.importorskip("tensorflow", reason="TensorFlow's transform and mel weights are the oracle")
    sound = np.append(0, samples).astype(np.float64) / 32768
    spectra = tensorflow.signal.stft(
        tensorflow.constant(sound[1:] - asked.preemphasis * sound[:-1]),
        frame_length=asked.window_samples,
        frame_step=asked.step_samples,
        window_fn=functools.partial(tensorflow.signal.hamming_window, periodic=False),
    )
    power = np.abs(spectra.numpy()) ** 2 / asked.window_samples
    mel = tensorflow.signal.linear_to_mel_weight_matrix(
        asked.channels, power.shape[1], asked.sample_rate_hz, asked.lowest_hz, asked.highest_hz, tensorflow.float64
    ).numpy()
    decibels = 10 * np.log10(np.maximum(power @ mel, 1e-30))
    shares = (decibels - asked.least_decibels) / (asked.most_decibels - asked.least_decibels)
    return np.clip(shares, 0, 1)


@pytest.mark.parametrize("name", LOG_MEL)
def test_features_are_those_of_tensorflow(name: str) -> None:
    """In decibels; the farthest are what lies 60 below a tone at full scale."""
    asked = LOG_MEL[name]
    far = []
    for sound in SOUNDS.values():
        ours, theirs = features(sound, asked) / LARGEST, by_tensorflow(sound, asked)
        assert ours.shape == theirs.shape
        far.append(np.abs(ours - theirs).ravel() * (asked.most_decibels - asked.least_decibels))
    apart = np.concatenate(far)
    assert np.mean(apart) < 0.01
    assert np.max(apart) < 0.25


def test_most_of_the_streaming_wake_words_inputs_are_the_same() -> None:
    for name, sound in sounds(3.0, seed=8).items():
        ours = features(sound, LogMelParameters()) / LARGEST
        theirs = by_tensorflow(sound, LogMelParameters())
        apart = np.abs(np.trunc(ours * 255 - 128) - np.trunc(theirs * 255 - 128))
        assert apart.max() <= 1, name
        assert np.mean(apart) < 0.05, name


def test_without_their_parts_they_would_be_others() -> None:
    """What the comparison sees: emphasis, another window's end, and the range."""
    sound = SOUNDS["like speech"]
    ours = features(sound, LogMelParameters()) / LARGEST
    for wrong in (
        LogMelParameters(preemphasis=0.9),
        LogMelParameters(lowest_hz=20.0),
        LogMelParameters(most_decibels=13.0),
    ):
        assert np.abs(ours - by_tensorflow(sound, wrong)).max() * 255 > 0.5


@pytest.mark.parametrize("name", LOG_MEL)
def test_pieces_of_any_size_make_the_same_features(name: str) -> None:
    rng = np.random.default_rng(len(name))
    sound = SOUNDS["like speech"]
    cuts = np.sort(np.append(rng.integers(0, len(sound), 40), [0, 0, 1, len(sound)]))
    front_end = LogMelFrontEnd(make_log_mel(LOG_MEL[name]))
    for _ in range(2):
        pieces = [front_end.feed(sound[begin:end]) for begin, end in zip(cuts[:-1], cuts[1:])]
        np.testing.assert_array_equal(np.concatenate(pieces), features(sound, LOG_MEL[name]))
        front_end.reset()


WRONG: Dict[str, Dict[str, Any]] = {
    "preemphasis must be from 0 to 1": {"preemphasis": 1.01},
    "preemphasis must be a finite number": {"preemphasis": math.nan},
    "least_decibels must be from -66": {"least_decibels": -67.0},
    "most_decibels 7 must be at least 6 above least_decibels, 2": {"most_decibels": 7.0, "least_decibels": 2.0},
    "toward_zero must be true or false": {"toward_zero": 1},
    "window_ms 65 at 16000 Hz is 1040 samples": {"window_ms": 65},
    "highest_hz 8001 is above half": {"highest_hz": 8001},
    "no bin of the spectrum": {"lowest_hz": 1001.0, "highest_hz": 1002.0},
    "there is no parameter 'gain_bits'; there are sample_rate_hz": {"gain_bits": 21},
    "front_end is one of microfrontend, log-mel, not 'mfcc'": {"front_end": "mfcc"},
    "front_end is one of microfrontend, log-mel, not ['log-mel']": {"front_end": ["log-mel"]},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_computed_is_refused_by_name(message: str) -> None:
    with pytest.raises(AudioError) as error:
        read_hearing({"front_end": "log-mel", **WRONG[message]})
    assert message in str(error.value)


def test_whatever_parameters_pass_make_tables_that_fit() -> None:
    rng = np.random.default_rng(11)
    passed = 0
    for _ in range(400):
        declared = {
            "front_end": "log-mel",
            "sample_rate_hz": int(rng.choice([8000, 16_000, 44_100, 48_000])),
            "window_ms": int(rng.integers(1, 70)),
            "step_ms": int(rng.integers(1, 40)),
            "channels": int(rng.integers(1, 66)),
            "lowest_hz": float(rng.choice([0.0, 300.0])),
            "highest_hz": float(rng.uniform(400, 24_000)),
            "preemphasis": float(rng.random()),
            "least_decibels": float(rng.uniform(-70, 90)),
            "most_decibels": float(rng.uniform(-60, 110)),
        }
        try:
            hearing = read_hearing(declared)
        except AudioError:
            continue
        asked = read_parameters(declared)
        assert read_hearing(said_of(declared)) == hearing
        assert len(hearing.tables) % 4 == 0
        assert features(SOUNDS["white noise"], asked).shape[1] == asked.channels
        passed += 1
    assert passed > 10


def test_which_front_end_it_is_lies_in_what_is_said_of_it() -> None:
    """Bundles of earlier versions name none: they are of microfrontend, and stay as they were."""
    assert "front_end" not in as_declared(MICRO_WAKE_WORD)
    said = said_of({"front_end": "log-mel"})
    assert said["front_end"] == "log-mel"
    assert said["unit"] == float(np.float32(1 / 65_535))
    assert read_hearing(said) == read_hearing({"front_end": "log-mel"}) != read_hearing({})
