"""A gateway that lies to nodes about keys, the form of vectors, the model or survivors: they refuse, and say why.

Its honest messages are made by its own code (gateway/secure_aggregation.py); a test changes them on the way.
"""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from masked_federation import (
    DISTRIBUTED,
    NODES,
    OPEN,
    RECORDS,
    Federation,
    Lie,
    make_task,
    mean_of,
    other_key,
    value_of,
)

from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError, PrivacyError, WireError
from orchestrator.node.contribution import Contribution
from orchestrator.node.peers import Peers
from orchestrator.node.run import Run
from orchestrator.node.secure import MaskedRound
from orchestrator.node.store import NodeStore
from orchestrator.privacy.secure_sum import PAIR, SELF, Advert, Session, session_id
from orchestrator.rounds.steps import CONFIRM, KEYS, MASKED, MASKED_STEPS, SHARES, UNMASK
from orchestrator.wire.body import encode_body
from orchestrator.wire.protection import Privacy


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


# Keys


@pytest.mark.parametrize("field", ["mask", "channel"])
@pytest.mark.parametrize("whose", ["a", "b"])
def test_keys_the_gateway_changed_are_refused(federation: Federation, field: str, whose: str) -> None:
    """Pitfall (4): with its own keys in a node's place the gateway would know the masks."""
    federation.until(SHARES)
    reason = "changed this party's own keys" if whose == "a" else "keys of b are not signed by b"
    with pytest.raises(PrivacyError, match=reason):
        federation.step(SHARES, ["a"], other_key(federation, whose, **{field: bytes(range(32))}))


def impostor(federation: Federation, name: str) -> Dict[str, Any]:
    """Keys and credential in `name`'s place of which the gateway knows the secrets."""
    peers = Peers(name, NodeStore(federation.folder / "impostor.sqlite"))
    store, data = federation.stores[name], Dataset(np.zeros((1, 1), "f4"), np.zeros(1, "i4"))
    run = Run("run", "", federation.task, b"", data, data)
    message = {"round": federation.number, "attempt": federation.attempt}
    fields, _ = MaskedRound("test", run, message, {}, name, peers, store, lambda *_: Contribution({}, {}, {})).answer(
        {}
    )
    return {key: fields[key] for key in ("channel", "mask", "signature", "credential")}


def test_a_node_replaced_by_the_gateway_is_found_out_by_those_who_met_it(federation: Federation) -> None:
    """Pitfall (4): without certificates, from the second round on; docs and statements say what that leaves."""
    federation.until(UNMASK)
    federation.step(UNMASK)
    federation.number, federation.attempt = 2, 1
    federation.until(SHARES)
    lie = other_key(federation, "b", **impostor(federation, "b"))
    with pytest.raises(PrivacyError, match="b has another key than when this node first met it"):
        federation.step(SHARES, ["a"], lie)


def test_a_key_no_secret_can_be_agreed_on_with_ends_the_attempt_and_not_the_process(federation: Federation) -> None:
    """A key of small order, properly signed by its node: every exchange with it is zero, and refused by the library."""
    key = Ed25519PrivateKey.generate()
    credential = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    for attempt, bad in enumerate((bytes(32), b"\x01" + bytes(31), b"", bytes(33)), 1):
        federation.attempt = attempt
        federation.until(SHARES)
        signature = key.sign(Advert("z", bad, bad, b"").signed(Session(session_id("test", "run", 1, attempt), 20)))
        told = {"channel": bad, "mask": bad, "signature": signature, "credential": credential}
        with pytest.raises(PrivacyError, match="with the keys of z no secret can be agreed on"):
            federation.step(SHARES, ["a"], lambda _, m: {**m, "adverts": {**m["adverts"], "z": told}})  # noqa: B023
    for keys in ((bytes(32), b"\x07" * 32), (b"\x07" * 32, bytes(32)), (b"\x07" * 31, b"\x07" * 32)):
        answer = {**dict(zip(("channel", "mask"), keys)), "signature": b"s", "credential": b"c"}
        with pytest.raises(WireError, match="is invalid: no secret can be agreed on with it"):
            federation.gateway.check_answer(KEYS, answer, {})


@pytest.mark.parametrize("left_out", [("a",), ("b", "c", "d")])
def test_a_session_without_this_node_or_with_too_few_is_refused(
    federation: Federation, left_out: Sequence[str]
) -> None:
    federation.until(SHARES)

    def lie(_: str, message: Dict[str, Any]) -> Dict[str, Any]:
        return {**message, "adverts": {n: told for n, told in message["adverts"].items() if n not in left_out}}

    with pytest.raises(PrivacyError, match="changed this party's own keys|a sum over 2 parties"):
        federation.step(SHARES, ["a"], lie)


@pytest.mark.parametrize(
    ("step", "change"),
    [
        (SHARES, {"adverts": []}),
        (SHARES, {"adverts": {"b": None}}),
        (SHARES, {"adverts": {"b": {"channel": 3, "mask": b"", "signature": b"", "credential": b""}}}),
        (MASKED, {"shares": None}),
        (MASKED, {"shares": {"b": "text"}}),
        (MASKED, {"shares": {"b": b""}}),
        (MASKED, {"shares": {"b": bytes(100)}}),
        (MASKED, {"shares": {"z": bytes(100)}}),
        (MASKED, {"shares": {}}),
        (CONFIRM, {"survivors": "abc"}),
        (CONFIRM, {"survivors": [1, 2, 3, 4]}),
        (CONFIRM, {"survivors": [["a"], "b", "c", "d"]}),
        (CONFIRM, {"survivors": ["a", "b", "c", {}]}),
        (UNMASK, {"signatures": []}),
        (UNMASK, {"signatures": {"a": 1, "b": 2, "c": 3}}),
        (UNMASK, {"signatures": {n: bytes(64) for n in NODES}}),
        (UNMASK, {"signatures": {n: b"" for n in NODES}}),
    ],
)
def test_nonsense_is_refused_with_a_reason(federation: Federation, step: str, change: Dict[str, Any]) -> None:
    """The reason is an error the agent answers with; anything else would end its process."""
    federation.until(step)
    with pytest.raises((PrivacyError, WireError)):
        federation.step(step, ["a"], lambda _, message: {**message, **change})
    assert not federation.stores["a"].opened("run", 1)


# The form of the vectors, and the model


@pytest.mark.parametrize("privacy", [OPEN, DISTRIBUTED])
@pytest.mark.parametrize(
    "change",
    [{"units": 0}, {"bits": 8}, {"bits": 64}, {"parties": 0}, {"records": -1}, {"bits": "16"}, {"units": None}],
)
def test_numbers_that_make_no_vector_are_refused_and_nothing_is_computed(
    tmp_path: Path, privacy: Privacy, change: Dict[str, Any]
) -> None:
    federation = Federation(tmp_path, make_task(privacy))
    federation.begin()
    federation.step(KEYS)

    def lie(_: str, message: Dict[str, Any]) -> Dict[str, Any]:
        return {**message, **change} if "bits" in message else message

    with pytest.raises((PrivacyError, WireError), match="makes no sense|expected int"):
        federation.vectors(lie)
    assert federation.computed == []
    assert federation.charged == []


def test_a_weight_above_all_the_gateway_told_of_is_not_sent(federation: Federation) -> None:
    federation.begin()
    federation.step(KEYS)

    def lie(_: str, message: Dict[str, Any]) -> Dict[str, Any]:
        return {**message, "records": 9} if "bits" in message else message

    with pytest.raises(PrivacyError, match="'update' has the weight 10, all nodes together have at most 9"):
        federation.vectors(lie)


def test_a_round_without_weights_is_refused(federation: Federation) -> None:
    federation.shown["a"] = {"weights": None}
    federation.until(SHARES)
    with pytest.raises(WireError, match="round 1 came without weights"):
        federation.vectors()
    assert federation.charged == []


def isolate(federation: Federation, lie: Lie) -> Optional[np.ndarray]:
    """What the gateway reads when `lie` goes to all but `a`, and it opens the sum as if it had told the truth."""
    for step in MASKED_STEPS[1:]:
        answers = {}
        for name, message in {n: federation.asked(step, n) for n in NODES}.items():
            try:
                answers[name] = federation.rounds[name].answer(message if name == "a" else lie(name, message))
            except EdgewardError:
                assert step == UNMASK
        for name, answer in answers.items():
            federation.store.put_answer("run", 1, 1, step, name, encode_body(*answer))
    try:
        return federation.open()
    except PrivacyError:
        return None


def test_a_gateway_that_makes_the_others_vanish_reads_nothing(federation: Federation) -> None:
    """Others are told so many records that their values, scaled by them, round to nothing: the sum would be `a`'s alone."""
    federation.until(SHARES)

    def lie(_: str, message: Dict[str, Any]) -> Dict[str, Any]:
        return {**message, "records": 1 << 39} if "bits" in message else message

    seen = isolate(federation, lie)
    assert seen is None or not np.allclose(seen, RECORDS["a"] * value_of("a") / sum(RECORDS.values()), rtol=0.2)


def test_a_gateway_that_gives_others_another_model_reads_nothing(tmp_path: Path) -> None:
    """Others get weights from which nothing is learned (their update is 0): the sum would be `a`'s alone."""
    federation = Federation(tmp_path)
    federation.learns_nothing = NODES[1:]
    federation.until(SHARES)
    seen = isolate(federation, lambda _, message: message)
    assert seen is None or not np.allclose(seen, RECORDS["a"] * value_of("a") / sum(RECORDS.values()), rtol=0.2)


@pytest.mark.parametrize("what", ["weights", "mean", "std", "task"])
def test_nodes_that_were_told_different_things_open_nothing(tmp_path: Path, what: str) -> None:
    federation = Federation(tmp_path)
    if what != "task":
        federation.shown["b"] = {what: federation.model[what] + 1}
    federation.until(SHARES)
    if what == "task":
        federation.runs["b"].digest = "another"
    seen = isolate(federation, lambda _, message: message)
    assert seen is None or np.abs(seen - mean_of(NODES)).max() > 0.1


def test_nothing_is_computed_for_shares_that_were_changed(federation: Federation) -> None:
    """Or the refusal would come as late as the secret sample is large."""
    federation.until(MASKED)
    with pytest.raises(PrivacyError, match="changed on the way"):
        federation.step(MASKED, ["a"], lambda _, m: {**m, "shares": {n: bytes(len(s)) for n, s in m["shares"].items()}})
    assert not federation.computed


# Survivors


@pytest.mark.parametrize(
    ("survivors", "reason"),
    [
        (["b", "c", "d", "e"], "not in the sum"),
        (["a", "b"], "a sum over 2 parties"),
        (["a"], "a sum over 1 parties"),
        ([], "not in the sum"),
        (["a", "b", "c", "z"], "or a stranger"),
        (["a", "b", "b", "c"], "names someone twice"),
    ],
)
def test_lists_of_survivors_that_are_not_signed(federation: Federation, survivors: List[str], reason: str) -> None:
    """Pitfall (2): a sum of one or two is the input itself."""
    federation.until(CONFIRM)
    with pytest.raises(PrivacyError, match=reason):
        federation.step(CONFIRM, ["a"], lambda *_: {"step": CONFIRM, "survivors": survivors})


def test_a_sum_over_fewer_than_the_task_declares_is_not_signed(tmp_path: Path) -> None:
    """Pitfall (2): below honest + colluding the colluding ones know too much, and shares of the noise are missing."""
    federation = Federation(tmp_path, make_task(honest=3, colluding=1))
    federation.until(CONFIRM)
    with pytest.raises(PrivacyError, match="3 parties are in the sum; fewer than the declared 4"):
        federation.step(CONFIRM, ["a"], lambda *_: {"step": CONFIRM, "survivors": ["a", "b", "c"]})


def test_a_session_of_fewer_than_the_task_declares_gets_no_shares(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_task(honest=4, colluding=1), NODES[:4])
    federation.until(SHARES)
    with pytest.raises(PrivacyError, match="4 parties, the task declares at least 5"):
        federation.step(SHARES)


def test_different_survivors_for_different_nodes_open_nothing(federation: Federation) -> None:
    """Pitfall (1): `e` is said to have dropped out to some, who would give shares of its key, and not to others."""
    federation.until(CONFIRM)
    told = {"a": 5, "b": 4, "c": 4, "d": 5, "e": 5}
    federation.step(CONFIRM, lie=lambda name, m: {**m, "survivors": list(NODES[: told[name]])})
    for name in ("b", "c"):
        with pytest.raises(PrivacyError, match="2 parties signed this list of survivors, 3 are needed"):
            federation.step(UNMASK, [name])
    answers = federation.step(UNMASK, ["a", "d", "e"])
    assert {kind for header, _ in answers.values() for kind, _ in header["shares"].values()} == {SELF}


def test_nobody_gives_both_kinds_of_shares(federation: Federation) -> None:
    """Pitfall (1): asked for one kind, then, with every message again, for the other."""
    federation.until(MASKED)
    rest = NODES[:4]
    for step in (MASKED, CONFIRM):
        federation.step(step, rest)
    given = federation.step(UNMASK, rest)["a"][0]["shares"]
    assert {name: kind for name, (kind, _) in given.items()} == {**{n: SELF for n in rest}, "e": PAIR}
    node = federation.rounds["a"]
    signatures = {n: federation.rounds[n].answer({"step": CONFIRM})[0]["signature"] for n in rest}
    for message in (
        {"step": CONFIRM, "survivors": list(NODES)},
        {"step": UNMASK, "signatures": signatures},
        {"step": UNMASK, "signatures": {}},
    ):
        again = node.answer(message)[0]
        assert again.get("shares", given) == given
