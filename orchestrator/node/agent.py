"""The node agent: one long-lived process, one loop. Takes a task, answers its rounds, keeps what it must not lose.

Messages (see wire/body.py for their form), node to gateway: presence `hello`, `ready`, `declined`, `waiting` (for its owner's
word), `refused`, `gone` (the last will); transfers `update`, in secure rounds `step` and `abstain`. Gateway to node: transfers
`task`, `round`, `step`, `finished`, `taken` (the name, by another node). Why something is declined, refused or abstained from
stays in this node's log; a code of wire/refusals.py travels.
"""

import hashlib
import logging
import queue
import time
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from orchestrator.database import StoreError
from orchestrator.errors import (
    BrokerError,
    DamagedError,
    EdgewardError,
    GraphError,
    LedgerError,
    UsageError,
    WireError,
)
from orchestrator.folder_lock import FolderLock
from orchestrator.node.contribution import Contributor, Run, TrainerFactory
from orchestrator.node.figures import MemoryFigures
from orchestrator.node.freshness import Guard
from orchestrator.node.gatekeeper import Gatekeeper
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.intake import MAX_MESSAGE_BYTES, most_unpacked
from orchestrator.node.open_runs import Announced, AtWork, OpenRuns
from orchestrator.node.opening import OUT_OF_MEMORY, Opening, milestones
from orchestrator.node.pace import Pace
from orchestrator.node.peers import Peers
from orchestrator.node.personal import PERSONAL, write_personal
from orchestrator.node.presence import Presence
from orchestrator.node.search import GatewaySearch
from orchestrator.node.secure import MaskedRound
from orchestrator.node.secure_steps import SecureSteps
from orchestrator.node.store import NodeStore
from orchestrator.node.tasks import GATEWAY, Tasks
from orchestrator.node.trainer import GradientTrainer
from orchestrator.rounds.secure import ACKNOWLEDGED_STEPS
from orchestrator.rounds.stages import FIRST_ROUND
from orchestrator.wire.body import decode_body, encode_body, require
from orchestrator.wire.frames import Ack, Chunk, Want, decode_frame, encode_frame
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Event, Link, client_id
from orchestrator.wire.process import forget_start
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Inbox, Outbox

log = logging.getLogger("edgeward.node")
LOCK_FILE = "node.lock"
IN_USE = "{folder}: process {pid} is a node with this folder; stop it, or give this one another --state"

SAY_EVERY_S = 30.0
"""How often a node that waits for its broker says so."""

_MOST_REFUSALS_SAID = 100
"""In the log one by one; from then on one a second at most."""


class NodeAgent:
    """Runs until `stop`, or until the first run is over with `once`."""

    def __init__(
        self,
        broker: BrokerAddress,
        federation: str,
        name: str,
        data: Path,
        state: Path,
        trainer_factory: TrainerFactory = GradientTrainer,
        once: bool = False,
        labels: Optional[Dict[str, str]] = None,
        identity: Optional[NodeIdentity] = None,
        policy: Optional[Path] = None,
    ) -> None:
        self._topics = Topics(federation)
        self._federation = federation
        self._name = name
        self._state = state
        self._lock = FolderLock(state, LOCK_FILE, IN_USE)
        self._lock.take()  # two processes would charge one ledger, and answer as one node
        self._store = NodeStore(state / "node.sqlite")
        self._guard = None if identity is None else Guard(identity.opener(), self._store)
        self._gatekeeper = Gatekeeper(state, self._store, policy, identity, name)
        self._peers = Peers(name, self._store, identity, self._gatekeeper.roster, first_sight=policy is None)
        self._store.before_release = self._gatekeeper.charge
        self._refusal_at = self._said_at = -SAY_EVERY_S
        self._refusals = 0
        self._trainer_factory = trainer_factory
        self._once = once
        self._outbox = Outbox()
        self._inbox = Inbox(MAX_MESSAGE_BYTES)
        self._runs = OpenRuns()
        self._memory = MemoryFigures(lambda: () if self._run is None else self._run.processes())
        opening = Opening(data, self._store, self._gatekeeper, self._memory, trainer_factory is GradientTrainer)
        self._homeless: Optional[Announced] = None  # a round whose task may be right behind it
        self._stopping = self._connected = False
        # Of this state folder: another node under this name is another one, for the broker as well.
        self._instance = hashlib.sha256(b"instance" + self._store.secret("instance")).hexdigest()[:16]
        self._taken = False
        gone = encode_body({"kind": "gone", "node": name, "instance": self._instance})
        client = client_id(f"{federation}-{name}", self._store.secret("client"))
        self._search = GatewaySearch(broker, federation, name, client, identity is not None)
        self._link = Link(
            broker,
            client,
            [self._topics.all_nodes, self._topics.down(name)],
            will=(self._topics.presence(name), gone),
        )
        self._link.send_from(self._outbox.next)
        self._gone = gone
        constant = {"node": name, "instance": self._instance, "labels": labels or {}}
        topic = self._topics.presence(name)
        self._presence = Presence(topic, self._link, self._runs, self._memory, self._gatekeeper.told, constant)
        self._tasks = Tasks(name, self._runs, self._gatekeeper, self._peers, opening, self._presence)
        self._steps = SecureSteps(
            federation,
            name,
            self._runs,
            self._store,
            self._peers,
            self._gatekeeper,
            wake=self._wake,
            contributor=self._contributor,
            figures=self._figures,
            send=lambda body: self._send(body),
            abstain=lambda header, reason: self._abstain(header, reason),
        )

    def run(self, connect_timeout_s: Optional[float] = 30.0) -> None:
        """Connects and serves; returns after `stop`. Raises BrokerError if the broker never answers; None: waits for it."""
        try:
            self._link.open(connect_timeout_s, self._waits)
        except BrokerError:
            if self._stopping:
                return
            raise
        forget_start(new_peak=True)
        milestones.info("connected to %s as %s", self._link.address, self._name)
        try:
            while not self._stopping:
                self._step()
        finally:
            if not self._taken:
                self._link.publish(self._topics.presence(self._name), self._gone, retain=True)
            self._link.flush(2.0)
            self._link.close()
            self._search.close()
            self._gatekeeper.close()
            self._store.close()
            self._lock.free()
        if self._taken:
            raise UsageError(
                f"another node is here as {self._name!r} and goes on: names are for one node each, start this one with another "
                "--name (with an identity: enrol it under another); if the other is this node with another state folder, stop it"
            )

    def _waits(self, reason: str) -> bool:
        """Says now and then that there is no broker yet; False once this node was asked to stop."""
        if time.monotonic() >= self._said_at + SAY_EVERY_S:
            self._said_at = time.monotonic()
            log.warning("no MQTT broker at %s yet (%s); waiting for it", self._link.address, reason)
        return not self._stopping

    def stop(self) -> None:
        self._stopping = True

    def _step(self) -> None:
        self._link.pump()
        try:
            self._handle(self._link.events.get(timeout=self._wait_s()))
        except queue.Empty:
            self._outbox.due(time.monotonic())
            self._presence.report_health()
            if self._search.step() and self._connected:  # once it is again, it is announced anyway
                self._presence.announce()
            self._look_for_approval()
            self._answer_newest_round()
        except WireError as error:
            self._refuse("a message", error)
        except MemoryError:  # how large a message is, and what it takes to read it, is the gateway's choice
            self._refuse("a message", EdgewardError(OUT_OF_MEMORY))

    def _wait_s(self) -> float:
        if self._at.round is not None:
            return 0.0
        due = self._outbox.next_due()
        return 0.5 if due is None else min(0.5, max(0.0, due - time.monotonic()))

    def _answer_newest_round(self) -> None:
        """Only when no message waits: a node that fell behind skips the rounds it missed."""
        if self._at.round is None and not self._runs.turn_to_waiting():
            return
        assert self._at.round is not None
        (header, tensors), self._at.round = self._at.round, None
        try:
            self._answer_round(header, tensors)
        except LedgerError:
            raise  # what this node has spent is not known any more: it serves nobody
        except GraphError as error:  # it is not loaded again, so no round needs to wait for this node
            self._refuse("a round", error)
            self._tasks.leave(require(header, "run", str), error)
        except EdgewardError as error:
            self._refuse("a round", error)
        except MemoryError:
            self._refuse("a round", EdgewardError(OUT_OF_MEMORY))

    def _refuse(self, what: str, error: EdgewardError) -> None:
        """Says why here, and that to the gateway; there at most once a second, and here, too, where there are many."""
        due = time.monotonic() >= self._refusal_at
        self._refusals += 1
        if due or self._refusals <= _MOST_REFUSALS_SAID:
            log.warning("refused %s: %s", what, error)
        if due:
            self._refusal_at = time.monotonic() + 1.0
            body = encode_body({"kind": "refused", "node": self._name, "code": error.code})
            self._link.publish(self._topics.presence(self._name), body)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Connected):
            self._connected = True
            self._presence.announce()
            self._outbox.hurry(time.monotonic())
            return
        if isinstance(event, Disconnected):
            self._connected = False
            log.warning("lost the broker (%s); reconnecting", event.reason)
            return
        if event.topic not in (self._topics.all_nodes, self._topics.down(self._name)):
            return  # amqtt hands retained presence to clients that did not subscribe to it
        frame = decode_frame(event.payload)
        if event.topic != self._topics.all_nodes:
            self._search.heard()
        if isinstance(frame, Ack):
            self._outbox.acknowledged(GATEWAY, frame)
        elif isinstance(frame, Want):
            self._outbox.wanted(GATEWAY, frame, time.monotonic())
        else:
            self._receive(frame)

    def _receive(self, chunk: Chunk) -> None:
        body, answer = self._inbox.feed(GATEWAY, chunk)
        if answer is not None:
            self._link.publish(self._topics.up(self._name), encode_frame(answer))
        if body is None:
            return
        # Acknowledged on receipt: whatever is lost with this process is announced again when it comes back.
        received = self._inbox.finish(GATEWAY, chunk.id)
        try:
            opened = None if self._guard is None else self._guard.open(body)
            header, tensors = decode_body(body if opened is None else opened.content, self._most_unpacked)
        except WireError:
            self._link.publish(self._topics.up(self._name), encode_frame(received))
            raise
        if self._guard is not None and opened is not None:
            self._guard.admit(header, opened.serial)
        kind = require(header, "kind", str)
        if kind == "step":
            self._drop_answers()  # the gateway has them, or it would not ask for the next
        if (
            kind != "step" or header.get("step") in ACKNOWLEDGED_STEPS
        ):  # the answers to other steps come at once, and say it too
            self._link.publish(self._topics.up(self._name), encode_frame(received))
        if kind == "task":
            self._inbox.hear_again(
                GATEWAY, chunk.id
            )  # the same task means the same thing again: where does this node stand?
            self._take_task(header, tensors)
        elif kind == "round":
            self._take_round(chunk.id, header, tensors)
        elif kind == "step":
            self._take_step(header, tensors)
        elif kind == "finished":
            self._finish(header, tensors)
        elif kind == "taken":
            self._name_taken(require(header, "instance", str))
        else:
            raise WireError(f"the gateway sent a message of kind {kind!r}, which this version does not know")

    def _take_round(self, transfer: bytes, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        run = require(header, "run", str)
        if self._runs.turn_to(run):
            self._begin_round(run, header, tensors)
            return
        log.info("round %s belongs to another run; waiting for its task", header.get("round"))
        self._homeless = (header, tensors)
        self._inbox.hear_again(GATEWAY, transfer)

    def _begin_round(self, run: str, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        whole = self._at.weights.whole(header, tensors)
        if whole is not None:
            self._at.round = (header, whole)
            return
        log.info("round %s is about a change of weights this node does not have; asking for them", header.get("round"))
        self._send(encode_body({"kind": "whole", "run": run, "round": require(header, "round", int)}))

    @property
    def _at(self) -> AtWork:
        return self._runs.at

    @property
    def _run(self) -> Optional[Run]:
        return self._runs.at.run

    def _most_unpacked(self, header: Dict[str, Any]) -> int:
        run = self._runs.find(str(header.get("run", "")))
        return (
            most_unpacked(header, "", None) if run is None else most_unpacked(header, run.id, run.task, run.parameters)
        )

    def _name_taken(self, refused: str) -> None:
        """A second node came under this name. Where it is this one, it ends; the first says again that it is here."""
        if refused == self._instance:
            self._taken = True
            self.stop()
        elif time.monotonic() >= self._presence.said_at + 1.0:
            log.error("another node calls itself %s: the gateway refused it", self._name)
            self._presence.announce()

    def _take_task(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        begun = self._tasks.take(header, tensors)
        if begun is None:
            return
        early, self._homeless = self._homeless, None
        if early is not None and early[0].get("run") == begun.id:
            self._begin_round(begun.id, *early)

    def _look_for_approval(self) -> None:
        for header, tensors in self._tasks.decided():
            self._take_task(header, tensors)

    def _answer_round(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        run, number = self._run, require(header, "round", int)
        if run is None:
            return
        if not run.task.stages.of(number):
            raise WireError(f"round {number} of a run with {run.task.last_round} rounds")
        if run.task.aggregation.secure:
            self._steps.begin(run, header, tensors)
            return
        try:
            body = self._store.released(run.id, number, run.digest)
        except EdgewardError as error:
            raise WireError(f"refused: {error}", "round") from error
        if body is None:
            body = self._release(run, number, header, tensors)
        log.info("round %d: update of %d bytes", number, len(body))
        self._send(body)

    def _send(self, body: bytes) -> None:
        up = self._topics.up(self._name)
        self._outbox.send(body, up, {GATEWAY: up}, time.monotonic())

    def _release(self, run: Run, number: int, announced: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> bytes:
        """Computes a round's answer and stores it durably; whatever happens from here on, the same bytes are sent."""
        self._wake(run, number)
        begun = time.monotonic()
        try:
            fields, sent, keep = self._contributor(run).open_answer(number, announced, tensors)
        finally:
            Pace(run.quantum_s(number), begun).hold()
        # Charged first, so that the answer says where the ledger ends with it: an older copy of this state shows ever after.
        self._store.charge(run.id, number)
        header = {"kind": "update", "run": run.id, "round": number, **fields, **self._figures()}
        body = encode_body(header, sent)
        self._store.release(run.id, number, run.digest, body, keep)
        stored = self._store.released(run.id, number, run.digest)
        return body if stored is None else stored

    def _figures(self) -> Dict[str, Any]:
        return {"memory_mib": self._memory.peak_mib(), "ledger": self._gatekeeper.told()}

    def _wake(self, run: Run, number: int) -> None:
        if (
            run.task.trains
            and self._trainer_factory is GradientTrainer
            and number > FIRST_ROUND
            and run.task.privacy.within_node
        ):
            run.wake()

    def _contributor(self, run: Run) -> Contributor:
        return Contributor(run, self._store, self._name, self._trainer_factory)

    def _take_step(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        if self._runs.turn_to(require(header, "run", str)) and self._at.round is not None:
            self._answer_newest_round()  # a step may come right behind its round; those of other runs wait
        before = self._at.secure
        if self._run is not None and isinstance(before, MaskedRound) and before.precedes(self._run, header):
            self._at.early = header  # or before it
            return
        self._steps.answer(header)

    def _drop_answers(self) -> None:
        for answer in self._at.answers:
            self._outbox.drop(answer)
        self._at.answers.clear()

    def _abstain(self, header: Dict[str, Any], reason: EdgewardError) -> None:
        if isinstance(reason, (StoreError, DamagedError)):
            # Of this machine, and not of the attempt: the next one would be as short. The deadline is what gives it time.
            self._refuse("a step", reason)
            return
        log.warning("round %s, attempt %s: abstained: %s", header.get("round"), header.get("attempt"), reason)
        about = {name: header.get(name) for name in ("run", "round", "attempt")}
        self._send(encode_body({"kind": "abstain", **about, "code": reason.code}))

    def _finish(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        name = require(header, "run", str)
        self._tasks.over(name)
        run = self._runs.find(name)
        if run is None:
            self._runs.end(name)
            return
        self._runs.turn_to(run.id)
        milestones.info("run %s is over: %s", run.id, header.get("reason") or "finished")
        if "weights" in tensors and self._store.kept(run.id, PERSONAL) is not None:
            whole, mean, std = self._contributor(run).round_tensors(run.task.last_round, tensors)
            records = run.dataset.records
            path = write_personal(self._state, run.id, self._name, run.task, records, whole, mean, std)
            log.info("this node's own model: %s", path)
        self._drop_answers()
        self._runs.end(run.id)
        self._presence.say(kind="hello", finished=header["run"])
        if self._once:
            self._link.flush(2.0)
            self.stop()
