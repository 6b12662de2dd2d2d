"""The audio front end in numpy: bit for bit TensorFlow's own, in pieces as in one, and parameters it cannot work with by name."""

import ctypes
import ctypes.util
import math
import struct
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from sounds import PARAMETERS, RATE_HZ, by_micro_features, by_tensorflow, in_float64, random_tables, sounds

from model_export.audio import mel
from model_export.audio.front_end import AudioFrontEnd
from model_export.audio.kinds import features, packed_tables, read_parameters
from model_export.audio.parameters import MICRO_WAKE_WORD
from model_export.audio.tables import make_tables, pack_tables
from model_export.audio.wav_file import features_of_wav
from model_export.errors import AudioError

pytestmark = pytest.mark.slow


def machines_logarithm(x: np.ndarray) -> np.ndarray:
    """log1pf of this machine's C library, of which pymicro-features makes its tables."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    library.log1pf.restype, library.log1pf.argtypes = ctypes.c_float, [ctypes.c_float]
    flat = np.asarray(x, np.float32).ravel()
    return np.array([library.log1pf(float(value)) for value in flat], np.float32).reshape(np.shape(x))


@pytest.fixture
def machines_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library is not fdlibm's (glibc from 2.41 on), pymicro-features has other weights than boards, and than we."""
    hertz = np.float32(15.625) * np.arange(513, dtype=np.float32) / np.float32(700)
    if not np.array_equal(machines_logarithm(hertz), mel.log_of_one_plus(hertz)):
        monkeypatch.setattr(mel, "log_of_one_plus", machines_logarithm)


SOUNDS = sounds(2.5)


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.usefixtures("machines_tables")
def test_every_feature_is_that_of_micro_wake_word(name: str) -> None:
    found = features(SOUNDS[name])
    assert found.shape == (248, 40)
    np.testing.assert_array_equal(found, by_micro_features(SOUNDS[name]))


@pytest.mark.usefixtures("machines_tables")
def test_one_sound_after_another_leaves_its_noise() -> None:
    all_sounds = np.concatenate([*SOUNDS.values(), *sounds(1.0, seed=7).values()])
    found = features(all_sounds)
    assert len(found) > 4500
    assert len(np.unique(found)) > 300
    np.testing.assert_array_equal(found, by_micro_features(all_sounds))


@pytest.mark.parametrize("name", [*PARAMETERS, "micro-wake-word"])
def test_with_other_parameters_every_feature_is_that_of_tensorflow(name: str) -> None:
    asked = PARAMETERS.get(name, MICRO_WAKE_WORD)
    samples = np.concatenate(list(sounds(0.6, seed=3).values()))
    found = AudioFrontEnd(in_float64(asked)).feed(samples)
    np.testing.assert_array_equal(found, by_tensorflow(samples, asked))


@pytest.mark.parametrize("name", PARAMETERS)
def test_tables_in_float32_differ_from_float64_by_one_step_in_few_places(name: str) -> None:
    ours, theirs = make_tables(PARAMETERS[name]), in_float64(PARAMETERS[name])
    for mine, other in ((ours.window, theirs.window), (ours.rising, theirs.rising), (ours.falling, theirs.falling)):
        apart = np.abs(mine.astype(int) - other)
        assert apart.max() <= 1
        assert apart.sum() <= 0.06 * len(mine)


def test_the_logarithm_of_the_mel_scale_is_within_one_place_of_the_nearest() -> None:
    rng = np.random.default_rng(5)
    steps = np.arange(-300, 300, dtype=np.int32)
    powers = [np.float32(2.0**k - 1).view(np.int32) + steps for k in range(1, 7)]
    x = np.concatenate([rng.uniform(0, 70, 20_000), 10 ** rng.uniform(-9, 2, 20_000), [0]]).astype(np.float32)
    x = np.append(x, np.concatenate([bits.astype(np.int32).view(np.float32) for bits in powers]))
    found = mel.log_of_one_plus(x)
    exact = np.log1p(x.astype(np.float64))
    assert (np.abs(found - exact) <= np.spacing(np.maximum(np.abs(found), np.float32(1e-45)))).all()
    if np.array_equal(machines_logarithm(x[:1000]), found[:1000]):  # fdlibm's
        np.testing.assert_array_equal(machines_logarithm(x), found)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_any_size_make_the_same_features(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = sounds(1.0, seed)["like speech"]
    asked = list(PARAMETERS.values())[seed]
    cuts = np.sort(np.append(rng.integers(0, len(samples), 60), [0, 0, 1, len(samples)]))
    front_end = AudioFrontEnd(make_tables(asked))
    pieces = [front_end.feed(samples[begin:end]) for begin, end in zip(cuts[:-1], cuts[1:])]
    np.testing.assert_array_equal(np.concatenate(pieces), features(samples, asked))


def test_a_reset_forgets_all() -> None:
    samples = SOUNDS["like speech"]
    front_end = AudioFrontEnd(make_tables(MICRO_WAKE_WORD))
    first = front_end.feed(samples[:-33])
    assert not np.array_equal(front_end.feed(samples[:-33])[:50], first[:50]), "noise and samples went on"
    front_end.reset()
    np.testing.assert_array_equal(front_end.feed(samples[:-33]), first)


def test_no_samples_make_no_features() -> None:
    assert features(np.zeros(0, np.int16)).shape == (0, 40)
    assert features(np.zeros(479, np.int16)).shape == (0, 40)
    assert features(np.zeros(480, np.int16)).shape == (1, 40)
    for samples in (np.zeros(480), np.zeros((2, 480), np.int16)):
        with pytest.raises(TypeError, match="int16 in a row"):
            features(samples)


WRONG: Dict[str, Dict[str, Any]] = {
    "sample_rate_hz must be from 8000 to 48000": {"sample_rate_hz": 96_000},
    "sample_rate_hz must be a whole number": {"sample_rate_hz": 16_000.0},
    "window_ms must be a whole number below 1e9, not True": {"window_ms": True},
    "channels must be a whole number below 1e9, not '40'": {"channels": "40"},
    "window_ms 65 at 16000 Hz is 1040 samples": {"window_ms": 65},
    "window_ms 1 at 16000 Hz is 16 samples": {"window_ms": 1, "step_ms": 1},
    "window_ms must be from 1 to 1000": {"window_ms": 0},
    "step_ms must be from 1": {"step_ms": 0},
    "step_ms 31 is longer than window_ms 30": {"step_ms": 31},
    "channels must be from 1 to 64": {"channels": 65},
    "channels must be from 1": {"channels": 0},
    "lowest_hz 7500.0 must be from 0 on and below": {"lowest_hz": 7500.0},
    "lowest_hz -1": {"lowest_hz": -1.0},
    "highest_hz 8001 is above half": {"highest_hz": 8001},
    "highest_hz 8000 reaches beyond the last bin": {"highest_hz": 8000},
    "no bin of the spectrum": {"lowest_hz": 1001.0, "highest_hz": 1002.0},
    "even_smoothing must be from 0 to 1": {"even_smoothing": 1.5},
    "odd_smoothing must be a finite number": {"odd_smoothing": math.nan},
    "least_signal must be from 0": {"least_signal": -0.1},
    "lowest_hz must be a finite number": {"lowest_hz": math.inf},
    "smoothing_bits must be from 0 to 10": {"smoothing_bits": 11},
    "smoothing_bits 2 must be at least 3": {"smoothing_bits": 2},
    "log_shift must be from 0 to 11": {"log_shift": 12},
    "gain_bits must be from 15 to 31": {"gain_bits": 14},
    "gain_strength must be from 0 to 4": {"gain_strength": 5.0},
    "gain_offset must be from 0.001": {"gain_offset": 0.0},
    "lets the gain fall faster than a board can follow": {"gain_offset": 0.01, "gain_bits": 15, "gain_strength": 4.0},
    "gain_control must be true or false": {"gain_control": 1},
    "there is no parameter 'hop'": {"hop": 3},
}


@pytest.mark.parametrize("message", WRONG)
def test_parameters_it_cannot_work_with_are_refused_by_name(message: str) -> None:
    with pytest.raises(AudioError) as refused:
        packed_tables(read_parameters(WRONG[message]))
    assert message in str(refused.value)


def test_parameters_are_read_as_they_were_said() -> None:
    asked = PARAMETERS["other noise"]
    assert read_parameters(asked.as_dict()) == asked
    assert read_parameters({}) == MICRO_WAKE_WORD


@pytest.mark.parametrize("seed", range(3))
def test_random_parameters_make_tables_or_are_refused(seed: int) -> None:
    """And what makes tables makes features. tests/firmware/test_audio_on_boards.py runs such ones where an overflow is seen."""
    loud = sounds(0.2)["square wave"]
    made = list(random_tables(100, seed))
    assert len(made) > 8
    for tables in made:
        assert len(pack_tables(tables)) % 4 == 0
        assert int(tables.widths.sum()) == len(tables.rising) == len(tables.falling)
        assert min(tables.rising.min(), tables.falling.min(), tables.window.min()) >= 0
        assert max(tables.rising.max(), tables.falling.max(), tables.window.max()) <= 4096
        assert AudioFrontEnd(tables).feed(loud).shape[1] == tables.parameters.channels


def test_a_board_is_given_what_the_numbers_say() -> None:
    packed = pack_tables(make_tables(MICRO_WAKE_WORD))
    assert struct.unpack_from("<16I", packed) == (
        *(0x55415745, 1, 16_000, 480, 160, 40, 5, 236, 10),
        *(409, 983, 819, 1, 6, 1, 6),
    )
    assert len(packed) == 4100


def save(path: Path, samples: np.ndarray, rate: int = RATE_HZ, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setparams((channels, width, rate, 0, "NONE", ""))
        sound.writeframes(samples.tobytes())
    return path


def test_a_file_of_sound_becomes_features(tmp_path: Path) -> None:
    samples = SOUNDS["like speech"]
    np.testing.assert_array_equal(features_of_wav(save(tmp_path / "a.wav", samples)), features(samples))
    slow = replace(MICRO_WAKE_WORD, sample_rate_hz=8000, highest_hz=3500.0)
    np.testing.assert_array_equal(
        features_of_wav(save(tmp_path / "b.wav", samples, 8000), slow), features(samples, slow)
    )


def test_other_files_are_refused_by_what_is_wrong(tmp_path: Path) -> None:
    samples = SOUNDS["sine"]
    cut = save(tmp_path / "cut.wav", samples)
    cut.write_bytes(cut.read_bytes()[:-301])
    text = tmp_path / "text.wav"
    text.write_text("RIFF and no more")
    wrong = {
        "44100 Hz, expected 16000; resample it": save(tmp_path / "rate.wav", samples, rate=44_100),
        "2 channels, expected 1; mix it to one": save(tmp_path / "stereo.wav", samples, channels=2),
        "8 bits a value, expected 16": save(tmp_path / "bytes.wav", samples, width=1),
        "No such file": tmp_path / "none.wav",
        "not read as a WAV file": text,
        "is it cut off?": cut,
    }
    for message, path in wrong.items():
        with pytest.raises(AudioError, match=f"^{path}: .*{message}".replace("?", r"\?")):
            features_of_wav(path)
