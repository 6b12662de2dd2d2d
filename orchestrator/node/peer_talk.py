"""A node's part in an exchange with its neighbours: seals what its agent says, opens what comes, keeps time.

What an agent (analyses/agents.py) is to a round, this is to its messages. They go over the broker from node to node; the
gateway is not in the loop. Whose messages count is in the task, which the owner approved: neighbours in its graph, by the keys
that the owner confirmed (node/peers.py), or that the node saw first where there is no policy.
"""

import logging
from dataclasses import dataclass
from typing import Any, Callable, Dict, NamedTuple, Optional

import numpy as np

from orchestrator.analyses.agents import Agent, Exchange, Outgoing
from orchestrator.errors import PeerError, WireError
from orchestrator.node.peers import Peers
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.privacy.peer_channel import Hello, PeerChannel, PeerKey, peer_session, read_hello
from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.peer_frames import HELLO, SEAL_BYTES, SEALED, PeerFrame, encode_peer

log = logging.getLogger("edgeward.node")

MOST_WRONG = 20
"""Messages that a neighbour sealed and that had to be refused, until it is not listened to any more. Others may be anybody's."""

KEEP_EVERY = 20
"""Iterations, or whatever moves an agent, after which it is kept durably: so much is said again after a kill."""

Send = Callable[[str, bytes], None]
"""(neighbour, payload)"""


@dataclass
class _Neighbour:
    hello: Optional[Hello] = None
    channel: Optional[PeerChannel] = None
    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    refused: int = 0  # of any sender
    wrong: int = 0  # of these, its own

    @property
    def lost(self) -> bool:
        """Whether it is not listened to, nor spoken to, any more."""
        return self.wrong >= MOST_WRONG


class About(NamedTuple):
    """Of which exchange. question: digest of what was asked; certificates: what the node saw of the log (`Peers.view`)."""

    federation: str
    run: Run
    number: int
    question: str
    node: str


class PeerTalk:
    """One exchange, from its first message until the run is over."""

    def __init__(
        self,
        about: About,
        exchange: Exchange,
        make: Callable[[Optional[bytes]], Agent],
        peers: Peers,
        store: NodeStore,
        send: Send,
        clock: Clock = SYSTEM,
    ) -> None:
        """make: the agent, from what was kept of it. WireError where the run had another exchange."""
        self.about, self._exchange, self._peers, self._store, self._send = about, exchange, peers, store, send
        self._clock = clock
        run = about.run
        born, kept = store.exchanges.begin(run.id, about.number, about.question)
        self.agent = make(kept)
        view = peers.view(run.certificates)
        self.session = peer_session(about.federation, run.id, about.number, run.digest, view)
        self._key = PeerKey(self.session, about.node)
        unsigned = Hello(born, self._key.public, peers.credential, b"")
        self._hello = unsigned._replace(signature=peers.sign(unsigned.signed(self.session, about.node)))
        self._neighbours = {name: _Neighbour() for name in exchange.graph.neighbours(about.node)}
        self._kept_at = self._seen = self.agent.moved
        self._quiet_since = self._clock.monotonic()

    def begin(self) -> None:
        """Says who it is; its agent's first messages follow as soon as a neighbour did."""
        for name in self._neighbours:
            self._say_hello(name)
        self._say(self.agent.begin())

    def take(self, sender: str, frame: PeerFrame) -> None:
        """Of this session. WireError, with the sender's name, for a message that had to be refused."""
        neighbour = self._neighbours.get(sender)
        if neighbour is None:
            raise WireError(
                f"a message of {sender}, which is no neighbour of this node in the task's graph", "message.peer"
            )
        if neighbour.lost:
            return
        try:
            said = self._heard(sender, neighbour, frame)
        except (PeerError, WireError, ValueError) as error:
            neighbour.refused += 1
            more = "; it is not listened to any more" if neighbour.lost else ""
            raise WireError(f"a message of {sender}: {error}{more}", "message.peer") from error
        self._say(said)

    def _heard(self, sender: str, neighbour: _Neighbour, frame: PeerFrame) -> Outgoing:
        if frame.kind == HELLO:
            return self._meet(sender, neighbour, read_hello(frame.content))
        if neighbour.channel is None:
            return []  # it knows this node from before: the hello that it is sent makes it say its own again
        if len(frame.content) > self._exchange.content_bytes + SEAL_BYTES:
            raise WireError(
                f"{len(frame.content)} bytes, at most {self._exchange.content_bytes + SEAL_BYTES} are declared"
            )
        content = neighbour.channel.open(frame.content)
        if not content:
            return []
        try:
            said = self.agent.take(sender, content)
        except ValueError:
            neighbour.wrong += 1
            raise
        neighbour.received += 1
        return said

    def _meet(self, sender: str, neighbour: _Neighbour, hello: Hello) -> Outgoing:
        known = neighbour.hello
        if known is not None and hello.born <= known.born:
            return []
        self._peers.admit_all({sender: hello.credential}, self.about.run.certificates)
        if not self._peers.verify(sender, hello.signed(self.session, sender), hello.signature):
            raise PeerError("its key is not signed by the node that it is said to be of")
        neighbour.channel = self._key.channel(sender, hello.public)
        neighbour.hello = hello
        self._say_hello(sender)
        return self.agent.newest(sender)

    def tick(self, connected: bool) -> None:
        """To be called now and then, and when `due`."""
        now = self._clock.monotonic()
        if self.agent.moved != self._seen or not connected:
            self._seen, self._quiet_since = self.agent.moved, now
        if now < self._quiet_since + self._exchange.patience_s:
            return
        self._quiet_since = now
        for name, neighbour in self._neighbours.items():
            if neighbour.channel is None:
                self._say_hello(name)
        self._say(self.agent.silent())

    @property
    def due(self) -> float:
        """When a silence is over, on the monotonic clock."""
        return self._quiet_since + self._exchange.patience_s

    def again(self) -> None:
        """The broker is back: what was under way may be lost."""
        for name in self._neighbours:
            self._say_hello(name)
            self._say(self.agent.newest(name))

    @property
    def done(self) -> bool:
        """Whether the answer is there."""
        return self.agent.done

    def answer(self) -> np.ndarray:
        """float64, what the gateway gets."""
        return self.agent.answer()

    def said(self) -> Dict[str, Any]:
        """Of this node's part, for the answer's header: figures, and by neighbour messages sent, their bytes, received,
        refused."""
        each = {name: [n.sent, n.sent_bytes, n.received, n.refused] for name, n in self._neighbours.items()}
        return {**self.agent.figures(), "neighbours": each}

    def _say(self, said: Outgoing) -> None:
        self._keep()
        for receiver, content in said:
            neighbour = self._neighbours[receiver]
            if neighbour.channel is None or neighbour.lost:
                continue  # it is sent the newest when it is there
            payload = encode_peer(PeerFrame(SEALED, self.session, neighbour.channel.seal(content)))
            neighbour.sent += 1
            neighbour.sent_bytes += len(payload)
            self._send(receiver, payload)

    def _keep(self) -> None:
        """Before anything is said that would be said otherwise after a kill: now and then, and at the end."""
        if self.agent.moved == self._kept_at or not (
            self.agent.done or self.agent.moved >= self._kept_at + self._often
        ):
            return
        self._kept_at = self.agent.moved
        self._store.exchanges.keep(self.about.run.id, self.agent.saved())
        self.check_confirmed()

    @property
    def _often(self) -> int:
        return KEEP_EVERY * (1 + len(self._neighbours))

    def check_confirmed(self) -> None:
        """An owner's word counts at once, also in the middle of a run."""
        self._peers.refresh()
        for name, neighbour in self._neighbours.items():
            hello = neighbour.hello
            if hello is not None and not self._peers.verify(name, hello.signed(self.session, name), hello.signature):
                log.warning("%s is no longer confirmed: this node sends it nothing more", name)
                neighbour.channel, neighbour.wrong = None, MOST_WRONG

    def _say_hello(self, name: str) -> None:
        self._send(name, encode_peer(PeerFrame(HELLO, self.session, self._hello.encoded())))
