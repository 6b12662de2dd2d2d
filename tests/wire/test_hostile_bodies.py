"""Small messages that ended processes: each is refused, wherever it comes from, and a gateway starts with it retained."""

import struct
from pathlib import Path
from typing import Any, Dict, List

import cbor2
import numpy as np
import pytest
import zstandard

from orchestrator.errors import UsageError, WireError
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.refused import MOST_REFUSED, MOST_SAID, Refused
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.listener import Listener
from orchestrator.rounds.events import Declined
from orchestrator.wire.board_records import parse_object
from orchestrator.wire.body import MAX_HEADER_BYTES, PRESENCE_BYTES, decode_body, encode_body, require
from orchestrator.wire.cbor import NARROW, Limits, read_cbor
from orchestrator.wire.frames import encode_frame, split
from orchestrator.wire.link import BrokerAddress, Message
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.secure_steps import Shares
from orchestrator.wire.task import Rounds, Task, task_from_dict, task_to_dict
from orchestrator.wire.training import Training
from orchestrator.wire.transfer import transfer_id

LIMIT = 1 << 20


def body_of(header: bytes, rest: bytes = b"") -> bytes:
    content = struct.pack("<I", len(header)) + header + rest
    return b"EWB\x01" + zstandard.ZstdCompressor(level=19).compress(content)


def bomb(size: int) -> bytes:
    """A presence with `size` zeros, written piece by piece."""
    header = cbor2.dumps({"kind": "hello", "tensors": [["a", "uint8", [size]]]})
    begin = struct.pack("<I", len(header)) + header
    compressor = zstandard.ZstdCompressor(level=19).compressobj(size=len(begin) + size)
    pieces = [compressor.compress(begin), *(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20))]
    return b"EWB\x01" + b"".join(pieces) + compressor.flush()


def shared() -> bytes:
    """Ten lists in each of ten, nine times over: few bytes that become a billion values when they are walked."""
    value: Any = [1]
    for _ in range(9):
        value = [value] * 10
    return cbor2.dumps({"kind": "hello", "x": value}, value_sharing=True)


BODIES: Dict[str, bytes] = {
    "a number of 20,000 bits": body_of(cbor2.dumps({"kind": 1 << 20_000})),
    "a number of 65 bits": body_of(cbor2.dumps({"kind": "ready", "records": 1 << 64})),
    "a zero beside huge dimensions": body_of(
        cbor2.dumps({"kind": "hello", "tensors": [["a", "float32", [1 << 31, 0, 1 << 31]]]})
    ),
    "shared references": body_of(shared()),
    "16 KB of 500 MB": bomb(500 << 20),
    "a reason of 1 MB": body_of(cbor2.dumps({"kind": "declined", "run": "run", "code": "a", "reason": "A" * 900_000})),
    "bytes for text": body_of(
        cbor2.dumps({"kind": "waiting", "run": "run", "code": "policy.approval", "digest": b"d" * 64})
    ),
    "a date": body_of(b"\xa1\x64kind\xc1\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
    "a pattern": body_of(b"\xa1\x64kind\xd8\x23\x6c(a+)+(a+)+$$"),
    "a decimal of 10^9 digits": body_of(b"\xa1\x64kind\xc4\x82\x1a\x3b\x9a\xca\x00\x01"),
    "a length that comes later": body_of(b"\xbf\x64kind\x65hello\xff"),
    "a list of 2^60": body_of(b"\xa1\x64kind\x9b\x10" + bytes(7)),
    "41 levels": body_of(b"\xa1\x64kind" + b"\x81" * 41 + b"\x01"),
    "the same key twice": body_of(b"\xa2\x64kind\x65hello\x64kind\x64gone"),
    "a lone surrogate": body_of(b"\xa1\x64kind\x63\xed\xa0\x80"),
}


@pytest.fixture
def run(tmp_path: Path) -> Store:
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    task = Task("t", schema, {}, Training(rounds=5), Privacy(unit="none"), Rounds(nodes=3, quorum=2), codec="float32")
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(task), b"graph", np.zeros(8, np.float32))
    return store


def gateway_of(store: Store, told: List[Dict[str, Any]]) -> Gateway:
    gateway = Gateway(store, "run", "f", BrokerAddress("127.0.0.1", 1), progress=told.append)
    gateway.link.publish = lambda topic, payload, retain=False: None  # type: ignore[method-assign]
    return gateway


def say(gateway: Gateway, node: str, payload: bytes, kind: str = "presence") -> None:
    gateway.receive(Message(f"edgeward/1/f/node/{node}/{kind}", payload))


READY = encode_body({"kind": "ready", "run": "run", "records": 10})


@pytest.mark.parametrize("what", BODIES)
def test_small_messages_that_are_large_inside(run: Store, what: str) -> None:
    body = BODIES[what]
    told: List[Dict[str, Any]] = []
    assert len(body) < 20_000
    gateway = gateway_of(run, told)  # one that begins, and finds it retained
    say(gateway, "a", body)
    assert [event["event"] for event in told] == ["refused"], what
    assert len(told[0]["reason"]) <= 500
    say(gateway, "a", READY)
    assert gateway.coordinator.online == {"a": 10}
    for chunk in split(transfer_id(body), body):
        say(gateway, "a", encode_frame(chunk), "up")
    listener = Listener(None, "f")
    listener.take(Message("edgeward/1/f/node/a/presence", body), 0.0)
    assert not listener.presence() or what == "bytes for text"  # of which a dashboard shows none


def test_an_update_may_be_as_large_as_its_model_and_other_kinds_only_small(run: Store) -> None:
    told: List[Dict[str, Any]] = []
    gateway = gateway_of(run, told)
    for node in ("a", "b", "c"):
        say(gateway, node, READY)
    for kind in ("update", "step", "abstain", "nonsense"):
        body = encode_body({"kind": kind, "run": "run", "round": 1}, {"update": np.zeros(1 << 18, np.float32)})
        assert len(body) < 1000
        for chunk in split(transfer_id(body), body):
            say(gateway, "a", encode_frame(chunk), "up")
        assert "announces 1048" in told[-1]["reason"], kind
        assert not gateway.coordinator.arrived
    before = len(told)
    large = np.random.default_rng(0).bytes(1 << 20)
    say(gateway, "a", encode_frame(split(transfer_id(large), large)[0]), "up")
    assert told[before]["reason"].startswith("a announces 1048576 bytes, at most")


def test_the_size_of_a_message_is_asked_for_with_its_header_alone() -> None:
    seen: List[Any] = []

    def most(header: Dict[str, Any]) -> int:
        seen.append(header)
        return 1000

    body = encode_body({"kind": "update", "x": 1}, {"u": np.zeros(300 << 18, np.float32)}, level=1)
    with pytest.raises(WireError, match="at most 1000"):
        decode_body(body, most)
    assert seen == [{"kind": "update", "x": 1, "tensors": [["u", "float32", [300 << 18]]]}]
    header, tensors = decode_body(encode_body({"x": "y" * 60_000}, {"u": np.ones(3, np.int8)}), lambda h: LIMIT)
    assert (header, tensors["u"].tolist()) == ({"x": "y" * 60_000}, [1, 1, 1])


@pytest.mark.parametrize(
    ("limits", "value"),
    [
        (Limits(depth=2), [[[1]]]),
        (Limits(items=3), [1, 2, 3]),
        (Limits(text_bytes=3), "four"),
        (Limits(text_bytes=3), b"four"),
    ],
)
def test_each_limit_is_kept_and_reached(limits: Limits, value: Any) -> None:
    with pytest.raises(WireError):
        read_cbor(cbor2.dumps(value), limits)
    assert read_cbor(cbor2.dumps(value[:-1] if len(value) > 1 else value[0]), limits) in (value[:-1], value[0])


@pytest.mark.parametrize("number", [1 << 63, (1 << 64) - 1, -(1 << 63) - 1, -(1 << 64), 1 << 64, -(1 << 70)])
def test_whole_numbers_have_64_bits(number: int) -> None:
    with pytest.raises(WireError):
        read_cbor(cbor2.dumps(number))
    for most in ((1 << 63) - 1, -(1 << 63)):
        assert read_cbor(cbor2.dumps(most)) == most


def test_tensors_are_counted_and_named_once() -> None:
    with pytest.raises(WireError, match="at most 0"):
        decode_body(encode_body({"kind": "hello"}, {"x": np.zeros(1, np.int8)}), PRESENCE_BYTES, NARROW)
    twice = cbor2.dumps({"tensors": [["w", "int8", [1]], ["w", "int8", [1]]]})
    with pytest.raises(WireError, match="twice"):
        decode_body(body_of(twice, b"ab"), LIMIT)
    with pytest.raises(WireError, match="at most 1048576 fit"):
        encode_body({"x": "y" * MAX_HEADER_BYTES})


def test_what_a_refusal_quotes_is_short_and_printable() -> None:
    shares = {"shares": {"\x1b[2J" * 99: 1}}
    for call in (lambda h: require(h, "digest", str), lambda h: Shares.read({**h, **shares})):
        with pytest.raises(WireError) as refused:
            call({"kind": "k" * 9999, "digest": b"\x1b" * 9999})
        assert len(str(refused.value)) < 300
        assert str(refused.value).isprintable()


def test_a_task_is_text_and_numbers() -> None:
    with pytest.raises(UsageError, match="holds bytes"):
        task_from_dict({"model": {"kind": b"x"}})


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 9' + b"9" * 400 + b"}",
        b'{"a": ' + b"9" * 4300 + b"}",
        b'{"a": 1e999}',
        b'{"a": NaN}',
        b"[1]",
        b"[" * 99_999,
    ],
)
def test_numbers_in_records_are_such_as_one_can_compute_with(text: bytes) -> None:
    assert parse_object(text, 1 << 20) is None
    assert parse_object(b'{"a": -9223372036854775808, "b": 1e300}', 99) == {"a": -(1 << 63), "b": 1e300}
    listener = Listener(None, "f")
    listener.take(Message("edgeward/1/f/board/b/record", text), 0.0)
    assert listener.boards() == []


def test_who_keeps_sending_nonsense_is_dropped_and_named(run: Store, caplog: pytest.LogCaptureFixture) -> None:
    told: List[Dict[str, Any]] = []
    gateway = gateway_of(run, told)
    for node in ("a", "b"):
        say(gateway, node, READY)
    for i in range(3 * MOST_REFUSED):
        say(gateway, "a", b"nonsense %d" % i)
        say(gateway, "nobody", b"nonsense")
    declined = [(e["node"], e["code"]) for e in told if e["event"] == "declined"]
    assert sorted(declined) == [("a", "gateway.messages"), ("nobody", "gateway.messages")]
    assert [e.node for e in run.journal("run") if isinstance(e, Declined)] == ["a"], "invented names fill no journal"
    assert "a" not in gateway.coordinator.online
    assert 0 < len([e for e in told if e["event"] == "refused" and e["node"] == "a"]) <= MOST_REFUSED + 1
    assert "nonsense" not in caplog.text, "once is enough: the line is the event's"
    say(gateway, "a", READY)
    assert "a" not in gateway.coordinator.online
    say(gateway, "c", READY)
    assert set(gateway.coordinator.online) == {"b", "c"}


def test_who_sends_nonsense_now_and_then_is_not_dropped_and_not_quoted_for_ever() -> None:
    refused = Refused()
    for i in range(1000):
        assert not refused.message("slow", now=60.0 * i)
        assert not refused.message("bad line", now=0.0)
        for _ in range(10):
            refused.accepted("bad line")
    assert sum(refused.says_more("slow") for _ in range(1000)) == MOST_SAID

    def is_dropped(now: float) -> bool:
        dropped = refused.message("mostly nonsense", now=now)
        if not dropped:
            refused.accepted("mostly nonsense")
        return dropped

    assert any(is_dropped(i) for i in range(100))
    assert not refused.listens_to("mostly nonsense")
