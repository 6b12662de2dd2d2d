"""A column's logarithm: the nearest float, and the same bits in Python, in the firmware built for this machine, and on rv32."""

import struct
import subprocess
import zlib
from typing import Sequence

import numpy as np
import pytest

from model_export.input_profile import make_profile, pack_profile
from model_export.tflm import Quantized
from orchestrator.boards.host_engine import SANITIZE, build
from orchestrator.boards.rv32 import build_elf, missing, said_by
from orchestrator.privacy.standardization import standardize
from orchestrator.wire.logarithm import logarithm, logarithm_within

LEAST_NORMAL, LARGEST = 0x00800000, 0x7F7FFFFF


def floats(bits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bits, np.uint32).view(np.float32)


def off_by(found: np.ndarray, x: np.ndarray) -> float:
    """How far the worst is from the logarithm, in spacings of float32; at most 0.5 where each is the nearest float."""
    exact = np.log(x.astype(np.longdouble))
    return float((np.abs(found - exact) / np.maximum(np.spacing(np.abs(found)), np.float32(1e-45))).max())


def on_host(values: np.ndarray, flags: Sequence[str] = ()) -> np.ndarray:
    done = subprocess.run(
        [str(build("stream-stdio", flags)), "log"], input=values.tobytes(), capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, np.float32)


@pytest.mark.parametrize("exponent", [126, 127], ids=["below 1", "from 1 on"])
def test_every_value_of_two_binades_is_the_nearest_float_and_the_boards(exponent: int) -> None:
    """Other binades add a whole multiple of ln 2 before the one rounding."""
    for part in np.array_split(np.arange(1 << 23, dtype=np.uint32), 8):
        x = floats(part | exponent << 23)
        found = logarithm(x)
        assert off_by(found, x) < 0.51
        np.testing.assert_array_equal(on_host(x).view(np.uint32), found.view(np.uint32))


def test_values_of_all_sizes_are_the_nearest_floats_and_the_boards() -> None:
    rng = np.random.default_rng(3)
    bits = np.append(rng.integers(LEAST_NORMAL, LARGEST, 400_000), [LEAST_NORMAL, LARGEST, 0x3F800000])
    x = floats(bits)
    found = logarithm(x)
    assert off_by(found, x) < 0.501
    assert found[-1] == 0
    np.testing.assert_array_equal(on_host(x[-50_000:], SANITIZE).view(np.uint32), found[-50_000:].view(np.uint32))
    assert np.all(np.diff(logarithm(np.sort(x))) >= 0)


@pytest.mark.parametrize("counts_per_unit", [1, 10, 1000])
def test_inputs_of_samples_are_those_a_node_trains_on(counts_per_unit: int) -> None:
    """All int16 counts, through the same profile: clamped, logarithm, standardized, quantized."""
    named = {"transform": "log", "minimum": 0.1, "maximum": 1e6}
    features = [{"name": "crp", "mean": 1.7, "std": 2.9, **named}, {"name": "age", "mean": 48.5, "std": 17.25}]
    edge = Quantized((1, 2), "int8", 0.0213, -3)
    counts = np.repeat(np.arange(-32768, 32768), 2).astype("<i2")
    raw = (counts.astype(np.float32) / np.float32(counts_per_unit)).reshape(-1, 2)
    logged = np.column_stack([logarithm_within(raw[:, 0], 0.1, 1e6), raw[:, 1]])
    mean, std = (np.array([f[key] for f in features], np.float32) for key in ("mean", "std"))
    expected = edge.quantize(standardize(logged, mean, std))
    assert len(np.unique(expected[:, 0])) > 90

    section = pack_profile(make_profile((1, 2), features, None))
    found = []
    for part in np.array_split(counts.reshape(-1, 2), 64):
        head = struct.pack("<fiII", edge.scale, edge.zero_point, counts_per_unit, part.size)
        sent = struct.pack("<I", len(section)) + section + head + part.tobytes()
        found.append(subprocess.run([str(build("stream-stdio"))], input=sent, capture_output=True, check=True).stdout)
    np.testing.assert_array_equal(np.frombuffer(b"".join(found), np.int8), expected.ravel())


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_board_without_floating_point_unit_takes_the_same() -> None:
    sources = [f"core/{name}.cpp" for name in ("crc", "input_profile", "logarithm", "metrics", "stream")]
    words = said_by(build_elf("test/logarithm_rv32.cpp", "-O2", extra=sources)).split()
    said = dict(zip(words[:-1:2], map(int, words[1::2])))
    logs = logarithm(floats(0x0D000000 + 0x1BCD1 * np.arange(4000)))
    raw = (8 * np.arange(4000) - 100).astype(np.int16).astype(np.float32) / np.float32(10)
    standardized = (logarithm_within(raw, 0.1, 1e6) - np.float32(4.25)) / np.float32(2.75)
    inputs = Quantized((1, 1), "int8", 0.021, -3).quantize(standardized.reshape(-1, 1)).ravel()
    assert said["log"] == zlib.crc32(logs.tobytes())
    assert said["inputs"] == zlib.crc32(inputs.tobytes())
    assert said["instructions"] < 5000
