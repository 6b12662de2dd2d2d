"""The gateway's eye on its broker: whether it passes messages on, small and large; one of our own is started again."""

from typing import Optional, Set

from orchestrator.errors import BrokerError
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.course import Course
from orchestrator.gateway.reach import HELD_UP_S, Reach
from orchestrator.gateway.size_probe import SizeProbe
from orchestrator.rounds.events import Regained
from orchestrator.wire.link import Connection
from orchestrator.wire.topics import Topics


class BrokerWatch:
    """Of one connection. What it notices it tells the run: time in which nobody could answer is on nobody's account."""

    def __init__(self, course: Course, link: Connection, topics: Topics, own_broker: Optional[OwnBroker]) -> None:
        self._course, self._link, self._topics, self._own = course, link, topics, own_broker
        self._probe = SizeProbe()
        self._clock = course.clock
        self._reach = Reach(self._clock.monotonic(), trusted=own_broker is not None)

    @property
    def away(self) -> bool:
        """Whether the broker is out of reach: no deadline runs."""
        return self._reach.away

    def connected(self) -> None:
        self._regained(self._reach.heard(self._clock.monotonic()))
        for payload in self._probe.messages() if self._own is None else []:
            self._link.publish(self._topics.gateway_echo, payload)

    def lost(self, reason: str) -> None:
        self._reach.lost()
        self._probe.lost()
        self._course.tell("broker_lost", reason=reason)

    def heard(self, echo: Optional[bytes] = None) -> None:
        """A message came. echo: what one that the gateway sent itself brought; None for somebody else's."""
        if echo is not None:
            self._probe.heard(echo, self._clock.monotonic())
        self._regained(self._reach.heard(self._clock.monotonic(), echo is not None))

    def quiet(self, expected: float) -> None:
        """Nothing waits to be read, as was expected by the monotonic time `expected`: looks whether the broker passes anything
        on, and whether this process was held up. BrokerError for a broker that cannot carry a model.
        """
        now = self._clock.monotonic()
        if now - expected > HELD_UP_S:
            self._regained(now - expected)
            return
        objection = self._probe.objection(now)
        if objection:
            raise BrokerError(f"the broker at {self._link.address}: {objection}. Then give the same command again")
        if self._reach.gone_silent(now):
            self._course.tell("broker_silent", seconds=self._reach.silent_s(now))
        if self._own is not None and self._reach.stuck(now):
            self._own.restart()
            self._reach.lost()
            self._course.tell("broker_restarted", count=self._own.restarts)
        elif not self._reach.lost_connection and self._reach.due(now):
            self._link.publish(self._topics.gateway_echo, b"")

    def restart_if_dead(self) -> None:
        if self._own is not None and self._own.restart_if_dead():
            self._course.tell("broker_restarted", count=self._own.restarts)

    def end_connections(self) -> None:
        """A broker checks certificates when a connection begins, and never again."""
        if self._own is not None:
            self._own.restart()

    def keep_out(self, nodes: Set[str]) -> None:
        """Of a broker of our own: nodes that are out of the run."""
        if self._own is not None:
            self._own.keep_out(nodes)

    def _regained(self, seconds: float) -> None:
        """After so many seconds in which no node could answer."""
        if seconds:
            self._course.tell("broker_back", seconds=seconds)
            self._course.happen(Regained(self._course.now(), seconds))
