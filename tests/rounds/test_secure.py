"""Secure rounds step by step: who is asked, when a step ends, when a round is attempted again, and when it never is."""

import copy
from dataclasses import replace
from typing import List, Tuple

import pytest
from secure_runs import NAMES, PLAN, answer, gathered, until

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
    Left,
    Rated,
    Started,
    Ticked,
    Unopened,
    Wake,
)
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.secure import SecureCoordinator, coordinator_of
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.state import AGGREGATING, COLLECTING, FAILED, FINISHED
from orchestrator.rounds.steps import CONFIRM, KEYS, MASKED, MASKED_STEPS, SHARES, UNMASK


def test_a_run_in_five_steps_a_round() -> None:
    coordinator = gathered(replace(PLAN, rounds=2))
    for number in (1, 2):
        assert coordinator.round == number
        for step, following in zip(MASKED_STEPS, MASKED_STEPS[1:]):
            assert coordinator.step == step
            assert answer(coordinator, NAMES) == [Announce(number, NAMES, following, 1), Wake(12.0)]
        assert answer(coordinator, NAMES) == [Aggregate(number, NAMES, 1)]
        done = coordinator.handle(Aggregated(3.0, number))
        assert done == ([Finish()] if number == 2 else [Announce(2, NAMES, KEYS, 1), Wake(13.0)])
    assert coordinator.phase == FINISHED


def test_the_plan_decides_which_coordinator_there_is() -> None:
    assert type(coordinator_of(PLAN)) is SecureCoordinator
    assert type(coordinator_of(replace(PLAN, steps=()))) is Coordinator


@pytest.mark.parametrize("leaving", MASKED_STEPS)
@pytest.mark.parametrize("how", ["leaves", "abstains", "is silent"])
def test_the_sum_is_over_those_whose_vectors_came(leaving: str, how: str) -> None:
    """One node drops out in each step: it is asked nothing more, and in the sum only if its vector had come by then."""
    coordinator = gathered()
    until(coordinator, leaving)
    rest = NAMES[:4]
    actions = answer(coordinator, rest)
    assert actions == [], "n4 is still awaited"
    if how == "leaves":
        actions = coordinator.handle(Left(3.0, "n4"))
    elif how == "abstains":
        actions = coordinator.handle(Abstained(3.0, "n4", 1, 1, "began again"))
    else:
        assert coordinator.handle(Ticked(coordinator.deadline - 0.1)) == []
        actions = coordinator.handle(Ticked(coordinator.deadline))
    while coordinator.phase == COLLECTING:
        assert actions[0] == Announce(1, rest, coordinator.step, 1)
        actions = answer(coordinator, rest)
    assert actions == [Aggregate(1, NAMES if leaving in (CONFIRM, UNMASK) else rest, 1)]


@pytest.mark.parametrize(
    ("step", "needed"), [(KEYS, 3), (SHARES, 3), (MASKED, 3), (CONFIRM, 5 // 2 + 1), (UNMASK, 5 // 2 + 1)]
)
def test_what_each_step_needs(step: str, needed: int) -> None:
    coordinator = gathered()
    until(coordinator, step)
    assert coordinator.needed == needed
    too_few = copy.deepcopy(coordinator)
    answer(coordinator, NAMES[:needed])
    before = (coordinator.step, coordinator.phase)
    coordinator.handle(Ticked(100.0))
    assert (coordinator.step, coordinator.phase) != before
    assert coordinator.attempt == 1
    answer(too_few, NAMES[: needed - 1])
    too_few.handle(Ticked(100.0))
    assert (too_few.attempt, too_few.phase) == ((2, COLLECTING) if step != UNMASK else (1, AGGREGATING))


def test_a_sum_is_over_no_fewer_than_declared_whatever_the_quorum() -> None:
    coordinator = gathered(replace(PLAN, least=4))
    until(coordinator, MASKED)
    answer(coordinator, NAMES[:3])
    assert coordinator.handle(Ticked(50.0)) == [Announce(1, NAMES, KEYS, 2), Wake(60.0)]


def test_opening_takes_more_than_half_of_those_with_keys() -> None:
    """Three vectors of seven nodes are a quorum, but three signatures of seven open nothing: said at once, not at a deadline."""
    coordinator = gathered(nodes=("n0", "n1", "n2", "n3", "n4"))
    for name in ("n5", "n6"):
        assert coordinator.handle(Joined(1.5, name, 10)) == [Announce(1, (name,), KEYS, 1)]
    until(coordinator, MASKED)
    assert coordinator.parties == 7
    answer(coordinator, NAMES[:3])
    assert coordinator.needed == 4
    assert coordinator.handle(Ticked(12.0)) == [Announce(1, (*NAMES, "n5", "n6"), KEYS, 2), Wake(22.0)]


def test_an_answer_counts_once_and_only_for_the_open_step_of_this_attempt() -> None:
    coordinator = gathered()
    answer(coordinator, ["n0"])
    before = copy.deepcopy(coordinator)
    for stale in (
        Arrived(2.0, "n0", 1, "again", 1.0, KEYS, 1),
        Arrived(2.0, "n1", 1, "d", 1.0, SHARES, 1),
        Arrived(2.0, "n1", 1, "d", 1.0, KEYS, 2),
        Arrived(2.0, "n1", 2, "d", 1.0, KEYS, 1),
        Arrived(2.0, "n1", 1, "d", 1.0),
        Arrived(2.0, "stranger", 1, "d", 1.0, KEYS, 1),
        Abstained(2.0, "n0", 1, 1, "has answered"),
        Abstained(2.0, "n1", 1, 2, "of another attempt"),
        Abstained(2.0, "n1", 2, 1, "of another round"),
        Abstained(2.0, "stranger", 1, 1, "was not asked"),
        Unopened(2.0, 1, "nothing is being opened"),
    ):
        assert coordinator.handle(stale) == []
        assert coordinator == before
    assert not coordinator.accepts("n1", 1), "nothing is accepted outside the steps"


def test_newcomers_are_taken_in_the_key_step_only() -> None:
    coordinator = gathered()
    assert coordinator.handle(Joined(1.5, "n5", 10)) == [Announce(1, ("n5",), KEYS, 1)]
    for step in MASKED_STEPS[1:]:
        until(coordinator, step)
        newcomer = f"late-{step}"
        assert coordinator.handle(Joined(2.0, newcomer, 10)) == []
        assert newcomer not in coordinator.cohort
        assert coordinator.handle(Rated(2.0, newcomer, "hot")) == []
        assert coordinator.handle(Rated(2.0, newcomer, "")) == []
    answer(coordinator, coordinator.cohort)
    (announced, _) = coordinator.handle(Aggregated(3.0, 1))
    assert isinstance(announced, Announce)
    assert {"n5", "late-shares", "late-unmask"} <= set(announced.nodes), "all of them are in the next round"


def test_one_that_may_be_selected_again_does_not_fill_a_gap_after_the_key_step() -> None:
    """It has no keys in this session, and could only abstain."""
    coordinator = gathered(replace(PLAN, quorum=4))
    coordinator.handle(Joined(1.5, "n5", 10))
    coordinator.handle(Abstained(1.6, "n5", 1, 1, "busy"))
    until(coordinator, CONFIRM)
    for node in ("n3", "n4"):
        coordinator.handle(Abstained(2.0, node, 1, 1, "busy"))
    assert len(coordinator.cohort) < coordinator.plan.quorum
    before = copy.deepcopy(coordinator)
    assert coordinator.handle(Rated(2.5, "n5", "")) == []
    assert coordinator == before


def test_a_node_that_returns_in_time_is_asked_the_open_step_again() -> None:
    coordinator = gathered()
    until(coordinator, MASKED)
    coordinator.handle(Left(2.5, "n4"))
    assert coordinator.handle(Joined(3.0, "n4", 10)) == [Announce(1, ("n4",), MASKED, 1)]


@pytest.mark.parametrize("step", MASKED_STEPS)
def test_a_restarted_gateway_asks_the_open_step_again_in_the_same_attempt(step: str) -> None:
    coordinator = gathered()
    until(coordinator, step)
    answer(coordinator, ["n1"])
    assert coordinator.handle(Started(50.0)) == [Announce(1, ("n0", "n2", "n3", "n4"), step, 1), Wake(60.0)]
    assert answer(coordinator, ["n0", "n2", "n3", "n4"])
    assert coordinator.attempt == 1


def test_a_restarted_gateway_opens_the_same_sum_again() -> None:
    coordinator = gathered()
    until(coordinator, UNMASK)
    answer(coordinator, NAMES)
    assert coordinator.handle(Started(50.0)) == [Aggregate(1, NAMES, 1)]
    skipping = coordinator.handle(Unopened(51.0, 1, "too few shares"))
    assert skipping == [Aggregate(1, (), 1)]
    assert coordinator.handle(Started(60.0)) == skipping


@pytest.mark.parametrize("step", [KEYS, SHARES, MASKED, CONFIRM])
def test_before_opening_a_round_is_attempted_again_as_often_as_the_plan_says(step: str) -> None:
    coordinator = gathered()
    for attempt in (1, 2, 3):
        assert coordinator.attempt == attempt
        until(coordinator, step)
        answer(coordinator, ["n0"])
        actions = coordinator.handle(Ticked(coordinator.deadline))
    (failed,) = actions
    assert isinstance(failed, Fail)
    assert failed.reason.startswith(
        f"round 1, attempt 3: 1 of 3 answers needed to step {step!r}; no answer from n1, n2"
    )


def test_who_abstains_says_why_and_is_in_the_next_attempt() -> None:
    coordinator = gathered(replace(PLAN, attempts=2))
    until(coordinator, SHARES)
    for node in ("n0", "n1"):
        assert coordinator.handle(Abstained(2.0, node, 1, 1, "has no keys")) == []
    assert coordinator.handle(Abstained(2.0, "n2", 1, 1, "has no keys")) == [Announce(1, NAMES, KEYS, 2), Wake(12.0)]
    assert coordinator.abstained == {}
    until(coordinator, SHARES)
    for node in ("n3", "n4"):
        coordinator.handle(Abstained(3.0, node, 1, 2, "the gateway lies"))
    (failed,) = coordinator.handle(Abstained(3.0, "n0", 1, 2, "neither"))
    assert isinstance(failed, Fail)
    assert "; n3 abstained: the gateway lies; n4 abstained" in failed.reason


@pytest.mark.parametrize("how", ["deadline", "abstained", "unopened"])
def test_once_opening_began_a_round_is_skipped_and_never_attempted_again(how: str) -> None:
    """A second sum of the same round over other nodes would show, as a difference, what a single one sent."""
    coordinator = gathered()
    until(coordinator, UNMASK)
    if how == "deadline":
        answer(coordinator, NAMES[:2])
        actions = coordinator.handle(Ticked(coordinator.deadline))
    elif how == "abstained":
        answer(coordinator, NAMES[:1])
        for node in ("n2", "n3", "n4"):
            actions = coordinator.handle(Abstained(3.0, node, 1, 1, "two signed"))
    else:
        answer(coordinator, NAMES)
        actions = coordinator.handle(Unopened(3.0, 1, "too few shares"))
    assert actions == [Aggregate(1, (), 1)]
    assert coordinator.attempt == 1
    assert coordinator.handle(Unopened(3.5, 1, "said twice")) == []
    assert coordinator.handle(Aggregated(4.0, 1)) == [Announce(2, NAMES, KEYS, 1), Wake(14.0)]


def skip(coordinator: SecureCoordinator) -> List[Action]:
    until(coordinator, UNMASK)
    answer(coordinator, NAMES)
    return coordinator.handle(Unopened(3.0, coordinator.round, "no shares of n1"))


def test_rounds_skipped_in_a_row_end_the_run() -> None:
    coordinator = gathered(replace(PLAN, rounds=10))
    for number in (1, 2):
        assert skip(coordinator) == [Aggregate(number, (), 1)]
        coordinator.handle(Aggregated(4.0, number))
    until(coordinator, UNMASK)
    answer(coordinator, NAMES)
    coordinator.handle(Aggregated(4.0, 3))
    assert coordinator.skipped == 0, "an opened sum in between counts from zero"
    for number in (4, 5):
        assert skip(coordinator) == [Aggregate(number, (), 1)]
        coordinator.handle(Aggregated(5.0, number))
    assert skip(coordinator) == [Fail("round 6: its sum cannot be opened: no shares of n1")]
    assert coordinator.phase == FAILED
    assert coordinator.handle(Started(90.0)) == [Aggregate(6, (), 1)], "begun again it goes on after that round"
    assert coordinator.handle(Aggregated(91.0, 6)) == [Announce(7, NAMES, KEYS, 1), Wake(101.0)]


def test_attempts_that_failed_for_want_of_answers_are_made_again_with_fresh_keys() -> None:
    coordinator = gathered(replace(PLAN, attempts=2))
    for start in (1, 3):
        for attempt in (start, start + 1):
            assert coordinator.attempt == attempt
            until(coordinator, MASKED)
            answer(coordinator, ["n0"])
            actions = coordinator.handle(Ticked(coordinator.deadline))
        assert actions == [Fail(coordinator.reason)]
        assert coordinator.handle(Started(90.0)) == [Announce(1, NAMES, KEYS, start + 2), Wake(100.0)]


def test_statistics_that_cannot_be_opened_end_the_run() -> None:
    coordinator = gathered(replace(PLAN, statistics=True))
    assert coordinator.round == 0
    failed = Fail("round 0: its sum cannot be opened: no shares of n1", final=True)
    assert skip(coordinator) == [failed]
    assert coordinator.handle(Started(90.0)) == [failed], "nodes help to open one sum of a round"


def test_the_last_evaluation_is_a_secure_round_too_and_may_be_skipped() -> None:
    coordinator = gathered(replace(PLAN, rounds=1, evaluation=True))
    until(coordinator, UNMASK)
    answer(coordinator, NAMES)
    assert coordinator.handle(Aggregated(4.0, 1)) == [Announce(2, NAMES, KEYS, 1), Wake(14.0)]
    assert skip(coordinator) == [Aggregate(2, (), 1)]
    assert coordinator.handle(Aggregated(5.0, 2)) == [Finish()]


# Selection


def test_a_cohort_is_chosen_in_the_key_step_and_others_stand_in_only_there() -> None:
    coordinator = gathered(replace(PLAN, rule=Rule(4, 0.0, b"k")))
    asked = coordinator.cohort
    assert len(asked) == 4
    (spare,) = set(NAMES) - set(asked)
    assert coordinator.handle(Joined(1.5, "n5", 10)) == [], "the cohort is full"
    coordinator.handle(Abstained(1.6, asked[0], 1, 1, "busy"))
    assert coordinator.handle(Joined(1.7, "n5", 10)) == [Announce(1, ("n5",), KEYS, 1)]
    assert spare not in coordinator.cohort
    until(coordinator, SHARES)
    coordinator.handle(Abstained(1.8, "n5", 1, 1, "busy"))
    assert coordinator.handle(Joined(1.9, spare, 10)) == []


def rested(plan: Plan, turn: Tuple[str, ...]) -> SecureCoordinator:
    """In round 2, after `turn` alone were in round 1."""
    coordinator = gathered(plan, ("n0", "n1", "n2", "n3", "n4", "n5"))
    assert coordinator.cohort == turn
    for _ in MASKED_STEPS:
        answer(coordinator, turn)
    coordinator.handle(Aggregated(3.0, 1))
    assert coordinator.round == 2
    return coordinator


def test_nodes_sit_out_as_many_rounds_as_noise_is_correlated_over() -> None:
    plan = replace(PLAN, nodes=6, separation=2, rule=Rule(3, 0.0, b"k"))
    first = gathered(plan, ("n0", "n1", "n2", "n3", "n4", "n5")).cohort
    others = tuple(sorted({f"n{i}" for i in range(6)} - set(first)))
    coordinator = rested(plan, first)
    assert coordinator.cohort == others
    coordinator.handle(Abstained(3.5, others[0], 2, 1, "busy"))
    # Neither one that comes back nor one that may be selected again stands in: it was in the round before.
    coordinator.handle(Left(3.6, first[0]))
    assert coordinator.handle(Joined(3.7, first[0], 10)) == []
    coordinator.handle(Rated(3.8, first[1], "hot"))
    assert coordinator.handle(Rated(3.9, first[1], "")) == []
    assert not set(coordinator.cohort) & set(first)
    for _ in MASKED_STEPS:
        answer(coordinator, others[1:])
        coordinator.handle(Ticked(coordinator.deadline))
    assert coordinator.round == 2


def test_another_attempt_at_a_round_asks_those_who_were_in_the_first() -> None:
    """Their turn is the round, not the attempt: resting from an attempt that gave nothing would leave nobody."""
    plan = replace(PLAN, nodes=6, separation=2, rule=Rule(3, 0.0, b"k"))
    coordinator = rested(plan, gathered(plan, ("n0", "n1", "n2", "n3", "n4", "n5")).cohort)
    asked = coordinator.cohort
    until(coordinator, SHARES)
    assert coordinator.handle(Abstained(4.0, asked[0], 2, 1, "began again")) == [
        Announce(2, asked, KEYS, 2),
        Wake(14.0),
    ]


def test_a_node_that_declines_is_out_and_not_waited_for() -> None:
    coordinator = gathered()
    until(coordinator, MASKED)
    answer(coordinator, NAMES[:4])
    assert coordinator.handle(Declined(3.0, "n4", "its owner said no")) == [
        Announce(1, NAMES[:4], CONFIRM, 1),
        Wake(13.0),
    ]
    assert coordinator.handle(Joined(4.0, "n4", 10)) == []
