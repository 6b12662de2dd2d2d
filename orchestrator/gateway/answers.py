"""What nodes answer: updates, and their parts in the steps of secure rounds. Stored first, acknowledged then, counted last."""

from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from orchestrator.errors import WireError
from orchestrator.gateway.aggregation import Aggregation
from orchestrator.gateway.announcer import Announcer
from orchestrator.gateway.attendance import Attendance
from orchestrator.gateway.course import Course
from orchestrator.gateway.figures import Figures
from orchestrator.gateway.ledgers import CODE as LOST
from orchestrator.gateway.refused import ANSWER, ANSWERS, Refused
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.rounds.events import Abstained, Arrived, Event
from orchestrator.rounds.steps import ACKNOWLEDGED_STEPS, VECTOR_STEPS
from orchestrator.wire.announcing import Heading, OfRound
from orchestrator.wire.answering import Abstention, Update, WeightsWanted
from orchestrator.wire.body import decode_body
from orchestrator.wire.frames import Chunk, encode_frame
from orchestrator.wire.message import M
from orchestrator.wire.refusals import text_of
from orchestrator.wire.secure_steps import AttemptOf, Step
from orchestrator.wire.transfer import Inbox

ACKNOWLEDGE_AFTER_S = 0.5
"""How long a vector waits for its acknowledgement: the next step, if it comes before, says the same."""

SendFrame = Callable[[str, bytes], None]
"""(node, frame)"""


class Answers:
    """Of one run, in one gateway process."""

    def __init__(
        self,
        course: Course,
        aggregation: Aggregation,
        announcer: Announcer,
        inbox: Inbox,
        refused: Refused,
        figures: Figures,
        send: SendFrame,
        attendance: Attendance,
    ) -> None:
        self._course, self._coordinator = course, course.coordinator
        self._aggregation, self._announcer, self._inbox = aggregation, announcer, inbox
        self._secure = aggregation if isinstance(aggregation, SecureAggregation) else None
        self._refused, self._figures, self._send, self._attendance = refused, figures, send, attendance
        self._owed: List[Tuple[float, str, bytes]] = []  # when to acknowledge a vector, to whom, and how

    @property
    def dues(self) -> List[float]:
        """When acknowledgements are due, on the monotonic clock."""
        return [at for at, _, _ in self._owed]

    def said_otherwise(self, nodes: Tuple[str, ...]) -> None:
        """What goes to these nodes now says that theirs are here."""
        self._owed = [owed for owed in self._owed if owed[1] not in nodes]

    def acknowledge_due(self) -> None:
        """What is owed, and due."""
        now = self._course.clock.monotonic()
        for at, node, frame in self._owed:
            if at <= now:
                self._send(node, frame)
        self._owed = [owed for owed in self._owed if owed[0] > now]

    def take(self, node: str, chunk: Chunk) -> None:
        """Acts on a part of a transfer; WireError for one that makes no sense."""
        body, answer = self._inbox.feed(node, chunk)
        if answer is not None:
            self._send(node, encode_frame(answer))
        if body is None:
            return
        try:
            header, tensors = decode_body(body, self._aggregation.most_unpacked)
        except WireError:
            self._acknowledge_now(node, chunk)  # it would be refused again
            raise
        heading = self._read(node, chunk, Heading, header)
        kind, of_run = heading.kind, heading.run == self._course.run
        if kind in ("step", "abstain") and self._secure is not None:
            self._take_answer(node, chunk, kind, header, tensors, body)
            return
        if kind == "whole":
            self._acknowledge_now(node, chunk)
            if of_run:
                self._announcer.whole(node, WeightsWanted.read(header).round)
            return
        if kind != "update":
            self._acknowledge_now(node, chunk)
            raise WireError(f"a node may send updates{', steps' if self._secure else ''}, not {kind!r}")
        number = self._read(node, chunk, OfRound, header).round
        wanted = of_run and self._coordinator.accepts(node, number)
        wanted = wanted and node not in self._coordinator.declined  # a broadcast round reaches it all the same
        if wanted:
            try:  # before anything is stored
                update = Update.read(header)
                self._course.check_counts(node, number, header)
                self._aggregation.check_update(number, header, tensors)
                self._aggregation.scores.check(number, node, header)
            except WireError:
                self._refuse_answer(node, chunk)
                raise
            self._figures.received(node, len(body), header)
            event = Arrived(self._course.now(), node, number, chunk.id.hex(), float(update.records))
            head = self._ledger_head(node, chunk, header)
            with self._course.store.transaction():
                if head is not None:
                    self._course.store.put_ledger_head(node, head)
                # Under the round that is open: in buffered mode the update may have begun from an older one.
                self._course.store.put_update(self._course.run, self._coordinator.round, node, body)
                self._course.store.append(self._course.run, event)
        # Late and repeated updates are acknowledged too: the node need not keep them.
        self._acknowledge_now(node, chunk)
        if wanted:
            self._course.tell(
                "update",
                node=node,
                round=number,
                bytes=len(body),
                digest=event.digest,
                arrived=len(self._coordinator.arrived) + 1,
            )
            self._course.follow(event)

    def _read(self, node: str, chunk: Chunk, of: Type[M], header: Dict[str, Any]) -> M:
        """What of a message is of this class; WireError where it cannot be read, acknowledged as it would be refused again."""
        try:
            return of.read(header)
        except WireError:
            self._acknowledge_now(node, chunk)
            raise

    def _ledger_head(self, node: str, chunk: Chunk, header: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """What to keep of where a node's ledger ends with this answer, so that an older copy of it shows later.

        WireError where it is one already; its node is out of the run.
        """
        if "ledger" not in header:  # a relay has none
            return None
        try:
            lost, head = self._attendance.ledgers.judge(node, header)
        except WireError:
            self._refuse_answer(node, chunk)
            raise
        if lost:
            self._acknowledge_now(node, chunk)
            self._attendance.decline(node, LOST, lost)
            raise WireError(f"an answer of {node} is not counted: {lost}")
        return head

    def _acknowledge_now(self, node: str, chunk: Chunk) -> None:
        self._send(node, encode_frame(self._inbox.finish(node, chunk.id)))

    def _refuse_answer(self, node: str, chunk: Chunk) -> None:
        """An answer that was asked for and cannot be used: the round goes on without it, and after three without its node."""
        self._acknowledge_now(node, chunk)
        if self._refused.answer(node, chunk.id):
            self._attendance.put_out(node, ANSWERS)
        elif self._secure is None and (node in self._coordinator.cohort or node in self._coordinator.busy):
            coordinator = self._coordinator
            self._course.happen(
                Abstained(self._course.now(), node, coordinator.round, coordinator.attempt, text_of(ANSWER))
            )

    def _take_answer(
        self, node: str, chunk: Chunk, kind: str, header: Dict[str, Any], tensors: Dict[str, Any], body: bytes
    ) -> None:
        """A node's answer to a step of a secure round, or word that it is out of it."""
        assert self._secure is not None
        said: AttemptOf = self._read(node, chunk, Step if kind == Step.KIND else Abstention, header)
        of_run, number, attempt = said.run == self._course.run, said.round, said.attempt
        event: Optional[Event] = None
        if of_run and isinstance(said, Abstention) and self._open(node, number, attempt):
            event = Abstained(self._course.now(), node, number, attempt, text_of(said.code))
            self._course.store.append(self._course.run, event)
            self._course.tell("abstained", node=node, round=number, code=said.code, reason=event.reason)
        elif (
            of_run
            and isinstance(said, Step)
            and self._coordinator.accepts_step(node, number, said.step, attempt)
            and node not in self._coordinator.declined
        ):
            step = said.step
            try:
                self._secure.check_answer(step, header, tensors)
                if step in VECTOR_STEPS:
                    self._course.check_counts(node, number, header)
            except WireError:
                self._refuse_answer(node, chunk)
                raise
            self._figures.received(node, len(body), header)
            brings = (self._secure.prepares(step, header), self._secure.foresees(step, header))
            event = Arrived(self._course.now(), node, number, chunk.id.hex(), 1.0, step, attempt, *brings)
            # Before the next step, a loss of power costs no more than asking again: the journal ends earlier then, and a node
            # has its answers as long as the attempt lasts.
            head = self._ledger_head(node, chunk, header)
            with self._course.store.transaction(durable=False):
                if head is not None:
                    self._course.store.put_ledger_head(node, head)
                self._secure.put_answer(event, header, body)
                self._course.store.append(self._course.run, event)
            if step in VECTOR_STEPS:
                self._course.store.flush()
        received = self._inbox.finish(node, chunk.id)
        self._announcer.answered(node)
        # The next step says that theirs are here, which soon follows most of them; a vector may have to wait for others.
        if isinstance(event, Arrived) and event.step in VECTOR_STEPS:
            self._owed.append((self._course.clock.monotonic() + ACKNOWLEDGE_AFTER_S, node, encode_frame(received)))
        elif not isinstance(event, Arrived) or event.step in ACKNOWLEDGED_STEPS:
            self._send(node, encode_frame(received))
        if event is not None:
            if isinstance(event, Arrived) and event.step in VECTOR_STEPS:
                arrived = len(self._coordinator.arrived) + 1
                self._course.tell(
                    "update", node=node, round=number, bytes=len(body), digest=event.digest, arrived=arrived
                )
            self._course.follow(event)

    def _open(self, node: str, number: int, attempt: int) -> bool:
        """Whether the node's word on this attempt at a round counts: others are not journalled."""
        coordinator = self._coordinator
        return (number, attempt) == (coordinator.round, coordinator.attempt) and node in coordinator.cohort
