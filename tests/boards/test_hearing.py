"""Sound to a virtual board: its detections are those of features, windows and means computed on this machine."""

import dataclasses
import struct
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from board_sample import Sample
from sounds import sounds
from test_measures import with_profile
from test_stream import debounced, detections

from model_export.audio.hearing import Hearing, read_hearing
from model_export.audio.kinds import features, read_parameters
from model_export.errors import AudioError, ExportError
from model_export.input_profile import InputProfile, make_profile, pack_profile, parse_profile
from model_export.model_bin import parse_model_bin
from model_export.tflite_file import read_tflite
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.host_engine import run_direct
from orchestrator.boards.protocol import Record
from orchestrator.boards.virtual import VirtualBoard

pytestmark = pytest.mark.slow

PARAMETERS: Dict[str, Any] = {"channels": 10, "step_ms": 20}
"""The sample takes 49 x 10 values: 49 steps of ten channels."""
STEPS = 49
SOUND = np.concatenate([sounds(1.5, seed=4)[name] for name in ("like speech", "noise", "sine", "clicks", "sweep")])


def profile_of(**declared: Any) -> InputProfile:
    return dataclasses.replace(make_profile((1, 490), (), None), hearing=read_hearing({**PARAMETERS, **declared}))


def expected(
    model_bin: bytes, hop: int, averaged: int, unit: float, declared: Dict[str, Any] = PARAMETERS
) -> np.ndarray:
    """(windows, 2): label and probability in 1/256 of the mean, written from docs/serial.md."""
    tflite = parse_model_bin(model_bin).tflite
    model = read_tflite(tflite)
    edge = model.tensors[model.inputs[0]]
    heard = features(SOUND, read_parameters(declared)).astype(np.float32) * np.float32(unit)
    steps, zero = heard / np.float32(edge.scales[0]), np.float32(edge.zero_points[0])
    cut_off = declared.get("toward_zero", False)
    rows = np.clip(np.trunc(steps + zero) if cut_off else np.rint(steps) + zero, -128, 127).astype(np.int8)
    windows = np.stack([rows[end - STEPS : end].reshape(-1) for end in range(STEPS, len(rows) + 1, hop)])
    outputs = run_direct(tflite, windows).astype(int) + 128
    sums = np.stack([outputs[end - averaged : end].sum(0) for end in range(averaged, len(outputs) + 1)])
    return np.stack([sums.argmax(1), sums.max(1) // averaged], axis=1)


@pytest.mark.parametrize(("hop", "averaged", "unit"), [(1, 1, 0.0390625), (2, 5, 0.1), (3, 16, 0.2), (0, 1, 0.3)])
def test_detections_are_those_of_features_computed_here(sample: Sample, hop: int, averaged: int, unit: float) -> None:
    model_bin = with_profile(sample.model_bin, profile_of(averaged=averaged, unit=unit))
    choices = expected(model_bin, hop or STEPS, averaged, unit)
    want = [(number + averaged - 1, label, share) for number, label, share in debounced(choices, 1, 0)]
    assert len(want) > 1, "the model says always the same: this proves little"
    with VirtualBoard(model_bin) as board, BoardClient(board.port) as client:
        assert client.stream(hop=hop) == {
            "command": "stream", "window_samples": 48 * 320 + 480, "channels": 1, "hop_samples": 320 * (hop or STEPS),
        }  # fmt: skip
        found: List[Record] = []
        cuts = np.unique(np.append(np.random.default_rng(hop).integers(1, len(SOUND), 30), [0, 1, len(SOUND)]))
        for begin, end in zip(cuts[:-1], cuts[1:]):
            found += client.feed(SOUND[begin:end])
    assert detections(found) == want
    for record in (each for each in found if each.kind == "detect"):
        steps = STEPS + (int(record.fields["window"]) - 1) * (hop or STEPS)
        assert record.fields["sample"] == (steps - 1) * 320 + 480


@pytest.mark.parametrize("toward_zero", [False, True])
def test_logarithms_of_mel_energies_are_heard_too(sample: Sample, toward_zero: bool) -> None:
    declared = {"front_end": "log-mel", "channels": 10, "window_ms": 32, "step_ms": 20, "toward_zero": toward_zero}
    unit = float(np.float32(1 / 400))
    profile = dataclasses.replace(
        make_profile((1, 490), (), None), hearing=read_hearing({**declared, "averaged": 2, "unit": unit})
    )
    model_bin = with_profile(sample.model_bin, profile)
    choices = expected(model_bin, 1, 2, unit, declared)
    other = expected(model_bin, 1, 2, unit, {**declared, "toward_zero": not toward_zero})
    assert not np.array_equal(choices, other), "how inputs are rounded changes no answer: this proves little"
    want = [(number + 1, label, share) for number, label, share in debounced(choices, 1, 0)]
    assert len(want) > 3
    with VirtualBoard(model_bin) as board, BoardClient(board.port) as client:
        client.stream(hop=1)
        assert detections(client.feed(SOUND)) == want


@pytest.mark.parametrize("scale", [0.10196078568696976, 0.10217524319887161, 0.1015625])
def test_a_unit_makes_inputs_as_esphome_does(scale: float) -> None:
    """docs/audio.md: with scale * 256 / 666. The scales are those of models of micro-wake-word."""
    heard = np.arange(1000)
    unit = np.float32(scale * 256 / 666)
    ours = np.rint(heard.astype(np.float32) * unit / np.float32(scale)) - 128
    np.testing.assert_array_equal(ours, (heard * 256 + 333) // 666 - 128)


def test_a_stream_begins_in_silence_each_time(sample: Sample) -> None:
    model_bin = with_profile(sample.model_bin, profile_of(unit=0.2, averaged=3))
    with VirtualBoard(model_bin) as board, BoardClient(board.port) as client:
        found: List[List[Tuple[Any, Any, Any]]] = []
        for _ in range(2):
            client.stream(hop=1)
            found.append(detections(client.feed(SOUND[:40_001])))
            client.infer(sample.rows[:2])
    assert len(found[0]) > 1
    assert found[0] == found[1]


def test_a_recording_is_heard_at_its_rate(sample: Sample, tmp_path: Path) -> None:
    recording = tmp_path / "sound.i16"
    recording.write_bytes(SOUND[:32_000].astype("<i2").tobytes())
    model_bin = with_profile(sample.model_bin, profile_of(unit=0.2))
    seen: List[Record] = []
    windows = (32_000 - 480) // 320 + 1 - (STEPS - 1)
    with VirtualBoard(model_bin, samples=recording) as board, BoardClient(board.port, on_record=seen.append) as client:
        with pytest.raises(BoardError, match="sound of another rate"):
            client.stream(hop=1, source="file", rate_hz=8000)
        with pytest.raises(BoardError, match="counts per unit are 1"):
            client.stream(counts_per_unit=2)
        started = time.monotonic()
        client.stream(hop=1, source="file", rate_hz=16_000)
        while client.metrics()["inferences"] < windows and time.monotonic() < started + 300:
            time.sleep(0.1)
        assert time.monotonic() - started > 1.9
        client.stream_off()
    with VirtualBoard(model_bin) as board, BoardClient(board.port) as client:
        client.stream(hop=1)
        by_frames = client.feed(SOUND[:32_000])
    assert detections(seen) == detections(by_frames)


def test_a_model_that_does_not_hear_takes_samples_as_before(sample: Sample) -> None:
    profile = make_profile((1, 490), (), None)
    with VirtualBoard(with_profile(sample.model_bin, profile)) as board, BoardClient(board.port) as client:
        assert client.stream()["channels"] == 490
        with pytest.raises(BoardError, match="COUNTS_PER_UNIT"):
            client.stream(source="file", rate_hz=16_000)


DAMAGE = {"bad_input_profile": [(0, 17), (0, 0), (4, 0), (8, 1)], "bad_audio": [(12, 0), (32, 65), (76, 5000)]}


@pytest.mark.parametrize(("code", "at", "value"), [(code, *each) for code, found in DAMAGE.items() for each in found])
def test_a_damaged_front_end_is_refused_when_the_model_is_loaded(
    sample: Sample, code: str, at: int, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Hearing.packed

    def packed(self: Hearing) -> bytes:
        whole = bytearray(original(self))
        struct.pack_into("<I", whole, at, value)
        return bytes(whole)

    monkeypatch.setattr(Hearing, "packed", packed)
    with VirtualBoard(with_profile(sample.model_bin, profile_of())) as board, BoardClient(board.port) as client:
        assert client.info()["state"] == code


def test_channels_that_do_not_divide_the_input_are_refused(sample: Sample) -> None:
    with VirtualBoard(with_profile(sample.model_bin, profile_of(channels=40))) as board, BoardClient(
        board.port
    ) as client:
        assert client.info()["state"] == "bad_input_profile"


def test_what_a_model_hears_comes_back_as_it_was_written() -> None:
    profile = profile_of(averaged=7, unit=0.25)
    read = parse_profile(pack_profile(profile))
    assert read.hearing == profile.hearing
    assert parse_profile(pack_profile(make_profile((1, 490), (), None))).hearing is None
    scored = dataclasses.replace(profile, threshold=1.0)
    with pytest.raises(ExportError, match="neither standardized nor cut"):
        parse_profile(pack_profile(scored))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"averaged": 17}, "averaged must be from 1 to 16"),
        ({"averaged": 2.0}, "averaged a whole number"),
        ({"unit": 0}, "unit must be a positive number"),
        ({"unit": "1"}, "unit is a number"),
        ({"unit": 1e300}, "unit must be a positive number"),
        ({"hop": 1}, "no parameter 'hop'"),
    ],
)
def test_what_no_board_can_hear_is_refused_by_name(declared: Dict[str, Any], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        read_hearing(declared)
