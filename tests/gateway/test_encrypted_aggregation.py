"""The gateway between nodes and key holder: what it refuses on arrival, and that it shows one ciphertext at a time."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from orchestrator.errors import PrivacyError, WireError
from orchestrator.gateway import federation
from orchestrator.gateway.config import Config
from orchestrator.gateway.encrypted_aggregation import EncryptedAggregation
from orchestrator.gateway.store import Store
from orchestrator.privacy.ckks import Encryptor, KeyHolder, SumPlan
from orchestrator.privacy.vector_layout import Layout, parts_of
from orchestrator.rounds.events import Aggregate, Announce, Arrived
from orchestrator.rounds.secure import CONTEXT, DECRYPT, ENCRYPTED
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Feature, Privacy, Rounds, Schema, Selection, Task, Training, task_to_dict

pytest.importorskip("tenseal")
SIZE = 6
COUNTS = {"a": (10, 10), "b": (20, 20), "c": (30, 30)}


def task(checked: bool = True) -> Task:
    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x", 0, 1),), standardization="range"
    )
    aggregation = Aggregation("ckks", key_holder="keys", update_range=8.0, checked=checked)
    rules = Rounds(nodes=3, quorum=3)
    return Task("t", schema, {"kind": "none"}, Training(rounds=3), Privacy(unit="none"), rules, aggregation=aggregation)


class Round:
    """One attempt: the gateway's store after the key holder's answer."""

    def __init__(self, folder: Path, a_task: Task) -> None:
        self.store = Store(folder / "gateway.sqlite")
        self.store.create_run("run", task_to_dict(a_task), b"", np.zeros(SIZE, np.float32))
        self.gateway = EncryptedAggregation(self.store, "run", a_task, None, "test")
        asked = self.gateway.request(announce(CONTEXT), COUNTS).fields
        self.layout = Layout(parts_of(a_task, 1, SIZE), asked["bits"], asked["parties"], 60, 60)
        assert asked["size"] == self.layout.size
        self.holder = KeyHolder(SumPlan(asked["size"], asked["parties"], float(self.layout.bound), 1.0))
        public = np.frombuffer(self.holder.public_context(), np.uint8)
        self.put(CONTEXT, "keys", {"signature": b"s", "credential": b"c"}, {"context": public})

    def put(self, step: str, node: str, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        self.gateway.check_answer(step, {"round": 1, "attempt": 1, **header}, tensors)
        self.store.put_answer("run", 1, 1, step, node, encode_body(header, tensors))

    def ciphertext(self, name: str) -> Tuple[Dict[str, Any], Dict[str, np.ndarray]]:
        value, weight = np.full(SIZE, COUNTS[name][0] / 10, np.float32), COUNTS[name][0]
        vector = self.layout.encode({"update": value}, {"update": weight}, np.random.default_rng())
        data = Encryptor(self.holder.public_context()).encrypt(vector.astype(np.float64))
        header = {"records": weight, "units": weight, "digest": b"d", "signature": b"s", "credential": b"c"}
        return header, {"ciphertext": np.frombuffer(data, np.uint8)}


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
        one.put(ENCRYPTED, name, *one.ciphertext(name))
    passed = one.gateway.passed_on(announce(DECRYPT))
    header, tensors = decode_body(next(passed), 1 << 24)
    assert sorted(header["summands"]) == ["a", "b", "c"]
    assert not tensors
    read: List[str] = []
    answer = one.store.answer
    one.store.answer = lambda *key: read.append(key[-1]) or answer(*key)  # type: ignore[method-assign, func-returns-value]
    for count, name in enumerate(COUNTS, 1):
        assert decode_body(next(passed), 1 << 24)[0]["party"] == name
        assert len(read) == count
    assert next(passed, None) is None


@pytest.mark.parametrize("checked", [True, False])
def test_the_key_holders_sum_is_read_as_the_weighted_mean(tmp_path: Path, checked: bool) -> None:
    one = Round(tmp_path, task(checked))
    signed = [one.ciphertext(name) for name in COUNTS]
    for name, (header, tensors) in zip(COUNTS, signed):
        one.put(ENCRYPTED, name, header, tensors)
    if checked:
        total = sum(
            one.layout.encode(
                {"update": np.full(SIZE, count / 10, np.float32)}, {"update": count}, np.random.default_rng()
            )
            for count, _ in COUNTS.values()
        )
    else:
        (body,) = one.gateway.passed_on(announce(DECRYPT))
        encrypted = decode_body(body, 1 << 24)[1]["total"].tobytes()
        total = np.rint(one.holder._open(encrypted, b"session", 3)).astype(np.int64)
    one.put(DECRYPT, "keys", {}, {"sum": np.asarray(total, np.int64)})
    one.gateway.outcome(Aggregate(1, tuple(COUNTS), 1), 60.0)
    weights = one.gateway.outcome(Aggregate(1, tuple(COUNTS), 1), 60.0).vectors["weights"]
    np.testing.assert_allclose(weights, np.full(SIZE, (10 * 1 + 20 * 2 + 30 * 3) / 60), atol=1e-6)


def test_what_is_no_ciphertext_of_this_attempt_is_refused_on_arrival(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    header, tensors = one.ciphertext("a")
    other = one.holder
    one.holder = KeyHolder(other.plan)
    stranger = one.ciphertext("a")[1]
    one.holder = other
    noise = np.random.default_rng(1).integers(0, 256, tensors["ciphertext"].size, np.uint8)
    noise[:40] = tensors["ciphertext"][:40]
    for wrong, why in (
        ({"ciphertext": tensors["ciphertext"][:-8]}, "a ciphertext of"),
        (stranger, "encrypted for key"),
        ({"ciphertext": noise}, "not a ciphertext under these parameters"),
        ({}, "without its ciphertext"),
    ):
        with pytest.raises(WireError, match=why):
            one.put(ENCRYPTED, "a", header, wrong)
    for lacks in ("digest", "signature", "credential", "units"):
        with pytest.raises(WireError, match=lacks):
            one.put(ENCRYPTED, "a", {name: value for name, value in header.items() if name != lacks}, tensors)


def test_what_nobody_asked_for_beside_an_answer_is_left_alone(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    header, tensors = one.ciphertext("a")
    header = {"step": ENCRYPTED, "next": {"shares": {}}, **header}
    one.put(ENCRYPTED, "a", header, tensors)
    event = Arrived(0.0, "a", 1, "d", 1.0, ENCRYPTED, 1, one.gateway.prepares(ENCRYPTED, header))
    one.gateway.put_answer(event, header, encode_body(header, tensors))
    assert not event.prepared


def test_a_sum_that_cannot_be_one_is_not_taken_for_one(tmp_path: Path) -> None:
    one = Round(tmp_path, task())
    for name in COUNTS:
        one.put(ENCRYPTED, name, *one.ciphertext(name))
    for wrong in (np.zeros(one.layout.size - 1, np.int64), np.full(one.layout.size, 1 << 40)):
        one.put(DECRYPT, "keys", {}, {"sum": wrong})
        with pytest.raises(PrivacyError, match="some that no sum could have"):
            one.gateway.outcome(Aggregate(1, tuple(COUNTS), 1), 60.0)
    with pytest.raises(WireError, match="without its values"):
        one.put(DECRYPT, "keys", {}, {"sum": np.zeros(one.layout.size)})


def test_the_form_fits_the_largest_cohort_there_could_be(tmp_path: Path) -> None:
    a_task = dataclasses.replace(task(), selection=Selection(cohort=3))
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(a_task), b"", np.zeros(SIZE, np.float32))
    gateway = EncryptedAggregation(store, "run", a_task, None, "test")
    counts = {f"n{i}": (i, i) for i in range(1, 11)}
    assert gateway.request(announce(CONTEXT), counts).fields["parties"] == 3
    fields = gateway._fix_form(announce(CONTEXT), {})  # kept: nodes that come later change nothing
    assert (fields["parties"], fields["records"], fields["units"]) == (3, 27, 27)


def test_a_gateway_without_tenseal_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise PrivacyError("homomorphic encryption needs TenSEAL")

    monkeypatch.setattr(federation, "tenseal", missing)
    with pytest.raises(PrivacyError, match="TenSEAL"):
        federation.Orchestrator(Config(task()), tmp_path, tmp_path / "out", print, 1.0)
    assert not (tmp_path / "out").exists()
