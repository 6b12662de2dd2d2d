"""Masked rounds of so many nodes that not all are neighbours: the step in which nonces are revealed, in messages."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from masked_federation import MANY, NODES, Federation, make_task, mean_of

from orchestrator.errors import EdgewardError, PrivacyError, WireError
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.node.store import NodeStore
from orchestrator.privacy.secure_sum import Advert, Party, Session, session_id
from orchestrator.rounds.events import Announce
from orchestrator.rounds.steps import CONFIRM, KEYS, MASKED, NEXT, REVEAL, SHARES, UNMASK
from orchestrator.wire.body import encode_body
from orchestrator.wire.protection import Aggregation


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path, make_task(neighbours=12), MANY)


def test_the_nodes_open_the_mean_and_prepare_no_round(federation: Federation) -> None:
    federation.until(MASKED)
    answers = federation.step(MASKED)
    assert all(NEXT not in header and "foreseen" not in header for header, _ in answers.values())
    for step in (CONFIRM, UNMASK):
        federation.step(step)
    np.testing.assert_allclose(federation.open(), mean_of(MANY), atol=5e-3)


def test_where_all_are_neighbours_messages_carry_no_nonces(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.until(SHARES)
    assert set(federation.asked(SHARES, "a")) == {"kind", "run", "round", "attempt", "step", "adverts"}
    federation.step(SHARES)
    answer = federation.step(MASKED)["a"][0]
    assert set(answer[NEXT]) == {"channel", "mask", "signature", "credential"}
    federation.attempt = 2
    federation.until(SHARES)
    with pytest.raises(PrivacyError, match="5 parties are all neighbours"):
        federation.rounds["a"].answer({**federation.asked(SHARES, "a"), "step": REVEAL})


def test_a_node_that_reveals_nothing_is_out_where_as_many_may_collude(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_task(neighbours=12, colluding=1), MANY)
    federation.until(REVEAL)
    rest = [n for n in MANY if n != "d"]
    for step in (REVEAL, SHARES, MASKED, CONFIRM, UNMASK):
        federation.step(step, rest)
    assert federation.asked(MASKED, "a")["parties"] == len(rest)
    np.testing.assert_allclose(federation.open(rest), mean_of(rest), atol=5e-3)


def test_a_node_that_reveals_another_nonce_is_out_and_keeps_nobody_from_going_on(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_task(neighbours=12, colluding=1), MANY)
    federation.until(REVEAL)
    federation.step(REVEAL)
    wrong = encode_body({"nonce": bytes(32)})
    federation.store.put_answer("run", 1, 1, REVEAL, "d", wrong)
    rest = [n for n in MANY if n != "d"]
    assert set(federation.asked(SHARES, "a")["nonces"]) == set(rest)
    with pytest.raises(PrivacyError, match="this party has revealed its nonce, and is not in the session"):
        federation.step(SHARES, ["d"])
    for step in (SHARES, MASKED, CONFIRM, UNMASK):
        federation.step(step, rest)
    np.testing.assert_allclose(federation.open(rest), mean_of(rest), atol=5e-3)


def test_with_one_missing_and_none_that_may_collude_nobody_shares(federation: Federation) -> None:
    federation.until(REVEAL)
    rest = [n for n in MANY if n != "d"]
    federation.step(REVEAL, rest)
    with pytest.raises(PrivacyError, match=r"1 parties \(d\) committed to a nonce that is missing, at most 0 may be"):
        federation.step(SHARES, ["a"])


# What a gateway that lies gets


def test_without_being_asked_for_its_nonce_a_node_gives_no_shares(federation: Federation) -> None:
    """As it was before: the gateway saw all keys and then drew those of its puppets."""
    federation.until(REVEAL)
    message = {**federation.asked(REVEAL, "a"), "step": SHARES}
    with pytest.raises(PrivacyError, match="this one was not asked to reveal its nonce"):
        federation.rounds["a"].answer(message)


def test_asked_twice_with_other_lists_a_node_says_the_same_once(federation: Federation) -> None:
    federation.until(REVEAL)
    message = federation.asked(REVEAL, "a")
    node = federation.rounds["a"]
    first = node.answer(message)
    fewer = {n: told for n, told in message["adverts"].items() if n != "n"}
    for other in ({**message, "adverts": fewer}, {**message, "adverts": {}}, {"step": REVEAL}):
        assert encode_body(*node.answer(other)) == encode_body(*first)
    federation.step(REVEAL, MANY[1:])
    with pytest.raises(PrivacyError, match="are not the keys this party was shown before it revealed"):
        node.answer({**federation.asked(SHARES, "a"), "adverts": fewer})


def test_two_nodes_shown_two_lists_have_no_shares_for_each_other(federation: Federation) -> None:
    """Each is bound to the list it saw. To the one the gateway goes on with, the other's nonce does not belong."""
    federation.until(REVEAL)

    def lie(name: str, message: Dict[str, Any]) -> Dict[str, Any]:
        left_out = "o" if name < "h" else "n"
        return {**message, "adverts": {n: told for n, told in message["adverts"].items() if n != left_out}}

    federation.step(REVEAL, MANY[:12], lie)
    with pytest.raises(PrivacyError, match="are not the keys this party was shown"):
        federation.step(
            SHARES, ["a"], lambda _, m: {**m, "adverts": {n: a for n, a in m["adverts"].items() if n != "n"}}
        )


@pytest.mark.parametrize(
    "change", [{"nonces": None}, {"nonces": {"b": "text"}}, {"nonces": {"b": b""}}, {"nonces": {}}]
)
def test_nonsense_for_nonces_is_refused_with_a_reason(federation: Federation, change: Dict[str, Any]) -> None:
    federation.until(SHARES)
    with pytest.raises((PrivacyError, WireError)):
        federation.step(SHARES, ["a"], lambda _, message: {**message, **change})


def test_a_nonce_is_revealed_once_an_attempt_also_after_a_restart(federation: Federation) -> None:
    """A node begun again draws another: without its memory a gateway could ask for one draw after the other."""
    federation.until(REVEAL)
    federation.step(REVEAL)
    federation.stores["a"].close()
    federation.stores["a"] = NodeStore(federation.folder / "a.sqlite")
    again = federation.rounds["a"] = federation.round_of("a")
    fields, _ = again.answer({"step": KEYS})
    federation.store.put_answer("run", 1, 1, KEYS, "a", encode_body(fields))
    with pytest.raises(PrivacyError, match="has revealed its nonce in attempt 1 at round 1 before"):
        again.answer(federation.asked(REVEAL, "a"))


def test_there_are_as_many_draws_as_attempts_in_the_task(federation: Federation) -> None:
    federation.attempt = federation.task.rounds.attempts + 1
    federation.until(REVEAL)
    with pytest.raises(PrivacyError, match="attempt 4 of at most 3: each draws again"):
        federation.step(REVEAL, ["a"])


def test_a_task_that_allows_many_attempts_gets_no_more_draws(tmp_path: Path) -> None:
    task = make_task(neighbours=12)
    federation = Federation(tmp_path, replace(task, rounds=replace(task.rounds, attempts=10_000)), MANY)
    federation.attempt = 17
    federation.until(REVEAL)
    with pytest.raises(PrivacyError, match="attempt 17 of at most 16: each draws again"):
        federation.step(REVEAL, ["a"])


def test_who_confirmed_a_sum_on_a_sparse_graph_is_in_no_other_of_the_round(federation: Federation) -> None:
    """A third of the nodes can open it: were only they bound, the others would open another sum over the same vectors."""
    federation.until(CONFIRM)
    federation.step(CONFIRM)
    federation.attempt = 2
    with pytest.raises(PrivacyError, match="helped to open a sum of round 1 already"):
        federation.round_of("a")


def test_of_few_nodes_a_confirmation_binds_to_nothing(tmp_path: Path) -> None:
    """There it takes more than half to open a sum, so nodes that were not asked to open one may go on with another attempt."""
    federation = Federation(tmp_path)
    federation.until(CONFIRM)
    federation.step(CONFIRM, lie=lambda *_: {"step": CONFIRM, "survivors": list(NODES)})
    federation.attempt = 2
    federation.round_of("a")


# The gateway


@pytest.mark.parametrize("step", [REVEAL, SHARES, MASKED])
def test_a_gateway_begun_again_asks_the_same(federation: Federation, step: str) -> None:
    federation.until(step)
    asked = federation.asked(step, "a")
    federation.gateway = SecureAggregation(federation.store, "run", federation.task, None, "test")
    assert federation.asked(step, "a") == asked
    for following in federation.steps[federation.steps.index(step) :]:
        federation.gateway = SecureAggregation(federation.store, "run", federation.task, None, "test")
        federation.step(following)
    np.testing.assert_allclose(federation.open(), mean_of(MANY), atol=5e-3)


def test_all_are_shown_all_commitments_before_anything_is_revealed(federation: Federation) -> None:
    federation.until(REVEAL)
    request = federation.gateway.request(Announce(1, MANY, REVEAL, 1), {})
    assert not request.own
    assert set(request.fields["adverts"]) == set(MANY)
    assert "nonces" not in request.fields
    answers = federation.step(REVEAL)
    session = Session(session_id("test", "run", 1, 1), 12)
    for name, (header, _) in answers.items():
        keys = federation.asked(SHARES, "a")["adverts"][name]
        advert = Advert(name, *(keys[field] for field in ("channel", "mask", "signature", "commitment")))
        assert advert.commits_to(session, header["nonce"])


@pytest.mark.parametrize(
    ("step", "header"),
    [(REVEAL, {}), (REVEAL, {"nonce": "text"}), (REVEAL, {"nonce": bytes(31)}), (KEYS, {"commitment": bytes(31)})],
)
def test_answers_no_later_step_could_use_are_refused(federation: Federation, step: str, header: Dict[str, Any]) -> None:
    federation.begin()
    keys = federation.rounds["a"].answer({"step": KEYS})[0]
    with pytest.raises(WireError):
        federation.gateway.check_answer(step, {**keys, **header} if step == KEYS else header, {})


def test_with_a_node_that_commits_to_nothing_no_nonce_is_revealed(federation: Federation) -> None:
    federation.begin()
    keys = federation.step(KEYS)
    peers, secure = federation.peers["b"], federation.task.aggregation
    terms = (secure.neighbours, secure.least, secure.colluding)
    session = Session(session_id("test", "run", 1, 1), *terms)
    advert = Party(session, "b", peers.sign, peers.verify).advertise(ahead=True)
    own = {"channel": advert.channel_key, "mask": advert.mask_key, "signature": advert.signature}
    own["credential"] = peers.credential
    assert set(keys["b"][0]) - set(own) == {"kind", "run", "round", "attempt", "step", "commitment"}

    def lie(_: str, message: Dict[str, Any]) -> Dict[str, Any]:
        return {**message, "adverts": {**message["adverts"], "b": own}}

    with pytest.raises(PrivacyError, match="b has not committed to a nonce"):
        federation.step(REVEAL, ["a"], lie)


def test_a_task_with_too_few_neighbours_is_none() -> None:
    with pytest.raises(ValueError, match="neighbours: 11, expected 12"):
        Aggregation("masked", neighbours=11)


def test_no_step_of_a_sparse_round_comes_before_the_one_before_it(federation: Federation) -> None:
    federation.until(SHARES)
    message = federation.asked(SHARES, "a")
    with pytest.raises(EdgewardError, match="each step comes once, in order"):
        federation.round_of("a").answer(message)
    with pytest.raises(EdgewardError, match="each step comes once, in order"):
        federation.round_of("a").answer({**message, "step": REVEAL})
