"""A node in a masked round, against a gateway that lies: what it refuses, and that it never says two things.

The gateway's honest messages are made by its own code (gateway/secure_aggregation.py); a test changes them on the way.
"""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.errors import EdgewardError, PrivacyError, WireError
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.gateway.store import Store
from orchestrator.node.contribution import Contribution, Run
from orchestrator.node.data import Dataset
from orchestrator.node.peers import Peers
from orchestrator.node.secure import MaskedRound
from orchestrator.node.store import NodeStore
from orchestrator.privacy.secure_sum import PAIR, SELF, Advert, Party, Session, session_id
from orchestrator.privacy.standardization import range_scaling
from orchestrator.privacy.vector_layout import Layout
from orchestrator.rounds.events import Aggregate, Announce
from orchestrator.rounds.secure import CONFIRM, KEYS, MASKED, MASKED_STEPS, SHARES, UNMASK
from orchestrator.wire.body import encode_body
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Feature, Privacy, Rounds, Schema, Task, Training, digest_of, task_to_dict

SIZE = 6
NODES = ("a", "b", "c", "d", "e")
RECORDS = {"a": 10, "b": 20, "c": 30, "d": 40, "e": 50}
Answer = Tuple[Dict[str, Any], Dict[str, np.ndarray]]
Lie = Callable[[str, Dict[str, Any]], Dict[str, Any]]

OPEN = Privacy(unit="none")
DISTRIBUTED = Privacy(noise="distributed", noise_multiplier=1.0)


def make_task(privacy: Privacy = OPEN, **aggregation: Any) -> Task:
    schema = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("x"),), standardization="range")
    secure = Aggregation("masked", update_range=8.0, **aggregation)
    rules = Rounds(nodes=5, quorum=max(3, secure.least))
    return Task("t", schema, {}, Training(rounds=3), privacy, rules, aggregation=secure)


def value_of(name: str) -> np.ndarray:
    return np.full(SIZE, 1.0 + NODES.index(name), np.float32)


class Federation:
    """Gateway and nodes in memory. `computed` and `charged`: how often a node computed, and told its ledger of, a release."""

    def __init__(self, folder: Path, task: Optional[Task] = None, names: Sequence[str] = NODES) -> None:
        self.folder, self.task, self.names = folder, task or make_task(), tuple(names)
        self.store = Store(folder / "gateway.sqlite")
        self.store.create_run("run", task_to_dict(self.task), b"graph", np.zeros(SIZE, np.float32))
        self.gateway = SecureAggregation(self.store, "run", self.task, None, "test")
        self.stores = {name: NodeStore(folder / f"{name}.sqlite") for name in names}
        self.peers = {name: Peers(name, self.stores[name]) for name in names}
        self.computed: List[str] = []
        self.charged: List[Tuple[str, int]] = []
        self.rounds: Dict[str, MaskedRound] = {}
        self.runs: Dict[str, Run] = {}
        self.number, self.attempt = 1, 1
        mean, std = range_scaling(self.task.schema)
        self.model = {"weights": np.zeros(SIZE, np.float32), "mean": mean, "std": std}

    def begin(self, attempt: int = 1, number: int = 1) -> None:
        self.number, self.attempt = number, attempt
        for name in self.names:
            self.rounds[name] = self.round_of(name)

    def round_of(self, name: str) -> MaskedRound:
        """The node's side of the open attempt."""
        count, store = RECORDS[name], self.stores[name]
        data = Dataset(np.zeros((count, 1), np.float32), np.zeros(count, np.int32))
        digest = digest_of(task_to_dict(self.task), b"graph")
        if name not in self.runs:  # one that was killed has none
            self.runs[name] = Run("run", digest, self.task, b"graph", data, data.take(np.zeros(count, bool)))
        run = self.runs[name]
        store.before_release = lambda run, number: self.charged.append((name, number))

        def contribute(number: int, header: Any, tensors: Any, layout: Layout) -> Contribution:
            self.computed.append(name)
            noisy = self.task.privacy.on
            # What a second draw of the noise would be is seen at once: it is another number.
            steps = np.full(SIZE, 1000 * len(self.computed), np.int64)
            return Contribution({"update": steps if noisy else value_of(name)}, {}, {})

        message = {"kind": "round", "run": "run", "round": self.number, "attempt": self.attempt}
        return MaskedRound("test", run, message, dict(self.model), name, self.peers[name], store, contribute)

    def asked(self, step: str, name: str) -> Dict[str, Any]:
        """What an honest gateway says to one node."""
        if step == KEYS:
            return {"step": KEYS}
        counts = {n: (RECORDS[n], RECORDS[n]) for n in self.names}
        request = self.gateway.request(Announce(self.number, self.names, step, self.attempt), counts)
        return {**request.fields, **request.own.get(name, {})}

    def step(self, step: str, names: Optional[Sequence[str]] = None, lie: Optional[Lie] = None) -> Dict[str, Answer]:
        answers = {}
        messages = {name: self.asked(step, name) for name in names or self.names}
        for name, message in messages.items():
            answers[name] = self.rounds[name].answer(lie(name, message) if lie else message)
            self.gateway.check_answer(step, *answers[name])
        for name, answer in answers.items():
            self.store.put_answer("run", self.number, self.attempt, step, name, encode_body(*answer))
        return answers

    def until(self, step: str) -> None:
        """All steps before this one, with everybody."""
        self.begin(self.attempt, self.number)
        for before in MASKED_STEPS[: MASKED_STEPS.index(step)]:
            self.step(before)

    def vectors(self, lie: Optional[Lie] = None) -> None:
        """From keys to masked vectors; the numbers they are made with come with one of the two steps."""
        for step in (SHARES, MASKED):
            self.step(step, lie=lie)

    def open(self, names: Optional[Sequence[str]] = None) -> np.ndarray:
        """float (SIZE,): by how much the round's sum moves the weights."""
        action = Aggregate(self.number, tuple(names or self.names), self.attempt)
        return np.asarray(self.gateway.outcome(action, 0.0).vectors["weights"] - self.model["weights"])


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def mean_of(names: Sequence[str]) -> float:
    total = sum(RECORDS[n] for n in names)
    return float(sum(RECORDS[n] * value_of(n)[0] for n in names) / total)


def test_the_nodes_open_the_weighted_mean(federation: Federation) -> None:
    """Pitfall (5): what travels is weight times mean and the weight, both masked, rounded without bias."""
    federation.until(UNMASK)
    federation.step(UNMASK)
    np.testing.assert_allclose(federation.open(), mean_of(NODES), atol=5e-3)


def test_a_sum_all_foresaw_is_opened_without_asking_who_is_in_it(federation: Federation) -> None:
    federation.until(CONFIRM)
    assert federation.asked(UNMASK, "a")["foreseen"] is True
    federation.step(UNMASK)
    np.testing.assert_allclose(federation.open(), mean_of(NODES), atol=5e-3)


def test_a_sum_that_one_did_not_foresee_is_not_opened_so(federation: Federation) -> None:
    """Also not with a signature of another kind, or of another list, in its place."""
    federation.until(MASKED)
    federation.step(MASKED)

    def lie(name: str, message: Dict[str, Any]) -> Dict[str, Any]:
        signatures = dict(message["signatures"])
        signatures["b"] = federation.peers["b"].sign(b"edgeward survivors of something else")
        return {**message, "signatures": signatures}

    with pytest.raises(PrivacyError, match="4 parties signed this list of survivors, 5 are needed"):
        federation.step(UNMASK, ["a"], lie)


def test_those_who_were_silent_after_sharing_are_not_in_the_mean(federation: Federation) -> None:
    federation.until(MASKED)
    rest = NODES[:4]
    for step in (MASKED, CONFIRM, UNMASK):
        federation.step(step, rest)
    np.testing.assert_allclose(federation.open(rest), mean_of(rest), atol=5e-3)


@pytest.mark.parametrize("step", MASKED_STEPS)
def test_a_step_asked_twice_gets_the_same_answer_whatever_is_asked(federation: Federation, step: str) -> None:
    """Pitfall (1): a second answer to changed questions is how both shares, or two differing vectors, would be had."""
    federation.until(step)
    first = federation.step(step)["a"]
    node = federation.rounds["a"]
    other = {"survivors": ["a", "b", "c"], "signatures": {}, "shares": {}, "adverts": {}, "bits": 32, "units": 1}
    for message in (federation.asked(step, "a"), {"step": step}, {"step": step, **other}):
        again = node.answer(message)
        assert encode_body(*again) == encode_body(*first)


@pytest.mark.parametrize("step", MASKED_STEPS[1:])
def test_no_step_comes_before_the_one_before_it(federation: Federation, step: str) -> None:
    federation.until(step)
    message = federation.asked(step, "a")
    fresh = federation.round_of("a")
    with pytest.raises(EdgewardError, match="each step comes once, in order|before keys were exchanged"):
        fresh.answer(message)
    for wrong in ("decrypt", "", 7, [step], None):
        with pytest.raises(WireError, match=r"no step|field 'step'"):
            fresh.answer({"step": wrong})


# Keys


def other_key(federation: Federation, name: str, **parts: bytes) -> Lie:
    """The keys of `name` in everybody's message, with some fields replaced."""

    def lie(_: str, message: Dict[str, Any]) -> Dict[str, Any]:
        adverts = dict(message["adverts"])
        adverts[name] = {**adverts[name], **parts}
        return {**message, "adverts": adverts}

    return lie


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
        with pytest.raises(WireError, match="none that a secret can be agreed on with"):
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
    assert federation.computed == federation.charged == []


def test_a_weight_above_all_the_gateway_told_of_is_not_sent(federation: Federation) -> None:
    federation.begin()
    federation.step(KEYS)

    def lie(_: str, message: Dict[str, Any]) -> Dict[str, Any]:
        return {**message, "records": 9} if "bits" in message else message

    with pytest.raises(PrivacyError, match="'update' has the weight 10, all nodes together have at most 9"):
        federation.vectors(lie)


def test_a_round_without_weights_is_refused(federation: Federation) -> None:
    federation.until(SHARES)
    federation.rounds["a"]._tensors.pop("weights")
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
    federation.until(SHARES)
    for name in NODES[1:]:
        federation.rounds[name]._tensors["weights"] = np.full(SIZE, 1e30, np.float32)
        nothing = Contribution({"update": np.zeros(SIZE, np.float32)}, {}, {})
        federation.rounds[name]._contribute = lambda *_, nothing=nothing: nothing  # type: ignore[misc]
    seen = isolate(federation, lambda _, message: message)
    assert seen is None or not np.allclose(seen, RECORDS["a"] * value_of("a") / sum(RECORDS.values()), rtol=0.2)


@pytest.mark.parametrize("what", ["weights", "mean", "std", "task"])
def test_nodes_that_were_told_different_things_open_nothing(tmp_path: Path, what: str) -> None:
    federation = Federation(tmp_path)
    federation.until(SHARES)
    one = federation.rounds["b"]
    if what == "task":
        one.run.digest = "another"
    else:
        one._tensors[what] = one._tensors[what] + 1
    seen = isolate(federation, lambda _, message: message)
    assert seen is None or np.abs(seen - mean_of(NODES)).max() > 0.1


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


# Attempts


@pytest.mark.parametrize("privacy", [OPEN, DISTRIBUTED])
def test_another_attempt_carries_the_same_vector_and_is_charged_once(
    tmp_path: Path, privacy: Privacy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two draws of noise under one charge would halve its variance to whoever averages them."""
    sent: List[np.ndarray] = []
    mask = Party.mask

    def recorded(self: Party, values: np.ndarray, *rest: Any) -> bytes:
        sent.append(values.copy())
        return mask(self, values, *rest)

    monkeypatch.setattr(Party, "mask", recorded)
    federation = Federation(tmp_path, make_task(privacy))
    federation.until(CONFIRM)
    federation.attempt = 2
    federation.until(UNMASK)
    first, second = sent[: len(NODES)], sent[len(NODES) :]
    for one, other in zip(first, second):
        # Without noise means are rounded anew, by a step at most; noise is drawn once.
        assert np.abs(one - other).max() <= (0 if privacy.on else 1)
    assert federation.computed == list(NODES)
    assert federation.charged == [(name, 1) for name in NODES]
    federation.step(UNMASK)
    opened = federation.open()
    if not privacy.on:
        np.testing.assert_allclose(opened, mean_of(NODES), atol=5e-3)


def test_what_the_ledger_does_not_take_is_not_sent(federation: Federation) -> None:
    federation.until(MASKED)

    def refuse(run: str, number: int) -> None:
        raise WireError("refused: nothing reserved")

    federation.stores["a"].before_release = refuse
    with pytest.raises(WireError, match="nothing reserved"):
        federation.step(MASKED, ["a"])
    assert federation.stores["a"].released("run", 1, federation.rounds["a"].run.digest) is None


def test_keys_of_two_attempts_have_nothing_in_common(federation: Federation) -> None:
    """Pitfalls (3) and (8): masks of two sessions must not cancel, nor a drop-out's own mask serve again."""
    federation.begin(1)
    first = federation.step(KEYS)
    federation.begin(2)
    second = federation.step(KEYS)
    for name in NODES:
        for key in ("channel", "mask", "signature"):
            assert first[name][0][key] != second[name][0][key]
    lie = other_key(
        federation, "b", **{k: v for k, v in first["b"][0].items() if k in ("channel", "mask", "signature")}
    )
    with pytest.raises(PrivacyError, match="keys of b are not signed by b"):
        federation.step(SHARES, ["a"], lie)


def test_after_opening_a_node_is_in_no_other_sum_of_the_round_also_after_a_restart(federation: Federation) -> None:
    """Pitfall (2): two sums that differ in one node give that node's update."""
    federation.until(UNMASK)
    federation.step(UNMASK, ["a"])
    federation.attempt = 2
    with pytest.raises(PrivacyError, match="helped to open a sum of round 1 already"):
        federation.round_of("a")
    federation.stores["a"].close()
    federation.stores["a"] = NodeStore(federation.folder / "a.sqlite")
    with pytest.raises(PrivacyError, match="helped to open a sum of round 1 already"):
        federation.round_of("a")
    federation.round_of("b")  # it opened nothing yet
    federation.number, federation.attempt = 2, 1
    federation.round_of("a")


def test_the_opening_is_noted_before_it_is_answered(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node killed right after its answer must know of it; one that cannot note it must not answer."""
    federation.until(UNMASK)

    def full(*_: Any) -> None:
        raise EdgewardError("disk full")

    monkeypatch.setattr(federation.stores["a"], "note_opened", full)
    with pytest.raises(EdgewardError, match="disk full"):
        federation.step(UNMASK, ["a"])
