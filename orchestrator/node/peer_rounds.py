"""Rounds in which nodes talk to their neighbours: when a talk begins, what it is made of, and when its round is answered."""

import hashlib
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import numpy as np

from orchestrator.analyses.agents import Agent, PeerAnalysis
from orchestrator.analyses.registry import analysis_of
from orchestrator.errors import WireError
from orchestrator.node.analysed import asked_of
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.open_runs import AtWork, OpenRuns
from orchestrator.node.peers import Peers
from orchestrator.node.session import Beside
from orchestrator.node.store import NodeStore
from orchestrator.wire.announcing import OfRound
from orchestrator.wire.link import Connection
from orchestrator.wire.peer_frames import decode_peer
from orchestrator.wire.topics import Topics

_MOST_STEPS = 8
"""Of a secure round that are held while its answer waits for a talk."""


@dataclass
class PeerRounds(Beside):
    """Of one node process, whatever the runs."""

    federation: str
    name: str
    runs: OpenRuns
    store: NodeStore
    peers: Peers
    guard: DisclosureGuard
    link: Connection

    def __post_init__(self) -> None:
        self._topics = Topics(self.federation)

    def listen(self) -> None:
        """A run has an exchange: neighbours may begin before this node does."""
        self.link.subscribe(self._topics.from_peers(self.name))

    def waits_for(self, work: AtWork, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> bool:
        """Whether the answer to a round has to wait for a talk with neighbours, which begins then; else it is at hand, or none is
        asked. WireError where it is not the one that the run has; DisclosureError where its owner's rules are against it.
        """
        run, number = work.run, OfRound.read(header).round
        if run is None or run.task.trains:
            return False
        analysis = analysis_of(run.task)
        if not isinstance(analysis, PeerAnalysis) or not run.task.stages.of(number):
            return False
        asked = asked_of(analysis, tensors.get("weights"), number)
        question = analysis.question(asked)
        if not analysis.exchanges(question):
            return False
        digest = hashlib.sha256(question.tobytes()).hexdigest()
        if work.talk is not None and (work.talk.about.number, work.talk.about.question) != (number, digest):
            raise WireError(f"round {number} asks for another exchange than the one of this run", "round")
        if run.exchanged is not None:
            return False
        if work.talk is None:
            data = self.guard.exchanged(run.digest, run.task, analysis, asked, run.dataset)
            self.store.charge(run.id, number)  # before the first message leaves

            def make(saved: Optional[bytes]) -> Agent:
                return analysis.agent(question, self.name, data.x, saved)

            from orchestrator.node.peer_talk import About, PeerTalk  # a node in other rounds has no memory for it

            about = About(self.federation, run, number, digest, self.name)
            work.talk = PeerTalk(
                about, analysis.exchange, make, self.peers, self.store, self._send, self.link.address.clock
            )
            work.talk.begin()
        if not work.talk.done:
            work.after = (header, tensors)
            return True
        self._look(work)
        return False

    def take(self, topic: str, payload: bytes) -> None:
        """What came on another topic than the gateway's. WireError for a message of a neighbour that had to be refused."""
        sender = self._topics.peer_of(topic, self.name)
        if sender is None:
            return
        try:
            frame = decode_peer(payload)
        except WireError as error:
            raise WireError(f"a message of {sender}: {error}", "message.peer") from error
        for work in self.runs.at_work():
            if work.talk is not None and work.talk.session == frame.session:
                work.talk.take(sender, frame)
                self._look(work)

    @staticmethod
    def holds_step(work: AtWork, header: Dict[str, Any]) -> bool:
        """Whether a step of a secure round is for later, since the answer to its round waits for a talk."""
        if work.after is None:
            return False
        work.held = [*work.held[-_MOST_STEPS + 1 :], header]
        return True

    @staticmethod
    def held_steps(work: AtWork) -> List[Dict[str, Any]]:
        """Those, once."""
        held, work.held = work.held, []
        return held

    def step(self, connected: bool) -> None:
        """Now and then: who has been silent for too long is done without."""
        for work in self.runs.at_work():
            if work.talk is not None:
                work.talk.tick(connected)
                self._look(work)

    def wait_s(self) -> float:
        """Until `step` is due."""
        now = self.link.address.clock.monotonic()
        return min((work.talk.due - now for work in self.runs.at_work() if work.talk is not None), default=1.0)

    def again(self) -> None:
        """The broker is back."""
        for work in self.runs.at_work():
            if work.talk is not None:
                work.talk.again()

    @staticmethod
    def _look(work: AtWork) -> None:
        """When its talk is over, the run has what it came to, and a round that waited for it is at hand."""
        if work.talk is None or work.run is None or work.run.exchanged is not None or not work.talk.done:
            return
        work.run.exchanged = (work.talk.about.number, work.talk.answer(), work.talk.said())
        if work.after is not None:
            work.round, work.after = work.after, None

    def _send(self, receiver: str, payload: bytes) -> None:
        self.link.publish(self._topics.peer(self.name, receiver), payload)
