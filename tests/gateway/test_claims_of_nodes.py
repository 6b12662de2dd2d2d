"""A gateway in process, without a broker: what nodes claim of themselves, and a round that cannot be aggregated."""

import time
from pathlib import Path
from typing import Any, Dict, List, Tuple, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.errors import PrivacyError, RoundError
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.wire.body import encode_body
from orchestrator.wire.codec import encode_update
from orchestrator.wire.frames import Ack, decode_frame, encode_frame, split
from orchestrator.wire.link import BrokerAddress, Message
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training
from orchestrator.wire.transfer import transfer_id

NODES = ("a", "b", "c")
RECORDS, UNITS = 10, 4


sent: List[Tuple[str, bytes]] = []


def start(tmp_path: Path, aggregation: str) -> Tuple[Gateway, List[Dict[str, Any]]]:
    """Round 1 of a run that all NODES have joined, and what the gateway tells."""
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    rules, how = Rounds(nodes=3, quorum=3), Aggregation(aggregation)
    task = Task(
        "t", schema, {}, Training(rounds=5), Privacy(unit="none"), rules, aggregation=how, codec="float32"
    )  # fmt: skip
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(task), b"graph", np.zeros(8, np.float32))
    shown: List[Dict[str, Any]] = []
    gateway = Gateway(store, "run", "f", BrokerAddress("127.0.0.1", 1), progress=shown.append)
    sent.clear()
    gateway.link.publish = lambda topic, payload, retain=False: sent.append((topic, payload))  # type: ignore[method-assign]
    for node in NODES:
        ready = {"kind": "ready", "run": "run", "records": RECORDS, "units": UNITS}
        gateway.receive(Message(f"edgeward/1/f/node/{node}/presence", encode_body(ready)))
    return gateway, shown


def send(gateway: Gateway, node: str, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
    body = encode_body({"run": "run", "round": 1, **header}, tensors)
    for chunk in split(transfer_id(body), body):
        gateway.receive(Message(f"edgeward/1/f/node/{node}/up", encode_frame(chunk)))


def update(gateway: Gateway, node: str, records: int = RECORDS, units: int = UNITS) -> None:
    tensors = encode_update(np.ones(8, np.float32), "float32", np.random.default_rng(0))
    send(gateway, node, {"kind": "update", "records": records, "units": units, "codec": "float32"}, tensors)


VECTOR = encode_update(np.ones(8, np.float32), "float32", np.random.default_rng(0))
CLAIMS = [("records", RECORDS + 1), ("units", UNITS + 1), ("records", 0), ("units", 0)]


@pytest.mark.parametrize(("what", "claimed"), CLAIMS)
def test_an_update_of_more_than_its_node_joined_with_is_refused(tmp_path: Path, what: str, claimed: int) -> None:
    gateway, shown = start(tmp_path, "plain")
    update(gateway, "a", **{what: claimed})
    assert f"claims {claimed} {what}" in shown[-1]["reason"]
    assert not gateway.coordinator.arrived
    update(gateway, "a")
    assert list(gateway.coordinator.arrived) == ["a"]


@pytest.mark.parametrize(("what", "claimed"), CLAIMS)
def test_so_is_a_masked_vector(tmp_path: Path, what: str, claimed: int) -> None:
    gateway, shown = start(tmp_path, "masked")
    about = until_masked(gateway)
    masked = {"masked": np.zeros(20, np.uint8)}
    counts = {"records": RECORDS, "units": UNITS}
    send(gateway, "a", {**about, "step": "masked", **counts, what: claimed}, masked)
    assert shown[-1]["event"] == "refused"
    assert f"{claimed} {what}" in shown[-1]["reason"]
    assert not gateway.coordinator.arrived
    send(gateway, "a", {**about, "step": "masked", **counts}, masked)
    assert list(gateway.coordinator.arrived) == ["a"]


def until_masked(gateway: Gateway) -> Dict[str, Any]:
    """Keys and shares of all; returns what is in all of an answer's headers."""
    about = {"kind": "step", "attempt": 1}
    for node in NODES:
        keys = {k: X25519PrivateKey.generate().public_key().public_bytes_raw() for k in ("channel", "mask")}
        send(gateway, node, {**about, "step": "keys", **keys, "signature": b"s", "credential": b"c"}, {})
    for node in NODES:
        shares = {other: b"share" for other in NODES if other != node}
        send(gateway, node, {**about, "step": "shares", "shares": shares}, {})
    return about


def test_a_vector_that_waits_for_others_is_acknowledged_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _ = start(tmp_path, "masked")
    about = until_masked(gateway)
    vector = {**about, "step": "masked", "records": RECORDS, "units": UNITS}, {"masked": np.zeros(20, np.uint8)}
    sent.clear()
    send(gateway, "a", *vector)
    gateway.answers.acknowledge_due()
    assert sent == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.0)
    assert gateway.wait_s() == 0.0
    gateway.answers.acknowledge_due()
    assert [topic for topic, _ in sent] == ["edgeward/1/f/node/a/down"]
    assert isinstance(decode_frame(sent[0][1]), Ack)
    for node in NODES[1:]:  # and not where the next step says the same
        send(gateway, node, *vector)
    assert cast(SecureCoordinator, gateway.coordinator).step == "confirm"
    monkeypatch.setattr(time, "monotonic", lambda: now + 2.0)
    gateway.answers.acknowledge_due()
    assert len(sent) == 1


def test_a_plain_round_whose_privacy_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, _ = start(tmp_path, "plain")

    def fail(*_: Any) -> None:
        raise PrivacyError("no room for the noise")

    monkeypatch.setattr(gateway.aggregation, "outcome", fail)
    for node in NODES[:2]:
        update(gateway, node)
    with pytest.raises(RoundError, match="round 1: no room for the noise"):
        update(gateway, "c")


@pytest.mark.parametrize("aggregation", ["plain", "masked"])
def test_an_older_state_put_back_between_two_presences_shows_by_the_answers(tmp_path: Path, aggregation: str) -> None:
    gateway, shown = start(tmp_path, aggregation)
    head = {"entries": 32, "hash": "a" * 64, "process": "first", "n": 7}
    if aggregation == "masked":
        vector = {**until_masked(gateway), "step": "masked", "records": RECORDS, "units": UNITS, "ledger": head}
        send(gateway, "a", vector, {"masked": np.zeros(20, np.uint8)})
    else:
        send(
            gateway,
            "a",
            {"kind": "update", "records": RECORDS, "units": UNITS, "codec": "float32", "ledger": head},
            VECTOR,
        )
    assert list(gateway.coordinator.arrived)[:1] == ["a"]
    older = {"entries": 22, "hash": "b" * 64, "process": "second", "n": 1}
    hello = encode_body({"kind": "hello", "ledger": older})
    gateway.receive(Message("edgeward/1/f/node/a/presence", hello))
    assert shown[-1]["reason"].startswith("its ledger lost 10 of 32 entries")
    assert shown[-1]["code"] == "ledger.rollback"


def test_an_answer_from_an_older_state_is_not_counted(tmp_path: Path) -> None:
    gateway, _ = start(tmp_path, "plain")
    newest = {"entries": 32, "hash": "a" * 64, "process": "first", "n": 7}
    gateway.receive(Message("edgeward/1/f/node/a/presence", encode_body({"kind": "hello", "ledger": newest})))
    older = {"entries": 22, "hash": "b" * 64, "process": "second", "n": 1}
    send(
        gateway,
        "a",
        {"kind": "update", "records": RECORDS, "units": UNITS, "codec": "float32", "ledger": older},
        VECTOR,
    )
    assert "a" not in gateway.coordinator.arrived
    assert "a" in gateway.coordinator.declined
