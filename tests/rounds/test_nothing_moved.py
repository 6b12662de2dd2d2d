"""A run none of whose rounds has an update in it fails at its end, and says why: its weights are the first ones."""

from dataclasses import replace
from typing import List

import pytest
from secure_runs import NAMES, answer, gathered, until
from secure_runs import PLAN as SECURE

from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.events import (
    Abstained,
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Declined,
    Fail,
    Finish,
    Joined,
    Started,
    Ticked,
    Unopened,
)
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.state import FAILED, FINISHED
from orchestrator.rounds.steps import ENCRYPTED_STEPS, UNMASK

ALL, NOBODY = Rule(0, 1.0, b"key"), Rule(0, 1e-12, b"key")
PLAN = Plan(3, 3, 2, 10, 2, 100, False, rule=ALL)


def begun(plan: Plan) -> "tuple[Coordinator, List[Action]]":
    coordinator = Coordinator(plan)
    coordinator.handle(Started(0.0))
    actions: List[Action] = []
    for i in range(3):
        actions = coordinator.handle(Joined(1.0, f"n{i}", 10)) or actions
    return coordinator, actions


def through(coordinator: Coordinator, actions: List[Action], good: int = 0) -> List[Action]:
    """All rounds; in `good`, if there is one, node n0 sends an update, and all else is refused."""
    for _ in range(20):
        if isinstance(actions[0], (Fail, Finish)):
            return actions
        if isinstance(actions[0], Announce):
            number = actions[0].round
            for node in actions[0].nodes:
                if (node, number) == ("n0", good):
                    actions = coordinator.handle(Arrived(2.0, node, number, "d", 1.0))
                else:
                    actions = coordinator.handle(Abstained(2.0, node, number, 1, "not a number"))
        assert isinstance(actions[0], Aggregate)
        actions = coordinator.handle(Aggregated(3.0, actions[0].round))
    raise AssertionError("the run never ended")


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("hides_empty", [False, True])
def test_a_run_whose_every_update_was_refused_fails_for_good(evaluation: bool, hides_empty: bool) -> None:
    coordinator, actions = begun(replace(PLAN, evaluation=evaluation, hides_empty=hides_empty))
    (failed,) = through(coordinator, actions)
    assert isinstance(failed, Fail)
    assert failed.final
    assert failed.reason == coordinator.reason
    assert "no update counted in any training round" in failed.reason
    assert "9 answers of nodes could not be used" in failed.reason
    assert coordinator.handle(Started(50.0)) == [failed], "its rounds are used up"


def test_who_was_put_out_is_named() -> None:
    coordinator, actions = begun(PLAN)
    for i in range(3):
        actions = coordinator.handle(Declined(2.0, f"n{i}", "sent what cannot be used")) or actions
    through(coordinator, actions)
    assert "; n2 declined: sent what cannot be used" in coordinator.reason


@pytest.mark.parametrize("good", [1, 2, 3])
def test_one_update_in_one_round_is_a_run(good: int) -> None:
    coordinator, actions = begun(PLAN)
    assert through(coordinator, actions, good) == [Finish()]
    assert coordinator.phase == FINISHED


def test_a_run_in_which_nobody_was_drawn_says_so() -> None:
    coordinator, actions = begun(replace(PLAN, rule=NOBODY))
    (failed,) = through(coordinator, actions)
    assert isinstance(failed, Fail)
    assert "nobody was drawn: raise selection.sampling_rate" in failed.reason


def test_that_nobody_was_drawn_is_not_said_where_it_is_secret() -> None:
    """The noise such rounds get would show it otherwise: the run ends like any other."""
    coordinator, actions = begun(replace(PLAN, rule=NOBODY, hides_empty=True))
    assert through(coordinator, actions) == [Finish()]


@pytest.mark.parametrize("statistics", [False, True])
def test_who_declined_beforehand_does_not_show_that_nobody_was_drawn(statistics: bool) -> None:
    coordinator = Coordinator(replace(PLAN, rule=NOBODY, hides_empty=True, statistics=statistics))
    coordinator.handle(Started(0.0))
    coordinator.handle(Declined(0.5, "n9", "its owner said no"))
    actions: List[Action] = []
    for i in range(3):
        actions = coordinator.handle(Joined(1.0, f"n{i}", 10)) or actions
    if statistics:
        coordinator.handle(Abstained(2.0, "n0", 0, 1, "not a number"))
        for i in (1, 2):
            actions = coordinator.handle(Arrived(2.0, f"n{i}", 0, "d", 1.0)) or actions
        actions = coordinator.handle(Aggregated(2.5, 0))
    assert through(coordinator, actions) == [Finish()]


def test_secure_rounds_that_were_all_skipped_are_no_run() -> None:
    coordinator = gathered(replace(SECURE, rounds=2))
    actions: List[Action] = []
    for number in (1, 2):
        until(coordinator, UNMASK)
        answer(coordinator, NAMES)
        assert coordinator.handle(Unopened(3.0, number, "no shares of n1")) == [Aggregate(number, (), 1)]
        actions = coordinator.handle(Aggregated(4.0, number))
    (failed,) = actions
    assert isinstance(failed, Fail)
    assert failed.final
    assert failed.reason.endswith("the last round was skipped: no shares of n1")
    assert coordinator.phase == FAILED


def test_rounds_done_without_because_their_attempts_are_used_up_are_no_run() -> None:
    plan = Plan(1, 3, 3, 10.0, 1, 60.0, False, steps=ENCRYPTED_STEPS, least=3, key_holder="keys")
    coordinator = SecureCoordinator(plan)
    coordinator.handle(Started(0.0))
    for name in ("a", "b", "c", "keys"):
        coordinator.handle(Joined(1.0, name, 10))
    (stopped,) = coordinator.handle(Ticked(coordinator.deadline))
    assert isinstance(stopped, Fail)
    assert coordinator.handle(Started(50.0)) == [Aggregate(1, (), 1)]
    (failed,) = coordinator.handle(Aggregated(51.0, 1))
    assert isinstance(failed, Fail)
    assert failed.final
    assert stopped.reason in failed.reason


def test_in_secure_rounds_one_opened_sum_is_a_run() -> None:
    coordinator = gathered(replace(SECURE, rounds=2))
    until(coordinator, UNMASK)
    answer(coordinator, NAMES)
    coordinator.handle(Aggregated(3.0, 1))
    until(coordinator, UNMASK)
    answer(coordinator, NAMES)
    coordinator.handle(Unopened(4.0, 2, "no shares of n1"))
    assert coordinator.handle(Aggregated(5.0, 2)) == [Finish()]
