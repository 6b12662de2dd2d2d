"""Secure rounds of so many nodes that they reveal nonces between their keys and their shares."""

import copy
from dataclasses import replace
from typing import Sequence

import pytest
from secure_runs import NAMES, PLAN, answer, gathered

from orchestrator.rounds.events import (
    Abstained,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Joined,
    Left,
    Started,
    Ticked,
    Wake,
)
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.rounds.state import COLLECTING
from orchestrator.rounds.steps import CONFIRM, KEYS, MASKED, REVEAL, SHARES, UNMASK

SPARSE = replace(PLAN, all_neighbours=4)
STEPS = (KEYS, REVEAL, SHARES, MASKED, CONFIRM, UNMASK)


def until(coordinator: SecureCoordinator, step: str, nodes: Sequence[str] = NAMES) -> None:
    for _ in STEPS:
        if coordinator.step == step:
            return
        answer(coordinator, nodes)
    assert coordinator.step == step


def test_nonces_are_revealed_once_all_keys_are_there() -> None:
    coordinator = gathered(replace(SPARSE, rounds=2))
    for number in (1, 2):
        for step, following in zip(STEPS, STEPS[1:]):
            assert (coordinator.round, coordinator.step) == (number, step)
            assert answer(coordinator, NAMES) == [Announce(number, NAMES, following, 1), Wake(12.0)]
        assert answer(coordinator, NAMES) == [Aggregate(number, NAMES, 1)]
        coordinator.handle(Aggregated(3.0, number))


@pytest.mark.parametrize(("limit", "step"), [(0, SHARES), (4, REVEAL), (5, SHARES), (6, SHARES)])
def test_only_where_the_nodes_with_keys_are_too_many_to_be_all_neighbours(limit: int, step: str) -> None:
    coordinator = gathered(replace(PLAN, all_neighbours=limit))
    assert answer(coordinator, NAMES)[0] == Announce(1, NAMES, step, 1)
    few = gathered(replace(PLAN, all_neighbours=limit))
    answer(few, NAMES[:4])
    assert few.handle(Left(3.0, "n4"))[0] == Announce(1, NAMES[:4], SHARES, 1)


@pytest.mark.parametrize("how", ["leaves", "abstains", "is silent"])
@pytest.mark.parametrize("withheld", [0, 1])
def test_of_those_with_keys_only_so_many_may_be_missing(how: str, withheld: int) -> None:
    coordinator = gathered(replace(SPARSE, withheld=withheld))
    until(coordinator, REVEAL)
    rest = NAMES[:4]
    assert answer(coordinator, rest) == []
    if how == "leaves":  # and may come back: only where enough are there nobody waits for it
        actions = coordinator.handle(Left(3.0, "n4")) or coordinator.handle(Ticked(coordinator.deadline))
    elif how == "abstains":
        actions = coordinator.handle(Abstained(3.0, "n4", 1, 1, "began again"))
    else:
        actions = coordinator.handle(Ticked(coordinator.deadline))
    if withheld:
        assert actions[0] == Announce(1, rest, SHARES, 1)
        assert coordinator.parties == 4
    else:
        assert actions[0] == Announce(1, rest if how == "leaves" else NAMES, KEYS, 2)


def test_a_restarted_gateway_asks_for_nonces_again_in_the_same_attempt() -> None:
    coordinator = gathered(SPARSE)
    until(coordinator, REVEAL)
    answer(coordinator, ["n1"])
    assert coordinator.handle(Started(50.0)) == [Announce(1, ("n0", "n2", "n3", "n4"), REVEAL, 1), Wake(60.0)]
    assert answer(coordinator, ["n0", "n2", "n3", "n4"])[0] == Announce(1, NAMES, SHARES, 1)


def test_newcomers_and_stale_answers_are_out_of_the_step() -> None:
    coordinator = gathered(SPARSE)
    until(coordinator, REVEAL)
    answer(coordinator, ["n0"])
    assert coordinator.handle(Joined(3.0, "n5", 10)) == []
    before = copy.deepcopy(coordinator)
    for stale in (
        Arrived(3.0, "n0", 1, "again", 1.0, REVEAL, 1),
        Arrived(3.0, "n1", 1, "d", 1.0, KEYS, 1),
        Arrived(3.0, "n1", 1, "d", 1.0, REVEAL, 2),
        Arrived(3.0, "n5", 1, "d", 1.0, REVEAL, 1),
    ):
        assert coordinator.handle(stale) == []
        assert coordinator == before


def test_no_round_of_so_many_is_prepared() -> None:
    """Its keys would have to come before anybody's commitment was seen."""
    coordinator = gathered(SPARSE)
    until(coordinator, MASKED)
    for step in (MASKED, CONFIRM, UNMASK):
        for node in NAMES:
            coordinator.handle(Arrived(2.0, node, 1, "d", 1.0, step, 1, step != CONFIRM))
    assert coordinator.keyed == coordinator.prepared == set(NAMES)
    assert coordinator.handle(Aggregated(3.0, 1))[0] == Announce(2, NAMES, KEYS, 1)


@pytest.mark.parametrize(("plan", "attempted"), [(SPARSE, False), (PLAN, True)])
def test_a_sparse_sum_that_was_to_be_confirmed_is_not_attempted_again(plan: Plan, attempted: bool) -> None:
    """Who confirmed it is in no other sum of the round."""
    coordinator = gathered(plan)
    until(coordinator, CONFIRM)
    answer(coordinator, NAMES[:2])
    actions = coordinator.handle(Ticked(coordinator.deadline))
    assert actions[0] == (Announce(1, NAMES, KEYS, 2) if attempted else Aggregate(1, (), 1))
    assert (coordinator.phase == COLLECTING) == attempted
