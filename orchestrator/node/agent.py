"""The node agent: one long-lived process, one loop. Takes a task, answers its rounds, keeps what it must not lose.

Messages (see wire/body.py for their form), node to gateway: presence `hello`, `ready`, `declined`, `waiting` (for its owner's
word), `refused`, `gone` (the last will); transfers `update`, in secure rounds `step` and `abstain`. Gateway to node: transfers
`task`, `round`, `step`, `finished`, `taken` (the name, by another node). Why something is declined, refused or abstained from
stays in this node's log; a code of wire/refusals.py travels.
"""

import logging
import time
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from orchestrator.database import StoreError
from orchestrator.errors import (
    DamagedError,
    DisclosureError,
    EdgewardError,
    GraphError,
    LedgerError,
    WireError,
)
from orchestrator.folder_lock import FolderLock
from orchestrator.node.contribution import Contributor, Run, TrainerFactory
from orchestrator.node.figures import MemoryFigures
from orchestrator.node.gatekeeper import Gatekeeper
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.held import Held
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.intake import most_unpacked
from orchestrator.node.open_runs import Announced, AtWork, OpenRuns
from orchestrator.node.opening import OUT_OF_MEMORY, Opening, milestones
from orchestrator.node.pace import Pace
from orchestrator.node.peers import Peers
from orchestrator.node.personal import PERSONAL, write_personal
from orchestrator.node.presence import Presence
from orchestrator.node.secure_steps import SecureSteps
from orchestrator.node.session import GATEWAY, Session
from orchestrator.node.store import NodeStore
from orchestrator.node.tasks import Tasks
from orchestrator.node.trainer import GradientTrainer
from orchestrator.rounds.stages import FIRST_ROUND
from orchestrator.wire.body import encode_body, require
from orchestrator.wire.link import Broker

log = logging.getLogger("edgeward.node")
LOCK_FILE = "node.lock"
IN_USE = "{folder}: process {pid} is a node with this folder; stop it, or give this one another --state"


class NodeAgent(Session):
    """Runs until `stop`, or until the first run is over with `once`."""

    def __init__(
        self,
        broker: Broker,
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
        self._state = state
        self._lock = FolderLock(state, LOCK_FILE, IN_USE)
        self._lock.take()  # two processes would charge one ledger, and answer as one node
        self._store = NodeStore(state / "node.sqlite")
        self._gatekeeper = Gatekeeper(state, self._store, policy, identity, name)
        self._peers = Peers(name, self._store, identity, self._gatekeeper.roster, first_sight=policy is None)
        self._store.before_release = self._gatekeeper.charge
        self._trainer_factory = trainer_factory
        self._once = once
        self.runs = OpenRuns()
        self._memory = MemoryFigures(lambda: () if self._run is None else self._run.processes())
        self._disclosure = DisclosureGuard(
            self._gatekeeper.disclosure, self._store, self._gatekeeper.word, self._gatekeeper.bounds_noise
        )
        graphs, held = trainer_factory is GradientTrainer, (self._disclosure, Held(state))
        opening = Opening(data, self._store, self._gatekeeper, self._memory, graphs, held)
        self._homeless: Optional[Announced] = None  # a round whose task may be right behind it
        super().__init__(broker, federation, name, self._store, identity)
        constant = {"node": name, "instance": self.instance, "labels": labels or {}}
        topic = self.topics.presence(name)
        self._presence = Presence(topic, self.link, self.runs, self._memory, self._gatekeeper.told, constant)
        self._tasks = Tasks(name, self.runs, self._gatekeeper, self._peers, opening, self._presence)
        self._steps = SecureSteps(
            federation,
            name,
            self.runs,
            self._store,
            self._peers,
            self._gatekeeper,
            wake=self._wake,
            contributor=self._contributor,
            figures=self._figures,
            send=lambda body: self._send(body),
            abstain=lambda header, reason: self._abstain(header, reason),
        )

    def _idle(self) -> None:
        self._look_for_approval()
        self._answer_newest_round()

    def _work_waits(self) -> bool:
        return self._at.round is not None

    def _close(self) -> None:
        self._gatekeeper.close()
        self._store.close()
        self._lock.free()

    def _take(self, kind: str, transfer: bytes, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        if kind == "task":
            self._inbox.hear_again(GATEWAY, transfer)  # the same task means the same again: where does this node stand?
            self._take_task(header, tensors)
        elif kind == "round":
            self._take_round(transfer, header, tensors)
        elif kind == "step":
            self._take_step(header, tensors)
        elif kind == "finished":
            self._finish(header, tensors)
        else:
            raise WireError(f"the gateway sent a message of kind {kind!r}, which this version does not know")

    def _answer_newest_round(self) -> None:
        """Only when no message waits: a node that fell behind skips the rounds it missed."""
        if self._at.round is None and not self.runs.turn_to_waiting():
            return
        assert self._at.round is not None
        (header, tensors), self._at.round = self._at.round, None
        try:
            self._answer_round(header, tensors)
        except LedgerError:
            raise  # what this node has spent is not known any more: it serves nobody
        except (GraphError, DisclosureError) as error:  # it will be no other, so no round needs to wait for this node
            self._refuse("a round", error)
            self._tasks.leave(require(header, "run", str), error)
        except EdgewardError as error:
            self._refuse("a round", error)
        except MemoryError:
            self._refuse("a round", EdgewardError(OUT_OF_MEMORY))

    def _take_round(self, transfer: bytes, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        run = require(header, "run", str)
        if self.runs.turn_to(run):
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
        return self.runs.at

    @property
    def _run(self) -> Optional[Run]:
        return self.runs.at.run

    def _most_unpacked(self, header: Dict[str, Any]) -> int:
        run = self.runs.find(str(header.get("run", "")))
        return (
            most_unpacked(header, "", None) if run is None else most_unpacked(header, run.id, run.task, run.parameters)
        )

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
        return Contributor(run, self._store, self._name, self._trainer_factory, self._disclosure)

    def _take_step(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        if self.runs.turn_to(require(header, "run", str)) and self._at.round is not None:
            self._answer_newest_round()  # a step may come right behind its round; those of other runs wait
        before = self._at.secure
        if self._run is not None and before is not None and before.precedes(self._run, header):
            self._at.early = header  # or before it
            return
        self._steps.answer(header)

    def _drop_answers(self) -> None:
        for answer in self._at.answers:
            self.outbox.drop(answer)
        self._at.answers.clear()

    def _abstain(self, header: Dict[str, Any], reason: EdgewardError) -> None:
        if isinstance(reason, (StoreError, DamagedError)):
            # Of this machine, and not of the attempt: the next one would be as short. The deadline is what gives it time.
            self._refuse("a step", reason)
            return
        log.warning("round %s, attempt %s: abstained: %s", header.get("round"), header.get("attempt"), reason)
        about = {name: header.get(name) for name in ("run", "round", "attempt")}
        self._send(encode_body({"kind": "abstain", **about, "code": reason.code}))
        if isinstance(reason, DisclosureError):
            self._tasks.leave(require(header, "run", str), reason)

    def _finish(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        name = require(header, "run", str)
        self._tasks.over(name)
        run = self.runs.find(name)
        if run is None:
            self.runs.end(name)
            return
        self.runs.turn_to(run.id)
        milestones.info("run %s is over: %s", run.id, header.get("reason") or "finished")
        if "weights" in tensors and self._store.kept(run.id, PERSONAL) is not None:
            whole, mean, std = self._contributor(run).round_tensors(run.task.last_round, tensors)
            records = run.dataset.records
            path = write_personal(self._state, run.id, self._name, run.task, records, whole, mean, std)
            log.info("this node's own model: %s", path)
        self._drop_answers()
        self.runs.end(run.id)
        self._presence.say(kind="hello", finished=header["run"])
        if self._once:
            self.link.flush(2.0)
            self.stop()
