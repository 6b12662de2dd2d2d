"""Nodes at the gateway's broker that announce themselves to another federation, which no gateway there serves.

Most often their owner left out --federation, and both sides wait for each other. Nodes whose federation has a gateway at
the broker are where they belong and are not named; nor are more than a few of the others.
"""

from typing import List, Set

from orchestrator.gateway.course import Course
from orchestrator.rounds.state import GATHERING
from orchestrator.wire.link import Broker
from orchestrator.wire.lookout import Lookout, Presence
from orchestrator.wire.topics import ANY_GATEWAY, ANY_NODE, PROTOCOL

LOOK_AFTER_S = 2.0
"""Before it looks round, and again before it speaks: by then the broker has shown gateways as well."""

MOST_NAMED = 20


class Strays:
    """Of one gateway that gathers nodes; `found` is asked now and then, until `close`."""

    def __init__(self, broker: Broker, federation: str, client_id: str) -> None:
        self._lookout = Lookout(broker, f"{client_id}-search", [ANY_GATEWAY, ANY_NODE])
        self._federation, self._clock = federation, broker.clock
        self._due = self._clock.monotonic() + LOOK_AFTER_S
        self._looks = self._over = False
        self._named: Set[str] = set()

    def look_for(self, course: Course) -> None:
        """Tells a run's gateway of them, as long as it gathers its nodes."""
        if course.coordinator.phase != GATHERING:
            self.close()
            return
        for presence in self.found():
            who = presence.who
            course.tell("stray", node=who.node, federation=who.federation, protocol=who.protocol, own=self._federation)

    def found(self) -> List[Presence]:
        """Those that were not found before."""
        now = self._clock.monotonic()
        if self._over or now < self._due:
            return []
        if not self._looks:
            self._looks, self._due = True, now + LOOK_AFTER_S
            self._lookout.connect()
            return []
        seen = self._lookout.look()
        served = {presence.who.federation for presence in seen if not presence.who.node} | {self._federation}
        new = [p for p in seen if p.who.node and self._stray(p, served) and str(p.who) not in self._named]
        new = new[: MOST_NAMED - len(self._named)]
        self._named |= {str(presence.who) for presence in new}
        return new

    def _stray(self, presence: Presence, served: Set[str]) -> bool:
        if presence.who.protocol != PROTOCOL:
            return presence.who.federation == self._federation or presence.who.federation not in served
        return presence.kind == "hello" and presence.who.federation not in served

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._lookout.close()
