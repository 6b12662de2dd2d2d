"""The state of a run as its coordinator keeps it, and what can be asked of it: who is here, who may answer, what it waits for.

Nothing here changes anything but `_restore`; what events do to the state is in coordinator.py.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Set, Tuple

from orchestrator.rounds.plan import Plan
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.stages import FIRST_ROUND

GATHERING, COLLECTING, AGGREGATING, FINISHED, FAILED = "gathering", "collecting", "aggregating", "finished", "failed"

WAITING = "waiting"
"""Between the rounds of a gateway that serves a higher one: that one says when the next begins."""

_MOST_NAMES = 20
"""Of nodes that wait, in a sentence."""


@dataclass
class RunState:
    """Of one run; plain data beside the plan."""

    plan: Plan
    phase: str = GATHERING
    round: int = -1
    reason: str = ""
    failed_in: str = ""  # the phase a run was in when it failed
    final: bool = False  # whether it failed for good
    again: bool = False  # whether it had failed and goes on
    online: Dict[str, int] = field(default_factory=dict)  # node -> records
    declined: Dict[str, str] = field(default_factory=dict)  # node -> reason
    objections: Dict[str, str] = field(default_factory=dict)  # node -> why it may not be selected now
    waits: Dict[str, str] = field(default_factory=dict)  # node that announced itself, and cannot take part yet -> why
    cohort: Tuple[str, ...] = ()
    arrived: Dict[str, Tuple[str, float]] = field(default_factory=dict)  # node -> (digest, weight)
    busy: Dict[str, int] = field(default_factory=dict)  # buffered: node -> round announced to it, not answered yet
    answered: Dict[str, int] = field(default_factory=dict)  # buffered: node -> the newest round it answered
    last_selected: Dict[str, int] = field(default_factory=dict)  # node -> round
    attempt: int = 0
    deadline: float = 0.0
    stopped: bool = False  # no further training round: good enough
    wanted: int = -1  # the newest round a higher gateway began
    moved: int = 0  # training rounds with an update in them
    unusable: int = 0  # answers of nodes that could not be used

    def snapshot(self) -> Dict[str, Any]:
        """The state as plain data that JSON has: with it a `Compacted` stands for all events so far."""
        state = {name: value for name, value in vars(self).items() if name != "plan"}
        return {name: sorted(value) if isinstance(value, set) else value for name, value in state.items()}

    def _restore(self, state: Dict[str, Any]) -> None:
        """To what `snapshot` gave; lists become again what they were."""
        state = {"moved": 1, **state}  # earlier versions did not count: such a run is not known to have moved nothing
        for name, value in state.items():
            kind = type(getattr(self, name))
            setattr(self, name, kind(value) if kind in (tuple, set) else dict(value) if kind is dict else value)
        self.arrived = {node: (digest, weight) for node, (digest, weight) in self.arrived.items()}

    @property
    def over(self) -> bool:
        return self.phase in (FINISHED, FAILED)

    @property
    def buffering(self) -> bool:
        """Whether the open round is one that ends with its quorum-th update."""
        return self.plan.buffered and self.plan.trains(self.round)

    def accepts_step(self, node: str, round_number: int, step: str, attempt: int) -> bool:
        """Whether a node's answer to a step is waited for; rounds without secure sums have no steps."""
        return False

    def accepts(self, node: str, round_number: int) -> bool:
        """Whether an update of this node for this round would count: the gateway asks before it stores one."""
        if self.phase != COLLECTING or node in self.arrived:
            return False
        if self.buffering and self.plan.trains(round_number):
            return self.answered.get(node, FIRST_ROUND) < round_number <= self.round
        return round_number == self.round

    @property
    def needed(self) -> int:
        """Updates the open round cannot do without. A Poisson sample may be smaller than the quorum, even empty."""
        if self.plan.rule.samples and self.plan.trains(self.round):
            return min(self.plan.quorum, len(self.cohort))
        return self.plan.quorum

    # Who

    def _rule(self) -> Rule:
        """Selection is for training rounds; statistics and the last evaluation are everybody's."""
        return self.plan.rule if self.plan.trains(self.round) else Rule()

    def _eligible(self) -> Set[str]:
        return set(self.online) - set(self.objections) - {self.plan.key_holder}

    def _rested(self, nodes: Iterable[str]) -> Set[str]:
        """Those whose last training round is this one, or long enough ago to be asked in it."""
        if self.plan.separation <= 1 or not self.plan.trains(self.round):
            return set(nodes)
        latest = self.round - self.plan.separation
        return {node for node in nodes if not latest < self.last_selected.get(node, latest) < self.round}

    def _awaited(self, all_of_cohort: bool = False) -> Tuple[str, ...]:
        """Cohort members without an update that are online (or all of them)."""
        waiting: Set[str] = set(self.cohort) - set(self.arrived) - set(self.declined)
        return tuple(sorted(n for n in waiting if all_of_cohort or n in self.online))

    def _admits(self, node: str) -> bool:
        """Whether a node that comes while a round is open may be in it."""
        return node in self._rested(self._eligible()) and self._rule().admits(self.round, node, len(self.cohort))

    def _may_answer(self) -> Set[str]:
        """Nodes that are here and were asked, or would be at the next announcement."""
        if self.buffering:
            return set(self.online) - {self.plan.key_holder}
        here = set(self._awaited())
        if not self._rule().samples and self.attempt < self.plan.attempts:
            here |= self._rested(self._eligible())
        return here

    def lacking(self) -> int:
        """How many answers the open round is short of even if every node that is here answers; 0 while it can succeed.

        A node that comes back, or another one that joins, may still change that.
        """
        if self.phase != COLLECTING:
            return 0
        return max(0, self.needed - len(set(self.arrived) | self._may_answer()))

    def _here(self, nodes: int) -> bool:
        return len(self._eligible()) >= nodes and (not self.plan.key_holder or self.plan.key_holder in self.online)

    def _hopeless(self) -> bool:
        """Whether those that declined leave fewer than the run needs, however long it waits.

        Who says with how many a run begins also says by `nodes` how many there are; without, others may come instead.
        """
        if self.plan.key_holder in self.declined:
            return True
        if not self.plan.minimum_nodes:
            return False
        refused = set(self.declined) - {self.plan.key_holder}
        known = len((set(self.online) | set(self.declined)) - {self.plan.key_holder})
        return max(self.plan.nodes, known) - len(refused) < self.plan.least_nodes

    @property
    def _has_updates(self) -> bool:
        """Whether the round that was aggregated has an update in it."""
        return bool(self.arrived)

    # In words for an operator

    def waits_for(self) -> str:
        """What the run cannot go on without, in words for its operator."""
        if self.phase == GATHERING:
            lacking = self.plan.nodes - len(self._eligible())
            after = f"; with {self.plan.least_nodes} it begins after {self.plan.gather_s:g} s"
            more = f"{lacking} more of {self.plan.nodes} nodes" if lacking > 0 else f"{self.plan.nodes} nodes"
            return f"{more}{self._lacking_key_holder()}{after if self.plan.minimum_nodes else ''}{self._waiting()}"
        if self.phase == COLLECTING:
            missing = self._awaited(all_of_cohort=True)
            return f"answers of round {self.round}{self._names(' from ', missing, '')}"
        if self.phase == WAITING:
            return "the next round of the higher gateway"
        return "nothing"

    def _wanted_nodes(self) -> str:
        least = self.plan.least_nodes
        return f"{self.plan.nodes}" if least == self.plan.nodes else f"{self.plan.nodes} (at least {least})"

    def _lacking_key_holder(self) -> str:
        lacks = self.plan.key_holder and self.plan.key_holder not in self.online
        return f", and not the key holder {self.plan.key_holder}" if lacks else ""

    def _nothing_moved(self) -> str:
        """Why there is no model to make of the run."""
        unusable = f"; {self.unusable} answers of nodes could not be used: the log says why" if self.unusable else ""
        never = self.plan.rule.samples and not self.last_selected
        drawn = "; nobody was drawn: raise selection.sampling_rate" if never else ""
        return (
            f"no update counted in any training round, so the weights are those the run began with and no model is made of them"
            f"{unusable}{drawn}{self._refusals()}"
        )

    def _refusals(self) -> str:
        reasons = [f"; {node} declined: {reason}" for node, reason in sorted(self.declined.items())]
        reasons += [f"; {node} was passed over: {reason}" for node, reason in sorted(self.objections.items())]
        return "".join(reasons) + self._waiting()

    def _waiting(self) -> str:
        """Who is here and cannot take part yet, by reason."""
        by_reason: Dict[str, List[str]] = {}
        for node, reason in sorted(self.waits.items()):
            by_reason.setdefault(reason, []).append(node)
        found = []
        for reason, nodes in sorted(by_reason.items()):
            more = f" and {len(nodes) - _MOST_NAMES} more" if len(nodes) > _MOST_NAMES else ""
            do = "announced itself and waits" if len(nodes) == 1 else "announced themselves, and each waits"
            found.append(f"; {', '.join(nodes[:_MOST_NAMES])}{more} {do}: {reason}")
        return "".join(found)

    @staticmethod
    def _names(before: str, names: Iterable[str], after: str) -> str:
        listed = ", ".join(names)
        return f"{before}{listed}{after}" if listed else ""
