"""What a board says on a network: marked, numbered, and nothing about one sample."""

import struct
from pathlib import Path

from network_talk import NEW, UPDATE, Talk, flash, order, parts, said_by

from orchestrator.boards.protocol import FRAME_INFER, FRAME_SAMPLES


def test_nothing_about_a_sample_leaves(tmp_path: Path) -> None:
    rows = b"".join(bytes([7 * row % 128] * 30) for row in range(40))
    talk = Talk().serial("network", "key list", "bench 2", "record file 100 30 5", "record off")
    for row in range(40):
        talk.frame(FRAME_INFER, rows[30 * row : 30 * row + 30])
    talk.serial("stream 1 1 1 0").frame(FRAME_SAMPLES, struct.pack("<I", 0) + bytes(600)).serial(
        "stream off", "metrics", "info"
    )
    talk.serial("drift rows 32")
    for row in range(40):
        talk.frame(FRAME_INFER, rows[30 * row : 30 * row + 30])
    image = flash(tmp_path, recording=True)
    said = talk.to(image)
    on_serial = {record.kind for record in said.serial}
    assert on_serial >= {"result", "fed", "bench", "op", "keys", "network", "drift", "recorded"}
    assert {record["kind"] for record in said.records} <= {"metrics", "info", "ok", "error", "drift", "model"}
    numbers = sorted(record["seq"] for record in (*said.records, *said.presences))
    assert numbers == list(range(len(numbers)))


def test_counts_of_answers_leave_many_at_a_time(tmp_path: Path) -> None:
    """Two metrics records differ by 32 answers or more, or by none: a broker cannot see what one was."""
    talk = Talk()
    for row in range(70):
        talk.frame(FRAME_INFER, bytes([row] * 30)).serial("metrics")
    said = said_by(tmp_path, talk)
    there = [sum(record["classes"]) for record in said.records if record["kind"] == "metrics"]
    here = [sum(each["classes"]) for each in said.on_serial("metrics")]
    assert here == list(range(1, 71))
    assert there == [0] * 31 + [32] * 32 + [64] * 7
    confidences = [sum(record["confidence"]) for record in said.records if record["kind"] == "metrics"]
    assert confidences == there


def test_a_model_that_comes_later_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    talk = Talk()
    for row in range(32):
        talk.frame(FRAME_INFER, bytes([row] * 30))
    talk.serial("metrics").message(order(1, UPDATE), *parts(NEW)).frame(FRAME_INFER, bytes(30)).serial("metrics")
    there = [sum(record["classes"]) for record in said_by(tmp_path, talk).records if record["kind"] == "metrics"]
    assert there == [32, 0]


def test_what_the_network_does_not_take_is_counted(tmp_path: Path) -> None:
    said = Talk().serial("info", "metrics", "network").to(flash(tmp_path), "1")
    assert [each["dropped"] for each in said.on_serial("network")] == [1]
    assert [record["seq"] for record in (*said.presences, *said.records)] == [0, 2]


def test_presence_is_said_again_after_every_loss(tmp_path: Path) -> None:
    said = said_by(
        tmp_path, Talk().connected(False).serial("metrics").connected(True).serial("").message(order(1, "info"))
    )
    assert [record["kind"] for record in said.presences] == ["info", "info"]
    assert said.orders() == ["obeyed"]
