"""The gateway: carries the coordinator's actions out, and the world's events in.

One thread, one loop. For every event: store it, then act on what the coordinator answers. After a crash the journal is
replayed into a new coordinator and its `Started` action continues where the run was.
"""

import logging
import queue
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, RoundError, UsageError, WireError
from orchestrator.gateway.aggregation import Aggregation, Evaluate
from orchestrator.gateway.announcer import Announcer
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.central_noise import CentralAggregation
from orchestrator.gateway.encrypted_aggregation import EncryptedAggregation
from orchestrator.gateway.figures import Figures
from orchestrator.gateway.ledgers import CODE as LOST
from orchestrator.gateway.ledgers import LedgerWatch
from orchestrator.gateway.names import Names
from orchestrator.gateway.refused import ANSWER, ANSWERS, MESSAGES, Refused
from orchestrator.gateway.run import RunResult, plan_of, standardization
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.gateway.selection import Standings
from orchestrator.gateway.store import PARTIAL, Store
from orchestrator.gateway.voice import Voice
from orchestrator.privacy.participation import secret_sample
from orchestrator.privacy.standardization import floor_warning
from orchestrator.rounds.events import (
    STATISTICS_ROUND,
    Abstained,
    Action,
    Aggregate,
    Aggregated,
    Announce,
    Arrived,
    Declined,
    Ended,
    Event,
    Fail,
    Finish,
    Joined,
    Left,
    Provided,
    Rated,
    Started,
    Ticked,
    Unopened,
    Wake,
)
from orchestrator.rounds.secure import (
    ACKNOWLEDGED_STEPS,
    DECRYPT,
    JOINING_STEPS,
    MASKED,
    PREPARED,
    VECTOR_STEPS,
    SecureCoordinator,
    coordinator_of,
)
from orchestrator.wire.body import PRESENCE_BYTES, decode_body, encode_body, require
from orchestrator.wire.cbor import NARROW
from orchestrator.wire.frames import Ack, Chunk, Want, decode_frame, encode_frame, split
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Link, Message, client_id
from orchestrator.wire.plain import plain
from orchestrator.wire.refusals import code_in, text_of
from orchestrator.wire.task import task_from_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Inbox, transfer_id

log = logging.getLogger("edgeward.gateway")

ACKNOWLEDGE_AFTER_S = 0.5
"""How long a vector waits for its acknowledgement: the next step, if it comes before, says the same."""

MOST_RECORDS = 1 << 30
"""What a node may say it has: secure sums over a thousand nodes have room for that."""

GOODBYE_S = 10.0
"""How long to wait at the end for the nodes' last figures."""

Progress = Callable[[Dict[str, Any]], None]
HandUp = Callable[[int, np.ndarray, int], None]


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
        self._voice = Voice(authority, store.serial(run))
        self._task = task_from_dict(stored[0], f"stored run {run}")
        self._secure: Optional[SecureAggregation] = None
        if self._task.aggregation.secure:
            kind = EncryptedAggregation if self._task.aggregation.key_holder else SecureAggregation
            self._secure = kind(store, run, self._task, evaluate, federation)
        central = self._task.privacy.on and self._task.privacy.noise == "gateway"
        plain = CentralAggregation if central else Aggregation
        self._aggregation = self._secure or plain(store, run, self._task, evaluate)
        self._standings = Standings(self._task.selection)
        self._ledgers = LedgerWatch(store)
        self._waiting: Dict[str, str] = {}  # node -> digest of the task its owner has to approve
        self._progress = progress
        self._own_broker = own_broker
        self._hand_up = hand_up
        self._topics = Topics(federation)
        self._refused = Refused()
        self._names = Names()
        self._inbox = Inbox(self._aggregation.most_sent())
        self._epoch = time.time() - time.monotonic()
        self._wake_at: Optional[float] = None
        self._owed: List[Tuple[float, str, bytes]] = []  # when to acknowledge a vector, to whom, and how
        self._figures = Figures(self._task.training)
        if self._secure is not None:
            store.keep_certificates(run, self._voice.certificates)
        self._announcer = Announcer(
            run, self._task, stored[1], self._topics, self._voice, self._figures, store.certificates(run)
        )
        self._records: Dict[str, int] = {}
        self._units: Dict[str, int] = {}
        self._goodbyes: Set[str] = set()
        self._noted: Optional[Tuple[str, int]] = None
        plan = plan_of(self._task, self._store.secret(self._run, "selection"))
        self._coordinator = coordinator_of(plan)
        self._link = Link(
            broker, client_id(f"{federation}-gateway"), [self._topics.every_up, self._topics.every_presence]
        )
        self._link.send_from(self._announcer.outbox.next)

    def run(self, connect_timeout_s: float = 30.0) -> RunResult:
        """Serves until the run is finished; raises RoundError when it failed, BrokerError without a broker."""
        resumed = False
        for event in self._store.journal(self._run):
            resumed = True
            self._coordinator.handle(event)
            if isinstance(event, Joined):
                self._note_counts(event)
        self._link.open(connect_timeout_s)
        self._tell("open", broker=str(self._link.address), phase=self._coordinator.phase, round=self._coordinator.round)
        if resumed:
            self._tell(
                "resumed",
                here=sorted(self._coordinator.online),
                declined=dict(sorted(self._coordinator.declined.items())),
                waits_for=self._coordinator.waits_for(),
            )
        try:
            self._happen(Started(self._now()))
            while not self._coordinator.over:
                self._step()
            self._say_goodbye()
        finally:
            self._link.flush(5.0)
            self._link.close()
        if self._coordinator.reason:
            raise RoundError(f"run {self._run} failed: {self._coordinator.reason}")
        return RunResult(self._store, self._run, self._task, self._records)

    def _now(self) -> float:
        """Seconds for events: wall time at the start, then the monotonic clock, so that setting the clock moves nothing."""
        return self._epoch + time.monotonic()

    def _step(self) -> None:
        """One message, or what is due when none comes."""
        self._link.pump()
        try:
            event = self._link.events.get(timeout=self._wait_s())
        except queue.Empty:
            self._announcer.outbox.due(time.monotonic())
            self._watch_broker()
            if self._task.selection.seen_within_s:
                for node in sorted(self._coordinator.online):
                    self._rate(node)
        else:
            if isinstance(event, Connected):
                self._announcer.outbox.hurry(time.monotonic())
            elif isinstance(event, Disconnected):
                self._tell("broker_lost", reason=event.reason)
                self._watch_broker()
            elif isinstance(event, Supply):
                self._take_supply(event)
            else:
                self._receive(event)
        self._acknowledge()
        if self._wake_at is not None and self._now() >= self._wake_at:
            self._wake_at = None
            self._happen(Ticked(self._now()))

    def _acknowledge(self) -> None:
        """What is owed, and due."""
        now = time.monotonic()
        for at, node, frame in self._owed:
            if at <= now:
                self._link.publish(self._topics.down(node), frame)
        self._owed = [owed for owed in self._owed if owed[0] > now]

    def supply(self, supply: Supply) -> None:
        """From any thread: it is taken in order with the messages of nodes."""
        self._link.events.put(supply)

    def _take_supply(self, supply: Supply) -> None:
        if supply.tensors is None:
            self._happen(Ended(self._now()))
            return
        done = {result["round"]: result for result in self._store.results(self._run)}
        vector = self._store.vector(self._run, PARTIAL)
        if supply.round == max(done, default=-1) and vector is not None and self._hand_up is not None:
            self._hand_up(supply.round, vector, int(done[supply.round]["records"]))  # asked again after a crash
        if supply.round <= self._coordinator.wanted:
            return
        event = Provided(self._now(), supply.round)
        with self._store.transaction():
            for name, tensor in supply.tensors.items():
                self._store.put_vector(self._run, name, tensor.ravel())
            self._store.append(self._run, event)
        self._carry_out(self._coordinator.handle(event))

    @property
    def records(self) -> Dict[str, int]:
        """node -> records, of all nodes that joined the run."""
        return dict(self._records)

    def _wait_s(self) -> float:
        waits = [0.5]
        if self._wake_at is not None:
            waits.append(self._wake_at - self._now())
        dues = [at for at, _, _ in self._owed]
        due = self._announcer.outbox.next_due()
        if due is not None:
            dues.append(due)
        waits += [at - time.monotonic() for at in dues]
        return max(0.0, min(waits))

    def _watch_broker(self) -> None:
        if self._own_broker is not None and self._own_broker.restart_if_dead():
            self._tell("broker_restarted", count=self._own_broker.restarts)
        if self._voice.revocations_changed():
            if self._own_broker is not None:
                self._own_broker.restart()  # a broker checks certificates when a connection begins, and never again
            for node in sorted(self._coordinator.online):
                if self._voice.objection(node):
                    self._leave(node)

    # Messages in

    def _receive(self, message: Message) -> None:
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
                self._leave(node)
                raise WireError(objection)
            if kind == "presence":
                self._take_presence(node, message.payload)
            elif kind == "up":
                self._take_frame(node, message.payload)
            self._refused.accepted(node)
        except WireError as error:
            if self._refused.says_more(node):
                log.warning("refused a message of %s: %s", node, error)
                self._tell("refused", node=node, reason=plain(error))
            if self._refused.message(node, time.monotonic()):
                self._put_out(node, MESSAGES)

    def _take_presence(self, node: str, payload: bytes) -> None:
        header, _ = decode_body(payload, PRESENCE_BYTES, NARROW)
        kind, instance = require(header, "kind", str), require({"instance": "", **header}, "instance", str)
        if kind == "gone":
            if self._names.left(node, instance):
                self._leave(node)
                second = self._names.waiting(node)
                if second is not None:
                    self._take_presence(node, second)
            return
        if kind == "refused":
            code = code_in(header)
            if self._refused.says_more(node):
                self._tell("node_refused", node=node, code=code, reason=text_of(code))
            return
        at_work = node in self._coordinator.cohort and node not in self._coordinator.arrived
        if not self._names.heard(node, instance, time.monotonic(), at_work and node in self._coordinator.online):
            self._refuse_second(node, instance, payload)
            return
        self._figures.heard(node, header.get("process"))
        self._standings.heard(node, header, time.monotonic())
        self._rate(node)
        if kind == "health":
            return
        this_run = header.get("run") == self._run
        # What makes no sense is refused before its silence on the ledger is held against the node.
        joined = self._joining(node, header) if kind == "ready" and this_run else None
        lost = self._ledgers.objection(node, header)
        if lost:
            self._decline(node, LOST, lost)
            return
        if joined is not None:
            self._note_counts(joined)
            if node not in self._coordinator.online:
                self._tell("joined", node=node, records=joined.records)
            self._happen(joined)
        elif kind == "declined" and this_run:
            code = code_in(header)
            self._decline(node, code, text_of(code))
        elif kind == "waiting" and this_run:
            asked = require(header, "digest", str)
            if self._waiting.get(node) != asked and self._refused.says_more(node):
                self._waiting[node] = asked
                code = code_in(header)
                self._tell("waiting", node=node, code=code, digest=asked[:64], reason=text_of(code))
        elif header.get("finished") == self._run:
            self._goodbyes.add(node)
        elif not self._coordinator.over:
            self._announcer.task(node)

    def _refuse_second(self, node: str, instance: str, presence: bytes) -> None:
        """Answers a second node under a name in use; the first one hears it too, and says again that it is here."""
        new, due = self._names.hold(node, instance, presence, time.monotonic())
        if new:
            log.error("refused a second node that calls itself %s: the first one goes on", node)
            self._tell("name_in_use", node=node)
        if due:
            said = {"kind": "taken", "run": self._run, "instance": instance, "at": self._now()}
            body = self._voice.say(encode_body(said), node)
            for chunk in split(transfer_id(body), body):
                self._link.publish(self._topics.down(node), encode_frame(chunk))

    def _joining(self, node: str, header: Dict[str, Any]) -> Joined:
        records = require(header, "records", int)
        units = require({"units": records, **header}, "units", int)
        holder = node == self._task.aggregation.key_holder
        if not holder and not 1 <= units <= records <= MOST_RECORDS:
            raise WireError(f"{node} is ready with {records} records of {units} privacy units")
        return Joined(self._now(), node, records, units)

    def _note_counts(self, event: Joined) -> None:
        if event.node != self._task.aggregation.key_holder:
            self._records[event.node], self._units[event.node] = event.records, event.units or event.records

    def _put_out(self, node: str, code: str) -> None:
        """Out of the run, by name; who was never in it is only named, so that invented names fill no journal."""
        reason = text_of(code)
        log.error("%s is out of the run: %s", node, reason)
        if node in self._coordinator.online or node in self._records:
            self._inbox.forget(node)
            self._announcer.outbox.forget(node)
            self._decline(node, code, reason)
        else:
            self._tell("declined", node=node, code=code, reason=reason)

    def _decline(self, node: str, code: str, reason: str) -> None:
        if self._coordinator.declined.get(node) != reason:
            self._tell("declined", node=node, code=code, reason=reason)
            self._happen(Declined(self._now(), node, reason, code))

    def _leave(self, node: str) -> None:
        self._inbox.forget(node)
        self._announcer.outbox.forget(node)
        if node in self._coordinator.online:
            self._tell("left", node=node)
            self._happen(Left(self._now(), node))

    def _rate(self, node: str) -> None:
        """Tells the coordinator when a node begins or ceases to fit the task's selection."""
        objection = self._standings.objection(node, time.monotonic())
        before = self._coordinator.objections.get(node, "")
        # Figures in an objection move all the time; the journal needs the change, not every degree.
        if bool(objection) != bool(before):
            self._tell("rated", node=node, objection=objection)
            self._happen(Rated(self._now(), node, objection))

    def _take_frame(self, node: str, payload: bytes) -> None:
        frame = decode_frame(payload)
        if isinstance(frame, Ack):
            self._announcer.acknowledged(node, frame)
        elif isinstance(frame, Want):
            self._announcer.wanted(node, frame)
        else:
            self._take_chunk(node, frame)

    def _take_chunk(self, node: str, chunk: Chunk) -> None:
        body, answer = self._inbox.feed(node, chunk)
        if answer is not None:
            self._link.publish(self._topics.down(node), encode_frame(answer))
        if body is None:
            return
        try:
            header, tensors = decode_body(body, self._aggregation.most_unpacked)
        except WireError:
            self._acknowledge_now(node, chunk)  # it would be refused again
            raise
        kind = require(header, "kind", str)
        if kind in ("step", "abstain") and self._secure is not None:
            self._take_answer(node, chunk, kind, header, tensors, body)
            return
        if kind != "update":
            raise WireError(f"a node may send updates{', steps' if self._secure else ''}, not {kind!r}")
        number, records = require(header, "round", int), require(header, "records", int)
        wanted = require(header, "run", str) == self._run and self._coordinator.accepts(node, number)
        wanted = wanted and node not in self._coordinator.declined  # a broadcast round reaches it all the same
        if wanted:
            try:  # before anything is stored
                self._check_counts(node, number, header)
                self._aggregation.check_update(number, header, tensors)
            except WireError:
                self._refuse_answer(node, chunk)
                raise
            self._figures.received(node, len(body), header)
            event = Arrived(self._now(), node, number, chunk.id.hex(), float(records))
            with self._store.transaction():
                # Under the round that is open: in buffered mode the update may have begun from an older one.
                self._store.put_update(self._run, self._coordinator.round, node, body)
                self._store.append(self._run, event)
        # Late and repeated updates are acknowledged too: the node need not keep them.
        self._acknowledge_now(node, chunk)
        if wanted:
            self._tell(
                "update",
                node=node,
                round=number,
                bytes=len(body),
                digest=event.digest,
                arrived=len(self._coordinator.arrived) + 1,
            )
            self._carry_out(self._coordinator.handle(event))

    def _acknowledge_now(self, node: str, chunk: Chunk) -> None:
        self._link.publish(self._topics.down(node), encode_frame(self._inbox.finish(node, chunk.id)))

    def _refuse_answer(self, node: str, chunk: Chunk) -> None:
        """An answer that was asked for and cannot be used: the round goes on without it, and after three without its node."""
        self._acknowledge_now(node, chunk)
        if self._refused.answer(node, chunk.id):
            self._put_out(node, ANSWERS)
        elif self._secure is None and (node in self._coordinator.cohort or node in self._coordinator.busy):
            coordinator = self._coordinator
            self._happen(Abstained(self._now(), node, coordinator.round, coordinator.attempt, text_of(ANSWER)))

    def _take_answer(
        self, node: str, chunk: Chunk, kind: str, header: Dict[str, Any], tensors: Dict[str, Any], body: bytes
    ) -> None:
        """A node's answer to a step of a secure round, or word that it is out of it."""
        assert self._secure is not None
        assert isinstance(self._coordinator, SecureCoordinator)
        number, attempt = require(header, "round", int), require(header, "attempt", int)
        event: Optional[Event] = None
        if require(header, "run", str) == self._run and kind == "abstain" and self._open(node, number, attempt):
            code = code_in(header)
            event = Abstained(self._now(), node, number, attempt, text_of(code))
            self._store.append(self._run, event)
            self._tell("abstained", node=node, round=number, code=code, reason=event.reason)
        elif (
            kind == "step"
            and header["run"] == self._run
            and self._coordinator.accepts_step(node, number, require(header, "step", str), attempt)
            and node not in self._coordinator.declined
        ):
            step = header["step"]
            try:
                self._secure.check_answer(step, header, tensors)
                if step in VECTOR_STEPS:
                    self._check_counts(node, number, header)
            except WireError:
                self._refuse_answer(node, chunk)
                raise
            self._figures.received(node, len(body), header)
            brings = (self._secure.prepares(step, header), self._secure.foresees(step, header))
            event = Arrived(self._now(), node, number, chunk.id.hex(), 1.0, step, attempt, *brings)
            # Before the next step, a loss of power costs no more than asking again: the journal ends earlier then, and a node
            # has its answers as long as the attempt lasts.
            with self._store.transaction(durable=False):
                self._secure.put_answer(event, header, body)
                self._store.append(self._run, event)
            if step in VECTOR_STEPS:
                self._store.flush()
        received = self._inbox.finish(node, chunk.id)
        self._announcer.answered(node)
        # The next step says that theirs are here, which soon follows most of them; a vector may have to wait for others.
        if isinstance(event, Arrived) and event.step in VECTOR_STEPS:
            self._owed.append((time.monotonic() + ACKNOWLEDGE_AFTER_S, node, encode_frame(received)))
        elif not isinstance(event, Arrived) or event.step in ACKNOWLEDGED_STEPS:
            self._link.publish(self._topics.down(node), encode_frame(received))
        if event is not None:
            if isinstance(event, Arrived) and event.step in VECTOR_STEPS:
                arrived = len(self._coordinator.arrived) + 1
                self._tell("update", node=node, round=number, bytes=len(body), digest=event.digest, arrived=arrived)
            self._carry_out(self._coordinator.handle(event))

    def _open(self, node: str, number: int, attempt: int) -> bool:
        """Whether the node's word on this attempt at a round counts: others are not journalled."""
        coordinator = self._coordinator
        return (number, attempt) == (coordinator.round, coordinator.attempt) and node in coordinator.cohort

    def _check_counts(self, node: str, number: int, header: Dict[str, Any]) -> None:
        """Raises WireError where a node claims more than it joined with."""
        # A region's gateway joins with the records of all its nodes; not all of them answer every round.
        for name, joined in (("records", self._records), ("units", self._units)):
            claimed = require({"units": header.get("records"), **header}, name, int)
            if not 1 <= claimed <= joined.get(node, 0):
                raise WireError(
                    f"update of round {number} claims {claimed} {name}, {node} joined with {joined.get(node)}"
                )

    # Events and actions

    def _happen(self, event: Event) -> None:
        """Journals an event that carries no data, then acts on it."""
        self._store.append(self._run, event)
        self._carry_out(self._coordinator.handle(event))

    def _note_phase(self) -> None:
        """Leaves word of the run's phase in the store when it changed, for those who only read it (history.py)."""
        phase = (self._coordinator.phase, self._coordinator.round)
        if phase != self._noted:
            self._noted = phase
            self._store.put_phase(self._run, self._now(), *phase, self._coordinator.reason)

    def _carry_out(self, actions: List[Action]) -> None:
        self._note_phase()
        for action in actions:
            if isinstance(action, Announce):
                self._announce(action)
            elif isinstance(action, Aggregate):
                self._aggregate(action)
            elif isinstance(action, Wake):
                self._wake_at = action.at
            elif isinstance(action, (Finish, Fail)):
                self._finish(action.reason if isinstance(action, Fail) else "")

    def _announce(self, action: Announce) -> None:
        joining = not action.step or action.step in JOINING_STEPS
        first = (action.step, action.attempt) == (MASKED, PREPARED)
        if joining or first:
            self._announce_round(action)
        if not joining and not (first and self._secure is not None and self._secure.in_one_message(action)):
            self._announce_step(action)

    def _announce_round(self, action: Announce) -> None:
        self._tell("round", round=action.round, of=self._task.training.rounds, nodes=list(action.nodes))
        everyone = set(action.nodes) == set(self._coordinator.online) - {self._task.aggregation.key_holder}
        everyone = everyone and not secret_sample(self._task)  # others listen too, and would learn that all were drawn
        self._announcer.round(action, lambda: self._round_body(action), everyone)

    def _announce_step(self, action: Announce) -> None:
        assert self._secure is not None
        self._tell("step", round=action.round, attempt=action.attempt, step=action.step, nodes=list(action.nodes))
        self._owed = [owed for owed in self._owed if owed[1] not in action.nodes]
        self._store.sync()  # nodes answer this step once, so what it is made of must not be lost
        if action.step == DECRYPT:
            assert isinstance(self._secure, EncryptedAggregation)
            self._announcer.begin_step()
            self._announcer.pass_on(self._task.aggregation.key_holder, self._secure.passed_on(action))
            return
        request = self._secure.request(action, self._counts())
        self._announcer.step(action, request, set(action.nodes) == set(self._coordinator.online))

    def _counts(self) -> Dict[str, Tuple[int, int]]:
        """node -> (records, privacy units), as it joined."""
        return {node: (records, self._units[node]) for node, records in self._records.items()}

    def _round_body(self, action: Announce) -> bytes:
        number = action.round
        tensors: Dict[str, np.ndarray] = {}
        if number != STATISTICS_ROUND:
            tensors = self._model()
        fields: Dict[str, Any] = {}
        if self._secure is not None:
            told, more = self._secure.opening(action, self._counts())
            fields.update(told)
            tensors.update(more)
        if STATISTICS_ROUND < number <= self._task.training.rounds:
            told, more = self._aggregation.broadcast()
            fields.update(told)
            tensors.update(more)
        return encode_body({"kind": "round", "run": self._run, "round": number, **fields}, tensors, level=1)

    def _model(self) -> Dict[str, np.ndarray]:
        mean, std = standardization(self._store, self._run, self._task)
        shape = self._task.schema.input_shape
        return {"weights": self._aggregation.weights(), "mean": mean.reshape(shape), "std": std.reshape(shape)}

    def _aggregate(self, action: Aggregate) -> None:
        self._tell("aggregating", round=action.round, nodes=list(action.nodes))
        try:
            outcome = self._aggregation.outcome(action, float(sum(self._records.values())))
        except PrivacyError as error:
            if self._secure is None:
                raise RoundError(f"run {self._run}, round {action.round}: {error}") from error
            self._tell("unopened", round=action.round, reason=str(error))
            self._happen(Unopened(self._now(), action.round, str(error)))
            return
        result = {**self._figures.of_round(action), **outcome.figures}
        event = Aggregated(self._now(), action.round, outcome.stop)
        with self._store.transaction():
            for name, vector in outcome.vectors.items():
                self._store.put_vector(self._run, name, vector)
            if outcome.evaluated is not None:
                self._store.add_to_result(self._run, *outcome.evaluated)
            self._store.put_result(self._run, action.round, result)
            self._store.drop_updates(self._run, action.round)
            self._store.drop_answers(self._run, action.round)
            self._store.append(self._run, event)
        self._announcer.close_round()
        if outcome.evaluated is not None:
            self._tell("evaluated", round=outcome.evaluated[0], **outcome.evaluated[1])
        hidden = outcome.figures.get("on_floor", [])
        if hidden:
            self._tell("on_floor", columns=hidden, reason=floor_warning(hidden))
        shortened = outcome.figures.get("shortened", [])
        if shortened:
            self._tell("shortened", round=action.round, nodes=shortened, names=", ".join(shortened))
        self._tell("aggregated", of=self._task.training.rounds, **result)
        if self._hand_up is not None and PARTIAL in outcome.vectors:
            self._hand_up(action.round, outcome.vectors[PARTIAL], int(outcome.figures["records"]))
        if outcome.stop:
            self._tell("stopped_early", round=action.round, patience=self._task.training.patience)
        self._carry_out(self._coordinator.handle(event))

    def _finish(self, reason: str) -> None:
        # Nodes with a personal part make their whole model of it and the final shared weights.
        tensors = self._model() if self._task.training.personal_parameters and not reason else {}
        # Why it failed may name other nodes, what they were asked and what they answered: that stays here.
        told = "the run failed; its gateway knows why" if reason else ""
        self._announcer.finished(told, tensors, self._coordinator.online)
        self._tell("failed" if reason else "finished", reason=reason)

    def _say_goodbye(self) -> None:
        """Gives every node that is here the chance to learn that the run is over, and to send its last figures."""
        deadline = time.monotonic() + GOODBYE_S
        expected = set(self._coordinator.online)
        while not expected <= self._goodbyes and time.monotonic() < deadline:
            expected &= set(self._coordinator.online)
            self._step()
        if self._goodbyes:
            self._figures.keep(self._store, self._run, self._goodbyes)

    def _tell(self, event: str, **fields: Any) -> None:
        self._progress({"event": event, "run": self._run, **fields})
