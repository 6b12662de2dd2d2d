"""What the gateway says to its nodes, and which of it is still on its way: the task, rounds, their steps, the end."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

import numpy as np

from orchestrator.gateway.figures import Figures
from orchestrator.gateway.message_signer import MessageSigner
from orchestrator.gateway.secure_aggregation import Request
from orchestrator.rounds.events import Announce
from orchestrator.wire.announcing import RunOver, TaskAnnounced, WeightsNamed
from orchestrator.wire.body import encode_body
from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.envelope import EVERYONE
from orchestrator.wire.frames import Ack, Want
from orchestrator.wire.task import Task, task_to_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Outbox, transfer_id
from orchestrator.wire.weight_step import WeightStep

MakeMessage = Callable[[], Tuple[Dict[str, Any], Dict[str, np.ndarray]]]
MakeOwn = Callable[[str], Tuple[Dict[str, Any], Dict[str, np.ndarray]]]


@dataclass
class _Round:
    """The open one."""

    number: Tuple[int, int]  # round, attempt
    header: Dict[str, Any]
    tensors: Dict[str, np.ndarray]  # with the weights whole
    model: str  # digest of its weights; empty where they always travel whole
    step: Optional[WeightStep]  # what leads to them
    own: Optional[MakeOwn] = None  # what is for one node alone, by node
    bodies: Dict[Tuple[bool, str], bytes] = field(default_factory=dict)  # (weights whole, for whom alone) -> message
    stepped: Set[str] = field(default_factory=set)  # nodes that were sent the step, and not yet the whole

    def body(self, whole: bool, node: str = "") -> bytes:
        """The message; node: for whom alone it is, where there is something for single ones."""
        if (whole, node) not in self.bodies:
            self.bodies[whole, node] = self._body(whole, *(self.own(node) if self.own is not None else ({}, {})))
        return self.bodies[whole, node]

    def _body(self, whole: bool, fields: Dict[str, Any], own: Dict[str, np.ndarray]) -> bytes:
        tensors, since = dict(self.tensors), ""
        if not whole:
            assert self.step is not None
            since = self.step.since
            del tensors["weights"]
            tensors.update(self.step.tensors)
        header = {**self.header, **WeightsNamed(self.model, since).written(), **fields}
        return encode_body(header, {**tensors, **own}, level=1)


class Announcer:
    """Of one run. `outbox` is where the link takes chunks from."""

    def __init__(
        self,
        run: str,
        task: Task,
        graph: bytes,
        topics: Topics,
        signer: MessageSigner,
        figures: Figures,
        certificates: List[Dict[str, Any]],
        clock: Clock = SYSTEM,
    ) -> None:
        """`certificates`: the log the run goes by, which nodes compare (wire/transparency.py)."""
        self._certificates, self._clock = certificates, clock
        self.outbox = Outbox()
        self._run, self._task, self._graph = run, task, graph
        self._topics, self._signer, self._figures = topics, signer, figures
        self._task_body: Optional[bytes] = None
        self._round: Optional[_Round] = None
        self._has: Dict[str, str] = {}  # node -> digest of the newest weights it acknowledged
        self._carries: Dict[bytes, str] = {}  # transfer of the open round -> digest of the weights it leads to
        self._of_round: Set[bytes] = set()  # transfers of the open round
        self._of_step: Set[bytes] = set()  # and of its open step
        self._passing: Optional[Tuple[bytes, Iterator[bytes]]] = None  # the transfer under way, and what follows it

    def task(self, node: str) -> None:
        if self._task_body is None:  # turning a task into plain data takes longer than sending it
            header = TaskAnnounced(self._run, task_to_dict(self._task), self._certificates).written()
            graph = {"graph": np.frombuffer(self._graph, np.uint8)} if self._task.trains or self._graph else {}
            self._task_body = encode_body(header, graph)
        # The same for every node, so it is signed for all: one copy in memory however many wait for it.
        topic = self._topics.down(node)
        self.outbox.send(self._signer.say(self._task_body, EVERYONE), topic, {node: topic}, self._clock.monotonic())

    def round(
        self,
        action: Announce,
        message: MakeMessage,
        everyone: bool,
        model: str = "",
        step: Optional[WeightStep] = None,
        own: Optional[MakeOwn] = None,
    ) -> None:
        """`message` makes the round's header and tensors, once for each attempt. `everyone`: whether nobody else listens.

        `model`: digest of its weights, by which nodes that hold weights know them. `step`: what leads to them, for those
        that have the ones it begins from. The others get the weights whole. `own`: what a node gets that is for it alone.
        """
        if self._round is None or self._round.number != (action.round, action.attempt):
            self._round = _Round((action.round, action.attempt), *message(), model, step, own)
            self._figures.round_began(action.round)
        able = self._able(action.nodes, self._round.step)
        self._send_round(able, everyone, whole=False)
        # Who has the weights ignores a message to all that others need.
        self._send_round(tuple(n for n in action.nodes if n not in able), everyone and not able, whole=True)

    def whole(self, node: str, number: int) -> None:
        """Sends the open round with its weights whole, to a node that lacks the ones their change begins from; once a round."""
        if self._round is not None and self._round.number[0] == number and node in self._round.stepped:
            self._round.stepped.discard(node)
            self._has.pop(node, None)
            self._send_round((node,), False, whole=True)

    def _able(self, nodes: Tuple[str, ...], step: Optional[WeightStep]) -> Tuple[str, ...]:
        if step is None:
            return ()
        return tuple(node for node in nodes if self._has.get(node) in (step.since, step.to))

    def _send_round(self, nodes: Tuple[str, ...], everyone: bool, whole: bool) -> None:
        at = self._round
        if at is None or not nodes:
            return
        if not whole:
            at.stepped.update(nodes)
        if at.own is None:
            sent = self._send(at.body(whole), nodes, everyone)
        else:
            sent = set().union(*(self._send(at.body(whole, node), (node,), False) for node in nodes))
        if at.model:
            self._carries.update(dict.fromkeys(sent, at.model))
        self._of_round |= sent

    def forget(self, node: str) -> None:
        """It left; if it comes back, it may have lost everything."""
        self._has.pop(node, None)
        self.outbox.forget(node)

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
            body = encode_body(RunOver(self._run, reason).written(), tensors)
            self._send(body, receivers, everyone=True, counted=False)

    def close_round(self) -> None:
        """Nobody needs what was said in the open round any more."""
        for transfer in self._of_round:
            self.outbox.drop(transfer)
        self._of_round = set()
        self._carries = {}
        self._passing = None

    def acknowledged(self, node: str, ack: Ack) -> None:
        new = self.outbox.acknowledged(node, ack)
        if new and ack.id in self._carries:
            self._has[node] = self._carries[ack.id]
        if new and self._passing is not None and ack.id == self._passing[0]:
            self.pass_on(node, self._passing[1])

    def answered(self, node: str) -> None:
        """Who answers the open step has what was asked."""
        for transfer in self._of_step:
            self.outbox.acknowledged(node, Ack(transfer))

    def wanted(self, node: str, want: Want) -> None:
        self.outbox.wanted(node, want, self._clock.monotonic())

    def _send(self, body: bytes, nodes: Tuple[str, ...], everyone: bool, counted: bool = True) -> Set[bytes]:
        """One transfer: a single broadcast when it is for everybody, else a copy for each node. Returns their ids."""
        if counted:
            self._figures.sent(len(body), len(nodes))
        receivers = {node: self._topics.down(node) for node in nodes}
        if everyone and len(nodes) > 1:
            return {self._send_one(body, EVERYONE, self._topics.all_nodes, receivers)}
        return {self._send_one(body, node, topic, {node: topic}) for node, topic in receivers.items()}

    def _send_one(self, body: bytes, addressee: str, topic: str, receivers: Dict[str, Any]) -> bytes:
        message = self._signer.say(body, addressee)
        self.outbox.send(message, topic, receivers, self._clock.monotonic())
        return transfer_id(message)
