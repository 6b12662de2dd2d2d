"""One MQTT connection as a queue of events: paho-mqtt underneath, no callbacks above.

Everything that happens (connected, disconnected, a message) arrives in `events`, so that the owner has one loop, one
thread and one order of things. Reconnecting is paho's work; subscriptions are renewed on every connect.

Memory: of what `source` has to send, at most WINDOW messages are with the broker unacknowledged; of what came and nobody
has read, at most EVENT_BYTES are in memory, the rest waits on disk. While the owner computes, the link goes on.
"""

import contextlib
import logging
import math
import queue
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Iterable, List, Optional, Protocol, Tuple, Union

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from orchestrator.errors import NoBrokerError, WireError
from orchestrator.wire.address import Address, client_id, tcp_bytes, tls_context
from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.frames import CHUNK_BYTES
from orchestrator.wire.spill import Piece, Spill

log = logging.getLogger("edgeward.link")

KEEPALIVE_S = 20
WINDOW = 8
"""Messages of `source` that may be on their way to the broker at a time: 2 MiB of chunks."""

EVENT_BYTES = 8 << 20
"""Payload of unread messages that is kept in memory."""

SMALL_BYTES = 4096
"""Payloads up to this size always stay in memory, MOST_SMALL_BYTES of them at most."""

MOST_SMALL_BYTES = 16 << 20

DISK_BYTES = 2 << 30
"""What of unread messages waits on disk. Whatever is beyond these limits is dropped: its sender will send it again."""

MOST_TOPIC = 512
"""Characters of a topic; Edgeward's own have 300 at most, and MQTT lets 65,535 pass a filter."""

_SMALL_COSTS = 256
"""Bytes of memory that a message takes besides its payload."""

_DROPPED_OF = 1000
"""One in how many dropped messages is logged."""

_REMEDY = "Start one there, name another with --broker, or let the gateway run its own with --broker embedded"


@dataclass(frozen=True)
class Connected:
    """The broker accepted us; subscriptions are renewed."""


@dataclass(frozen=True)
class Disconnected:
    reason: str
    refused: bool = False  # by the broker, which will not change its mind


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    retained: bool = field(default=False, compare=False)
    """Whether the broker had kept it from before. Of a payload that waited on disk it is not known."""


Event = Union[Connected, Disconnected, Message]


@dataclass(frozen=True)
class _Spilled:
    topic: str
    pieces: Tuple[Piece, ...]


class EventQueue(queue.Queue):  # type: ignore[type-arg]  # not subscriptable in Python 3.8
    """A queue of events whose large payloads wait on disk once EVENT_BYTES of them are in memory."""

    def _init(self, maxsize: int) -> None:
        self.queue: Deque[Union[Event, _Spilled]] = deque()
        self._bytes = self._small = self.dropped = 0
        self._spill = Spill(most_bytes=DISK_BYTES)

    def put_back(self, item: Event) -> None:
        """The first of all again: what came meanwhile came later."""
        with self.mutex:
            if isinstance(item, Message) and len(item.payload) <= SMALL_BYTES:
                self._small += len(item.payload) + _SMALL_COSTS
            elif isinstance(item, Message):
                self._bytes += len(item.payload)
            self.queue.appendleft(item)
            self.not_empty.notify()

    def _put(self, item: Event) -> None:
        if isinstance(item, Message) and len(item.topic) > MOST_TOPIC:
            self._drop(Message(f"{item.topic[:80]}...", b""), "a name as long as that is not one of Edgeward's topics")
        elif isinstance(item, Message) and len(item.payload) <= SMALL_BYTES:
            if self._small >= MOST_SMALL_BYTES:
                self._drop(item, "too many messages wait to be read")
                return
            self._small += len(item.payload) + _SMALL_COSTS
            self.queue.append(item)
        elif isinstance(item, Message) and self._bytes + len(item.payload) > EVENT_BYTES:
            self._put_on_disk(item)
        else:
            self._bytes += len(item.payload) if isinstance(item, Message) else 0
            self.queue.append(item)

    def _put_on_disk(self, message: Message) -> None:
        pieces: List[Piece] = []
        view = memoryview(message.payload)
        try:
            for start in range(0, len(view), CHUNK_BYTES):
                pieces.append(self._spill.put(view[start : start + CHUNK_BYTES]))
        except WireError as error:  # its sender will send it again
            self._spill.free(pieces)
            self._drop(message, str(error))
            return
        self.queue.append(_Spilled(message.topic, tuple(pieces)))

    def _drop(self, message: Message, why: str) -> None:
        self.dropped += 1
        if self.dropped % _DROPPED_OF == 1:
            log.warning("dropped a message on %s: %s (the %d.)", message.topic, why, self.dropped)

    def _get(self) -> Event:
        item = self.queue.popleft()
        if isinstance(item, _Spilled):
            payload = self._spill.read(item.pieces)
            self._spill.free(item.pieces)
            return Message(item.topic, payload)
        if isinstance(item, Message) and len(item.payload) > SMALL_BYTES:
            self._bytes -= len(item.payload)
        elif isinstance(item, Message):
            self._small -= len(item.payload) + _SMALL_COSTS
        return item


Source = Callable[[float], Optional[Tuple[str, bytes]]]
"""Given the monotonic time, the next (topic, payload) to publish, or None. Called from two threads."""

GoOn = Callable[[str], bool]
"""Given why the last try to connect failed: whether to try again."""


class Connection(Protocol):
    """What a party needs of its way to the others; see `Link` for each of these. The other one is wire/post.py's."""

    events: EventQueue
    client_id: str

    @property
    def address(self) -> "Broker": ...
    def open(self, timeout_s: Optional[float], go_on: GoOn = ...) -> None: ...
    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None: ...
    def subscribe(self, topic: str) -> None: ...
    def send_from(self, source: Source) -> None: ...
    def pump(self) -> None: ...
    def flush(self, timeout_s: float) -> bool: ...
    def close(self) -> None: ...
    def socket_bytes(self) -> Tuple[int, int]: ...


class Broker(Protocol):
    """Where parties meet: a broker's address, or a post within this process. As text it is what a person is shown."""

    @property
    def username(self) -> Optional[str]: ...
    @property
    def clock(self) -> Clock: ...
    def link(
        self, client_id: str, subscriptions: Iterable[str], will: Optional[Tuple[str, bytes]] = None
    ) -> Connection: ...


@dataclass(frozen=True)
class BrokerAddress(Address):
    """To which links are made."""

    def link(self, client_id: str, subscriptions: Iterable[str], will: Optional[Tuple[str, bytes]] = None) -> "Link":
        """A connection to this broker that is not open yet. `client_id`: see the function of this name."""
        return Link(self, client_id, subscriptions, will)

    @property
    def clock(self) -> Clock:
        """Over a network time passes as it does."""
        return SYSTEM


class Link:
    """A connection to the broker that stays up by itself."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        subscriptions: Iterable[str],
        will: Optional[Tuple[str, bytes]] = None,
    ) -> None:
        self.address, self.client_id = address, client_id
        self.events = EventQueue()
        self._subscriptions: List[Tuple[str, int]] = [(topic, 1) for topic in subscriptions]
        self._counted = (0, 0)  # bytes of sockets that are closed
        self._last = (0, 0)  # bytes of the open socket, as last read
        self._counter_lock = threading.Lock()
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv311, clean_session=True
        )
        client.max_inflight_messages_set(64)
        client.max_queued_messages_set(0)
        client.reconnect_delay_set(1, 5)
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.tls:
            client.tls_set_context(tls_context(address))
        if will is not None:
            client.will_set(will[0], will[1], qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        self.client = client
        self._closing = False
        self._published = 0
        self._acknowledged = 0  # by the broker; written by paho's thread only
        self._window_lock = threading.Lock()
        self._source: Source = lambda now: None
        self._drained = True

    def open(self, timeout_s: Optional[float], go_on: GoOn = lambda reason: True) -> None:
        """Connects, trying until `timeout_s` is over (None: as long as it takes); raises BrokerError saying why it did not work.

        `go_on` is asked between tries, with why the last one failed.
        """
        reason = self._try_connect(math.inf if timeout_s is None else timeout_s, go_on)
        if reason:
            self.close()
            raise NoBrokerError(self.address, reason, _REMEDY)

    def _try_connect(self, timeout_s: float, go_on: GoOn) -> str:
        """Empty once it is connected: `Connected` is the first event then, and what others put there meanwhile follows."""
        deadline = time.monotonic() + timeout_s
        reason = "no answer"
        meanwhile: List[Event] = []
        while True:
            try:
                self.client.connect(self.address.host, self.address.port, keepalive=KEEPALIVE_S)
                break
            except OSError as error:
                reason = str(error)
                if time.monotonic() > deadline or not go_on(reason):
                    return reason
                time.sleep(0.1)
        self.client.loop_start()
        reason = "it accepted the connection but did not answer MQTT's CONNECT"
        while True:
            try:
                event = self.events.get(timeout=min(1.0, max(0.1, deadline - time.monotonic())))
            except queue.Empty:
                if time.monotonic() > deadline or not go_on(reason):
                    return reason
                continue
            if isinstance(event, Connected):
                for other in (*reversed(meanwhile), event):
                    self.events.put_back(other)
                return ""
            if not isinstance(event, Disconnected):
                meanwhile.append(event)
            else:  # it may have died between the two; paho keeps trying
                reason = event.reason
                if event.refused:
                    return reason

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Queues a message at QoS 1; it goes out now, or after the reconnect."""
        with self._window_lock:
            self._published += 1
        self.client.publish(topic, payload, qos=1, retain=retain)

    def subscribe(self, topic: str) -> None:
        """From now on also hears this, and again after each reconnect."""
        if (topic, 1) not in self._subscriptions:
            self._subscriptions.append((topic, 1))
            self.client.subscribe(topic, 1)

    def send_from(self, source: Source) -> None:
        """From now on also sends what `source` has, as fast as the broker acknowledges; see `pump`."""
        self._source = source

    def pump(self) -> None:
        """Sends what the source has while there is room in the window; the rest follows by itself."""
        while True:
            # paho's locks are acquired by `publish`, and held when paho calls us: never call paho under our own lock.
            with self._window_lock:
                if self._published - self._acknowledged >= WINDOW:
                    self._drained = False
                    return
                outgoing = self._source(time.monotonic())
                if outgoing is None:
                    self._drained = True
                    return
                self._published += 1
            self.client.publish(outgoing[0], outgoing[1], qos=1)

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything published was handed to the broker; False if that took longer."""
        self.pump()
        deadline = time.monotonic() + timeout_s
        while not self._flushed() and time.monotonic() < deadline:
            time.sleep(0.005)
        return self._flushed()

    @property
    def unacknowledged(self) -> int:
        """Messages published and not yet with the broker."""
        return self._published - self._acknowledged

    def _flushed(self) -> bool:
        return self._drained and self._acknowledged >= self._published

    def close(self) -> None:
        self._closing = True
        self._sample_socket()
        self.client.disconnect()
        self.client.loop_stop()

    def socket_bytes(self) -> Tuple[int, int]:
        """(sent, received) bytes over all of this link's TCP connections: MQTT, acknowledgements and TLS included."""
        self._sample_socket()
        with self._counter_lock:
            return self._counted[0] + self._last[0], self._counted[1] + self._last[1]

    def _sample_socket(self) -> None:
        sock = self.client.socket()
        if sock is None:
            return
        with contextlib.suppress(OSError):  # closed between the two lines: the last reading stands
            counts = tcp_bytes(sock)
            with self._counter_lock:
                self._last = counts

    @staticmethod
    def _on_socket_open(client: Any, userdata: Any, sock: Any) -> None:
        # Small messages that follow one another would each wait for the broker's delayed acknowledgement, 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_socket_close(self, client: Any, userdata: Any, sock: Any) -> None:
        with contextlib.suppress(OSError):
            self._last = tcp_bytes(sock)
        with self._counter_lock:
            self._counted = (self._counted[0] + self._last[0], self._counted[1] + self._last[1])
            self._last = (0, 0)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self.events.put(Disconnected(f"the broker refused: {reason}", refused=True))
            return
        if self._subscriptions:
            client.subscribe(self._subscriptions)
        self.events.put(Connected())

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not self._closing:
            self.events.put(Disconnected(_in_words(reason)))

    def _on_publish(self, client: Any, userdata: Any, mid: Any, reason: Any, properties: Any) -> None:
        with self._window_lock:
            self._acknowledged += 1
            more = not self._drained
        if more:
            self.pump()

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self.events.put(Message(message.topic, message.payload, bool(message.retain)))


def _in_words(reason: Any) -> str:
    """paho has no name for a connection that simply ended."""
    return "the connection ended" if str(reason) == "Unspecified error" else str(reason)


def check_reachable(address: BrokerAddress, timeout_s: float) -> None:
    """Connects once and leaves; raises BrokerError saying why that did not work."""
    link = Link(address, client_id("check"), [])
    link.open(timeout_s)
    link.close()
