"""The gateway: carries the coordinator's actions out, and the world's events in.

One thread, one loop. For every event: store it, then act on what the coordinator answers. After a crash the journal is
replayed into a new coordinator and its `Started` action continues where the run was.
"""

import logging
import queue
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from orchestrator.errors import BrokerError, RoundError, UsageError, WireError
from orchestrator.gateway.aggregation import Aggregation, Evaluate
from orchestrator.gateway.announcer import Announcer
from orchestrator.gateway.answers import Answers
from orchestrator.gateway.attendance import Attendance
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.central_noise import CentralAggregation
from orchestrator.gateway.conclusion import Conclusion, HandUp
from orchestrator.gateway.course import Course
from orchestrator.gateway.encrypted_aggregation import EncryptedAggregation
from orchestrator.gateway.figures import Figures
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.reach import HELD_UP_S, Reach
from orchestrator.gateway.refused import MESSAGES, Refused
from orchestrator.gateway.run import RunResult, standardization
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.gateway.size_probe import SizeProbe
from orchestrator.gateway.store import PARTIAL, Store
from orchestrator.gateway.strays import Strays
from orchestrator.gateway.voice import Voice
from orchestrator.privacy.participation import secret_sample
from orchestrator.rounds.coordinator import GATHERING
from orchestrator.rounds.events import (
    Action,
    Aggregate,
    Announce,
    Ended,
    Fail,
    Finish,
    Provided,
    Regained,
    Started,
    Ticked,
    Wake,
)
from orchestrator.rounds.secure import (
    DECRYPT,
    JOINING_STEPS,
    MASKED,
    PREPARED,
)
from orchestrator.rounds.stages import STATISTICS, TRAINING
from orchestrator.wire.body import encode_body
from orchestrator.wire.frames import Ack, Want, decode_frame, encode_frame, split
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Link, Message, client_id
from orchestrator.wire.plain import plain, when
from orchestrator.wire.task import task_from_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Inbox, transfer_id
from orchestrator.wire.weight_step import CODEC, WeightStep, digest_of_weights

log = logging.getLogger("edgeward.gateway")

GOODBYE_S = 10.0
"""How long to wait at the end for the nodes' last figures."""


@dataclass(frozen=True)
class Supply:
    """From the higher gateway, through this one's queue: a round with its tensors, or with None the end of the run."""

    round: int
    tensors: Optional[Dict[str, np.ndarray]]


class Gateway:
    """Runs one federation run to its end. `progress` gets one plain dict for everything worth showing."""

    def __init__(
        self,
        store: Store,
        run: str,
        federation: str,
        broker: BrokerAddress,
        own_broker: Optional[OwnBroker] = None,
        evaluate: Optional[Evaluate] = None,
        progress: Progress = lambda event: None,
        authority: Optional[Authority] = None,
        hand_up: Optional[HandUp] = None,
    ) -> None:
        """`run` must be in the store (see `open_run`). `hand_up` gets (round, vector, records) for a higher gateway."""
        stored = store.find_run(run)
        if stored is None:
            raise UsageError(f"the store has no run {run!r}")
        self._store = store
        self._run = run
        self._federation = federation
        self._voice = Voice(authority, store.serial(run))
        self._task = task_from_dict(stored[0], f"stored run {run}")
        self._secure: Optional[SecureAggregation] = None
        if self._task.aggregation.secure:
            kind = EncryptedAggregation if self._task.aggregation.key_holder else SecureAggregation
            self._secure = kind(store, run, self._task, evaluate, federation)
        central = self._task.privacy.central
        plain = CentralAggregation if central else Aggregation
        self._aggregation = self._secure or plain(store, run, self._task, evaluate)
        self._own_broker = own_broker
        self._hand_up = hand_up
        self._topics = Topics(federation)
        self._refused = Refused()
        self._inbox = Inbox(self._aggregation.most_sent())
        self._wake_at: Optional[float] = None
        self._figures = Figures(self._task)
        if self._secure is not None:
            store.keep_certificates(run, self._voice.certificates)
        self._announcer = Announcer(
            run, self._task, stored[1], self._topics, self._voice, self._figures, store.certificates(run)
        )
        self._course = Course(store, run, self._task, progress, self._carry_out)
        self._coordinator = self._course.coordinator
        self._conclusion = Conclusion(self._course, self._aggregation, self._announcer, self._figures, hand_up)
        self._attendance = Attendance(
            self._course, self._announcer, self._inbox, self._refused, self._figures, self._send_down
        )
        self._answers = Answers(
            self._course,
            self._aggregation,
            self._announcer,
            self._inbox,
            self._refused,
            self._figures,
            self._send_frame,
            self._attendance,
        )
        client = client_id(f"{federation}-gateway")
        self._presence = encode_body({"kind": "gateway", "identity": authority is not None})
        self._gone = encode_body({"kind": "gone"})
        self._link = Link(
            broker,
            client,
            [self._topics.every_up, self._topics.every_presence, self._topics.gateway_echo],
            will=(self._topics.gateway_presence, self._gone),
        )
        self._strays = Strays(broker, federation, client) if authority is None else None
        self._probe = SizeProbe()
        self._reach = Reach(time.monotonic(), trusted=own_broker is not None)
        self._link.send_from(self._announcer.outbox.next)

    def run(self, connect_timeout_s: float = 30.0) -> RunResult:
        """Serves until the run is finished; raises RoundError when it stops before, BrokerError without a broker.

        A run that stopped for want of nodes or answers goes on where it stopped.
        """
        resumed = self._course.replay()
        before = self._coordinator.reason
        if before and not self._coordinator.final:
            self._course.tell("trying_again", since=self._course.failed_at, reason=before)
        self._link.open(connect_timeout_s)
        self._course.tell(
            "open", broker=str(self._link.address), phase=self._coordinator.phase, round=self._coordinator.round
        )
        if resumed:
            self._course.tell(
                "resumed",
                here=sorted(self._coordinator.online),
                declined=dict(sorted(self._coordinator.declined.items())),
                waits_for=self._coordinator.waits_for(),
            )
        try:
            self._course.happen(Started(self._course.now()))
            while not self._coordinator.over:
                self._step()
            if not self._coordinator.reason or self._coordinator.final:
                self._say_goodbye()
        finally:
            if self._strays is not None:
                self._strays.close()
            self._link.publish(self._topics.gateway_presence, self._gone, retain=True)
            self._link.flush(5.0)
            self._link.close()
        if self._coordinator.reason:
            raise RoundError(self._stopped())
        return RunResult(self._store, self._run, self._task, self._course.records)

    def _stopped(self) -> str:
        stopped = f"run {self._run} stopped at {when(self._course.failed_at)}: {self._coordinator.reason}"
        if self._coordinator.final:
            return (
                f"{stopped}. Its nodes take no further part in it: begin another run (another seed in [task] is enough)"
            )
        return f"{stopped}. The same command goes on from there"

    def _step(self) -> None:
        """One message, or what is due when none comes."""
        self._link.pump()
        begun, wait = time.monotonic(), self._wait_s()
        try:
            event = self._link.events.get(timeout=wait)
        except queue.Empty:
            self._mind_time(begun + wait)
            self._announcer.outbox.due(time.monotonic())
            self._watch_broker()
            self._look_for_strays()
            self._attendance.rate_all()
        else:
            if isinstance(event, Disconnected):
                self._reach.lost()
                self._probe.lost()
                self._course.tell("broker_lost", reason=event.reason)
                self._watch_broker()
            elif isinstance(event, Connected):
                self._link.publish(self._topics.gateway_presence, self._presence, retain=True)
                self._regained(self._reach.heard(time.monotonic()))
                for payload in self._probe.messages() if self._own_broker is None else []:
                    self._link.publish(self._topics.gateway_echo, payload)
                self._announcer.outbox.hurry(time.monotonic())
            elif isinstance(event, Supply):
                self._take_supply(event)
            else:
                self._receive(event)
        self._answers.acknowledge_due()
        if self._own_broker is not None:
            self._own_broker.keep_out(set(self._coordinator.declined))
        if self._wake_at is not None and not self._reach.away and self._course.now() >= self._wake_at:
            self._wake_at = None
            self._course.happen(Ticked(self._course.now()))
        self._course.compact()

    def _mind_time(self, expected: float) -> None:
        """Nothing waits to be read: looks whether the broker passes anything on, and whether this process was held up."""
        now = time.monotonic()
        if now - expected > HELD_UP_S:
            self._regained(now - expected)
            return
        objection = self._probe.objection(now)
        if objection:
            raise BrokerError(f"the broker at {self._link.address}: {objection}. Then give the same command again")
        if self._reach.gone_silent(now):
            self._course.tell("broker_silent", seconds=self._reach.silent_s(now))
        if self._own_broker is not None and self._reach.stuck(now):
            self._own_broker.restart()
            self._reach.lost()
            self._course.tell("broker_restarted", count=self._own_broker.restarts)
        elif not self._reach.lost_connection and self._reach.due(now):
            self._link.publish(self._topics.gateway_echo, b"")

    def _regained(self, seconds: float) -> None:
        """After so many seconds in which no node could answer."""
        if seconds:
            self._course.tell("broker_back", seconds=seconds)
            self._course.happen(Regained(self._course.now(), seconds))

    def supply(self, supply: Supply) -> None:
        """From any thread: it is taken in order with the messages of nodes."""
        self._link.events.put(supply)

    def _take_supply(self, supply: Supply) -> None:
        if supply.tensors is None:
            self._course.happen(Ended(self._course.now()))
            return
        newest = [] if supply.round < 0 else list(self._store.each_result(self._run, supply.round))
        vector = self._store.vector(self._run, PARTIAL)
        if [r["round"] for r in newest] == [supply.round] and vector is not None and self._hand_up is not None:
            self._hand_up(supply.round, vector, int(newest[0]["records"]))  # asked again after a crash
        if supply.round <= self._coordinator.wanted:
            return
        event = Provided(self._course.now(), supply.round)
        with self._store.transaction():
            for name, tensor in supply.tensors.items():
                self._store.put_vector(self._run, name, tensor.ravel())
            self._store.append(self._run, event)
        self._course.follow(event)

    @property
    def records(self) -> Dict[str, int]:
        """node -> records, of all nodes that joined the run."""
        return dict(self._course.records)

    def _wait_s(self) -> float:
        waits = [0.5]
        if self._wake_at is not None and not self._reach.away:
            waits.append(self._wake_at - self._course.now())
        dues = self._answers.dues
        due = self._announcer.outbox.next_due()
        if due is not None:
            dues.append(due)
        waits += [at - time.monotonic() for at in dues]
        return max(0.0, min(waits))

    def _watch_broker(self) -> None:
        if self._own_broker is not None and self._own_broker.restart_if_dead():
            self._course.tell("broker_restarted", count=self._own_broker.restarts)
        if self._voice.revocations_changed():
            if self._own_broker is not None:
                self._own_broker.restart()  # a broker checks certificates when a connection begins, and never again
            for node in sorted(self._coordinator.online):
                if self._voice.objection(node):
                    self._attendance.leave(node)

    def _send_down(self, node: str, body: bytes) -> None:
        message = self._voice.say(body, node)
        for chunk in split(transfer_id(message), message):
            self._send_frame(node, encode_frame(chunk))

    def _send_frame(self, node: str, frame: bytes) -> None:
        self._link.publish(self._topics.down(node), frame)

    def _look_for_strays(self) -> None:
        """While nodes are waited for: those that wait for another federation's gateway at the same broker."""
        if self._strays is None:
            return
        if self._coordinator.phase != GATHERING:
            self._strays.close()
            return
        for presence in self._strays.found():
            who = presence.who
            self._course.tell(
                "stray", node=who.node, federation=who.federation, protocol=who.protocol, own=self._federation
            )

    # Messages in

    def _receive(self, message: Message) -> None:
        own = message.topic == self._topics.gateway_echo
        self._probe.heard(message.payload if own else b"", time.monotonic())
        self._regained(self._reach.heard(time.monotonic(), own))
        if own:
            return
        sender = self._topics.sender(message.topic)
        if sender is None:
            log.warning("ignored a message on the foreign topic %r", message.topic)
            return
        node, kind = sender
        if not self._refused.listens_to(node):
            return
        try:
            objection = self._voice.objection(node)
            if objection:
                self._watch_broker()  # a revocation ends the node's connection too, at once
                self._attendance.leave(node)
                raise WireError(objection)
            if kind == "presence":
                self._attendance.take(node, message.payload)
            elif kind == "up":
                self._take_frame(node, message.payload)
            self._refused.accepted(node)
        except WireError as error:
            if self._refused.says_more(node):
                self._course.tell("refused", node=node, reason=plain(error))
            if self._refused.message(node, time.monotonic()):
                self._attendance.put_out(node, MESSAGES)

    def _take_frame(self, node: str, payload: bytes) -> None:
        frame = decode_frame(payload)
        if isinstance(frame, Ack):
            self._announcer.acknowledged(node, frame)
        elif isinstance(frame, Want):
            self._announcer.wanted(node, frame)
        else:
            self._answers.take(node, frame)

    # Events and actions

    def _carry_out(self, actions: List[Action]) -> None:
        for action in actions:
            if isinstance(action, Announce):
                self._announce(action)
            elif isinstance(action, Aggregate):
                self._conclusion.conclude(action)
            elif isinstance(action, Wake):
                self._wake_at = action.at
            elif isinstance(action, (Finish, Fail)):
                self._finish(*((action.reason, action.final) if isinstance(action, Fail) else ()))

    def _announce(self, action: Announce) -> None:
        joining = not action.step or action.step in JOINING_STEPS
        first = (action.step, action.attempt) == (MASKED, PREPARED)
        if joining or first:
            self._announce_round(action)
        if not joining and not (first and self._secure is not None and self._secure.in_one_message(action)):
            self._announce_step(action)

    def _announce_round(self, action: Announce) -> None:
        self._course.tell("round", round=action.round, of=self._task.training.rounds, nodes=list(action.nodes))
        everyone = set(action.nodes) == set(self._coordinator.online) - {self._task.aggregation.key_holder}
        everyone = everyone and not secret_sample(self._task)  # others listen too, and would learn that all were drawn
        self._announcer.round(action, lambda: self._round_message(action), everyone, *self._weight_step(action))

    def _announce_step(self, action: Announce) -> None:
        assert self._secure is not None
        self._course.tell(
            "step", round=action.round, attempt=action.attempt, step=action.step, nodes=list(action.nodes)
        )
        self._answers.said_otherwise(action.nodes)
        self._store.sync()  # nodes answer this step once, so what it is made of must not be lost
        if action.step == DECRYPT:
            self._announcer.begin_step()
            self._announcer.pass_on(self._task.aggregation.key_holder, self._secure.passed_on(action))
            return
        request = self._secure.request(action, self._course.counts())
        self._announcer.step(action, request, set(action.nodes) == set(self._coordinator.online))

    def _weight_step(self, action: Announce) -> Tuple[str, Optional[WeightStep]]:
        """Digest of this round's weights, empty where weights always travel whole; and what leads to them."""
        if self._task.rounds.weights != CODEC or self._task.stages.of(action.round) == STATISTICS:
            return "", None
        current, step = digest_of_weights(self._aggregation.weights()), self._aggregation.step
        return current, step if step is not None and step.to == current else None

    def _round_message(self, action: Announce) -> Tuple[Dict[str, Any], Dict[str, np.ndarray]]:
        """Header and tensors of a round, the weights among them."""
        number, stage = action.round, self._task.stages.of(action.round)
        tensors: Dict[str, np.ndarray] = {}
        if stage != STATISTICS:
            tensors = self._model()
        fields: Dict[str, Any] = {}
        if self._secure is not None:
            told, more = self._secure.opening(action, self._course.counts())
            fields.update(told)
            tensors.update(more)
        if stage == TRAINING:
            told, more = self._aggregation.broadcast()
            fields.update(told)
            tensors.update(more)
        return {"kind": "round", "run": self._run, "round": number, **fields}, tensors

    def _model(self) -> Dict[str, np.ndarray]:
        mean, std = standardization(self._store, self._run, self._task)
        shape = self._task.schema.input_shape
        return {"weights": self._aggregation.weights(), "mean": mean.reshape(shape), "std": std.reshape(shape)}

    def _finish(self, reason: str = "", final: bool = True) -> None:
        if not final:  # nodes keep what they have: the run goes on when this gateway starts again
            self._course.tell("failed", reason=reason)
            return
        # Nodes with a personal part make their whole model of it and the final shared weights.
        tensors = self._model() if self._task.training.personal_parameters and not reason else {}
        # Why it failed may name other nodes, what they were asked and what they answered: that stays here.
        told = "the run failed; its gateway knows why" if reason else ""
        self._announcer.finished(told, tensors, self._coordinator.online)
        self._course.tell("failed" if reason else "finished", reason=reason)

    def _say_goodbye(self) -> None:
        """Gives every node that is here the chance to learn that the run is over, and to send its last figures."""
        deadline = time.monotonic() + GOODBYE_S
        expected = set(self._coordinator.online)
        while not expected <= self._attendance.goodbyes and time.monotonic() < deadline:
            expected &= set(self._coordinator.online)
            self._step()
        if self._attendance.goodbyes:
            self._figures.keep(self._store, self._run, self._attendance.goodbyes)
