"""Secure rounds: a round in steps, each answered by those who answered the one before; the gateway opens only a sum.

A step ends when every node that is still here has answered, or at its deadline with enough of them. A node that leaves, or
abstains with a reason, is out of this attempt; too few left, and the round is attempted again with fresh keys. Once nodes have
begun to open a sum it is not attempted again (a second sum over other nodes would show what single ones sent): if it cannot be
opened, the round is skipped and the weights stay.

Keys for the next round travel with the vectors of this one, their shares with its last answers. If all who brought them, and
only they, are to be in the next round, it begins with the vectors, as attempt 0; otherwise, or if that fails, with keys as ever.

With its vector a node may sign whom it expects in the sum. If all of these sent theirs, all signed, nothing is left to confirm.

Where nodes are too many to be all neighbours, a step in which they reveal nonces follows the keys (why: privacy/mask_graph.py).
Nearly all must: with too many missing the round is attempted again. Such rounds are not prepared during the round before.

What the steps carry, and why they protect, is in privacy/secure_sum.py and privacy/ckks.py; here only names count.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Set, Tuple

from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.events import (
    Abstained,
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Event,
    Joined,
    Ticked,
    Unopened,
    Wake,
)
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.stages import STATISTICS
from orchestrator.rounds.state import AGGREGATING, COLLECTING, FAILED
from orchestrator.rounds.steps import (
    _OF_KEY_HOLDER,
    CONFIRM,
    CONTEXT,
    ENCRYPTED,
    JOINING_STEPS,
    KEYS,
    MASKED,
    OPENING_STEPS,
    PREPARED,
    REVEAL,
    SHARES,
    UNMASK,
    VECTOR_STEPS,
)


def coordinator_of(plan: Plan) -> Coordinator:
    """The coordinator for a plan's kind of rounds."""
    return SecureCoordinator(plan) if plan.steps else Coordinator(plan)


@dataclass
class SecureCoordinator(Coordinator):
    """`cohort` are those asked in the open step, `arrived` those who answered it, `attempt` numbers the round's sessions."""

    step: str = ""
    parties: int = 0  # nodes with keys in this session
    summed: Tuple[str, ...] = ()  # nodes whose vectors are in the sum
    abstained: Dict[str, str] = field(default_factory=dict)  # node -> reason, in this attempt
    given_up: int = 0  # attempts at this round before the run stopped and began again
    skipped: int = 0  # rounds in a row whose sum was not opened
    skip_reason: str = ""  # why the newest of them was not
    keyed: Set[str] = field(default_factory=set)  # nodes whose keys for the next round are here
    prepared: Set[str] = field(default_factory=set)  # nodes whose shares for it are here too
    expected: Tuple[str, ...] = ()  # nodes asked for their vectors when that step began
    foreseen: Set[str] = field(default_factory=set)  # nodes that signed with their vector whom they expect
    known: Set[str] = field(default_factory=set)  # nodes that ever joined
    members: Set[str] = field(default_factory=set)  # of these, when the key holder was asked: the sum's form fits them

    def handle(self, event: Event) -> List[Action]:
        if isinstance(event, Abstained):
            return self._abstained(event)
        if isinstance(event, Unopened):
            if self.phase != AGGREGATING or event.round != self.round or not self.summed:
                return []
            return self._skip(event.reason)
        return super().handle(event)

    def accepts_step(self, node: str, round_number: int, step: str, attempt: int) -> bool:
        """Whether this node's answer to this step would count."""
        open_step = self.phase == COLLECTING and (round_number, step, attempt) == (self.round, self.step, self.attempt)
        return open_step and node in self.cohort and node not in self.arrived

    def accepts(self, node: str, round_number: int) -> bool:
        return False  # nothing is accepted outside the steps

    @property
    def needed(self) -> int:
        if self.step in _OF_KEY_HOLDER:
            return 1
        opening = (self.parties + self.plan.colluding) // 2 + 1  # nodes it takes to open the sum
        if self.step in (CONFIRM, UNMASK):
            return opening
        least = max(self.plan.quorum, self.plan.least, opening if self.step in (REVEAL, SHARES, MASKED) else 0)
        return max(least, self.parties - self.plan.withheld) if self.step == REVEAL else least

    def _started(self, at: float) -> List[Action]:
        if self.phase == FAILED and self.failed_in == COLLECTING and not self.final:
            stopped = self.reason
            self._try_again()
            if self._bounded:  # nodes answer no more attempts at this round: it is done without
                self.summed, self.skip_reason = (), stopped
                return self._close_round()
            self.given_up = self.attempt
            self.attempt += 1  # with fresh keys, as ever
            return self._begin_attempt(at)
        if self.phase == COLLECTING:
            self.deadline = at + self.plan.deadline_s
            return [self._announce(self._awaited(all_of_cohort=True)), Wake(self.deadline)]
        if self.phase == AGGREGATING:
            return [Aggregate(self.round, self.summed, self.attempt)]
        actions = super()._started(at)
        return [Aggregate(self.round, self.summed, self.attempt)] if self.phase == AGGREGATING else actions

    def _try_again(self) -> None:
        super()._try_again()
        self.skipped = 0

    def _joined(self, event: Joined) -> List[Action]:
        self.known.add(event.node)
        inside = self.phase == COLLECTING and event.node not in self.arrived
        if inside and event.node not in self.cohort and self.step not in JOINING_STEPS:
            if event.node not in self.declined:
                self.online[event.node] = event.records
            return []  # it comes too late for this session
        return super()._joined(event)

    def _admits(self, node: str) -> bool:
        return self._in_time(node) and super()._admits(node)

    def _invite(self, node: str) -> List[Action]:
        return super()._invite(node) if node in self.cohort or self._in_time(node) else []

    def _in_time(self, node: str) -> bool:
        """Whether this attempt could still take a node that was not asked yet."""
        return self.step == KEYS or (self.step == ENCRYPTED and node in self.members)

    def _arrived(self, event: Arrived) -> List[Action]:
        if not self.accepts_step(event.node, event.round, event.step, event.attempt):
            return []
        self.arrived[event.node] = (event.digest, event.weight)
        if event.prepared:
            (self.keyed if event.step == MASKED else self.prepared).add(event.node)
        if event.foreseen:
            self.foreseen.add(event.node)
        return self._progress(event.at)

    def _abstained(self, event: Abstained) -> List[Action]:
        if self.phase != COLLECTING or (event.round, event.attempt) != (self.round, self.attempt):
            return []
        if event.node not in self.cohort or event.node in self.arrived:
            return []
        self.abstained[event.node] = event.reason
        self.cohort = tuple(node for node in self.cohort if node != event.node)
        return self._progress(event.at)

    def _aggregated(self, event: Aggregated) -> List[Action]:
        if self.summed:
            self.skipped = 0
        return super()._aggregated(event)

    def _progress(self, at: float) -> List[Action]:
        if self.phase != COLLECTING:
            return super()._progress(at)
        if len(self.arrived) >= self.needed and not self._awaited():
            return self._close_step(at)
        if len(self.cohort) < self.needed and self.step not in JOINING_STEPS:
            return self._give_up(at)  # waiting would not help
        return []

    def _ticked(self, event: Ticked) -> List[Action]:
        if self.phase != COLLECTING or event.at < self.deadline:
            return super()._ticked(event)
        if len(self.arrived) >= self.needed:
            return self._close_step(event.at)
        return self._give_up(event.at)

    def _open_round(self, number: int, at: float) -> List[Action]:
        self.phase, self.round, self.attempt, self.given_up = COLLECTING, number, 1, 0
        chosen = self._rule().choose(number, self._rested(self._eligible()), self.last_selected)
        ready = self.prepared == self.keyed == set(chosen) and len(chosen) >= max(self.plan.quorum, self.plan.least)
        if not ready or self._sparse(len(chosen)):
            return self._begin_attempt(at)
        self.attempt, self.summed, self.parties, self.abstained = PREPARED, (), len(chosen), {}
        self._enlist_only(chosen)
        return self._begin_step(MASKED, chosen, at)

    def _sparse(self, parties: int) -> bool:
        """Whether of so many not all are neighbours."""
        return 0 < self.plan.all_neighbours < parties

    @property
    def _bounded(self) -> bool:
        """Whether nodes answer only so many attempts at a round as the task has."""
        return bool(self.plan.key_holder) or self._sparse(max(self.parties, len(self.online)))

    def _enlist_only(self, nodes: Tuple[str, ...]) -> None:
        self.cohort = ()
        self._enlist(nodes)

    def _begin_attempt(self, at: float) -> List[Action]:
        self.summed, self.parties, self.abstained = (), 0, {}
        return self._begin_step(self.plan.steps[0], (), at)

    def _begin_step(self, step: str, passed: Tuple[str, ...], at: float) -> List[Action]:
        self.step, self.arrived, self.cohort = step, {}, ()
        if step in (self.plan.steps[0], MASKED):
            self.keyed, self.prepared, self.foreseen, self.expected = set(), set(), set(), passed
        if step in _OF_KEY_HOLDER:
            self.cohort = (self.plan.key_holder,)
            if step == CONTEXT:
                self.members = set(self.known)
        elif step in JOINING_STEPS:
            candidates = self._rested(self._eligible())
            if step == ENCRYPTED:
                candidates &= self.members
            self._enlist(self._rule().choose(self.round, candidates, self.last_selected))
        else:
            self.cohort = passed
        self.deadline = at + self.plan.deadline_s
        return [self._announce(self.cohort), Wake(self.deadline)]

    def _announce(self, nodes: Tuple[str, ...]) -> Announce:
        return Announce(self.round, nodes, self.step, self.attempt)

    def _close_step(self, at: float) -> List[Action]:
        passed = tuple(sorted(self.arrived))
        if self.step in (KEYS, REVEAL):
            self.parties = len(passed)
        if self.step in VECTOR_STEPS:
            self.summed = passed
        if self.step == self.plan.steps[-1]:
            return self._close_round()
        if self.step == KEYS and self._sparse(self.parties):
            return self._begin_step(REVEAL, passed, at)
        following = self.plan.steps[self.plan.steps.index(KEYS if self.step == REVEAL else self.step) + 1]
        if following == CONFIRM and self.foreseen == set(passed) == set(self.expected):
            following = UNMASK
        return self._begin_step(following, passed, at)

    def _close_round(self) -> List[Action]:
        self.phase = AGGREGATING
        return [Aggregate(self.round, self.summed, self.attempt)]

    @property
    def _has_updates(self) -> bool:
        return bool(self.summed)

    def _nothing_moved(self) -> str:
        why = f"; the last round was skipped: {self.skip_reason}" if self.skip_reason else ""
        return f"{super()._nothing_moved()}{why}"

    def lacking(self) -> int:
        if self.phase != COLLECTING:
            return 0
        if self._opening or self.attempt - self.given_up >= self.plan.attempts:
            return super().lacking()
        # Short of answers to this step it would be attempted again, with all who are here then.
        least = max(self.plan.quorum, self.plan.least) - len(self._rested(self._eligible()))
        holder = bool(self.plan.key_holder) and self.plan.key_holder not in self.online
        return max(0, least, int(holder))

    def _may_answer(self) -> Set[str]:
        return set(self._awaited())

    @property
    def _opening(self) -> bool:
        """Whether somebody may know the sum by now. On a sparse graph few may open one, so confirming it counts as well."""
        return self.step in OPENING_STEPS or (self.step == CONFIRM and self._sparse(self.parties))

    def _give_up(self, at: float) -> List[Action]:
        missing = self._names("; no answer from ", self._awaited(all_of_cohort=True), "")
        abstained = "".join(f"; {node} abstained: {reason}" for node, reason in sorted(self.abstained.items()))
        here = f"{len(self.arrived)} of {self.needed} answers needed to step {self.step!r}"
        reason = f"{here}{missing}{abstained}{self._refusals()}"
        # A key holder that abstains says that it opened nothing, and will not; its silence says neither. On a sparse graph a node
        # that has confirmed a sum is in no other sum of the round.
        if self._opening and self.plan.key_holder not in self.abstained:
            return self._skip(reason)
        if self.attempt - self.given_up >= self.plan.attempts:
            final = self._bounded and self.plan.stages.of(self.round) == STATISTICS
            return self._fail(f"round {self.round}, attempt {self.attempt}: {reason}", final)
        self.attempt += 1
        return self._begin_attempt(at)

    def _skip(self, reason: str) -> List[Action]:
        self.skipped += 1
        self.summed, self.skip_reason = (), reason
        if (
            self.plan.stages.of(self.round) == STATISTICS
        ):  # nodes open one sum of a round, and without this one there is no next round
            return self._fail(f"round {self.round}: its sum cannot be opened: {reason}", final=True)
        if self.skipped >= self.plan.attempts:
            self.phase = AGGREGATING  # begun again, it goes on after this round
            return self._fail(f"round {self.round}: its sum cannot be opened: {reason}")
        return self._close_round()
