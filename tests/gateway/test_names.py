"""Two nodes under one name: the first goes on, whatever the second says of its ledger, its data or its end."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.checks import mistakes
from orchestrator.gateway.config_parts import Parts
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.names import ALIVE_S, Names
from orchestrator.gateway.settings import GatewaySettings
from orchestrator.gateway.store import Store
from orchestrator.node.agent import NodeAgent
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.frames import Chunk, decode_frame, encode_frame, split
from orchestrator.wire.link import BrokerAddress, Message
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training
from orchestrator.wire.transfer import transfer_id

NOWHERE = BrokerAddress("127.0.0.1", 1)


class World:
    def __init__(self, folder: Path, sites: Tuple[str, ...] = ()) -> None:
        folder.mkdir(exist_ok=True)
        schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
        task = Task("t", schema, {}, Training(rounds=5), Privacy(unit="none"), Rounds(3, 2), codec="float32")
        store = Store(folder / "gateway.sqlite")
        store.create_run("run", task_to_dict(task), b"graph", np.zeros(8, np.float32))
        self.told: List[Dict[str, Any]] = []
        self.sent: List[Tuple[str, Dict[str, Any]]] = []
        self.gateway = Gateway(store, "run", "f", NOWHERE, progress=self.told.append, sites=sites)
        self.gateway.link.publish = self.note  # type: ignore[method-assign]

    def note(self, topic: str, payload: bytes, retain: bool = False) -> None:
        frame = decode_frame(payload)
        if isinstance(frame, Chunk):
            self.sent.append((topic, decode_body(bytes(frame.data), 1 << 20)[0]))

    def say(self, kind: str, instance: str, entries: int = 2, records: int = 10, **fields: Any) -> None:
        ledger = {"entries": entries, "hash": instance[0] * 64, "process": instance, "n": len(self.told)}
        about = {"kind": kind, "run": "run", "records": records, "instance": instance, "ledger": ledger, **fields}
        self.gateway.receive(Message("edgeward/1/f/node/icu/presence", encode_body(about)))

    def kinds(self) -> List[str]:
        return [told["event"] for told in self.told]

    @property
    def online(self) -> Dict[str, int]:
        return dict(self.gateway.coordinator.online)


def test_the_second_is_refused_by_name_and_the_first_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.say("ready", "first")
    world.say("hello", "second", entries=0)  # with the ledger of an empty folder: none of the first one's business
    world.say("ready", "second", entries=1, records=99)
    world.say("declined", "second", entries=9, code="data")
    world.say("gone", "second")
    assert world.online == {"icu": 10}
    assert world.kinds() == ["joined", "name_in_use"]
    assert [(topic, header["kind"], header["instance"]) for topic, header in world.sent] == [
        ("edgeward/1/f/node/icu/down", "taken", "second")
    ]
    world.say("ready", "first", records=11)
    assert world.online == {"icu": 11}


def test_who_is_not_one_of_the_sites_is_asked_for_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, sites=("cardiology", "surgery"))
    for kind in ("hello", "ready", "declined", "ready", "gone"):
        world.say(kind, "first", code="data")
    assert world.online == {}
    assert world.sent == [], "no task, and no word about one"
    assert world.kinds() == ["passed_over"]
    world = World(tmp_path / "asked", sites=("icu", "surgery"))
    world.say("ready", "first")
    assert world.online == {"icu": 10}


def test_sites_that_cannot_be_are_named() -> None:
    def wrong(sites: Tuple[str, ...], nodes: int = 2) -> str:
        parts: Dict[str, Any] = {
            **dict.fromkeys(Parts._fields),
            "analysis": {},
            "evaluation": {},
            "gateway": GatewaySettings(sites=sites),
            "rounds": Rounds(nodes),
        }
        return " ".join(line for line in mistakes(Parts(**parts)) if "sites" in line)

    assert wrong(()) == wrong(("a", "b")) == ""
    assert "twice" in wrong(("a", "a"))
    assert "gateway.sites" in wrong(("a", "../b"))
    assert "wants 3" in wrong(("a", "b"), 3)


def test_one_that_comes_back_from_its_own_folder_is_the_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.say("ready", "first")
    world.say("hello", "first")
    world.say("ready", "first", records=12)
    assert world.online == {"icu": 12}
    assert "name_in_use" not in world.kinds()


def test_when_the_first_is_gone_the_second_is_heard(tmp_path: Path) -> None:
    """Of a node whose machine was replaced the broker says after a while that it is gone, without asking the new one again."""
    world = World(tmp_path)
    world.say("ready", "first")
    world.say("ready", "second", entries=5, records=20)
    assert world.online == {"icu": 10}
    world.say("gone", "first")
    assert world.online == {"icu": 20}


def test_who_is_silent_and_has_nothing_to_do_is_not_here() -> None:
    names = Names()
    assert names.heard("icu", "first", 0.0, busy=False)
    assert not names.heard("icu", "second", ALIVE_S, busy=False)
    assert not names.heard("icu", "second", 10 * ALIVE_S, busy=True)
    assert names.heard("icu", "second", ALIVE_S + 1, busy=False)
    assert not names.heard("icu", "first", ALIVE_S + 2, busy=False)
    assert names.heard("icu", "", ALIVE_S + 2, busy=False)
    assert names.heard("old", "", 0.0, busy=False)
    assert names.heard("old", "new", 0.0, busy=True), "it was updated"
    assert names.left("icu", ""), "an older node does not say which one it is"


def heard(agent: NodeAgent, instance: str) -> None:
    body = encode_body({"kind": "taken", "run": "run", "instance": instance})
    agent.link.events.put(Message(agent.topics.down("icu"), encode_frame(split(transfer_id(body), body)[0])))
    agent.step()


def test_a_node_that_is_the_second_ends_and_the_first_says_that_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents, said = [], []
    for folder in ("one", "two"):
        agent = NodeAgent(NOWHERE, "f", "icu", tmp_path / "none.csv", tmp_path / folder)
        agent.link.publish = lambda topic, payload, retain=False: said.append((topic, payload, retain))  # type: ignore[method-assign]
        agent.link.pump = lambda: None  # type: ignore[method-assign]
        agents.append(agent)
    one, two = agents
    assert one.instance != two.instance
    assert one.link.client_id != two.link.client_id, "the broker would end one for the other"
    heard(one, two.instance)
    about = [decode_body(payload, 1 << 20)[0] for topic, payload, retain in said if retain]
    assert [(header["kind"], header["instance"]) for header in about] == [("hello", one.instance)]
    assert not one.stopping
    said.clear()
    heard(two, two.instance)
    monkeypatch.setattr(two.link, "open", lambda *_: None)
    monkeypatch.setattr(two.link, "flush", lambda timeout_s: True)
    with pytest.raises(UsageError, match="another node is here as 'icu'"):
        two.run()
    assert not [payload for _, payload, retain in said if retain], "its end is not the first one's"


@pytest.mark.parametrize("words", [[3], "text", [["run"]]])
def test_a_presence_with_nonsense_about_runs_is_refused(tmp_path: Path, words: Any) -> None:
    world = World(tmp_path)
    world.say("ready", "first", runs=words)
    assert world.kinds() == ["refused"]


def test_what_a_node_says_of_this_run_counts_wherever_it_stands(tmp_path: Path) -> None:
    """A node in two runs, which declined the newer one: another gateway's, whose run this is not."""
    world = World(tmp_path)
    world.say("declined", "first", run="another", code="data", runs=[{"kind": "ready", "run": "run", "records": 12}])
    assert world.online == {"icu": 12}
    world.say("ready", "first", run="another", runs=[{"kind": "declined", "run": "run", "code": "data"}])
    assert world.online == {}
    assert world.kinds() == ["joined", "declined"]


def test_who_waits_for_its_owner_is_named_until_it_joins_or_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    asks: Dict[str, Any] = {"code": "policy.approval", "digest": "aa" * 32}
    said = "icu announced itself and waits: its owner has to approve the task"
    for _ in range(2):
        world.say("waiting", "first", **asks)
        assert said in world.gateway.coordinator.waits_for()
    world.say("gone", "first")
    assert world.gateway.coordinator.waits == {}
    world.say("waiting", "fresh", **asks)
    assert said in world.gateway.coordinator.waits_for()
    world.say("ready", "fresh")
    assert world.gateway.coordinator.waits == {}
    assert world.online == {"icu": 10}
