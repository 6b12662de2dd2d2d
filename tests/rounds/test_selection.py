"""Who is asked: labels and health through events, cohorts in turn, Poisson samples, buffered rounds."""

import random
from collections import Counter
from dataclasses import replace
from typing import Dict, List

import numpy as np
import pytest

from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.events import (
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Event,
    Finish,
    Joined,
    Left,
    Rated,
    Started,
    Ticked,
    event_from_dict,
    event_to_dict,
)
from orchestrator.rounds.fedbuff import FedBuff
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.state import COLLECTING, FAILED, FINISHED
from orchestrator.rounds.strategy import Update

PLAN = Plan(rounds=4, nodes=3, quorum=2, deadline_s=10, attempts=2, gather_s=100, statistics=False)
KEY = b"a secret of the run"


def here(plan: Plan, count: int) -> "tuple[Coordinator, List[Action]]":
    coordinator = Coordinator(plan)
    coordinator.handle(Started(0.0))
    actions: List[Action] = []
    for i in range(count):
        actions = coordinator.handle(Joined(1.0, f"n{i}", 10)) or actions
    return coordinator, actions


def arrive(coordinator: Coordinator, node: str, number: "int | None" = None) -> List[Action]:
    number = coordinator.round if number is None else number
    return coordinator.handle(Arrived(2.0, node, number, f"{node}/{number}", 10.0))


def announced(actions: List[Action]) -> "tuple[str, ...]":
    (found,) = [a for a in actions if isinstance(a, Announce)]
    return found.nodes


def test_a_node_with_an_objection_is_not_asked_until_it_is_lifted() -> None:
    coordinator, actions = here(PLAN, 2)
    coordinator.handle(Rated(1.0, "n2", "battery is 5%"))
    assert coordinator.handle(Joined(1.0, "n2", 10)) == []
    assert coordinator.round == -1, "a node that may not be asked does not complete the gathering"
    actions = coordinator.handle(Joined(1.0, "n3", 10))
    assert announced(actions) == ("n0", "n1", "n3")
    assert coordinator.handle(Rated(2.0, "n2", "")) == []
    for node in ("n0", "n1"):
        arrive(coordinator, node)
    assert arrive(coordinator, "n3") == [Aggregate(1, ("n0", "n1", "n3"))]
    assert announced(coordinator.handle(Aggregated(3.0, 1))) == ("n0", "n1", "n2", "n3")
    coordinator.handle(Rated(4.0, "n0", "too hot"))
    for node in ("n1", "n2", "n3"):
        arrive(coordinator, node)
    assert arrive(coordinator, "n0") != [], "what it was asked for before still counts"
    assert announced(coordinator.handle(Aggregated(5.0, 2))) == ("n1", "n2", "n3")


def test_a_round_without_anybody_to_ask_takes_the_first_that_fits_again_and_fails_with_the_reasons() -> None:
    coordinator, _ = here(PLAN, 3)
    for i in range(3):
        arrive(coordinator, f"n{i}")
        coordinator.handle(Rated(2.0, f"n{i}", "temperature_c is 99 °C"))
    assert announced(coordinator.handle(Aggregated(3.0, 1))) == ()
    assert announced(coordinator.handle(Rated(4.0, "n1", ""))) == ("n1",)
    arrive(coordinator, "n1")
    coordinator.handle(Ticked(13.0))
    coordinator.handle(Ticked(30.0))
    assert coordinator.phase == FAILED
    assert "1 of 2 updates" in coordinator.reason
    assert "n0 was passed over: temperature_c is 99 °C" in coordinator.reason


def test_cohorts_take_turns_so_that_nobody_starves() -> None:
    plan = replace(PLAN, rounds=60, nodes=10, quorum=3, rule=Rule(cohort=3, key=KEY))
    coordinator, actions = here(plan, 10)
    chosen: Counter[str] = Counter()
    gaps: Dict[str, int] = {f"n{i}": 0 for i in range(10)}
    for number in range(1, 61):
        cohort = announced(actions)
        assert len(cohort) == 3
        for node in gaps:
            gaps[node] = 0 if node in cohort else gaps[node] + 1
            assert gaps[node] < 4, f"{node} was passed over for {gaps[node]} rounds"
        chosen.update(cohort)
        for node in cohort:
            arrive(coordinator, node)
        actions = coordinator.handle(Aggregated(3.0, number))
    assert max(chosen.values()) - min(chosen.values()) <= 3
    assert actions == [Finish()]


def test_others_stand_in_for_members_of_a_cohort_that_do_not_answer() -> None:
    plan = replace(PLAN, nodes=6, quorum=3, rule=Rule(cohort=3, key=KEY))
    coordinator, actions = here(plan, 6)
    first = announced(actions)
    arrive(coordinator, first[0])
    again = announced(coordinator.handle(Ticked(11.0)))
    assert set(first[1:]) < set(again)
    assert len(again) == 4
    for node in set(again) - set(first):
        arrive(coordinator, node)
    assert coordinator.phase == COLLECTING


def test_poisson_sampling_is_independent_with_the_stated_rate() -> None:
    """Sizes are binomial, pairs independent, and another key gives another sample: within 5 standard deviations."""
    rate, rounds, names = 0.3, 4000, [f"n{i}" for i in range(8)]
    rule = Rule(sampling_rate=rate, key=KEY)
    drawn = np.array([[n in rule.choose(r, names, {}) for n in names] for r in range(rounds)])
    deviation = np.sqrt(rate * (1 - rate) / rounds)
    np.testing.assert_allclose(drawn.mean(axis=0), rate, atol=5 * deviation)
    assert abs(drawn.sum(axis=1).var() - 8 * rate * (1 - rate)) < 0.2
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 5 / np.sqrt(rounds)
    other = Rule(sampling_rate=rate, key=b"another")
    assert [rule.choose(r, names, {}) for r in range(50)] != [other.choose(r, names, {}) for r in range(50)]


def test_a_poisson_sample_may_be_small_or_empty_and_is_never_topped_up() -> None:
    plan = replace(PLAN, rounds=200, rule=Rule(sampling_rate=0.2, key=KEY))
    coordinator, actions = here(plan, 3)
    sizes: Counter[int] = Counter()
    while not coordinator.over:
        if any(isinstance(a, Announce) for a in actions):
            cohort = announced(actions)
            absent = next(n for n in ("n0", "n1", "n2", "none") if n not in cohort)
            assert coordinator.handle(Joined(1.5, absent, 10)) == [] or absent == "none"
            for node in cohort:
                actions = arrive(coordinator, node)
        (aggregate,) = actions
        assert isinstance(aggregate, Aggregate)
        sizes[len(aggregate.nodes)] += 1
        actions = coordinator.handle(Aggregated(2.0, coordinator.round))
    assert set(sizes) >= {0, 1, 2}


def test_the_statistics_and_the_last_evaluation_are_everybodys() -> None:
    plan = replace(PLAN, rounds=1, statistics=True, evaluation=True, rule=Rule(cohort=2, key=KEY))
    coordinator, actions = here(plan, 3)
    sizes = []
    while not coordinator.over:
        sizes.append((coordinator.round, len(announced(actions))))
        for node in announced(actions):
            arrive(coordinator, node)
        actions = coordinator.handle(Aggregated(2.0, coordinator.round))
    assert sizes == [(0, 3), (1, 2), (2, 3)]


def test_stopping_early_skips_to_the_last_evaluation() -> None:
    coordinator, _ = here(replace(PLAN, rounds=9, evaluation=True), 3)
    for i in range(3):
        arrive(coordinator, f"n{i}")
    actions = coordinator.handle(event_from_dict(event_to_dict(Aggregated(2.0, 1, True))))
    assert Announce(10, ("n0", "n1", "n2")) in actions
    for i in range(3):
        arrive(coordinator, f"n{i}")
    assert coordinator.handle(Aggregated(3.0, 10)) == [Finish()]


# Buffered rounds


BUFFERED = replace(PLAN, rounds=6, quorum=2, buffered=True, max_staleness=2)


def test_a_buffered_round_ends_with_its_quorum_and_leaves_the_straggler_alone() -> None:
    coordinator, actions = here(BUFFERED, 3)
    assert announced(actions) == ("n0", "n1", "n2")
    arrive(coordinator, "n0")
    assert arrive(coordinator, "n1") == [Aggregate(1, ("n0", "n1"))]
    assert announced(coordinator.handle(Aggregated(2.0, 1))) == ("n0", "n1"), "n2 is still at round 1"
    assert coordinator.accepts("n2", 1)
    assert arrive(coordinator, "n2", 1) == []
    assert not coordinator.accepts("n2", 1), "once is enough"
    assert arrive(coordinator, "n0") == [Aggregate(2, ("n0", "n2"))]
    assert announced(coordinator.handle(Aggregated(3.0, 2))) == ("n0", "n2")


def test_an_update_that_is_too_stale_does_not_count_and_its_node_begins_again() -> None:
    coordinator, _ = here(BUFFERED, 3)
    for number in range(1, 4):
        arrive(coordinator, "n0")
        arrive(coordinator, "n1")
        coordinator.handle(Aggregated(2.0, number))
    assert coordinator.round == 4
    assert arrive(coordinator, "n2", 1) == [Announce(4, ("n2",))]
    assert coordinator.arrived == {}
    arrive(coordinator, "n2", 4)
    assert arrive(coordinator, "n0") == [Aggregate(4, ("n0", "n2"))]


@pytest.mark.parametrize("seed", range(60))
def test_buffered_rounds_finish_whatever_order_things_come_in(seed: int) -> None:
    rng = random.Random(seed)
    coordinator = Coordinator(replace(BUFFERED, rounds=15, attempts=10_000))
    journal: List[Event] = [Started(0.0)]
    work: List[Arrived] = []
    now = 0.0

    def happen(event: Event) -> None:
        todo: List[Event] = [event]
        while todo:
            one = todo.pop(0)
            journal.append(one)
            for action in coordinator.handle(one):
                if isinstance(action, Announce):
                    work.extend(Arrived(0.0, n, action.round, "d", 1.0) for n in action.nodes)
                elif isinstance(action, Aggregate):
                    assert len(action.nodes) == 2
                    todo.append(Aggregated(now, action.round))

    coordinator.handle(journal[0])
    for i in range(4):
        happen(Joined(0.0, f"n{i}", 1))
    for _ in range(3000):
        if coordinator.over:
            break
        now += 1.0
        if rng.random() < 0.1:
            node = f"n{rng.randrange(4)}"
            happen(Left(now, node) if rng.random() < 0.5 else Joined(now, node, 1))
        elif work and rng.random() < 0.8:
            update = work.pop(rng.randrange(len(work)))
            if rng.random() < 0.9 and coordinator.accepts(update.node, update.round):
                happen(replace(update, at=now))
        elif now >= coordinator.deadline:
            happen(Ticked(now))
    assert coordinator.phase == FINISHED, seed
    replayed = Coordinator(coordinator.plan)
    for event in journal:
        replayed.handle(event)
    assert replayed == coordinator


def test_fedbuff_weighs_an_update_by_its_age() -> None:
    weights = np.zeros(2, np.float32)
    fresh = Update("a", 10.0, np.array([1.0, 0.0], np.float32))
    stale = Update("b", 10.0, np.array([0.0, 1.0], np.float32), 3)
    new, _ = FedBuff(1.0, {}).aggregate(weights, [fresh, stale], {})
    np.testing.assert_allclose(new, [0.5, 0.25])
    new, _ = FedBuff(0.5, {"exponent": 0.0}).aggregate(weights, [fresh, stale], {})
    np.testing.assert_allclose(new, [0.25, 0.25])
    with pytest.raises(ValueError, match="positive weight"):
        FedBuff(1.0, {}).aggregate(weights, [], {})
