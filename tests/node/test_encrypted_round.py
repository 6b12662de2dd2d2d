"""Nodes and a key holder, and between them a gateway that lies: what each of them refuses."""

import dataclasses
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from agent_at_post import Body
from encrypted_federation import NODES, SIZE, Federation, everybody, task

from orchestrator.errors import PrivacyError
from orchestrator.gateway.authority import Authority
from orchestrator.node import encrypted
from orchestrator.node.encrypted import objection_to_encrypting
from orchestrator.node.peers import NO_LOG, Peers
from orchestrator.node.store import NodeStore
from orchestrator.privacy.ckks import (
    Encryptor,
    Hidden,
    KeyHolder,
    Summand,
    SumPlan,
    context_message,
    sign_summand,
)
from orchestrator.privacy.ckks_blocks import encrypt_block
from orchestrator.privacy.secure_sum import digest_of_announced, session_id
from orchestrator.wire.protection import Aggregation

pytest.importorskip("tenseal")


@pytest.mark.parametrize("certified", [False, True])
def test_the_mean_comes_out_and_the_same_answer_again_also_after_a_restart(tmp_path: Path, certified: bool) -> None:
    authority = Authority.create(tmp_path / "ca", "test", []) if certified else None
    federation = Federation(tmp_path, authority=authority)
    context = federation.context()
    answers = everybody(federation, context)
    opened = federation.decrypt(answers)
    np.testing.assert_allclose(federation.mean(context, answers, opened), np.full(SIZE, 0.25), atol=1e-6)
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
        PrivacyError, match="of b is not signed by b for this sum and key, or it was sent another model"
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
    assert not federation.computed


def test_the_gateways_own_keys_are_refused_with_and_without_certificates(tmp_path: Path) -> None:
    for authority in (None, Authority.create(tmp_path / "ca", "test", [])):
        folder = tmp_path / str(authority is not None)
        folder.mkdir()
        federation = Federation(folder, authority=authority)
        true = federation.context()
        federation.node("a", true)
        evil = KeyHolder(SumPlan(federation.layout().size, 4), 3).public_context()
        session = session_id("test", "run", 1, 1)
        other = Peers("b", NodeStore(folder / "evil.sqlite"), federation.identity("b"))
        journal = true[0]["journal"]
        forged = other.sign(context_message(session, evil, 3, journal))
        shown = {"context": np.frombuffer(evil, np.uint8)}
        with pytest.raises(PrivacyError, match="not signed by keys"):
            federation.node("a", (true[0], shown))
        why = (
            "shows the certificate of 'b'" if authority is not None else "another key than when this node first met it"
        )
        with pytest.raises(PrivacyError, match=why):
            federation.node("a", ({"journal": journal, "signature": forged, "credential": other.credential}, shown))


def test_keys_of_another_attempt_or_form_are_refused(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    context = federation.context()
    with pytest.raises(PrivacyError, match="not signed by keys for this attempt"):
        federation.node("a", context, attempt=2)
    for lie, why in (
        ({"bits": 24}, "a vector of 24 bits"),
        ({"parties": 5}, "the key holder's keys are for SumPlan"),
        ({"journal": bytes(32)}, "not signed by keys"),
    ):
        with pytest.raises(PrivacyError, match=why):
            federation.node("a", context, **lie)
    assert not federation.computed


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
    everybody(federation, federation.context(2), 2)
    assert sorted(federation.computed) == sorted(NODES)
    with pytest.raises(PrivacyError, match="the keys of this attempt are gone"):
        federation.decrypt(first, 1)
    context = federation.context(3)
    third = everybody(federation, context, 3)
    opened = federation.decrypt(third, 3)
    np.testing.assert_allclose(federation.mean(context, third, opened), np.full(SIZE, 0.25), atol=1e-6)


def test_a_vector_of_one_model_is_in_no_sum_of_another(tmp_path: Path) -> None:
    """Attempt 1: the victim gets a model that tells much, the others one that tells nothing. Attempt 2: all get the same."""
    federation = Federation(tmp_path)
    first = federation.context()
    federation.node("a", first, weights=np.full(SIZE, 1e6, np.float32))
    federation.node("b", first)
    second = federation.context(attempt=2)
    with pytest.raises(PrivacyError, match="round 1 began with another model in an earlier attempt"):
        federation.node("a", second, attempt=2)
    federation.node("b", second, attempt=2)
    assert federation.computed == ["a", "b"]


def test_masked_vectors_of_two_attempts_and_of_one_attempt_twice_have_nothing_in_common(tmp_path: Path) -> None:
    """The values are stored, the pads are not: drawn again, also by a node that died after it had spoken."""
    federation = Federation(tmp_path)
    first, second = federation.context(1), federation.context(2)
    answers = [federation.node("a", first, 1), federation.node("a", first, 1), federation.node("a", second, 2)]
    masked = [np.frombuffer(tensors["masked"].tobytes(), ">u4") for _, tensors in answers]
    assert federation.computed == ["a"]
    for i, one in enumerate(masked):
        for other in masked[:i]:
            assert not np.any(one == other)  # of 15 values one is with probability 4e-9


def off_by_a_half(federation: Federation, context: Body, name: str, answers: Dict[str, Body]) -> None:
    """The node's answer with a pad half a step beside the grid, signed by it."""
    keys = Encryptor(context[1]["context"].tobytes())
    header, tensors = answers[name]
    block = encrypt_block(keys.context, np.append(np.full(keys.plan.encrypted - 1, 0.5), 0.0))
    changed = tensors["ciphertext"].tobytes()[:36] + keys.format.dump(block)
    hidden = Hidden(tensors["masked"].tobytes(), changed, header["check"])
    told = digest_of_announced("digest", federation.layout().form, {"weights": np.zeros(SIZE, np.float32)})
    summand = sign_summand(name, hidden, session_id("test", "run", 1, 1), federation.peers[name].sign, told)
    signed = {field: getattr(summand, field) for field in Summand._fields[1:]}
    answers[name] = {**header, **signed}, {**tensors, "ciphertext": np.frombuffer(changed, np.uint8)}


@pytest.mark.parametrize("names", ["a", "d", "bc"])
def test_who_sends_what_is_off_the_grid_is_named_here_and_the_gateway_gets_one_word(
    tmp_path: Path, names: str, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(tmp_path)
    context = federation.context()
    answers = everybody(federation, context)
    for name in names:
        off_by_a_half(federation, context, name, answers)
    assert federation.decrypt(answers, left_out=["d" if names != "d" else "a"]) == ({}, {})  # nothing before all are in
    with pytest.raises(PrivacyError) as caught:
        federation.decrypt(answers)
    assert (
        str(caught.value) == "no sum: not every ciphertext is what its node signed for; the key holder's log has more"
    )
    assert set(federation.sent[-1][0]) == {"kind", "run", "round", "attempt", "code"}
    named = [record.getMessage() for record in caplog.records if "off the grid" in record.getMessage()]
    assert [message.split("the ciphertext of ")[1][1] for message in named] == list(names)
    assert federation.ask("decrypt", summands={}) == ({}, {})  # it has said so
    with pytest.raises(PrivacyError, match="keys for attempt 1 at round 1 were made before, and are gone"):
        federation.context(1)
    assert "sum" in federation.decrypt(everybody(federation, federation.context(2), 2), 2)[1]


def test_keys_are_made_once_for_an_attempt_and_for_no_more_than_the_task_has(tmp_path: Path) -> None:
    """Each pair of keys answers one question with yes or no, and another pair begins from nothing; still they are counted."""
    federation = Federation(tmp_path)
    for attempt in (1, 2, 3):
        federation.context(attempt)
    for restart in (False, True):
        if restart:
            federation.key_holder()
        for attempt in (1, 2):
            with pytest.raises(PrivacyError, match="were made before, and are gone"):
                federation.context(attempt)
    for attempt, number in ((4, 1), (0, 1), (-1, 1), (1, 4), (1, -1), (1 << 40, 2)):
        with pytest.raises(PrivacyError, match="the task has 3 rounds and 3 attempts at each"):
            federation.ask("context", attempt, number, parties=4, size=10)
    assert federation.context(1, number=2)[0]["step"] == "context"


def test_a_node_has_no_more_attempts_than_the_task(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    context = federation.context()
    for attempt in (4, -1):
        with pytest.raises(PrivacyError, match="of a task with 3 attempts at each"):
            federation.node("a", context, attempt)
    with pytest.raises(PrivacyError, match="before it is announced"):
        federation.node("a", context, 0)


def test_a_key_holder_that_lost_its_memory_gets_no_second_sum_of_a_round(tmp_path: Path) -> None:
    """It would open attempt 2 over other nodes, since it does not know of attempt 1: the difference is single nodes' values."""
    federation = Federation(tmp_path)
    answers = everybody(federation, federation.context())
    del answers["d"]
    federation.decrypt(answers)
    for file in (tmp_path / "keys").glob("keys.sqlite*"):
        file.unlink()
    federation.key_holder()
    with pytest.raises(PrivacyError, match="the sum of attempt 1 at round 1 was opened"):  # either file remembers
        federation.context(2)
    shutil.rmtree(tmp_path / "keys")
    federation.key_holder()
    for name in NODES:  # they know it by its certificate, which it kept: here, by the key it now has
        with closing(sqlite3.connect(tmp_path / f"{name}.sqlite")) as database:
            database.execute("DELETE FROM peers")
            database.commit()
        federation.peers[name] = Peers(name, federation.stores[name], first_sight=True)
    context = federation.context(2)
    for name in NODES:
        with pytest.raises(PrivacyError, match="kept another journal: it may have opened a sum"):
            federation.node(name, context, 2)
    assert "encrypted" in federation.node("a", federation.context(1, 2), 1, 2)[0]["step"]  # rounds it has not begun


def test_a_key_holder_that_died_between_noting_a_sum_and_storing_it_opens_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path)
    answers = everybody(federation, federation.context())
    monkeypatch.setattr(federation.agent.store, "release", died)
    with pytest.raises(KeyboardInterrupt):
        federation.decrypt(answers)
    federation.key_holder()
    asking: List[Callable[[], object]] = [lambda: federation.context(2), lambda: federation.decrypt(answers)]
    for ask in asking:
        with pytest.raises(PrivacyError, match="the sum of attempt 1 at round 1 was opened"):
            ask()


def died(*_: Any) -> None:
    raise KeyboardInterrupt


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
        federation.peers["keys"], federation.stores["keys"] = federation.agent.peers, federation.stores["d"]
        answers["keys"] = federation.node("keys", context)
        del answers["d"]
    with pytest.raises(PrivacyError, match=why):
        federation.decrypt(answers)
    assert not any("sum" in tensors for _, tensors in federation.sent)


def test_while_a_ciphertext_is_missing_nothing_is_said_and_repeats_do_no_harm(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    context = federation.context()
    answers = everybody(federation, context)
    for _ in range(2):  # a gateway that began again shows everything again
        assert federation.decrypt(answers, left_out=["c"]) == ({}, {})
    opened = federation.decrypt(answers)
    np.testing.assert_allclose(federation.mean(context, answers, opened), np.full(SIZE, 0.25), atol=1e-6)


def test_a_step_that_comes_before_its_task_is_answered_after_it(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.agent.runs.end("run")
    assert federation.context() == ({}, {})
    federation.announce()
    assert [header["step"] for header, _ in federation.sent] == ["context"]


def test_keys_for_too_few_or_too_many_or_nothing_are_not_made(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    with pytest.raises(PrivacyError, match="from 2 parties"):
        federation.ask("context", parties=2, size=10)
    with pytest.raises(PrivacyError, match="a sum of 10 values from 1001 parties"):
        federation.ask("context", parties=1001, size=10)
    with pytest.raises(PrivacyError, match="a sum of 0 values"):
        federation.ask("context", parties=4, size=0)


def test_a_task_that_names_somebody_else_is_declined(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    federation = Federation(tmp_path)
    federation.key_holder(told=task(holder="other"))
    assert federation.agent.presence.word == {"kind": "declined", "run": "run", "code": "task"}
    assert "names other as its key holder, not keys" in caplog.text
    assert federation.context() == ({}, {})


def test_a_key_holder_with_an_identity_opens_nothing_for_who_hides_the_certificate_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(tmp_path, authority=Authority.create(tmp_path / "gateway", "test", []))
    federation.key_holder(logged=False)
    assert federation.agent.presence.word == {"kind": "declined", "run": "run", "code": "peers.log"}
    assert NO_LOG in caplog.text
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
    with pytest.raises(ValueError, match="the party that adds must not hold the key"):
        Aggregation("ckks", key_holder="gateway")
