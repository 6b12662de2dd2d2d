"""The coordinator: events in, actions out. MQTT, simulation and tests drive the same object.

A run goes gathering -> (statistics ->) training rounds -> (a last evaluation ->) finished, or failed. A round is
`collecting` until every awaited node has answered, or its deadline has passed with a quorum; then `aggregating` until the
gateway reports the result stored. In buffered mode a round ends with its quorum-th update instead, and a node that is
still at an older round's weights is left to finish. A run fails for want of nodes or answers; when its gateway starts again
it goes on where it stopped, unless the failure is final. Nothing here reads a clock, a socket or a file: replaying the journal
gives the same state. A run none of whose training rounds has an update in it fails at its end: its weights are the first ones.
"""

from dataclasses import dataclass
from typing import List, Tuple

from orchestrator.rounds.events import (
    Abstained,
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Compacted,
    Declined,
    Ended,
    Event,
    Fail,
    Finish,
    Joined,
    Left,
    Provided,
    Rated,
    Regained,
    Started,
    Ticked,
    Unopened,
    Waits,
    Wake,
)
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.state import AGGREGATING, COLLECTING, FAILED, FINISHED, GATHERING, WAITING, RunState

RETURN_S = 10.0
"""What nodes are given to find the broker again."""


@dataclass
class Coordinator(RunState):
    """Of one run. Feed `handle` every event in order; do what it returns, after journalling the event."""

    def handle(self, event: Event) -> List[Action]:
        if isinstance(event, Started):
            return self._started(event.at)
        if isinstance(event, Joined):
            return self._joined(event)
        if isinstance(event, Left):
            self.online.pop(event.node, None)
            self.busy.pop(event.node, None)
            return self._progress(event.at)
        if isinstance(event, Declined):
            self.declined[event.node] = event.reason
            self.online.pop(event.node, None)
            self.waits.pop(event.node, None)
            return self._progress(event.at)
        if isinstance(event, Waits):
            self.waits.pop(event.node, None)
            if event.reason and event.node not in self.declined and event.node not in self.online:
                self.waits[event.node] = event.reason
            return []
        if isinstance(event, Rated):
            return self._rated(event)
        if isinstance(event, Arrived):
            return self._arrived(event)
        if isinstance(event, Aggregated):
            return self._aggregated(event)
        if isinstance(event, Provided):
            return self._provided(event)
        if isinstance(event, Abstained):
            return self._abstained(event)
        if isinstance(event, Unopened):
            return []  # of secure rounds only
        if isinstance(event, Ended):
            self.phase = FINISHED
            return [Finish()]
        if isinstance(event, Regained):
            return self._regained(event.at)
        if isinstance(event, Compacted):
            self._restore(event.state)
            return []
        return self._ticked(event)

    def _started(self, at: float) -> List[Action]:
        if self.phase == FAILED and not self.final:
            self._try_again()
        else:
            self.again = self.phase == GATHERING and bool(self.declined)
            if self.again:
                self.declined = {}
        self.waits = {}  # who still waits says so again
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
        return [] if self.phase == WAITING else self._ended()

    def _try_again(self) -> None:
        """Those that declined are asked again: an owner may have thought better of it, or repaired the data."""
        self.phase, self.reason, self.again = self.failed_in, "", True
        self.declined = {}

    def _regained(self, at: float) -> List[Action]:
        """Time in which nobody could answer is on nobody's account: the open deadline runs again."""
        if self.phase not in (GATHERING, COLLECTING):
            return []
        self.deadline = at + RETURN_S + (self.plan.gather_s if self.phase == GATHERING else self.plan.deadline_s)
        return [Wake(self.deadline)]

    def _ended(self) -> List[Action]:
        return [Finish()] if self.phase == FINISHED else [Fail(self.reason, self.final)]

    def _joined(self, event: Joined) -> List[Action]:
        if event.back and self.phase == GATHERING:
            self.declined.pop(event.node, None)
        if event.node in self.declined:
            return []
        self.waits.pop(event.node, None)
        self.online[event.node] = event.records
        if self.phase == GATHERING:
            return self._progress(event.at)
        if self.phase == COLLECTING and event.node not in self.arrived:
            # A node that comes (back) while the round is open takes part in it, if the selection lets it.
            if event.node not in self.cohort and not self._admits(event.node):
                return []
            return self._invite(event.node)
        return self._ended() if self.over else []

    def _invite(self, node: str) -> List[Action]:
        if node not in self.cohort:
            self._enlist((node,))
        return [self._announce((node,))]

    def _rated(self, event: Rated) -> List[Action]:
        """A node that may no longer be selected stays in the round it is in; one that may again waits for the next.

        Unless the round lacks nodes: then it is asked at once.
        """
        if event.objection:
            self.objections[event.node] = event.objection
            return []
        self.objections.pop(event.node, None)
        if self.phase == GATHERING:
            return self._progress(event.at)
        short = self.phase == COLLECTING and len(self.cohort) < self.plan.quorum and not self._rule().samples
        spare = self._rested(self._eligible()) - set(self.cohort) - set(self.arrived)
        if short and event.node in spare:
            return self._invite(event.node)
        return []

    def _arrived(self, event: Arrived) -> List[Action]:
        if not self.accepts(event.node, event.round):
            return []
        self.busy.pop(event.node, None)
        if self.buffering:
            self.answered[event.node] = event.round
            if self.round - event.round > self.plan.max_staleness:
                return self._invite(event.node)  # too old to count: begin again with today's weights
        self.arrived[event.node] = (event.digest, event.weight)
        return self._progress(event.at)

    def _abstained(self, event: Abstained) -> List[Action]:
        """Nothing that counts will come of this node in this attempt: nobody waits for it. What comes all the same counts."""
        if self.phase != COLLECTING or (event.round, event.attempt) != (self.round, self.attempt):
            return []
        if event.node in self.arrived:
            return []
        self.busy.pop(event.node, None)
        self.unusable += self.plan.trains(self.round)
        self.cohort = tuple(node for node in self.cohort if node != event.node)
        return self._progress(event.at)

    def _aggregated(self, event: Aggregated) -> List[Action]:
        if self.phase != AGGREGATING or event.round != self.round:
            return []
        if self.plan.provided:
            self.phase = WAITING
            return self._begin_wanted(event.at)
        self.stopped = self.stopped or event.stop
        self.moved += self.plan.trains(self.round) and self._has_updates
        trained = self.round >= self.plan.rounds or self.stopped
        if not trained:
            return self._open_round(self.round + 1, event.at)
        # That nobody was drawn is secret where the plan says so; that nodes that were sent nothing of use is not.
        if not self.moved and (not self.plan.hides_empty or self.unusable):
            return self._fail(self._nothing_moved(), final=True)
        if self.plan.evaluation and self.round <= self.plan.rounds:
            return self._open_round(self.plan.rounds + 1, event.at)
        self.phase = FINISHED
        return [Finish()]

    def _provided(self, event: Provided) -> List[Action]:
        """A round that is begun above while an older one is open here replaces it: nobody waits for that one any more."""
        self.wanted = max(self.wanted, event.round)
        return self._begin_wanted(event.at) if self.phase in (WAITING, COLLECTING) else []

    def _begin_wanted(self, at: float) -> List[Action]:
        return self._open_round(self.wanted, at) if self.wanted > self.round else []

    def _ticked(self, event: Ticked) -> List[Action]:
        if self.over or self.phase in (AGGREGATING, WAITING) or event.at < self.deadline:
            return []
        if self.phase == GATHERING:
            if self._here(self.plan.least_nodes):
                return self._begin(event.at)
            return self._fail(
                f"{len(self._eligible())} of {self._wanted_nodes()} nodes came within {self.plan.gather_s:g} s"
                f"{self._lacking_key_holder()}"
                f"{self._names(' (', sorted(self._eligible()), ')')}{self._refusals()}"
            )
        if not self.buffering and len(self.arrived) >= self.needed:
            return self._close_round()
        if self.attempt >= self.plan.attempts:
            missing = self._awaited(all_of_cohort=True)
            return self._fail(
                f"round {self.round}: {len(self.arrived)} of {self.needed} updates needed after {self.attempt} "
                f"announcements of {self.plan.deadline_s:g} s{self._names('; no answer from ', missing, '')}"
                f"{self._refusals()}"
            )
        self.attempt += 1
        self.deadline = event.at + self.plan.deadline_s
        if not self._rule().samples:  # others may stand in for those that do not answer
            spare = self._rested(self._eligible()) - set(self.cohort) - set(self.arrived)
            lacking = self.plan.quorum - len(self.arrived) if self._rule().cohort else len(spare)
            self._enlist(Rule(lacking, 0.0, self._rule().key).choose(self.round, spare, self.last_selected))
        return [self._announce(self._awaited(all_of_cohort=True)), Wake(self.deadline)]

    def _progress(self, at: float) -> List[Action]:
        """Opens the first round when enough nodes are here; closes one when nobody awaited is missing."""
        if self.phase == GATHERING and self._here(self.plan.nodes):
            return self._begin(at)
        if self.phase == GATHERING and self._hopeless():
            return self._fail(f"too few nodes are left: {self._wanted_nodes()} are needed{self._refusals()}")
        if self.phase == COLLECTING and len(self.arrived) >= self.needed and (self.buffering or not self._awaited()):
            return self._close_round()
        return []

    def _begin(self, at: float) -> List[Action]:
        if self.plan.provided:
            self.phase = WAITING
            return self._begin_wanted(at)
        return self._open_round(self.plan.first_round, at)

    def _open_round(self, number: int, at: float) -> List[Action]:
        self.phase, self.round, self.attempt = COLLECTING, number, 1
        self.arrived, self.cohort = {}, ()
        candidates = self._rested(self._eligible())
        rule = self._rule()
        if self.buffering:
            candidates -= set(self.busy)
            if rule.cohort:
                rule = Rule(rule.cohort - len(self.busy), 0.0, rule.key)
                candidates = candidates if rule.cohort > 0 else set()
        self._enlist(rule.choose(number, candidates, self.last_selected))
        self.deadline = at + self.plan.deadline_s
        if rule.samples and not self.cohort:
            return self._close_round()  # nobody was drawn: the weights stay as they are
        return [self._announce(self.cohort), Wake(self.deadline)]

    def _enlist(self, nodes: Tuple[str, ...]) -> None:
        self.cohort = (*self.cohort, *nodes)
        if self.plan.trains(self.round):
            self.last_selected.update({node: self.round for node in nodes})

    def _announce(self, nodes: Tuple[str, ...]) -> Announce:
        if self.buffering:
            self.busy.update({node: self.round for node in nodes})
        return Announce(self.round, nodes)

    def _close_round(self) -> List[Action]:
        self.phase = AGGREGATING
        return [Aggregate(self.round, tuple(sorted(self.arrived)))]

    def _fail(self, reason: str, final: bool = False) -> List[Action]:
        self.failed_in, self.final = self.phase, final
        self.phase, self.reason = FAILED, reason
        return [Fail(reason, final)]
