"""What the node accepts, what it makes wait, what it refuses, and what each costs; figures against dp-accounting itself."""

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional

import pytest

pytest.importorskip("dp_accounting")  # not on Python 3.8

from gatekeepers import (
    DELTA,
    GRAPH,
    HONEST,
    TASK,
    admit,
    another_default,
    code,
    composed,
    open_keeper,
    reserve,
    said_epsilon,
    spent,
)
from test_policy import make_task

from orchestrator.errors import LedgerError, PrivacyError, UsageError, WireError
from orchestrator.gateway.authority import Authority
from orchestrator.node import accountant
from orchestrator.node.accountant import epsilon_apart, epsilons_apart, sides_of
from orchestrator.node.gatekeeper import COUNT_ROUND, Gatekeeper, Verdict, reservation_of, uses_of
from orchestrator.node.identity import install, make_node_request
from orchestrator.node.ledger import LEDGER_FILE
from orchestrator.node.policy import Refusal
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task, task_from_dict, task_to_dict
from orchestrator.wire.training import Training


@pytest.fixture
def keeper(tmp_path: Path) -> Gatekeeper:
    """Of a node whose policy limits epsilon at DELTA; the file is `policy.toml` in the test's folder."""
    (tmp_path / "policy.toml").write_text("[budget]\nepsilon_task = 5\nepsilon_total = 7\n")
    return open_keeper(tmp_path)


@pytest.fixture
def lenient(tmp_path: Path) -> Gatekeeper:
    """Of a node without a policy: quick, since nothing is counted."""
    return open_keeper(tmp_path, policy="")


@pytest.mark.slow
def test_epsilon_is_that_of_everything_composed() -> None:
    one = reservation_of("a", "d", TASK)
    other = reservation_of("b", "d", make_task(privacy=Privacy(noise_multiplier=2.0, sampling_rate=0.5)))
    found = epsilons_apart([[one], [one, other], [one, one], []], DELTA)
    expected = [
        spent(1),
        composed([(1.0, 2, 0.25), (5.0, 1, 1.0), (2.0, 2, 0.5), (10.0, 1, 1.0)]).get_epsilon(DELTA),
        spent(2),
        0.0,
    ]
    assert found == pytest.approx(expected, rel=2e-3)
    assert found[1] < found[0] + epsilon_apart([other], DELTA)
    assert epsilon_apart([reservation_of("c", "d", make_task(privacy=Privacy()))], DELTA) == math.inf
    without = reservation_of("d", "d", make_task(privacy=Privacy(unit="none")))
    assert epsilons_apart([[without], [one, without]], DELTA) == [math.inf, math.inf]


def test_records_held_out_and_trained_on_are_apart_only_where_that_is_certain() -> None:
    evaluated = make_task(
        privacy=Privacy(noise_multiplier=1.0, evaluation_noise_multiplier=3.0), evaluation=Evaluation(share=0.2)
    )
    one = reservation_of("a", "d", evaluated)
    figures = [(c.kind, round(c.noise_multiplier, 2), c.sampling_rate, c.count, c.group) for c in one.charges]
    assert figures == [
        ("training", 1.0, 0.25, 2, "trained"),
        ("count", 5.0, 1.0, 1, "trained"),
        ("evaluation", 3.0, 1.0, evaluated.evaluations, "held-out"),
    ]
    trained, counted, held = (replace(c, kind="training", group="trained") for c in one.charges)
    assert set(sides_of([one])) == {(trained, counted), (held,)}
    # Twice with the same share: the sides stay apart. With a larger share some records are trained on, then held out.
    doubled = [replace(c, count=2 * c.count) for c in (trained, counted, held)]
    assert set(sides_of([one, one])) == {(doubled[0], doubled[1]), (doubled[2],)}
    larger = replace(one, share=0.5)
    assert (trained, held, counted) in sides_of([one, larger])
    assert len(sides_of([one, larger])) == 3
    # Another schema hashes records by another key: one that was held out there may have been trained on here.
    assert (trained, held, counted) in sides_of([one, replace(one, sides="other")])
    # Of an earlier version the ledger has 16 digits, which several schemas may begin with: it goes with one of them only.
    whole, alike, old = (replace(one, sides=sides) for sides in (16 * "a" + 48 * "b", 16 * "a" + 48 * "c", 16 * "a"))
    assert whole.splits_like(old)
    assert not whole.splits_like(alike)
    assert (trained, held, counted) in sides_of([whole, alike])
    assert (trained, held, counted) not in sides_of([whole, old])
    assert len(reservation_of("one", "d", TASK).sides) == 64
    # A whole node is on both sides.
    node = replace(one, unit="node", charges=(trained, replace(held, kind="evaluation")))
    assert sides_of([node]) == [(trained, held)]
    many = [replace(one, sides=str(i)) for i in range(7)]
    assert sides_of(many) == [tuple(replace(c, count=7 * c.count) for c in (trained, held, counted))]


@pytest.mark.slow
def test_the_budget_of_a_task_and_in_all(keeper: Gatekeeper, tmp_path: Path) -> None:
    each, twice, thrice = spent(1), spent(2), spent(3)
    (tmp_path / "policy.toml").write_text(f"[budget]\nepsilon_task = {twice - 0.02}\nepsilon_total = {thrice - 0.02}\n")
    assert each < twice - 0.02
    assert admit(keeper, "one", TASK) is None
    again = admit(keeper, "two", TASK)
    assert isinstance(again, Refusal)
    assert again.code == "policy.budget"
    assert "with 1 earlier run of it at delta 1e-05, at most" in again.reason
    assert said_epsilon(again) == pytest.approx(twice, rel=5e-3)
    reserve(keeper, "two", other_task("other"))
    third = admit(keeper, "three", other_task("third"))
    assert isinstance(third, Refusal)
    assert third.code == "policy.budget"
    assert "at delta 1e-05 would be spent in all (2 earlier runs), at most" in third.reason
    assert said_epsilon(third) == pytest.approx(thrice, rel=5e-3)


def other_task(name: str, **changes: Any) -> Task:
    """Of another name and another schema than TASK."""
    return replace(TASK, name=name, schema=replace(TASK.schema, classes=(name, "yes")), **changes)


@pytest.mark.parametrize(
    "again",
    [
        replace(TASK, seed=7),
        replace(TASK, name="another"),
        other_task(TASK.name),
        replace(TASK, privacy=replace(TASK.privacy, epsilon=2.9), training=Training(rounds=2, learning_rate=0.5)),
    ],
    ids=["another seed", "another name", "another schema", "other settings"],
)
@pytest.mark.slow
def test_a_task_that_comes_again_in_another_guise_is_the_same_one(
    keeper: Gatekeeper, tmp_path: Path, again: Task
) -> None:
    (tmp_path / "policy.toml").write_text(f"[budget]\nepsilon_task = {spent(2) - 0.02}\n")
    reserve(keeper, "one", TASK)
    refused = admit(keeper, "two", again)
    assert isinstance(refused, Refusal)
    assert (refused.code, "with 1 earlier run of it" in refused.reason) == ("policy.budget", True)
    assert admit(keeper, "three", other_task("another")) is None


@pytest.mark.slow
def test_what_was_trained_without_privacy_leaves_no_budget_in_all(keeper: Gatekeeper, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[budget]\nepsilon_total = 1000\n")
    reserve(keeper, "open", replace(other_task("open"), privacy=Privacy(unit="none")))
    refused = admit(keeper, "one", TASK)
    assert isinstance(refused, Refusal)
    assert refused.code == "policy.budget"
    assert "epsilon without bound" in refused.reason
    keeper.ledger.close_run("open")
    assert admit(keeper, "one", TASK) is None, "nothing of it was ever released"


def test_a_replay_spends_nothing_and_a_known_run_takes_no_other_task(lenient: Gatekeeper, tmp_path: Path) -> None:
    assert admit(lenient, "one", TASK) is None
    said = lenient.ledger_head()
    assert admit(lenient, "one", TASK) is None
    lenient.close()
    again = open_keeper(tmp_path, policy="")
    assert admit(again, "one", TASK) is None
    now = again.ledger_head()
    assert (now["entries"], now["hash"]) == (said["entries"], said["hash"]) == (2, said["hash"])
    assert now["process"] != said["process"]
    assert code(admit(again, "one", replace(TASK, seed=2))) == "ledger.run"


def test_an_unlimited_node_accepts_all_and_counts_all(tmp_path: Path) -> None:
    keeper = open_keeper(tmp_path, policy="")
    assert admit(keeper, "one", make_task(privacy=Privacy(unit="none"))) is None
    assert admit(keeper, "two", make_task(privacy=Privacy(noise_multiplier=0.01))) is None
    keeper.charge("one", 1)
    keeper.charge("two", 1)
    assert [(r.run, r.used) for r in keeper.ledger.reservations()] == [
        ("one", {"training": 1}),
        ("two", {"training": 1}),
    ]


def test_a_claim_that_does_not_hold_here_is_refused_before_the_policy_is_asked(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[require]\nunits = ['node']\n")
    keeper = open_keeper(tmp_path)
    assert code(admit(keeper, "one", make_task(privacy=Privacy()))) == "claim"
    assert code(admit(keeper, "one", TASK)) == "policy.unit"


@pytest.mark.slow
def test_a_delta_that_would_let_a_whole_record_leak_is_refused_by_the_code_of_all_that_the_data_say(
    keeper: Gatekeeper, lenient: Gatekeeper, tmp_path: Path
) -> None:
    declared = task_to_dict(TASK)
    assert lenient.consider("one", TASK, declared, GRAPH) is None, "no number of records is asked for"
    assert lenient.accept("one", TASK, declared, GRAPH) is None, "nor here"
    refused = lenient.check_size("one", TASK, 200_000)
    assert isinstance(refused, Refusal)
    assert (refused.code, "1/200030: it would allow a whole record to leak" in refused.reason) == ("data", True)
    (tmp_path / "policy.toml").write_text("[budget]\nepsilon_total = 7\ndelta = 0.01\n")
    assert keeper.accept("two", TASK, declared, GRAPH) is None
    refused = keeper.check_size("two", TASK, 70)  # with 6 deviations of the noise on that number
    assert isinstance(refused, Refusal)
    assert (refused.code, "[budget] delta 0.01 is not below 1/units = 1/100" in refused.reason) == ("data", True)
    closed = keeper.ledger.reservation("two")
    assert closed is not None
    assert closed.closed
    assert [charge.count for charge in closed.counted if charge.kind != "count"] == [0] * (len(closed.charges) - 1)
    assert code(keeper.accept("two", TASK, declared, GRAPH)) == "ledger.run", "a closed run is not served again"
    assert keeper.accept("three", TASK, declared, GRAPH) is None
    assert keeper.check_size("three", TASK, 69) is None


def test_a_policy_that_changed_counts_for_the_next_task(keeper: Gatekeeper, tmp_path: Path) -> None:
    reserve(keeper, "one", TASK)
    (tmp_path / "policy.toml").write_text("[budget]\nepsilon_total = 2\n")
    assert code(admit(keeper, "one", TASK)) == "policy.budget"
    (tmp_path / "policy.toml").write_text("[budget]\nepsilon_totl = 2\n")
    assert code(admit(keeper, "one", TASK)) == "policy.unreadable"
    with pytest.raises(UsageError, match="did you mean"):
        open_keeper(tmp_path)


def test_rounds_are_charged_by_what_they_release() -> None:
    task = make_task(
        training=Training(rounds=3, local_steps=4),
        aggregation=Aggregation(),
        evaluation=Evaluation(share=0.2, every=2),
    )
    assert [uses_of(task, n) for n in range(1, 5)] == [
        {"training": 4},
        {"training": 4},
        {"training": 4, "evaluation": 1},
        {"evaluation": 1},
    ]
    standardized = replace(task, schema=replace(task.schema, standardization="federated"))
    assert uses_of(standardized, 0) == {"statistics": 1}
    assert uses_of(task, COUNT_ROUND) == {"count": 1}
    assert uses_of(replace(task, privacy=Privacy(unit="node")), 1) == {"training": 1}
    for each in (task, standardized):
        reserved = {c.kind: c.count for c in reservation_of("r", "d", each).charges}
        used: Dict[str, int] = {}
        for number in range(COUNT_ROUND, each.last_round + 1):
            if number or each.standardizes:
                for kind, count in uses_of(each, number).items():
                    used[kind] = used.get(kind, 0) + count
        assert used == reserved


def test_a_release_beyond_the_reservation_is_a_refused_round(lenient: Gatekeeper) -> None:
    with pytest.raises(WireError, match="run one was not accepted by this node"):
        lenient.charge("one", 1)
    assert admit(lenient, "one", TASK) is None
    lenient.charge("one", 1)
    lenient.charge("one", 1)
    lenient.charge("one", 2)
    lenient._tasks["one"] = replace(TASK, training=Training(rounds=9))
    with pytest.raises(WireError, match="reserved are 2"):
        lenient.charge("one", 3)


def test_correlated_noise_is_one_release_as_long_as_rounds_keep_their_distance(tmp_path: Path) -> None:
    keeper = open_keeper(tmp_path, policy="")
    task = make_task(
        training=Training(rounds=9),
        privacy=Privacy(unit="node", noise="gateway", bands=3, noise_multiplier=2.0),
        aggregation=Aggregation(),
        selection=Selection(cohort=1),
        rounds=Rounds(nodes=5, quorum=1),
    )
    assert admit(keeper, "one", task) is None
    keeper.charge("one", 2)
    with pytest.raises(WireError, match="round 4 of run one is less than 3 rounds from round 2"):
        keeper.charge("one", 4)
    keeper.charge("one", 5)
    assert keeper.ledger.reservations()[0].used == {"training": 1}


def test_a_run_goes_on_only_with_the_noise_it_reserved(lenient: Gatekeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another version's default stands for what a declaration leaves out, the ledger would count the earlier noise."""
    declared = task_to_dict(HONEST)
    del declared["privacy"]["sampling_rate"]

    def admitted() -> Optional[Verdict]:
        return lenient.admit("one", task_from_dict(declared), declared, GRAPH, 100)

    assert admitted() is None
    assert admitted() is None
    another_default(monkeypatch, Privacy, "sampling_rate", 0.5)
    assert code(admitted()) == "ledger.run"
    assert "reserved for other noise" in str(admitted())


def test_without_an_accountant_limits_refuse(keeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accountant, "available", lambda: False)
    verdict = admit(keeper, "one", TASK)
    assert isinstance(verdict, Refusal)
    assert verdict.code == "policy.accountant"
    assert "pip install dp-accounting" in verdict.reason


def test_an_accountant_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PrivacyError, match="the accountant failed"):
        epsilon_apart([reservation_of("a", "d", TASK)], DELTA)


def test_a_ledger_that_vanishes_declines_tasks_and_ends_rounds(lenient: Gatekeeper, tmp_path: Path) -> None:
    assert admit(lenient, "one", TASK) is None
    (tmp_path / LEDGER_FILE).unlink()
    assert code(admit(lenient, "two", replace(TASK, seed=2))) == "ledger.lost"
    with pytest.raises(LedgerError, match="removed or replaced"):
        lenient.charge("one", 1)
    lenient.close()
    with pytest.raises(LedgerError, match="the ledger is gone"):
        open_keeper(tmp_path, policy="")


def test_the_identity_names_the_signer_and_remembers_the_ledger(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "authority", "icu", [])
    request = make_node_request(tmp_path / "id", "a", "icu")
    identity = install(tmp_path / "id", {**authority.sign(request, "a"), "broker": ""}, authority.ca_fingerprint)
    policy, state = tmp_path / "policy.toml", tmp_path / "state"

    def opened() -> Gatekeeper:
        state.mkdir(exist_ok=True)
        return Gatekeeper(state, NodeStore(state / "node.sqlite"), policy, identity)

    policy.write_text(f"[allow]\nsigners = ['{authority.key_id}']\n")
    keeper = opened()
    assert admit(keeper, "one", TASK) is None
    policy.write_text("[allow]\nsigners = ['0123456789abcdef']\n")
    refused = admit(keeper, "two", TASK)
    assert isinstance(refused, Refusal)
    assert (refused.code, authority.key_id in refused.reason) == ("policy.signer", True)
    keeper.close()
    shutil.rmtree(state)
    with pytest.raises(LedgerError, match=r"ledger-head\.json remembers it"):
        opened()


def test_nothing_is_stored_that_the_ledger_did_not_note(lenient: Gatekeeper, tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.sqlite")
    store.before_release = lenient.charge
    with pytest.raises(WireError, match="was not accepted"):
        store.release("one", 1, "digest", b"update")
    assert store.released("one", 1, "digest") is None
    assert admit(lenient, "one", TASK) is None
    store.release("one", 1, "digest", b"update")
    assert store.released("one", 1, "digest") == b"update"
    assert tuple(lenient.ledger.reservations()[0].rounds) == (1,)


def test_the_agent_stays_without_scipy() -> None:
    program = "import sys, orchestrator.node.agent; print('scipy' in sys.modules or 'dp_accounting' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
