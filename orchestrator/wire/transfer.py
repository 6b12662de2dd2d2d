"""Reliable transfers over a lossy bus: chunks out, acknowledgements back, resends until acknowledged.

Neither class knows MQTT or the clock: bytes and times come in, (topic, payload) pairs and finished bodies go out.
A broker that loses its queue costs a resend, never a result.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Set, Tuple

from orchestrator.errors import WireError
from orchestrator.wire.frames import CHUNK_BYTES, MAX_WANTED, Ack, Chunk, Frame, Want, encode_frame, split

Outgoing = List[Tuple[str, bytes]]
"""(topic, MQTT payload) pairs to publish."""


def transfer_id(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


@dataclass
class _Pending:
    body: bytes
    topic: str
    resend_topics: Dict[str, str]  # receiver -> its own topic
    waiting: Set[str]
    resend_at: float
    interval_s: float


class Outbox:
    """Transfers that some receiver has not acknowledged yet."""

    def __init__(self, resend_after_s: float = 5.0, max_interval_s: float = 60.0) -> None:
        self._resend_after_s = resend_after_s
        self._max_interval_s = max_interval_s
        self._pending: Dict[bytes, _Pending] = {}

    def send(self, body: bytes, topic: str, receivers: Dict[str, str], now: float) -> Outgoing:
        """Starts a transfer on `topic`; `receivers` maps each one expected to acknowledge to its own topic for resends.

        Sending a body again while it is pending adds the receivers to it.
        """
        key = transfer_id(body)
        pending = self._pending.get(key)
        if pending is None:
            # A large transfer takes time to cross the link and be checked: wait for it in proportion (1 MB/s).
            interval = self._resend_after_s + len(body) / 1e6
            self._pending[key] = _Pending(body, topic, dict(receivers), set(receivers), now + interval, interval)
        else:
            pending.resend_topics.update(receivers)
            pending.waiting.update(receivers)
        return [(topic, encode_frame(chunk)) for chunk in split(key, body)]

    def acknowledged(self, receiver: str, frame: Ack) -> bool:
        """Notes an acknowledgement; True when it was the receiver's first one for this transfer."""
        pending = self._pending.get(frame.id)
        if pending is None or receiver not in pending.waiting:
            return False
        pending.waiting.discard(receiver)
        if not pending.waiting:
            del self._pending[frame.id]
        return True

    def wanted(self, receiver: str, frame: Want, now: float) -> Outgoing:
        """The chunks a receiver asked for, on its own topic; nothing for transfers we no longer hold."""
        pending = self._pending.get(frame.id)
        if pending is None or receiver not in pending.waiting:
            return []
        pending.resend_at = now + pending.interval_s
        chunks = split(frame.id, pending.body)
        topic = pending.resend_topics[receiver]
        return [(topic, encode_frame(chunks[i])) for i in frame.missing if i < len(chunks)]

    def forget(self, receiver: str) -> None:
        """Stops waiting for a receiver that left."""
        for key in [k for k, p in self._pending.items() if receiver in p.waiting]:
            self.acknowledged(receiver, Ack(key))

    def drop(self, body_id: bytes) -> None:
        """Gives a transfer up, for instance one of a round that is over."""
        self._pending.pop(body_id, None)

    def due(self, now: float) -> Outgoing:
        """First chunks of the transfers whose acknowledgement is overdue: the receiver answers with Ack or Want."""
        out: Outgoing = []
        for key, pending in self._pending.items():
            if now < pending.resend_at:
                continue
            pending.interval_s = min(2 * pending.interval_s, self._max_interval_s)
            pending.resend_at = now + pending.interval_s
            first = encode_frame(split(key, pending.body)[0])
            out.extend((pending.resend_topics[receiver], first) for receiver in sorted(pending.waiting))
        return out

    def hurry(self, now: float) -> None:
        """After a reconnect: everything unacknowledged is due at once."""
        for pending in self._pending.values():
            pending.resend_at = now

    def next_due(self) -> Optional[float]:
        return min((p.resend_at for p in self._pending.values()), default=None)

    def pending(self) -> int:
        return len(self._pending)


@dataclass
class _Assembly:
    buffer: bytearray
    missing: Set[int] = field(default_factory=set)


class Inbox:
    """Puts chunks together and checks digests. Memory is bounded: sizes, transfers per sender, remembered ids."""

    def __init__(self, max_transfer_bytes: int, max_open_per_sender: int = 4, remembered: int = 64) -> None:
        self._max_transfer_bytes = max_transfer_bytes
        self._max_open_per_sender = max_open_per_sender
        self._remembered = remembered
        self._open: Dict[str, OrderedDict[bytes, _Assembly]] = {}
        self._done: Dict[str, OrderedDict[bytes, None]] = {}

    def feed(self, sender: str, chunk: Chunk) -> Tuple[Optional[bytes], Optional[Frame]]:
        """Takes one chunk; returns (finished body, answer to send back), either may be None.

        The caller answers a finished body itself with `finish` once it is safely stored: nothing is acknowledged
        that could still be lost. Raises WireError for a chunk that cannot be right.
        """
        if chunk.id in self._done.get(sender, ()):
            return None, Ack(chunk.id)
        if chunk.total_bytes > self._max_transfer_bytes:
            raise WireError(
                f"{sender} announces {chunk.total_bytes} bytes, at most {self._max_transfer_bytes} are accepted"
            )
        assemblies = self._open.setdefault(sender, OrderedDict())
        assembly = assemblies.get(chunk.id)
        repeated = False
        if assembly is None:
            while len(assemblies) >= self._max_open_per_sender:
                assemblies.popitem(last=False)
            assembly = assemblies[chunk.id] = _Assembly(bytearray(chunk.total_bytes), set(range(chunk.count)))
        elif len(assembly.buffer) != chunk.total_bytes:
            raise WireError(f"{sender} announces {chunk.total_bytes} bytes for a transfer of {len(assembly.buffer)}")
        else:
            repeated = chunk.index not in assembly.missing
        start = chunk.index * CHUNK_BYTES
        assembly.buffer[start : start + len(chunk.data)] = chunk.data
        assembly.missing.discard(chunk.index)
        if assembly.missing:
            # Seeing a chunk twice means the sender is waiting for us: say what we lack.
            lacking = tuple(sorted(assembly.missing)[:MAX_WANTED])
            return None, Want(chunk.id, lacking) if repeated or self._stalled(chunk, assembly) else None
        del assemblies[chunk.id]
        body = bytes(assembly.buffer)
        if transfer_id(body) != chunk.id:
            raise WireError(f"{sender} sent {len(body)} bytes that do not match their SHA-256 {chunk.id.hex()[:16]}")
        return body, None

    @staticmethod
    def _stalled(chunk: Chunk, assembly: _Assembly) -> bool:
        """The last chunk came and earlier ones did not: ask for them now rather than after a time-out."""
        return chunk.index == chunk.count - 1 or (
            chunk.index + 1 not in assembly.missing and min(assembly.missing) < chunk.index
        )

    def finish(self, sender: str, body: bytes) -> Ack:
        """Marks a body as stored, so that resends of it are only acknowledged; returns the acknowledgement."""
        key = transfer_id(body)
        done = self._done.setdefault(sender, OrderedDict())
        done[key] = None
        while len(done) > self._remembered:
            done.popitem(last=False)
        return Ack(key)

    def forget(self, sender: str) -> None:
        self._open.pop(sender, None)
        self._done.pop(sender, None)
