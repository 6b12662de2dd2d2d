"""Raw samples of a virtual board in files a node reads: every sample where it was, no window across a gap, none by default."""

import json
import os
import signal
import time
import wave
from pathlib import Path
from typing import Iterator, List

import numpy as np
import pytest
from graph_samples import Builder
from recordings import AGREED, PLAYED, SCHEMA, check_segments, check_windows, command, purpose, source

from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.boards import recording as recording_module
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.keys import key_sector
from orchestrator.boards.partitions import FLASH_BYTES, KEYS
from orchestrator.boards.protocol import Record
from orchestrator.boards.recording import Recording, Source, record
from orchestrator.boards.recording_files import NOTE, note_of, write
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli.main import main
from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.errors import DataError
from orchestrator.node.graph_file import tflite_file
from orchestrator.node.scores import with_scores
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[str]:
    """Of a board that may record."""
    with VirtualBoard(samples=folder / "played.i16", recording=True) as board:
        yield board.port


@pytest.fixture
def client(port: str) -> Iterator[BoardClient]:
    with BoardClient(port, timeout_s=4.0) as client:
        yield client


# --- off by default ---------------------------------------------------------------------------------------------------


def test_a_board_records_nothing_unless_it_was_flashed_to(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: List[Record] = []
    with VirtualBoard(samples=folder / "played.i16") as board:
        assert command(board.port, folder, "--samples", "100", "--out", str(tmp_path / "a.npz")) == 1
        assert "--allow-recording" in capsys.readouterr().err
        with BoardClient(board.port, on_record=seen.append) as client:
            for tried in (
                "record on",
                "record allow",
                "record allow file",
                "key record",
                "record file 1000 2 100 allow",
            ):
                with pytest.raises(BoardError, match="bad_argument"):
                    client.ask(tried, "ok", attempts=1)
            client.set_key(_public_key())
            client.lock_keys()
            with pytest.raises(BoardError, match="recording_not_allowed"):
                client.ask("record file 1000 2 100", "ok")
            info = client.info()
    assert (info["recording_allowed"], info["recording"]) == (False, False)
    assert not [each for each in seen if each.kind == "samples"]
    assert not list(tmp_path.iterdir())


def _public_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from model_export.signing import raw_public

    return raw_public(Ed25519PrivateKey.generate().public_key())


def test_what_flashing_allowed_a_command_takes_back_also_of_a_locked_board(folder: Path, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    image = bytearray(b"\xff" * FLASH_BYTES)
    sector = key_sector([_public_key()], locked=True, recording=True)
    image[KEYS.offset : KEYS.offset + len(sector)] = sector
    flash.write_bytes(image)
    with VirtualBoard(samples=folder / "played.i16", flash=flash) as board, BoardClient(board.port) as client:
        assert (client.info()["recording_allowed"], client.keys()["locked"]) == (True, True)
        client.ask("record file 1000 2 100000", "ok")
        assert client.info()["recording"]
        assert client.metrics()["recording"]
        client.ask("record forbid", "ok")
        assert (client.info()["recording_allowed"], client.info()["recording"]) == (False, False)
        assert not client.reboot()["recording_allowed"]
        with pytest.raises(BoardError, match="recording_not_allowed"):
            client.ask("record file 1000 2 100", "ok")


def test_a_damaged_entry_may_have_forbidden_it(folder: Path, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    image = bytearray(b"\xff" * FLASH_BYTES)
    sector = bytearray(key_sector([], recording=True))
    sector[64:128] = b"\x7f" * 64
    image[KEYS.offset : KEYS.offset + len(sector)] = sector
    flash.write_bytes(image)
    with VirtualBoard(samples=folder / "played.i16", flash=flash) as board, BoardClient(board.port) as client:
        assert not client.info()["recording_allowed"]


# --- what a node reads ------------------------------------------------------------------------------------------------


def test_an_npz_is_what_was_played_and_a_node_scores_it(
    port: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "walk.npz"
    assert command(port, folder, "--seconds", "1.03", "--json", "--out", str(out)) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["files"], said["windows"], said["samples"], said["simulated"]) == ([str(out)], 20, 1030, True)
    assert (said["lost_on_the_line"], said["missed_by_the_board"], said["problem"]) == (0, 0, "")
    data = load_dataset(out, SCHEMA)
    assert np.array_equal(data.x, PLAYED[:1000].reshape(20, 50, 2).astype(np.float32) / np.float32(200))
    assert data.y.tolist() == [1] * 20
    assert len(data.units("patient")) == 1
    with np.load(out) as file:
        note = json.loads(str(file[NOTE]))
        assert file["x"].dtype == np.int16
    assert (note["consent"], note["rate_hz"], note["patient"], note["board"]["simulated"]) == (AGREED, 1000, "p7", True)
    assert main(["data", "validate", str(out), str(folder / "edgeward.toml")]) == 0
    scored = _scored(data)
    assert np.array_equal(scored.x[:, -1] > 0.5, data.x[:, 0, 0] > 0)


def _scored(data: Dataset) -> Dataset:
    """What a node computes of the data: 1 of signals whose first number is above 0."""
    build = Builder()
    x = build.tensor((1, 50, 2))
    flat = build.add("RESHAPE", [x, build.constant([1, 100], "int32")])
    weights = np.zeros((2, 100), np.float32)
    weights[:, 0] = -1e4, 1e4
    found = build.add("FULLY_CONNECTED", [flat, build.constant(weights), build.constant([0.0, 0.0])])
    model = tflite_file(build.function([x], [build.add("LOGISTIC", [found])]))
    said = {"file": "m.tflite", "sha256": "0" * 64, "size": len(model), "output": 1}
    analysis = {"kind": "performance", "outcome": "y", "bins": 2, "model": said}
    task = Task("t", SCHEMA, {}, Training(rounds=1), Privacy("none"), Rounds(3, 3), analysis=analysis)
    return with_scores(analysis_of(spelled_out(task)), model, data)


def test_wav_files_are_read_through_the_description_beside_them(port: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "walk.wav"
    assert command(port, folder, "--samples", "520", "--out", str(out), "--counts-per-unit", "50") == 0
    data = load_dataset(tmp_path / "walk.toml", SCHEMA)
    expected = PLAYED[:500].reshape(10, 50, 2).astype(np.float32) / np.float32(50)
    np.testing.assert_allclose(data.x, expected, rtol=1e-6)
    assert data.y.tolist() == [1] * 10
    with wave.open(str(out)) as sound:
        assert sound.getparams()[:4] == (2, 2, 1000, 520)
    assert AGREED.encode() in out.read_bytes()
    description = (tmp_path / "walk.toml").read_text()
    (tmp_path / "walk.toml").write_text(description.replace("rate = 1000", "rate = 500"))
    with pytest.raises(DataError, match="1000 Hz, expected 500"):
        load_dataset(tmp_path / "walk.toml", SCHEMA)


@pytest.mark.parametrize("ending", [".npz", ".wav"])
def test_files_are_for_their_owner_and_overwritten_by_force_alone(
    port: str, folder: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"a{ending}"
    there = tmp_path / ("a.toml" if ending == ".wav" else "a.npz")
    there.write_text("precious")
    there.chmod(0o644)
    given = ("--samples", "50", "--out", str(out))
    assert command(port, folder, *given) == 2
    assert "--force" in capsys.readouterr().err
    assert there.read_text() == "precious"
    assert command(port, folder, *given, "--force") == 0
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert load_dataset(there, SCHEMA).records == 1


def test_a_file_that_came_meanwhile_is_kept_and_so_is_the_recording(client: BoardClient, tmp_path: Path) -> None:
    recording = recorded(client, source(100))
    (tmp_path / "a.npz").write_text("precious")
    written = write(recording, purpose(), {}, tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "precious"
    assert written.files == [tmp_path / "a.2.npz"]
    check_windows(load_dataset(written.files[0], SCHEMA), recording)


def recorded(client: BoardClient, source: Source) -> Recording:
    recording = Recording(source)
    record(client, source, recording)
    return recording


# --- gaps and ends ----------------------------------------------------------------------------------------------------


def test_a_damaged_line_is_a_gap_that_no_window_spans(
    client: BoardClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intact, bad = client.device.read, 0

    def noisy(size: int) -> bytes:
        nonlocal bad
        data = bytes(intact(size))
        if b'"first_sample":4' in data and bad < 2:
            bad += 1
            data = data.replace(b'"first_sample":4', b'"first_sample":6', 1)
        return data

    monkeypatch.setattr(client.device, "read", noisy)
    recording = recorded(client, source(1200))
    monkeypatch.undo()
    assert bad, "no line was damaged"
    assert recording.problem == ""
    assert recording.lost_on_the_line >= 48
    assert recording.missed_by_the_board == 0
    assert len(recording.segments) >= 2
    check_segments(recording)
    note = note_of(recording, purpose(), client.info(), "2026-03-01T08:00:00+00:00")
    for name in ("a.npz", "a.wav"):
        written = write(recording, purpose(), note, tmp_path / name)
        check_windows(load_dataset(written.files[0], SCHEMA), recording)
    assert note["lost_on_the_line"] == recording.lost_on_the_line
    assert len(written.files) == 1 + len([each for each in recording.segments if each.length >= SCHEMA.samples])


def test_samples_the_board_had_no_room_for_are_a_gap(folder: Path) -> None:
    """The board stands still for longer than its buffer lasts: 1024 samples of two channels."""
    with VirtualBoard(samples=folder / "played.i16", recording=True) as board, BoardClient(board.port) as client:
        recording = Recording(source(6000, 4000))
        stopped = False

        def stop(done: int, total: int) -> None:
            nonlocal stopped
            if done > 1000 and not stopped:
                stopped = True
                assert board.pid is not None
                os.kill(board.pid, signal.SIGSTOP)
                time.sleep(0.5)
                os.kill(board.pid, signal.SIGCONT)

        record(client, recording.source, recording, stop)
    assert (recording.problem, recording.next) == ("", 6000)
    assert recording.missed_by_the_board > 500
    assert recording.lost_on_the_line == 0
    check_segments(recording)


def test_a_port_that_goes_away_loses_nothing_that_came(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.npz"
    with VirtualBoard(samples=folder / "played.i16", recording=True) as board:
        take_in = recording_module.Recording.take

        def until_it_goes(self: Recording, each: Record) -> None:
            take_in(self, each)
            if self.kept >= 200:
                board.kill()

        monkeypatch.setattr(recording_module.Recording, "take", until_it_goes)
        assert command(board.port, folder, "--seconds", "30", "--json", "--out", str(out)) == 1
    said = json.loads(capsys.readouterr().out)
    assert "went away" in said["problem"]
    assert said["samples"] >= 200
    assert load_dataset(out, SCHEMA).records == said["samples"] // 50 == said["windows"]


def test_a_restart_ends_it_and_what_came_is_kept(folder: Path) -> None:
    with VirtualBoard(samples=folder / "played.i16", recording=True) as board, BoardClient(board.port) as client:
        recording, asked = Recording(source(50_000)), False

        def restart(done: int, total: int) -> None:
            nonlocal asked
            if not asked:
                client.write(b"\nreboot\n")
            asked = True

        record(client, recording.source, recording, restart)
        assert "restarted" in recording.problem
        check_segments(recording)
        assert not client.info()["recording"]


def test_an_interrupt_keeps_what_came_and_stops_the_board(client: BoardClient) -> None:
    recording = Recording(source(50_000))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(client, recording.source, recording, interrupt)
    assert (recording.ended, recording.problem) == ("stopped", "")
    check_segments(recording)
    assert not client.info()["recording"]


def test_a_source_that_ends_and_one_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "short.i16").write_bytes(PLAYED[:300].astype("<i2").tobytes())
    with VirtualBoard(samples=tmp_path / "short.i16", recording=True) as board, BoardClient(
        board.port, timeout_s=1.0
    ) as client:
        recording = recorded(client, source(2000))
        assert "has its source ended" in recording.problem
        assert recording.kept == 300
        check_segments(recording)
        with pytest.raises(BoardError, match="no_source"):
            recorded(client, Source("imu", 100, 3, 50))
