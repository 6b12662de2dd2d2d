"""Nodes and a key holder, and between them a gateway that lies: what each of them refuses."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

import numpy as np
import pytest

from orchestrator.errors import PrivacyError
from orchestrator.gateway.authority import Authority
from orchestrator.node import encrypted
from orchestrator.node.contribution import Contribution, Run
from orchestrator.node.data import Dataset
from orchestrator.node.encrypted import EncryptedRound, objection_to_encrypting
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.node.key_holder import KeyHolderAgent
from orchestrator.node.peers import Peers
from orchestrator.node.store import NodeStore
from orchestrator.privacy.ckks import KeyHolder, SumPlan, context_message, most_bits
from orchestrator.privacy.secure_sum import digest_of_told, session_id
from orchestrator.privacy.vector_layout import Layout, parts_of
from orchestrator.wire.body import decode_body
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Feature, Privacy, Rounds, Schema, Task, Training, task_to_dict

pytest.importorskip("tenseal")
SIZE, RECORDS = 5, 10
NODES = ("a", "b", "c", "d")
Body = Tuple[Dict[str, Any], Dict[str, np.ndarray]]


def task(honest: int = 3, checked: bool = True, holder: str = "keys") -> Task:
    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x", 0, 1),), standardization="range"
    )
    aggregation = Aggregation("ckks", honest=honest, key_holder=holder, checked=checked, update_range=8.0)
    rules = Rounds(nodes=4, quorum=4)
    return Task("t", schema, {"kind": "none"}, Training(rounds=3), Privacy(unit="none"), rules, aggregation=aggregation)


class Federation:
    """Key holder and nodes, and the gateway's messages between them, which a test may change."""

    def __init__(self, folder: Path, a_task: Optional[Task] = None, authority: Optional[Authority] = None) -> None:
        self.folder, self.task, self.authority = folder, a_task or task(), authority
        self.sent: List[Body] = []
        self.key_holder()
        self.stores = {name: NodeStore(folder / f"{name}.sqlite") for name in NODES}
        self.peers = {name: Peers(name, store, self.identity(name)) for name, store in self.stores.items()}
        self.computed: List[str] = []

    def identity(self, name: str) -> Optional[NodeIdentity]:
        if self.authority is None:
            return None
        folder = self.folder / f"id-{name}"
        if folder.exists():
            return NodeIdentity(folder)
        request = make_node_request(folder, name, "test")
        return install(folder, self.authority.sign(request, name), self.authority.ca_fingerprint)

    def key_holder(self, told: Optional[Task] = None) -> None:
        """Begins it, or begins it anew with what it left on the disk."""
        address, state = BrokerAddress("127.0.0.1", 1), self.folder / "keys"
        self.agent = KeyHolderAgent(address, "test", "keys", state, identity=self.identity("keys"))
        self.agent._send = lambda body: self.sent.append(decode_body(body, 1 << 30))  # type: ignore[method-assign]
        header = {"kind": "task", "run": "run", "task": task_to_dict(told or self.task)}
        self.agent._take_task(header, {"graph": np.zeros(1, np.uint8)})

    def ask(self, step: str, attempt: int = 1, number: int = 1, **fields: Any) -> Body:
        """The key holder's answer; an abstention is raised."""
        tensors = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
        header = {name: value for name, value in fields.items() if name not in tensors}
        about = {"kind": "step", "run": "run", "round": number, "attempt": attempt, "step": step}
        before = len(self.sent)
        self.agent._take_step({**about, **header}, tensors)
        if len(self.sent) == before:
            return {}, {}
        if self.sent[-1][0]["kind"] == "abstain":
            raise PrivacyError(self.sent[-1][0]["reason"])
        return self.sent[-1]

    def context(self, attempt: int = 1, number: int = 1) -> Body:
        return self.ask("context", attempt, number, parties=4, bits=most_bits(4), size=self.layout(number).size)

    def layout(self, number: int = 1) -> Layout:
        return Layout(parts_of(self.task, number, SIZE), most_bits(4), 4, 4 * RECORDS, 4 * RECORDS)

    def node(self, name: str, context: Body, attempt: int = 1, number: int = 1, **lies: Any) -> Body:
        """A node's answer to the round's message."""
        header, tensors = context
        form = {"bits": most_bits(4), "parties": 4, "units": 4 * RECORDS, "records": 4 * RECORDS}
        told = {"signature": header["signature"], "credential": header["credential"]}
        about = {"run": "run", "round": number, "attempt": attempt, "step": "encrypted"}
        weights = lies.pop("weights", np.zeros(SIZE, np.float32))
        message = {**about, **form, **told, **lies}
        data = Dataset(np.zeros((RECORDS, 1), np.float32), np.zeros(RECORDS, np.int32))
        run = Run("run", "digest", self.task, b"", data, data)

        def contribute(*_: Any) -> Contribution:
            self.computed.append(name)
            return Contribution({"update": value_of(name)}, {}, {})

        shown = {"weights": weights, "context": tensors["context"]}
        one = EncryptedRound("test", run, message, shown, name, self.peers[name], self.stores[name], contribute)
        return one.answer(message)

    def decrypt(
        self, answers: Dict[str, Body], attempt: int = 1, number: int = 1, left_out: Iterable[str] = ()
    ) -> Body:
        """Shows the key holder signatures and ciphertexts; its last answer."""
        fields = ("digest", "signature", "credential")
        summands = {name: {field: header[field] for field in fields} for name, (header, _) in answers.items()}
        told = digest_of_told("digest", self.layout(number).form, {"weights": np.zeros(SIZE, np.float32)})
        last = self.ask("decrypt", attempt, number, summands=summands, told=told)
        for name, (_, tensors) in answers.items():
            if name not in left_out:
                last = self.ask("decrypt", attempt, number, party=name, ciphertext=tensors["ciphertext"])
        return last


def value_of(name: str) -> np.ndarray:
    return np.full(SIZE, 0.1 * (1 + NODES.index(name)), np.float32)


def mean(federation: Federation, body: Body) -> np.ndarray:
    return np.asarray(federation.layout().decode(body[1]["sum"])["update"].values)


def everybody(federation: Federation, context: Body, attempt: int = 1, number: int = 1) -> Dict[str, Body]:
    return {name: federation.node(name, context, attempt, number) for name in NODES}


@pytest.mark.parametrize("certified", [False, True])
def test_the_mean_comes_out_and_the_same_answer_again_also_after_a_restart(tmp_path: Path, certified: bool) -> None:
    authority = Authority.create(tmp_path / "ca", "test", []) if certified else None
    federation = Federation(tmp_path, authority=authority)
    answers = everybody(federation, federation.context())
    opened = federation.decrypt(answers)
    np.testing.assert_allclose(mean(federation, opened), np.full(SIZE, 0.25), atol=1e-6)
    federation.key_holder()
    again = federation.ask("decrypt", summands={})
    np.testing.assert_array_equal(again[1]["sum"], opened[1]["sum"])


def test_a_node_that_was_told_another_model_is_in_no_sum(tmp_path: Path) -> None:
    """Pitfall (9): with weights of its own for each node, a gateway could make all parts of a sum vanish but one."""
    federation = Federation(tmp_path)
    context = federation.context()
    answers = {name: federation.node(name, context) for name in NODES if name != "b"}
    answers["b"] = federation.node("b", context, weights=np.full(SIZE, 1e6, np.float32))
    with pytest.raises(
        PrivacyError, match="of b is not signed by b for this sum and key, or it was told another model"
    ):
        federation.decrypt(answers)


def test_fewer_nodes_than_the_task_declares_are_not_opened(tmp_path: Path) -> None:
    federation = Federation(tmp_path, task(honest=4))
    answers = everybody(federation, federation.context())
    del answers["d"]
    with pytest.raises(PrivacyError, match="a sum over 3 parties .* 4 are needed"):
        federation.decrypt(answers)
    assert federation.ask("decrypt", summands={}) == ({}, {})  # said once; nothing of this attempt is opened any more


def test_a_key_holder_told_of_another_least_signs_keys_no_node_takes(tmp_path: Path) -> None:
    federation = Federation(tmp_path, task(honest=4))
    federation.key_holder(told=task(honest=3))
    with pytest.raises(PrivacyError, match="not signed by keys for this attempt and for sums over at least 4"):
        federation.node("a", federation.context())
    federation.key_holder(told=task(honest=4, checked=False))
    with pytest.raises(PrivacyError, match="not signed by keys"):
        federation.node("a", federation.context(2), 2)
    assert not federation.computed


def test_the_gateways_own_keys_are_refused_with_and_without_certificates(tmp_path: Path) -> None:
    for authority in (None, Authority.create(tmp_path / "ca", "test", [])):
        folder = tmp_path / str(authority is not None)
        folder.mkdir()
        federation = Federation(folder, authority=authority)
        true = federation.context()
        federation.node("a", true)
        evil = KeyHolder(
            SumPlan(federation.layout().size, 4, float(federation.layout().bound), 1.0), 3
        ).public_context()
        session = session_id("test", "run", 1, 1)
        other = Peers("b", NodeStore(folder / "evil.sqlite"), federation.identity("b"))
        forged = other.sign(context_message(session, evil, 3, True))
        shown = {"context": np.frombuffer(evil, np.uint8)}
        with pytest.raises(PrivacyError, match="not signed by keys"):
            federation.node("a", (true[0], shown))
        why = "shows the certificate of b" if authority is not None else "another key than when this node first met it"
        with pytest.raises(PrivacyError, match=why):
            federation.node("a", ({"signature": forged, "credential": other.credential}, shown))


def test_keys_of_another_attempt_or_form_are_refused(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    context = federation.context()
    with pytest.raises(PrivacyError, match="not signed by keys for this attempt"):
        federation.node("a", context, attempt=2)
    for lie in ({"bits": 24}, {"parties": 5}):
        with pytest.raises(PrivacyError, match="the key holder's keys are for SumPlan"):
            federation.node("a", context, **lie)


def test_one_sum_of_a_round_is_opened_whatever_the_attempt(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.decrypt(everybody(federation, federation.context()))
    for restart in (False, True):
        if restart:
            federation.key_holder()
        with pytest.raises(PrivacyError, match="the sum of attempt 1 at round 1 was opened"):
            federation.context(2)
        with pytest.raises(PrivacyError, match="was opened, and its keys are gone"):
            federation.context(1)
    assert federation.context(1, number=2)[0]["step"] == "context"


def test_another_attempt_carries_the_stored_values_and_old_ciphertexts_are_worth_nothing(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    first = everybody(federation, federation.context())
    second = everybody(federation, federation.context(2), 2)
    assert sorted(federation.computed) == sorted(NODES)
    with pytest.raises(PrivacyError, match="the keys of this attempt are gone"):
        federation.decrypt(first, 1)
    second = everybody(federation, federation.context(2), 2)
    np.testing.assert_allclose(mean(federation, federation.decrypt(second, 2)), np.full(SIZE, 0.25), atol=1e-6)


def test_a_restarted_key_holder_opens_nothing_of_what_was_before(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    answers = everybody(federation, federation.context())
    federation.key_holder()
    with pytest.raises(PrivacyError, match="the keys of this attempt are gone"):
        federation.decrypt(answers)


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ("another's", "a ciphertext that no node of this sum signed"),
        ("signature", "the ciphertext of d is not signed by d"),
        ("twice", "in the sum twice, or has the ciphertext of another"),
        ("cut", "a ciphertext that no node of this sum signed"),
        ("key holder's own", "a vector of keys does not belong into a sum"),
    ],
)
def test_a_ciphertext_that_is_not_what_was_signed_ends_the_attempt(tmp_path: Path, lie: str, why: str) -> None:
    federation = Federation(tmp_path)
    context = federation.context()
    answers = everybody(federation, context)
    header, tensors = answers["d"]
    if lie == "another's":
        answers["d"] = header, federation.node("d", context)[1]  # honest values, but not the signed bytes
    elif lie == "signature":
        answers["d"] = {**header, "signature": answers["c"][0]["signature"]}, tensors
    elif lie == "twice":
        answers["d"] = {**answers["c"][0], "credential": header["credential"]}, answers["c"][1]
    elif lie == "cut":
        answers["d"] = header, {"ciphertext": tensors["ciphertext"][:-1]}
    else:
        federation.peers["keys"], federation.stores["keys"] = federation.agent._peers, federation.stores["d"]
        answers["keys"] = federation.node("keys", context)
        del answers["d"]
    with pytest.raises(PrivacyError, match=why):
        federation.decrypt(answers)
    assert not any("sum" in tensors for _, tensors in federation.sent)


def test_while_a_ciphertext_is_missing_nothing_is_said_and_repeats_do_no_harm(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    answers = everybody(federation, federation.context())
    for _ in range(2):  # a gateway that began anew shows everything again
        assert federation.decrypt(answers, left_out=["c"]) == ({}, {})
    np.testing.assert_allclose(mean(federation, federation.decrypt(answers)), np.full(SIZE, 0.25), atol=1e-6)


def test_a_step_that_comes_before_its_task_is_answered_after_it(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.agent._run = None
    assert federation.context() == ({}, {})
    header = {"kind": "task", "run": "run", "task": task_to_dict(federation.task)}
    federation.agent._take_task(header, {"graph": np.zeros(1, np.uint8)})
    assert [header["step"] for header, _ in federation.sent] == ["context"]


def test_keys_for_too_few_or_for_inexact_sums_are_not_made(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    for fields in ({"parties": 2, "bits": 32, "size": 10}, {"parties": 1000, "bits": 32, "size": 10}):
        with pytest.raises(PrivacyError, match="were asked for"):
            federation.ask("context", **fields)
    with pytest.raises(PrivacyError, match="a sum of 0 values"):
        federation.ask("context", parties=4, bits=32, size=0)


def test_a_task_that_names_somebody_else_is_declined(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.key_holder(told=task(holder="other"))
    assert federation.agent._presence["kind"] == "declined"
    assert "names other as its key holder, not keys" in federation.agent._presence["reason"]
    assert federation.context() == ({}, {})


def test_who_cannot_encrypt_says_so_by_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert objection_to_encrypting(task(), "a") == ""
    assert "names keys as its key holder" in objection_to_encrypting(task(), "keys")

    def missing() -> None:
        raise PrivacyError("homomorphic encryption needs TenSEAL")

    monkeypatch.setattr(encrypted, "tenseal", missing)
    assert "TenSEAL" in objection_to_encrypting(task(), "a")
    assert objection_to_encrypting(dataclasses.replace(task(), aggregation=Aggregation("masked")), "a") == ""


def test_a_gateway_is_no_key_holder() -> None:
    with pytest.raises(ValueError, match="whoever adds must not hold the key"):
        Aggregation("ckks", key_holder="gateway")
