"""The gateway between nodes that sum in secret: what it passes on, what it refuses, and what it reads from the sum."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import PrivacyError, WireError
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.gateway.store import Store
from orchestrator.privacy.noisy_sum import TALLY, evaluation_counts, statistics_sum, training_sum
from orchestrator.privacy.secure_sum import Party, Session, digest_of_announced, session_id
from orchestrator.privacy.standardization import moments, range_scaling
from orchestrator.privacy.vector_layout import UPDATE, Layout, parts_of
from orchestrator.rounds.events import Aggregate, Announce, Arrived
from orchestrator.rounds.stages import EVALUATION, STATISTICS
from orchestrator.rounds.steps import CONFIRM, FORESEEN, KEYS, MASKED, NEXT, PREPARED, SHARES, UNMASK
from orchestrator.wire.body import encode_body
from orchestrator.wire.evaluation import count
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task, digest_of, task_to_dict
from orchestrator.wire.training import Training

SIZE = 6
COUNTS = {"a": (10, 5), "b": (20, 10), "c": (30, 15), "d": (40, 20)}  # records, patients
KEYS_OF = {name: Ed25519PrivateKey.generate() for name in COUNTS}
DECLARED: Dict[str, Any] = {
    "noise_multiplier": 1e-3,
    "statistics_noise_multiplier": 1e-3,
    "evaluation_noise_multiplier": 1e-3,
}


def verify(party: str, message: bytes, signature: bytes) -> bool:
    KEYS_OF[party].public_key().verify(signature, message)
    return True


def make_task(unit: str = "none", **aggregation: Any) -> Task:
    privacy = Privacy(unit=unit, noise="distributed", statistics_clip_norm=2.0, clip_norm=4.0, **DECLARED)
    features = (Feature("x", -4, 4), Feature("z", 0, 10))
    scaling = "range" if unit == "node" else "federated"
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, features, standardization=scaling, patient="id")
    secure = Aggregation("masked", update_range=8.0, **aggregation)
    evaluated = Evaluation(0.0 if unit == "node" else 0.2)
    training = Training("fedsgd", rounds=3, learning_rate=0.5)
    rules = Rounds(nodes=4, quorum=3)
    return Task("t", schema, {}, training, privacy, rounds=rules, evaluation=evaluated, aggregation=secure)


class Played:
    """A gateway and the parties of one attempt, with vectors that are given, not learned."""

    def __init__(self, folder: Path, task: Optional[Task] = None, number: int = 1, attempt: int = 1) -> None:
        self.task, self.number, self.attempt = task or make_task(), number, attempt
        self.store = Store(folder / "gateway.sqlite")
        self.store.create_run("run", task_to_dict(self.task), b"graph", np.zeros(SIZE, np.float32))
        self.restart()
        session = Session(session_id("test", "run", number, attempt), 20, self.task.aggregation.least)
        self.parties = {n: Party(session, n, KEYS_OF[n].sign, verify) for n in COUNTS}

    def restart(self) -> None:
        """A new process on the same store."""
        self.gateway = SecureAggregation(self.store, "run", self.task, None, "test")

    def ask(self, step: str, nodes: Sequence[str] = tuple(COUNTS), counts: Any = COUNTS) -> Any:
        return self.gateway.request(Announce(self.number, tuple(nodes), step, self.attempt), counts)

    def put(
        self, step: str, node: str, header: Dict[str, Any], tensors: Optional[Dict[str, np.ndarray]] = None
    ) -> None:
        self.gateway.check_answer(step, header, tensors or {})
        event = Arrived(0.0, node, self.number, "d", 1.0, step, self.attempt, self.gateway.prepares(step, header))
        self.gateway.put_answer(event, header, encode_body(header, tensors))

    def keys(self) -> None:
        for name, party in self.parties.items():
            advert = party.advertise()
            keys = {"channel": advert.channel_key, "mask": advert.mask_key, "signature": advert.signature}
            self.adverts[name] = advert
            self.put(KEYS, name, {**keys, "credential": b"c"})

    def share(self) -> None:
        assert set(self.ask(SHARES).fields["adverts"]) == set(COUNTS)
        for name, party in self.parties.items():
            self.put(SHARES, name, {"shares": party.share(list(self.adverts.values()))})

    def begin(self) -> None:
        self.adverts: Dict[str, Any] = {}
        self.keys()
        self.share()
        self.asked = self.ask(MASKED)
        self.layout = Layout(
            parts_of(self.task, self.number, SIZE),
            *(self.asked.fields[name] for name in ("bits", "parties", "units", "records")),
        )

    def mask(
        self,
        values: Dict[str, Dict[str, np.ndarray]],
        weights: Optional[Dict[str, Dict[str, int]]] = None,
        more: Optional[Dict[str, Dict[str, Any]]] = None,
    ) -> None:
        """`values`: node -> part -> vector; `weights` likewise, where they are not the node's records. `more`: of answers."""
        mean, std = range_scaling(self.task.schema)
        model = {} if self.number == 0 else {"weights": np.zeros(SIZE, np.float32), "mean": mean, "std": std}
        told = digest_of_announced(digest_of(task_to_dict(self.task), b"graph"), self.layout.form, model)
        for name, own in values.items():
            weighing = {part: COUNTS[name][0] for part in own}
            vector = self.layout.encode(own, (weights or {}).get(name, weighing), np.random.default_rng())
            masked = self.parties[name].mask(vector, self.asked.own[name]["shares"], self.layout.bits, told)
            counts = {"records": COUNTS[name][0], "units": COUNTS[name][1], **(more or {}).get(name, {})}
            self.put(MASKED, name, counts, {"masked": np.frombuffer(masked, np.uint8)})

    def confirm(self, nodes: Sequence[str]) -> None:
        survivors = self.ask(CONFIRM, nodes).fields["survivors"]
        for name in nodes:
            self.put(CONFIRM, name, {"signature": self.parties[name].confirm(survivors)})

    def unmask(self, nodes: Sequence[str]) -> None:
        signatures = self.ask(UNMASK, nodes).fields["signatures"]
        for name in nodes:
            shares = self.parties[name].unmask(signatures)
            self.put(UNMASK, name, {"shares": {n: [kind, share] for n, (kind, share) in shares.items()}})

    def finish(self, nodes: Sequence[str]) -> Any:
        self.confirm(nodes)
        self.unmask(nodes)
        return self.outcome(nodes)

    def outcome(self, nodes: Sequence[str]) -> Any:
        return self.gateway.outcome(Aggregate(self.number, tuple(nodes), self.attempt), 0.0)


def updates(nodes: Sequence[str]) -> Dict[str, Dict[str, np.ndarray]]:
    return {n: {UPDATE: np.arange(SIZE, dtype=np.float64) - i} for i, n in enumerate(nodes)}


# The sum


@pytest.mark.parametrize("nodes", [("a", "b", "c", "d"), ("a", "b", "d")])
def test_without_privacy_the_weights_move_by_the_weighted_mean(tmp_path: Path, nodes: Tuple[str, ...]) -> None:
    session = Played(tmp_path)
    session.begin()
    values = updates(nodes)
    session.mask(values)
    outcome = session.finish(nodes)
    weights = [COUNTS[n][0] for n in nodes]
    expected = np.average([values[n][UPDATE] for n in nodes], axis=0, weights=weights)
    np.testing.assert_allclose(outcome.vectors["weights"], expected, atol=5e-3)
    assert outcome.figures == {"opened": True, "values_cut": 0}


def test_values_that_were_cut_are_told(tmp_path: Path) -> None:
    session = Played(tmp_path)
    session.begin()
    values = {n: {UPDATE: np.array([9.0, -100.0, 0, 0, 0, 8.0])} for n in COUNTS}
    session.mask(values)
    outcome = session.finish(tuple(COUNTS))
    assert outcome.figures["values_cut"] == 2 * 4
    np.testing.assert_allclose(outcome.vectors["weights"], [8, -8, 0, 0, 0, 8], atol=5e-3)


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_a_sum_of_gradients_is_a_step_of_the_mean_over_the_units_in_it(tmp_path: Path, unit: str) -> None:
    task = make_task(unit)
    session, nodes = Played(tmp_path, task), ("a", "c", "d")
    session.begin()
    lattice = training_sum(task, SIZE).lattice
    steps = {
        n: {UPDATE: np.rint(np.arange(SIZE) * (i + 1) / lattice.step).astype(np.int64)} for i, n in enumerate(nodes)
    }
    session.mask(steps)
    moved = session.finish(nodes).vectors["weights"]
    units = sum(COUNTS[n][1] for n in nodes)
    np.testing.assert_allclose(moved, -0.5 * np.arange(SIZE) * 6 / (0.25 * units), rtol=1e-3)


def test_a_sum_of_whole_updates_is_divided_by_the_expected_number_of_nodes(tmp_path: Path) -> None:
    """Not by how many came: one node less would else change the others' part, which no noise hides."""
    task = make_task("node")
    session, nodes = Played(tmp_path, task), ("a", "b", "c")
    session.begin()
    step = training_sum(task, SIZE).lattice.step
    session.mask({n: {UPDATE: np.rint(np.full(SIZE, 1.0) / step).astype(np.int64)} for n in nodes})
    np.testing.assert_allclose(session.finish(nodes).vectors["weights"], 3 / 4, rtol=1e-3)


@pytest.mark.parametrize("unit", ["none", "record", "patient"])
def test_statistics(tmp_path: Path, unit: str) -> None:
    task = make_task(unit)
    session, rng = Played(tmp_path, task, number=0), np.random.default_rng(0)
    session.begin()
    values: Dict[str, Dict[str, np.ndarray]] = {}
    weights: Dict[str, Dict[str, int]] = {}
    everything: List[np.ndarray] = []
    for name, (_, units) in COUNTS.items():
        x = np.stack([rng.normal(1, 1, units).clip(-4, 4), rng.normal(6, 1, units)], axis=1).astype(np.float32)
        rows = moments(x, task.schema, [np.array([i]) for i in range(units)])
        everything.append(x)
        released = rows.sum(axis=0) / units
        if unit != "none":
            lattice = statistics_sum(task).lattice
            released = np.rint(rows.sum(axis=0) / lattice.step).astype(np.int64)
        values[name], weights[name] = {STATISTICS: released}, {STATISTICS: units}
    session.mask(values, weights)
    outcome = session.finish(tuple(COUNTS))
    x = np.concatenate(everything)
    np.testing.assert_allclose(outcome.vectors["mean"], x.mean(axis=0), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(outcome.vectors["std"], x.std(axis=0), rtol=2e-2)


@pytest.mark.parametrize("unit", ["none", "record"])
def test_the_last_evaluation_is_of_all_nodes_together_and_of_none_alone(tmp_path: Path, unit: str) -> None:
    task = make_task(unit)
    session, rng = Played(tmp_path, task, number=4), np.random.default_rng(1)
    session.store.put_result("run", 3, {"round": 3})
    session.begin()
    values, total = {}, 0.0  # type: Dict[str, Dict[str, np.ndarray]], Any
    for name, (records, _) in COUNTS.items():
        positive = rng.uniform(0.01, 0.99, records)
        sums = count(rng.integers(0, 2, records), np.stack([1 - positive, positive], axis=1), task.evaluation.bins)
        total = total + sums
        scale = evaluation_counts(task).scale
        values[name] = {EVALUATION: sums / records if unit == "none" else np.rint(sums * scale).astype(np.int64)}
    session.mask(values)
    number, figures = session.finish(tuple(COUNTS)).evaluated
    assert number == 3
    federated = figures["federated"]
    assert "per_node" not in federated
    assert federated["records"] == pytest.approx(100, abs=0.3)
    np.testing.assert_allclose(
        np.array(federated["confusion"]).sum(axis=1),
        total[:-1].reshape(2, 2, -1).sum(axis=(1, 2)),
        atol=0.3,
    )


def test_an_update_and_an_evaluation_travel_together(tmp_path: Path) -> None:
    session = Played(tmp_path, number=2)
    session.store.put_result("run", 1, {"round": 1})
    session.begin()
    cells = np.zeros(2 * 2 * 20 + 1)
    cells[0] = 1.0
    session.mask({n: {**own, EVALUATION: cells} for n, own in updates(tuple(COUNTS)).items()})
    outcome = session.finish(tuple(COUNTS))
    assert outcome.evaluated[1]["federated"]["accuracy"] == 1.0
    assert "weights" in outcome.vectors


def test_a_secure_round_shows_how_many_gradients_of_all_nodes_were_clipped(tmp_path: Path) -> None:
    task = make_task("record")
    task = replace(task, privacy=replace(task.privacy, clip_tally=True), evaluation=Evaluation())
    session, beside = Played(tmp_path, task), training_sum(task, SIZE).beside
    session.begin()
    steps = {name: np.array([records * beside // 5]) for name, (records, _) in COUNTS.items()}
    session.mask({name: {UPDATE: np.zeros(SIZE, np.int64), TALLY: tally} for name, tally in steps.items()})
    found = session.finish(tuple(COUNTS)).figures["clipped"]
    units = sum(units for _, units in COUNTS.values()) * task.privacy.sampling_rate
    assert found["units"] == units
    assert found["sum"] == pytest.approx(20, abs=0.2)
    assert found["interval"][0] <= found["share"] <= found["interval"][1]


def test_a_skipped_round_leaves_the_weights_as_they_are(tmp_path: Path) -> None:
    outcome = Played(tmp_path).outcome(())
    assert outcome.figures == {"opened": False}
    assert "weights" not in outcome.vectors


# What cannot be opened


def test_too_few_shares_open_nothing(tmp_path: Path) -> None:
    session = Played(tmp_path)
    session.begin()
    session.mask(updates(tuple(COUNTS)))
    session.confirm(tuple(COUNTS))
    session.unmask(("a", "b"))
    with pytest.raises(PrivacyError, match="the mask of a cannot be removed"):
        session.outcome(tuple(COUNTS))
    session.restart()
    with pytest.raises(PrivacyError, match="the mask of a cannot be removed"):
        session.outcome(tuple(COUNTS))


def test_a_vector_of_another_length_names_its_node(tmp_path: Path) -> None:
    session = Played(tmp_path)
    session.begin()
    session.mask(updates(tuple(COUNTS)))
    session.put(MASKED, "b", {"records": 1, "units": 1}, {"masked": np.zeros(3, np.uint8)})
    with pytest.raises(PrivacyError, match="the vector of b: 3 bytes are not"):
        session.finish(tuple(COUNTS))


def test_shares_for_others_than_the_neighbours_open_nothing(tmp_path: Path) -> None:
    session = Played(tmp_path)
    session.begin()
    session.mask(updates(tuple(COUNTS)))
    session.put(SHARES, "c", {"shares": {"a": b"x"}})
    with pytest.raises(PrivacyError, match="c did not share with exactly its neighbours"):
        session.finish(tuple(COUNTS))


def test_wrong_shares_of_a_mask_give_no_weights(tmp_path: Path) -> None:
    """Of a party's own mask nothing says whether it came out right, but the sum's weights do."""
    session = Played(tmp_path)
    session.begin()
    session.mask(updates(tuple(COUNTS)))
    session.confirm(tuple(COUNTS))
    signatures = session.ask(UNMASK).fields["signatures"]
    for name, party in session.parties.items():
        shares = {
            n: [kind, share[:-1] + bytes([share[-1] ^ 1])] for n, (kind, share) in party.unmask(signatures).items()
        }
        session.put(UNMASK, name, {"shares": shares})
    with pytest.raises(PrivacyError, match="the sum of 'update' is over|cannot be removed"):
        session.outcome(tuple(COUNTS))


# The steps


def test_each_node_is_passed_what_is_for_it_and_nothing_else(tmp_path: Path) -> None:
    session = Played(tmp_path)
    session.begin()
    given = {name: dict(shares["shares"]) for name, shares in session.asked.own.items()}
    assert {n: set(s) for n, s in given.items()} == {n: set(COUNTS) - {n} for n in COUNTS}
    ciphers = [cipher for shares in given.values() for cipher in shares.values()]
    assert len(set(ciphers)) == 12, "no two are the same"
    session.mask(updates(("a", "c", "d")))
    assert session.ask(CONFIRM, ("a", "c", "d")).fields["survivors"] == ["a", "c", "d"]


def test_a_restarted_gateway_asks_the_same_and_opens_the_same(tmp_path: Path) -> None:
    session = Played(tmp_path)
    session.begin()
    session.restart()
    assert session.ask(SHARES) == session.ask(SHARES)
    again = session.ask(MASKED, counts={**COUNTS, "a": (10_000, 10_000)})
    assert again == session.asked, "the form is fixed for an attempt, whoever reports other numbers since"
    session.mask(updates(tuple(COUNTS)))
    session.restart()
    session.confirm(tuple(COUNTS))
    session.restart()
    session.unmask(tuple(COUNTS))
    first = session.outcome(tuple(COUNTS)).vectors["weights"]
    session.restart()
    np.testing.assert_array_equal(session.outcome(tuple(COUNTS)).vectors["weights"], first)


def test_keys_and_shares_that_came_along_are_those_of_the_next_round(tmp_path: Path) -> None:
    session = Played(tmp_path)
    session.begin()
    following = Played(tmp_path / "following", number=2, attempt=PREPARED)
    adverts = {n: p.advertise() for n, p in following.parties.items()}
    keys = {
        name: {"channel": a.channel_key, "mask": a.mask_key, "signature": a.signature, "credential": b"c"}
        for name, a in adverts.items()
    }
    stale = Arrived(0.0, "gone", 1, "d", 1.0, MASKED, 0, prepared=True)  # of an attempt that failed
    session.gateway.put_answer(stale, {NEXT: keys["a"]}, b"")
    session.mask(updates(tuple(COUNTS)), more={name: {NEXT: keys[name]} for name in COUNTS})
    session.confirm(tuple(COUNTS))
    asked = session.ask(UNMASK).fields
    assert {n: told["mask"] for n, told in asked[NEXT].items()} == {n: a.mask_key for n, a in adverts.items()}
    for name, party in session.parties.items():
        shares = {n: list(s) for n, s in party.unmask(asked["signatures"]).items()}
        brought = following.parties[name].share(list(adverts.values()))
        session.put(UNMASK, name, {"shares": shares, NEXT: {"shares": brought}})
    session.outcome(tuple(COUNTS))
    session.restart()
    session.number, session.attempt = 2, PREPARED
    own = session.ask(MASKED).own
    assert {n: set(told["shares"]) for n, told in own.items()} == {n: set(COUNTS) - {n} for n in COUNTS}
    announced = Announce(2, ("a",), MASKED, PREPARED)
    assert session.gateway.in_one_message(announced)
    fields, _ = session.gateway.opening(announced, COUNTS)
    assert fields["shares_of"] == {n: told["shares"] for n, told in own.items()}, "also for those not asked just now"
    assert (fields["kind"], fields["step"], fields["parties"]) == ("round", MASKED, len(COUNTS))


def test_signatures_that_came_with_the_vectors_stand_in_for_confirmations(tmp_path: Path) -> None:
    session = Played(tmp_path)
    session.begin()
    session.mask(updates(tuple(COUNTS)), more={name: {FORESEEN: name.encode()} for name in COUNTS})
    assert session.gateway.foresees(MASKED, {FORESEEN: b"s"})
    assert not session.gateway.foresees(UNMASK, {FORESEEN: b"s"})
    for _ in range(2):
        fields = session.ask(UNMASK).fields
        assert fields[FORESEEN] is True
        assert fields["signatures"] == {name: name.encode() for name in COUNTS}
        session.restart()
    session.confirm(tuple(COUNTS))
    assert FORESEEN not in session.ask(UNMASK).fields


GOOD_KEYS = {"channel": b"\x09" + bytes(31), "mask": b"\x09" + bytes(31), "signature": b"s", "credential": b"c"}
VECTOR = {"masked": np.zeros(4, np.uint8)}


@pytest.mark.parametrize(
    ("step", "header", "tensors"),
    [
        (KEYS, {**GOOD_KEYS, "mask": b"short"}, {}),
        (KEYS, {**GOOD_KEYS, "channel": bytes(32)}, {}),
        (KEYS, {**GOOD_KEYS, "signature": "text"}, {}),
        (KEYS, {k: v for k, v in GOOD_KEYS.items() if k != "credential"}, {}),
        (SHARES, {}, {}),
        (SHARES, {"shares": [b"x"]}, {}),
        (SHARES, {"shares": {"a": "text"}}, {}),
        (MASKED, {"records": 1, "units": 1}, {}),
        (MASKED, {"records": 1, "units": 1}, {"masked": np.zeros(4, np.int64)}),
        (MASKED, {"records": 1, "units": 1}, {"masked": np.zeros((2, 2), np.uint8)}),
        (MASKED, {"records": 0, "units": 1}, VECTOR),
        (MASKED, {"records": 1, "units": -1}, VECTOR),
        (MASKED, {"records": 1, "units": True}, VECTOR),
        (CONFIRM, {"signature": 1}, {}),
        (MASKED, {"records": 1, "units": 1, NEXT: []}, VECTOR),
        (MASKED, {"records": 1, "units": 1, NEXT: {**GOOD_KEYS, "mask": b""}}, VECTOR),
        (MASKED, {"records": 1, "units": 1, FORESEEN: "text"}, VECTOR),
        (UNMASK, {"shares": {"a": b"s"}}, {}),
        (UNMASK, {"shares": {"a": [b"b"]}}, {}),
        (UNMASK, {"shares": {"a": [b"b", "text"]}}, {}),
        (UNMASK, {"shares": {"a": [b"b", b"s"]}, NEXT: {"shares": {"b": 1}}}, {}),
    ],
)
def test_answers_no_later_step_could_use_are_refused_on_arrival(
    tmp_path: Path, step: str, header: Dict[str, Any], tensors: Dict[str, np.ndarray]
) -> None:
    gateway = Played(tmp_path).gateway
    with pytest.raises(WireError):
        gateway.check_answer(step, header, tensors)


def test_answers_as_they_should_be_are_taken(tmp_path: Path) -> None:
    gateway = Played(tmp_path).gateway
    gateway.check_answer(KEYS, GOOD_KEYS, {})
    gateway.check_answer(SHARES, {"shares": {"a": b"x"}}, {})
    gateway.check_answer(MASKED, {"records": 1, "units": 1, NEXT: GOOD_KEYS, FORESEEN: b"s"}, VECTOR)
    gateway.check_answer(CONFIRM, {"signature": b"s"}, {})
    gateway.check_answer(UNMASK, {"shares": {"a": [b"b", b"s"]}, NEXT: {"shares": {"b": b"x"}}}, {})


def test_bits_a_task_declares_too_few_of_are_refused_before_anybody_sends_a_vector(tmp_path: Path) -> None:
    task = replace(make_task("record"), aggregation=Aggregation("masked", bits=16))
    session = Played(tmp_path, task)
    with pytest.raises(PrivacyError, match="aggregation.bits 16 is too few for 4 nodes"):
        session.begin()
