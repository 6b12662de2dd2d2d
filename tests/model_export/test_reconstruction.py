"""Scores of autoencoders, and their threshold in a model.bin."""

import struct
import subprocess

import numpy as np
import pytest

from model_export.errors import ExportError
from model_export.input_profile import InputProfile, make_profile, pack_profile, parse_profile
from model_export.reconstruction import float_scores, int8_scores
from model_export.tflm import Quantized
from orchestrator.boards.host_engine import build


def test_scores_are_sums_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    inputs, outputs = (rng.integers(-128, 128, (20, 3, 5)).astype(np.int8) for _ in range(2))
    given, made = Quantized((1, 3, 5), "int8", 0.0371, -4), Quantized((1, 15), "int8", 0.0519, 11)
    found = int8_scores(inputs, outputs, given, made)
    assert found.dtype == np.float32
    for row, output, score in zip(inputs.reshape(20, -1), outputs.reshape(20, -1), found):
        total = 0.0
        for q, r in zip(row.tolist(), output.tolist()):
            off = float(np.float32((q + 4) * float(np.float32(0.0371)) - (r - 11) * float(np.float32(0.0519))))
            total += off * off
        assert float(score) == float(np.float32(total / 15))


def test_scores_of_floats_are_near_those_of_int8() -> None:
    rng = np.random.default_rng(1)
    edge = Quantized((1, 8), "int8", 0.01, 0)
    x, made = rng.normal(0, 0.3, (50, 8)), rng.normal(0, 0.3, (50, 8))
    exact = float_scores(x, made)
    np.testing.assert_allclose(exact, ((x - made) ** 2).mean(axis=1), rtol=1e-5)
    quantized = int8_scores(edge.quantize(x.astype("f4")), edge.quantize(made.astype("f4")), edge, edge)
    np.testing.assert_allclose(quantized, exact, atol=0.01)


def profile(threshold: float) -> InputProfile:
    plain = make_profile((1, 2), [{"name": n, "mean": 0.5, "std": 2.0} for n in "ab"], np.zeros((9, 1, 2), np.int8))
    return InputProfile(**{**plain.__dict__, "threshold": threshold})


def test_a_threshold_travels_in_the_profile() -> None:
    packed = pack_profile(profile(0.375))
    found = parse_profile(packed)
    assert found.threshold == 0.375
    assert found.mean is not None
    assert found.mean.tolist() == [0.5, 0.5]
    assert struct.unpack_from("<I", packed)[0] == 0x101, "older firmware knows no such version, and refuses it"
    assert parse_profile(pack_profile(make_profile((1, 2), (), None))).threshold is None
    with pytest.raises(ExportError, match="does not hold"):
        parse_profile(packed[:-2])


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1.0])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ExportError, match="threshold"):
        parse_profile(pack_profile(profile(threshold)))


@pytest.mark.parametrize(
    ("threshold", "taken"), [(0.375, True), (0.0, True), (float("nan"), False), (-1.0, False), (float("inf"), False)]
)
def test_a_board_takes_thresholds_that_are_numbers(threshold: float, taken: bool) -> None:
    """The firmware's reader of profiles, with the section as it is in a model.bin; a threshold moves nothing else in it."""
    section, samples = pack_profile(profile(threshold)), np.array([3, -40], "<i2")
    sent = struct.pack("<I", len(section)) + section + struct.pack("<fiII", 0.1, 2, 1, 2) + samples.tobytes()
    done = subprocess.run([str(build("stream-stdio"))], input=sent, capture_output=True, check=False)
    assert done.returncode == (0 if taken else 1)
    if taken:
        expected = Quantized((1, 2), "int8", 0.1, 2).quantize(((samples - 0.5) / 2).astype("f4")[np.newaxis])
        assert np.frombuffer(done.stdout, np.int8).tolist() == expected.ravel().tolist()
