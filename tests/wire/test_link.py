"""The broker conformance test: what Edgeward relies on, on every broker it can start."""

import os
import queue
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any, List, cast

import pytest

from orchestrator.errors import BrokerError, UsageError
from orchestrator.gateway.broker import OwnBroker, free_port
from orchestrator.wire import link as link_module
from orchestrator.wire.address import client_id
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, EventQueue, Link, Message


def collect(link: Link, count: int) -> List[Message]:
    messages: List[Any] = []
    while len(messages) < count:
        event = link.events.get(timeout=200)
        if isinstance(event, Message):
            messages.append(event)
    return messages


def opened(address: BrokerAddress, name: str, topics: List[str], will: Any = None) -> Link:
    link = Link(address, name, topics, will)
    link.open(20)
    assert isinstance(link.events.get(timeout=600), Connected)
    time.sleep(0.3)  # the SUBACK
    return link


def test_large_messages_arrive_in_order_and_are_counted(broker: OwnBroker) -> None:
    receiver = opened(broker.address, "r", ["t/#"])
    sender = opened(broker.address, "s", [])
    payloads = [bytes([i]) * 256 * 1024 for i in range(8)]
    for payload in payloads:
        sender.publish("t/x", payload)
    assert [m.payload for m in collect(receiver, 8)] == payloads
    assert sender.flush(100)
    sent, _ = sender.socket_bytes()
    _, received = receiver.socket_bytes()
    total = sum(map(len, payloads))
    assert total < sent < 1.01 * total + 500
    assert total < received < 1.01 * total + 500
    sender.close()
    receiver.close()


def test_a_packet_that_no_chunk_makes_costs_its_sender_the_connection() -> None:
    if not shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("mosquitto is not installed")
    with OwnBroker("mosquitto") as broker:
        receiver, sender = opened(broker.address, "r", ["t"]), opened(broker.address, "s", [])
        sender.publish("t", bytes(600 << 10))
        assert isinstance(sender.events.get(timeout=600), Disconnected)
        other = opened(broker.address, "o", [])
        other.publish("t", bytes(256 << 10))
        assert len(collect(receiver, 1)[0].payload) == 256 << 10
        for link in (receiver, sender, other):
            link.close()


def test_unread_messages_are_bounded_in_memory_and_on_disk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link_module, "EVENT_BYTES", 1 << 20)
    monkeypatch.setattr(link_module, "DISK_BYTES", 1 << 20)
    monkeypatch.setattr(link_module, "MOST_SMALL_BYTES", 100_000)
    events = EventQueue()
    for _ in range(20):
        events.put(Message("t", bytes(256 << 10)))
    assert (events.qsize(), events.dropped) == (8, 12)  # 1 MiB in memory, 1 MiB on disk
    for _ in range(400):
        events.put(Message("t", b"small"))
    assert events.qsize() < 500
    kept = events.qsize()
    assert kept < 8 + 100_000 // 256 + 1
    assert [record.message for record in caplog.records] == [
        "dropped a message on t: 1 MiB of messages wait on disk already (the 1.)"
    ]
    while not events.empty():
        events.get()
    events.put(Message("t", b"small"))  # what was read made room
    assert events.get() == Message("t", b"small")


def test_long_topics_take_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    """A broker makes them up, as long as 65,535 characters."""
    events = EventQueue()
    for payload in (b"", bytes(8192)):
        events.put(Message("t/" + "x" * link_module.MOST_TOPIC, payload))
    events.put(Message("t", b"right"))
    assert (events.qsize(), events.dropped) == (1, 2)
    assert events.get() == Message("t", b"right")
    assert len(caplog.text) < 300


def test_nobody_guesses_the_name_of_a_connection() -> None:
    assert client_id("ward") != client_id("ward")
    assert client_id("ward", b"a") == client_id("ward", b"a") != client_id("ward", b"b")


def test_what_other_threads_ask_for_while_a_link_opens_is_not_lost(broker: OwnBroker) -> None:
    """A relay's higher half begins rounds through this queue, maybe before its lower half is connected."""
    link = Link(broker.address, "l", [])
    asked: List[Any] = ["first", "second"]
    for one in asked:
        link.events.put(one)
    link.open(20)
    assert isinstance(link.events.get(timeout=600), Connected)
    assert [link.events.get(timeout=600) for _ in asked] == asked
    link.close()


def test_presence_is_retained_and_the_will_replaces_it(broker: OwnBroker) -> None:
    node = opened(broker.address, "n", [], will=("p/n", b"gone"))
    node.publish("p/n", b"here", retain=True)
    assert node.flush(100)
    late = opened(broker.address, "late", ["p/+"])
    (kept,) = collect(late, 1)
    assert (kept.payload, kept.retained) == (b"here", True)
    cast(socket.socket, node.client.socket()).shutdown(socket.SHUT_RDWR)  # the process is gone: no DISCONNECT
    (now,) = collect(late, 1)
    assert (now.payload, now.retained) == (b"gone", False)
    late.close()
    node.close()


def test_a_link_comes_back_with_its_subscriptions_when_the_broker_does(broker: OwnBroker) -> None:
    receiver = opened(broker.address, "r", ["t"])
    sender = opened(broker.address, "s", [])
    assert broker.process is not None
    broker.process.kill()
    broker.process.wait()
    sender.publish("t", b"said while it was down")
    assert broker.restart_if_dead()
    assert not broker.restart_if_dead()
    deadline = time.monotonic() + 300
    connected = 0
    while connected < 2 and time.monotonic() < deadline:
        for link in (receiver, sender):
            try:
                connected += isinstance(link.events.get(timeout=0.5), Connected)
            except queue.Empty:
                continue
    time.sleep(0.5)
    sender.publish("t", b"again")
    assert b"again" in [m.payload for m in collect(receiver, 1)] + [m.payload for m in _rest(receiver)]
    sender.close()
    receiver.close()


def _rest(link: Link) -> List[Message]:
    time.sleep(1)
    out = []
    while not link.events.empty():
        event = link.events.get_nowait()
        if isinstance(event, Message):
            out.append(event)
    return out


def test_a_free_port_is_not_one_that_an_outgoing_connection_could_get() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 10
    if first > 21_000:
        assert all(20_000 <= port < first for port in ports)
    with pytest.raises(BrokerError, match=r"203\.0\.113\.7 has no free port, or is no address of this machine"):
        free_port("203.0.113.7")  # an address for documentation


def test_no_broker_is_an_error_that_says_where_and_what_to_do() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=f"no MQTT broker at mqtt://127.0.0.1:{port}: .*refused.*--broker"):
        Link(BrokerAddress("127.0.0.1", port), "x", []).open(0.3)


def test_a_broker_that_dies_while_a_link_opens_is_waited_for(broker: OwnBroker) -> None:
    """Something accepts the connection and goes away before it answers; then the broker comes."""
    port = free_port()
    trap = socket.create_server(("127.0.0.1", port))

    def spring() -> None:
        trap.accept()[0].close()
        trap.close()

    threading.Thread(target=spring, daemon=True).start()
    link = Link(BrokerAddress("127.0.0.1", port), "early", [])
    opening = threading.Thread(target=link.open, args=(60,))
    opening.start()
    time.sleep(1.0)
    with OwnBroker(broker.kind, port=port):
        opening.join(60)
        assert not opening.is_alive()
        assert isinstance(link.events.get(timeout=1), Connected)
        link.publish("x", b"heard")
        assert link.flush(100)
        link.close()


def test_a_port_in_use_is_an_error_that_says_so(broker: OwnBroker) -> None:
    with pytest.raises(BrokerError, match="is in use by another program"):
        OwnBroker("mosquitto", port=broker.address.port).start()


@pytest.mark.parametrize("url", ["http://x", "mqtt://", "mqtt://host:notaport", "mqtt://host:99999"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError):
        BrokerAddress.parse(url)


def test_addresses() -> None:
    assert BrokerAddress.parse("gateway.local") == BrokerAddress("gateway.local", 1883)
    assert BrokerAddress.parse("mqtts://u:p@h:9") == BrokerAddress("h", 9, True, "u", "p")
