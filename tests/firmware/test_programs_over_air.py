"""A program that comes over the network: signed, for this chip, ordered, whole, and kept only once it has obeyed its owner."""

from pathlib import Path
from typing import Any, Dict

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from network_talk import (
    MAKER,
    NEW,
    OLD,
    OWNER,
    STRANGER,
    Said,
    Talk,
    begins,
    digest,
    flash,
    flipped,
    order,
    part,
    parts,
    program,
)

from model_export.signing import raw_public
from orchestrator.boards.firmware_file import Firmware
from orchestrator.boards.partitions import APP, APP_B, NETWORK, OTA_DATA, SECTOR_BYTES, SLOTS
from orchestrator.boards.protocol import FRAME_UPDATE_BEGIN


def update(firmware: Firmware, number: int) -> Talk:
    return Talk().message(order(number, begins(firmware.content)), *parts(firmware.content))


def info(image: Path, number: int) -> Dict[str, Any]:
    """What the board says of itself to an order; on a start of its own."""
    said = Talk().message(order(number, "info")).to(image)
    return next(record for record in said.records if record["kind"] == "info")


def seen(image: Path) -> Dict[str, Any]:
    """What it says as soon as it is connected, of a start of its own in which nobody orders anything."""
    return Talk().to(image).presences[0]


def test_a_program_is_kept_once_it_obeyed_an_order(tmp_path: Path) -> None:
    image, new = flash(tmp_path), program()
    said = update(new, 3).to(image)
    assert said.updates() == ["ready", *["received"] * (len(parts(new.content)) - 2), "restarting"]
    assert said.restarted
    begun = seen(image)
    assert (begun["program"], begun["program_slot"], begun["on_trial"]) == (new.digest, "b", True)
    # That was a start without an order: the one before is back, and the update can be had again.
    back = info(image, 4)
    assert (back["program"], back["program_slot"], back["on_trial"]) == ("", "a", False)
    update(new, 5).to(image)
    kept = info(image, 6)
    assert (kept["program"], kept["program_slot"], kept["on_trial"]) == (new.digest, "b", False)
    assert seen(image)["program"] == seen(image)["program"] == new.digest
    third = program(b"third" * 4000)
    update(third, 7).to(image)
    assert info(image, 8)["program_slot"] == "a"
    assert seen(image)["program"] == third.digest
    assert image.read_bytes()[APP.offset :].startswith(third.image)
    assert image.read_bytes()[APP_B.offset :].startswith(new.image)


def test_old_orders_and_others_keep_no_program(tmp_path: Path) -> None:
    image, new = flash(tmp_path), program()
    update(new, 3).to(image)
    forged = [
        order(3, "info"),
        order(4, "info", key=STRANGER),
        order(4, "info", secret=bytes(32)),
        order(4, "info", board="x"),
    ]
    said = Talk().apart(*forged, *parts(NEW)).serial("info", "metrics", "selftest").to(image)
    assert "obeyed" not in said.orders()
    assert said.on_serial("info")[-1]["on_trial"]
    assert seen(image)["program"] == ""


def test_a_board_without_a_network_keeps_it_when_it_was_asked(tmp_path: Path) -> None:
    image, new = flash(tmp_path, place=None), program()
    talk = Talk()
    for each in parts(new.content):
        talk.frame(each[0], each[5:])
    said = talk.to(image)
    assert [each["state"] for each in said.on_serial("update")][-1] == "restarting"
    assert Talk().serial("metrics", "nonsense").to(image).serial
    assert not Talk().serial("info").to(image).on_serial("info")[-1]["program"]  # that one said nothing to `info`
    talk.to(image)
    assert Talk().serial("info").to(image).on_serial("info")[-1]["program"] == new.digest
    assert Talk().serial("info").to(image).on_serial("info")[-1]["program"] == new.digest


def test_a_program_that_sees_no_network_is_not_kept_by_the_cable(tmp_path: Path) -> None:
    """It may misread the settings, or be built without a network. The one before knew: no order could come again."""
    image = flash(tmp_path)
    update(program(), 3).to(image)
    content = bytearray(image.read_bytes())
    for byte in (NETWORK.offset, NETWORK.offset + 40):  # neither settings that cannot be read nor an empty place
        for value in (content[byte] ^ 1, 0xFF):
            changed = bytearray(content)
            changed[byte] = value
            changed[NETWORK.offset : NETWORK.offset + 4] = (
                b"\xff" * 4 if value == 0xFF else changed[NETWORK.offset :][:4]
            )
            image.write_bytes(changed)
            assert Talk().serial("info", "info").to(image).on_serial("info")[-1]["on_trial"]
            image.write_bytes(content)
    assert Talk().to(image).presences[0]["on_trial"]
    assert seen(image)["program"] == ""


def test_a_program_that_reads_itself_wrong_goes_at_once(tmp_path: Path) -> None:
    image = flash(tmp_path)
    update(program(), 3).to(image)
    content = bytearray(image.read_bytes())
    content[APP_B.offset + 100] ^= 1
    image.write_bytes(content)
    said = Talk().to(image)
    assert said.restarted
    assert [each["code"] for each in said.on_serial("error")] == ["trial_program"]
    assert seen(image)["program"] == ""


def test_a_trial_without_an_order_ends(tmp_path: Path) -> None:
    image = flash(tmp_path)
    update(program(trial_s=60), 3).to(image)
    said = Talk().wait(59000).serial("metrics").wait(1500).serial("metrics").to(image)
    assert said.restarted
    assert [each["code"] for each in said.on_serial("error")] == ["trial_silent"]
    assert seen(image)["program"] == ""


@pytest.mark.parametrize("which", ["model", "answers"])
def test_a_program_that_cannot_run_the_model_goes_and_says_nothing_about_models(tmp_path: Path, which: str) -> None:
    """The other slot holds a model that runs, and stays the other one."""
    image = flash(tmp_path)
    Talk().message(order(1, begins(NEW)), *parts(NEW)).to(image)
    update(program(), 3).to(image)
    content = bytearray(image.read_bytes())
    logs = [slice(slot.end - SECTOR_BYTES, slot.end) for slot in SLOTS.values()]
    before = [content[log] for log in logs]
    # As a program would see it that reads or computes something else.
    where = SLOTS["b"].offset + (len(NEW) // 2 if which == "model" else len(NEW) - 8)
    kept = content[where]
    content[where] ^= 1
    image.write_bytes(content)
    said = Talk().to(image)
    assert said.restarted
    assert "trial_model" in [each["code"] for each in said.on_serial("error")]
    content = bytearray(image.read_bytes())
    assert [content[log] for log in logs] == before
    content[where] = kept
    image.write_bytes(content)
    assert (seen(image)["model"], seen(image)["program"]) == (digest(NEW), "")


def test_a_crash_while_on_trial_is_not_held_against_the_model(tmp_path: Path) -> None:
    image = flash(tmp_path)
    update(program(), 3).to(image)
    content = image.read_bytes()
    said = Talk().to(image)
    assert said.presences[0]["on_trial"]
    logs = [content[slot.end - SECTOR_BYTES : slot.end] for slot in SLOTS.values()]
    now = image.read_bytes()
    assert [now[slot.end - SECTOR_BYTES : slot.end] for slot in SLOTS.values()] == logs


WRONG = {
    "wrong_chip": program(chip="esp32c3").content,
    "bad_signature": program(key=STRANGER).content,
    "bad_header": program().content[:96] + b"x" + program().content[97:],
    "bad_version": flipped(program().content, 8 * 4 + 1),
    "bad_trial": program().content[:12] + bytes(4) + program().content[16:],
    "too_large": program().content[:8] + b"\0\0\xff\x00" + program().content[12:],
}


@pytest.mark.parametrize("code", WRONG)
def test_what_no_board_takes(tmp_path: Path, code: str) -> None:
    image = flash(tmp_path)
    before = image.read_bytes()
    said = Talk().message(order(1, begins(WRONG[code]))).apart(*parts(WRONG[code])).to(image)
    assert said.updates()[0] == code
    assert set(said.updates()[1:]) == {"no_update"}
    after = image.read_bytes()
    for place in (APP, APP_B):
        assert after[place.offset : place.end] == before[place.offset : place.end]


@pytest.mark.parametrize("byte", [4, 8, 12, 16, 47, 48, 64, 191, 192, 255])
def test_no_byte_of_a_signed_header_can_be_changed(tmp_path: Path, byte: int) -> None:
    """Also where the order is for what was changed: the owner ordered what somebody else had in hand."""
    content = flipped(program().content, 8 * byte)
    said = Talk().message(order(1, begins(content))).apart(*parts(content)).to(flash(tmp_path))
    assert not said.restarted
    assert "ready" not in said.updates()


def test_no_program_without_an_order_for_it_and_none_of_a_model_instead(tmp_path: Path) -> None:
    new, other = program(), program(b"other" * 999)
    said = Talk().apart(*parts(new.content), order(1, begins(other.content)), *parts(new.content)).to(flash(tmp_path))
    assert not said.restarted
    assert set(said.orders()) == {"not_ordered", "obeyed"}
    assert set(said.updates()) == {"no_update"}


@pytest.mark.parametrize("key", [OWNER, STRANGER])
def test_who_signs_models_signs_no_program(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    content = program(key=key).content
    said = Talk().message(order(1, begins(content))).apart(*parts(content)).to(flash(tmp_path))
    assert said.updates()[0] == "bad_signature"
    # And the key for programs signs neither models nor orders.
    said = Talk().message(order(1, begins(NEW), key=MAKER)).to(flash(tmp_path))
    assert said.orders() == ["bad_signature"]


def test_a_board_without_a_key_for_programs_takes_none(tmp_path: Path) -> None:
    content = program().content
    first = parts(content)[0]
    image = flash(tmp_path, program=None)
    said = Talk().message(order(1, begins(content)), first).frame(first[0], first[5:]).to(image)
    assert said.updates() == ["no_program_key"] * 2  # what is answered on the cable is said on the network, too
    assert said.on_serial("update")[-1]["code"] == "no_program_key"
    made = raw_public(MAKER.public_key()).hex()
    said = Talk().serial("key list", f"key program {made}", "key lock", f"key program {'11' * 32}").to(image)
    assert [bool(each["program"]) for each in said.on_serial("keys")] == [False, True, True]
    assert update(program(), 2).to(image).restarted
    assert info(image, 3)["program"] == program().digest


def test_a_key_for_programs_that_was_removed_counts_no_more(tmp_path: Path) -> None:
    image, content = flash(tmp_path), program().content
    Talk().serial(f"key remove {raw_public(MAKER.public_key()).hex()}").to(image)
    assert Talk().message(order(1, begins(content)), parts(content)[0]).to(image).updates() == ["no_program_key"]
    assert info(image, 2)["keys"] == 1


def test_spoiled_parts_end_the_update_and_change_no_choice(tmp_path: Path) -> None:
    image, new = flash(tmp_path), program()
    begin, *chunks, commit = parts(new.content)
    Talk().to(image)
    choice = image.read_bytes()[OTA_DATA.offset : OTA_DATA.end]
    said = (
        Talk()
        .message(order(1, begins(new.content)), begin, *chunks[:-1], flipped(chunks[-1], 100))
        .apart(commit, commit)
    )
    answer: Said = said.to(image)
    assert answer.updates()[-2:] == ["bad_sha256", "no_update"]
    assert not answer.restarted
    assert image.read_bytes()[OTA_DATA.offset : OTA_DATA.end] == choice
    assert seen(image)["program"] == ""


def test_a_model_and_a_program_do_not_mix(tmp_path: Path) -> None:
    """What begins last goes on."""
    image, new = flash(tmp_path), program()
    begin, *chunks, commit = parts(new.content)
    other, *model_chunks, model_commit = parts(NEW)
    talk = Talk().message(order(1, begins(new.content)), begin, chunks[0], order(2, begins(NEW)), other)
    said = talk.message(*model_chunks, model_commit).to(image)
    assert said.updates()[-1] == "active"
    assert not said.restarted
    assert seen(image)["model"] == digest(NEW)
    said = (
        Talk()
        .message(order(3, begins(OLD)), parts(OLD)[0], order(4, begins(new.content)), begin, *chunks, commit)
        .to(image)
    )
    assert said.restarted
    assert (info(image, 5)["program"], info(image, 6)["model"]) == (new.digest, digest(NEW))


def test_a_program_on_trial_takes_no_other(tmp_path: Path) -> None:
    """Over the network that cannot be: its order is the one that keeps it. Over serial it can."""
    image, new = flash(tmp_path), program()
    update(new, 3).to(image)
    said = Talk().frame(FRAME_UPDATE_BEGIN, program(b"third" * 99).content[:256]).to(image)
    assert said.on_serial("update")[0]["code"] == "on_trial"


def test_a_program_on_trial_changes_no_model(tmp_path: Path) -> None:
    """By the cable, too: what it had noted as proven, the program before would take for its own."""
    image = flash(tmp_path)
    Talk().message(order(1, begins(NEW)), *parts(NEW)).to(image)
    update(program(), 2).to(image)
    said = Talk().serial("rollback").frame(FRAME_UPDATE_BEGIN, OLD[:256]).serial("reload").to(image)
    assert [each["code"] for each in said.on_serial("error")] == ["on_trial"]
    assert [each["code"] for each in said.on_serial("update")] == ["on_trial"]
    back = seen(image)
    assert (back["model"], back["program"]) == (digest(NEW), "")
    assert Talk().serial("rollback").to(image).on_serial("ok")


def test_chunks_come_in_order_and_once(tmp_path: Path) -> None:
    image, new = flash(tmp_path), program()
    begin, *chunks, commit = parts(new.content)
    talk = Talk().message(order(1, begins(new.content)), begin).apart(chunks[1]).message(chunks[0]).apart(chunks[0])
    said = talk.message(*chunks[1:], commit).to(image)
    assert said.updates()[:4] == ["ready", "out_of_order", "received", "received"]
    assert said.restarted
    odd = part(chunks[0][0], chunks[0][5:-1])
    far = part(chunks[0][0], b"\xf0\xff\xff\xff" + bytes(64))
    said = Talk().message(order(2, begins(new.content)), begin).apart(odd, far).to(flash(tmp_path))
    assert said.updates() == ["ready", "bad_chunk", "bad_chunk"]


def test_signatures_of_models_and_orders_are_none_of_a_program(tmp_path: Path) -> None:
    """The owner signs other things every day; a program made of them is refused."""
    new = program()
    head = new.content[:192]
    for content in (head + MAKER.sign(head), head + MAKER.sign(b"EWORDER1" + head), head + OLD[80:144]):
        said = Talk().message(order(1, begins(content)), part(FRAME_UPDATE_BEGIN, content)).to(flash(tmp_path))
        assert said.updates() == ["bad_signature"]
