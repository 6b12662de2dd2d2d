import copy
import json
import random
from dataclasses import replace
from typing import List, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.rounds.coordinator import RETURN_S, Coordinator
from orchestrator.rounds.events import (
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Compacted,
    Declined,
    Event,
    Fail,
    Finish,
    Joined,
    Left,
    Regained,
    Started,
    Ticked,
    Waits,
    Wake,
    event_from_dict,
    event_to_dict,
)
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.state import AGGREGATING, COLLECTING, FAILED, FINISHED, GATHERING

PLAN = Plan(rounds=2, nodes=3, quorum=2, deadline_s=10, attempts=2, gather_s=100, statistics=False)


def gathered(plan: Plan = PLAN) -> Coordinator:
    coordinator = Coordinator(plan)
    coordinator.handle(Started(0.0))
    for i in range(plan.nodes):
        coordinator.handle(Joined(1.0, f"n{i}", 10))
    return coordinator


def arrived(coordinator: Coordinator, node: str, at: float = 2.0) -> List[Action]:
    return coordinator.handle(Arrived(at, node, coordinator.round, f"digest-{node}", 10.0))


def test_a_run_from_beginning_to_end() -> None:
    coordinator = Coordinator(PLAN)
    assert coordinator.handle(Started(0.0)) == [Wake(100.0)]
    assert coordinator.handle(Joined(1.0, "n0", 10)) == []
    assert coordinator.handle(Joined(1.0, "n1", 10)) == []
    assert coordinator.handle(Joined(1.0, "n2", 10)) == [Announce(1, ("n0", "n1", "n2")), Wake(11.0)]
    assert arrived(coordinator, "n1") == []
    assert arrived(coordinator, "n0") == []
    assert arrived(coordinator, "n2") == [Aggregate(1, ("n0", "n1", "n2"))]
    assert coordinator.handle(Aggregated(3.0, 1)) == [Announce(2, ("n0", "n1", "n2")), Wake(13.0)]
    for node in ("n0", "n1"):
        arrived(coordinator, node)
    assert coordinator.handle(Ticked(13.0)) == [Aggregate(2, ("n0", "n1"))]
    assert coordinator.handle(Aggregated(14.0, 2)) == [Finish()]
    assert coordinator.phase == FINISHED


def test_statistics_come_first_where_the_plan_has_them() -> None:
    plan = Plan(1, 1, 1, 10, 1, 10, statistics=True)
    coordinator = gathered(plan)
    assert coordinator.round == 0
    arrived(coordinator, "n0")
    assert Announce(1, ("n0",)) in coordinator.handle(Aggregated(2.0, 0))


def test_a_node_that_left_is_not_waited_for_when_the_rest_is_a_quorum() -> None:
    coordinator = gathered()
    arrived(coordinator, "n0")
    arrived(coordinator, "n1")
    assert coordinator.handle(Left(3.0, "n2")) == [Aggregate(1, ("n0", "n1"))]


def test_without_a_quorum_a_node_that_left_is_waited_for_until_the_deadline() -> None:
    coordinator = gathered()
    arrived(coordinator, "n0")
    assert coordinator.handle(Left(3.0, "n1")) == []
    assert coordinator.handle(Left(3.0, "n2")) == []
    assert coordinator.handle(Ticked(10.9)) == []
    assert coordinator.handle(Ticked(11.0)) == [Announce(1, ("n1", "n2")), Wake(21.0)]
    (failed,) = coordinator.handle(Ticked(21.0))
    assert isinstance(failed, Fail)
    assert "round 1: 1 of 2 updates" in failed.reason
    assert "n1, n2" in failed.reason
    assert coordinator.phase == FAILED


def test_nodes_that_wait_for_their_owners_are_named() -> None:
    """Nobody is missing then, and looking for nodes that do not reach the broker helps nothing."""
    coordinator = Coordinator(PLAN)
    coordinator.handle(Started(0.0))
    for node in ("n0", "n1", "n2", "n3"):
        assert coordinator.handle(Waits(1.0, node, "its owner has to approve the task")) == []
    named = "n0, n1, n2, n3 announced themselves, and each waits: its owner has to approve the task"
    assert coordinator.waits_for() == f"3 more of 3 nodes; {named}"
    coordinator.handle(Waits(2.0, "n1", ""))  # it is gone
    coordinator.handle(Joined(3.0, "n2", 10))
    coordinator.handle(Waits(3.5, "n2", "of before"))
    coordinator.handle(Declined(4.0, "n3", "its owner denied the task"))
    waits = "; n0 announced itself and waits: its owner has to approve the task"
    assert coordinator.waits_for() == f"2 more of 3 nodes{waits}"
    again = Coordinator(PLAN)
    again.handle(Compacted(4.0, json.loads(json.dumps(coordinator.snapshot())), {}))
    for each in (coordinator, again):
        (failed,) = each.handle(Ticked(100.0))
        assert isinstance(failed, Fail)
        expected = "1 of 3 nodes came within 100 s (n2); n3 declined: its owner denied the task"
        assert failed.reason == expected + waits
    coordinator.handle(Started(200.0))
    assert coordinator.waits == {}, "who still waits says so again"


def test_a_node_that_returns_in_time_is_asked_again() -> None:
    coordinator = gathered()
    coordinator.handle(Left(3.0, "n2"))
    assert coordinator.handle(Joined(4.0, "n2", 10)) == [Announce(1, ("n2",))]


def test_a_newcomer_takes_part_in_the_open_round() -> None:
    coordinator = gathered()
    assert coordinator.handle(Joined(4.0, "n9", 10)) == [Announce(1, ("n9",))]
    assert "n9" in coordinator.cohort


def test_a_late_or_repeated_update_changes_nothing() -> None:
    coordinator = gathered()
    arrived(coordinator, "n0")
    before = copy.deepcopy(coordinator)
    assert not coordinator.accepts("n0", 1)
    assert arrived(coordinator, "n0") == []
    assert coordinator.handle(Arrived(3.0, "n1", 5, "d", 1.0)) == []
    assert coordinator == before


def test_too_few_nodes_in_time_fails_with_their_names_and_refusals() -> None:
    coordinator = Coordinator(PLAN)
    coordinator.handle(Started(0.0))
    coordinator.handle(Joined(1.0, "n0", 10))
    coordinator.handle(Declined(2.0, "n1", "no column 'age'"))
    (failed,) = coordinator.handle(Ticked(100.0))
    assert isinstance(failed, Fail)
    assert failed.reason == "1 of 3 nodes came within 100 s (n0); n1 declined: no column 'age'"
    assert coordinator.handle(Joined(101.0, "n1", 1)) == []


FEWER = replace(PLAN, nodes=5, minimum_nodes=3)


def gathering(plan: Plan, here: int, declined: int = 0) -> Coordinator:
    coordinator = Coordinator(plan)
    coordinator.handle(Started(0.0))
    for i in range(here):
        assert coordinator.handle(Joined(1.0, f"n{i}", 10)) == []
    for i in range(declined):
        assert coordinator.handle(Declined(2.0, f"d{i}", "no column 'age'")) == []
    return coordinator


def test_a_run_begins_with_fewer_nodes_once_the_time_to_gather_is_over() -> None:
    coordinator = gathering(FEWER, here=4, declined=1)
    assert coordinator.handle(Ticked(99.9)) == []
    assert coordinator.handle(Ticked(100.0)) == [Announce(1, ("n0", "n1", "n2", "n3")), Wake(110.0)]
    few = gathering(FEWER, here=2)
    (failed,) = few.handle(Ticked(100.0))
    assert isinstance(failed, Fail)
    assert failed.reason == "2 of 5 (at least 3) nodes came within 100 s (n0, n1)"


def test_all_the_nodes_that_are_wanted_begin_at_once() -> None:
    coordinator = gathering(FEWER, here=4)
    assert Announce(1, ("n0", "n1", "n2", "n3", "n4")) in coordinator.handle(Joined(3.0, "n4", 10))


def test_a_run_that_can_no_longer_have_its_nodes_fails_at_once() -> None:
    coordinator = gathering(FEWER, here=2, declined=2)
    (failed,) = coordinator.handle(Declined(3.0, "d2", "its policy"))
    assert isinstance(failed, Fail)
    assert failed.reason.startswith("too few nodes are left: 5 (at least 3) are needed; d0 declined: no column 'age'")
    assert coordinator.phase == FAILED
    assert gathering(replace(FEWER, nodes=3), here=0, declined=0).handle(Declined(3.0, "d", "r"))[0] == Fail(
        "too few nodes are left: 3 are needed; d declined: r"
    )
    more = gathering(FEWER, here=4, declined=2)  # of six nodes that came, two declined
    assert more.handle(Declined(3.0, "d2", "r")) == [], "others than those wanted came, so there are enough"
    assert gathering(PLAN, here=1).handle(Declined(2.0, "d", "r")) == [], "no minimum: another node may come instead"


def test_without_its_key_holder_no_run_begins() -> None:
    plan = replace(FEWER, key_holder="keys")
    lacking = gathering(plan, here=4)
    (failed,) = lacking.handle(Ticked(100.0))
    assert isinstance(failed, Fail)
    assert "not the key holder keys" in failed.reason
    assert isinstance(gathering(plan, here=4).handle(Declined(2.0, "keys", "its policy"))[0], Fail)


def test_a_run_says_what_it_waits_for() -> None:
    assert gathering(FEWER, 2).waits_for() == "3 more of 5 nodes; with 3 it begins after 100 s"
    assert gathering(replace(PLAN, key_holder="k"), 3).waits_for() == "3 nodes, and not the key holder k"
    coordinator = gathered()
    arrived(coordinator, "n1")
    assert coordinator.waits_for() == "answers of round 1 from n0, n2"


@examples(300)
@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 1 << 32))
def test_gathering_ends_by_its_rules_alone_and_a_replay_ends_alike(nodes: int, minimum: int, seed: int) -> None:
    """Nodes come, leave and decline at random: a run begins with `nodes` at any time, with `minimum_nodes` when the time is over,
    fails when neither is there, and before that only where those that declined leave too few."""
    rng = random.Random(seed)
    plan = replace(PLAN, nodes=nodes, quorum=1, minimum_nodes=min(minimum, nodes))
    coordinator = Coordinator(plan)
    journal: List[Event] = [Started(0.0)]
    here: Set[str] = set()
    declined: Set[str] = set()
    coordinator.handle(journal[0])
    for at in range(1, 102):
        node = f"n{rng.randrange(nodes + 2)}"
        events: List[Event] = [Ticked(at), Joined(at, node, 10), Left(at, node), Declined(at, node, "r")]
        event = events[0] if at >= 100 else rng.choices(events, [10, 2, 1, 1])[0]
        if isinstance(event, Joined) and node not in declined:
            here.add(node)
        elif isinstance(event, (Left, Declined)):
            here.discard(node)
            declined |= {node} if isinstance(event, Declined) else set()
        journal.append(event)
        coordinator.handle(event)
        if coordinator.phase != GATHERING:
            break
        assert len(here) < nodes
    if coordinator.phase == COLLECTING:
        assert set(coordinator.cohort) == here
        assert len(here) >= nodes or (at >= 100 and len(here) >= plan.least_nodes)
    else:
        assert coordinator.phase == FAILED
        assert len(here) < plan.least_nodes
        known = max(nodes, len(here | declined))
        assert at >= 100 or (plan.minimum_nodes and known - len(declined) < plan.least_nodes)
    replayed = Coordinator(plan)
    for event in journal:
        replayed.handle(event)
    assert replayed == coordinator


def test_events_survive_the_journal() -> None:
    for event in (Started(1.0), Joined(2.0, "a", 3), Arrived(1.0, "a", 2, "d", 3.0), Declined(1.0, "a", "r")):
        assert event_from_dict(event_to_dict(event)) == event


class World:
    """Nodes that answer, leave and return at random; the gateway's part of carrying out actions."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.pending: List[Event] = []

    def react(self, actions: List[Action], coordinator: Coordinator) -> None:
        for action in actions:
            if isinstance(action, Announce):
                for node in action.nodes:
                    if self.random.random() < 0.8:
                        self.pending.append(Arrived(0, node, action.round, f"{node}-{action.round}", 1.0))
            elif isinstance(action, Aggregate):
                assert len(action.nodes) >= coordinator.plan.quorum
                self.pending.append(Aggregated(0, action.round))
            elif isinstance(action, Wake):
                self.pending.append(Ticked(action.at))

    def next_event(self) -> Event:
        self.now += self.random.random()
        if self.random.random() < 0.15:
            node = f"n{self.random.randrange(4)}"
            return Left(self.now, node) if self.random.random() < 0.5 else Joined(self.now, node, 10)
        soon = [event for event in self.pending if event.at <= self.now + 10]
        if not soon:
            return Joined(self.now, f"n{self.random.randrange(4)}", 10)
        event = self.random.choice([e for e in soon if e.at <= self.now] or [min(soon, key=lambda e: e.at)])
        self.pending.remove(event)
        self.now = max(self.now, event.at)
        return event_from_dict({**event_to_dict(event), "at": self.now})


@examples(150)
@given(st.integers(0, 1 << 32))
def test_a_crash_after_any_event_is_a_replay(seed: int) -> None:
    """Killed after every single journalled event, the coordinator comes back equal and finishes the same rounds."""
    world = World(seed)
    plan = Plan(rounds=3, nodes=3, quorum=2, deadline_s=5, attempts=10_000, gather_s=1e6, statistics=bool(seed % 2))
    journal: List[Event] = []
    coordinator = Coordinator(plan)
    rounds: List[int] = []

    def happen(event: Event) -> None:
        nonlocal coordinator
        journal.append(event)
        actions = coordinator.handle(event)
        replayed = Coordinator(plan)
        for old in journal:
            replayed.handle(old)
        assert replayed == coordinator
        if isinstance(event, Aggregated):
            rounds.append(event.round)
        world.react(actions, coordinator)

    happen(Started(0.0))
    for _ in range(3000):
        if coordinator.over:
            break
        event = world.next_event()
        if isinstance(event, Arrived) and not coordinator.accepts(event.node, event.round):
            continue
        if isinstance(event, Aggregated) and (coordinator.phase, coordinator.round) != (AGGREGATING, event.round):
            continue
        happen(event)
        if world.random.random() < 0.05:  # the journal is compacted: what a restart makes of it is the same
            compacted = Compacted(world.now, coordinator.snapshot(), {})
            journal[:] = [event_from_dict(json.loads(json.dumps(event_to_dict(compacted))))]
        if world.random.random() < 0.1:  # the crash: only the journal is left, and the open actions are done again
            coordinator = Coordinator(plan)
            for old in journal:
                coordinator.handle(old)
            happen(Started(world.now))
    assert coordinator.phase == FINISHED
    assert rounds == list(range(plan.first_round, 4))


@pytest.mark.parametrize(("phase", "expected"), [(GATHERING, Wake), (COLLECTING, Announce), (AGGREGATING, Aggregate)])
def test_a_restart_does_what_the_phase_still_needs(phase: str, expected: type) -> None:
    coordinator = Coordinator(PLAN) if phase == GATHERING else gathered()
    if phase == AGGREGATING:
        for i in range(3):
            arrived(coordinator, f"n{i}")
    assert coordinator.phase == phase
    assert isinstance(coordinator.handle(Started(50.0))[0], expected)


def test_144_nodes_of_which_a_tenth_is_lost_every_round_never_abort() -> None:
    """Quorum and deadline, never N of N: whoever is lost in a round is back in the next."""
    rng = random.Random(7)
    plan = Plan(rounds=50, nodes=144, quorum=100, deadline_s=10, attempts=1, gather_s=100, statistics=False)
    coordinator = Coordinator(plan)
    coordinator.handle(Started(0.0))
    now = 1.0
    actions: List[Action] = []
    for i in range(144):
        actions = coordinator.handle(Joined(now, f"n{i:03}", 10))
    sizes = []
    while not coordinator.over:
        (announced,) = [a for a in actions if isinstance(a, Announce)]
        lost = set(rng.sample(announced.nodes, len(announced.nodes) // 10))
        closing: List[Action] = []
        for node in announced.nodes:
            now += 0.01
            if node in lost:
                event: Event = Left(now, node) if rng.random() < 0.5 else Ticked(now)
                closing += coordinator.handle(event)
            else:
                closing += arrived(coordinator, node, now)
        if coordinator.phase == COLLECTING:  # some neither answered nor left: the deadline decides
            now = coordinator.deadline
            closing += coordinator.handle(Ticked(now))
        (aggregate,) = [a for a in closing if isinstance(a, Aggregate)]
        sizes.append(len(aggregate.nodes))
        for node in lost - set(coordinator.online):
            coordinator.handle(Joined(now, node, 10))
        actions = coordinator.handle(Aggregated(now, coordinator.round))
    assert coordinator.phase == FINISHED
    assert len(sizes) == 50
    assert min(sizes) >= 100


@pytest.mark.parametrize("statistics", [False, True])
def test_a_run_that_failed_for_want_of_nodes_goes_on_where_it_stopped(statistics: bool) -> None:
    plan = replace(PLAN, statistics=statistics)
    coordinator = Coordinator(plan)
    coordinator.handle(Started(0.0))
    coordinator.handle(Declined(1.0, "n1", "its policy"))
    assert coordinator.handle(Ticked(100.0)) == [Fail(coordinator.reason)]
    assert coordinator.handle(Started(500.0)) == [Wake(600.0)]
    assert (coordinator.phase, coordinator.reason, coordinator.declined) == (GATHERING, "", {})
    for i in range(3):  # a node that declined may have thought better of it
        actions = coordinator.handle(Joined(501.0, f"n{i}", 10))
    assert actions == [Announce(plan.first_round, ("n0", "n1", "n2")), Wake(511.0)]


def test_a_gateway_that_begins_again_while_nodes_gather_asks_those_that_declined() -> None:
    coordinator = Coordinator(PLAN)
    coordinator.handle(Started(0.0))
    coordinator.handle(Joined(1.0, "n0", 10))
    coordinator.handle(Declined(1.0, "n1", "its data"))
    coordinator.handle(Started(50.0))
    assert (coordinator.declined, coordinator.again) == ({}, True)
    coordinator.handle(Joined(51.0, "n1", 10))
    assert set(coordinator.online) == {"n0", "n1"}


def test_a_node_comes_back_by_its_own_word_while_nodes_gather_and_never_later() -> None:
    coordinator = Coordinator(PLAN)
    coordinator.handle(Started(0.0))
    coordinator.handle(Declined(1.0, "n0", "its data"))
    coordinator.handle(Joined(2.0, "n0", 10))
    assert not coordinator.online, "as older journals have it"
    coordinator.handle(Joined(3.0, "n0", 10, back=True))
    assert (set(coordinator.online), coordinator.declined) == ({"n0"}, {})
    for node in ("n1", "n2"):
        coordinator.handle(Joined(4.0, node, 10))
    assert coordinator.phase == COLLECTING
    coordinator.handle(Declined(5.0, "n0", "its data"))
    coordinator.handle(Joined(6.0, "n0", 10, back=True))
    assert "n0" not in coordinator.online


def test_a_round_that_failed_for_want_of_answers_keeps_those_it_has() -> None:
    coordinator = gathered()
    arrived(coordinator, "n0")
    coordinator.handle(Ticked(11.0))
    assert coordinator.handle(Ticked(21.0)) == [Fail(coordinator.reason)]
    assert coordinator.handle(Started(50.0)) == [Announce(1, ("n1", "n2")), Wake(60.0)]
    assert coordinator.handle(Ticked(60.0)) == [Announce(1, ("n1", "n2")), Wake(70.0)]  # all its attempts again
    arrived(coordinator, "n2", 61.0)
    assert coordinator.handle(Ticked(70.0)) == [Aggregate(1, ("n0", "n2"))]


def test_time_in_which_nobody_could_answer_is_nobodys_deadline() -> None:
    coordinator = Coordinator(PLAN)
    coordinator.handle(Started(0.0))
    assert coordinator.handle(Regained(90.0, 80.0)) == [Wake(190.0 + RETURN_S)]
    assert coordinator.handle(Ticked(100.0)) == []
    coordinator = gathered()
    arrived(coordinator, "n0")
    assert coordinator.handle(Regained(31.0, 30.0)) == [Wake(41.0 + RETURN_S)]
    assert coordinator.handle(Ticked(31.0)) == []
    assert coordinator.attempt == 1
    arrived(coordinator, "n1", 32.0)
    arrived(coordinator, "n2", 32.0)
    assert coordinator.handle(Regained(50.0, 10.0)) == []  # nobody is awaited while a round is aggregated
