"""The embedded broker's guard: what a client may send, hold and leave unread, over real sockets."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading
import time
from typing import Any, Iterator, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("amqtt", reason="amqtt comes with the gateway, not on a node")

from orchestrator.gateway import broker_guard, doorkeeper, embedded_broker, guarded_connection
from orchestrator.gateway.broker import OwnBroker, free_port
from orchestrator.gateway.mqtt_packets import (
    MOST_RETAINED_BYTES,
    PacketError,
    Publish,
    Subscribe,
    identifier,
    named,
    read_packet,
)
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Link, Message


def text(value: str) -> bytes:
    return struct.pack("!H", len(value.encode())) + value.encode()


def packet(first: int, body: bytes) -> bytes:
    size, encoded = len(body), b""
    while True:
        size, digit = divmod(size, 128)
        encoded += bytes([digit | (128 if size else 0)])
        if not size:
            return bytes([first]) + encoded + body


def connect(name: str, keep_alive_s: int = 0, flags: int = 2, level: int = 4, rest: bytes = b"") -> bytes:
    head = b"\x00\x04MQTT" + bytes([level, flags]) + struct.pack("!H", keep_alive_s)
    return packet(0x10, head + text(name) + rest)


def publish(topic: str, payload: bytes, qos: int = 0, flags: int = 0) -> bytes:
    return packet(0x30 | qos << 1 | flags, text(topic) + (b"\x00\x07" if qos else b"") + payload)


def subscribe(*filters: str, qos: int = 0) -> bytes:
    return packet(0x82, b"\x00\x01" + b"".join(text(f) + bytes([qos]) for f in filters))


GUARDS: List[broker_guard.Guard] = []
BROKERS: List[broker_guard.RetainingBroker] = []


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A guarded broker in this process, so that a test can set its limits first."""

    class Known(broker_guard.Guard):
        def __init__(self, broker: Any) -> None:
            super().__init__(broker)
            GUARDS.append(self)
            BROKERS.append(broker)

    monkeypatch.setattr(broker_guard, "Guard", Known)
    loop, stopped, number = asyncio.new_event_loop(), asyncio.Event(), free_port()
    listening = embedded_broker.listen("127.0.0.1", number)
    thread = threading.Thread(target=loop.run_until_complete, args=(embedded_broker.serve(listening, stopped),))
    thread.start()
    yield number
    loop.call_soon_threadsafe(stopped.set)
    thread.join()
    loop.close()


def dial(port: int, *says: bytes) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=600)
    link.sendall(b"".join(says))
    return link


def until_end(link: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    came = b""
    with contextlib.suppress(ConnectionError):
        while True:
            part = link.recv(65536)
            if not part:
                break
            came += part
    link.close()
    return came


def opened(port: int, name: str, *topics: str) -> Link:
    link = Link(BrokerAddress("127.0.0.1", port), name, topics)
    link.open(60)
    assert isinstance(link.events.get(timeout=600), Connected)
    return link


def heard(link: Link, payload: bytes) -> List[bytes]:
    """Payloads up to this one."""
    came: List[bytes] = []
    while payload not in came:
        event = link.events.get(timeout=600)
        assert not isinstance(event, Disconnected), event
        if isinstance(event, Message):
            came.append(event.payload)
    return came


def works(port: int) -> None:
    link = opened(port, f"check-{time.monotonic_ns()}", "check")
    while True:  # the subscription may come after the first of them
        link.publish("check", b"x")
        with contextlib.suppress(Exception):
            if isinstance(link.events.get(timeout=1), Message):
                break
    link.close()


WRONG = {
    "reserved type": b"\x00\x00",
    "type 15": b"\xf0\x02\x00\x00",
    "endless length": b"\x30\xff\xff\xff\xff\xff",
    "topic longer than its packet": b"\x30\x03\xff\xffx",
    "not UTF-8": b"\x30\x05\x00\x03a/\xff",
    "null character": publish("a\0b", b""),
    "QoS 2": publish("t", b"", 2),
    "QoS 3": publish("t", b"", 3),
    "packet identifier 0": packet(0x32, text("t") + b"\x00\x00"),
    "wildcard": publish("a/#", b""),
    "topic of the broker's own": publish("$SYS/x", b""),
    "no topic": publish("", b""),
    "large retained message": publish("t", bytes((64 << 10) + 1), flags=1),
    "no filter": b"\x82\x02\x00\x01",
    "wrong filter": subscribe("a/#/b"),
    "many filters": subscribe(*(f"f/{i}" for i in range(21))),
    "unsubscribe": packet(0xA2, b"\x00\x01" + text("t")),
    "second CONNECT": connect("again"),
    "acknowledgement of QoS 2": b"\x62\x02\x00\x01",
    "announced 256 MB": b"\x30\xff\xff\xff\x7f",
}

NO_CONNECT = {
    "another packet": publish("t", b""),
    "another protocol": connect("x", level=5),
    "a session that stays": connect("x", flags=0),
    "reserved flag": connect("x", flags=3),
    "password without a user": connect("x", flags=0x42),
    "will of QoS 2": connect("x", flags=0x16, rest=text("t") + text("w")),
    "will on a wildcard": connect("x", flags=6, rest=text("#") + text("w")),
    "flags of no will": connect("x", flags=0x22),
    "bytes behind": connect("x", rest=b"x"),
    "cut short": connect("x", flags=6),
    "long name": connect("x" * 257),
    "announced 256 MB": b"\x10\xff\xff\xff\x7f",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def test_what_is_no_mqtt_costs_its_sender_the_connection_and_nobody_else(port: int) -> None:
    other = opened(port, "other", "t")
    for what, wrong in WRONG.items():
        link = dial(port, connect(what.replace(" ", "-")), wrong, b"\xc0\x00" * 10)
        assert b"\xd0" not in until_end(link), what  # no ping was answered after it
    for what, wrong in NO_CONNECT.items():
        assert until_end(dial(port, wrong, connect("later"))) == b"", what
    other.publish("t", b"still here")
    assert heard(other, b"still here") == [b"still here"]
    for _ in range(30):  # ended while they begin, under one name
        until_end(dial(port, connect("again"), b"\x00\x00"))
    deadline = time.monotonic() + 120
    while len(GUARDS[-1].connections) > 1 or len(BROKERS[-1].sessions) > 1:
        assert time.monotonic() < deadline, "nothing is left of a connection that ended"
        time.sleep(0.05)
    other.close()


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 15), st.integers(0, 15), st.binary(max_size=60))
def test_any_packet_is_read_or_refused(kind: int, flags: int, body: bytes) -> None:
    with contextlib.suppress(PacketError):
        read_packet(kind, flags, body)


@given(st.text("abc/", min_size=1, max_size=200), st.binary(max_size=300), st.booleans())
def test_what_is_right_is_read_as_it_is(topic: str, payload: bytes, retain: bool) -> None:
    whole = publish(topic, payload, 1, int(retain))
    start = len(whole) - len(text(topic)) - 2 - len(payload)
    assert read_packet(3, 2 | retain, whole[start:]) == Publish(topic, 7, len(payload) if retain else -1)
    assert identifier(whole) == 7
    assert read_packet(8, 2, subscribe(topic, "+/#")[2:] if len(topic) < 100 else b"\x00\x01" + text(topic) + b"\x00")
    assert named(connect(""), "given") == connect("given")
    assert named(connect("", rest=text(topic), flags=0x82), "given") == connect("given", rest=text(topic), flags=0x82)


def test_filters_are_read() -> None:
    assert read_packet(8, 2, subscribe("a/+/b", "#")[2:]) == Subscribe(("a/+/b", "#"))


def test_a_client_without_a_name_gets_one(port: int) -> None:
    link = dial(port, connect(""), subscribe("t", qos=2), publish("t", b"hello"))
    came = b""
    while b"hello" not in came:
        came += link.recv(4096)
    assert came.startswith(b"\x20\x02\x00\x00"), "CONNACK"
    link.close()


def test_a_second_client_of_a_name_ends_the_first_whose_will_comes_before_what_the_second_says(port: int) -> None:
    other = opened(port, "other", "t")
    time.sleep(0.3)  # the subscription
    will = text("t") + text("the first is gone")
    first = dial(port, connect("same", flags=6, rest=will))
    assert first.recv(4) == b"\x20\x02\x00\x00"
    second = dial(port, connect("same"), publish("t", b"the second is here"))
    assert until_end(first) == b""
    assert heard(other, b"the second is here") == [b"the first is gone", b"the second is here"]
    second.close()
    other.close()


def test_a_broker_that_stood_still_ends_nobody_for_it() -> None:
    """Stopped for longer than a keep-alive allows, as a machine that slept."""
    with OwnBroker("embedded") as broker:
        link = dial(broker.address.port, connect("sleeper", keep_alive_s=4))
        assert link.recv(4) == b"\x20\x02\x00\x00"
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        time.sleep(8)
        os.kill(broker.pid, signal.SIGCONT)
        time.sleep(1.5)  # it looks round once
        link.sendall(b"\xc0\x00")
        assert link.recv(2) == b"\xd0\x00"
        link.close()


def test_who_reads_nothing_is_ended_and_others_go_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_connection, "DEAF_S", 1.0)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.settimeout(60)
    deaf.connect(("127.0.0.1", port))
    deaf.sendall(connect("deaf") + subscribe("t"))
    other = opened(port, "other", "t")
    time.sleep(0.3)  # the subscriptions
    for _ in range(40):
        other.publish("t", bytes(256 << 10))
    other.publish("t", b"last")
    assert len(heard(other, b"last")) == 41
    time.sleep(3)
    assert len(until_end(deaf)) < 40 * (256 << 10), "what it held was given up"
    other.close()


def test_a_reader_without_room_loses_messages_and_not_its_connection(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_guard, "MOST_HELD_BYTES", 1 << 20)
    monkeypatch.setattr(guarded_connection, "DEAF_S", 1e9)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.settimeout(60)
    slow.connect(("127.0.0.1", port))
    slow.sendall(connect("slow") + subscribe("t"))
    other = opened(port, "other", "t")
    time.sleep(0.3)
    for number in range(100):
        other.publish("t", struct.pack("!I", number) * (64 << 8))
    other.publish("t", b"last")
    heard(other, b"last")
    came = b""
    slow.sendall(b"\xc0\x00")
    while not came.endswith(b"\xd0\x00"):  # the answer to its ping
        came += slow.recv(1 << 20)
    assert len(came) < 100 * (64 << 10)
    other.publish("t", b"afterwards")
    while b"afterwards" not in came:
        came += slow.recv(1 << 20)
    slow.close()
    other.close()


def test_messages_that_are_not_acknowledged_are_held_against_a_client(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_connection, "DEAF_S", 1.0)
    link = dial(port, connect("mute"), subscribe("t", qos=1))
    other = opened(port, "other")
    time.sleep(0.3)
    other.publish("t", b"acknowledge me")
    assert b"acknowledge me" in until_end(link)
    other.close()


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ((doorkeeper, "ASK_S"), b""),
        ((doorkeeper, "ASK_S"), connect("half")[:9]),
        ((guarded_connection, "PACKET_S"), connect("half") + b"\x30\x7f\x00\x01t"),
        (None, connect("silent", keep_alive_s=1)),
    ],
    ids=["nothing", "half a CONNECT", "half a packet", "no word within its keep alive"],
)
def test_who_keeps_it_waiting_is_ended(
    port: int, monkeypatch: pytest.MonkeyPatch, limit: "Tuple[Any, str] | None", says: bytes
) -> None:
    if limit is not None:
        monkeypatch.setattr(*limit, 0.5)
    until_end(dial(port, says))
    works(port)


def answered(link: socket.socket, *says: bytes) -> None:
    """Sends, and waits until all of it was read."""
    link.sendall(b"".join(says) + b"\xc0\x00")
    came = b""
    while not came.endswith(b"\xd0\x00"):
        part = link.recv(4096)
        assert part, came
        came += part


def retained(port: int, topics: str) -> List[bytes]:
    link = opened(port, f"looks-{time.monotonic_ns()}", topics)
    time.sleep(0.2)  # what is retained may come behind the answer to the subscription
    link.publish(topics.replace("+", "end"), b"end")
    came = heard(link, b"end")
    link.close()
    return sorted(set(came) - {b"end"})


def test_who_retains_most_makes_room_for_others_and_gets_none(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a stranger retains: a node's one message always finds its place."""
    monkeypatch.setattr(broker_guard, "MOST_RETAINED", 3)
    stranger = dial(port, connect("stranger"))
    answered(stranger, *(publish(f"r/{i}", b"%d" % i, flags=1) for i in (0, 1, 2, 0, 1)))
    assert retained(port, "r/+") == [b"0", b"1", b"2"]
    answered(node := dial(port, connect("node")), publish("r/node", b"node", flags=1))
    assert retained(port, "r/+") == [b"0", b"1", b"node"], "the oldest of the stranger's gave way"
    answered(dial(port, connect("unretained", flags=0x06, rest=text("r/will") + text("will"))))
    answered(dial(port, connect("other", flags=0x26, rest=text("r/other") + text("will"))))
    answered(stranger, publish("r/1", b"", flags=1), publish("r/0", b"again", flags=1))
    stranger.sendall(publish("r/5", b"x", flags=1) + publish("r/6", b"x", flags=1) + publish("r/7", b"x", flags=1))
    until_end(stranger)
    assert b"node" in retained(port, "r/+")
    node.close()


def test_strangers_of_many_names_push_no_message_of_a_client_that_is_here_out(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them retains as little as a node does, and goes."""
    monkeypatch.setattr(broker_guard, "MOST_RETAINED", 4)
    answered(node := dial(port, connect("node")), publish("r/node", b"node", flags=1))
    for number in range(8):
        with dial(port, connect(f"stranger-{number}")) as stranger:
            answered(stranger, publish(f"r/{number}", b"%d" % number, flags=1))
        while f"stranger-{number}" in GUARDS[-1].named:
            time.sleep(0.01)
    assert retained(port, "r/+") == [b"5", b"6", b"7", b"node"]
    node.close()


def test_there_is_room_for_one_message_of_every_connection() -> None:
    assert broker_guard.MOST_CONNECTIONS <= broker_guard.MOST_RETAINED
    assert broker_guard.MOST_CONNECTIONS * MOST_RETAINED_BYTES <= broker_guard.MOST_RETAINED_IN_ALL_BYTES


def test_filters_have_an_end(port: int) -> None:
    until_end(dial(port, connect("fourth"), *(subscribe(*(f"f/{k}/{i}" for i in range(15))) for k in range(2))))
    works(port)


class Pipe:
    """A transport whose other end reads all and acknowledges nothing."""

    def __init__(self) -> None:
        self.aborted = 0

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted += 1
        assert self.aborted < 10, "the same connection again and again"

    def is_closing(self) -> bool:
        return self.aborted > 0

    def write(self, data: bytes) -> None:
        pass


def test_room_is_made_for_once_by_each_of_many_that_acknowledge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose bytes are counted though the kernel has taken them; ending one has to free them."""
    monkeypatch.setattr(broker_guard, "MOST_HELD_IN_ALL_BYTES", 5000)
    monkeypatch.setattr(broker_guard, "LOOK_S", 0.0)
    guard = broker_guard.Guard(None)  # type: ignore[arg-type]
    pipes = [Pipe() for _ in range(5)]
    connections = []
    for number, pipe in enumerate(pipes):
        writer: Any = type("Writer", (), {"transport": pipe, "get_extra_info": lambda self, name: None})()
        connections.append(guarded_connection.Connection(guard, None, writer))  # type: ignore[arg-type]
        guard.connections.add(connections[-1])
        message = packet(0x32, text("t") + struct.pack("!H", 7) + bytes(1200))
        connections[-1].write(message)
        assert guard.held == min(number + 1, 4) * len(message)
    assert [pipe.aborted for pipe in pipes] == [1, 0, 0, 0, 0], "the one that was deaf the longest"
    assert connections[0].held == 0


def test_silent_connections_take_no_place_and_others_keep_theirs(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(broker_guard, "MOST_CONNECTIONS", 4)
    port = request.getfixturevalue("port")
    silent = [socket.create_connection(("127.0.0.1", port), timeout=600) for _ in range(12)]
    works(port)
    time.sleep(0.3)
    inside = [opened(port, f"inside-{i}", "t") for i in range(4)]
    assert until_end(dial(port, connect("fifth"))) == b""
    time.sleep(0.3)
    inside[0].publish("t", b"we stay")
    for link in inside:
        heard(link, b"we stay")
        link.close()
    for mute in silent:
        mute.close()
