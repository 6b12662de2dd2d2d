"""Looking round at a broker: who is seen there, and what a broker that does not like it costs."""

import socket
import threading
import time
from typing import Callable, List

import pytest

from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.strays import MOST_NAMED, Strays
from orchestrator.simulation.turned_clock import TurnedClock
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import BrokerAddress, Link
from orchestrator.wire.lookout import Lookout, Presence
from orchestrator.wire.post import Post
from orchestrator.wire.topics import ANY_GATEWAY, ANY_NODE, Announced, Topics, announced


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("topic", "who"),
    [
        ("edgeward/1/icu/gateway/presence", Announced(1, "icu")),
        ("edgeward/12/icu/node/n-1/presence", Announced(12, "icu", "n-1")),
        ("edgeward/1/icu/node/n-1/up", None),
        ("edgeward/1/icu/node/n/1/presence", None),
        ("edgeward/01/icu/gateway/presence", None),
        ("edgeward/123456/icu/gateway/presence", None),
        ("edgeward/1/ICU\x1b[2J/gateway/presence", None),
        ("edgeward/1/icu/node/../presence", None),
        ("edgeward/1/icu/node//presence", None),
    ],
)
def test_only_names_that_somebody_can_have_are_read_off_topics(topic: str, who: object) -> None:
    assert announced(topic) == who


def test_everyone_present_is_seen(broker: OwnBroker) -> None:
    """Not who is gone, nor names nobody can have; a body that cannot be read says that somebody is there."""
    speaker = Link(broker.address, "speaker", [])
    speaker.open(30)
    icu = Topics("icu")
    for topic, body in (
        (icu.gateway_presence, encode_body({"kind": "gateway", "identity": True})),
        (icu.presence("here"), encode_body({"kind": "hello"})),
        (icu.presence("left"), encode_body({"kind": "gone"})),
        (icu.presence("strange"), b"\xff" * 100),
        (icu.presence("text"), encode_body({"kind": 7, "identity": "yes"})),
        ("edgeward/2/er/gateway/presence", b"whatever it says"),
        ("edgeward/1/NOBODY/gateway/presence", encode_body({"kind": "gateway"})),
    ):
        speaker.publish(topic, body, retain=True)
    assert speaker.flush(300)
    lookout = Lookout(broker.address, "lookout", [ANY_GATEWAY, ANY_NODE])
    lookout.connect()
    until(lambda: len(lookout.look()) == 5)
    assert lookout.look() == [
        Presence(Announced(1, "icu"), "gateway", True),
        Presence(Announced(2, "er"), "", False),
        Presence(Announced(1, "icu", "here"), "hello", False),
        Presence(Announced(1, "icu", "strange"), "", False),
        Presence(Announced(1, "icu", "text"), "", False),
    ]
    speaker.publish(icu.presence("here"), encode_body({"kind": "health"}))  # goes on being here
    speaker.publish(icu.gateway_presence, encode_body({"kind": "gone"}), retain=True)
    until(lambda: len(lookout.look()) == 4)
    assert Announced(1, "icu", "here") in [presence.who for presence in lookout.look()]
    lookout.close()
    speaker.close()


def test_a_broker_that_ends_connections_for_it_is_left_alone() -> None:
    """As brokers do whose rights do not cover the topics: the second connection is given up, and disturbs nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        served: List[int] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"\x20\x02\x00\x00")  # CONNACK, accepted
                    served.append(len(peer.recv(1000)))  # SUBSCRIBE

        threading.Thread(target=serve, daemon=True).start()
        lookout = Lookout(BrokerAddress("127.0.0.1", server.getsockname()[1]), "lookout", [ANY_GATEWAY])
        lookout.connect()
        until(lambda: lookout.look() == [] and not lookout.open)
        assert 3 <= len(served) <= 4


def test_a_broker_that_lets_nobody_in_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    lookout = Lookout(BrokerAddress("127.0.0.1", port), "lookout", [ANY_GATEWAY])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.wire.lookout.OPEN_S", 0.1)
        lookout.connect()
    assert (lookout.open, lookout.look()) == (False, [])


def test_a_flood_of_strays_is_not_a_flood_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = TurnedClock()
    monkeypatch.setattr(Lookout, "connect", lambda self: None)
    crowd = [Presence(Announced(1, f"f{i}", "n"), "hello", False) for i in range(500)]
    monkeypatch.setattr(Lookout, "look", lambda self: crowd)
    found = Strays(Post(clock), "icu", "gateway")
    named: List[Presence] = []
    for _ in range(20):
        named += found.found()
        clock.turn(1.0)
    assert len(named) == len(set(named)) == MOST_NAMED
    found.close()
    assert found.found() == []
