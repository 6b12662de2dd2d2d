"""100 MB to eight nodes over a broker that dies in the middle; large updates from several nodes at once."""

import contextlib
import hashlib
import queue
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List

import numpy as np
import pytest
from harness import BROKER_PATH

from orchestrator.gateway.broker import OwnBroker
from orchestrator.wire.frames import Ack, Chunk, Want, decode_frame, encode_frame
from orchestrator.wire.link import Connected, Link, Message
from orchestrator.wire.transfer import Inbox, Outbox, transfer_id

HERE = Path(__file__).parent
PEERS = 8
LIMIT = 512 << 20


def peak_from_now() -> float:
    """Peak resident memory, MiB, counted again from here (Linux: 5 into clear_refs resets VmHWM)."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


@pytest.fixture
def mosquitto() -> Iterator[OwnBroker]:
    if not shutil.which("mosquitto", path=BROKER_PATH):
        pytest.skip("mosquitto is not installed")
    with OwnBroker("mosquitto") as broker:
        yield broker


def start(broker: OwnBroker, role: str, name: str, size: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(HERE / "large_peer.py"), str(broker.address), role, name, str(size)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def kill(broker: OwnBroker) -> None:
    assert broker.process is not None
    broker.process.kill()
    broker.process.wait()


def test_100_mb_reach_eight_nodes_whole_over_a_broker_that_is_killed_in_the_middle(mosquitto: OwnBroker) -> None:
    """Every receiver's peak memory is the body and little more; the sender sends less than two bodies in all."""
    size = 100_000_000
    names = [f"n{i}" for i in range(PEERS)]
    receivers = {name: start(mosquitto, "receive", name, size) for name in names}
    try:
        for process in receivers.values():
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
        body = np.random.default_rng(0).bytes(size)
        before = peak_from_now()
        outbox, link = Outbox(), Link(mosquitto.address, "sender", ["up/+"])
        link.send_from(outbox.next)
        link.open(20)
        outbox.send(body, "all", {name: f"down/{name}" for name in names}, time.monotonic())
        killed, sent = False, 0
        deadline = time.monotonic() + 240
        while outbox.pending() and time.monotonic() < deadline:
            link.pump()
            outbox.due(time.monotonic())
            mosquitto.restart_if_dead()
            sent = link.socket_bytes()[0]
            if not killed and sent > size // 2:
                kill(mosquitto)
                killed = True
            with contextlib.suppress(queue.Empty):
                event = link.events.get(timeout=0.05)
                if isinstance(event, Connected):
                    outbox.retry_now(time.monotonic())
                elif isinstance(event, Message):
                    frame = decode_frame(event.payload)
                    name = event.topic.split("/")[1]
                    if isinstance(frame, Ack):
                        outbox.acknowledged(name, frame)
                    elif isinstance(frame, Want):
                        outbox.wanted(name, frame, time.monotonic())
        assert killed
        assert not outbox.pending(), "some receiver never had it whole"
        link.close()
        assert peak_mib() - before < 40, "the sender holds the one body and a window"
        resent = max(0, sent - size) / size
        print(f"sent {sent / 1e6:.0f} MB for a body of {size / 1e6:.0f} MB and {PEERS} receivers")
        assert resent < PEERS * 0.75, "a restart must not cost every receiver the whole body again"
        digest = hashlib.sha256(body).hexdigest()
        for name, process in receivers.items():
            assert process.stdout is not None
            got, base, peak = process.stdout.readline().split()
            assert got == digest, name
            assert float(peak) - float(base) < size / 2**20 + 60, f"{name}: {base} -> {peak} MiB"
    finally:
        for process in receivers.values():
            process.kill()
            process.wait()


def test_the_memory_of_who_receives_does_not_grow_with_the_number_of_senders(mosquitto: OwnBroker) -> None:
    """40 MB from six nodes at once to one that first looks away: the bodies wait on disk, one at a time is in memory."""
    size, names = 40_000_000, [f"s{i}" for i in range(6)]
    inbox, link = Inbox(LIMIT), Link(mosquitto.address, "gateway", ["up/+"])
    link.open(20)
    base = peak_from_now()
    senders: List[subprocess.Popen[str]] = [start(mosquitto, "send", name, size) for name in names]
    try:
        time.sleep(6)  # as a gateway that aggregates would
        digests: Dict[str, str] = {}
        deadline = time.monotonic() + 240
        while len(digests) < len(names) and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                event = link.events.get(timeout=0.5)
                if not isinstance(event, Message):
                    continue
                frame, name = decode_frame(event.payload), event.topic.split("/")[1]
                assert isinstance(frame, Chunk)
                body, answer = inbox.feed(name, frame)
                if body is not None:
                    digests[name] = transfer_id(body).hex()
                    answer = inbox.finish(name, frame.id)
                    body = None  # or it would still be here while the next one is joined
                if answer is not None:
                    link.publish(f"down/{name}", encode_frame(answer))
        for name, process in zip(names, senders):
            assert process.stdout is not None
            assert process.stdout.readline().split()[0] == digests[name]
        grown = peak_mib() - base
        print(f"{len(names)} x {size / 1e6:.0f} MB received with {grown:.0f} MiB more memory")
        assert grown < size / 2**20 + 60
    finally:
        for process in senders:
            process.kill()
            process.wait()
        link.close()
