"""A gateway in process: a node that declined and comes back while nodes gather is counted; one that was put out is not."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from orchestrator.gateway.attendance import MOST_DECLINED
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.run_store import joined_in
from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Event
from orchestrator.rounds.state import COLLECTING
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import BrokerAddress, Message
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training


class World:
    """Of a run that begins with three nodes."""

    def __init__(self, folder: Path) -> None:
        schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
        task = Task("t", schema, {}, Training(rounds=5), Privacy(unit="none"), Rounds(3, 2), codec="float32")
        store = Store(folder / "gateway.sqlite")
        store.create_run("run", task_to_dict(task), b"graph", np.zeros(8, np.float32))
        self.store = store
        self.shown: List[Dict[str, Any]] = []
        self.gateway = Gateway(store, "run", "f", BrokerAddress("127.0.0.1", 1), progress=self.shown.append)
        self.gateway.link.publish = lambda topic, payload, retain=False: None  # type: ignore[method-assign]

    def say(self, node: str, kind: str, **fields: Any) -> None:
        about = {"kind": kind, "run": "run", "instance": f"{node}1", **fields}
        self.gateway.receive(Message(f"edgeward/1/f/node/{node}/presence", encode_body(about)))

    def ready(self, node: str, records: int = 10) -> None:
        self.say(node, "ready", records=records, units=records)

    def declines(self, node: str) -> None:
        self.say(node, "declined", code="data")

    def put_out(self, node: str) -> None:
        """Its ledger loses an entry."""
        for entries in (2, 1):
            ledger = {"entries": entries, "hash": "0" * 64, "process": f"{node}1", "n": 3 - entries}
            self.say(node, "ready", records=10, units=10, ledger=ledger)
        assert "ledger" in self.gateway.coordinator.declined[node]

    def journal(self) -> List[Event]:
        return list(self.store.journal("run"))

    def joined(self) -> List[str]:
        return [event["node"] for event in self.shown if event["event"] == "joined"]


def test_a_node_whose_data_were_repaired_is_counted(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ready("b")
    world.declines("a")
    assert list(world.gateway.coordinator.declined) == ["a"]
    world.say("a", "gone")
    world.ready("a", 80)
    assert (dict(world.gateway.coordinator.online), world.gateway.coordinator.declined) == ({"b": 10, "a": 80}, {})
    world.ready("c")
    assert world.gateway.coordinator.phase == COLLECTING
    assert world.gateway.coordinator.cohort == ("a", "b", "c")
    assert world.joined() == ["b", "a", "c"]


def test_it_may_decline_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(3):
        world.declines("a")
        assert list(world.gateway.coordinator.declined) == ["a"]
        world.ready("a")
        assert not world.gateway.coordinator.declined


def test_a_node_that_keeps_changing_its_mind_fills_no_journal(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(5 * MOST_DECLINED):
        world.declines("a")
        world.ready("a")
    assert list(world.gateway.coordinator.declined) == ["a"]
    assert len(world.joined()) == MOST_DECLINED


def test_a_node_that_was_put_out_does_not_come_back_by_declining_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ready("a")
    world.put_out("a")
    for _ in range(2):
        world.declines("a")
        world.ready("a")
    assert "a" not in world.gateway.coordinator.online
    assert list(world.gateway.coordinator.declined) == ["a"]
    assert world.joined() == ["a"], "nothing is announced that does not count"


def test_nor_does_one_that_is_put_out_after_it_declined(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.declines("a")
    world.put_out("a")
    world.ready("a")
    assert "a" not in world.gateway.coordinator.online


def test_once_a_round_is_open_it_is_too_late(tmp_path: Path) -> None:
    world = World(tmp_path)
    for node in "abc":
        world.ready(node)
    world.declines("d")
    world.ready("d")
    assert "d" not in world.gateway.coordinator.online
    assert world.joined() == ["a", "b", "c"]


def test_a_node_that_keeps_changing_its_reason_fills_no_journal(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(5 * MOST_DECLINED):
        world.say("a", "declined", code=("data", "policy.unit")[number % 2])
    assert list(world.gateway.coordinator.declined) == ["a"]
    assert sum(event["event"] == "declined" for event in world.shown) == MOST_DECLINED
    assert len(world.journal()) == MOST_DECLINED


def test_one_that_is_out_is_no_member_whatever_records_it_says_it_has(tmp_path: Path) -> None:
    """Else it is among the nodes of the result and its statement, and online where runs are shown."""
    world = World(tmp_path)
    for node in "abc":
        world.ready(node)
    world.declines("d")
    for _ in range(5):
        world.ready("d", 1000)
    assert world.gateway.records == {"a": 10, "b": 10, "c": 10}
    assert joined_in(world.journal()) == {"a", "b", "c"}
    again = Gateway(world.store, "run", "f", BrokerAddress("127.0.0.1", 1))
    again.course.replay()
    assert again.records == {"a": 10, "b": 10, "c": 10}
