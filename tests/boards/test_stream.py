"""MIT-BIH beats streamed through the virtual board: the detections are those of the same windows classified on the host."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Tuple

import numpy as np
import pytest
from board_sample import Sample

from model_export.bundle import verify_bundle
from model_export.model_bin import parse_model_bin
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.host_engine import run_direct
from orchestrator.boards.protocol import Record
from orchestrator.boards.virtual import VirtualBoard

ROOT = Path(__file__).resolve().parents[2]


class Ecg(NamedTuple):
    model_bin: bytes
    beats: np.ndarray
    """int16 (n, 128): patients the model was not trained on, 200 units a mV."""
    training: np.ndarray
    """The same of those it was trained on, shuffled."""
    scale: float
    zero_point: int

    def choices(self, windows: np.ndarray) -> np.ndarray:
        """(n, 2): class and probability in 1/256 of int16 windows (n, 128), classified on the host."""
        x = windows.astype(np.float32) / np.float32(200)
        q = np.rint(x / np.float32(self.scale)) + self.zero_point
        outputs = run_direct(parse_model_bin(self.model_bin).tflite, np.clip(q, -128, 127).astype(np.int8)).astype(int)
        return np.stack([outputs.argmax(1), outputs.max(1) + 128], axis=1)


@pytest.fixture(scope="module")
def ecg(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Ecg:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow trains the ECG model, and is not installed")
    beats_path = shared_data("mitbih-beats/beats.npz")
    folder = tmp_path_factory.mktemp("ecg") / "bundle"
    script = Path(__file__).with_name("ecg_model.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(script), str(beats_path), str(folder)], check=True, env=environment)
    entry = verify_bundle(folder)["input"]
    with np.load(beats_path) as file:
        beats = file["x"][np.isin(file["record"], (210, 233))][::3]
        training = file["x"][np.isin(file["record"], (106, 119, 200, 208, 223)) & (file["y"] < 3)]
    training = np.random.default_rng(4).permutation(training)
    return Ecg((folder / "model.bin").read_bytes(), beats, training, entry["scale"], entry["zero_point"])


def debounced(choices: np.ndarray, agree: int, least_of_256: int) -> List[Tuple[int, int, float]]:
    """(window, class, confidence) of each detection: written from docs/serial.md, not from the firmware."""
    found, reported, run, before = [], None, 0, None
    for window, (label, of_256) in enumerate(choices, 1):
        said = label if of_256 >= least_of_256 else None
        run = run + 1 if said == before else 1
        before = said
        if said is not None and run >= agree and said != reported:
            reported = said
            found.append((window, int(said), round(float(of_256) / 256, 4)))
    return found


def detections(records: List[Record]) -> List[Tuple[Any, Any, Any]]:
    fields = [record.fields for record in records if record.kind == "detect"]
    return [(f["window"], f["label"], pytest.approx(f["confidence"], abs=1e-4)) for f in fields]


@pytest.mark.slow
def test_beat_by_beat(ecg: Ecg) -> None:
    with VirtualBoard(ecg.model_bin) as board, BoardClient(board.port) as client:
        assert client.stream() == {
            "command": "stream", "window_samples": 128, "channels": 1, "hop_samples": 128,
        }  # fmt: skip
        records = client.feed(ecg.beats.reshape(-1))
        metrics = client.metrics()
    choices = ecg.choices(ecg.beats)
    want = debounced(choices, 1, 0)
    assert len(want) > 20, "the model hardly changes its mind: this would prove little"
    assert detections(records) == want
    assert metrics["inferences"] == len(ecg.beats)
    assert metrics["classes"] == np.bincount(choices[:, 0], minlength=3).tolist()
    assert [record.fields["sample"] for record in records if record.kind == "detect"] == [128 * n for n, _, _ in want]


def test_overlapping_windows_debounced_in_pieces_of_any_size(ecg: Ecg) -> None:
    signal = ecg.beats.reshape(-1)
    windows = np.lib.stride_tricks.sliding_window_view(signal, 128)[::32]
    want = debounced(ecg.choices(windows), 2, 154)
    assert len(want) > 10
    with VirtualBoard(ecg.model_bin) as board, BoardClient(board.port) as client:
        client.stream(hop=32, agree=2, least_confidence=0.6)
        records, at = [], 0
        for size in np.random.default_rng(0).integers(1, 3000, 200):
            if at < len(signal):
                records += client.feed(signal[at : at + size])
                at += size
    assert detections(records) == want


def test_damage_on_the_line_loses_no_sample(ecg: Ecg, monkeypatch: pytest.MonkeyPatch) -> None:
    beats = ecg.beats[:60]
    with VirtualBoard(ecg.model_bin) as board, BoardClient(board.port, timeout_s=1.0) as client:
        client.stream()
        intact, count = client.write, 0

        def noisy(data: bytes) -> None:
            nonlocal count
            count += 1
            intact(data if count % 5 else data[:40] + bytes([data[40] ^ 0x21]) + data[41:])

        monkeypatch.setattr(client, "write", noisy)
        records = client.feed(beats.reshape(-1))
        monkeypatch.undo()
        metrics = client.metrics()
    assert metrics["bad_frames"] > 0
    assert metrics["inferences"] == len(beats)
    assert detections(records) == debounced(ecg.choices(beats), 1, 0)


def test_a_recording_in_real_time(ecg: Ecg, tmp_path: Path) -> None:
    """Five beats at 125 Hz: each window is complete when its last sample was due, not before."""
    beats = ecg.beats[:5]
    recording = tmp_path / "beats.i16"
    recording.write_bytes(beats.astype("<i2").tobytes())
    seen: List[Record] = []
    with VirtualBoard(ecg.model_bin, samples=recording) as board, BoardClient(
        board.port, on_record=seen.append
    ) as client:
        start = client.ask("stream 1 0 1 0 file 125", "ok")
        with pytest.raises(BoardError, match="the board's own source"):
            client.feed(beats[0])
        deadline = time.monotonic() + 300
        while client.metrics()["inferences"] < 5 and time.monotonic() < deadline:
            time.sleep(0.2)
        client.stream_off()
    records = [record for record in seen if record.kind == "detect"]
    assert detections(records) == debounced(ecg.choices(beats), 1, 0)
    for record in records:
        assert record.t_us - start.t_us >= 1e6 * (record.fields["sample"] - 1) / 125 - 2e4


def test_shifted_data_drifts(ecg: Ecg) -> None:
    with VirtualBoard(ecg.model_bin) as board, BoardClient(board.port) as client:
        client.ask("drift rows 100", "ok")
        client.stream()
        usual = client.feed(ecg.training[:300].reshape(-1))
        others = client.feed(ecg.beats[:300].reshape(-1))
        shifted = client.feed((ecg.training[:300] + 100).astype(np.int16).reshape(-1))
        usual += client.feed(ecg.training[300:400].reshape(-1))
        client.metrics()
    same, new, moved = ([r.fields["psi"] for r in records if r.kind == "drift"] for records in (usual, others, shifted))
    assert (len(same), len(new), len(moved)) == (4, 3, 3)
    assert max(same) < 0.1, "the training data itself"
    assert max(new) > 0.25, "patients the model has not seen"
    assert min(moved) > 0.5, "half a millivolt of offset"


def test_what_cannot_be_streamed_is_refused(ecg: Ecg) -> None:
    with VirtualBoard(ecg.model_bin) as board, BoardClient(board.port) as client:
        with pytest.raises(BoardError, match="no_stream"):
            client.feed(ecg.beats[0])
        with pytest.raises(BoardError, match="int16"):
            client.feed(ecg.beats[0].astype(np.int32))
        for wrong in (
            "stream",
            "stream x 0 1 0",
            "stream 1 0 1",
            "stream 0 0 1 0",
            "stream 1 0 0 0",
            "stream 1 0 1 300",
        ):
            with pytest.raises(BoardError, match=r"bad_argument|unknown_command"):
                client.ask(wrong, "ok")
        with pytest.raises(BoardError, match="no_source"):
            client.stream(source="imu")
        client.stream()
        client.reboot()
        with pytest.raises(BoardError, match="no_stream"):
            client.feed(ecg.beats[0])


def test_a_model_without_input_profile_cannot_be_streamed_to(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client, pytest.raises(
        BoardError, match="no_profile"
    ):
        client.stream()
