"""Anything may happen to a secure round at any time: the run ends all the same, and every replay gives the same."""

import json
import random
from dataclasses import replace
from typing import List, Optional, Set, Tuple

from hypothesis import given
from hypothesis import strategies as st
from secure_runs import NAMES, PLAN
from series import examples

from orchestrator.rounds.events import (
    Abstained,
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Compacted,
    Event,
    Joined,
    Left,
    Rated,
    Started,
    Ticked,
    Unopened,
    Wake,
    event_from_dict,
    event_to_dict,
)
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.state import AGGREGATING, COLLECTING, FAILED, FINISHED
from orchestrator.rounds.steps import CONFIRM, MASKED, PREPARED, REVEAL, SHARES, UNMASK


class Nodes:
    """The other side: answers what it is asked, or not; leaves, returns, abstains. Time moves to what is due next."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.random, self.plan = random.Random(seed), plan
        self.now = 0.0
        self.due: List[Event] = []
        self.wake: Optional[float] = None
        self.opened: Set[int] = set()  # rounds some node was asked to open
        self.reliable, self.revealed = False, False

    def react(self, actions: List[Action]) -> None:
        for action in actions:
            if isinstance(action, Announce):
                if action.step == UNMASK or (
                    action.step == CONFIRM and len(action.nodes) > self.plan.all_neighbours > 0
                ):
                    self.opened.add(action.round)
                for node in action.nodes:
                    drawn = 0.0 if self.reliable else self.random.random()
                    about = (self.now, node, action.round)
                    if drawn < 0.85:
                        brings = action.step in (MASKED, UNMASK) and self.random.random() < 0.95
                        sees = action.step == MASKED and self.random.random() < 0.9
                        self.due.append(Arrived(*about, "d", 1.0, action.step, action.attempt, brings, sees))
                    elif drawn < 0.92:
                        self.due.append(Abstained(*about, action.attempt, "drawn"))
            elif isinstance(action, Aggregate):
                fails = action.nodes and not self.reliable and self.random.random() < 0.2
                unopened, done = Unopened(self.now, action.round, "drawn"), Aggregated(self.now, action.round)
                self.due.append(unopened if fails else done)
            elif isinstance(action, Wake):
                self.wake = action.at

    def next(self) -> Optional[Event]:
        if not self.reliable and self.random.random() < 0.15:
            node = f"n{self.random.randrange(7)}"
            kinds: List[Event] = [
                Left(self.now, node),
                Joined(self.now, node, 10),
                Joined(self.now, node, 10),
                Rated(self.now, node, self.random.choice(["", "hot"])),
            ]
            return self.random.choice(kinds)
        if self.due and (self.wake is None or self.random.random() < 0.97):
            return self.due.pop(self.random.randrange(len(self.due)))
        if self.wake is None:
            return None
        self.now, self.wake = max(self.now, self.wake), None
        return Ticked(self.now)


def check(coordinator: SecureCoordinator, actions: List[Action], nodes: Nodes) -> None:
    """What holds after every event, whatever came before."""
    plan = coordinator.plan
    for action in actions:
        if isinstance(action, Aggregate) and action.nodes:
            assert len(action.nodes) >= max(plan.quorum, plan.least)
        if isinstance(action, Announce):
            opening = (CONFIRM, UNMASK) if coordinator.parties > plan.all_neighbours > 0 else (UNMASK,)
            assert not (action.round in nodes.opened and action.step not in opening), "asked again after opening began"
            if action.step == SHARES and coordinator.attempt > 0:
                assert nodes.revealed >= (coordinator.parties > plan.all_neighbours > 0)
            nodes.revealed = action.step == REVEAL or (nodes.revealed and action.step == SHARES)
    if coordinator.phase == COLLECTING:
        assert nodes.wake is not None, "nobody would ever end this step"
        assert set(coordinator.arrived) <= set(coordinator.cohort)
        assert PREPARED <= coordinator.attempt <= plan.attempts
    if coordinator.phase == AGGREGATING:
        assert any(isinstance(event, (Aggregated, Unopened)) for event in nodes.due), "nobody would ever end this round"


def play(seed: int, plan: Plan, events: int, crashes: float) -> SecureCoordinator:
    """Plays a run; now and then the gateway dies, and a new one is made of the journal."""
    nodes, journal = Nodes(seed, plan), [Started(0.0)]  # type: Tuple[Nodes, List[Event]]
    coordinator = SecureCoordinator(plan)
    nodes.react(coordinator.handle(journal[0]))

    def replayed() -> Tuple[SecureCoordinator, List[Action]]:
        again, actions = SecureCoordinator(plan), []  # type: Tuple[SecureCoordinator, List[Action]]
        for event in journal:
            actions = again.handle(event)
        return again, actions

    def happen(event: Event) -> None:
        journal.append(event_from_dict(event_to_dict(event)))
        actions = coordinator.handle(event)
        nodes.react(actions)
        check(coordinator, actions, nodes)
        if nodes.random.random() < 0.05:
            assert replayed() == (coordinator, actions)

    for name in NAMES:
        happen(Joined(nodes.now, name, 10))
    for count in range(events):
        if coordinator.over:
            break
        nodes.reliable = count > events // 4
        if nodes.reliable and count == events // 4 + 1:
            for name in NAMES:
                happen(Rated(nodes.now, name, ""))
                happen(Joined(nodes.now, name, 10))
        event = nodes.next()
        assert event is not None, f"the run hangs in {coordinator}"
        if nodes.random.random() < 0.02:
            compacted = Compacted(nodes.now, coordinator.snapshot(), {})
            journal[:] = [event_from_dict(json.loads(json.dumps(event_to_dict(compacted))))]
        if isinstance(event, (Arrived, Abstained)) and nodes.random.random() < crashes:
            coordinator, _ = replayed()
            nodes.due = [e for e in nodes.due if not isinstance(e, (Aggregated, Unopened))]
            happen(Started(nodes.now))
        happen(event)
    assert replayed()[0] == coordinator
    return coordinator


@examples(50)
@given(st.integers(0, 1 << 32))
def test_every_replay_gives_the_same_and_no_run_hangs(seed: int) -> None:
    """Nodes leave, return, abstain and keep silent at random, the gateway dies at random: the run ends all the same."""
    plan = replace(
        PLAN,
        rounds=4,
        attempts=10_000,
        statistics=bool(seed % 2),
        evaluation=bool(seed // 2 % 2),
        least=3 + seed // 4 % 2,
        rule=Rule(4 if seed // 8 % 2 else 0, 0.0, b"key"),
        all_neighbours=4 if seed // 16 % 2 else 0,
        withheld=seed // 32 % 2,
    )
    coordinator = play(seed, plan, 900, crashes=0.05)
    ends = ("round 0: its sum cannot be opened", "no update counted in any training round")
    assert coordinator.phase == FINISHED or coordinator.reason.startswith(ends)


@examples(40)
@given(st.integers(0, 1 << 32))
def test_with_few_attempts_a_run_ends_or_fails_with_a_reason(seed: int) -> None:
    coordinator = play(seed, replace(PLAN, attempts=2), 400, crashes=0.1)
    assert coordinator.over
    assert bool(coordinator.reason) == (coordinator.phase == FAILED)
