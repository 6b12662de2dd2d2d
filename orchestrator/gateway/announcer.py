"""What the gateway says to its nodes, and which of it is still on its way: the task, rounds, their steps, the end."""

import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

import numpy as np

from orchestrator.gateway.figures import Figures
from orchestrator.gateway.secure_aggregation import Request
from orchestrator.gateway.voice import Voice
from orchestrator.rounds.events import Announce
from orchestrator.wire.body import encode_body
from orchestrator.wire.envelope import EVERYONE
from orchestrator.wire.frames import Ack, Want
from orchestrator.wire.task import Task, task_to_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Outbox, transfer_id


class Announcer:
    """Of one run. `outbox` is where the link takes chunks from."""

    def __init__(
        self,
        run: str,
        task: Task,
        graph: bytes,
        topics: Topics,
        voice: Voice,
        figures: Figures,
        certificates: List[Dict[str, Any]],
    ) -> None:
        """`certificates`: the log the run goes by, which nodes compare (wire/transparency.py)."""
        self._certificates = certificates
        self.outbox = Outbox()
        self._run, self._task, self._graph = run, task, graph
        self._topics, self._voice, self._figures = topics, voice, figures
        self._task_body: Optional[bytes] = None
        self._round: Optional[Tuple[Tuple[int, int], bytes]] = None  # (round, attempt), body
        self._of_round: Set[bytes] = set()  # transfers of the open round
        self._of_step: Set[bytes] = set()  # and of its open step
        self._passing: Optional[Tuple[bytes, Iterator[bytes]]] = None  # the transfer under way, and what follows it

    def task(self, node: str) -> None:
        if self._task_body is None:  # turning a task into plain data takes longer than sending it
            header: Dict[str, Any] = {"kind": "task", "run": self._run, "task": task_to_dict(self._task)}
            if self._certificates:
                header["certificates"] = self._certificates
            self._task_body = encode_body(header, {"graph": np.frombuffer(self._graph, np.uint8)})
        # The same for every node, so it is signed for all: one copy in memory however many wait for it.
        topic = self._topics.down(node)
        self.outbox.send(self._voice.say(self._task_body, EVERYONE), topic, {node: topic}, time.monotonic())

    def round(self, action: Announce, body: Callable[[], bytes], everyone: bool) -> None:
        """`body` makes the round's message, once for each attempt. `everyone`: whether nobody else listens."""
        if self._round is None or self._round[0] != (action.round, action.attempt):
            self._round = ((action.round, action.attempt), body())
            self._figures.round_began(action.round)
        self._of_round |= self._send(self._round[1], action.nodes, everyone)

    def step(self, action: Announce, request: Request, everyone: bool) -> None:
        """What a step of a secure round asks."""
        self.begin_step()
        if request.own:
            for node, own in request.own.items():
                self._of_step |= self._send(encode_body({**request.fields, **own}, level=1), (node,), False)
        else:
            self._of_step |= self._send(encode_body(request.fields, level=1), action.nodes, everyone)
        self._of_round |= self._of_step

    def begin_step(self) -> None:
        """What the step before asked is not waited for any more."""
        self._of_step, self._passing = set(), None

    def pass_on(self, node: str, bodies: Iterator[bytes]) -> None:
        """Sends a node one body after the other, each when the one before was acknowledged."""
        self._passing = None
        for body in bodies:
            sent = self._send(body, (node,), everyone=False)
            self._of_round |= sent
            self._passing = next(iter(sent)), bodies
            return

    def finished(self, reason: str, tensors: Dict[str, np.ndarray], nodes: Iterable[str]) -> None:
        """The run is over; `reason` says why if it failed."""
        receivers = tuple(nodes)
        if receivers:
            body = encode_body({"kind": "finished", "run": self._run, "reason": reason}, tensors)
            self._send(body, receivers, everyone=True, counted=False)

    def close_round(self) -> None:
        """Nobody needs what was said in the open round any more."""
        for transfer in self._of_round:
            self.outbox.drop(transfer)
        self._of_round = set()
        self._passing = None

    def acknowledged(self, node: str, ack: Ack) -> None:
        if self.outbox.acknowledged(node, ack) and self._passing is not None and ack.id == self._passing[0]:
            self.pass_on(node, self._passing[1])

    def answered(self, node: str) -> None:
        """Who answers the open step has what was asked."""
        for transfer in self._of_step:
            self.outbox.acknowledged(node, Ack(transfer))

    def wanted(self, node: str, want: Want) -> None:
        self.outbox.wanted(node, want, time.monotonic())

    def _send(self, body: bytes, nodes: Tuple[str, ...], everyone: bool, counted: bool = True) -> Set[bytes]:
        """One transfer: a single broadcast when it is for everybody, else a copy for each node. Returns their ids."""
        if counted:
            self._figures.sent(len(body), len(nodes))
        receivers = {node: self._topics.down(node) for node in nodes}
        if everyone and len(nodes) > 1:
            return {self._send_one(body, EVERYONE, self._topics.all_nodes, receivers)}
        return {self._send_one(body, node, topic, {node: topic}) for node, topic in receivers.items()}

    def _send_one(self, body: bytes, addressee: str, topic: str, receivers: Dict[str, Any]) -> bytes:
        message = self._voice.say(body, addressee)
        self.outbox.send(message, topic, receivers, time.monotonic())
        return transfer_id(message)
