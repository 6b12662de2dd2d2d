"""The virtual board over its pseudo-terminal: inference, damage on the line, bad models, reboots, errors."""

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import pytest
from board_sample import Sample

from model_export.model_bin import pack_model_bin
from model_export.plan import compile_plan
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.host_engine import HostBuildError, run_direct
from orchestrator.boards.protocol import FRAME_INFER, encode_frame
from orchestrator.boards.virtual import VirtualBoard


@pytest.fixture(scope="module")
def board(sample: Sample) -> Iterator[VirtualBoard]:
    with VirtualBoard(sample.model_bin) as running:
        yield running


@pytest.fixture
def client(board: VirtualBoard) -> Iterator[BoardClient]:
    with BoardClient(board.port, timeout_s=3.0) as connected:
        yield connected


def test_every_row_is_what_the_engine_gives(client: BoardClient, sample: Sample) -> None:
    client.info()
    before = client.stats.received
    answer = client.infer(sample.rows)
    np.testing.assert_array_equal(answer.outputs, sample.outputs)
    assert answer.outputs.dtype == np.int8
    assert (answer.latency_us > 0).all()
    assert client.stats.received - before == 1 + len(sample.rows)  # whether its model keeps state, and an answer a row
    assert (client.stats.lost, client.stats.corrupt) == (0, 0)


def test_outputs_longer_than_the_record_buffer(shared_data: Callable[[str], Path]) -> None:
    """The anomaly detector gives 640 values: its records go out in several pieces."""
    tflite = (shared_data("mlperf-tiny") / "ad_int8.tflite").read_bytes()
    plan = compile_plan(tflite)
    rows = np.random.default_rng(9).integers(-128, 128, (30, plan.input_bytes)).astype(np.int8)
    model_bin = pack_model_bin(
        name="ad01", tflite=tflite, plan=plan.blob, arena_tflm_bytes=4000, arena_direct_bytes=plan.arena_bytes
    )
    with VirtualBoard(model_bin) as board, BoardClient(board.port) as client:
        np.testing.assert_array_equal(client.infer(rows).outputs, run_direct(tflite, rows))
        assert client.stats.corrupt == 0


def test_info_names_board_and_model(client: BoardClient, sample: Sample) -> None:
    info = client.info()
    assert (info["chip"], info["simulated"], info["engine"], info["state"]) == ("host", True, "direct", "ready")
    assert (info["name"], info["input_bytes"], info["output_bytes"]) == ("kws01", 490, 12)
    assert info["output_scale"] == 1 / 256
    assert info["output_zero_point"] == -128
    assert info["input_scale"] == pytest.approx(0.584703, abs=1e-6)
    assert info["model"] == hashlib.sha256(sample.model_bin[256:]).hexdigest()[:16]


def test_metrics_count_what_was_done(client: BoardClient, sample: Sample) -> None:
    client.ask("metrics clear", "metrics")
    client.infer(sample.rows[:40])
    metrics = client.metrics()
    assert metrics["inferences"] == metrics["latency_count"] == 40
    assert metrics["errors"] == metrics["bad_frames"] == 0
    order = [metrics[f"latency_{key}_us"] for key in ("min", "p50", "p95", "p99", "max")]
    assert order == sorted(order)
    assert order[0] > 0
    assert 0 < metrics["arena_used_bytes"] <= metrics["arena_bytes"]


def test_selftest_passes(client: BoardClient) -> None:
    result = client.selftest()
    assert (result["rows"], result["mismatches"]) == (3, 0)


def test_metrics_at_a_rate(client: BoardClient) -> None:
    client.ask("metrics rate 20", "ok")
    seen = [client.wait_for("metrics", "metrics rate") for _ in range(21)]
    client.ask("metrics rate 0", "ok")
    # The first may be late by almost 20 ms, on a busy machine by some more; from then on none comes before it is due.
    assert seen[-1].t_us - seen[0].t_us > (20 - 1) * 20_000 - 60_000
    with pytest.raises(BoardError, match="bad_argument"):
        client.ask("metrics rate soon", "ok")


def test_reboot_is_a_new_boot_on_the_same_port(client: BoardClient, sample: Sample) -> None:
    before = client.info()
    after = client.reboot()
    assert after["boot"] != before["boot"]
    assert (before["reset"], after["reset"]) != ("restart", "power_on")
    assert after["reset"] == "restart"
    assert after["model"] == before["model"]
    np.testing.assert_array_equal(client.infer(sample.rows[:10]).outputs, sample.outputs[:10])
    assert client.stats.boots == 2
    assert client.stats.lost == 0


def test_wrong_rows_are_refused(client: BoardClient, sample: Sample) -> None:
    with pytest.raises(BoardError, match=r"wrong_size.*7 bytes, the model takes 490"):
        client.infer(np.zeros((2, 7), np.int8))
    with pytest.raises(BoardError, match="float32"):
        client.infer(np.zeros((2, 490), np.float32))
    np.testing.assert_array_equal(client.infer(sample.rows[:3]).outputs, sample.outputs[:3])


def test_unknown_command_is_named(client: BoardClient) -> None:
    with pytest.raises(BoardError, match="unknown_command"):
        client.ask("dance", "ok")


def test_damaged_frames_cost_a_resend_not_a_row(
    client: BoardClient, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every seventh write loses or changes a byte on its way to the board."""
    intact = client.write
    count = 0

    def noisy(data: bytes) -> None:
        nonlocal count
        count += 1
        if count % 7 == 3:
            data = data[:20] + bytes([data[20] ^ 0x55]) + data[21:]
        elif count % 7 == 6:
            data = data[:30] + data[31:]
        intact(data)

    monkeypatch.setattr(client, "timeout_s", 0.7)
    monkeypatch.setattr(client, "write", noisy)
    np.testing.assert_array_equal(client.infer(sample.rows[:60]).outputs, sample.outputs[:60])
    monkeypatch.undo()
    assert client.metrics()["bad_frames"] > 0


def test_noise_before_a_command_is_survived(client: BoardClient, board: VirtualBoard) -> None:
    client.device.write(b"\x01\xff\x00\xfegarbage\xf0")
    assert client.info()["state"] == "ready"
    client.device.write(b"noise \xf3 right before a command")
    assert client.info()["state"] == "ready"
    client.device.write(b"half a command")
    client.device.write(b"\0" + encode_frame(FRAME_INFER, 1, b"short") + b"\n")
    assert client.info()["state"] == "ready"


def test_late_answers_to_others_are_not_taken_for_ours(board: VirtualBoard, sample: Sample) -> None:
    """Of a program that was killed: its frames are on their way to the board, their answers on the way to the next user."""
    with BoardClient(board.port, timeout_s=3.0) as killed:
        for number in range(8):
            killed.write(encode_frame(FRAME_INFER, number, sample.rows[20 + number].tobytes()))
            killed.write(encode_frame(FRAME_INFER, number, b"short"))
    with BoardClient(board.port, timeout_s=3.0) as client:
        np.testing.assert_array_equal(client.infer(sample.rows[:8]).outputs, sample.outputs[:8])


def test_damaged_records_are_counted_not_believed(
    client: BoardClient, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = client.device.read
    count = 0

    def noisy(size: int) -> bytes:
        nonlocal count
        data = bytearray(read(size))
        count += 1
        if len(data) > 60 and count % 3 == 0:
            data[50] ^= 0x04
        return bytes(data)

    monkeypatch.setattr(client, "timeout_s", 0.7)
    monkeypatch.setattr(client.device, "read", noisy)
    np.testing.assert_array_equal(client.infer(sample.rows[:20]).outputs, sample.outputs[:20])
    assert client.stats.corrupt > 0


def test_a_model_with_one_flipped_bit_leaves_a_board_that_says_so(sample: Sample) -> None:
    damaged = bytearray(sample.model_bin)
    damaged[30000] ^= 0x10
    with VirtualBoard(bytes(damaged)) as board, BoardClient(board.port) as client:
        assert client.info()["state"] == "bad_sha256"
        with pytest.raises(BoardError, match="no_model: bad_sha256"):
            client.infer(sample.rows[:1])
        with pytest.raises(BoardError, match="bad_sha256"):
            client.ask("reload", "model")
        board.write_model(sample.model_bin)
        client.ask("reload", "model")
        np.testing.assert_array_equal(client.infer(sample.rows[:5]).outputs, sample.outputs[:5])


def test_an_empty_slot_and_a_small_arena(sample: Sample) -> None:
    with VirtualBoard() as board, BoardClient(board.port) as client:
        assert client.info()["state"] == "empty_slot"
        assert client.info()["model"] is None
    with VirtualBoard(sample.model_bin, arena_bytes=5000) as board, BoardClient(board.port) as client:
        assert client.info()["state"] == "arena_too_small"


def test_flash_survives_a_kill(sample: Sample, tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    with VirtualBoard(sample.model_bin, flash=flash) as board:
        with BoardClient(board.port) as client:
            client.infer(sample.rows[:2])
            threading.Timer(0.3, board.kill).start()
            many = np.tile(sample.rows, (200, 1))
            with pytest.raises(BoardError, match=r"went away|no answer|does not take"):
                client.infer(many)
        board.start(reset="crash")
        with BoardClient(board.port) as client:
            assert client.info()["reset"] == "crash"
            np.testing.assert_array_equal(client.infer(sample.rows[:2]).outputs, sample.outputs[:2])


def test_two_clients_cannot_share_a_port(board: VirtualBoard, client: BoardClient) -> None:
    with pytest.raises(BoardError, match="in use"):
        BoardClient(board.port)


def test_a_missing_port_is_named_with_those_that_exist() -> None:
    with pytest.raises(BoardError, match=r"/dev/ttyNOPE.*No such file.*port"):
        BoardClient("/dev/ttyNOPE")


def test_a_silent_port_is_not_waited_for_ever() -> None:
    near, far = os.openpty()
    try:
        with BoardClient(os.ttyname(far), timeout_s=0.4) as client, pytest.raises(
            BoardError, match=r"no answer to 'info'"
        ):
            client.info()
    finally:
        os.close(near)
        os.close(far)


def test_the_board_ends_with_whoever_started_it(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board:
        process = board.process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=600) == 0


def test_no_process_is_left_behind(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board:
        pid = board.pid
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_bad_flash_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "flash.bin").write_bytes(b"short")
    with pytest.raises(HostBuildError, match="does not have 4 MB"):
        VirtualBoard(flash=tmp_path / "flash.bin").__enter__()
