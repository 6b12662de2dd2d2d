"""What a run's events say of each node. Kept when a journal is compacted, so that readers lose nothing they show."""

from dataclasses import dataclass
from typing import Any, Dict, Optional

from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.events import Arrived, Compacted, Declined, Event, Joined, Left, Waits
from orchestrator.rounds.steps import VECTOR_STEPS

ONLINE, LEFT, DECLINED = "online", "left", "declined"


@dataclass
class Member:
    """One node. Times are seconds since 1970, 0 for never; records and units as it stated them last."""

    records: int = 0
    units: int = 0
    state: str = ONLINE
    reason: str = ""  # why it declined
    code: str = ""  # the same for programs
    first_joined: float = 0.0
    joined: float = 0.0  # when it came last
    word: float = 0.0  # when it last came, left or declined
    seen: float = 0.0  # of any event
    updates: int = 0


class Members(Dict[str, Member]):
    """By name. Feed `take` every event in order, each before the coordinator has it."""

    def take(self, event: Event, coordinator: Optional[Coordinator] = None) -> None:
        """Without a coordinator updates are not counted."""
        if isinstance(event, Compacted):
            self.clear()
            self.update({name: Member(**said) for name, said in event.members.items()})
            return
        node = getattr(event, "node", None)
        if node is None or isinstance(event, Waits):  # who waits was never in the run
            return
        member = self.setdefault(node, Member())
        member.seen = event.at
        if isinstance(event, Joined):
            _join(member, event, coordinator is not None and node in coordinator.online)
        elif isinstance(event, Left):
            member.state, member.word = LEFT, event.at
        elif isinstance(event, Declined):
            member.state, member.word = DECLINED, event.at
            member.reason, member.code = event.reason, event.code
        elif isinstance(event, Arrived):
            member.state = ONLINE
            if coordinator is not None:
                member.updates += event.step in VECTOR_STEPS or coordinator.accepts(node, event.round)

    def as_dict(self) -> Dict[str, Dict[str, Any]]:
        return {name: dict(vars(member)) for name, member in self.items()}


def _join(member: Member, event: Joined, here: bool) -> None:
    member.state, member.word = ONLINE, event.at
    member.records, member.units = event.records, event.units or event.records
    member.first_joined = member.first_joined or event.at
    if not here:
        member.joined = event.at
