"""Models over serial: two slots, tested on the board before they are used, and what happens when they should not be."""

import re
import struct
import threading
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import pytest
from board_sample import Sample

from model_export.model_bin import HEADER_BYTES, KnownAnswers, pack_model_bin, parse_model_bin
from model_export.plan import compile_plan
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.partitions import MODEL_CAPACITY, SLOTS
from orchestrator.boards.protocol import FRAME_UPDATE_BEGIN, FRAME_UPDATE_CHUNK, encode_frame
from orchestrator.boards.virtual import VirtualBoard


@pytest.fixture(scope="module")
def second(sample: Sample) -> bytes:
    """The same network with other known answers: another digest, the same outputs."""
    parsed = parse_model_bin(sample.model_bin)
    return pack(parsed.tflite, "kws02", KnownAnswers(sample.rows[3:5], sample.outputs[3:5]))


def pack(tflite: bytes, name: str, answers: Optional[KnownAnswers]) -> bytes:
    plan = compile_plan(tflite)
    return pack_model_bin(
        name=name,
        tflite=tflite,
        plan=plan.blob,
        arena_tflm_bytes=30000,
        arena_direct_bytes=plan.arena_bytes,
        known_answers=answers,
    )


def digest_of(model_bin: bytes) -> str:
    return parse_model_bin(model_bin).digest


@pytest.fixture
def board(sample: Sample) -> Iterator[VirtualBoard]:
    with VirtualBoard(sample.model_bin) as running:
        yield running


@pytest.fixture
def client(board: VirtualBoard) -> Iterator[BoardClient]:
    with BoardClient(board.port, timeout_s=3.0) as connected:
        yield connected


def test_update_rollback_and_forward_again(
    board: VirtualBoard, client: BoardClient, sample: Sample, second: bytes
) -> None:
    old, new = digest_of(sample.model_bin), digest_of(second)
    client.infer(sample.rows[:5])
    sent = []
    info = client.update(second, lambda done, total: sent.append((done, total)))
    assert (info["model"], info["name"], info["slot"], info["state"]) == (new, "kws02", "b", "ready")
    assert sent == sorted(sent)
    assert sent[-1] == (len(second), len(second))
    metrics = client.metrics()
    assert (metrics["model"], metrics["inferences"]) == (new, 0)
    np.testing.assert_array_equal(client.infer(sample.rows[:20]).outputs, sample.outputs[:20])
    assert client.reboot()["model"] == new
    info = client.rollback()
    assert (info["model"], info["slot"]) == (old, "a")
    assert client.reboot()["model"] == old
    assert client.rollback()["model"] == new
    assert client.stats.corrupt == client.stats.lost == 0


def test_the_same_model_is_not_sent_twice(client: BoardClient, sample: Sample) -> None:
    sent = []
    assert client.update(sample.model_bin, lambda *step: sent.append(step))["model"] == digest_of(sample.model_bin)
    assert sent == []


def test_the_first_model_of_an_empty_board_comes_over_serial(sample: Sample) -> None:
    with VirtualBoard() as board, BoardClient(board.port) as client:
        with pytest.raises(BoardError, match="no_model"):
            client.rollback()
        assert client.update(sample.model_bin)["slot"] == "a"
        np.testing.assert_array_equal(client.infer(sample.rows[:3]).outputs, sample.outputs[:3])


def test_a_model_that_computes_other_bits_is_rolled_back(client: BoardClient, sample: Sample) -> None:
    parsed = parse_model_bin(sample.model_bin)
    outputs = sample.outputs[:2].copy()
    outputs[1, 4] += 1
    wrong = pack(parsed.tflite, "wrong", KnownAnswers(sample.rows[:2], outputs))
    with pytest.raises(BoardError, match=f"rolled_back: known_answers_differ.*still runs {parsed.digest}"):
        client.update(wrong)
    assert client.info()["model"] == parsed.digest
    np.testing.assert_array_equal(client.infer(sample.rows[:3]).outputs, sample.outputs[:3])
    with pytest.raises(BoardError, match="empty_slot"):
        client.rollback()
    assert client.reboot()["model"] == parsed.digest


def test_refused_before_anything_is_erased(client: BoardClient, sample: Sample, second: bytes) -> None:
    """Known by its header alone: the model in the other slot is still there afterwards."""
    client.update(second)
    parsed = parse_model_bin(sample.model_bin)
    plan = compile_plan(parsed.tflite)

    def refusal(**changes: Any) -> str:
        fields = dict(
            name="m", tflite=parsed.tflite, plan=plan.blob, arena_tflm_bytes=30000,
            arena_direct_bytes=plan.arena_bytes, known_answers=parsed.known_answers,
        )  # fmt: skip
        with pytest.raises(BoardError) as caught:
            client.update(pack_model_bin(**{**fields, **changes}))
        return str(caught.value)

    assert "refused: arena_too_small" in refusal(arena_direct_bytes=2_000_000)
    assert "refused: no_known_answers" in refusal(known_answers=None)
    assert "refused: bad_total_bytes" in refusal(plan=bytes(MODEL_CAPACITY))
    with pytest.raises(BoardError, match="no model.bin.*SHA-256"):
        client.update(second[:-1] + b"\x01")
    assert client.rollback()["model"] == parsed.digest


def test_damaged_and_lost_frames_cost_time_not_the_update(
    client: BoardClient, second: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    intact = client.write
    count = 0

    def noisy(data: bytes) -> None:
        nonlocal count
        count += 1
        if count % 9 == 4:
            at = min(20, len(data) - 3)
            data = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        elif count % 9 == 7 and len(data) > 60:
            data = data[:30] + data[31:]
        intact(data)

    monkeypatch.setattr(client, "timeout_s", 1.0)
    monkeypatch.setattr(client, "write", noisy)
    info = client.update(second)
    monkeypatch.undo()
    assert info["model"] == digest_of(second)
    assert client.metrics()["bad_frames"] > 0
    assert re.search(r"the line is noisy, \d+ damaged frames: try another cable", caplog.text)


def restarting(client: BoardClient, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The board gets a reboot command between two chunks of each of the next updates."""
    intact, frames = client.write, 0

    def write(data: bytes) -> None:
        nonlocal frames, times
        intact(data)
        frames += data.startswith(b"\0")
        if frames == 12 and times:
            frames, times = 0, times - 1
            intact(b"\nreboot\n")

    monkeypatch.setattr(client, "write", write)


def test_a_restart_in_the_middle_begins_the_update_again(
    client: BoardClient, second: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    restarting(client, monkeypatch, 2)
    assert client.update(second)["model"] == digest_of(second)
    assert caplog.text.count("the board restarted during the update, which begins again") == 2


def test_a_board_that_restarts_again_and_again_is_said_to(
    client: BoardClient, sample: Sample, second: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarting(client, monkeypatch, 100)
    with pytest.raises(BoardError, match="the board restarted 3 times during the update: is its supply steady"):
        client.update(second)
    monkeypatch.undo()
    assert client.info()["model"] == digest_of(sample.model_bin)


def test_silence_on_a_noisy_line_names_the_noise(
    client: BoardClient, second: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    intact = client.write

    def noisy(data: bytes) -> None:
        intact(data if not data.startswith(b"\0") else data[:9] + bytes([data[9] ^ 0x55]) + data[10:])

    client.timeout_s = 0.4
    monkeypatch.setattr(client, "write", noisy)
    with pytest.raises(BoardError, match="no answer to the start of an update.*the line is noisy, 3 damaged frames"):
        client.update(second)


def test_the_board_dies_while_it_is_updated(
    board: VirtualBoard, client: BoardClient, sample: Sample, second: bytes
) -> None:
    threading.Timer(0.05, board.kill).start()

    def keep_updating() -> None:
        for _ in range(100):
            client.update(second)
            client.update(sample.model_bin)

    with pytest.raises(BoardError, match=r"went away|no answer|does not take"):
        keep_updating()
    client.close()
    board.start()
    with BoardClient(board.port) as again:
        assert again.selftest()["mismatches"] == 0
        assert again.info()["model"] in (digest_of(sample.model_bin), digest_of(second))
        assert again.update(second)["model"] == digest_of(second)


def test_a_reboot_in_the_middle_forgets_the_update(client: BoardClient, sample: Sample, second: bytes) -> None:
    header, chunk = second[:HEADER_BYTES], second[HEADER_BYTES : HEADER_BYTES + 512]

    def answer(kind: int, body: bytes) -> Dict[str, Any]:
        ids = client.new_ids(1)
        (record,) = client.exchange([encode_frame(kind, ids.start, body)], ids, "update", 5.0)
        return record.fields

    assert answer(FRAME_UPDATE_BEGIN, header)["state"] == "ready"
    body = struct.pack("<I", HEADER_BYTES) + chunk
    assert answer(FRAME_UPDATE_CHUNK, body)["next_offset"] == HEADER_BYTES + 512
    assert answer(FRAME_UPDATE_CHUNK, body)["next_offset"] == HEADER_BYTES + 512  # again: its answer was lost
    assert answer(FRAME_UPDATE_CHUNK, struct.pack("<I", 4096) + chunk)["code"] == "out_of_order"
    assert answer(FRAME_UPDATE_CHUNK, struct.pack("<I", 0) + chunk)["code"] == "bad_chunk"
    assert answer(FRAME_UPDATE_CHUNK, body[:-1])["code"] == "bad_chunk"
    client.reboot()
    assert answer(FRAME_UPDATE_CHUNK, body)["code"] == "no_update"
    assert client.info()["model"] == digest_of(sample.model_bin)


def test_what_a_flasher_writes_is_used_at_once(
    board: VirtualBoard, client: BoardClient, sample: Sample, second: bytes
) -> None:
    assert client.update(second)["slot"] == "b"
    third = pack(parse_model_bin(second).tflite, "kws03", KnownAnswers(sample.rows[5:6], sample.outputs[5:6]))
    board.write_model(third)
    assert client.reboot()["model"] == digest_of(third)
    assert client.rollback()["model"] == digest_of(second)


def test_a_damaged_slot_falls_back_to_the_other_and_says_so(
    board: VirtualBoard, client: BoardClient, sample: Sample, second: bytes
) -> None:
    client.update(second)
    with open(board.flash, "r+b") as image:
        image.seek(SLOTS["b"].offset + 5000)
        image.write(b"\0\0\0\0")
    said: List[Any] = []
    client.on_record = said.append
    assert client.reboot()["model"] == digest_of(sample.model_bin)
    errors = [record.fields for record in said if record.kind == "error"]
    assert [(error["code"], error["slot"]) for error in errors] == [("bad_sha256", "b")]
    with pytest.raises(BoardError, match="bad_sha256"):
        client.rollback()
