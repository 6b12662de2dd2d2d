"""A crowd that subscribes to all there is room for: clients of ours still get their messages."""

import socket
import time
from typing import List

import pytest
from test_broker_guard import connect, dial, opened, port, subscribe  # noqa: F401 - port is a fixture

from orchestrator.gateway import broker_guard
from orchestrator.gateway.mqtt_packets import MOST_FILTERS
from orchestrator.wire.link import Message


def test_who_has_most_filters_makes_room_and_nobody_else(port: int, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(broker_guard, "MOST_FILTERS_IN_ALL", 3 * MOST_FILTERS)
    small = opened(port, "small", "one", "two", "three")
    crowd: List[socket.socket] = []
    for number in range(6):
        link = dial(port, connect(f"stranger-{number}"), subscribe(*(f"s/{number}/{i}" for i in range(MOST_FILTERS))))
        link.settimeout(60)
        link.recv(64)  # CONNACK, maybe SUBACK; nothing where there was no room
        crowd.append(link)
    for number in range(3):
        late = opened(port, f"late-{number}", f"late/{number}")
        deadline = time.monotonic() + 600
        while late.events.empty():  # the subscription may come after the first message
            assert time.monotonic() < deadline, "no message came"
            late.publish(f"late/{number}", b"x")
            time.sleep(0.2)
        assert isinstance(late.events.get(), Message), "it lost its connection"
        late.close()
    small.publish("two", b"x")
    assert small.events.get(timeout=600).payload == b"x"
    small.close()
    for link in crowd:
        link.close()


def test_there_is_room_for_the_filters_of_every_connection() -> None:
    assert 3 * broker_guard.MOST_CONNECTIONS < broker_guard.MOST_FILTERS_IN_ALL
