"""Looks round at a broker: who announces itself there, in which federation, speaking which version of the protocol.

For those whose other side does not answer. It has a connection of its own, which only listens, so that a broker which ends
it for what it subscribes to, as some do, disturbs nothing else. Where the broker gives everybody their own topics only, as with
an identity, it hears what its certificate may read. What it hears anybody may have written: it is good for a hint to a person,
and nothing else follows from it.
"""

import logging
import queue
from typing import Any, Dict, List, NamedTuple, Sequence

from orchestrator.errors import BrokerError, WireError
from orchestrator.wire.body import PRESENCE_BYTES, decode_body
from orchestrator.wire.cbor import NARROW
from orchestrator.wire.link import Broker, Disconnected, Message
from orchestrator.wire.presence import BESIDE
from orchestrator.wire.topics import PROTOCOL, Announced, announced

log = logging.getLogger("edgeward.link")

OPEN_S = 5.0
MOST_LOST = 3
"""Connections that may be lost before it gives up."""

MOST_SEEN = 1000
"""Presences that are remembered; on a public broker there may be any number."""


class Presence(NamedTuple):
    """kind: as in its message; empty where that is of another version, or cannot be read. identity: see Gateway.presence."""

    who: Announced
    kind: str
    identity: bool


class Lookout:
    """A connection to `broker` that remembers the last presence of everyone on `topics`."""

    def __init__(self, broker: Broker, client_id: str, topics: Sequence[str]) -> None:
        self._link = broker.link(client_id, topics)
        self._lost = 0
        self._seen: Dict[Announced, Presence] = {}
        self.open = False

    def connect(self) -> None:
        """Goes without, and says so in the log, where the broker does not let it in."""
        try:
            self._link.open(OPEN_S)
        except BrokerError as error:
            log.info("cannot look round at %s: %s", self._link.address, error)
            return
        self.open = True

    def close(self) -> None:
        if self.open:
            self.open = False
            self._link.close()

    def look(self) -> List[Presence]:
        """Everyone who is here now, gateways first, then by name."""
        while self.open:
            try:
                event = self._link.events.get_nowait()
            except queue.Empty:
                break
            if isinstance(event, Message):
                self._heard(event)
            elif isinstance(event, Disconnected):
                self._lost += 1
                if self._lost >= MOST_LOST:
                    log.info("gave up looking round at %s: %s", self._link.address, event.reason)
                    self.close()
        return sorted(self._seen.values(), key=lambda seen: (bool(seen.who.node), seen.who))

    def _heard(self, message: Message) -> None:
        who = announced(message.topic)
        if who is None:
            return
        header = _header(message.payload) if who.protocol == PROTOCOL else {}
        kind = header.get("kind")
        if kind in BESIDE:
            return
        if kind == "gone" or not message.payload:
            self._seen.pop(who, None)
        elif who in self._seen or len(self._seen) < MOST_SEEN:
            known = kind if isinstance(kind, str) else ""
            self._seen[who] = Presence(who, known, header.get("identity") is True)


def _header(payload: bytes) -> Dict[str, Any]:
    try:
        return decode_body(payload, PRESENCE_BYTES, NARROW)[0]
    except WireError:
        return {}
