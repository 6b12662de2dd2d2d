"""One MQTT connection as a queue of events: paho-mqtt underneath, no callbacks above.

Everything that happens (connected, disconnected, a message) arrives in `events`, so that the owner has one loop, one
thread and one order of things. Reconnecting is paho's work; subscriptions are renewed on every connect.

Memory: of what `source` has to send, at most WINDOW messages are with the broker unacknowledged; of what came and nobody
has read, at most EVENT_BYTES are in memory, the rest waits on disk. While the owner computes, the link goes on.
"""

import contextlib
import hashlib
import logging
import math
import os
import queue
import secrets
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterable, List, Optional, Protocol, Tuple
from urllib.parse import SplitResult, parse_qs, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from orchestrator.errors import BrokerError, NoBrokerError, UsageError
from orchestrator.wire.bounds import host_name, near
from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.event_queue import Connected, Disconnected, Event, EventQueue, Message
from orchestrator.wire.pem import authorities
from orchestrator.wire.plain import plain
from orchestrator.wire.secrets_file import read_secret

log = logging.getLogger("edgeward.link")

KEEPALIVE_S = 20
WINDOW = 8
"""Messages of `source` that may be on their way to the broker at a time: 2 MiB of chunks."""


_REMEDY = "Start one there, name another with --broker, or let the gateway run its own with --broker embedded"

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
class BrokerAddress:
    """`mqtt://[user[:password]@]host[:port][?password_file=/path]`, or `mqtts://` for TLS with the system's or a given CA."""

    host: str
    port: int
    tls: bool = False
    username: Optional[str] = None
    password: Optional[str] = None
    ca_file: Optional[str] = None
    cert_file: Optional[str] = None
    key_file: Optional[str] = None

    def secured(self, ca_file: str, cert_file: str, key_file: str) -> "BrokerAddress":
        """The same place over TLS, with a certificate of our own."""
        return replace(self, tls=True, ca_file=ca_file, cert_file=cert_file, key_file=key_file)

    @classmethod
    def parse(cls, url: str, ca_file: Optional[str] = None) -> "BrokerAddress":
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise UsageError(f"broker address {url!r}: {error}") from error
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or host_name("host", parts.hostname):
            meant = near(parts.scheme, ("mqtt", "mqtts")) if parts.scheme not in ("mqtt", "mqtts") else ""
            raise UsageError(f"broker address {url!r}: expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]{meant}")
        tls = parts.scheme == "mqtts"
        password = _password(parts)
        check_ca(ca_file)
        return cls(parts.hostname, port or (8883 if tls else 1883), tls, parts.username, password, ca_file)

    def link(self, client_id: str, subscriptions: Iterable[str], will: Optional[Tuple[str, bytes]] = None) -> "Link":
        """A connection to this broker that is not open yet. `client_id`: see the function of this name."""
        return Link(self, client_id, subscriptions, will)

    @property
    def clock(self) -> Clock:
        """Over a network time passes as it does."""
        return SYSTEM

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def check_ca(ca_file: Optional[str]) -> None:
    """Raises UsageError where a file, if one is named, has no certificate (PEM) to check a broker's by."""
    if ca_file is not None:
        authorities(Path(ca_file))


def _password(parts: SplitResult) -> Optional[str]:
    """The one in the address, or in the file it names; without a scheme the address never gets here."""
    try:
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=1)
    except ValueError as error:
        raise UsageError(f"broker address: after '?' only password_file=/PATH is known: {plain(error)}") from error
    if parts.path.strip("/") or parts.fragment or set(options) - {"password_file"}:
        raise UsageError("broker address: after the port only ?password_file=/PATH is known")
    if not options:
        return parts.password
    (name,) = options["password_file"]
    if parts.username is None or parts.password is not None or not os.path.isabs(name):
        raise UsageError("broker address: password_file goes with a user and no password, and is a whole path: /...")
    return read_secret(name, "password of the broker")


def client_id(what: str, secret: Optional[bytes] = None) -> str:
    """A name for a connection that nobody else can guess: who connects under a name in use throws its owner out.

    With a secret of the owner's it is the same every time, so that the broker ends what is left of the connection before.
    """
    unknown = secrets.token_hex(8) if secret is None else hashlib.sha256(b"client" + secret).hexdigest()[:16]
    return f"edgeward-{what}-{unknown}"


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
            client.tls_set_context(_tls_context(address))
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


def _tls_context(address: BrokerAddress) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if address.cert_file is not None:
            context.load_cert_chain(address.cert_file, address.key_file)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(filter(None, (address.ca_file, address.cert_file, address.key_file)))
        raise BrokerError(f"{address}: these certificates and keys cannot be used: {files}: {error}") from error
    return context


def check_reachable(address: BrokerAddress, timeout_s: float) -> None:
    """Connects once and leaves; raises BrokerError saying why that did not work."""
    link = Link(address, client_id("check"), [])
    link.open(timeout_s)
    link.close()


def tcp_bytes(sock: Any) -> Tuple[int, int]:
    """(sent and acknowledged, received) payload bytes of a TCP socket, from Linux's `struct tcp_info`.

    Offsets of tcpi_bytes_acked and tcpi_bytes_received: 120 and 128 (linux/tcp.h, since Linux 4.1).
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    if len(info) < 136:
        return 0, 0
    acked, received = struct.unpack_from("=QQ", info, 120)
    return acked, received
