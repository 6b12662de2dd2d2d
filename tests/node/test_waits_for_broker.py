"""A node that is started before its gateway waits for it, and says so."""

import logging
import threading
from pathlib import Path

import pytest

from orchestrator.gateway.broker import OwnBroker, free_port
from orchestrator.node.agent import NodeAgent
from orchestrator.wire.link import BrokerAddress, Link, Message
from orchestrator.wire.topics import Topics


def test_a_node_waits_for_its_broker_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("amqtt", reason="amqtt comes with the gateway, not on a node")
    port = free_port()
    said = threading.Event()
    caplog.set_level(logging.WARNING, "edgeward.node")

    class Noticed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for it" in record.getMessage():
                said.set()

    handler = Noticed()
    logging.getLogger("edgeward.node").addHandler(handler)
    agents = []

    def serve() -> None:
        agents.append(NodeAgent(BrokerAddress("127.0.0.1", port), "f", "icu", tmp_path / "d.csv", tmp_path / "state"))
        agents[0].run(None)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert said.wait(120)
    with OwnBroker("embedded", port=port) as broker:
        link = Link(broker.address, "test", [Topics("f").every_presence])
        link.open(120)
        while not isinstance(link.events.get(timeout=120), Message):
            pass
        agents[0].stop()
        thread.join(120)
        link.close()
    logging.getLogger("edgeward.node").removeHandler(handler)
    assert not thread.is_alive()


def test_a_node_that_waits_can_be_stopped(tmp_path: Path) -> None:
    agent = NodeAgent(BrokerAddress("127.0.0.1", 1), "f", "icu", tmp_path / "d.csv", tmp_path / "state")
    agent.stop()
    agent.run(None)
