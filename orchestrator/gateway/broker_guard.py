"""What stands between strangers and the embedded broker: limits on what a connection sends, holds and leaves unread.

Every packet is read and checked whole before amqtt sees it; amqtt gets connections through its interface for servers of one's
own (`external_connected`). A client that breaks a rule loses its connection, and costs no more than that.
"""

import asyncio
import io
import logging
import secrets
import socket
import time
from contextlib import suppress
from typing import Dict, Optional, Set, Tuple

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker, BrokerContext
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BasePlugin
from amqtt.session import Session

from orchestrator.gateway.doorkeeper import Doorkeeper, GuardedSocket
from orchestrator.gateway.mqtt_packets import (
    CONNECT,
    MOST_FILTERS,
    PUBLISH,
    Acknowledge,
    Connect,
    Packet,
    PacketError,
    Publish,
    Subscribe,
    identifier,
    named,
    read_packet,
)
from orchestrator.wire.frames import CHUNK_BYTES
from orchestrator.wire.plain import plain

log = logging.getLogger("edgeward.broker")

MOST_CONNECTIONS = 500
MOST_PACKET_BYTES = 2 * CHUNK_BYTES
"""A part of a body with its topic is a little over one CHUNK_BYTES."""
MOST_CONNECT_BYTES = 80 << 10
PACKET_S = 20.0
"""A packet that has begun is whole by then."""
MOST_UNDER_WAY = 8
"""Messages of one connection that are read and not yet passed on."""
MOST_HELD_BYTES = 64 << 20
"""What one connection may have to read, or to acknowledge: what does not fit is dropped, and sent again by who sent it."""
MOST_HELD_IN_ALL_BYTES = 256 << 20
DEAF_S = 10.0
"""How long a connection may hold something and read, or acknowledge, nothing of it."""
MOST_RETAINED, MOST_RETAINED_IN_ALL_BYTES = 2000, 32 << 20
MOST_FILTERS_IN_ALL = 2000
"""amqtt compares each message with each of them."""
CONNECTS_A_SECOND = 50.0
"""amqtt takes milliseconds for each, in which it does nothing else."""
_ANSWER_BYTES = 64
"""What says that a request was heard is no longer than that, and always has room: a client gives up without it."""
_LOOK_S = 1.0
_HELD_UP_S = 5.0
_CLOSE_S = 5.0


class Guard:
    """Of one broker. Everything runs in the event loop's thread."""

    def __init__(self, broker: "RetainingBroker") -> None:
        self._broker = broker
        self._doorkeeper = Doorkeeper(most=MOST_CONNECTIONS, answers_end=False)
        self._open: Set[_Connection] = set()
        self._named: Dict[str, _Connection] = {}
        self.held = 0
        """Bytes that all clients together have to read or to acknowledge."""
        self._retained: Dict[str, Tuple[int, str]] = {}  # topic -> bytes, name of the client; the oldest first
        self._next_connect = 0.0
        self._server: Optional[asyncio.AbstractServer] = None
        self._looking: Optional[asyncio.Task[None]] = None
        self._refused = 0

    async def start(self, listening: socket.socket) -> None:
        guarded = GuardedSocket.around(listening, self._doorkeeper)
        self._server = await asyncio.start_server(self._serve, sock=guarded)
        self._looking = asyncio.create_task(self._look())

    def close(self) -> None:
        assert self._server is not None
        assert self._looking is not None
        self._server.close()
        self._looking.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._open.add(connection)
        try:
            await connection.admit()
            self._doorkeeper.asks(connection.peer)
            await self._in_turn()
            await self._take_over(connection)
            pump = asyncio.create_task(connection.pump())
            try:
                await self._broker.external_connected(connection.reading, connection, "default")
            finally:
                pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump
        except PacketError as error:
            log.warning("a client sent %s; its connection ends", plain(error, 200))
        except (OSError, asyncio.IncompleteReadError) as error:  # it went by itself, or was ended: then that was said
            log.debug("a connection ended: %s", plain(error, 200))
        except Exception as error:
            log.error("a connection ended with %s: %s", type(error).__name__, plain(error, 200))
        finally:
            connection.end()
            connection.over.set()
            self._open.discard(connection)
            self.held -= connection.held
            if self._named.get(connection.name) is connection:
                del self._named[connection.name]

    async def _take_over(self, connection: "_Connection") -> None:
        """Ends the connection of the same name first (section 3.1.4), which amqtt would keep, deaf, beside this one."""
        before = self._named.get(connection.name)
        self._named[connection.name] = connection
        if before is not None:
            before.end()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(before.over.wait(), _CLOSE_S)

    def passed_on(self, name: str) -> None:
        """A message of the client of this name went to its receivers."""
        if name in self._named:
            self._named[name].passed_on()

    async def _in_turn(self) -> None:
        """So that those who only connect and go take a part of the time alone."""
        now = time.monotonic()
        self._next_connect = max(now, self._next_connect + 1 / CONNECTS_A_SECOND)
        await asyncio.sleep(self._next_connect - now)

    async def _look(self) -> None:
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            now, before = time.monotonic(), looked_at
            looked_at = now
            try:
                self._look_once(now, now - before)
            except Exception as error:  # or no rule would hold from then on
                log.error("looking after the connections failed with %s: %s", type(error).__name__, plain(error, 200))

    def _look_once(self, now: float, elapsed_s: float) -> None:
        if elapsed_s > _HELD_UP_S:  # this process stood still: what came meanwhile was not read
            for connection in self._open:
                connection.excuse(elapsed_s)
            return
        self._doorkeeper.look()
        for connection in list(self._open):
            reason = connection.objection(now)
            if reason:
                log.warning("a client %s; its connection ends", reason)
                connection.end()
        if self._doorkeeper.refused > self._refused:
            self._refused = self._doorkeeper.refused
            log.warning("%d connections are open, which is all there may be: others are refused", len(self._open))

    def room_for_filters(self, asking: "_Connection") -> bool:
        """Whether `asking` may have the filters it asked for; who has the most, and more than it, is ended for that.

        There is room for more of every connection than a client of ours has: strangers keep none of them out.
        """
        if len(self._broker.subscriptions) <= MOST_FILTERS_IN_ALL:
            return True
        most = max(self._open, key=lambda connection: connection.filters)
        if most.filters <= asking.filters:
            return False
        log.warning("a client has %d filters, and there is room for no more of all; its connection ends", most.filters)
        most.end()
        return True

    def retain(self, topic: str, size: int, name: str) -> None:
        """Notes a message to retain, of the client `name`. Where there is no room the oldest of clients that are gone makes it,
        else the oldest of the client that has the most; PacketError where that is `name` itself.

        A client of ours retains one message, and there is room for one of every connection: strangers, under however many names,
        keep none of them out and push none of them out.
        """
        here = {*self._named, name}
        others = {other: held for other, held in self._retained.items() if other != topic}
        while size and not self._has_room(others, size):
            left = next((other for other, (_, owner) in others.items() if owner not in here), None)
            if left is not None:
                del others[left]
                self._drop_retained(left)
                continue
            shares: Dict[str, float] = {}
            for held, owner in others.values():
                shares[owner] = shares.get(owner, 0.0) + max(1 / MOST_RETAINED, held / MOST_RETAINED_IN_ALL_BYTES)
            most = max(shares, key=lambda owner: shares[owner])
            if shares.get(name, 0.0) >= shares[most]:
                raise PacketError("more messages to retain than there is room for")
            oldest = next(other for other, (_, owner) in others.items() if owner == most)
            del others[oldest]
            self._drop_retained(oldest)
        self._forget(topic)
        if size:
            self._retained[topic] = size, name

    @staticmethod
    def _has_room(retained: Dict[str, Tuple[int, str]], size: int) -> bool:
        held = sum(size for size, _ in retained.values())
        return len(retained) < MOST_RETAINED and held + size <= MOST_RETAINED_IN_ALL_BYTES

    def _drop_retained(self, topic: str) -> None:
        self._forget(topic)
        self._broker.forget_retained(topic)

    def _forget(self, topic: str) -> None:
        self._retained.pop(topic, None)

    def room_for(self, size: int, holder: "_Connection") -> bool:
        """Whether `holder` may hold so many bytes more; who has been deaf the longest is ended for it where that helps."""
        if size > _ANSWER_BYTES and holder.held + size > MOST_HELD_BYTES:
            return False
        while self.held + size > MOST_HELD_IN_ALL_BYTES:
            for connection in self._open:
                connection.count()
            worst = min((c for c in self._open if c.held), key=lambda c: c.took_at, default=holder)
            if time.monotonic() - worst.took_at < _LOOK_S:
                return False  # all of them read
            log.warning("a client reads nothing of %d bytes; its connection ends", worst.held)
            worst.end()
            if worst is holder:
                return False
        return True


class RetainingBroker(Broker):
    """amqtt shows a new client what is retained for the filters of all others, and compares each with each to find that out."""

    def forget_retained(self, topic: str) -> None:
        self._retained_messages.pop(topic, None)

    async def _publish_retained_messages_for_subscription(
        self, subscription: Tuple[str, int], session: Session
    ) -> None:
        if any(subscriber is session for subscriber, _ in self.subscriptions.get(subscription[0], ())):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class NoticingHandler(BrokerProtocolHandler):
    """amqtt waits for ever for the end of a connection that ended while its handler started."""

    async def start(self) -> None:
        await super().start()
        if self._reader_stopped.is_set():
            await self.handle_connection_closed()


class PassedOn(BasePlugin[BrokerContext]):
    """Tells the guard when amqtt passes a message on."""

    guard: Optional[Guard] = None

    async def on_broker_message_received(self, *, client_id: str, message: object) -> None:
        if self.guard is not None:
            self.guard.passed_on(client_id)


class _Reading(ReaderAdapter):
    """amqtt's end of a connection: bytes of packets that were checked, and of nothing else."""

    def __init__(self) -> None:
        self._packets: asyncio.Queue[bytes] = asyncio.Queue(4)
        self._rest = io.BytesIO()
        self._over = False

    async def hand_over(self, packet: bytes) -> None:
        """An empty one is the end."""
        await self._packets.put(packet)

    async def read(self, n: int = -1) -> bytes:
        data = self._rest.read(n)
        if data or n == 0:
            return data
        if not self._over:
            packet = await self._packets.get()
            self._over = not packet
            self._rest = io.BytesIO(packet)
        return self._rest.read(n)

    def feed_eof(self) -> None:
        self._over = True


class _Connection(WriterAdapter):
    """One client: what it sent, what it holds, and when it last did something."""

    def __init__(self, guard: Guard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guard, self._reader, self._transport = guard, reader, writer.transport
        self.peer = writer.get_extra_info("peername")
        self.reading = _Reading()
        self._keep_alive_s = 0
        self._heard_at = time.monotonic()
        self._began_at: Optional[float] = None  # a packet that is not whole yet
        self._filters: Set[str] = set()
        self._under_way = asyncio.BoundedSemaphore(MOST_UNDER_WAY)
        self._unread = 0
        self._unacknowledged: Dict[int, int] = {}  # packet identifier -> bytes
        self._unacknowledged_bytes = 0
        self.held = 0
        self.took_at = time.monotonic()
        """When it last read or acknowledged something, or had nothing to."""
        self.name = ""
        self.over = asyncio.Event()

    # From the client

    async def admit(self) -> None:
        """Its first packet: PacketError where that is no CONNECT."""
        _, whole, packet = await self._packet(MOST_CONNECT_BYTES, first=True)
        if not isinstance(packet, Connect):
            raise PacketError("a first packet that is no CONNECT")
        self.name, self._keep_alive_s = packet.name, packet.keep_alive_s
        if not packet.name:
            self.name = f"nameless-{secrets.token_hex(8)}"
            whole = named(whole, self.name)
        if packet.will_bytes:
            self._guard.retain(packet.will_topic, packet.will_bytes, self.name)
        await self.reading.hand_over(whole)

    async def pump(self) -> None:
        """Hands what comes to amqtt, no faster than that passes it on."""
        try:
            while True:
                kind, whole, packet = await self._packet(MOST_PACKET_BYTES)
                self._take(packet)
                if kind == PUBLISH:
                    await self._under_way.acquire()
                await self.reading.hand_over(whole)
        finally:
            self._transport.abort()
            await self.reading.hand_over(b"")

    def passed_on(self) -> None:
        """One of its messages went to its receivers, or of the connection that had its name before."""
        with suppress(ValueError):
            self._under_way.release()

    async def _packet(self, most: int, first: bool = False) -> Tuple[int, bytes, Packet]:
        head = await self._reader.readexactly(1)
        self._began_at = time.monotonic()
        kind, flags, size = head[0] >> 4, head[0] & 15, 0
        if first and kind != CONNECT:
            raise PacketError(f"a first packet of type {kind}")
        for digit in range(4):
            head += await self._reader.readexactly(1)
            size |= (head[-1] & 127) << 7 * digit
            if head[-1] < 128:
                break
        else:
            raise PacketError("a length without an end")
        if size > most:
            raise PacketError(f"a packet of {size} bytes, at most {most} are accepted")
        body = await self._reader.readexactly(size)
        self._began_at, self._heard_at = None, time.monotonic()
        return kind, head + body, read_packet(kind, flags, body)

    @property
    def filters(self) -> int:
        """How many it asked for; 0 of one that was ended."""
        return 0 if self._transport.is_closing() else len(self._filters)

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Connect):
            raise PacketError("a second CONNECT")
        if isinstance(packet, Publish) and packet.retained_bytes >= 0:
            self._guard.retain(packet.topic, packet.retained_bytes, self.name)
        elif isinstance(packet, Acknowledge):
            self._acknowledged(packet.number)
        elif isinstance(packet, Subscribe):
            self._filters |= set(packet.filters)
            if len(self._filters) > MOST_FILTERS or not self._guard.room_for_filters(self):
                raise PacketError("more filters than there is room for")

    # To the client

    def write(self, data: bytes) -> None:
        """One whole packet."""
        if self._transport.is_closing():
            raise ConnectionResetError("this connection was ended")
        self.count()
        if not self._guard.room_for(len(data), self):
            return
        self._transport.write(data)
        if data[0] >> 4 == PUBLISH and data[0] & 6:
            number = identifier(data)
            self._unacknowledged_bytes += len(data) - self._unacknowledged.pop(number, 0)
            self._unacknowledged[number] = len(data)
        self.count()

    async def drain(self) -> None:
        """Nothing: what is held is counted where it is written, and amqtt's other work does not wait for a reader."""

    def get_peer_info(self) -> Optional[Tuple[str, int]]:
        return None if self.peer is None else (self.peer[0], self.peer[1])

    def get_ssl_info(self) -> None:
        return None

    async def close(self) -> None:
        """Lets the client read what is under way to it, for a while."""
        self._transport.close()
        asyncio.get_running_loop().call_later(_CLOSE_S, self._transport.abort)

    def end(self) -> None:
        """Nothing is held for it any more."""
        self._transport.abort()
        self._unacknowledged.clear()
        self._unacknowledged_bytes = 0
        self.count()

    def _acknowledged(self, number: int) -> None:
        held = self._unacknowledged.pop(number, 0)
        if held:
            self._unacknowledged_bytes -= held
            self.took_at = time.monotonic()
            self.count()

    def count(self) -> None:
        """What the kernel has accepted of it meanwhile counts as read."""
        unread = self._transport.get_write_buffer_size()
        before, self.held = self.held, unread + self._unacknowledged_bytes
        self._guard.held += self.held - before
        if not self.held or unread < self._unread:
            self.took_at = time.monotonic()
        self._unread = unread

    def excuse(self, seconds: float) -> None:
        """For so long nobody could be heard."""
        self._heard_at += seconds
        self.took_at += seconds
        self._began_at = None if self._began_at is None else self._began_at + seconds

    def objection(self, now: float) -> str:
        """Why this connection is to be ended."""
        self.count()
        if self._began_at is not None and now - self._began_at > PACKET_S:
            return f"sends a packet that is not whole after {PACKET_S:.0f} s"
        if self._keep_alive_s and now - self._heard_at > 1.5 * self._keep_alive_s:
            return f"said nothing for more than one and a half times its {self._keep_alive_s} s"
        if self.held and now - self.took_at > DEAF_S:
            return f"reads, or acknowledges, nothing of {self.held} bytes"
        return ""
