"""The node's own accountant: never below what the gateway states, limited, and counted again when the ledger has moved on."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence

import pytest

pytest.importorskip("dp_accounting")  # not on Python 3.8

from test_policy import make_task

from orchestrator.errors import PrivacyError
from orchestrator.node import accountant
from orchestrator.node.accountant import epsilon_apart
from orchestrator.node.gatekeeper import Gatekeeper, Verdict, reservation_of
from orchestrator.node.ledger import Ledger, StaleError
from orchestrator.node.policy import Refusal
from orchestrator.node.reservation import Reservation
from orchestrator.node.store import NodeStore
from orchestrator.privacy.accounting import correction_of, epsilon_spent, plan_noise
from orchestrator.privacy.charges import charges_of
from orchestrator.wire.process import own_program
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task, task_to_dict
from orchestrator.wire.training import Training

TASK = make_task(privacy=Privacy(noise_multiplier=1.0))
NOISED: Dict[str, Any] = {"noise_multiplier": 1.5, "statistics_noise_multiplier": 4.0, "statistics_clip_norm": 1.0}
EVALUATED: Dict[str, Any] = {**NOISED, "evaluation_noise_multiplier": 5.0}
PLAIN: Dict[str, Any] = {"aggregation": Aggregation()}


def federated(task: Task) -> Task:
    return replace(task, schema=replace(task.schema, standardization="federated"))


RUNS: Dict[str, Task] = {
    "one step": make_task(**PLAIN, training=Training(rounds=1), privacy=Privacy(**NOISED, sampling_rate=1.0)),
    "records": make_task(**PLAIN, training=Training(rounds=30), privacy=Privacy(**NOISED)),
    "skellam": make_task(
        **PLAIN, training=Training(rounds=30), privacy=Privacy(**NOISED, sampling_rate=1.0, mechanism="skellam")
    ),
    "shared": make_task(privacy=Privacy(**NOISED, noise="distributed")),
    "statistics and evaluation": federated(
        make_task(**PLAIN, privacy=Privacy(**EVALUATED), evaluation=Evaluation(0.2), training=Training(rounds=5))
    ),
    "much evaluation": make_task(
        **PLAIN,
        privacy=Privacy(**{**EVALUATED, "noise_multiplier": 8.0}, mechanism="skellam"),
        evaluation=Evaluation(0.2),
        training=Training(rounds=20),
    ),
    "patients": make_task(**PLAIN, privacy=Privacy(unit="patient", **NOISED, count_noise_multiplier=2.0)),
    "nodes": make_task(**PLAIN, privacy=Privacy(unit="node", **EVALUATED), evaluation=Evaluation(0.2)),
    "bands": make_task(
        **PLAIN,
        training=Training(rounds=9),
        privacy=Privacy(unit="node", noise="gateway", bands=3, **NOISED),
        selection=Selection(cohort=1),
        rounds=Rounds(nodes=5, quorum=1),
    ),
}


@pytest.mark.parametrize(
    ("name", "parameters"), [*((name, 40) for name in sorted(RUNS)), ("skellam", 0), ("records", 0)]
)
def test_a_node_counts_no_less_than_the_gateway_states_for_the_same_run(name: str, parameters: int) -> None:
    """And little more. parameters: of the model; 0: as many as are assumed where a declaration does not say."""
    task = RUNS[name]
    task = replace(task, training=replace(task.training, parameters=parameters))
    stated = epsilon_spent(task)
    counted = epsilon_apart([reservation_of("a", "d", task)], task.privacy.delta)
    assert stated <= counted * (1 + 1e-9)
    assert counted <= stated * 1.02, "and what is above is the coarser discretization"


def test_planned_noise_keeps_the_budget_as_the_node_counts_it() -> None:
    planned = plan_noise(make_task(**PLAIN, training=Training(rounds=30), privacy=Privacy(epsilon=3.0, delta=1e-4)))
    counted = epsilon_apart([reservation_of("a", "d", planned)], 1e-4)
    assert epsilon_spent(planned) <= min(3.0, counted)
    assert counted == pytest.approx(3.0, rel=0.02)


def test_whole_numbers_cost_what_they_give_away_beyond_gaussian_noise(tmp_path: Path) -> None:
    """Grids are in what the ledger keeps: without them Skellam noise would be counted as if it were Gaussian."""
    task = RUNS["skellam"]
    reserved = reservation_of("a", "d", task)
    assert all(charge.grid is not None for charge in reserved.charges)
    bare = replace(reserved, charges=charges_of(task))
    eta = correction_of(task).eta
    assert eta > 1e-4
    found = epsilon_apart([reserved], task.privacy.delta) - epsilon_apart([bare], task.privacy.delta)
    assert found >= 2 * eta * (1 - 1e-6)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.reserve(reserved)
    ledger.close()
    assert Ledger(tmp_path / "ledger.sqlite").reservations() == [reserved]


def test_a_closed_run_counts_with_the_grids_of_what_it_used(tmp_path: Path) -> None:
    task = RUNS["skellam"]
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.reserve(reservation_of("a", "d", task))
    ledger.charge("a", 1, {"training": 1})
    ledger.close_run("a")
    one = replace(task, training=Training(rounds=1))
    closed, alone = epsilon_apart(ledger.reservations(), 1e-5), reservation_of("b", "d", one)
    alone = replace(alone, charges=tuple(c for c in alone.charges if c.kind == "training"))
    assert closed == pytest.approx(epsilon_apart([alone], 1e-5), rel=1e-6)


# Limits


def open_keeper(folder: Path, epsilon_total: float = 7.0, stages: str = "['noise']") -> Gatekeeper:
    (folder / "policy.toml").write_text(f"[budget]\nepsilon_total = {epsilon_total}\n[require]\nstages = {stages}\n")
    return Gatekeeper(folder, NodeStore(folder / "node.sqlite"), folder / "policy.toml")


def admit(keeper: Gatekeeper, run: str, task: Task) -> Optional[Verdict]:
    return keeper.admit(run, task, task_to_dict(task), b"graph", 100)


def test_a_declaration_too_large_to_count_is_refused_and_the_node_goes_on(tmp_path: Path) -> None:
    keeper = open_keeper(tmp_path, stages="[]")
    absurd = make_task(
        training=Training(rounds=10**6), privacy=Privacy(noise_multiplier=0.11, sampling_rate=0.9), name="absurd"
    )
    refused = admit(keeper, "absurd", absurd)
    assert isinstance(refused, Refusal)
    assert (refused.code, "the accountant failed" in refused.reason) == ("policy.accountant", True)
    assert keeper.ledger.reservations() == []
    assert admit(keeper, "one", TASK) is None


def test_an_accountant_that_takes_for_ever_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 1000\n")
    endless.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(endless))
    monkeypatch.setattr(accountant, "LIMIT_S", 0.3)
    refused = admit(open_keeper(tmp_path), "one", TASK)
    assert isinstance(refused, Refusal)
    assert refused.code == "policy.accountant"
    assert "longer than 0.3 s" in refused.reason


def test_the_accountants_process_has_limits_of_time_and_memory() -> None:
    program = (
        "import json, resource, numpy\n"
        "from orchestrator.node import accountant\n"
        "accountant._confine()\n"
        "limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_CPU, resource.RLIMIT_DATA)]\n"
        "try:\n    numpy.ones(3 << 30, numpy.uint8)\n    held = False\n"
        "except MemoryError:\n    held = True\n"
        "print(json.dumps([limits, held]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    limits, held = json.loads(done.stdout)
    assert limits == [[40, 40], [2 << 30, 2 << 30]]
    assert held
    # And they are set where it is the program: a question that takes gigabytes ends it.
    many = {"kind": "training", "noise_multiplier": 0.11, "sampling_rate": 0.9, "count": 10**6}
    question = json.dumps({"cases": [[[many]]], "delta": 1e-5})
    done = subprocess.run(own_program("orchestrator.node.accountant"), input=question, capture_output=True, text=True)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr


# Two processes, one ledger


@pytest.fixture
def one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run counts as 1, slowly: what is tried here is when a ledger is counted."""

    def count(sets: Iterable[Sequence[Reservation]], delta: float) -> List[float]:
        time.sleep(0.02)
        return [float(len(reservations)) for reservations in sets]

    monkeypatch.setattr(accountant, "epsilons_apart", count)


@pytest.mark.usefixtures("one_each")
def test_a_budget_that_another_process_reserved_from_meanwhile_is_counted_again(tmp_path: Path) -> None:
    """Both fit when they counted; of both together the second does not."""
    one, other = (open_keeper(tmp_path, 1.5) for _ in range(2))
    declared, again = task_to_dict(TASK), replace(TASK, seed=1)
    assert one.consider("one", TASK, declared, b"graph") is None
    assert other.consider("other", again, task_to_dict(again), b"graph") is None
    assert one.accept("one", TASK, declared, b"graph") is None
    refused = other.accept("other", again, task_to_dict(again), b"graph")
    assert isinstance(refused, Refusal)
    assert refused.code == "policy.budget"
    assert [r.run for r in other.ledger.reservations()] == ["one"]


@pytest.mark.usefixtures("one_each")
def test_the_window_between_counting_and_reserving_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process reserves right when this one has counted and not yet reserved."""
    one, other = (open_keeper(tmp_path, 1.5) for _ in range(2))
    again = replace(TASK, seed=1)
    real, counted = accountant.epsilons_apart, []

    def meanwhile(sets: Any, delta: float) -> List[float]:
        found = real(sets, delta)
        counted.append(found)
        if len(counted) == 1:
            other.ledger.reserve(reservation_of("other", "e" * 64, again))
        return found

    monkeypatch.setattr(accountant, "epsilons_apart", meanwhile)
    refused = one.accept("one", TASK, task_to_dict(TASK), b"graph")
    assert isinstance(refused, Refusal)
    assert refused.code == "policy.budget"
    assert len(counted) == 2, "counted again, with what the other process reserved"
    assert [r.run for r in one.ledger.reservations()] == ["other"]


@pytest.mark.usefixtures("one_each")
def test_a_ledger_that_never_rests_refuses_rather_than_reserving_uncounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (open_keeper(tmp_path, 1e6) for _ in range(2))

    real = accountant.epsilons_apart

    def meanwhile(sets: Any, delta: float) -> List[float]:
        run = f"run {len(other.ledger.reservations())}"
        other.ledger.reserve(reservation_of(run, "e" * 64, TASK))
        return real(sets, delta)

    monkeypatch.setattr(accountant, "epsilons_apart", meanwhile)
    refused = one.accept("one", TASK, task_to_dict(TASK), b"graph")
    assert isinstance(refused, Refusal)
    assert (refused.code, "the ledger changed 20 times" in refused.reason) == ("policy.accountant", True)
    assert len(one.ledger.reservations()) == 20
    assert one.ledger.reservation("one") is None


@pytest.mark.usefixtures("one_each")
def test_many_processes_at_once_never_fit_together(tmp_path: Path) -> None:
    """Threads with a ledger of their own each, as processes have; there is room for three of eight."""
    found: Dict[int, Optional[Verdict]] = {}
    begin = threading.Barrier(8)
    open_keeper(tmp_path, 3.5).close()

    def run(number: int) -> None:
        keeper = Gatekeeper(tmp_path, NodeStore(tmp_path / "node.sqlite"), tmp_path / "policy.toml")
        begin.wait(600)
        found[number] = admit(keeper, f"run {number}", replace(TASK, seed=number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = [None if verdict is None else verdict.code for verdict in found.values()]
    assert sorted(map(str, codes)) == ["None"] * 3 + ["policy.budget"] * 5
    assert len(Ledger(tmp_path / "ledger.sqlite").reservations()) == 3


def test_a_ledger_that_grew_is_stale_only_for_one_that_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    head = ledger.head
    wanted = reservation_of("one", "d" * 64, TASK)
    ledger.decide("f" * 64, "approved")
    with pytest.raises(StaleError):
        ledger.reserve(wanted, head)
    assert ledger.reservations() == []
    assert ledger.reserve(wanted, ledger.head)
    assert not ledger.reserve(wanted), "and without a head it is known already"
    with pytest.raises(PrivacyError, match="reserved for another task"):
        ledger.reserve(replace(wanted, digest="e" * 64), ledger.head)
