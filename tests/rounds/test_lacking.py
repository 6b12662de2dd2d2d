"""A round that cannot succeed with the nodes that are here is known as such at once."""

from dataclasses import replace

import pytest

from orchestrator.gateway.web.shortfall import shortfall
from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.events import Abstained, Arrived, Declined, Joined, Left, Rated, Started, Ticked
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.state import COLLECTING, FAILED, GATHERING
from orchestrator.rounds.steps import ENCRYPTED_STEPS, KEYS, MASKED_STEPS

PLAN = Plan(rounds=2, nodes=3, quorum=3, deadline_s=10, attempts=2, gather_s=100, statistics=False)


def gathered(plan: Plan = PLAN, nodes: int = 3) -> Coordinator:
    coordinator = SecureCoordinator(plan) if plan.steps else Coordinator(plan)
    coordinator.handle(Started(0.0))
    if plan.key_holder:
        coordinator.handle(Joined(0.5, plan.key_holder, 0))
    for number in range(nodes):
        coordinator.handle(Joined(1.0, f"n{number}", 10))
    return coordinator


def test_a_node_that_goes_and_comes_back() -> None:
    state = gathered()
    assert (state.phase, state.lacking(), shortfall(state)) == (COLLECTING, 0, None)
    state.handle(Arrived(2.0, "n0", 1, "d", 10.0))
    state.handle(Left(3.0, "n1"))
    assert state.lacking() == 1
    found = shortfall(state)
    assert found is not None
    assert found["text"] == "Round 1 cannot succeed as things are: it needs 3 updates, and at most 2 can come."
    assert "It helps if n1 comes back" in found["help"]
    assert "announced once more and the run stops at the last deadline" in found["help"]
    state.handle(Left(3.0, "n2"))
    assert state.lacking() == 2
    state.handle(Joined(4.0, "n1", 10))
    state.handle(Joined(4.0, "another", 10))
    assert state.lacking() == 0


def test_what_was_here_before_the_node_went_still_counts() -> None:
    state = gathered()
    state.handle(Arrived(2.0, "n1", 1, "d", 10.0))
    state.handle(Left(3.0, "n1"))
    assert state.lacking() == 0


def test_who_declines_abstains_or_is_passed_over_is_not_counted_on() -> None:
    state = gathered(replace(PLAN, quorum=2))
    state.handle(Declined(2.0, "n0", "its budget is spent"))
    assert state.lacking() == 0
    state.handle(Left(2.0, "n1"))
    found = shortfall(state)
    assert found is not None
    assert "n0 declined: its budget is spent." in found["help"]
    last = gathered(replace(PLAN, attempts=1))
    last.handle(Abstained(2.0, "n2", 1, 1, "its graph ended"))
    assert last.lacking() == 1, "it is asked no more: there is no further announcement"


def test_spare_nodes_can_stand_in_while_the_round_is_announced_again() -> None:
    plan = replace(PLAN, nodes=4, quorum=2, rule=Rule(2, 0.0, b"k"))
    state = gathered(plan, 4)
    for node in state.cohort:
        state.handle(Left(2.0, node))
    assert state.lacking() == 0
    for node in sorted(state.online):
        state.handle(Rated(2.0, node, "battery 5 %"))
    found = shortfall(state)
    assert found is not None
    assert found["nodes"] == 2
    assert "is passed over: battery 5 %." in found["help"]


def test_what_it_says_is_what_happens() -> None:
    state = gathered()
    state.handle(Left(3.0, "n1"))
    state.handle(Arrived(4.0, "n0", 1, "d", 1.0))
    state.handle(Arrived(4.0, "n2", 1, "d", 1.0))
    assert state.lacking() == 1
    state.handle(Ticked(11.0))
    state.handle(Ticked(30.0))
    assert state.phase == FAILED
    assert state.lacking() == 0


def test_a_buffered_round_counts_on_all_that_are_here() -> None:
    state = gathered(replace(PLAN, quorum=2, buffered=True, max_staleness=3))
    assert state.lacking() == 0
    state.handle(Left(2.0, "n0"))
    state.handle(Left(2.0, "n1"))
    assert state.lacking() == 1


@pytest.mark.parametrize("steps", [MASKED_STEPS, ENCRYPTED_STEPS])
def test_a_secure_round(steps: "tuple[str, ...]") -> None:
    holder = "keys" if steps is ENCRYPTED_STEPS else ""
    state = gathered(replace(PLAN, steps=steps, least=3, key_holder=holder))
    assert isinstance(state, SecureCoordinator)
    assert (state.phase, state.lacking()) == (COLLECTING, 0)
    state.handle(Left(2.0, "n1"))
    assert state.lacking() == 1
    state.handle(Joined(3.0, "n1", 10))
    assert state.lacking() == 0
    if holder:
        state.handle(Left(4.0, holder))
        found = shortfall(state)
        assert found is not None
        assert "The key holder keys is not here" in found["help"]
        return
    assert state.step == KEYS
    for node in ("n0", "n1", "n2"):
        state.handle(Arrived(4.0, node, 1, "d", 10.0, KEYS, 1))
    state.handle(Left(5.0, "n2"))
    assert state.lacking() == 1, "another attempt would have too few as well"


def test_too_few_because_some_declined_before_the_first_round() -> None:
    state = gathered(nodes=2)
    assert (state.phase, shortfall(state)) == (GATHERING, None), "it waits for one more, as every run does"
    state.handle(Declined(2.0, "n9", "no column 'age'"))
    found = shortfall(state)
    assert found is not None
    assert found["text"] == "The run cannot begin as things are: 2 nodes of the 3 it needs can take part."
    assert found["help"] == "n9 declined: no column 'age'. Another node that joins helps as well."
