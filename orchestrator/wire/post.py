"""A broker within this process: parties of one federation exchange the messages they would exchange over MQTT.

For simulation, and for tests of whole federations: nothing listens on a port and there is no thread. Topics, wildcards,
retained messages, wills and the order of messages are as MQTT has them (OASIS MQTT 3.1.1, sections 3.1.2.5, 3.3.1.3 and 4.7).
"""

from typing import Dict, Iterable, List, Optional, Tuple

from orchestrator.errors import BrokerError
from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.link import Connected, Disconnected, EventQueue, GoOn, Message, Source


class Post:
    """Where the links of one process meet; it takes the place of a `BrokerAddress`. All who meet there go by its clock."""

    username: Optional[str] = None

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.clock = clock
        self._links: List[PostLink] = []  # those that are open
        self._retained: Dict[str, bytes] = {}

    def __str__(self) -> str:
        return "this process"

    def link(
        self, client_id: str, subscriptions: Iterable[str], will: Optional[Tuple[str, bytes]] = None
    ) -> "PostLink":
        """A link that is not open yet."""
        return PostLink(self, client_id, tuple(subscriptions), will)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Puts a message into the queue of everyone who reads this topic, its sender included."""
        if retain and payload:
            self._retained[topic] = payload
        elif retain:
            self._retained.pop(topic, None)
        for link in list(self._links):
            link.deliver(topic, payload)

    def enter(self, link: "PostLink") -> None:
        """A link opens; one of the same name that is open loses its connection, as at any broker."""
        for other in [other for other in self._links if other.client_id == link.client_id]:
            self.cut(other.client_id, "another connection has this name")
        self._links.append(link)
        link.events.put(Connected())
        self.show_retained(link, "#")

    def show_retained(self, link: "PostLink", pattern: str) -> None:
        """Puts what is retained on topics of this pattern into a link's queue, as far as it reads them."""
        for topic, payload in list(self._retained.items()):
            if reads(pattern, topic):
                link.deliver(topic, payload)

    def leave(self, link: "PostLink") -> None:
        """A link closes as it should: its will is not published."""
        if link in self._links:
            self._links.remove(link)

    def cut(self, client_id: str, reason: str = "the connection was cut") -> None:
        """Ends a connection as a crash or a lost network would: its will is published. BrokerError for one that is not open."""
        for link in self._links:
            if link.client_id == client_id:
                self._links.remove(link)
                link.events.put(Disconnected(reason))
                if link.will is not None:
                    self.publish(*link.will, retain=True)
                return
        raise BrokerError(f"no open connection is named {client_id!r}")


class PostLink:
    """One party's end: what `wire.link.Link` is over MQTT."""

    def __init__(
        self, post: Post, client_id: str, subscriptions: Tuple[str, ...], will: Optional[Tuple[str, bytes]]
    ) -> None:
        self.address = post
        self.client_id, self.will = client_id, will
        self.events = EventQueue()
        self._post, self._subscriptions = post, subscriptions
        self._source: Source = lambda now: None
        self._bytes = [0, 0]  # payload sent and received

    def open(self, timeout_s: Optional[float], go_on: GoOn = lambda reason: True) -> None:
        """Connects; this broker is always here, so the time is not needed."""
        self._post.enter(self)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Sends a message now."""
        self._bytes[0] += len(payload)
        self._post.publish(topic, payload, retain)

    def subscribe(self, topic: str) -> None:
        """From now on also hears this."""
        if topic not in self._subscriptions:
            self._subscriptions = (*self._subscriptions, topic)
            self._post.show_retained(self, topic)

    def send_from(self, source: Source) -> None:
        """From now on `pump` also sends what `source` has."""
        self._source = source

    def pump(self) -> None:
        """Sends all that the source has."""
        while True:
            outgoing = self._source(self.address.clock.monotonic())
            if outgoing is None:
                return
            self.publish(*outgoing)

    def flush(self, timeout_s: float) -> bool:
        """Everything is handed over at once."""
        self.pump()
        return True

    @property
    def unacknowledged(self) -> int:
        """Nothing waits here."""
        return 0

    def close(self) -> None:
        self._post.leave(self)

    def socket_bytes(self) -> Tuple[int, int]:
        """(sent, received) bytes of payload: there is no socket, and nothing round the payload."""
        return self._bytes[0], self._bytes[1]

    def deliver(self, topic: str, payload: bytes) -> None:
        """Puts a message into the queue if this link reads its topic."""
        if any(reads(pattern, topic) for pattern in self._subscriptions):
            self._bytes[1] += len(payload)
            self.events.put(Message(topic, payload))


def reads(pattern: str, topic: str) -> bool:
    """Whether a subscription to `pattern` receives what is published on `topic`."""
    wanted, parts = pattern.split("/"), topic.split("/")
    if parts[0].startswith("$") and wanted[0] in ("#", "+"):
        return False
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        if len(parts) < len(wanted):
            return False
        parts = parts[: len(wanted)]
    return len(wanted) == len(parts) and all(w in ("+", part) for w, part in zip(wanted, parts))
