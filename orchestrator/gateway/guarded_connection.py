"""One client of the embedded broker: its packets checked before amqtt sees them, and what it holds counted."""

import asyncio
import io
import secrets
import time
from contextlib import suppress
from typing import Dict, Optional, Protocol, Set, Tuple

from amqtt.adapters import ReaderAdapter, WriterAdapter

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

MOST_PACKET_BYTES = 2 * CHUNK_BYTES
"""A part of a body with its topic is a little over one CHUNK_BYTES."""

MOST_CONNECT_BYTES = 80 << 10

PACKET_S = 20.0
"""A packet that has begun is whole by then."""

MOST_UNDER_WAY = 8
"""Messages of one connection that are read and not yet passed on."""

DEAF_S = 10.0
"""How long a connection may hold something and read, or acknowledge, nothing of it."""

CLOSE_S = 5.0


class Room(Protocol):
    """What the connections of one broker share, and who of them makes room for others."""

    held: int

    def retain(self, topic: str, size: int, name: str) -> None: ...

    def room_for(self, size: int, holder: "Connection") -> bool: ...

    def room_for_filters(self, asking: "Connection") -> bool: ...


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


class Connection(WriterAdapter):
    """One client: what it sent, what it holds, and when it last did something."""

    def __init__(self, room: Room, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._room, self._reader, self._transport = room, reader, writer.transport
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
            self._room.retain(packet.will_topic, packet.will_bytes, self.name)
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
            self._room.retain(packet.topic, packet.retained_bytes, self.name)
        elif isinstance(packet, Acknowledge):
            self._acknowledged(packet.number)
        elif isinstance(packet, Subscribe):
            self._filters |= set(packet.filters)
            if len(self._filters) > MOST_FILTERS or not self._room.room_for_filters(self):
                raise PacketError("more filters than there is room for")

    # To the client

    def write(self, data: bytes) -> None:
        """One whole packet."""
        if self._transport.is_closing():
            raise ConnectionResetError("this connection was ended")
        self.count()
        if not self._room.room_for(len(data), self):
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
        asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

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
        self._room.held += self.held - before
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
