"""How many connections the dashboard holds, and for how long one may be silent before it has asked for something.

Connections are counted where they are accepted, before TLS and HTTP see them: anyone who connects and says nothing, or half of
something, costs a descriptor for ASK_S and takes no place from others. Without this a few hundred of them close every page, and
with all descriptors taken the event loop does nothing but report that.
"""

import resource
import socket
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Tuple

MOST_CONNECTIONS = 400
ASK_S = 10.0
BACKLOG = 64
"""Connections accepted at a time: asyncio takes so many before it looks at anything else."""

Peer = Tuple[Any, ...]


class Doorkeeper:
    """Of one listening socket. Used by the event loop's thread only."""

    def __init__(self, now: Callable[[], float] = time.monotonic, most: int = MOST_CONNECTIONS) -> None:
        self._now = now
        self._most = min(most, max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._open: Dict[Peer, Tuple[float, socket.socket]] = {}  # the oldest first
        self._asked: Dict[Peer, float] = {}

    def let_in(self, connection: socket.socket, peer: Peer) -> bool:
        """False where there is no place, since all others have asked for something."""
        self._forget_closed()
        if len(self._open) >= self._most and not self._end_oldest_silent():
            return False
        self._open[peer[:2]] = (self._now(), connection)
        return True

    def asks(self, peer: Any) -> None:
        """This peer's request has come whole."""
        if peer is not None and tuple(peer)[:2] in self._open:
            self._asked[tuple(peer)[:2]] = self._now()

    def look(self) -> None:
        """Ends who has been silent for too long; call it now and then."""
        self._forget_closed()
        late = [p for p, (since, _) in self._open.items() if p not in self._asked and self._now() - since >= ASK_S]
        for peer in late:
            self._end(peer)

    def _end_oldest_silent(self) -> bool:
        peer = next((peer for peer in self._open if peer not in self._asked), None)
        if peer is not None:
            self._end(peer)
        return peer is not None

    def _end(self, peer: Peer) -> None:
        """Its reader sees the end of the connection, and closes what belongs to it."""
        with suppress(OSError):  # it went by itself
            self._open.pop(peer)[1].shutdown(socket.SHUT_RDWR)

    def _forget_closed(self) -> None:
        closed = [peer for peer, (_, connection) in self._open.items() if connection.fileno() < 0]
        for peer in closed:
            del self._open[peer]
        for peer in [peer for peer in self._asked if peer not in self._open]:
            del self._asked[peer]


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
