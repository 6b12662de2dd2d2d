"""The audio front end as boards have it: the bits of the one in numpy on this machine and on rv32, and damaged tables by name.

tests/model_export/test_audio.py holds the one in numpy to TensorFlow's own.
"""

import math
import struct
import subprocess
from pathlib import Path
from typing import Dict, Iterable, List, Sequence, Tuple

import numpy as np
import pytest
from sounds import LOG_MEL, PARAMETERS, by_micro_features, random_tables, sounds
from state_models import streaming

from model_export.audio.front_end import AudioFrontEnd, nearest_root
from model_export.audio.kinds import features, packed_tables
from model_export.audio.log_mel import LogMelParameters
from model_export.audio.parameters import MICRO_WAKE_WORD, AudioParameters, SoundParameters
from model_export.audio.tables import make_tables, pack_tables
from model_export.bundle import write_bundle
from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import SANITIZE, build, run_direct
from orchestrator.boards.rv32 import missing, run_audio
from orchestrator.boards.virtual import VirtualBoard

RESET = struct.pack("<I", 0xFFFFFFFF)
PACKED = pack_tables(make_tables(MICRO_WAKE_WORD))


def piece(samples: np.ndarray) -> bytes:
    return struct.pack("<I", len(samples)) + samples.astype("<i2").tobytes()


def run(tables: bytes, said: Iterable[bytes], flags: Sequence[str] = ()) -> "subprocess.CompletedProcess[bytes]":
    head = struct.pack("<I", len(tables)) + tables
    return subprocess.run([str(build("audio-stdio", flags))], input=head + b"".join(said), capture_output=True)


def on_host(asked: SoundParameters, said: Iterable[bytes], flags: Sequence[str] = ()) -> np.ndarray:
    done = run(packed_tables(asked), said, flags)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, "<u2").reshape(-1, asked.channels)


@pytest.mark.parametrize("flags", [(), SANITIZE], ids=["as built", "with sanitizers"])
def test_a_board_hears_what_micro_wake_word_does(flags: Tuple[str, ...]) -> None:
    samples = np.concatenate([*sounds(2.5).values(), *sounds(1.0, seed=7).values()])
    found = on_host(MICRO_WAKE_WORD, [piece(samples)], flags)
    assert len(found) > 4500
    np.testing.assert_array_equal(found, features(samples))
    np.testing.assert_array_equal(
        on_host(MICRO_WAKE_WORD, [piece(samples[:80_000])], flags), features(samples[:80_000])
    )


@pytest.mark.parametrize("name", [*PARAMETERS, *LOG_MEL])
def test_with_other_parameters_it_hears_what_numpy_does(name: str) -> None:
    asked = {**PARAMETERS, **LOG_MEL}[name]
    samples = np.concatenate(list(sounds(0.6, seed=3).values()))
    found = on_host(asked, [piece(samples)], SANITIZE)
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, features(samples, asked))


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_any_size_and_resets_between_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = list(PARAMETERS.values())[seed + 5]
    samples = sounds(1.0, seed)["like speech"]
    cuts = np.sort(np.append(rng.integers(0, len(samples), 60), [0, 0, 1, len(samples)]))
    pieces = [piece(samples[begin:end]) for begin, end in zip(cuts[:-1], cuts[1:])]
    found = on_host(asked, [*pieces, RESET, *pieces, RESET, RESET, piece(samples)], SANITIZE)
    once = features(samples, asked)
    np.testing.assert_array_equal(found, np.concatenate([once] * 3))


@pytest.mark.parametrize("seed", range(3))
def test_whatever_parameters_pass_overflows_nowhere(seed: int) -> None:
    """Sounds at full scale, under the sanitizers."""
    loud = [sounds(0.25, seed)[name] for name in ("square wave", "lowest", "white noise", "highest pitch")]
    ran = 0
    for tables in random_tables(120, seed + 20):
        done = run(pack_tables(tables), [piece(np.concatenate(loud))], SANITIZE)
        assert done.returncode == 0, done.stderr.decode()
        expected = AudioFrontEnd(tables).feed(np.concatenate(loud))
        np.testing.assert_array_equal(np.frombuffer(done.stdout, "<u2").reshape(expected.shape), expected)
        ran += 1
    assert ran > 4


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize(("optimize", "most"), [("-O2", 110_000), ("-Os", 150_000)])
def test_a_board_without_floating_point_unit_hears_the_same(optimize: str, most: int) -> None:
    samples = np.concatenate(list(sounds(1.0).values()))
    ran = run_audio(PACKED, samples, 160, optimize)
    assert len(ran.features) == 1398
    np.testing.assert_array_equal(ran.features, features(samples))
    assert ran.instructions.max() < most, "docs/audio.md has a table"
    assert ran.start_instructions < 20_000


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize(("optimize", "most"), [("-O2", 250_000), ("-Os", 400_000)])
def test_it_hears_the_same_logarithms_of_mel_energies(optimize: str, most: int) -> None:
    samples = np.concatenate(list(sounds(0.6).values()))
    ran = run_audio(FINE, samples, 512, optimize)
    np.testing.assert_array_equal(ran.features, features(samples, LogMelParameters()))
    assert len(ran.features) > 250
    assert ran.instructions.max() < most, f"{ran.instructions.max()}: docs/audio.md has a table"


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("name", ["64 ms, the largest window", "4 ms at 8 kHz, the smallest window", "neither"])
def test_and_with_other_parameters(name: str) -> None:
    samples = np.concatenate(list(sounds(0.3, seed=1).values()))
    ran = run_audio(pack_tables(make_tables(PARAMETERS[name])), samples, 77)
    np.testing.assert_array_equal(ran.features, features(samples, PARAMETERS[name]))


def test_roots_are_the_nearest_whole_numbers() -> None:
    rng = np.random.default_rng(4)
    squares = [int(root) ** 2 for root in [0, 1, 2, 65_535, 65_536, 65_537, 94_906_265, *rng.integers(3, 2**26, 3000)]]
    values = [*squares, *(v + d for v in squares[3:] for d in (-1, 1)), *map(int, rng.integers(0, 2**53, 3000))]
    values += [v + d for v in (2**32, 2**52) for d in range(-40, 40)] + [
        int(r) * (int(r) + 1) + d for r in rng.integers(3, 2**26, 500) for d in (0, 1)
    ]
    values += range(2**32 - 70_000, 2**32 - 60_000)
    found = subprocess.run(
        [str(build("audio-stdio", SANITIZE)), "root"], input=np.array(values, "<u8").tobytes(), capture_output=True
    )
    nearest = [math.isqrt(v) + (v - math.isqrt(v) ** 2 > math.isqrt(v)) for v in values]
    expected = [min(root, 0xFFFF) if v < 2**32 else root for root, v in zip(nearest, values)]
    np.testing.assert_array_equal(np.frombuffer(found.stdout, "<u4"), expected)
    np.testing.assert_array_equal(nearest_root(np.array(values, np.uint64)), expected)


def test_a_model_with_state_hears_step_by_step(tmp_path: Path) -> None:
    """A window of one step, as streaming models have it: its state goes on through the stream, and begins again with each."""
    model, said = streaming(), {"channels": 8, "unit": 0.02}
    manifest = write_bundle(tmp_path / "b", tflite=model, name="n", audio=said)
    samples = np.concatenate([sounds(0.5, 2)[name] for name in ("like speech", "sweep", "noise", "clicks")])
    heard = features(samples, AudioParameters(channels=8)).astype(np.float32) * np.float32(said["unit"])
    edge = manifest["input"]
    rows = np.clip(np.rint(heard / np.float32(edge["scale"])) + edge["zero_point"], -128, 127).astype(np.int8)
    labels = run_direct(model, rows).argmax(1)
    changed = np.append(0, np.flatnonzero(np.diff(labels)) + 1)
    assert len(changed) > 4
    model_bin = (tmp_path / "b" / "model.bin").read_bytes()
    with VirtualBoard(model_bin) as board, BoardClient(board.port) as client:
        for _ in range(2):
            assert client.stream()["hop_samples"] == 160
            found = [record.fields for record in client.feed(samples) if record.kind == "detect"]
            assert [(each["window"], each["label"]) for each in found] == [(at + 1, labels[at]) for at in changed]


def with_word(at: int, value: int) -> bytes:
    return PACKED[: 4 * at] + struct.pack("<I", value) + PACKED[4 * at + 4 :]


def with_halfword(offset: int, value: int, packed: bytes = PACKED) -> bytes:
    return packed[:offset] + struct.pack("<h", value) + packed[offset + 2 :]


WINDOW, TURNS = 64, 64 + 2 * 480
WIDTHS = TURNS + 4 * 384
RISING = WIDTHS + 84
FALLING = RISING + 2 * 236

FINE = packed_tables(LogMelParameters())
FINE_TURNS = 48 + 2 * 1024


def fine_word(word: int, value: int) -> bytes:
    return FINE[: 4 * word] + struct.pack("<I", value) + FINE[4 * word + 4 :]


DAMAGED: Dict[str, List[bytes]] = {
    "cut off or not aligned": [b"", PACKED[:60]],
    "no tables of an audio front end": [with_word(0, 0x44415745)],
    "a version this firmware does not know": [with_word(1, 0), with_word(1, 3)],
    "sample_rate_hz is not from 8000 to 48000": [with_word(2, 7999), with_word(2, 48_001)],
    "the window is not from 32 to 1024": [with_word(3, 31), with_word(3, 1025), with_word(3, 0xFFFFFFFF)],
    "the step is not from 1": [with_word(4, 0), with_word(4, 481)],
    "channels are not from 1 to 64": [with_word(5, 0), with_word(5, 65)],
    "filters take no bin, or the constant part": [with_word(6, 0), with_word(7, 0), with_word(7, 0xFFFFFFFF)],
    "smoothing_bits are above 10": [with_word(8, 11)],
    "a smoothing is above 1": [with_word(9, 16_385), with_word(10, 0x80000000)],
    "least_signal is above 1": [with_word(11, 16_385)],
    "gain_control and logarithm are 0 or 1": [with_word(12, 2), with_word(14, 2)],
    "gain_bits give a shift above 31": [with_word(13, 32)],
    "log_shift is above 11": [with_word(15, 12)],
    "longer or shorter than their numbers say": [
        *(PACKED[:-4], PACKED + bytes(4), PACKED[:64], with_word(3, 512), with_word(5, 50), with_word(7, 240)),
        *(with_word(12, 0), with_word(14, 0)),
        *(
            FINE[:-4],
            FINE + bytes(4),
            FINE[:48],
            fine_word(3, 512),
            fine_word(5, 50),
            fine_word(7, 510),
        ),
    ],
    "preemphasis is above 1": [fine_word(8, 1025), fine_word(8, 0xFFFFFFFF)],
    "where features begin": [fine_word(9, (1 << 24) + 1), fine_word(9, 0x80000000)],
    "the range of features": [fine_word(10, 0), fine_word(10, (1 << 28) + 1), fine_word(10, 0xFFFFFFFF)],
    "toward_zero is 0 or 1": [fine_word(11, 2)],
    "a root of unity is longer than 1": [with_halfword(FINE_TURNS + 130, 32_767, FINE)],
    "a coefficient of the window": [with_halfword(WINDOW + 20, 4097), with_halfword(WINDOW, -1)],
    "a root of unity is -32768": [with_halfword(TURNS + 4, -32768), with_halfword(WIDTHS - 2, -32768)],
    "widths of the filters do not add up": [with_halfword(WIDTHS, 30_000), with_halfword(WIDTHS + 80, 0)],
    "filters reach beyond the spectrum": [with_word(6, 21), with_word(6, 1024)],
    "window is not from 0 to 1": [with_halfword(48, 16_385, FINE), with_halfword(50, -1, FINE)],
    "weight is not from 0 to 1": [with_halfword(RISING, -1), with_halfword(FALLING + 470, 4097)],
}


@pytest.mark.parametrize("reason", DAMAGED)
def test_damaged_tables_are_refused_by_name(reason: str) -> None:
    for tables in DAMAGED[reason]:
        done = run(tables, [piece(np.zeros(480, np.int16))], SANITIZE)
        said = done.stderr.decode()
        assert done.returncode == 1, said
        assert said.startswith("bad_audio: ")
        assert reason in said
        assert done.stdout == b""


def test_damage_that_is_not_seen_overflows_nowhere() -> None:
    """Tables of any numbers that pass: as large and as small as they may be, and random ones, with sounds at full scale."""
    loud = piece(np.concatenate([sounds(0.05)[name] for name in ("square wave", "lowest", "white noise")]))
    rng = np.random.default_rng(2)
    counts = {WINDOW: 480, TURNS: 768, RISING: 236, FALLING: 236, len(PACKED) - 260 - 252: 125, len(PACKED) - 260: 129}
    for kind in range(24):
        tables = bytearray(PACKED)
        for number, (offset, count) in enumerate(counts.items()):
            most = (4096, 32767, 4096, 4096, 32767, 32767)[number]
            least = (0, -32767, 0, 0, -32768, -32768)[number]
            drawn = rng.integers(least, most + 1, count) if kind % 3 == 0 else rng.choice([least, most], count)
            if kind % 3 == 2:
                drawn = np.full(count, rng.choice([least, most]))
            struct.pack_into(f"<{count}h", tables, offset, *map(int, drawn))
        for word, most in ((8, 10), (9, 16_384), (10, 16_384), (11, 16_384), (13, 31), (15, 11)):
            struct.pack_into("<I", tables, 4 * word, int(rng.choice([0, most])))
        done = run(bytes(tables), [loud], SANITIZE)
        assert done.returncode == 0, done.stderr.decode()


def test_nor_does_damage_of_logarithms_of_mel_energies() -> None:
    loud = piece(
        np.concatenate([sounds(0.3)[name] for name in ("square wave", "lowest", "white noise", "highest pitch")])
    )
    rng = np.random.default_rng(3)
    weights = FINE_TURNS + 4 * 768 + 84
    corners = [(32_767, 0), (0, 32_767), (-32_767, 0), (0, -32_767), (23_170, 23_170), (-23_170, 23_169)]
    for kind in range(18):
        tables = bytearray(FINE)
        struct.pack_into(
            "<1024h", tables, 48, *map(int, rng.choice([0, 16_384], 1024) if kind % 3 else [16_384] * 1024)
        )
        turns = [corners[number] for number in (rng.integers(0, 6, 768) if kind % 2 else [rng.integers(0, 6)] * 768)]
        struct.pack_into("<1536h", tables, FINE_TURNS, *(part for turn in turns for part in turn))
        struct.pack_into("<1024h", tables, weights, *[16_384] * 511, 0, *[16_384] * 511, 0)
        struct.pack_into("<129H", tables, len(tables) - 260, *map(int, rng.choice([0, 65_535], 129)))
        for word, values in ((8, [0, 1024]), (10, [1, 1 << 28])):
            struct.pack_into("<I", tables, 4 * word, int(rng.choice(values)))
        struct.pack_into("<i", tables, 36, int(rng.choice([-(1 << 24), 1 << 24])))
        done = run(bytes(tables), [loud], SANITIZE)
        assert done.returncode == 0, done.stderr.decode()
        assert len(done.stdout) > 0


def test_numpy_and_boards_agree_with_the_wheel_of_micro_wake_word() -> None:
    """On a machine whose C library has fdlibm's log1pf; elsewhere tests/model_export/test_audio.py does."""
    samples = sounds(1.5, seed=9)["like speech"]
    theirs = by_micro_features(samples)
    found = on_host(MICRO_WAKE_WORD, [piece(samples)])
    assert found.shape == theirs.shape
    assert np.mean(found != theirs) < 1e-3
