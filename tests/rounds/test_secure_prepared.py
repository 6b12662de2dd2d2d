"""What travels with a secure round for later: keys and shares of the next one, and signatures under whom nodes expect."""

from dataclasses import replace
from typing import Dict, List, Sequence

import pytest
from secure_runs import NAMES, PLAN, answer, gathered, until

from orchestrator.rounds.events import (
    Abstained,
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Declined,
    Event,
    Fail,
    Joined,
    Left,
    Rated,
    Started,
    Ticked,
    Wake,
)
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.state import AGGREGATING, COLLECTING
from orchestrator.rounds.steps import CONFIRM, KEYS, MASKED, MASKED_STEPS, PREPARED, SHARES, UNMASK


def prepared(
    coordinator: SecureCoordinator,
    keyed: Sequence[str] = NAMES,
    sharing: Sequence[str] = NAMES,
    foreseeing: Sequence[str] = (),
) -> None:
    """Everybody answers this round; only these bring keys, or shares, for the next one, or sign whom they expect."""
    until(coordinator, MASKED)
    while coordinator.phase == COLLECTING:
        step = coordinator.step
        bringing = {MASKED: keyed, UNMASK: sharing}.get(step, ())
        for node in coordinator.cohort:
            about = (2.0, node, coordinator.round, "d", 1.0, step, coordinator.attempt)
            coordinator.handle(Arrived(*about, node in bringing, step == MASKED and node in foreseeing))
    assert coordinator.phase == AGGREGATING


def foreseen(coordinator: SecureCoordinator, nodes: Sequence[str], signing: Sequence[str]) -> List[Action]:
    """Vectors of these nodes, some of which sign whom they expect."""
    actions: List[Action] = []
    for node in nodes:
        actions = coordinator.handle(Arrived(2.0, node, 1, "d", 1.0, MASKED, 1, foreseen=node in signing))
    return actions


def test_nothing_is_confirmed_where_all_expected_came_and_all_expected_them() -> None:
    coordinator = gathered()
    until(coordinator, MASKED)
    assert foreseen(coordinator, NAMES, NAMES) == [Announce(1, NAMES, UNMASK, 1), Wake(12.0)]
    assert coordinator.handle(Started(3.0)) == [Announce(1, NAMES, UNMASK, 1), Wake(13.0)]
    assert answer(coordinator, NAMES) == [Aggregate(1, NAMES, 1)]


def test_survivors_are_confirmed_where_one_does_not_say_whom_it_expects() -> None:
    coordinator = gathered()
    until(coordinator, MASKED)
    assert foreseen(coordinator, NAMES, NAMES[1:])[0] == Announce(1, NAMES, CONFIRM, 1)


@pytest.mark.parametrize("how", ["leaves", "abstains", "is silent"])
def test_survivors_are_confirmed_where_one_that_was_expected_is_missing(how: str) -> None:
    coordinator = gathered()
    until(coordinator, MASKED)
    foreseen(coordinator, NAMES[:4], NAMES)
    events: Dict[str, Event] = {
        "leaves": Left(3.0, "n4"),
        "abstains": Abstained(3.0, "n4", 1, 1, "x"),
        "is silent": Ticked(12.0),
    }
    assert coordinator.handle(events[how])[0] == Announce(1, NAMES[:4], CONFIRM, 1)


@pytest.mark.parametrize("step", [SHARES, MASKED])
@pytest.mark.parametrize(("colluding", "enough"), [(0, 4), (1, 5), (3, 6)])
def test_vectors_of_too_few_to_open_their_sum_are_an_attempt_that_failed(
    step: str, colluding: int, enough: int
) -> None:
    """Seven have keys. Nobody is asked to open what cannot be opened: that would cost the round."""
    names = (*NAMES, "n5", "n6")
    for answering in (enough - 1, enough):
        coordinator = gathered(replace(PLAN, nodes=7, colluding=colluding), names)
        until(coordinator, step)
        answer(coordinator, names[:answering])
        coordinator.handle(Ticked(coordinator.deadline))
        following = MASKED_STEPS[MASKED_STEPS.index(step) + 1]
        expected = (following, 1) if answering == enough else (KEYS, 2)
        assert (coordinator.step, coordinator.attempt) == expected


def test_what_was_foreseen_in_an_attempt_counts_in_no_other() -> None:
    coordinator = gathered(replace(PLAN, quorum=5))
    until(coordinator, MASKED)
    foreseen(coordinator, NAMES[:4], NAMES)
    coordinator.handle(Ticked(coordinator.deadline))
    assert (coordinator.step, coordinator.attempt) == (KEYS, 2)
    until(coordinator, MASKED)
    assert answer(coordinator, NAMES)[0] == Announce(1, NAMES, CONFIRM, 2)


def test_keys_come_along_whether_survivors_are_confirmed_or_foreseen() -> None:
    for foreseeing in ((), NAMES):
        coordinator = gathered()
        prepared(coordinator, foreseeing=foreseeing)
        assert coordinator.handle(Aggregated(3.0, 1))[0] == Announce(2, NAMES, MASKED, PREPARED)


def test_a_round_all_have_keys_for_begins_with_the_vectors() -> None:
    coordinator = gathered(replace(PLAN, rounds=3, rule=Rule(5, 0.0, b"k")))
    for number in (2, 3):
        prepared(coordinator)
        assert coordinator.handle(Aggregated(3.0, number - 1)) == [
            Announce(number, NAMES, MASKED, PREPARED),
            Wake(13.0),
        ]
        assert coordinator.parties == 5
        assert set(coordinator.last_selected.values()) == {number}
    assert coordinator.handle(Started(20.0)) == [Announce(3, NAMES, MASKED, PREPARED), Wake(30.0)]
    assert coordinator.handle(Joined(20.0, "late", 10)) == []
    for step in (MASKED, CONFIRM, UNMASK):
        assert coordinator.step == step
        actions = answer(coordinator, NAMES)
    assert actions == [Aggregate(3, NAMES, PREPARED)]


@pytest.mark.parametrize("what", ["keys of one", "shares of one", "one left", "one came", "one is hot", "one declined"])
def test_a_round_begins_with_keys_where_not_all_and_only_they_have_them(what: str) -> None:
    coordinator = gathered()
    lacking = NAMES[1:]
    prepared(coordinator, lacking if what == "keys of one" else NAMES, lacking if what == "shares of one" else NAMES)
    events: Dict[str, Event] = {
        "one left": Left(2.5, "n0"),
        "one came": Joined(2.5, "n5", 10),
        "one is hot": Rated(2.5, "n0", "hot"),
        "one declined": Declined(2.5, "n0", "no"),
    }
    if what in events:
        coordinator.handle(events[what])
    (announced, _) = coordinator.handle(Aggregated(3.0, 1))
    assert isinstance(announced, Announce)
    assert (announced.step, announced.attempt) == (KEYS, 1)


def test_keys_that_came_for_one_round_are_not_used_for_a_later_one() -> None:
    coordinator = gathered()
    prepared(coordinator)
    coordinator.handle(Aggregated(3.0, 1))
    for _ in (MASKED, CONFIRM, UNMASK):
        answer(coordinator, NAMES)  # and nobody brings any
    assert coordinator.handle(Aggregated(4.0, 2))[0] == Announce(3, NAMES, KEYS, 1)


def test_a_prepared_attempt_that_fails_costs_none_of_the_plans() -> None:
    coordinator = gathered(replace(PLAN, attempts=1))
    prepared(coordinator)
    coordinator.handle(Aggregated(3.0, 1))
    for node in NAMES[:2]:
        assert coordinator.handle(Abstained(3.5, node, 2, PREPARED, "began again")) == []
    assert coordinator.handle(Abstained(3.5, "n2", 2, PREPARED, "began again")) == [
        Announce(2, NAMES, KEYS, 1),
        Wake(13.5),
    ]
    until(coordinator, MASKED)
    assert isinstance(coordinator.handle(Ticked(coordinator.deadline))[0], Fail)


def test_a_prepared_attempt_is_not_tried_again_once_opening_began() -> None:
    coordinator = gathered()
    prepared(coordinator)
    coordinator.handle(Aggregated(3.0, 1))
    until(coordinator, UNMASK)
    assert coordinator.attempt == PREPARED
    assert coordinator.handle(Ticked(coordinator.deadline)) == [Aggregate(2, (), PREPARED)]
