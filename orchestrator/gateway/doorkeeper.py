"""How many connections a server holds, and for how long one may say nothing: for the dashboard and the embedded broker.

Connections are counted where they are accepted, before TLS and what is spoken over it see them: anyone who connects and says
nothing, or half of something, costs a descriptor for ASK_S and takes no place from others. Without this a few hundred of them
close every page, and with all descriptors in use an event loop does nothing but report that.
"""

import resource
import socket
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Callable, Dict, Tuple

MOST_CONNECTIONS = 400
ASK_S = 10.0
ANSWER_S = 120.0
"""How long an answer may take, or a part of one that goes on: who reads nothing of it is ended then."""
STUCK_S = 5.0
"""After so long without a part of its answer that was accepted, a connection makes room where all places are in use."""
BACKLOG = 64
"""Connections accepted at a time: asyncio takes so many before it looks at anything else."""
_OURS = 32
"""Descriptors of the process itself: store, broker, log, sockets of the event loop."""

Peer = Tuple[Any, ...]


def places(most: int = MOST_CONNECTIONS) -> Tuple[int, int]:
    """(connections held, connections accepted at a time) that the limit of descriptors leaves room for.

    Ended ones are closed only after all that were accepted at a time.
    """
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OURS
    return min(most, max(8, room // 2)), min(BACKLOG, max(4, room // 4))


class Doorkeeper:
    """Of one listening socket. Used by the event loop's thread only."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, most: int = MOST_CONNECTIONS, answers_end: bool = True
    ) -> None:
        """answers_end: whether what is answered has an end; without, a connection that asked once may stay for ever."""
        self._now, self._answers_end = now, answers_end
        self._most = places(most)[0]
        self._open: Dict[Peer, Tuple[float, socket.socket]] = {}  # since when it is silent; the longest first
        self._asking: Dict[Peer, Tuple[float, socket.socket]] = {}  # since when it is answered
        self.refused = 0
        """Connections for which there was no place, since all others had asked for something and took it."""

    def let_in(self, connection: socket.socket, peer: Peer) -> bool:
        """False where there is no place, since all others have asked for something, and take it."""
        if len(self._open) + len(self._asking) >= self._most:
            self._forget_closed()
        full = len(self._open) + len(self._asking) >= self._most
        if full and not self._end_oldest_silent() and not self._end_stuck(peer):
            self.refused += 1
            return False
        self._asking.pop(peer[:2], None)  # of a connection before it from the same port
        self._open.pop(peer[:2], None)
        self._open[peer[:2]] = (self._now(), connection)
        return True

    def asks(self, peer: Any) -> None:
        """This peer's request has come whole, and is being answered."""
        if peer is None:
            return
        at = tuple(peer)[:2]
        known = self._open.pop(at, None) or self._asking.get(at)
        if known is not None:
            self._asking[at] = (self._now(), known[1])

    def answered(self, peer: Any) -> None:
        """It has its answer: from now on it is silent again."""
        known = self._asking.pop(tuple(peer)[:2], None) if peer is not None else None
        if known is not None:
            self._open[tuple(peer)[:2]] = (self._now(), known[1])

    def look(self) -> None:
        """Ends who has been silent for too long, or reads no answer; call it now and then."""
        self._forget_closed()
        now = self._now()
        for peer in [peer for peer, (since, _) in self._open.items() if now - since >= ASK_S]:
            self._end(self._open.pop(peer)[1])
        if self._answers_end:
            for peer in [peer for peer, (since, _) in self._asking.items() if now - since >= ANSWER_S]:
                self._end(self._asking.pop(peer)[1])

    def _end_oldest_silent(self) -> bool:
        peer = next(iter(self._open), None)
        if peer is not None:
            self._end(self._open.pop(peer)[1])
        return peer is not None

    def _end_stuck(self, newcomer: Peer) -> bool:
        """Ends who has accepted no part of an answer for the longest, of the address that has most of those.

        Earlier than after STUCK_S only where the newcomer's address has far fewer: a crowd of one address shuts out itself alone.
        """
        if not self._answers_end or not self._asking:
            return False
        of_address = Counter(peer[0] for peer in self._asking)
        address, most = of_address.most_common(1)[0]
        peer = min((peer for peer in self._asking if peer[0] == address), key=lambda peer: self._asking[peer][0])
        if self._now() - self._asking[peer][0] < STUCK_S and most <= 2 * of_address[newcomer[0]] + self._most // 4:
            return False
        self._end(self._asking.pop(peer)[1])
        return True

    @staticmethod
    def _end(connection: socket.socket) -> None:
        """Its reader sees the end of the connection, and closes what belongs to it."""
        with suppress(OSError):  # it went by itself
            connection.shutdown(socket.SHUT_RDWR)

    def _forget_closed(self) -> None:
        for held in (self._open, self._asking):
            for peer in [peer for peer, (_, connection) in held.items() if connection.fileno() < 0]:
                del held[peer]


class GuardedSocket(socket.socket):
    """A listening socket whose connections a doorkeeper lets in."""

    doorkeeper: Doorkeeper

    @classmethod
    def around(cls, listening: socket.socket, doorkeeper: Doorkeeper) -> "GuardedSocket":
        """Takes the socket over; the one given is not to be used any more."""
        guarded = cls(fileno=listening.detach())
        guarded.doorkeeper = doorkeeper
        return guarded

    def accept(self) -> Tuple[socket.socket, Any]:
        while True:
            connection, peer = super().accept()
            if self.doorkeeper.let_in(connection, peer):
                return connection, peer
            connection.close()
