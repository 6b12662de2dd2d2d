"""Where a board belongs, over serial: whole or refused, never read back, and no order comes back with it."""

import struct
from pathlib import Path
from typing import Dict

import pytest
from network_talk import FEDERATION, NAME, PLACE, SECRET, Talk, flash, flipped, order, said_by

from orchestrator.boards.partitions import NETWORK
from orchestrator.boards.protocol import FRAME_SETTINGS
from orchestrator.boards.settings import NetworkSettings

LARGEST = 2**63 - 1


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
    ca, certificate, key = b"-----CA-----", b"-----CERT-----", b"-----PRIVATE-----"
    secret = bytes(range(100, 132))
    place = NetworkSettings(NAME, FEDERATION, "h", 8883, secret, ca, certificate, key, "cellar", "under the mat")
    image = flash(tmp_path, place)
    commands = ("info", "metrics", "network", "key list", "selftest", "bench 1", "settings", "network all", "rollback")
    talk = (
        Talk().serial(*commands, "name%", "profile%", "results%").frame(FRAME_SETTINGS, b"\x0b\x01\0x").frame(0x31, b"")
    )
    orders = [order(number, command, secret=secret) for number, command in enumerate(commands[:5], 1)]
    said = talk.message(*orders).to(image, secret=secret)
    for hidden in (secret, secret.hex().encode(), ca, certificate, key, b"cellar", b"under the mat"):
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
