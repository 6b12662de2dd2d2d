"""Brokers that do not pass on what is as large as a part of a model, and packets nobody of ours sends."""

import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import BrokerError
from orchestrator.gateway import size_probe
from orchestrator.gateway.broker import OwnBroker, _accepts, free_port
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.size_probe import LATE_S, SizeProbe
from orchestrator.gateway.store import Store
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

MOSQUITTO = shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/sbin")


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.parametrize("limit", ["message_size_limit 131072", "max_packet_size 65536"])
def test_a_broker_with_a_limit_is_named_and_no_node_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(size_probe, "LATE_S", 0.2)
    port = free_port()
    (tmp_path / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{limit}\n")
    broker = subprocess.Popen([str(MOSQUITTO), "-c", str(tmp_path / "mosquitto.conf")], stderr=subprocess.DEVNULL)
    tmp_path.chmod(0o755)
    try:
        while not _accepts("127.0.0.1", port):
            assert broker.poll() is None
        schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
        task = Task("t", schema, {}, Training(rounds=1), Privacy(unit="none"), Rounds(1, 1), codec="float32")
        store = Store(tmp_path / "gateway.sqlite")
        store.create_run("run", task_to_dict(task), b"graph", np.zeros(8, np.float32))
        with pytest.raises(
            BrokerError, match="messages of 263,168 bytes, which the parts of a model have: raise its limit"
        ):
            Gateway(store, "run", "f", BrokerAddress("127.0.0.1", port)).run()
    finally:
        broker.kill()
        broker.wait()


def test_a_verdict_needs_an_answer_and_time() -> None:
    probe = SizeProbe()
    large, small = probe.messages()
    assert probe.objection(1000.0) == "", "our own messages may be forbidden"
    probe.heard(small, 1000.0)
    assert probe.objection(1000.0 + LATE_S) == ""
    assert "drops" in probe.objection(1000.1 + LATE_S)
    probe.heard(large, 1001.0)
    assert probe.objection(2000.0) == ""
    assert probe.messages() == []
    probe.lost()
    probe.lost()
    assert probe.objection(2000.0) == "", "it passed once: what ends now ends for another reason"


def test_the_embedded_broker_reads_nothing_of_a_packet_that_is_too_large() -> None:
    pytest.importorskip("amqtt", reason="amqtt comes with the gateway, not on a node")
    with OwnBroker("embedded") as broker, socket.create_connection(
        (broker.address.host, broker.address.port)
    ) as client:
        client.sendall(bytes.fromhex("100d00044d5154540402003c000161"))  # CONNECT as "a"
        assert client.recv(4)[:1] == b"\x20"  # CONNACK
        client.sendall(b"\x30\xff\xff\xff\x7f" + bytes(1000))  # PUBLISH of 256 MB
        client.settimeout(60)
        assert client.recv(1) == b"", "the connection ends"
