"""The coordinator of rounds under CKKS: whom each step asks, and what a missing or unwilling key holder means."""

import random
from dataclasses import replace
from typing import List, Sequence, Tuple

import pytest

from orchestrator.rounds.events import (
    Abstained,
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Event,
    Fail,
    Finish,
    Joined,
    Left,
    Started,
    Ticked,
    Unopened,
)
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.state import AGGREGATING, COLLECTING, FAILED, FINISHED
from orchestrator.rounds.steps import CONTEXT, DECRYPT, ENCRYPTED, ENCRYPTED_STEPS

PLAN = Plan(2, 3, 3, 10.0, 3, 60.0, False, steps=ENCRYPTED_STEPS, least=3, key_holder="keys")


def begun(nodes: str = "abc", plan: Plan = PLAN) -> SecureCoordinator:
    """A coordinator whose first round has just begun."""
    coordinator = SecureCoordinator(plan)
    coordinator.handle(Started(0.0))
    for node in nodes:
        assert coordinator.handle(Joined(0.0, node, 5)) == []  # not without the key holder
    assert asked(coordinator.handle(Joined(0.0, "keys", 0))) == [(CONTEXT, ("keys",), 1)]
    return coordinator


def asked(actions: Sequence[Action]) -> List[Tuple[str, Tuple[str, ...], int]]:
    return [(a.step, a.nodes, a.attempt) for a in actions if isinstance(a, Announce)]


def answer(coordinator: SecureCoordinator, nodes: Sequence[str]) -> List[Action]:
    """Answers of these nodes to the open step; what the last of them led to."""
    actions: List[Action] = []
    for node in nodes:
        event = Arrived(1.0, node, coordinator.round, "d", 1.0, coordinator.step, coordinator.attempt)
        actions = coordinator.handle(event)
    return actions


def abstain(coordinator: SecureCoordinator, node: str, reason: str = "no") -> List[Action]:
    return coordinator.handle(Abstained(1.0, node, coordinator.round, coordinator.attempt, reason))


def test_a_round_asks_the_key_holder_then_the_nodes_then_the_key_holder() -> None:
    coordinator = begun()
    assert asked(answer(coordinator, ["keys"])) == [(ENCRYPTED, ("a", "b", "c"), 1)]
    assert answer(coordinator, "ab") == []
    assert asked(answer(coordinator, "c")) == [(DECRYPT, ("keys",), 1)]
    assert answer(coordinator, ["keys"]) == [Aggregate(1, ("a", "b", "c"), 1)]
    assert asked(coordinator.handle(Aggregated(2.0, 1))) == [(CONTEXT, ("keys",), 1)]
    assert coordinator.round == 2


def test_the_key_holder_is_no_node_and_nodes_do_not_answer_for_it() -> None:
    coordinator = begun()
    assert answer(coordinator, "abc") == []
    assert coordinator.step == CONTEXT
    answer(coordinator, ["keys"])
    assert answer(coordinator, ["a", "b", "keys"]) == []
    assert coordinator.step == ENCRYPTED
    assert "keys" not in coordinator.cohort


def test_nodes_beyond_the_form_of_the_sum_wait_for_the_next_attempt() -> None:
    coordinator = begun("abcd")
    assert asked(coordinator.handle(Joined(1.0, "e", 5))) == []
    coordinator.handle(Left(1.0, "d"))
    assert asked(answer(coordinator, ["keys"])) == [(ENCRYPTED, ("a", "b", "c"), 1)]
    assert asked(coordinator.handle(Joined(1.0, "f", 5))) == []
    assert asked(coordinator.handle(Joined(1.0, "d", 5))) == [
        (ENCRYPTED, ("d",), 1)
    ]  # the keys were made with it in mind
    assert asked(answer(coordinator, "abcd")) == [(DECRYPT, ("keys",), 1)]
    answer(coordinator, ["keys"])
    coordinator.handle(Aggregated(2.0, 1))
    assert asked(answer(coordinator, ["keys"])) == [(ENCRYPTED, ("a", "b", "c", "d", "e", "f"), 1)]


def test_a_node_that_comes_back_before_its_ciphertext_is_asked_again_and_after_it_is_not() -> None:
    coordinator = begun()
    answer(coordinator, ["keys"])
    answer(coordinator, "a")
    for node, again in (("b", [(ENCRYPTED, ("b",), 1)]), ("a", [])):
        coordinator.handle(Left(1.0, node))
        assert asked(coordinator.handle(Joined(1.0, node, 5))) == again


def test_nodes_that_leave_are_waited_for_and_too_few_at_the_deadline_begin_anew_with_new_keys() -> None:
    coordinator = begun()
    answer(coordinator, ["keys"])
    coordinator.handle(Left(1.0, "c"))
    assert answer(coordinator, "ab") == []
    assert asked(coordinator.handle(Ticked(11.0))) == [(CONTEXT, ("keys",), 2)]
    late = Arrived(12.0, "a", 1, "d", 1.0, ENCRYPTED, 1)
    assert coordinator.handle(late) == []  # encrypted for keys that are gone
    assert not coordinator.arrived


def test_a_deadline_with_enough_opens_the_sum_of_those_that_answered() -> None:
    coordinator = begun("abcd")
    answer(coordinator, ["keys"])
    answer(coordinator, "abc")
    assert asked(coordinator.handle(Ticked(11.0))) == [(DECRYPT, ("keys",), 1)]
    assert answer(coordinator, ["keys"]) == [Aggregate(1, ("a", "b", "c"), 1)]


def test_a_key_holder_that_comes_back_is_asked_again() -> None:
    coordinator = begun()
    for step, others in ((CONTEXT, "abc"), (DECRYPT, "")):
        coordinator.handle(Left(1.0, "keys"))
        assert asked(coordinator.handle(Joined(1.0, "keys", 0))) == [(step, ("keys",), 1)]
        answer(coordinator, ["keys"])
        answer(coordinator, others)
    assert coordinator.phase == AGGREGATING


def test_a_key_holder_that_opens_nothing_makes_another_attempt_and_a_silent_one_costs_the_round() -> None:
    unwilling, silent = begun(), begun()
    for coordinator in (unwilling, silent):
        answer(coordinator, ["keys"])
        answer(coordinator, "abc")
        assert coordinator.step == DECRYPT
    assert asked(abstain(unwilling, "keys", "its keys are gone")) == [(CONTEXT, ("keys",), 2)]
    assert silent.handle(Ticked(11.0)) == [Aggregate(1, (), 1)]  # it may have opened it: no second sum
    assert asked(silent.handle(Aggregated(12.0, 1))) == [(CONTEXT, ("keys",), 1)]
    assert silent.round == 2


def test_a_key_holder_that_always_refuses_ends_the_run_with_its_reason() -> None:
    coordinator = begun()
    for _ in range(2):
        answer(coordinator, ["keys"])
        answer(coordinator, "abc")
        assert asked(abstain(coordinator, "keys", "too few nodes"))
    answer(coordinator, ["keys"])
    answer(coordinator, "abc")
    (failed,) = abstain(coordinator, "keys", "too few nodes")
    assert isinstance(failed, Fail)
    assert "attempt 3: 0 of 1 answers needed to step 'decrypt'" in failed.reason
    assert "keys abstained: too few nodes" in failed.reason
    assert coordinator.phase == FAILED
    # Nodes answer as many attempts at a round as the task has, and no more: begun again, the run goes on after this round.
    assert coordinator.handle(Started(90.0)) == [Aggregate(1, (), 3)]
    assert asked(coordinator.handle(Aggregated(91.0, 1))) == [(CONTEXT, ("keys",), 1)]
    assert coordinator.round == 2


def test_statistics_that_nodes_answer_no_more_end_a_run_for_good() -> None:
    coordinator = begun(plan=replace(PLAN, statistics=True))
    for _ in range(3):
        answer(coordinator, ["keys"])
        actions = coordinator.handle(Ticked(coordinator.deadline))
    assert actions == [Fail(coordinator.reason, final=True)]
    assert coordinator.handle(Started(90.0)) == actions


def test_without_a_key_holder_the_run_does_not_begin_and_says_why() -> None:
    coordinator = SecureCoordinator(PLAN)
    coordinator.handle(Started(0.0))
    for node in "abc":
        coordinator.handle(Joined(0.0, node, 5))
    (failed,) = coordinator.handle(Ticked(61.0))
    assert isinstance(failed, Fail)
    assert "and not the key holder keys" in failed.reason


def test_a_cohort_is_chosen_of_nodes_only_and_again_for_another_attempt() -> None:
    plan = Plan(
        2, 5, 3, 10.0, 3, 60.0, False, Rule(3, 0.0, b"k" * 32), steps=ENCRYPTED_STEPS, least=3, key_holder="keys"
    )
    coordinator = begun("abcde", plan)
    answer(coordinator, ["keys"])
    first = coordinator.cohort
    assert len(first) == 3
    assert set(first) <= set("abcde")
    coordinator.handle(Ticked(11.0))
    answer(coordinator, ["keys"])
    assert len(coordinator.cohort) == 3


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_events_replays_to_the_same_state_and_never_sums_too_few(seed: int) -> None:
    chance = random.Random(seed)
    coordinator, journal, at = SecureCoordinator(PLAN), [], 0.0
    names = ["a", "b", "c", "d", "keys"]
    for _ in range(400):
        if coordinator.over:
            break
        at += chance.random() * 3
        node = chance.choice(names)
        number, step, attempt = coordinator.round, coordinator.step, coordinator.attempt
        choices: List[Event] = [
            Joined(at, node, 5),
            Arrived(at, node, number, "d", 1.0, step, attempt),
            Arrived(at, node, number, "d", 1.0, step, attempt),
            Left(at, node),
            Ticked(at),
            Abstained(at, node, number, attempt, "no"),
            Started(at),
            Aggregated(at, number),
            Unopened(at, number, "broken"),
        ]
        event = chance.choices(choices, [6, 8, 8, 1, 2, 1, 1, 3, 1])[0]
        journal.append(event)
        for action in coordinator.handle(event):
            if isinstance(action, Aggregate) and action.nodes:
                assert len(action.nodes) >= 3
                assert "keys" not in action.nodes
            if isinstance(action, Announce):
                holders = action.step in (CONTEXT, DECRYPT)
                assert (action.nodes == ("keys",)) if holders else "keys" not in action.nodes
            assert not isinstance(action, Finish) or coordinator.phase == FINISHED
    again = SecureCoordinator(PLAN)
    for event in journal:
        again.handle(event)
    assert again == coordinator


def test_a_gateway_that_began_again_asks_the_open_step_of_those_who_lack() -> None:
    coordinator = begun()
    assert asked(coordinator.handle(Started(1.0))) == [(CONTEXT, ("keys",), 1)]
    answer(coordinator, ["keys"])
    answer(coordinator, "b")
    assert asked(coordinator.handle(Started(2.0))) == [(ENCRYPTED, ("a", "c"), 1)]
    answer(coordinator, "ac")
    assert asked(coordinator.handle(Started(3.0))) == [(DECRYPT, ("keys",), 1)]
    assert coordinator.phase == COLLECTING
