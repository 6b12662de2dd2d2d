"""The log of certificates: what continues one, what does not, and what a log says of a name."""

import copy
from typing import Any, Callable, Dict, List, Sequence

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import WireError
from orchestrator.wire.transparency import (
    EMPTY,
    ISSUED,
    MOST_ENTRIES,
    REVOKED,
    Entry,
    Head,
    check_extends,
    check_signed,
    head_of,
    newest_of,
    read_log,
    view_of,
    write_log,
)

KEY = ec.generate_private_key(ec.SECP256R1())


def logged(*events: Sequence[str], key: ec.EllipticCurvePrivateKey = KEY) -> List[Entry]:
    """(event, name, serial) in their order, as an authority writes them."""
    entries: List[Entry] = []
    for event, name, serial in events:
        entry = Entry(len(entries) + 1, event, name, serial.rjust(64, "0"), serial, 1, head_of(entries).hash)
        signature = key.sign(entry.signed_bytes, ec.ECDSA(hashes.SHA256())).hex()
        entries.append(entry._replace(signature=signature))
    return entries


LOG = logged((ISSUED, "gateway", "1"), (ISSUED, "a", "2"), (ISSUED, "b", "3"), (REVOKED, "b", "3"), (ISSUED, "b", "4"))


def test_what_is_written_is_read() -> None:
    assert list(read_log(write_log(LOG))) == LOG
    assert read_log([]) == ()
    assert read_log(write_log(LOG[2:])) == tuple(LOG[2:])
    check_signed(LOG, KEY.public_key())


@given(known=st.integers(0, len(LOG)), first=st.integers(0, len(LOG) - 1), last=st.integers(1, len(LOG)))
def test_a_log_is_continued_by_what_reaches_back_to_what_was_seen(known: int, first: int, last: int) -> None:
    """`known` entries were seen; entries first+1..last are shown."""
    shown = LOG[first:last]
    if not shown:
        return
    if first <= known <= last:
        assert check_extends(head_of(LOG[:known]), shown) == tuple(LOG[known:last])
    else:
        with pytest.raises(WireError, match="it was cut"):
            check_extends(head_of(LOG[:known]), shown)


def test_a_log_that_was_rewritten_continues_nothing() -> None:
    other = logged((ISSUED, "gateway", "1"), (ISSUED, "a", "9"), (ISSUED, "b", "3"), (ISSUED, "c", "5"))
    for known in (2, 3):
        for shown in (other, other[known - 1 :], other[known:]):
            with pytest.raises(WireError, match=f"entry {known} .* is not the one that was there before"):
                check_extends(head_of(LOG[:known]), shown)
    with pytest.raises(WireError, match="an empty certificate log was shown"):
        check_extends(head_of(LOG), ())
    assert check_extends(EMPTY, ()) == ()


def change(field: str, value: Any, entry: int = 2) -> Callable[[List[Dict[str, Any]]], None]:
    def changed(log: List[Dict[str, Any]]) -> None:
        log[entry][field] = value

    return changed


@pytest.mark.parametrize(
    "damage",
    [
        change("name", "c"),
        change("key", "f" * 64),
        change("serial", "ff"),
        change("event", REVOKED),
        change("at", 2),
        change("seq", 7),
        change("before", "0" * 64),
        change("name", "b\x1b[2J"),
        change("name", "x" * 100),
        change("key", "F" * 64),
        change("key", None),
        change("seq", True, 0),
        change("seq", 1.0, 0),
        change("at", -1),
        change("serial", ""),
        change("signature", "zz" * 8),
        change("more", 1),
        lambda log: log.pop(2),
        lambda log: log.insert(2, log[2]),
        lambda log: log.reverse(),
        lambda log: log[1].pop("at"),
        lambda log: log.__setitem__(0, "entry"),
        lambda log: log.__setitem__(0, {**log[0], "seq": 0}),
    ],
)
def test_a_damaged_log_is_refused(damage: Callable[[List[Dict[str, Any]]], None]) -> None:
    log = copy.deepcopy(write_log(LOG))
    damage(log)
    with pytest.raises(WireError):
        read_log(log)


@pytest.mark.parametrize("value", [None, {}, "log", [None], [[]], [{}], [{}] * (MOST_ENTRIES + 1)])
def test_what_is_no_log_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        read_log(value)


def test_a_log_the_authority_did_not_sign_is_refused() -> None:
    """The last signature is enough: its entry names all before it."""
    gateway = logged((ISSUED, "gateway", "1"), (ISSUED, "a", "2"), key=ec.generate_private_key(ec.SECP256R1()))
    for log in (gateway, [*LOG[:-1], LOG[-1]._replace(signature=LOG[0].signature)]):
        with pytest.raises(WireError, match="not signed by the authority"):
            check_signed(log, KEY.public_key())
    check_signed((), KEY.public_key())


def test_the_newest_certificate_of_a_name_is_the_last_that_is_not_revoked() -> None:
    assert {name: entry.serial for name, entry in newest_of(LOG).items()} == {"gateway": "1", "a": "2", "b": "4"}
    assert "b" not in newest_of(LOG[:4])
    assert newest_of(LOG[:3])["b"].serial == "3"


def test_every_log_has_a_view_of_its_own() -> None:
    views = {view_of(head_of(LOG[:count])) for count in range(len(LOG) + 1)} | {view_of(Head(3, LOG[4].hash))}
    assert len(views) == len(LOG) + 2
    assert view_of(EMPTY) == view_of(Head(0, "0" * 64))
    assert {len(view) for view in views} == {32}
