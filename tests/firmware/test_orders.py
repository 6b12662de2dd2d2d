"""What comes to a board over the network, under AddressSanitizer and UBSan: only what an owner ordered is done, and once."""

import hashlib
import hmac
import struct
from pathlib import Path
from typing import Dict, List

import pytest
from network_talk import (
    FEDERATION,
    NAME,
    NEW,
    OWNER,
    PLACE,
    SECRET,
    STRANGER,
    Talk,
    flash,
    flipped,
    order,
    part,
    parts,
    said_by,
)

from model_export.signing import raw_public
from orchestrator.boards.orders import board_id
from orchestrator.boards.partitions import NETWORK
from orchestrator.boards.protocol import FRAME_INFER, FRAME_SAMPLES, FRAME_SETTINGS

MAC_BYTES = 16
LARGEST = 2**63 - 1


def marked(signed: bytes) -> bytes:
    """An order, of what is before its mark, as somebody makes it who has the board's secret."""
    return signed + hmac.new(SECRET, signed, hashlib.sha256).digest()[:MAC_BYTES]


def numbered(number: int) -> bytes:
    """An order with a number that no sender gives it, otherwise right."""
    right = order(1, "info")
    content = right[:8] + struct.pack("<Q", number) + right[16 : -64 - MAC_BYTES]
    return marked(content + OWNER.sign(content))


def addressed(addressee: str, command: str = "info") -> bytes:
    """An order with texts that no sender gives it, otherwise right."""
    texts = (addressee.encode(), command.encode())
    content = b"EWORDER1" + struct.pack("<Q", 9) + b"".join(bytes([len(text)]) + text for text in texts)
    return marked(content + OWNER.sign(content))


PLACED = f"{FEDERATION}/{NAME}/{board_id(SECRET)}"


def test_every_order_is_obeyed_once_and_its_answers_bear_its_number(tmp_path: Path) -> None:
    commands = {
        "info": "info",
        "metrics": "metrics",
        "metrics clear": "metrics",
        "selftest": "selftest",
        "reload": "model",
        "metrics rate 0": "ok",
        "drift rows 100": "ok",
    }
    orders = [order(10 * number, command) for number, command in enumerate(commands, 1)]
    said = said_by(tmp_path, Talk().message(*orders).apart(*orders))
    assert said.orders() == ["obeyed"] * len(orders) + ["old_order"] * len(orders)
    for number, kind in enumerate(commands.values(), 1):
        assert kind in [record["kind"] for record in said.records if record.get("order") == 10 * number]
    assert {record["claimed"] for record in said.records if record.get("code") == "old_order"} == {
        10,
        20,
        30,
        40,
        50,
        60,
        70,
    }


def test_an_order_that_restarts_the_board_does_so_once(tmp_path: Path) -> None:
    image, reboot = flash(tmp_path), order(5, "reboot")
    assert Talk().message(reboot).to(image).restarted
    again = Talk().message(reboot).to(image)
    assert (again.restarted, again.orders()) == (False, ["old_order"])


def test_no_number_but_a_higher_one(tmp_path: Path) -> None:
    wrong = [numbered(number) for number in (0, 1, 6, 7, 2**63, 2**63 + 8, 2**64 - 1)]
    said = said_by(tmp_path, Talk().message(order(7, "info")).apart(*wrong, order(8, "info"), order(LARGEST, "info")))
    assert said.orders() == ["obeyed", *["old_order"] * 4, *["bad_order"] * 3, "obeyed", "obeyed"]


def test_no_bit_of_an_order_can_be_changed(tmp_path: Path) -> None:
    """By anyone who carries it: without the secret nobody makes the board even check a signature."""
    right = order(2**40, "metrics rate 0")
    damaged = [flipped(right, bit) for bit in range(8 * len(right))]
    said = said_by(tmp_path, Talk().message(order(5, "info")).apart(*damaged, right))
    assert said.orders()[0] == said.orders()[-1] == "obeyed"
    refused = said.orders()[1:-1]
    assert len(refused) == len(damaged)
    assert set(refused) <= {"bad_order", "not_ordered", "not_addressed", "old_order", "bad_mac"}


def test_no_bit_of_an_order_can_be_changed_by_who_has_the_secret_of_the_board(tmp_path: Path) -> None:
    """Only who has a key can make an order."""
    right = order(2**40, "metrics rate 0")
    signed, signature_at = right[:-MAC_BYTES], len(right) - MAC_BYTES - 64
    bits = [*range(8 * signature_at), *range(8 * signature_at, 8 * len(signed), 11)]
    damaged = [marked(flipped(signed, bit)) for bit in bits]
    said = said_by(tmp_path, Talk().message(order(5, "info")).apart(*damaged, right))
    assert said.orders()[0] == said.orders()[-1] == "obeyed"
    refused = said.orders()[1:-1]
    assert len(refused) == len(damaged)
    assert set(refused) <= {"bad_order", "not_ordered", "not_addressed", "old_order", "bad_signature"}
    assert refused.count("bad_signature") > 150


def with_lengths(addressee: int, command: int) -> bytes:
    """An order that gives other lengths to its texts than they have."""
    right = bytearray(order(1, "info"))
    own = right[16]
    right[16], right[17 + own] = addressee, command
    return marked(bytes(right[:-MAC_BYTES]))


FOREIGN: Dict[str, List[bytes]] = {
    "bad_signature": [order(9, "info", key=STRANGER)],
    "not_addressed": [
        order(9, "info", board="bed-8"),
        order(9, "info", board="bed-77"),
        order(9, "info", board="bed"),
        order(9, "info", federation="clinic-b"),
        order(9, "info", federation="clinic"),
        order(9, "info", secret=bytes(32)),
        *map(
            addressed,
            (
                PLACED[:-1],
                PLACED[:-16],
                PLACED + "0",
                PLACED + "/",
                PLACED.upper(),
                PLACED.replace("/", "."),
                "/" + PLACED,
                f"{NAME}/{FEDERATION}",
                "",
            ),
        ),
    ],
    "bad_order": [
        *(with_lengths(length, 4) for length in (0, 1, 147, 148, 255)),
        *(with_lengths(len(f"{FEDERATION}/{NAME}/") + 16, length) for length in (0, 3, 5, 161, 255)),
        *(marked(order(9, "info")[:length]) for length in range(8, len(order(9, "info")) - MAC_BYTES)),
        marked(order(9, "info")[:-MAC_BYTES] + b"\0"),
        *(addressed("f" * length) for length in (147, 200, 255)),
        *(addressed(PLACED, "x" * length) for length in (161, 255)),
        b"EWORDER1",
        b"EWORDER1" + bytes(600),
        b"EWORDER1" + b"\xff" * 2056,
        marked(order(9, "in\0fo".replace("\0", "_"))[:-MAC_BYTES].replace(b"in_fo", b"in\0fo")),
    ],
}


@pytest.mark.parametrize("code", FOREIGN)
def test_orders_of_others_for_others_and_such_as_are_none(tmp_path: Path, code: str) -> None:
    said = said_by(tmp_path, Talk().apart(*FOREIGN[code], order(1, "info")))
    assert said.orders() == [code] * len(FOREIGN[code]) + ["obeyed"]


def test_nothing_too_long_or_empty_disturbs(tmp_path: Path) -> None:
    other = [
        b"\0",
        b"EWORDER",
        bytes(2064),
        bytes(2065),
        b"\xff" * 60000,
        part(FRAME_INFER, bytes(30)),
        part(FRAME_SAMPLES),
    ]
    said = said_by(tmp_path, Talk().apart(*other, part(FRAME_SETTINGS, PLACE.packed()), order(1, "info")))
    assert set(said.orders()[:-1]) == {"bad_order", "not_ordered"}
    assert said.orders()[-1] == "obeyed"
    assert not said.restarted


BY_CABLE = (
    *("key list", "key lock", f"key set {'11' * 32}", f"key remove {'11' * 32}", "network", "reset", "bench 1"),
    *("record file 100 1 10", "record off", "record forbid", "stream 1 0 1 0", "stream off", "rule list"),
    *("rule clear", "rule set 1 1 128 1 0 hook", "infer", "results"),
    *("info ", "INFO", "metrics rate", "metrics  clear", "reboot now", "drift rows", "rollback b", "x" * 160),
)


def test_what_no_order_can_say(tmp_path: Path) -> None:
    """Each is an order of the owner, and spent."""
    orders = [order(number, command) for number, command in enumerate(BY_CABLE, 1)]
    said = said_by(tmp_path, Talk().message(*orders).apart(*orders).serial("key list", "info"))
    assert said.orders() == ["not_by_order"] * len(orders) + ["old_order"] * len(orders)
    assert [each["locked"] for each in said.on_serial("keys")] == [False]
    assert {record["kind"] for record in said.records} == {"order", "info"}


@pytest.mark.parametrize(
    "command",
    ["metrics rate 3600001", "metrics rate -1", "metrics rate 1 1", "drift rows x", "drift rows 31", "drift rows 1"],
)
def test_bad_arguments_are_said_to_be(tmp_path: Path, command: str) -> None:
    """Among them drift of so few inferences that its record would say what one was."""
    said = said_by(tmp_path, Talk().message(order(1, command)))
    assert [record["code"] for record in said.records if record["kind"] == "error"] == ["bad_argument"]


@pytest.mark.parametrize("digits", ["", "00", "g" * 64, "0" * 63, "0" * 65, "A" * 64])
def test_updates_of_no_digest(tmp_path: Path, digits: str) -> None:
    said = said_by(tmp_path, Talk().message(order(1, f"update {digits}")).apart(*parts(NEW)))
    assert said.orders()[0] == "bad_argument"
    assert set(said.updates()) == {"no_update"}


def test_an_order_leaves_no_number_on_what_comes_later(tmp_path: Path) -> None:
    said = said_by(tmp_path, Talk().message(order(4, "metrics rate 100")).wait(150).wait(150).serial("metrics"))
    metrics = [record for record in said.records if record["kind"] == "metrics"]
    assert len(metrics) == 3
    assert all("order" not in record for record in metrics)


def test_a_flood_has_an_answer_a_second(tmp_path: Path) -> None:
    nonsense = [b"x", part(9), order(1, "info"), *parts(NEW), flipped(order(7, "info"), 800)]
    talk = Talk().message(order(1, "info"))
    for _ in range(40):
        talk.message(*nonsense).wait(100)
    said = said_by(tmp_path, talk)
    assert said.orders()[0] == "obeyed"
    assert len(said.records) - 2 <= 5


def test_who_has_no_secret_keeps_no_order_from_being_read(tmp_path: Path) -> None:
    """A wrong signature takes the board long, so it has to rest from one; only an owner's can be wrong."""
    talk = Talk()
    for number in range(1, 20):
        talk.message(flipped(order(2**40, "info", key=STRANGER), 8 * 60), order(number, "metrics"))
    assert said_by(tmp_path, talk).orders().count("obeyed") == 19


def test_without_a_key_nobody_gives_orders(tmp_path: Path) -> None:
    image = flash(tmp_path)
    Talk().serial(f"key remove {raw_owner()}").to(image)
    said = Talk().apart(order(1, "info"), *parts(NEW)).to(image)
    assert said.orders()[0] == "bad_signature"
    assert "obeyed" not in said.orders()


def raw_owner() -> str:
    return raw_public(OWNER.public_key()).hex()


def test_numbers_survive_full_logs_and_one_bad_copy(tmp_path: Path) -> None:
    image = flash(tmp_path)
    orders = [order(number, "drift rows 0") for number in range(1, 301)]
    said = Talk().message(*orders).to(image)
    assert said.orders() == ["obeyed"] * 300
    content = bytearray(image.read_bytes())
    last = content.rindex(struct.pack("<IQ", 0x4E4F5745, 300), NETWORK.offset, NETWORK.offset + NETWORK.size)
    content[last + 5] ^= 0x10
    image.write_bytes(content)
    said = Talk().apart(orders[299], orders[0], order(301, "info")).to(image)
    assert said.orders() == ["old_order", "old_order", "obeyed"]
