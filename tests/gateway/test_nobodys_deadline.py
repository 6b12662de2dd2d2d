"""A gateway in process, without a broker: what stops a run, and that nobody answers for what nobody could."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.reach import RESTART_AFTER_S
from orchestrator.gateway.store import Store
from orchestrator.rounds.coordinator import RETURN_S
from orchestrator.rounds.events import Started
from orchestrator.rounds.state import COLLECTING
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.clock import SystemClock
from orchestrator.wire.frames import Chunk, decode_frame
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Message
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.training import Training

DEADLINE_S = 60.0


def chunk_of(payload: bytes) -> bytes:
    frame = decode_frame(payload)
    assert isinstance(frame, Chunk)
    return bytes(frame.data)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> List[float]:
    """Its element is what time.monotonic says; waiting for an event takes no time."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def open_round(tmp_path: Path, own_broker: Any = None) -> Tuple[Gateway, List[Dict[str, Any]]]:
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    rules = Rounds(nodes=2, quorum=2, deadline_s=DEADLINE_S, attempts=1)
    task = Task("t", schema, {}, Training(rounds=5), Privacy(unit="none"), rules, codec="float32")
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(task), b"graph", np.zeros(8, np.float32))
    events: List[Dict[str, Any]] = []
    gateway = Gateway(store, "run", "f", BrokerAddress("127.0.0.1", 1), own_broker, progress=events.append)
    gateway.link.publish = lambda topic, payload, retain=False: None  # type: ignore[method-assign]
    gateway.link.pump = lambda: None  # type: ignore[method-assign]
    for node in ("icu", "er"):
        ready = encode_body({"kind": "ready", "run": "run", "records": 10})
        gateway.receive(Message(f"edgeward/1/f/node/{node}/presence", ready))
    assert gateway.coordinator.phase == COLLECTING
    return gateway, events


def step(gateway: Gateway, clock: List[float], seconds: float, by: float = 1.0) -> None:
    """The gateway's loop over so much time, in which nothing comes."""

    def wait(self: SystemClock, events: Any, until: float) -> None:
        clock[0] += min(until - clock[0], by)

    end = clock[0] + seconds
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SystemClock, "wait", wait)
        while clock[0] < end and not gateway.coordinator.over:
            gateway.step()


def test_three_deadlines_without_a_broker_are_nobodys(tmp_path: Path, clock: List[float]) -> None:
    gateway, events = open_round(tmp_path)
    gateway.link.events.put(Disconnected("gone"))
    gateway.step()
    step(gateway, clock, 3 * DEADLINE_S)
    assert not gateway.coordinator.over
    gateway.link.events.put(Connected())
    gateway.step()
    assert [e["seconds"] for e in events if e["event"] == "broker_back"] == [pytest.approx(3 * DEADLINE_S, abs=1.0)]
    step(gateway, clock, DEADLINE_S)
    assert not gateway.coordinator.over, "the whole deadline runs again"
    step(gateway, clock, RETURN_S + 2.0)
    assert gateway.coordinator.reason.endswith("no answer from er, icu")


def test_a_gateway_that_was_held_up_reads_before_it_blames(
    tmp_path: Path, clock: List[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP, a suspended machine: the answers are in the socket when it goes on."""
    gateway, events = open_round(tmp_path)

    def wait(self: SystemClock, events: Any, until: float) -> None:
        clock[0] += 2 * DEADLINE_S

    monkeypatch.setattr(SystemClock, "wait", wait)
    gateway.step()
    assert not gateway.coordinator.over
    assert [e["event"] for e in events if e["event"].startswith("broker_")] == ["broker_back"]


def test_a_broker_that_passes_nothing_on_is_named_and_no_node_is(tmp_path: Path, clock: List[float]) -> None:
    gateway, events = open_round(tmp_path)
    gateway.receive(Message(Topics("f").gateway_echo, b""))  # it did, once
    step(gateway, clock, 3 * DEADLINE_S)
    assert not gateway.coordinator.over
    assert [e["event"] for e in events if e["event"].startswith("broker_")] == ["broker_silent"]


def test_a_run_that_stopped_for_want_of_answers_is_not_over_for_its_nodes(tmp_path: Path, clock: List[float]) -> None:
    gateway, events = open_round(tmp_path)
    step(gateway, clock, 2 * DEADLINE_S)
    assert events[-1]["event"] == "failed"
    payloads = [payload for _, payload in iter(lambda: gateway.announcer.outbox.next(clock[0]), None)]
    said = [decode_body(chunk_of(payload), 1 << 20)[0]["kind"] for payload in payloads]
    assert set(said) <= {"round"}, "nodes were events that the run is over"


def test_a_broker_of_its_own_that_passes_nothing_on_is_started_again(tmp_path: Path, clock: List[float]) -> None:
    """Alive, and deaf: SIGSTOP, or full of clients that never read."""
    broker = SimpleNamespace(restarts=0, restart_if_dead=lambda: False, keep_out=lambda names: None)
    broker.restart = lambda: vars(broker).update(restarts=broker.restarts + 1)
    gateway, events = open_round(tmp_path, broker)
    step(gateway, clock, 2 * RESTART_AFTER_S)
    assert [e["event"] for e in events if e["event"].startswith("broker_")] == ["broker_silent", "broker_restarted"]
    assert broker.restarts == 1
    assert not gateway.coordinator.over
    gateway.link.events.put(Connected())
    gateway.step()
    assert events[-1]["event"] == "broker_back"


def test_who_declined_before_the_run_stopped_is_asked_once_more(tmp_path: Path, clock: List[float]) -> None:
    """Its presence is still there, and the task is the very same: an owner may have changed a policy."""
    gateway, _ = open_round(tmp_path)
    declined = encode_body({"kind": "declined", "run": "run", "code": "policy.unit"})
    gateway.receive(Message("edgeward/1/f/node/lab/presence", declined))
    step(gateway, clock, 3 * DEADLINE_S)
    assert gateway.coordinator.over
    again = Gateway(gateway.course.store, "run", "f", BrokerAddress("127.0.0.1", 1))
    again.link.publish = lambda topic, payload, retain=False: None  # type: ignore[method-assign]
    assert again.course.replay()
    again.course.happen(Started(again.course.now()))
    while again.announcer.outbox.next(clock[0]):
        pass
    again.receive(Message("edgeward/1/f/node/lab/presence", declined))
    topic, payload = again.announcer.outbox.next(clock[0]) or ("", b"")
    assert topic.endswith("/node/lab/down")
    assert decode_body(chunk_of(payload), 1 << 20)[0]["kind"] == "task"
    assert again.coordinator.declined == {}
    again.receive(Message("edgeward/1/f/node/lab/presence", declined))
    assert "lab" in again.coordinator.declined, "asked once, and its word stands"
