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
    OLD,
    OWNER,
    PLACE,
    SECRET,
    STRANGER,
    Said,
    Talk,
    digest,
    flash,
    order,
    part,
    parts,
)

from model_export.model_bin import HEADER_BYTES
from model_export.signing import raw_public
from orchestrator.boards.partitions import NETWORK
from orchestrator.boards.protocol import FRAME_INFER, FRAME_SAMPLES, FRAME_SETTINGS, FRAME_UPDATE_BEGIN
from orchestrator.boards.settings import NetworkSettings

MAC_BYTES = 16
UPDATE = f"update {hashlib.sha256(NEW[:HEADER_BYTES]).hexdigest()}"
BACK = f"update {hashlib.sha256(OLD[:HEADER_BYTES]).hexdigest()}"
LARGEST = 2**63 - 1


def marked(signed: bytes) -> bytes:
    """An order, of what is before its mark, as somebody makes it who has the board's secret."""
    return signed + hmac.new(SECRET, signed, hashlib.sha256).digest()[:MAC_BYTES]


def numbered(number: int) -> bytes:
    """An order with a number that no sender gives it, otherwise right."""
    right = order(1, "info")
    content = right[:8] + struct.pack("<Q", number) + right[16 : -64 - MAC_BYTES]
    return marked(content + OWNER.sign(content))


def said_by(folder: Path, talk: Talk) -> Said:
    return talk.to(flash(folder))


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


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_no_bit_of_an_order_can_be_changed(tmp_path: Path) -> None:
    """By whoever carries it: without the secret nobody makes the board even check a signature."""
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
    ],
    "bad_order": [
        *(with_lengths(length, 4) for length in (0, 1, 147, 148, 255)),
        *(with_lengths(len(f"{FEDERATION}/{NAME}/") + 16, length) for length in (0, 3, 5, 161, 255)),
        *(marked(order(9, "info")[:length]) for length in range(8, len(order(9, "info")) - MAC_BYTES)),
        marked(order(9, "info")[:-MAC_BYTES] + b"\0"),
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
    *("record file 100 1 10", "record off", "record forbid", "stream 1 0 1 0", "stream off", "infer", "results"),
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
    assert said.updates() == []


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
    assert len(said.orders()) - 1 <= 5


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


# Updates.


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
    talk = Talk().message(order(1, UPDATE), begin, *spoiled).wait(1100).message(commit)
    for _ in range(40):
        talk.message(*chunks, commit, begin).wait(100)
    said = said_by(tmp_path, talk)
    assert said.updates().count("bad_sha256") == 1
    assert "active" not in said.updates()
    asked = 1 + 1 + len(chunks) + 1
    assert len(said.records) <= asked + 5


def test_a_chunk_that_came_already_is_answered_for_who_lost_the_answer(tmp_path: Path) -> None:
    begin, *chunks, commit = parts(NEW)
    said = said_by(
        tmp_path, Talk().message(order(1, UPDATE), begin, chunks[0]).apart(chunks[0]).message(*chunks[1:], commit)
    )
    assert said.updates() == ["ready", *["received"] * (len(chunks) + 1), "active"]


# What leaves.


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


# Settings.


def entry(tag: int, value: bytes) -> bytes:
    return struct.pack("<BH", tag, len(value)) + value


def filled(entries: bytes) -> bytes:
    return entries + (entry(0, bytes((-len(entries) - 3) % 4)) if len(entries) % 4 else b"")


GOOD = {
    "host": entry(3, b"h\0"),
    "port": entry(4, b"1883\0"),
    "federation": entry(5, b"f\0"),
    "name": entry(6, b"n\0"),
    "secret": entry(10, bytes(32)),
}
IDENTITY = entry(7, b"ca\0") + entry(8, b"certificate\0") + entry(9, b"key\0")


def entries(more: bytes = b"", **other: bytes) -> bytes:
    return filled(b"".join({**GOOD, **other}.values()) + more)


TAGS = {"host": 3, "port": 4, "federation": 5, "name": 6, "ssid": 1, "password": 2, "metrics": 11}
WRONG: Dict[str, bytes] = {
    **{f"without {name}": entries(**{name: b""}) for name in GOOD},
    **{f"{name} twice": entries(GOOD[name]) for name in GOOD},
    **{f"secret of {length}": entries(secret=entry(10, bytes(length))) for length in (0, 16, 31, 33, 64)},
    **{
        f"name {bad!r}": entries(name=entry(6, bad + b"\0"))
        for bad in (b"", b"A", b"a/b", b"+", b"#", b"a b", b"x" * 65, b"\xc3\xa9")
    },
    **{f"federation {bad!r}": entries(federation=entry(5, bad + b"\0")) for bad in (b"", b"../a", b'"', b"x" * 65)},
    **{
        f"host {bad!r}": entries(host=entry(3, bad + b"\0"))
        for bad in (b"", b"a\nb", b'a"', b"a\\", b"\xff", b"h" * 254)
    },
    **{
        f"port {bad!r}": entries(port=entry(4, bad + b"\0"))
        for bad in (b"", b"0", b"65536", b"-1", b"1 ", b"99999999999999999999")
    },
    **{
        f"{name} without an end": entries(**{name: entry(TAGS[name], b"a1")})
        for name in ("host", "port", "federation", "name")
    },
    "a zero within": entries(host=entry(3, b"a\0b\0")),
    "ssid of 33": entries(entry(1, b"s" * 33 + b"\0")),
    "password of 65": entries(entry(2, b"s" * 65 + b"\0")),
    "metrics of more than an hour": entries(entry(11, b"3600001\0")),
    "a key without a certificate": entries(entry(7, b"ca\0") + entry(9, b"key\0")),
    "a certificate without a key": entries(entry(7, b"ca\0") + entry(8, b"c\0")),
    "an identity without who is believed": entries(entry(8, b"c\0") + entry(9, b"key\0")),
    "an unknown tag": entries(entry(12, b"x\0")),
    "the last tag": entries(entry(255, b"x\0")),
    "no whole words": b"".join(GOOD.values()) + b"\0" * (4 - len(b"".join(GOOD.values())) % 4 + 1),
    "too long": entries(entry(0, bytes(4076))),
    "a length beyond the end": entries() + struct.pack("<BH", 7, 2) + b"\0",
    "half a head": entries() + b"\0\0\0\0"[:2] + b"\0\0",
}


def test_settings_that_are_none_leave_the_place_as_it_is(tmp_path: Path) -> None:
    talk = Talk()
    for wrong in WRONG.values():
        talk.frame(FRAME_SETTINGS, wrong)
    said = said_by(tmp_path, talk.serial("network").message(order(1, "info")))
    assert not said.restarted
    codes = [each["code"] for each in said.on_serial("error")]
    assert codes == ["bad_settings"] * len(WRONG), [name for name, code in zip(WRONG, codes) if code != "bad_settings"]
    assert [each["federation"] for each in said.on_serial("network")] == [FEDERATION]
    assert said.orders() == ["obeyed"]


def test_no_settings_that_are_cut_short_are_kept(tmp_path: Path) -> None:
    whole = PLACE.packed()
    talk = Talk()
    for length in range(4, len(whole), 4):
        talk.frame(FRAME_SETTINGS, whole[:length])
    said = said_by(tmp_path, talk)
    assert not said.restarted
    assert {each["code"] for each in said.on_serial("error")} == {"bad_settings"}


def test_locked_keys_lock_the_place(tmp_path: Path) -> None:
    image = flash(tmp_path, locked=True)
    said = Talk().frame(FRAME_SETTINGS, entries()).frame(FRAME_SETTINGS, b"").serial("network").to(image)
    assert [each["code"] for each in said.on_serial("error")] == ["keys_locked", "keys_locked"]
    assert [each["federation"] for each in said.on_serial("network")] == [FEDERATION]
    assert not said.restarted


def test_the_same_settings_again_bring_no_order_back(tmp_path: Path) -> None:
    image, given = flash(tmp_path), order(9, "metrics clear")
    assert Talk().message(given).to(image).orders() == ["obeyed"]
    written = [(PLACE.packed(), SECRET), (b"", SECRET), (entries(), SECRET), (PLACE.packed(), bytes(32))]
    for body, before in written:
        assert Talk().frame(FRAME_SETTINGS, body).to(image, secret=before).restarted
    said = Talk().apart(given, order(10, "info")).to(image)
    assert said.orders() == ["old_order", "obeyed"]


def test_other_settings_make_another_board(tmp_path: Path) -> None:
    image, secret = flash(tmp_path), b"\x55" * 32
    Talk().message(order(LARGEST, "info")).to(image)
    other = NetworkSettings(NAME, FEDERATION, "h", 1883, secret)
    assert Talk().frame(FRAME_SETTINGS, other.packed()).to(image).restarted
    said = Talk().apart(order(1, "info"), order(1, "info", secret=secret)).to(image, secret=secret)
    assert said.orders() == ["not_addressed", "obeyed"]  # and numbers begin again
    assert Talk().frame(FRAME_SETTINGS, b"").to(image, secret=secret).restarted
    said = Talk().message(order(1, "info")).serial("info").to(image)
    assert (said.records, said.presences) == ([], [])


def test_settings_are_never_read_back(tmp_path: Path) -> None:
    keys = {"certificate": b"-----CERT-----", "key": b"-----PRIVATE-----", "ca": b"-----CA-----"}
    secret = bytes(range(100, 132))
    place = NetworkSettings(NAME, FEDERATION, "h", 8883, secret, ssid="cellar", password="under the mat", **keys)
    image = flash(tmp_path, place)
    commands = ("info", "metrics", "network", "key list", "selftest", "bench 1", "settings", "network all", "rollback")
    talk = (
        Talk().serial(*commands, "name%", "profile%", "results%").frame(FRAME_SETTINGS, b"\x0b\x01\0x").frame(0x31, b"")
    )
    orders = [order(number, command, secret=secret) for number, command in enumerate(commands[:5], 1)]
    said = talk.message(*orders).to(image, secret=secret)
    for hidden in (secret, secret.hex().encode(), *keys.values(), b"cellar", b"under the mat"):
        assert hidden not in said.everything


@pytest.mark.parametrize("bit", [3, 40, 70, 8 * 16 + 5, 8 * 60, 8 * 100])
def test_a_damaged_place_is_none(tmp_path: Path, bit: int) -> None:
    image = flash(tmp_path)
    content = image.read_bytes()
    image.write_bytes(flipped(content, 8 * NETWORK.offset + bit))
    said = Talk().message(order(1, "info")).serial("info", "network").to(image)
    assert (said.records, said.presences) == ([], [])
    assert "bad_settings" in [each["code"] for each in said.on_serial("error")]
    assert len(said.on_serial("info")) == 1
