"""Attack: the gateway joins a graph of nodes that send each other what they compute of their records, or makes them send more.
Promise: a node sends nothing to whom its owner did not confirm, no more than its policy lets pass, and one exchange a run."""

import queue
import time
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from inside import csv_of
from malicious import GIVE_UP_S, Attack, Victim

from orchestrator.analyses.base import as_pairs
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.analyses.svm import COUNTED, EXCHANGED
from orchestrator.node.peers import Peers
from orchestrator.node.store import NodeStore
from orchestrator.privacy.clipping import with_clipping
from orchestrator.privacy.peer_channel import Hello, PeerKey
from orchestrator.wire.link import Link, Message
from orchestrator.wire.peer_frames import HELLO, SEALED, PeerFrame, decode_peer, encode_peer
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.topics import Topics
from orchestrator.wire.training import Training

NODE = "icu-1"
ROWS: List[Tuple[Any, ...]] = [(20 + i % 40, 1 + i % 4, "f" if i % 3 else "m") for i in range(80)]
SCHEMA = Schema(
    "table", "", (), {}, (Feature("age", 0, 100), Feature("dose", 0, 10), Feature("sex", categories=("f", "m")))
)
OPEN = '[require]\nunits = ["none"]\nstages = []\nsteady = false\n'
ALLOW = "[allow]\nschemas_a_day = 100\npeer_messages = 500\n"
CONFIRMED = "[require.peers]\n" + "".join(f"{name} = '{digit * 64}'\n" for name, digit in (("b", "1"), ("c", "2")))


def task_of(*nodes: str, graph: str = "complete", iterations: int = 500) -> Task:
    declared: Dict[str, Any] = {
        "kind": "svm",
        "outcome": "sex",
        "nodes": nodes,
        "graph": graph,
        "iterations": iterations,
    }
    declared["patience_s"] = 0.2
    rounds, training = Rounds(len(nodes), len(nodes)), Training(rounds=1)
    task = Task("t", SCHEMA, {}, privacy=Privacy("none"), rounds=rounds, analysis=declared, training=training)
    found = analysis_of(task)
    return with_clipping(spelled_out(replace(task, training=Training(rounds=found.rounds, parameters=found.sums.size))))


def asked(stage: int, records: float = 80.0) -> Dict[str, np.ndarray]:
    size = analysis_of(task_of(NODE, "b")).begin(0).size // 2 - 1
    return {"weights": np.append(np.float32(stage), as_pairs(np.append(records, np.zeros(size))))}


@pytest.fixture(scope="module")
def attack(victim: Victim) -> Attack:
    return victim(csv_of(["age", "dose", "sex"], ROWS), OPEN)


class Tap:
    """All that nodes send each other, and a way to send in anybody's name: the broker is in the gateway's hands."""

    def __init__(self, attack: Attack) -> None:
        self._topics = Topics(attack.node.federation)
        self.link = Link(
            attack.node.address, f"tap-{time.monotonic_ns()}", [self._topics.peer("x", "x").replace("x", "+")]
        )
        self.link.open(GIVE_UP_S)
        self.heard: List[Tuple[str, PeerFrame]] = []

    def listen(self, quiet_s: float = 0.3) -> None:
        """Until nothing more comes for so long; at most so many messages, since a node says who it is again and again."""
        try:
            for _ in range(20):
                event = self.link.events.get(timeout=quiet_s)
                if isinstance(event, Message):
                    self.heard.append((event.topic.split("/")[-1], decode_peer(event.payload)))
        except queue.Empty:
            return

    def session(self) -> Optional[bytes]:
        """Of the exchange, once a node has said something."""
        self.listen(0.05)
        return self.heard[0][1].session if self.heard else None

    def send(self, sender: str, frame: PeerFrame) -> None:
        self.link.publish(self._topics.peer(sender, NODE), encode_peer(frame))


@pytest.fixture
def tap(attack: Attack) -> Iterator[Tap]:
    found = Tap(attack)
    yield found
    found.link.close()


def opened(attack: Attack, run: str) -> bool:
    return f"run {run}: reading" in attack.node.log


REFUSALS = {
    "messages that no policy lets pass": (OPEN, task_of(NODE, "b", "c"), "declined", "policy.messages"),
    "more than the policy lets pass": (
        OPEN + ALLOW + CONFIRMED,
        task_of(NODE, "b", iterations=501),
        "declined",
        "policy.messages",
    ),
    "a neighbour nobody confirmed": (OPEN + ALLOW + CONFIRMED, task_of(NODE, "b", "z"), "waiting", "policy.peers"),
    "a graph without this node": (OPEN + ALLOW + CONFIRMED, task_of("b", "c"), "declined", "task"),
    "answers that wait for their owner": (
        OPEN + ALLOW + CONFIRMED + "[disclosure]\nhold = true\n",
        task_of(NODE, "b"),
        "declined",
        "policy.release",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_task_is_refused_before_data_are_opened(attack: Attack, what: str) -> None:
    policy, task, kind, code = REFUSALS[what]
    attack.node.rule(policy)
    run = what.replace(" ", "-")
    said = attack.gateway.offer(NODE, run, task)
    assert (said["kind"], said.get("code")) == (kind, code)
    assert not opened(attack, run)


def test_a_stranger_far_off_in_the_graph_is_no_neighbour(attack: Attack) -> None:
    """What it may learn it learns of its own neighbours, whose owners did not confirm it either."""
    attack.node.rule(OPEN + ALLOW + CONFIRMED)
    assert attack.gateway.offer(NODE, "far", task_of(NODE, "b", "c", "z", graph="line"))["kind"] == "ready"


@pytest.mark.parametrize(("rule", "code"), [("minimum_patients = 81", "patients"), ("parameters = 0.1", "parameters")])
def test_too_few_patients_for_an_answer_are_too_few_for_a_message(
    attack: Attack, tap: Tap, rule: str, code: str
) -> None:
    attack.node.rule(f"{OPEN}{ALLOW}{CONFIRMED}[disclosure]\n{rule}\n")
    assert attack.gateway.offer(NODE, code, task_of(NODE, "b"))["kind"] == "ready"
    said = attack.gateway.provoke(NODE, {"kind": "round", "run": code, "round": 2}, asked(EXCHANGED))
    assert said.get("code") == f"disclosure.{code}"
    tap.listen()
    assert tap.heard == []


def test_a_secure_round_that_cannot_be_read_begins_no_exchange(attack: Attack, tap: Tap) -> None:
    attack.node.rule(OPEN + ALLOW + CONFIRMED)
    masked = replace(task_of(NODE, "b", "c"), aggregation=Aggregation("masked"))
    assert attack.gateway.offer(NODE, "unread", masked)["kind"] == "ready"
    header = {"kind": "round", "run": "unread", "round": 2}
    for attempt in (None, "1", True, 1.0, [1]):
        attack.gateway.send(NODE, {**header, "attempt": attempt}, asked(EXCHANGED))
    tap.listen(0.5)
    assert tap.heard == []
    assert attack.gateway.refusal(NODE, header, asked(EXCHANGED))["code"] == "message"


def refused(attack: Attack, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
    """As a round that it may not answer. A node says so once a second at most, so it is asked until it does."""
    before, asked_at = len(attack.gateway.presences), 0.0

    def said() -> Optional[bool]:
        nonlocal asked_at
        if time.monotonic() > asked_at + 0.3:
            asked_at = time.monotonic()
            attack.gateway.send(NODE, {**header, "again": str(asked_at)}, tensors)
        return any(p.get("code") == "round" for p in attack.gateway.presences[before:]) or None

    attack.gateway.until(said, f"{NODE} refuses {header}", NODE)


def test_a_gateway_in_the_place_of_neighbours_gets_nothing_sealed_for_it_and_one_exchange(
    attack: Attack, tap: Tap, tmp_path: Any
) -> None:
    attack.node.rule(OPEN + ALLOW + CONFIRMED)
    assert attack.gateway.offer(NODE, "run", task_of(NODE, "b", "c"))["kind"] == "ready"
    attack.gateway.round(NODE, "run", 1, asked(COUNTED))
    attack.gateway.send(NODE, {"kind": "round", "run": "run", "round": 2}, asked(EXCHANGED))
    session = attack.gateway.until(tap.session, "a message to a neighbour", NODE)
    puppet = Peers("b", NodeStore(tmp_path / "puppet.sqlite"))
    key = PeerKey(session, "b")
    hello = Hello(1, key.public, puppet.credential, b"")
    hello = hello._replace(signature=puppet.sign(hello.signed(session, "b")))
    tap.send("b", PeerFrame(HELLO, session, hello.encoded()))
    attack.gateway.until(lambda: "a message of b: " in attack.node.log or None, "a refusal in the log", NODE)
    refused(attack, {"kind": "round", "run": "run", "round": 2}, asked(EXCHANGED, 81.0))
    refused(attack, {"kind": "round", "run": "run", "round": 3}, asked(EXCHANGED))
    tap.listen()
    assert {receiver for receiver, _ in tap.heard if receiver != NODE} == {"b", "c"}
    assert not [frame for receiver, frame in tap.heard if frame.kind == SEALED], "not an iterate left the node"
    attack.node.still_here()
