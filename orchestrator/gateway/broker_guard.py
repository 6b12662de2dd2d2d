"""What stands between strangers and the embedded broker: limits on what a connection sends, holds and leaves unread.

Every packet is read and checked whole before amqtt sees it; amqtt gets connections through its interface for servers of one's
own (`external_connected`). A client that breaks a rule loses its connection, and costs no more than that.
"""

import asyncio
import logging
import socket
import time
from contextlib import suppress
from typing import Dict, Optional, Set, Tuple

from amqtt.broker import Broker, BrokerContext
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BasePlugin
from amqtt.session import Session

from orchestrator.gateway.doorkeeper import Doorkeeper, GuardedSocket
from orchestrator.gateway.guarded_connection import CLOSE_S, Connection
from orchestrator.gateway.mqtt_packets import (
    PacketError,
)
from orchestrator.wire.plain import plain

log = logging.getLogger("edgeward.broker")

MOST_CONNECTIONS = 500
MOST_HELD_BYTES = 64 << 20
"""What one connection may have to read, or to acknowledge: what does not fit is dropped, and sent again by who sent it."""
MOST_HELD_IN_ALL_BYTES = 256 << 20
MOST_RETAINED, MOST_RETAINED_IN_ALL_BYTES = 2000, 32 << 20
MOST_FILTERS_IN_ALL = 2000
"""amqtt compares each message with each of them."""
CONNECTS_A_SECOND = 50.0
"""amqtt takes milliseconds for each, in which it does nothing else."""
_ANSWER_BYTES = 64
"""What says that a request was heard is no longer than that, and always has room: a client gives up without it."""
LOOK_S = 1.0
"""How often connections are looked at, and how long one may take nothing before it gives way."""
_HELD_UP_S = 5.0


class Guard:
    """Of one broker. Everything runs in the event loop's thread."""

    def __init__(self, broker: "RetainingBroker") -> None:
        self._broker = broker
        self._doorkeeper = Doorkeeper(most=MOST_CONNECTIONS, answers_end=False)
        self.connections: Set[Connection] = set()  # all that are open
        self.named: Dict[str, Connection] = {}  # by the name that they gave
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
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
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
            self.connections.discard(connection)
            self.held -= connection.held
            if self.named.get(connection.name) is connection:
                del self.named[connection.name]

    async def _take_over(self, connection: "Connection") -> None:
        """Ends the connection of the same name first (section 3.1.4), which amqtt would keep, deaf, beside this one."""
        before = self.named.get(connection.name)
        self.named[connection.name] = connection
        if before is not None:
            before.end()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(before.over.wait(), CLOSE_S)

    def passed_on(self, name: str) -> None:
        """A message of the client of this name went to its receivers."""
        if name in self.named:
            self.named[name].passed_on()

    async def _in_turn(self) -> None:
        """So that those who only connect and go take a part of the time alone."""
        now = time.monotonic()
        self._next_connect = max(now, self._next_connect + 1 / CONNECTS_A_SECOND)
        await asyncio.sleep(self._next_connect - now)

    async def _look(self) -> None:
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            now, before = time.monotonic(), looked_at
            looked_at = now
            try:
                self._look_once(now, now - before)
            except Exception as error:  # or no rule would hold from then on
                log.error("looking after the connections failed with %s: %s", type(error).__name__, plain(error, 200))

    def _look_once(self, now: float, elapsed_s: float) -> None:
        if elapsed_s > _HELD_UP_S:  # this process stood still: what came meanwhile was not read
            for connection in self.connections:
                connection.excuse(elapsed_s)
            return
        self._doorkeeper.look()
        for connection in list(self.connections):
            reason = connection.objection(now)
            if reason:
                log.warning("a client %s; its connection ends", reason)
                connection.end()
        if self._doorkeeper.refused > self._refused:
            self._refused = self._doorkeeper.refused
            log.warning("%d connections are open, which is all there may be: others are refused", len(self.connections))

    def room_for_filters(self, asking: "Connection") -> bool:
        """Whether `asking` may have the filters it asked for; who has the most, and more than it, is ended for that.

        There is room for more of every connection than a client of ours has: strangers keep none of them out.
        """
        if len(self._broker.subscriptions) <= MOST_FILTERS_IN_ALL:
            return True
        most = max(self.connections, key=lambda connection: connection.filters)
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
        here = {*self.named, name}
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

    def room_for(self, size: int, holder: "Connection") -> bool:
        """Whether `holder` may hold so many bytes more; who has been deaf the longest is ended for it where that helps."""
        if size > _ANSWER_BYTES and holder.held + size > MOST_HELD_BYTES:
            return False
        while self.held + size > MOST_HELD_IN_ALL_BYTES:
            for connection in self.connections:
                connection.count()
            worst = min((c for c in self.connections if c.held), key=lambda c: c.took_at, default=holder)
            if time.monotonic() - worst.took_at < LOOK_S:
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
