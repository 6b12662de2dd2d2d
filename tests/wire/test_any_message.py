"""Random and mutated messages of every kind at everyone who takes messages, in process: refused with WireError, or right.

EDGEWARD_MESSAGE_CASES=1000000 is the long run, over all parties together.
"""

import logging
import os
import random
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from agent_at_post import Below
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from mutations import Body, any_body, any_frames, damaged, mutated
from series import of_cases

from orchestrator.boards.protocol import RecordParser, crc16
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.refused import Refused
from orchestrator.gateway.relay import Region, Relay
from orchestrator.gateway.retraining import _record
from orchestrator.gateway.store import Store
from orchestrator.gateway.supply import Supply
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.parts import to_json
from orchestrator.node.agent import NodeAgent
from orchestrator.node.key_holder import KeyHolderAgent
from orchestrator.node.member import Member
from orchestrator.node.secure import MaskedRound
from orchestrator.node.tasks import GATEWAY
from orchestrator.privacy.secure_sum import Advert, Party, Session, session_id
from orchestrator.rounds.state import COLLECTING
from orchestrator.wire.codec import encode_update
from orchestrator.wire.evaluation import vector_size
from orchestrator.wire.link import BrokerAddress, Message
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

CASES = int(os.environ.get("EDGEWARD_MESSAGE_CASES", "24000"))
SHARES = {"gateway": 0.12, "node": 0.1, "holder": 0.06, "relay": 0.1, "listener": 0.15, "boards": 0.15}
NOWHERE = BrokerAddress("127.0.0.1", 1)
SIZE, RECORDS = 8, 10
NODES = ("a", "b", "c")
COUNTS = {"records": RECORDS, "units": RECORDS}


def make_task(aggregation: str = "plain", share: float = 0.2) -> Task:
    schema = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("x", 0, 1),))
    how = Aggregation(aggregation, key_holder="k" if aggregation == "ckks" else "")
    rules = Rounds(nodes=3, quorum=3, attempts=5)
    training, evaluation = Training(rounds=50, parameters=SIZE), Evaluation(share=share)
    return Task(
        "t", schema, {"kind": "none"}, training, Privacy(unit="none"), rules, evaluation=evaluation, aggregation=how
    )


def cases(who: str) -> int:
    return of_cases(max(50, int(CASES * SHARES[who])))


class NotMutating(random.Random):
    """Gives messages as they are."""

    def random(self) -> float:
        return 0.99

    def choice(self, options: Any) -> Any:
        return options[0]

    def randrange(self, *_: int) -> int:  # type: ignore[override]
        return 0


# The gateway


def key() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


def presences(run: str) -> List[Body]:
    about = {
        "process": {"memory_mib": 80.0, "sent_bytes": 5, "received_bytes": 6, "tensorflow": False},
        "labels": {"site": "icu"},
        "health": {"battery": 100.0},
        "ledger": {"entries": 1, "hash": "0" * 64, "process": "p", "n": 1},
        "instance": "i",
    }
    kinds: List[Dict[str, Any]] = [
        {"kind": "hello"},
        {"kind": "hello", "finished": run},
        {"kind": "ready", "run": run, **COUNTS},
        {"kind": "declined", "run": run, "code": "data"},
        {"kind": "waiting", "run": run, "code": "policy.approval", "digest": "d" * 64},
        {"kind": "refused", "code": "message"},
        {"kind": "gone"},
        {"kind": "health"},
    ]
    return [({**kind, **about}, {}) for kind in kinds]


def answers(aggregation: str, number: int, attempt: int) -> List[Body]:
    """What nodes may send up in an open round, or nearly."""
    about: Dict[str, Any] = {"run": "run", "round": number, "memory_mib": 8.0}
    sent = encode_update(np.ones(SIZE, np.float32), "int8", np.random.default_rng(0))
    counts = np.zeros(vector_size(2, 20), np.float32)
    update = {**about, **COUNTS, "kind": "update", "codec": "int8", "codec_error": 0.1}
    found: List[Body] = [(update, {**sent, "evaluation": counts}), (update, sent)]
    found.append(({**about, **COUNTS, "kind": "update", "codec": "float32"}, {"update": np.ones(2, np.float32)}))
    step = {**about, "kind": "step", "attempt": attempt}
    keys = {"channel": key(), "mask": key(), "signature": b"s", "credential": b"c", "commitment": bytes(32)}
    masked = {"masked": np.zeros(4 * (SIZE + 20), np.uint8)}
    steps: List[Body] = [
        ({"step": "keys", **keys}, {}),
        ({"step": "reveal", "nonce": bytes(32)}, {}),
        ({"step": "shares", "shares": {node: b"share" for node in NODES}}, {}),
        ({"step": "masked", **COUNTS, "foreseen": b"s", "next": keys}, masked),
        ({"step": "confirm", "signature": b"s"}, {}),
        ({"step": "unmask", "shares": {n: [b"b", bytes(33)] for n in NODES}, "next": {"shares": {"a": b"x"}}}, {}),
        (
            {"step": "context", "journal": b"j", "signature": b"s", "credential": b"c"},
            {"context": np.zeros(99, np.uint8)},
        ),
        ({"step": "decrypt"}, {"sum": np.zeros(SIZE + 20, np.uint32)}),
    ]
    digests = {name: bytes(32) for name in ("digest", "masked_digest", "check")}
    encrypted = {"step": "encrypted", **COUNTS, **digests, "signature": b"s", "credential": b"c"}
    steps.append((encrypted, {**masked, "ciphertext": np.zeros(300, np.uint8)}))
    if aggregation != "plain":
        found += [({**step, **header}, tensors) for header, tensors in steps] * 2
    return [*found, ({**about, "kind": "abstain", "attempt": attempt, "code": "sum"}, {})]


class Gateways:
    """A gateway in process without a broker, all its nodes in an open round; made again when a run is over."""

    def __init__(self, folder: Path, aggregation: str) -> None:
        self.folder, self.aggregation, self.made = folder, aggregation, 0
        self.begin()

    def begin(self) -> None:
        self.made += 1
        self.store = Store(self.folder / f"{self.made}.sqlite")
        task = make_task(self.aggregation, 0.0 if self.aggregation != "plain" else 0.2)
        self.store.create_run("run", task_to_dict(task), b"graph", np.zeros(SIZE, np.float32))
        self.gateway = self.again()
        for node in (*NODES, "k"):
            self.say(node, "presence", {"kind": "ready", "run": "run", **COUNTS})

    def again(self) -> Gateway:
        gateway = Gateway(self.store, "run", "f", NOWHERE)
        gateway.link.publish = lambda topic, payload, retain=False: None  # type: ignore[method-assign]
        return gateway

    def say(self, node: str, kind: str, header: Dict[str, Any]) -> None:
        from orchestrator.wire.body import encode_body

        self.gateway.receive(Message(f"edgeward/1/f/node/{node}/{kind}", encode_body(header)))

    def hostile(self, rng: random.Random) -> None:
        gateway, coordinator = self.gateway, self.gateway.coordinator
        node = rng.choice([*NODES, "k", "stranger"])
        if rng.random() < 0.3:
            node, body = self.honest(rng, node)
            payloads, kind = any_frames(NotMutating(), any_body(NotMutating(), [body])), "up"
        elif rng.random() < 0.4:
            payloads, kind = [any_body(rng, presences("run"))], "presence"
        else:
            valid = answers(self.aggregation, coordinator.round, coordinator.attempt)
            payloads, kind = any_frames(rng, any_body(rng, valid)), "up"
        for payload in payloads:
            gateway.receive(Message(f"edgeward/1/f/node/{node}/{kind}", payload))
        gateway.answers.acknowledge_due()
        gateway.answers.said_otherwise((*NODES, "k", "stranger"))
        gateway.refused = Refused()  # or it would not listen any more
        if coordinator.over or coordinator.declined or coordinator.phase != COLLECTING or coordinator.round > 5:
            self.begin()
        elif rng.random() < 0.02:  # a node that a stranger sent away comes back, and rounds go on
            for back in (*NODES, "k"):
                self.say(back, "presence", {"kind": "ready", "run": "run", **COUNTS})

    def honest(self, rng: random.Random, node: str) -> Tuple[str, Body]:
        """(who, what): an answer that the open round or step waits for, as far as anybody can see."""
        coordinator = self.gateway.coordinator
        missing = sorted(set(coordinator.cohort) - set(coordinator.arrived))
        step, number = getattr(coordinator, "step", ""), coordinator.round
        found = answers(self.aggregation, number, coordinator.attempt)
        chosen = [body for body in found if body[0].get("step", "") == step]
        header, tensors = chosen[0]
        if not step and number == 0:
            header, tensors = {**header, "codec": "float32"}, {"update": np.ones(2, np.float32)}
        return rng.choice(missing) if missing else node, (header, tensors)


@pytest.mark.parametrize("aggregation", ["plain", "masked", "ckks"])
def test_a_gateway(tmp_path: Path, aggregation: str) -> None:
    world = Gateways(tmp_path, aggregation)
    for case in range(cases("gateway")):
        world.hostile(random.Random(f"gateway {aggregation} {case}"))
    journal = world.store.journal("run")
    fresh = world.again()  # what it wrote down is what it can begin again with
    for event in journal:
        fresh.coordinator.handle(event)
    assert np.isfinite(fresh.aggregation.weights()).all()


# Nodes, key holder, relay


class Still:
    """A trainer without a graph."""

    def __init__(self, *_: Any) -> None:
        pass

    def train(self, weights: np.ndarray, round_number: int, correction: Any = None) -> np.ndarray:
        return np.zeros_like(weights)

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        raise NotImplementedError("its tasks have no distributed noise")


def quiet(agent: Member) -> None:
    agent.link.publish = lambda topic, payload, retain=False: None  # type: ignore[method-assign]
    agent.link.pump = lambda: None  # type: ignore[method-assign]


class Peer:
    """Another node of a masked round, which does what it should."""

    def __init__(self, name: str) -> None:
        self.name, self._own = name, Ed25519PrivateKey.generate()
        self.credential = self._own.public_key().public_bytes_raw()
        self.party: Any = None

    def begin(self, secure: MaskedRound) -> Dict[str, Any]:
        """Its keys, in the session the agent is in."""
        aggregation = secure.run.task.aggregation
        this = session_id("f", secure.run.id, secure.number, secure.attempt)
        session = Session(this, aggregation.neighbours, aggregation.least, aggregation.colluding)
        self.party = Party(session, self.name, self._own.sign, lambda party, message, signature: True)
        self.advert = self.party.advertise()
        return {
            "channel": self.advert.channel_key,
            "mask": self.advert.mask_key,
            "signature": self.advert.signature,
            "commitment": self.advert.commitment,
            "credential": self.credential,
        }


def deeper(agent: Member, peers: List[Peer], rng: random.Random) -> None:
    """From the agent's keys on, all steps of a masked round as they should be, or nearly."""

    def tell(body: Body) -> None:
        hear(agent, NotMutating() if rng.random() < 0.6 else rng, [body])

    secure = agent.runs.at.secure
    if not isinstance(secure, MaskedRound):
        return
    about = {"kind": "step", "run": secure.run.id, "round": secure.number, "attempt": secure.attempt}
    keys, _ = secure.answer({**about, "step": "keys"})
    own = {name: keys[name] for name in ("channel", "mask", "signature", "commitment", "credential")}
    adverts = {agent.name: own, **{peer.name: peer.begin(secure) for peer in peers}}
    tell(({**about, "step": "shares", "adverts": adverts}, {}))
    if agent.runs.at.secure is not secure:  # it refused, or has begun another attempt
        return
    fields = ("channel", "mask", "signature", "commitment")
    known = [Advert(name, *(told[field] for field in fields)) for name, told in adverts.items()]
    shares = {peer.name: peer.party.share(known) for peer in peers}
    form = {"bits": 32, "parties": 3, "units": 30, "records": 30}
    tell(({**about, "step": "masked", **form, "shares": {n: s[agent.name] for n, s in shares.items()}}, {}))
    tell(({**about, "step": "confirm", "survivors": [agent.name, *shares]}, {}))
    signatures = {name: bytes(64) for name in adverts}
    tell(({**about, "step": "unmask", "signatures": signatures, "foreseen": False, "next": adverts}, {}))


def hear(agent: Member, rng: random.Random, valid: List[Body]) -> None:
    """One message, as the agent's own loop takes it; and what it does when no other waits."""
    topic = rng.choice([agent.topics.all_nodes, agent.topics.down(agent.name)])
    for payload in any_frames(rng, any_body(rng, valid)):
        agent.link.events.put(Message(topic, payload))
    while not agent.link.events.empty() or agent.runs.at.round is not None:
        agent.step()
    agent.outbox.forget(GATEWAY)  # which acknowledges nothing


def from_gateway(task: Task, run: str, number: int, attempt: int) -> List[Body]:
    """What a gateway may say, or nearly."""
    told = {"run": run, "round": number, "attempt": attempt}
    weights = np.full(SIZE, 0.5, np.float32)
    model = {"weights": weights, "mean": np.zeros(1, np.float32), "std": np.ones(1, np.float32)}
    graph = {"graph": np.frombuffer(b"graph", np.uint8)}
    keys = {"channel": key(), "mask": key(), "signature": bytes(64), "credential": key(), "commitment": bytes(32)}
    form = {"bits": 32, "parties": 3, "units": 30, "records": 30}
    summand = {n: b"d" * 32 for n in ("digest", "masked_digest", "check")}
    summands = {n: {**summand, "signature": bytes(64), "credential": key()} for n in NODES}
    kinds: List[Body] = [
        ({"kind": "task", "run": run, "task": task_to_dict(task)}, graph),
        ({"kind": "task", "run": run, "task": task_to_dict(task), "certificates": []}, graph),
        ({"kind": "round", **told}, model),
        ({"kind": "round", **told, "prepared": False, "step": "encrypted", **form, "journal": b"j", "signature": b"s",
          "credential": key()}, {**model, "context": np.zeros(99, np.uint8)}),
        ({"kind": "finished", "run": run, "reason": ""}, model),
        ({"kind": "taken", "run": run, "instance": "other"}, {}),
    ]  # fmt: skip
    steps: List[Dict[str, Any]] = [
        {"step": "reveal", "adverts": {n: keys for n in NODES}},
        {"step": "shares", "adverts": {n: keys for n in NODES}, "nonces": {}},
        {"step": "masked", **form, "shares": {n: bytes(94) for n in NODES}},
        {"step": "confirm", "survivors": list(NODES)},
        {"step": "unmask", "signatures": {n: bytes(64) for n in NODES}, "foreseen": False, "next": {"a": keys}},
        {"step": "context", "size": SIZE, "parties": 3},
        {"step": "decrypt", "summands": summands, "told": bytes(32)},
        {"step": "decrypt", "party": "a", "told": bytes(32)},
    ]
    return kinds + [({"kind": "step", **told, **step}, {"ciphertext": np.zeros(300, np.uint8)}) for step in steps]


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """A line a case is what the parties log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents hold answers back for a while, so that their time tells nothing: not here."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def at(make: Callable[[Path], Member], task: Task, folder: Path, who: str, name: str) -> None:
    """The agent hears hostile messages; a true task now and then gives it a run to be in."""
    agent = make(folder)
    quiet(agent)
    peers = [Peer("b"), Peer("c")]
    for case in range(cases(who)):
        rng = random.Random(f"{name} {case}")
        if case % 200 == 0:
            hear(agent, NotMutating(), [from_gateway(task, f"run{case // 2000}", 1, 1)[0]])
        run = "run" if agent.runs.at.run is None else agent.runs.at.run.id
        number, attempt = rng.choice([(1, 1), (1, 1), (0, 1), (2, 0), (3, 2)])
        hear(agent, rng, from_gateway(task, run, number, attempt))
        if case % 5 == 0 and agent.runs.at.run is not None and task.aggregation.method == "masked":
            begin = from_gateway(agent.runs.at.run.task, agent.runs.at.run.id, 1 + case % 7, 1 + case % 3)[2]
            hear(agent, NotMutating(), [begin])
            deeper(agent, peers, rng)
        assert not agent.stopping


@pytest.mark.parametrize("aggregation", ["plain", "masked", "ckks"])
def test_a_node(tmp_path: Path, aggregation: str, awake: None) -> None:
    data = tmp_path / "a.csv"
    data.write_text("x,y\n" + "0.5,1\n0.25,0\n" * 5)

    def make(folder: Path) -> NodeAgent:
        return NodeAgent(NOWHERE, "f", "a", data, folder / "a", Still)

    at(make, make_task(aggregation, 0.0), tmp_path, "node", f"node {aggregation}")


def test_a_key_holder(tmp_path: Path, awake: None) -> None:
    pytest.importorskip("tenseal")
    at(
        lambda folder: KeyHolderAgent(NOWHERE, "f", "k", folder / "k"),
        make_task("ckks", 0.0),
        tmp_path,
        "holder",
        "holder",
    )


class Receiving(Below):
    """The region of a relay, which answers at once."""

    def supply(self, supply: Supply) -> None:
        if supply.tensors is not None:
            assert all(tensor.dtype == np.float32 for tensor in supply.tensors.values())
        super().supply(supply)
        self.supplied.clear()


def test_a_relay(tmp_path: Path, awake: None) -> None:
    region = Region("below", Rounds(nodes=2, quorum=2))
    at(
        lambda folder: Relay(NOWHERE, "f", "a", folder / "a", region, lower=Receiving({"x": 5, "y": 6})),
        make_task("plain", 0.0),
        tmp_path,
        "relay",
        "relay",
    )


# Dashboard, boards

RECORD: Dict[str, Any] = {
    "boot": "0a0b0c0d", "seq": 1, "model": "d" * 64, "t_us": 5, "kind": "metrics", "v": 1, "latency_p50_us": 7, "psi": 0.5,
}  # fmt: skip


def any_json(rng: random.Random) -> bytes:
    import json

    header: Any = RECORD
    for _ in range(rng.randrange(4)):
        header = mutated(rng, header, list(RECORD)) if isinstance(header, dict) else header
    try:
        text = json.dumps(header, default=lambda value: "bytes").encode()
    except ValueError:  # a number too long to be written at once is written in pieces
        text = b'{"kind": "metrics", "boot": "a", "seq": 1, "latency_p50_us": ' + b"9" * rng.randrange(3, 6000) + b"}"
    return damaged(rng, text) if rng.random() < 0.2 else text


def test_a_dashboard(tmp_path: Path) -> None:
    listener = Listener(None, "f")
    for case in range(cases("listener")):
        rng = random.Random(f"listener {case}")
        name = rng.choice([*NODES, "stranger"])
        if rng.random() < 0.5:
            message = Message(f"edgeward/1/f/board/{name}/record", any_json(rng))
        else:
            message = Message(f"edgeward/1/f/node/{name}/presence", any_body(rng, presences("run")))
        listener.take(message, float(case))
        assert isinstance(_record(message.payload), dict)
        if case % 100 == 0:
            to_json([listener.boards(), listener.presence()])


def test_a_monitor_of_boards() -> None:
    import json

    parser = RecordParser()
    for case in range(cases("boards")):
        rng = random.Random(f"boards {case}")
        text = any_json(rng)
        line = b"@ew " + text + b"*%04x\n" % crc16(text)
        for record in parser.feed(damaged(rng, line) if rng.random() < 0.3 else line):
            json.dumps(record.as_dict(), allow_nan=False)
            str(record)
    assert parser.stats.received
