"""Reliable transfers over a lossy bus: chunks out, acknowledgements back, resends until acknowledged.

Nothing here knows MQTT or the clock: bytes and times come in, (topic, payload) pairs and finished bodies go out. A broker
that loses its queue costs a resend, never a result.

Memory: the Outbox holds each pending body once, whatever the number of receivers, and cuts one chunk when it is asked for
one. The Inbox keeps parts on disk (wire/spill.py) and joins them when a transfer is complete.
"""

import hashlib
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Callable, Deque, Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

from orchestrator.errors import WireError
from orchestrator.wire.clock import Clock
from orchestrator.wire.frames import MAX_WANTED, Ack, Chunk, Frame, Want, chunk_count, cut, encode_frame
from orchestrator.wire.spill import Piece, Spill

Outgoing = Tuple[str, bytes]
"""A topic and the MQTT payload for it."""

_REMEMBERED = 64
"""Finished transfers whose receivers an Outbox, and whose ids an Inbox (for each sender) remembers."""


def transfer_id(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


@dataclass
class _Delivery:
    """One receiver of one transfer that has not acknowledged it."""

    topic: str  # the receiver's own
    interval_s: float
    resend_at: float = 0.0
    queued: int = 0  # chunks that wait to be sent to it


@dataclass
class _Pending:
    body: bytes
    count: int
    broadcast: Optional[str]
    waiting: Dict[str, _Delivery] = field(default_factory=dict)
    queue: "OrderedDict[int, FrozenSet[str]]" = field(default_factory=OrderedDict)  # chunk -> who needs it

    def release(self, receiver: str) -> None:
        """The receiver needs nothing more."""
        delivery = self.waiting.pop(receiver, None)
        if delivery is not None and delivery.queued:
            for index, group in list(self.queue.items()):
                if receiver in group:
                    self.queue[index] = group - {receiver}


class Outbox:
    """Transfers that some receiver has not acknowledged yet. Safe to use from several threads.

    What is to be sent waits here and leaves with `next`, a chunk at a time, turn by turn between the transfers: so a
    small body never stands behind a large one, and a chunk that was asked for twice before its turn goes out once.
    """

    def __init__(self, resend_after_s: float = 5.0, max_interval_s: float = 60.0) -> None:
        self._resend_after_s = resend_after_s
        self._max_interval_s = max_interval_s
        self._pending: Dict[bytes, _Pending] = {}
        self._turns: Deque[bytes] = deque()  # transfers with chunks to send
        self._had: OrderedDict[bytes, Set[str]] = OrderedDict()  # who acknowledged a transfer before
        self._next_due: Optional[float] = None  # never later than the first resend
        self._lock = threading.RLock()

    def send(self, body: bytes, topic: str, receivers: Dict[str, str], now: float) -> None:
        """Starts a transfer on `topic`; `receivers` maps each one expected to acknowledge to its own topic for resends.

        Sending a body again while it is pending adds the receivers to it. One that is waiting for it already, or had
        acknowledged it, is asked with the first chunk what it lacks: that answer says more than we know.
        """
        with self._lock:
            key, pending = self._find(body)
            broadcast = topic if len(receivers) > 1 or topic not in receivers.values() else None
            if pending is None:
                pending = self._pending[key] = _Pending(body, chunk_count(len(body)), broadcast)
            pending.broadcast = pending.broadcast or broadcast
            had = self._had.get(key, set())
            whole: List[str] = []
            asked: List[str] = []
            for receiver, own_topic in receivers.items():
                (asked if receiver in pending.waiting or receiver in had else whole).append(receiver)
                if receiver not in pending.waiting:
                    # A large transfer takes time to cross the link and be checked: wait in proportion (1 MB/s).
                    pending.waiting[receiver] = _Delivery(own_topic, self._resend_after_s + len(body) / 1e6)
            self._enqueue(key, pending, range(pending.count), whole)
            for receiver in asked:
                if not pending.waiting[receiver].queued:
                    self._enqueue(key, pending, (0,), [receiver])

    def _find(self, body: bytes) -> Tuple[bytes, Optional[_Pending]]:
        for key, pending in self._pending.items():
            if pending.body is body:
                return key, pending
        key = transfer_id(body)
        return key, self._pending.get(key)

    def to(self, receiver: str, topic: str, clock: Clock) -> Callable[[bytes], None]:
        """What sends a body to the one receiver, who is alone on this topic."""
        return lambda body: self.send(body, topic, {receiver: topic}, clock.monotonic())

    def _enqueue(self, key: bytes, pending: _Pending, indices: Iterable[int], receivers: List[str]) -> None:
        if not receivers:
            return
        group = frozenset(receivers)
        for index in indices:
            before = pending.queue.get(index)
            if before is None:
                pending.queue[index] = group
                new: Iterable[str] = group
            else:
                new = group - before
                pending.queue[index] = before | group
            for receiver in new:
                pending.waiting[receiver].queued += 1
        if key not in self._turns:
            self._turns.append(key)

    def next(self, now: float) -> Optional[Outgoing]:
        """The next chunk to publish; None when there is nothing to send."""
        with self._lock:
            while self._turns:
                key = self._turns.popleft()
                pending = self._pending.get(key)
                if pending is None or not pending.queue:
                    continue
                index, group = next(iter(pending.queue.items()))
                needy = sorted(group)
                if not needy:
                    del pending.queue[index]
                    self._turns.appendleft(key)
                    continue
                # One broadcast reaches everybody; it is worth it when at least half of those who wait need this chunk.
                together = pending.broadcast is not None and len(needy) > 1 and 2 * len(needy) >= len(pending.waiting)
                served = needy if together else needy[:1]
                if len(served) == len(needy):
                    del pending.queue[index]
                else:
                    pending.queue[index] = frozenset(needy[1:])
                for receiver in served:
                    delivery = pending.waiting[receiver]
                    delivery.queued -= 1
                    delivery.resend_at = now + delivery.interval_s
                    self._wake(delivery.resend_at)
                self._turns.append(key)
                topic = pending.broadcast if together else pending.waiting[served[0]].topic
                assert topic is not None
                return topic, encode_frame(cut(key, pending.body, index))
            return None

    def acknowledged(self, receiver: str, frame: Ack) -> bool:
        """Notes an acknowledgement; True when it was the receiver's first one for this transfer."""
        with self._lock:
            pending = self._pending.get(frame.id)
            if pending is None or receiver not in pending.waiting:
                return False
            pending.release(receiver)
            self._had.setdefault(frame.id, set()).add(receiver)
            while len(self._had) > _REMEMBERED:
                self._had.popitem(last=False)
            if not pending.waiting:
                del self._pending[frame.id]
            return True

    def wanted(self, receiver: str, frame: Want, now: float) -> None:
        """Queues the chunks a receiver asked for; nothing for transfers we no longer hold, or what is queued anyway."""
        with self._lock:
            pending = self._pending.get(frame.id)
            if pending is not None and receiver in pending.waiting:
                count = pending.count
                self._enqueue(frame.id, pending, (i for i in frame.missing if i < count), [receiver])

    def forget(self, receiver: str) -> None:
        """Stops waiting for a receiver that left; if it comes back, it may have lost everything."""
        with self._lock:
            for key, pending in list(self._pending.items()):
                pending.release(receiver)
                if not pending.waiting:
                    del self._pending[key]
            for receivers in self._had.values():
                receivers.discard(receiver)

    def drop(self, body_id: bytes) -> None:
        """Gives a transfer up, for instance one of a round that is over."""
        with self._lock:
            self._pending.pop(body_id, None)

    def due(self, now: float) -> None:
        """Queues the first chunk of every transfer whose acknowledgement is overdue: the answer is an Ack or a Want."""
        with self._lock:
            if self._next_due is None or now < self._next_due:
                return
            self._next_due = None
            for key, pending in self._pending.items():
                overdue = []
                for receiver, delivery in pending.waiting.items():
                    if delivery.queued:
                        continue
                    if now >= delivery.resend_at:
                        delivery.interval_s = min(2 * delivery.interval_s, self._max_interval_s)
                        overdue.append(receiver)
                    else:
                        self._wake(delivery.resend_at)
                for receiver in overdue:
                    self._enqueue(key, pending, (0,), [receiver])

    def retry_now(self, now: float) -> None:
        """After a reconnect: everything unacknowledged is due at once."""
        with self._lock:
            for pending in self._pending.values():
                for delivery in pending.waiting.values():
                    delivery.resend_at = now
                    self._wake(now)

    def _wake(self, at: float) -> None:
        if self._next_due is None or at < self._next_due:
            self._next_due = at

    def next_due(self) -> Optional[float]:
        """When to call `due` again; never too late, now and then too early."""
        return self._next_due

    def pending(self) -> int:
        return len(self._pending)


@dataclass
class _Assembly:
    total_bytes: int
    count: int
    pieces: Dict[int, Piece] = field(default_factory=dict)
    asked_up_to: int = -1  # the last chunk of what we asked for; -1: nothing asked, the whole is under way
    fed_at: int = 0

    def missing(self) -> Tuple[int, ...]:
        """At most MAX_WANTED of the chunks not here yet, ascending."""
        lacking: List[int] = []
        for index in range(self.count):
            if index not in self.pieces:
                lacking.append(index)
                if len(lacking) == MAX_WANTED:
                    break
        return tuple(lacking)


class Inbox:
    """Puts chunks together on disk and checks digests.

    Memory: a few words a chunk, and one body when it is complete. Disk: what arrived of transfers that announce at most
    `max_transfer_bytes` each and `max_held_bytes` together. A transfer that finds no room is not answered; its sender asks
    again later. Sizes, open transfers of a sender and remembered ids are bounded too.
    """

    def __init__(
        self,
        max_transfer_bytes: int,
        max_open_per_sender: int = 4,
        remembered: int = _REMEMBERED,
        max_held_bytes: int = 4 << 30,
    ) -> None:
        self._max_transfer_bytes = max_transfer_bytes
        self._max_open_per_sender = max_open_per_sender
        self._remembered = remembered
        self._max_held_bytes = max(max_held_bytes, max_transfer_bytes)
        self._spill = Spill()
        self._held = 0  # bytes announced by open transfers
        self._fed = 0  # chunks of longer transfers seen so far: the clock by which an abandoned one is known
        self.unfinished: Dict[str, OrderedDict[bytes, _Assembly]] = {}
        self._done: Dict[str, OrderedDict[bytes, None]] = {}

    ABANDONED_AFTER = 4096
    """Chunks of others after which a transfer that got none may lose its place (1 GiB of data)."""

    def feed(self, sender: str, chunk: Chunk) -> Tuple[Optional[bytes], Optional[Frame]]:
        """Takes one chunk; returns (finished body, answer to send back), either may be None.

        The caller answers a finished body itself with `finish` once it is safely stored: nothing is acknowledged
        that could still be lost. Raises WireError for a chunk that cannot be right.
        """
        if chunk.id in self._done.get(sender, ()):
            # A sender that lacks our answer asks with the first chunk. The others are echoes of a broadcast.
            return None, Ack(chunk.id) if chunk.index == 0 else None
        if chunk.total_bytes > self._max_transfer_bytes:
            raise WireError(
                f"{sender} announces {chunk.total_bytes} bytes, at most {self._max_transfer_bytes} are accepted"
            )
        if chunk.count == 1:
            return self._checked(sender, chunk.id, bytes(chunk.data)), None
        self._fed += 1
        assembly = self._assembly(sender, chunk)
        if assembly is None:
            return None, None
        assembly.fed_at = self._fed
        repeated = chunk.index in assembly.pieces
        if not repeated:
            assembly.pieces[chunk.index] = self._spill.put(chunk.data)
        if len(assembly.pieces) < assembly.count:
            # The end of what was under way came and something lacks, or the sender asks by repeating the first chunk.
            end = assembly.asked_up_to if assembly.asked_up_to >= 0 else assembly.count - 1
            if not (repeated and chunk.index == 0) and chunk.index != end:
                return None, None
            lacking = assembly.missing()
            assembly.asked_up_to = lacking[-1]
            return None, Want(chunk.id, lacking)
        body = self._spill.read([assembly.pieces[i] for i in range(assembly.count)])
        self._close(sender, chunk.id)
        return self._checked(sender, chunk.id, body), None

    def _assembly(self, sender: str, chunk: Chunk) -> Optional[_Assembly]:
        """The open transfer of this chunk; None when there is no room for another one now."""
        assemblies = self.unfinished.get(sender, OrderedDict())
        assembly = assemblies.get(chunk.id)
        if assembly is not None:
            if assembly.total_bytes != chunk.total_bytes:
                raise WireError(
                    f"{sender} announces {chunk.total_bytes} bytes for a transfer of {assembly.total_bytes}"
                )
            return assembly
        while assemblies and (
            len(assemblies) >= self._max_open_per_sender
            or sum(a.total_bytes for a in assemblies.values()) + chunk.total_bytes > self._max_transfer_bytes
        ):
            self._close(sender, next(iter(assemblies)))
        if self._held + chunk.total_bytes > self._max_held_bytes:
            self._close_abandoned()
        if self._held + chunk.total_bytes > self._max_held_bytes:
            return None
        assembly = _Assembly(chunk.total_bytes, chunk.count)
        self.unfinished.setdefault(sender, OrderedDict())[chunk.id] = assembly
        self._held += chunk.total_bytes
        return assembly

    def _close(self, sender: str, key: bytes) -> None:
        assembly = self.unfinished[sender].pop(key)
        if not self.unfinished[sender]:
            del self.unfinished[sender]
        self._held -= assembly.total_bytes
        self._spill.free(list(assembly.pieces.values()))

    def _close_abandoned(self) -> None:
        for sender, assemblies in list(self.unfinished.items()):
            for key, assembly in list(assemblies.items()):
                if self._fed - assembly.fed_at > self.ABANDONED_AFTER:
                    self._close(sender, key)

    @staticmethod
    def _checked(sender: str, key: bytes, body: bytes) -> bytes:
        if transfer_id(body) != key:
            raise WireError(f"{sender} sent {len(body)} bytes that do not match their SHA-256 {key.hex()[:16]}")
        return body

    def finish(self, sender: str, key: bytes) -> Ack:
        """Marks a transfer as stored, so that resends of it are only acknowledged; returns the acknowledgement."""
        done = self._done.setdefault(sender, OrderedDict())
        done[key] = None
        while len(done) > self._remembered:
            done.popitem(last=False)
        return Ack(key)

    def held_bytes(self) -> int:
        """What arrived of open transfers, on disk."""
        return self._spill.held_bytes()

    def hear_again(self, sender: str, key: bytes) -> None:
        """What was received is not done with: should it be sent again, it is a finished body again."""
        self._done.get(sender, OrderedDict()).pop(key, None)

    def forget(self, sender: str) -> None:
        for key in list(self.unfinished.get(sender, ())):
            self._close(sender, key)
        self._done.pop(sender, None)
