"""Both sides wait, and neither comes: each says whom it sees at the broker, and what to type."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from harness import Harness, make_task, wait_for

from orchestrator.gateway.progress import describe
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import Link
from orchestrator.wire.topics import Topics

NODE = [sys.executable, "-m", "orchestrator.cli.main", "node", "run"]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, make_task()) as harness:
        yield harness


def node_run(harness: Harness, name: str, *options: str) -> "subprocess.Popen[str]":
    """`edgeward node run` as the README has it; what it says is in harness.log(name)."""
    data = harness.folder / "data.csv"
    data.write_text("x,y\n0.5,1\n")
    command = [*NODE, "--broker", str(harness.broker.address), "--name", name, "--data", str(data)]
    with (harness.folder / f"{name}.log").open("a") as log:
        command += ["--state", str(harness.folder / name), *options]
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
    harness.processes.append(process)
    return process


def wait_for_log(harness: Harness, name: str, text: str) -> None:
    deadline = time.monotonic() + 120
    while text not in harness.log(name):
        assert time.monotonic() < deadline, (text, harness.log(name))
        time.sleep(0.05)


def announce(harness: Harness, topic: str, **fields: Any) -> None:
    link = Link(harness.broker.address, f"visitor-{topic}".replace("/", "-"), [])
    link.open(30)
    link.publish(topic, encode_body(fields) if fields else b"of another version", retain=True)
    assert link.flush(300)
    link.close()


def test_each_side_says_whom_it_sees_and_what_to_type(harness: Harness) -> None:
    """The gateway is of "test". Nodes: of "default", of another protocol, of a served federation, of one that is silent."""
    announce(harness, "edgeward/7/test/node/newer/presence")
    announce(harness, "edgeward/9/test/gateway/presence")
    announce(harness, Topics("served").presence("at-home"), kind="hello")
    announce(harness, Topics("served").gateway_presence, kind="gateway", identity=True)
    announce(harness, Topics("other").presence("left"), kind="gone")
    announce(harness, Topics("closed").gateway_presence, kind="gateway", identity=True)
    lost = node_run(harness, "lost")
    node_run(harness, "uninvited", "--federation", "closed")
    wait_for_log(harness, "lost", "no gateway of federation 'default' is at mqtt://127.0.0.1")
    gateway = harness.gateway()
    wait_for_log(harness, "lost", "if it is to join that one, start it with --federation test")
    wait_for_log(harness, "lost", "enrol it there (its gateway's owner types: edgeward gateway invite lost)")
    wait_for_log(harness, "uninvited", "hears enrolled nodes only, and this one has no --identity")
    wait_for_log(harness, "uninvited", "and does not answer 'uninvited'")
    wait_for_log(harness, "lost", f"'test' at {harness.broker.address} speaks protocol 9")
    seen: List[Any] = [wait_for(gateway, "stray") for _ in range(2)]
    lines = {event["node"]: str(describe(event)) for event in seen}
    assert set(lines) == {"lost", "newer"}
    assert "start it with --federation test" in lines["lost"]
    assert "speaks protocol 7, this gateway protocol 1: update" in lines["newer"]
    assert lost.poll() is None  # it goes on waiting, and joins nothing
    node_run(harness, "found", "--federation", "test")  # what was typed counts
    assert wait_for(gateway, "joined", node="found")
    assert "waiting" not in harness.log("found")


def test_a_node_whose_announcement_was_lost_announces_itself_again(harness: Harness) -> None:
    """Brokers lose retained messages: amqtt some that come while their reader subscribes."""
    node_run(harness, "early", "--federation", "test")
    link = Link(harness.broker.address, "visitor-loses", [Topics("test").presence("early")])
    link.open(30)
    while not getattr(link.events.get(timeout=600), "payload", b""):
        pass  # until its announcement is there
    link.publish(Topics("test").presence("early"), b"", retain=True)
    assert link.flush(300)
    link.close()
    assert wait_for(harness.gateway(), "joined", node="early")
