"""A node's agent (or a key holder, or a relay) at a broker within this process, and the gateway's end of its link.

A test sends it messages as a gateway does, chunk by chunk, and reads what it says: nothing of the agent is reached into.
"""

import logging
import queue
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Generic, Iterator, List, Mapping, Optional, Tuple, TypeVar

import numpy as np

from orchestrator.gateway.authority import Authority
from orchestrator.gateway.relay import Lower, Region
from orchestrator.gateway.supply import Supply
from orchestrator.node.member import Member
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.frames import Chunk, decode_frame, encode_frame, split
from orchestrator.wire.link import Message
from orchestrator.wire.post import Post
from orchestrator.wire.task import Task
from orchestrator.wire.transfer import Inbox, transfer_id

Body = Tuple[Dict[str, Any], Dict[str, np.ndarray]]
MOST_BYTES = 1 << 30


Agent = TypeVar("Agent", bound=Member)


class AtPost(Generic[Agent]):
    """`agent` was made with a `Post`; with an `authority`, what the gateway says is signed by it."""

    def __init__(self, agent: Agent, authority: Optional[Authority] = None) -> None:
        self.agent = agent
        self.raw: List[bytes] = []
        """All payloads the agent sent."""
        self.heard: List[Body] = []
        """What they say: presences and whole messages, in the order in which they were complete."""
        post, topics = agent.link.address, agent.topics
        assert isinstance(post, Post)
        self._down, self._presence = topics.down(agent.name), topics.presence(agent.name)
        self._link = post.link("gateway", [topics.up(agent.name), self._presence])
        self._link.open(None)
        self._inbox, self._sealer = Inbox(MOST_BYTES), None if authority is None else authority.sealer()
        agent.begin()
        self.work()

    def hear(self, header: Mapping[str, Any], tensors: Optional[Dict[str, np.ndarray]] = None) -> List[Body]:
        """What the agent says to this message, and until nothing is left for it to do."""
        self.put(header, tensors)
        return self.work()

    def put(self, header: Mapping[str, Any], tensors: Optional[Dict[str, np.ndarray]] = None) -> None:
        """Sends a message, which waits until the agent works."""
        body = encode_body(dict(header), tensors or {})
        if self._sealer is not None:
            body = self._sealer.seal(body, self.agent.name, 1)
        for chunk in split(transfer_id(body), body):
            self._link.publish(self._down, encode_frame(chunk))

    def work(self) -> List[Body]:
        """Lets the agent work until there is nothing to do but to wait; what it says meanwhile."""
        before, idle = len(self.heard), False
        while not idle:
            idle = self.agent.link.events.empty() and self.agent.wait_s() > 0
            self.agent.step(0.0)
            self.agent.link.pump()
            self._read()
            idle = idle and self.agent.link.events.empty()
        return self.heard[before:]

    def presence(self) -> Dict[str, Any]:
        """Where the agent stands, as it said last."""
        return next(header for header, _ in reversed(self.heard) if "instance" in header)

    def _read(self) -> None:
        while not self._link.events.empty():
            event = self._link.events.get()
            if not isinstance(event, Message):
                continue
            self.raw.append(event.payload)
            if event.topic == self._presence:
                self.heard.append(decode_body(event.payload, MOST_BYTES))
                continue
            frame = decode_frame(event.payload)
            if isinstance(frame, Chunk):
                self._take(frame)

    def _take(self, chunk: Chunk) -> None:
        body, answer = self._inbox.feed("node", chunk)
        if body is not None:
            self.heard.append(decode_body(body, MOST_BYTES))
            answer = self._inbox.finish("node", chunk.id)
            self._inbox.hear_again("node", chunk.id)  # as a gateway that began again, which has got nothing yet
        if answer is not None:
            self._link.publish(self._down, encode_frame(answer))


class Below(Lower):
    """In the place of a relay's lower half (`Relay(lower=...)`): a region whose nodes are there, or which failed.

    It answers each round at once, with a vector of zeros.
    """

    def __init__(self, records: Mapping[str, int], failure: Optional[BaseException] = None) -> None:
        self.records, self.failure = dict(records), failure
        self.answers: queue.Queue[Tuple[int, np.ndarray, int]] = queue.Queue()
        self.supplied: List[Supply] = []

    def __call__(self, path: Path, run: str, task: Task, graph: bytes, region: Region) -> "Below":
        return self

    def supply(self, supply: Supply) -> None:
        self.supplied.append(supply)
        if supply.tensors is not None:
            size = supply.tensors["weights"].size if supply.tensors else 2
            self.answers.put((supply.round, np.zeros(size), sum(self.records.values())))

    def end(self, timeout_s: float) -> None:
        pass


@contextmanager
def logged(logger: str) -> Iterator[List[str]]:
    """What is logged meanwhile: for tests that compare what stays on a machine with what travels."""
    lines: List[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(logger).addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger(logger).removeHandler(handler)
