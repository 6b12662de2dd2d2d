"""What a node says to its owner while no gateway answers it: whom it sees at the broker, and why that is not its gateway.

It says so in the node's log and goes on waiting. It joins nothing by itself: which federation a node belongs to is its
owner's to say, even where the broker shows one gateway only. Names are all that is used of what other gateways announce.
"""

import logging
from typing import List, Optional, Set

from orchestrator.wire.link import Broker
from orchestrator.wire.lookout import Lookout, Presence
from orchestrator.wire.presence import WATCHING
from orchestrator.wire.topics import ANY_GATEWAY, PROTOCOL

log = logging.getLogger("edgeward.node")

QUIET_S = 2.0
"""Without a word of the gateway, before the node looks round, and then before it says that it found no gateway."""

ANSWER_S = 6.0
"""For the gateway that is here to answer."""

REPEAT_S, SELDOM_S = 5.0, 300.0
"""Between two announcements of a node that was not heard, at first and at most, doubled each time: amqtt can lose a retained
message while its reader subscribes. A gateway that refuses this node does not answer, either.
"""

MOST_SAID = 10
"""Lines about other gateways."""


class GatewaySearch:
    """Of one node; `step` is called now and then until the gateway was heard."""

    def __init__(self, broker: Broker, federation: str, name: str, client_id: str, identity: bool) -> None:
        self._broker, self._federation, self._name, self._identity = broker, federation, name, identity
        self._lookout = Lookout(broker, f"{client_id}-search", [ANY_GATEWAY])
        self._began: Optional[float] = None
        self._looks_since = 0.0
        self._here_since: Optional[float] = None
        self._repeat_at, self._repeat_s = 0.0, REPEAT_S
        self._said: Set[str] = set()
        self._over = False

    def step(self) -> bool:
        """Says what is new; whether the node is to announce itself again. Does nothing once the gateway was heard."""
        if self._over:
            return False
        now = self._broker.clock.monotonic()
        if self._began is None:
            self._began, self._repeat_at = now, now + REPEAT_S
        self._look(now)
        due = now >= self._repeat_at
        if due:
            self._repeat_s = min(2 * self._repeat_s, SELDOM_S)
            self._repeat_at = now + self._repeat_s
        return due

    def _look(self, now: float) -> None:
        assert self._began is not None
        if not self._looks_since:
            if now >= self._began + QUIET_S:
                self._looks_since = now
                self._lookout.connect()
            return
        seen = self._lookout.look()
        for presence in seen:
            objection = self._objection(presence)
            if objection and len(self._said) < MOST_SAID:
                self._say(objection)
        self._look_for_own(seen, now)

    def heard(self) -> None:
        """A message of the gateway came: there is nothing left to look for."""
        if not self._over:
            self._over = True
            self._lookout.close()

    close = heard

    def _look_for_own(self, seen: List[Presence], now: float) -> None:
        own = [p for p in seen if p.who.federation == self._federation and p.who.protocol == PROTOCOL]
        if not own:
            self._here_since = None
            if now >= self._looks_since + QUIET_S:
                self._say(f"no gateway of federation {self._federation!r} is at {self._where()} yet; waiting for it")
            return
        if all(presence.kind == WATCHING for presence in own):
            self._here_since = None
            self._say(
                f"the gateway of federation {self._federation!r} is at {self._where()} and trains nothing now: it waits for "
                "boards to report drift; waiting for its next training"
            )
        elif self._here_since is None:
            self._here_since = now
        elif now >= self._here_since + ANSWER_S:
            self._say(
                f"the gateway of federation {self._federation!r} is at {self._where()} and does not answer {self._name!r}: it "
                "prints whether it refuses this node (not invited, or revoked); if it does not name it, the broker keeps what "
                "one of the two writes from the other: check the broker's rights; waiting"
            )

    def _objection(self, presence: Presence) -> str:
        """Why a gateway that is here is not this node's; empty where it may be."""
        who = presence.who
        if who.protocol != PROTOCOL:
            return (
                f"the gateway of federation {who.federation!r} at {self._where()} speaks protocol {who.protocol}, this node "
                f"protocol {PROTOCOL}: update the older side"
            )
        if who.federation != self._federation:
            how = (
                f"enrol it there (its gateway's owner types: edgeward gateway invite {self._name})"
                if self._identity or presence.identity
                else f"start it with --federation {who.federation}"
            )
            return (
                f"a gateway of federation {who.federation!r} is at {self._where()}, and this node is of {self._federation!r}: if "
                f"it is to join that one, {how}"
            )
        if presence.identity and not self._identity:
            return (
                f"the gateway of federation {who.federation!r} hears enrolled nodes only, and this one has no --identity: its "
                f"owner types `edgeward gateway invite {self._name}`, you type `edgeward node enroll` with the token"
            )
        if self._identity and not presence.identity:
            return (
                f"the gateway of federation {who.federation!r} signs nothing, so this node, which has an --identity, accepts "
                "nothing from it: name the identity in its edgeward.toml, or find out who runs a gateway under that name"
            )
        return ""

    def _where(self) -> str:
        user = self._broker.username
        return f"{self._broker} as user {user!r}" if user else str(self._broker)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)
