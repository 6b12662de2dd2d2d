"""The gateway between nodes and key holder: what it refuses on arrival, and that it shows one ciphertext at a time."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from orchestrator.errors import PrivacyError, WireError
from orchestrator.gateway import federation
from orchestrator.gateway.encrypted_aggregation import EncryptedAggregation
from orchestrator.gateway.settings import Config
from orchestrator.gateway.store import Store
from orchestrator.privacy.ckks import BITS, Encryptor, KeyHolder, Summand, SumPlan, sign_summand
from orchestrator.privacy.vector_layout import Layout, parts_of
from orchestrator.rounds.events import Aggregate, Announce, Arrived
from orchestrator.rounds.steps import CONTEXT, DECRYPT, ENCRYPTED
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task, task_to_dict
from orchestrator.wire.training import Training

pytest.importorskip("tenseal")
SIZE = 6
COUNTS = {"a": (10, 10), "b": (20, 20), "c": (30, 30)}


SESSION = b"session"


def task() -> Task:
    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x", 0, 1),), standardization="range"
    )
    aggregation = Aggregation("ckks", key_holder="keys", update_range=8.0)
    rules = Rounds(nodes=3, quorum=3)
    return Task(
        "t",
        schema,
        {"kind": "mlp", "hidden": []},
        Training(rounds=3),
        Privacy(unit="none"),
        rules,
        aggregation=aggregation,
    )


class Round:
    """One attempt: the gateway's store after the key holder's answer."""

    def __init__(self, folder: Path, a_task: Task) -> None:
        self.store = Store(folder / "gateway.sqlite")
        self.store.create_run("run", task_to_dict(a_task), b"", np.zeros(SIZE, np.float32))
        self.gateway = EncryptedAggregation(self.store, "run", a_task, None, "test")
        asked = self.gateway.request(announce(CONTEXT), COUNTS).fields
        self.layout = Layout(parts_of(a_task, 1, SIZE), BITS, asked["parties"], 60, 60)
        assert asked["size"] == self.layout.size
        self.holder = KeyHolder(SumPlan(asked["size"], asked["parties"]))
        public = np.frombuffer(self.holder.public_context(), np.uint8)
        self.put(CONTEXT, "keys", {"journal": b"j", "signature": b"s", "credential": b"c"}, {"context": public})

    def put(self, step: str, node: str, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        self.gateway.check_answer(step, {"round": 1, "attempt": 1, **header}, tensors)
        self.store.put_answer("run", 1, 1, step, node, encode_body(header, tensors))

    def hidden(self, name: str) -> Tuple[Dict[str, Any], Dict[str, np.ndarray]]:
        value, weight = np.full(SIZE, COUNTS[name][0] / 10, np.float32), COUNTS[name][0]
        vector = self.layout.encode({"update": value}, {"update": weight}, np.random.default_rng())
        hidden = Encryptor(self.holder.public_context()).hide(vector, name, SESSION)
        summand = sign_summand(name, hidden, SESSION, lambda _: b"s")
        signed = {field: getattr(summand, field) for field in Summand._fields[1:]}
        tensors = {part: np.frombuffer(getattr(hidden, part), np.uint8) for part in ("masked", "ciphertext")}
        return {"records": weight, "units": weight, **signed, "credential": b"c"}, tensors

    def pads(self) -> np.ndarray:
        """What the key holder says once it has been passed all that the gateway passes on."""
        first, *others = (decode_body(body, 1 << 24) for body in self.gateway.passed_on(announce(DECRYPT)))
        summands = [
            Summand(name, *(told[field] for field in Summand._fields[1:]))
            for name, told in first[0]["summands"].items()
        ]
        ciphertexts = (tensors["ciphertext"].tobytes() for _, tensors in others)
        return self.holder.sum_pads(ciphertexts, SESSION, summands, lambda *_: True)


def announce(step: str) -> Announce:
    return Announce(1, ("keys",) if step != ENCRYPTED else tuple(COUNTS), step, 1)


def test_nodes_get_keys_and_form_with_the_round(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    fields, tensors = one.gateway.opening(announce(ENCRYPTED), {})
    assert {name: fields[name] for name in ("step", "attempt", "parties", "units", "records")} == {
        "step": "encrypted",
        "attempt": 1,
        "parties": 3,
        "units": 60,
        "records": 60,
    }
    assert tensors["context"].tobytes() == one.holder.public_context()


def test_ciphertexts_are_passed_on_one_at_a_time_and_the_sum_is_the_weighted_mean(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    for name in COUNTS:
        one.put(ENCRYPTED, name, *one.hidden(name))
    passed = one.gateway.passed_on(announce(DECRYPT))
    header, tensors = decode_body(next(passed), 1 << 24)
    assert sorted(header["summands"]) == ["a", "b", "c"]
    assert not tensors
    assert all(set(told) == {*Summand._fields[1:], "credential"} for told in header["summands"].values())
    read: List[str] = []
    answer = one.store.answer
    one.store.answer = lambda *key: read.append(key[-1]) or answer(*key)  # type: ignore[method-assign, func-returns-value]
    for count, name in enumerate(COUNTS, 1):
        header, tensors = decode_body(next(passed), 1 << 24)
        assert header["party"] == name
        assert list(tensors) == ["ciphertext"]  # never the masked vector: the key holder could read it
        assert len(read) == count
    assert next(passed, None) is None


def test_the_sum_of_pads_taken_off_the_masked_vectors_is_the_weighted_mean(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    for name in COUNTS:
        one.put(ENCRYPTED, name, *one.hidden(name))
    one.put(DECRYPT, "keys", {}, {"sum": one.pads()})
    weights = one.gateway.outcome(Aggregate(1, tuple(COUNTS), 1), 60.0).vectors["weights"]
    np.testing.assert_allclose(weights, np.full(SIZE, (10 * 1 + 20 * 2 + 30 * 3) / 60), atol=1e-6)


def test_what_is_no_ciphertext_of_this_attempt_is_refused_on_arrival(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    header, tensors = one.hidden("a")
    holder = one.holder
    one.holder = KeyHolder(holder.plan)
    stranger = one.hidden("a")
    one.holder = holder
    noise = np.random.default_rng(1).integers(0, 256, tensors["ciphertext"].size, np.uint8)
    noise[:36] = tensors["ciphertext"][:36]
    for wrong, why in (
        ({"ciphertext": tensors["ciphertext"][:-8]}, "a ciphertext of"),
        ({"ciphertext": noise}, "not a ciphertext under these parameters"),
        ({"masked": tensors["masked"][:-4]}, "a masked vector of"),
        ({"masked": one.hidden("b")[1]["masked"]}, "not what its node signed"),
        ({"ciphertext": one.hidden("a")[1]["ciphertext"]}, "not what its node signed"),
        ({"ciphertext": None}, "without its ciphertext"),
        ({"masked": None}, "without its masked"),
    ):
        changed = {name: value for name, value in {**tensors, **wrong}.items() if value is not None}
        signed = dict(header)
        if "signed" not in why:
            digests = {"ciphertext": "digest", "masked": "masked_digest"}
            signed.update({digests[name]: hashlib.sha256(changed[name].tobytes()).digest() for name in changed})
        with pytest.raises(WireError, match=why):
            one.put(ENCRYPTED, "a", signed, changed)
    with pytest.raises(WireError, match="encrypted for key"):
        one.put(ENCRYPTED, "a", *stranger)
    for lacks in (*Summand._fields[1:], "credential", "units"):
        with pytest.raises(WireError, match=lacks):
            one.put(ENCRYPTED, "a", {name: value for name, value in header.items() if name != lacks}, tensors)


def test_what_nobody_asked_for_beside_an_answer_is_left_alone(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    header, tensors = one.hidden("a")
    header = {"step": ENCRYPTED, "next": {"shares": {}}, **header}
    one.put(ENCRYPTED, "a", header, tensors)
    event = Arrived(0.0, "a", 1, "d", 1.0, ENCRYPTED, 1, one.gateway.prepares(ENCRYPTED, header))
    one.gateway.put_answer(event, header, encode_body(header, tensors))
    assert not event.prepared


def test_a_sum_that_cannot_be_one_is_not_taken_for_one(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    for name in COUNTS:
        one.put(ENCRYPTED, name, *one.hidden(name))
    one.put(DECRYPT, "keys", {}, {"sum": np.zeros(one.layout.size - 1, np.uint32)})
    with pytest.raises(PrivacyError, match="the key holder's sum has"):
        one.gateway.outcome(Aggregate(1, tuple(COUNTS), 1), 60.0)
    one.put(DECRYPT, "keys", {}, {"sum": one.pads() + np.uint32(1)})  # of other pads: what is left says so
    with pytest.raises(PrivacyError, match="all nodes together have"):
        one.gateway.outcome(Aggregate(1, tuple(COUNTS), 1), 60.0)
    for wrong in (np.zeros(one.layout.size), np.zeros(one.layout.size, np.int64), np.zeros((1, 5), np.uint32)):
        with pytest.raises(WireError, match="without its values"):
            one.put(DECRYPT, "keys", {}, {"sum": wrong})


def test_the_form_fits_the_largest_cohort_there_could_be(tmp_path: Path) -> None:
    a_task = dataclasses.replace(task(), selection=Selection(cohort=3))
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(a_task), b"", np.zeros(SIZE, np.float32))
    gateway = EncryptedAggregation(store, "run", a_task, None, "test")
    counts = {f"n{i}": (i, i) for i in range(1, 11)}
    assert gateway.request(announce(CONTEXT), counts).fields["parties"] == 3
    keys = {"step": CONTEXT, "journal": b"j", "signature": b"s", "credential": b"c"}
    store.put_answer("run", 1, 1, CONTEXT, "keys", encode_body(keys, {"context": np.zeros(1, np.uint8)}))
    fields, _ = gateway.opening(announce(ENCRYPTED), {})  # kept: nodes that come later change nothing
    assert (fields["parties"], fields["records"], fields["units"]) == (3, 27, 27)


def test_a_gateway_without_tenseal_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise PrivacyError("homomorphic encryption needs TenSEAL")

    monkeypatch.setattr(federation, "tenseal", missing)
    with pytest.raises(PrivacyError, match="TenSEAL"):
        federation.Orchestrator(Config(task()), tmp_path, tmp_path / "out", print, 1.0)
    assert not (tmp_path / "out").exists()
