"""What happens on a connection, as a queue whose large payloads wait on disk."""

import logging
import queue
from collections import deque
from dataclasses import dataclass, field
from typing import Deque, List, Tuple, Union

from orchestrator.errors import WireError
from orchestrator.wire.frames import CHUNK_BYTES
from orchestrator.wire.spill import Piece, Spill

log = logging.getLogger("edgeward.link")

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
