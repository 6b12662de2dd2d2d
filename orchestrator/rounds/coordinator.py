"""The coordinator: events in, actions out. MQTT, simulation and tests drive the same object.

A run goes gathering -> (statistics ->) training rounds -> finished, or failed. A round is `collecting` until every
awaited node has answered, or its deadline has passed with a quorum; then `aggregating` until the gateway reports the
result stored. Nothing here reads a clock, a socket or a file: replaying the journal gives the same state.
"""

from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Set, Tuple

from orchestrator.rounds.events import (
    STATISTICS_ROUND,
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Declined,
    Event,
    Fail,
    Finish,
    Joined,
    Left,
    Started,
    Ticked,
    Wake,
)

GATHERING, COLLECTING, AGGREGATING, FINISHED, FAILED = "gathering", "collecting", "aggregating", "finished", "failed"


@dataclass(frozen=True)
class Plan:
    """The part of a task the coordinator needs."""

    rounds: int
    nodes: int
    quorum: int
    deadline_s: float
    attempts: int
    gather_s: float
    statistics: bool

    @property
    def first_round(self) -> int:
        return STATISTICS_ROUND if self.statistics else 1


@dataclass
class Coordinator:
    """State of one run. Feed `handle` every event in order; do what it returns, after journalling the event."""

    plan: Plan
    phase: str = GATHERING
    round: int = -1
    reason: str = ""
    online: Dict[str, int] = field(default_factory=dict)  # node -> records
    declined: Dict[str, str] = field(default_factory=dict)  # node -> reason
    cohort: Tuple[str, ...] = ()
    arrived: Dict[str, Tuple[str, float]] = field(default_factory=dict)  # node -> (digest, weight)
    attempt: int = 0
    deadline: float = 0.0

    def handle(self, event: Event) -> List[Action]:
        if isinstance(event, Started):
            return self._started(event.at)
        if isinstance(event, Joined):
            return self._joined(event)
        if isinstance(event, Left):
            self.online.pop(event.node, None)
            return self._progress(event.at)
        if isinstance(event, Declined):
            self.declined[event.node] = event.reason
            self.online.pop(event.node, None)
            return self._progress(event.at)
        if isinstance(event, Arrived):
            return self._arrived(event)
        if isinstance(event, Aggregated):
            return self._aggregated(event)
        return self._ticked(event)

    @property
    def over(self) -> bool:
        return self.phase in (FINISHED, FAILED)

    def accepts(self, node: str, round_number: int) -> bool:
        """Whether an update of this node for this round would count: the gateway asks before it stores one."""
        return self.phase == COLLECTING and round_number == self.round and node not in self.arrived

    def _started(self, at: float) -> List[Action]:
        # `online` is kept: retained presence corrects it within moments, and a round must not close before it did.
        if self.phase == GATHERING:
            self.deadline = at + self.plan.gather_s
            return [Wake(self.deadline)]
        if self.phase == COLLECTING:
            self.attempt = 1
            self.deadline = at + self.plan.deadline_s
            return [Announce(self.round, self._awaited(all_of_cohort=True)), Wake(self.deadline)]
        if self.phase == AGGREGATING:
            return [Aggregate(self.round, tuple(sorted(self.arrived)))]
        return self._ended()

    def _ended(self) -> List[Action]:
        return [Finish()] if self.phase == FINISHED else [Fail(self.reason)]

    def _joined(self, event: Joined) -> List[Action]:
        if event.node in self.declined:
            return []
        self.online[event.node] = event.records
        if self.phase == GATHERING:
            return self._progress(event.at)
        if self.phase == COLLECTING and event.node not in self.arrived:
            # A node that comes (back) while the round is open takes part in it.
            if event.node not in self.cohort:
                self.cohort = (*self.cohort, event.node)
            return [Announce(self.round, (event.node,))]
        return self._ended() if self.over else []

    def _arrived(self, event: Arrived) -> List[Action]:
        if not self.accepts(event.node, event.round):
            return []
        self.arrived[event.node] = (event.digest, event.weight)
        return self._progress(event.at)

    def _aggregated(self, event: Aggregated) -> List[Action]:
        if self.phase != AGGREGATING or event.round != self.round:
            return []
        if self.round >= self.plan.rounds:
            self.phase = FINISHED
            return [Finish()]
        return self._open_round(self.round + 1, event.at)

    def _ticked(self, event: Ticked) -> List[Action]:
        if self.over or self.phase == AGGREGATING or event.at < self.deadline:
            return []
        if self.phase == GATHERING:
            return self._fail(
                f"{len(self.online)} of {self.plan.nodes} nodes came within {self.plan.gather_s:g} s"
                f"{self._names(' (', sorted(self.online), ')')}{self._refusals()}"
            )
        if len(self.arrived) >= self.plan.quorum:
            return self._close_round()
        if self.attempt >= self.plan.attempts:
            missing = self._awaited(all_of_cohort=True)
            return self._fail(
                f"round {self.round}: {len(self.arrived)} of {self.plan.quorum} updates needed after {self.attempt} "
                f"announcements of {self.plan.deadline_s:g} s{self._names('; no answer from ', missing, '')}"
                f"{self._refusals()}"
            )
        self.attempt += 1
        self.deadline = event.at + self.plan.deadline_s
        return [Announce(self.round, self._awaited(all_of_cohort=True)), Wake(self.deadline)]

    def _progress(self, at: float) -> List[Action]:
        """Opens the first round when enough nodes are here; closes one when nobody awaited is missing."""
        if self.phase == GATHERING and len(self.online) >= self.plan.nodes:
            return self._open_round(self.plan.first_round, at)
        if self.phase == COLLECTING and len(self.arrived) >= self.plan.quorum and not self._awaited():
            return self._close_round()
        return []

    def _open_round(self, number: int, at: float) -> List[Action]:
        self.phase, self.round, self.attempt = COLLECTING, number, 1
        self.cohort = tuple(sorted(self.online))
        self.arrived = {}
        self.deadline = at + self.plan.deadline_s
        return [Announce(number, self.cohort), Wake(self.deadline)]

    def _close_round(self) -> List[Action]:
        self.phase = AGGREGATING
        return [Aggregate(self.round, tuple(sorted(self.arrived)))]

    def _fail(self, reason: str) -> List[Action]:
        self.phase, self.reason = FAILED, reason
        return [Fail(reason)]

    def _awaited(self, all_of_cohort: bool = False) -> Tuple[str, ...]:
        """Cohort members without an update that are online (or all of them)."""
        waiting: Set[str] = set(self.cohort) - set(self.arrived) - set(self.declined)
        return tuple(sorted(n for n in waiting if all_of_cohort or n in self.online))

    def _refusals(self) -> str:
        return "".join(f"; {node} declined: {reason}" for node, reason in sorted(self.declined.items()))

    @staticmethod
    def _names(before: str, names: Iterable[str], after: str) -> str:
        listed = ", ".join(names)
        return f"{before}{listed}{after}" if listed else ""
