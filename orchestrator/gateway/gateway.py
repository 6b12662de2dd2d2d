"""The gateway: carries the coordinator's actions out, and the world's events in.

One thread, one loop. For every event: store it, then act on what the coordinator answers. After a crash the journal is
replayed into a new coordinator and its `Started` action continues where the run was.
"""

import logging
import math
import queue
from typing import Dict, List, Optional, Sequence

from orchestrator.errors import RoundError, UsageError, WireError
from orchestrator.gateway.aggregation import Evaluate
from orchestrator.gateway.aggregation_kinds import aggregation_of
from orchestrator.gateway.announcer import Announcer
from orchestrator.gateway.answers import Answers
from orchestrator.gateway.attendance import Attendance
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.broker_watch import BrokerWatch
from orchestrator.gateway.conclusion import Conclusion, HandUp
from orchestrator.gateway.course import Course
from orchestrator.gateway.exchanged import needs_log
from orchestrator.gateway.figures import Figures
from orchestrator.gateway.goodbye import Goodbye
from orchestrator.gateway.message_signer import MessageSigner
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.questions import Questions
from orchestrator.gateway.refused import MESSAGES, Refused
from orchestrator.gateway.run import RunResult
from orchestrator.gateway.run_store import RunStore
from orchestrator.gateway.strays import Strays
from orchestrator.gateway.supply import Supply, take_supply
from orchestrator.rounds.events import (
    Action,
    Aggregate,
    Announce,
    Fail,
    Finish,
    Started,
    Ticked,
    Wake,
)
from orchestrator.wire.address import client_id
from orchestrator.wire.body import encode_body
from orchestrator.wire.frames import Ack, Want, decode_frame, encode_frame, split
from orchestrator.wire.link import Broker, Connected, Disconnected, Message
from orchestrator.wire.plain import plain
from orchestrator.wire.task import task_from_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Inbox, transfer_id

log = logging.getLogger("edgeward.gateway")


class Gateway:
    """Runs one federation run to its end. `progress` gets one plain dict for everything worth showing."""

    def __init__(
        self,
        store: RunStore,
        run: str,
        federation: str,
        broker: Broker,
        own_broker: Optional[OwnBroker] = None,
        evaluate: Optional[Evaluate] = None,
        progress: Progress = lambda event: None,
        authority: Optional[Authority] = None,
        hand_up: Optional[HandUp] = None,
        sites: Sequence[str] = (),
    ) -> None:
        """`run` must be in the store. `hand_up` gets (round, vector, records) for a higher gateway. Of `sites` see Attendance."""
        stored = store.find_run(run)
        if stored is None:
            raise UsageError(f"the store has no run {run!r}")
        self._store, self._run, self._clock = store, run, broker.clock
        self._signer = MessageSigner(authority, store.serial(run))
        self._task = task_from_dict(stored[0], f"stored run {run}")
        if needs_log(self._task):
            store.keep_certificates(run, self._signer.certificates)
        self.aggregation = aggregation_of(store, run, self._task, evaluate, federation)
        self._hand_up = hand_up
        self._topics = Topics(federation)
        self.refused = Refused()
        self._inbox = Inbox(self.aggregation.most_sent())
        self._wake_at: Optional[float] = None
        self._figures = Figures(self._task, self._clock)
        speaks = (self._topics, self._signer, self._figures, store.certificates(run), self._clock)
        self.announcer = Announcer(run, self._task, stored[1], *speaks)
        self.course = Course(store, run, self._task, progress, self._carry_out, self._clock)
        self.coordinator = self.course.coordinator
        self._conclusion = Conclusion(self.course, self.aggregation, self.announcer, self._figures, hand_up)
        self._attendance = Attendance(
            self.course, self.announcer, self._inbox, self.refused, self._figures, self._send_down, sites
        )
        self._goodbye = Goodbye(self.course, self._attendance, self._figures)
        self.answers = Answers(
            self.course,
            self.aggregation,
            self.announcer,
            self._inbox,
            self.refused,
            self._figures,
            self._send_frame,
            self._attendance,
        )
        self.questions = Questions(self.course, self.aggregation, self.announcer, self.answers)
        client = client_id(f"{federation}-gateway")
        self._presence = encode_body({"kind": "gateway", "identity": authority is not None})
        self._gone = encode_body({"kind": "gone"})
        self.link = broker.link(
            client,
            [self._topics.every_up, self._topics.every_presence, self._topics.gateway_echo],
            will=(self._topics.gateway_presence, self._gone),
        )
        self._strays = Strays(broker, federation, client) if authority is None else None
        self._broker = BrokerWatch(self.course, self.link, self._topics, own_broker)
        self.link.send_from(self.announcer.outbox.next)

    def run(self, connect_timeout_s: float = 30.0) -> RunResult:
        """Serves until the run is finished; raises RoundError when it stops before, BrokerError without a broker.

        A run that stopped for want of nodes or answers goes on where it stopped.
        """
        self.begin(connect_timeout_s)
        try:
            while not self.over:
                self.step()
        finally:
            self.close()
        return self.result()

    def begin(self, connect_timeout_s: float = 30.0) -> None:
        """Brings the run to where its journal ends, and connects; BrokerError without a broker. Then `step` until `over`."""
        resumed = self.course.replay()
        before = self.coordinator.reason
        if before and not self.coordinator.final:
            self.course.tell("trying_again", since=self.course.failed_at, reason=before)
        self.link.open(connect_timeout_s)
        self.course.tell(
            "open", broker=str(self.link.address), phase=self.coordinator.phase, round=self.coordinator.round
        )
        if resumed:
            self.course.tell(
                "resumed",
                here=sorted(self.coordinator.online),
                declined=dict(sorted(self.coordinator.declined.items())),
                waits_for=self.coordinator.waits_for(),
            )
        try:
            self.course.happen(Started(self.course.now()))
        except BaseException:
            self.close()
            raise

    @property
    def over(self) -> bool:
        """Whether the run has ended, and every node that is here knows it and sent its last figures, or had the time to."""
        return self._goodbye.over

    def close(self) -> None:
        """Leaves the broker, and says so there."""
        if self._strays is not None:
            self._strays.close()
        self.link.publish(self._topics.gateway_presence, self._gone, retain=True)
        self.link.flush(5.0)
        self.link.close()

    def result(self) -> RunResult:
        """Of a run that is over; RoundError with the reason where it stopped before its end."""
        self._goodbye.keep()
        if self.coordinator.reason:
            raise RoundError(self.course.stopped())
        return RunResult(self._store, self._run, self._task, self.course.records)

    def step(self, longest_s: float = math.inf) -> None:
        """One message, or what is due when none comes for as long as nothing is due, at most `longest_s`."""
        self.link.pump()
        begun, wait = self._clock.monotonic(), min(self.wait_s(), longest_s)
        try:
            self._clock.wait(self.link.events, begun + wait)
            event = self.link.events.get_nowait()
        except queue.Empty:
            self._broker.quiet(begun + wait)
            self.announcer.outbox.due(self._clock.monotonic())
            self._watch_broker()
            if self._strays is not None:
                self._strays.look_for(self.course)
            self._attendance.rate_all()
        else:
            if isinstance(event, Disconnected):
                self._broker.lost(event.reason)
                self._watch_broker()
            elif isinstance(event, Connected):
                self.link.publish(self._topics.gateway_presence, self._presence, retain=True)
                self._broker.connected()
                self.announcer.outbox.retry_now(self._clock.monotonic())
            elif isinstance(event, Supply):
                take_supply(self.course, event, self._hand_up)
            else:
                self.receive(event)
        self.answers.acknowledge_due()
        self._broker.keep_out(set(self.coordinator.declined))
        if self._wake_at is not None and not self._broker.away and self.course.now() >= self._wake_at:
            self._wake_at = None
            self.course.happen(Ticked(self.course.now()))
        self.course.compact()

    def supply(self, supply: Supply) -> None:
        """From any thread: it is handled in order with the messages of nodes."""
        self.link.events.put(supply)

    @property
    def records(self) -> Dict[str, int]:
        """node -> records, of all nodes that joined the run."""
        return dict(self.course.records)

    def wait_s(self) -> float:
        """Seconds until something is due though no message comes."""
        waits = [0.5]
        if self._wake_at is not None and not self._broker.away:
            waits.append(self._wake_at - self.course.now())
        dues = self.answers.dues
        due = self.announcer.outbox.next_due()
        if due is not None:
            dues.append(due)
        waits += [at - self._clock.monotonic() for at in dues]
        return max(0.0, min(waits))

    def _watch_broker(self) -> None:
        self._broker.restart_if_dead()
        if self._signer.revocations_changed():
            self._broker.end_connections()
            for node in sorted(self.coordinator.online):
                if self._signer.objection(node):
                    self._attendance.leave(node)

    def _send_down(self, node: str, body: bytes) -> None:
        message = self._signer.say(body, node)
        for chunk in split(transfer_id(message), message):
            self._send_frame(node, encode_frame(chunk))

    def _send_frame(self, node: str, frame: bytes) -> None:
        self.link.publish(self._topics.down(node), frame)

    # Messages in

    def receive(self, message: Message) -> None:
        own = message.topic == self._topics.gateway_echo
        self._broker.heard(message.payload if own else None)
        if own:
            return
        sender = self._topics.sender(message.topic)
        if sender is None:
            log.warning("ignored a message on the foreign topic %r", message.topic)
            return
        node, kind = sender
        if not self.refused.listens_to(node):
            return
        try:
            objection = self._signer.objection(node)
            if objection:
                self._watch_broker()  # a revocation ends the node's connection too, at once
                self._attendance.leave(node)
                raise WireError(objection)
            if kind == "presence":
                self._attendance.take(node, message.payload)
            elif kind == "up":
                self._take_frame(node, message.payload)
            self.refused.accepted(node)
        except WireError as error:
            if self.refused.says_more(node):
                self.course.tell("refused", node=node, reason=plain(error))
            if self.refused.message(node, self._clock.monotonic()):
                self._attendance.put_out(node, MESSAGES)

    def _take_frame(self, node: str, payload: bytes) -> None:
        frame = decode_frame(payload)
        if isinstance(frame, Ack):
            self.announcer.acknowledged(node, frame)
        elif isinstance(frame, Want):
            self.announcer.wanted(node, frame)
        else:
            self.answers.take(node, frame)

    # Events and actions

    def _carry_out(self, actions: List[Action]) -> None:
        for action in actions:
            if isinstance(action, Announce):
                self.questions.ask(action)
            elif isinstance(action, Aggregate):
                self._conclusion.conclude(action)
            elif isinstance(action, Wake):
                self._wake_at = action.at
            elif isinstance(action, Finish):
                self.questions.end()
                self.course.tell("finished", reason="")
            elif isinstance(action, Fail):
                if action.final:  # else nodes keep what they have: the run goes on when this gateway starts again
                    self.questions.end(action.reason)
                self.course.tell("failed", reason=action.reason)
