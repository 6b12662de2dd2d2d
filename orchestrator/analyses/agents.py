"""The second shape of a round: nodes talk to their neighbours in a declared graph, and each answers with what it came to.

An agent is a pure machine: contents of messages in, contents out; node/peer_talk.py seals, sends and keeps time. The same
object runs on nodes, in tests and where a task is tried. A message goes to one neighbour, or each to its own: an iteration
sends the same to all, a search a question to one.
"""

from abc import ABC, abstractmethod
from collections import deque
from typing import Deque, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis
from orchestrator.analyses.peer_graph import PeerGraph

EXCHANGE = "exchange"
"""Field of a node's answer: figures of its agent, and by neighbour messages sent, their bytes, received, refused."""

Outgoing = List[Tuple[str, bytes]]
"""(neighbour, content), in order."""


class Exchange(NamedTuple):
    """What leaves a node in such a round, declared before it begins. It is bound by it, and so are its neighbours."""

    graph: PeerGraph
    messages: int  # of different content to each neighbour, at most
    values: int  # numbers in one
    content_bytes: int  # of one, at most
    patience_s: float  # how long nothing new may come before those who are silent are done without
    what: str  # for owners: what a message holds


class Agent(ABC):
    """One node's part. Nothing here knows a key, a topic or a clock."""

    @abstractmethod
    def begin(self) -> Outgoing:
        """The first messages; of an agent made from what was `saved`, those to go on with."""

    @abstractmethod
    def take(self, sender: str, content: bytes) -> Outgoing:
        """A message of a neighbour. ValueError for one that cannot be right, after which nothing has changed."""

    @abstractmethod
    def silent(self) -> Outgoing:
        """Nothing came for as long as patience lasts: goes on without those who are silent, or says again what it last said."""

    @abstractmethod
    def newest(self, neighbour: str) -> Outgoing:
        """What a neighbour has to have that lost all that came before."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the answer is there. It goes on to answer messages until the run is over."""

    @property
    @abstractmethod
    def moved(self) -> int:
        """Larger whenever something happened."""

    @abstractmethod
    def answer(self) -> np.ndarray:
        """float64, in the shape of the analysis's sums, each within -1 to 1: what the gateway adds up."""

    @abstractmethod
    def figures(self) -> Dict[str, int]:
        """Of this node's part, for the gateway: none of them depends on records but by how far it came."""

    @abstractmethod
    def saved(self) -> bytes:
        """All that it takes to go on after this process; it does not leave the node."""


class PeerAnalysis(Analysis):
    """An analysis in one of whose rounds nodes talk to their neighbours, instead of adding up records' vectors."""

    @property
    @abstractmethod
    def exchange(self) -> Exchange:
        """What they send each other."""

    @abstractmethod
    def exchanges(self, question: np.ndarray) -> bool:
        """Whether it is asked for in this round: each node then answers with what its agent came to, and `vectors` say what of a
        record is in it."""

    @abstractmethod
    def agent(self, question: np.ndarray, node: str, x: np.ndarray, saved: Optional[bytes] = None) -> Agent:
        """The part of a node of the graph; saved: by an earlier process, in the same exchange."""

    def wrong_answer(self, answer: np.ndarray) -> str:
        """Why no agent comes to this answer of one node; "" where one may."""
        return "" if (np.abs(answer) <= 1 + 1e-9).all() else "values beyond 1, of an exchange"


def converse(agents: Mapping[str, Agent], most: int = 1 << 24) -> None:
    """Lets agents of one process talk until all are done. RuntimeError where they do not come to an end."""
    waiting: Deque[Tuple[str, str, bytes]] = deque()

    def post(sender: str, said: Outgoing) -> None:
        waiting.extend((sender, receiver, content) for receiver, content in said)

    for name, agent in agents.items():
        post(name, agent.begin())
    for _ in range(most):
        if not waiting:
            break
        sender, receiver, content = waiting.popleft()
        post(receiver, agents[receiver].take(sender, content))
    if not all(agent.done for agent in agents.values()):
        raise RuntimeError("agents wait for each other")
