"""A model that comes over the network: only the one that was ordered, from where it was begun, and once for each order."""

from pathlib import Path

import pytest
from network_talk import BACK, NEW, OLD, UPDATE, Talk, digest, flipped, order, parts, said_by

from model_export.model_bin import HEADER_BYTES
from orchestrator.boards.protocol import FRAME_UPDATE_BEGIN


def test_an_update_that_was_ordered(tmp_path: Path) -> None:
    said = said_by(tmp_path, Talk().message(order(3, UPDATE), *parts(NEW), order(4, "selftest")))
    assert said.updates() == ["ready", *["received"] * (len(parts(NEW)) - 2), "active"]
    assert {record["order"] for record in said.records if record["kind"] == "update"} == {3}
    assert [record["mismatches"] for record in said.records if record["kind"] == "selftest"] == [0]
    assert said.presences[-1]["model"] == said.records[-1]["model"] == digest(NEW)


def test_no_part_without_an_order_and_no_other_header(tmp_path: Path) -> None:
    said = said_by(tmp_path, Talk().apart(*parts(NEW), order(1, BACK), *parts(NEW)).serial("info"))
    assert set(said.orders()) == {"not_ordered", "obeyed"}
    assert {record.get("code") for record in said.records if record["kind"] == "update"} <= {"no_update"}
    assert said.on_serial("info")[-1]["model"] == digest(OLD)


@pytest.mark.parametrize("bit", [0, 400, 8 * 80, 8 * 200, 8 * 255])
def test_no_bit_of_a_header_can_be_changed(tmp_path: Path, bit: int) -> None:
    begin, *others = parts(NEW)
    said = said_by(tmp_path, Talk().message(order(1, UPDATE)).apart(flipped(begin, 40 + bit), *others))
    assert said.orders() == ["obeyed", "not_ordered"]
    assert set(said.updates()) == {"no_update"}


def test_an_update_comes_from_where_it_was_begun(tmp_path: Path) -> None:
    begin, *others = parts(NEW)
    frames = [(each[0], each[5:]) for each in parts(NEW)]
    by_network = Talk().message(order(1, UPDATE), begin)
    for kind, body in frames[1:]:
        by_network.frame(kind, body)
    said = said_by(tmp_path, by_network.message(*others))
    assert [each["code"] for each in said.on_serial("update") if each["state"] == "refused"] == ["no_update"] * len(
        others
    )
    assert said.updates()[-1] == "active"

    by_serial = Talk().message(order(1, UPDATE)).frame(*frames[0]).apart(*others)
    for kind, body in frames[1:]:
        by_serial.frame(kind, body)
    said = said_by(tmp_path, by_serial)
    assert [each["state"] for each in said.on_serial("update")].count("active") == 1
    assert [each.get("code") for each in said.on_serial("update")].count("no_update") == len(others)


def test_whoever_begins_last_goes_on(tmp_path: Path) -> None:
    begin, *others = parts(NEW)
    talk = Talk().message(order(1, UPDATE), begin).frame(FRAME_UPDATE_BEGIN, NEW[:HEADER_BYTES]).apart(*others)
    assert set(said_by(tmp_path, talk).updates()) == {"ready", "no_update"}
    talk = Talk().message(order(1, UPDATE)).frame(FRAME_UPDATE_BEGIN, NEW[:HEADER_BYTES]).message(*parts(NEW))
    assert said_by(tmp_path, talk).updates()[-1] == "active"


def test_a_later_order_leaves_the_update_before_to_nobody(tmp_path: Path) -> None:
    begin, *others = parts(NEW)
    talk = Talk().message(order(1, UPDATE), begin, order(2, BACK))
    for each in others:
        talk.frame(each[0], each[5:])
    said = said_by(tmp_path, talk.apart(*others))
    assert set(each["state"] for each in said.on_serial("update")) == {"ready", "refused"}


def test_an_order_is_for_one_update(tmp_path: Path) -> None:
    """What was rolled back does not come again with the messages of before."""
    whole = [order(1, UPDATE), *parts(NEW)]
    said = said_by(tmp_path, Talk().message(*whole, order(2, "rollback")).apart(*whole).serial("info"))
    assert said.on_serial("info")[-1]["model"] == digest(OLD)
    assert said.updates().count("active") == 1
    assert said.updates().count("ready") == 1


def test_a_copy_of_the_beginning_ends_nothing(tmp_path: Path) -> None:
    begin, first, *others = parts(NEW)
    said = said_by(tmp_path, Talk().message(order(1, UPDATE), begin, first).apart(begin, first).message(*others))
    assert (said.updates().count("ready"), said.updates()[-1]) == (1, "active")


def test_an_update_that_waited_while_another_model_came_is_void(tmp_path: Path) -> None:
    talk = Talk().message(order(1, UPDATE), *parts(NEW), order(2, UPDATE), order(3, "rollback"))
    said = said_by(tmp_path, talk.apart(*parts(NEW)).serial("info"))
    assert said.on_serial("info")[-1]["model"] == digest(OLD)
    assert said.updates().count("active") == 1


def test_spoiled_parts_are_hashed_once_and_a_flood_of_parts_has_an_answer_a_second(tmp_path: Path) -> None:
    begin, *chunks, commit = parts(NEW)
    spoiled = [*chunks[:-1], flipped(chunks[-1], 100)]
    talk = Talk().message(order(1, UPDATE), begin, *spoiled).apart(commit, commit, commit)
    for _ in range(40):
        talk.message(*chunks, commit, begin).wait(100)
    said = said_by(tmp_path, talk)
    assert said.updates()[1 + len(spoiled) :][:3] == ["bad_sha256", "no_update", "no_update"]
    assert "active" not in said.updates()
    asked = 1 + 1 + len(chunks) + 3
    assert len(said.records) <= asked + 5


def test_a_chunk_that_came_already_is_answered_for_who_lost_the_answer(tmp_path: Path) -> None:
    begin, *chunks, commit = parts(NEW)
    said = said_by(
        tmp_path, Talk().message(order(1, UPDATE), begin, chunks[0]).apart(chunks[0]).message(*chunks[1:], commit)
    )
    assert said.updates() == ["ready", *["received"] * (len(chunks) + 1), "active"]
