"""A party's session with its gateway: one connection, one loop; what comes is checked here, and what it means is the party's.

A message is believed only if the gateway signed it, where there are identities, and unpacked only as far as its kind may need.
"""

import hashlib
import logging
import math
import queue
from abc import ABC, abstractmethod
from typing import Any, Dict, Optional

import numpy as np

from orchestrator.errors import BrokerError, EdgewardError, UsageError, WireError
from orchestrator.node.freshness import Guard
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.intake import MAX_MESSAGE_BYTES
from orchestrator.node.opening import OUT_OF_MEMORY, milestones
from orchestrator.node.presence import Presence
from orchestrator.node.search import GatewaySearch
from orchestrator.node.store import NodeStore
from orchestrator.node.tasks import GATEWAY
from orchestrator.rounds.steps import ACKNOWLEDGED_STEPS
from orchestrator.wire.address import client_id
from orchestrator.wire.announcing import Kinded, NameTaken
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.frames import Ack, Chunk, Want, decode_frame, encode_frame
from orchestrator.wire.link import Broker, Connected, Disconnected, Event
from orchestrator.wire.presence import Gone, MessageRefused
from orchestrator.wire.process import forget_start, keep_buffers
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Inbox, Outbox

log = logging.getLogger("edgeward.node")

SAY_EVERY_S = 30.0
"""How often a node that waits for its broker says so."""

_MOST_REFUSALS_SAID = 100
"""In the log one by one; from then on one a second at most."""


class Beside:
    """What else goes on over a session's connection: nothing, or what takes the place of this."""

    def take(self, topic: str, payload: bytes) -> None:
        """A message on another topic than the gateway's: amqtt hands retained presence to those who did not ask for it."""

    def again(self) -> None:
        """The broker is back."""

    def step(self, connected: bool) -> None:
        """No message waits."""

    def wait_s(self) -> float:
        """Until `step` is due."""
        return 0.5


class Session(ABC):
    """Of a node, a key holder, or a relay's upper half. `presence` is the party's to make, once there is a link."""

    presence: Presence

    def __init__(
        self, broker: Broker, federation: str, name: str, store: NodeStore, identity: Optional[NodeIdentity]
    ) -> None:
        self.topics, self._clock = Topics(federation), broker.clock
        self._federation, self.name = federation, name
        self._guard = None if identity is None else Guard(identity.opener(), store)
        self._refusal_at = self._said_at = -SAY_EVERY_S
        self._refusals = 0
        self.outbox = Outbox()
        self._send = self.outbox.to(GATEWAY, self.topics.up(name), self._clock)
        self._inbox = Inbox(MAX_MESSAGE_BYTES)
        self.stopping = self._connected = False
        # Of this state folder: another node under this name is another one, for the broker as well.
        self.instance = hashlib.sha256(b"instance" + store.secret("instance")).hexdigest()[:16]
        self._taken = False
        gone = encode_body(Gone(name, self.instance).written())
        client = client_id(f"{federation}-{name}", store.secret("client"))
        self._search = GatewaySearch(broker, federation, name, client, identity is not None)
        self.link = broker.link(
            client,
            [self.topics.all_nodes, self.topics.down(name)],
            will=(self.topics.presence(name), gone),
        )
        self.link.send_from(self.outbox.next)
        self._gone = gone
        self._beside = Beside()

    @abstractmethod
    def _take(self, kind: str, transfer: bytes, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        """Acts on a message; WireError for one of a kind, or with content, that makes no sense."""

    @abstractmethod
    def _most_unpacked(self, header: Dict[str, Any]) -> int:
        """Bytes a message with this header may have, unpacked."""

    @abstractmethod
    def _drop_answers(self) -> None:
        """The gateway has the answers to the step before: they need not be sent again."""

    @abstractmethod
    def _idle(self) -> None:
        """No message waits: what there is to do meanwhile."""

    @abstractmethod
    def _work_waits(self) -> bool:
        """Whether there is such work, so that waiting for a message is no use."""

    @abstractmethod
    def _close(self) -> None:
        """The session is over: what it kept open is closed."""

    def run(self, connect_timeout_s: Optional[float] = 30.0) -> None:
        """Connects and serves; returns after `stop`. Raises BrokerError if the broker never answers; None: waits for it."""
        try:
            self.begin(connect_timeout_s)
        except BrokerError:
            if self.stopping:
                return
            raise
        forget_start(new_peak=True)
        keep_buffers()
        try:
            while not self.stopping:
                self.step()
        finally:
            self.close()
        if self._taken:
            raise UsageError(
                f"another node is here as {self.name!r} and goes on: names are for one node each, start this one with another "
                "--name (with an identity: enrol it under another); if the other is this node with another state folder, stop it"
            )

    def begin(self, connect_timeout_s: Optional[float] = 30.0) -> None:
        """Connects; then `step` until `stopping`, and `close`."""
        self.link.open(connect_timeout_s, self._waits)
        milestones.info("connected to %s as %s", self.link.address, self.name)

    def close(self) -> None:
        """Leaves the broker, and says so there unless another node has this name; what the party kept open is closed."""
        if not self._taken:
            self.link.publish(self.topics.presence(self.name), self._gone, retain=True)
        self.link.flush(2.0)
        self.link.close()
        self._search.close()
        self._close()

    def _waits(self, reason: str) -> bool:
        """Says now and then that there is no broker yet; False once this node was asked to stop."""
        if self._clock.monotonic() >= self._said_at + SAY_EVERY_S:
            self._said_at = self._clock.monotonic()
            log.warning("no MQTT broker at %s yet (%s); waiting for it", self.link.address, reason)
        return not self.stopping

    def stop(self) -> None:
        self.stopping = True

    def step(self, longest_s: float = math.inf) -> None:
        """One message, or what is due when none comes for as long as nothing is due, at most `longest_s`."""
        self.link.pump()
        try:
            self._clock.wait(self.link.events, self._clock.monotonic() + min(self.wait_s(), longest_s))
            self._handle(self.link.events.get_nowait())
        except queue.Empty:
            self.outbox.due(self._clock.monotonic())
            self.presence.report_health()
            if self._search.step() and self._connected:  # once it is again, it is announced anyway
                self.presence.announce()
            self._beside.step(self._connected)
            self._idle()
        except WireError as error:
            self._refuse("a message", error)
        except MemoryError:  # how large a message is, and what it takes to read it, is the gateway's choice
            self._refuse("a message", EdgewardError(OUT_OF_MEMORY))

    def wait_s(self) -> float:
        """Seconds until something is due though no message comes."""
        if self._work_waits():
            return 0.0
        waits, due = min(0.5, self._beside.wait_s()), self.outbox.next_due()
        return max(0.0, waits if due is None else min(waits, due - self._clock.monotonic()))

    def _refuse(self, what: str, error: EdgewardError) -> None:
        """Says why here, and that to the gateway; there at most once a second, and here, too, where there are many."""
        due = self._clock.monotonic() >= self._refusal_at
        self._refusals += 1
        if due or self._refusals <= _MOST_REFUSALS_SAID:
            log.warning("refused %s: %s", what, error)
        if due:
            self._refusal_at = self._clock.monotonic() + 1.0
            body = encode_body(MessageRefused(self.name, error.code).written())
            self.link.publish(self.topics.presence(self.name), body)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Connected):
            self._connected = True
            self.presence.announce()
            self.outbox.retry_now(self._clock.monotonic())
            self._beside.again()
            return
        if isinstance(event, Disconnected):
            self._connected = False
            log.warning("lost the broker (%s); reconnecting", event.reason)
            return
        if event.topic not in (self.topics.all_nodes, self.topics.down(self.name)):
            self._beside.take(event.topic, event.payload)
            return
        frame = decode_frame(event.payload)
        if event.topic != self.topics.all_nodes:
            self._search.heard()
        if isinstance(frame, Ack):
            self.outbox.acknowledged(GATEWAY, frame)
        elif isinstance(frame, Want):
            self.outbox.wanted(GATEWAY, frame, self._clock.monotonic())
        else:
            self._receive(frame)

    def _receive(self, chunk: Chunk) -> None:
        body, answer = self._inbox.feed(GATEWAY, chunk)
        if answer is not None:
            self.link.publish(self.topics.up(self.name), encode_frame(answer))
        if body is None:
            return
        # Acknowledged on receipt: whatever is lost with this process is announced again when it comes back.
        received = self._inbox.finish(GATEWAY, chunk.id)
        try:
            opened = None if self._guard is None else self._guard.open(body)
            header, tensors = decode_body(body if opened is None else opened.content, self._most_unpacked)
        except WireError:
            self.link.publish(self.topics.up(self.name), encode_frame(received))
            raise
        if self._guard is not None and opened is not None:
            self._guard.admit(header, opened.serial)
        kind = Kinded.read(header).kind
        if kind == "step":
            self._drop_answers()  # the gateway has them, or it would not ask for the next
        if (
            kind != "step" or header.get("step") in ACKNOWLEDGED_STEPS
        ):  # the answers to other steps come at once, and say it too
            self.link.publish(self.topics.up(self.name), encode_frame(received))
        if kind == "taken":
            self._name_taken(NameTaken.read(header).instance)
        else:
            self._take(kind, chunk.id, header, tensors)

    def _name_taken(self, refused: str) -> None:
        """A second node came under this name. Where it is this one, it ends; the first says again that it is here."""
        if refused == self.instance:
            self._taken = True
            self.stop()
        elif self._clock.monotonic() >= self.presence.said_at + 1.0:
            log.error("another node calls itself %s: the gateway refused it", self.name)
            self.presence.announce()
