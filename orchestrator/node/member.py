"""A party to runs: a node, a key holder, the upper half of a relay. Hears tasks, rounds and their steps, and when runs are over.

What each of them does about a task, a round and a step is its own. None of what is here lets an answer out: a node charges its
ledger for each (agent.py); a key holder and a relay have no data of their own.
"""

import logging
from abc import abstractmethod
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
from orchestrator.node.figures import MemoryFigures
from orchestrator.node.gatekeeper import Gatekeeper
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.intake import most_unpacked
from orchestrator.node.open_runs import Announced, AtWork, OpenRuns
from orchestrator.node.opening import OUT_OF_MEMORY, milestones
from orchestrator.node.peers import Peers
from orchestrator.node.policy import OPEN, Policy
from orchestrator.node.presence import Presence
from orchestrator.node.run import Run
from orchestrator.node.session import Session
from orchestrator.node.store import NodeStore
from orchestrator.node.tasks import GATEWAY
from orchestrator.wire.announcing import OfRun, RoundAnnounced, RunOver
from orchestrator.wire.answering import Abstention, WeightsWanted
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import Broker
from orchestrator.wire.presence import Hello, RunDeclined
from orchestrator.wire.secure_steps import AttemptOf

log = logging.getLogger("edgeward.node")
LOCK_FILE = "node.lock"
IN_USE = "{folder}: process {pid} is a node with this folder; stop it, or give this one another --state"

Tensors = Dict[str, np.ndarray]


class Member(Session):
    """Runs until `stop`, or until the first run is over with `once`."""

    def __init__(
        self,
        broker: Broker,
        federation: str,
        name: str,
        state: Path,
        once: bool = False,
        labels: Optional[Dict[str, str]] = None,
        identity: Optional[NodeIdentity] = None,
        policy: Optional[Path] = None,
        otherwise: Policy = OPEN,
    ) -> None:
        """otherwise: the owner's rules where there is no `policy`."""
        self._state = state
        self._lock = FolderLock(state, LOCK_FILE, IN_USE)
        self._lock.take()  # two processes would charge one ledger, and answer as one node
        self.store = NodeStore(state / "node.sqlite")
        self.gatekeeper = Gatekeeper(state, self.store, policy, identity, name, otherwise)
        self.peers = Peers(name, self.store, identity, self.gatekeeper.roster, first_sight=policy is None)
        self._once = once
        self.runs = OpenRuns()
        self._memory = MemoryFigures(lambda: () if self._run is None else self._run.processes())
        self._homeless: Optional[Announced] = None  # a round whose task may be right behind it
        super().__init__(broker, federation, name, self.store, identity)
        constant = {"node": name, "instance": self.instance, "labels": labels or {}}
        topic = self.topics.presence(name)
        self.presence = Presence(topic, self.link, self.runs, self._memory, self.gatekeeper.ledger_head, constant)

    @abstractmethod
    def _take_task(self, header: Dict[str, Any], tensors: Tensors) -> None:
        """Begins the run of an announced task, or declines it."""

    @abstractmethod
    def _answer_round(self, header: Dict[str, Any], tensors: Tensors) -> None:
        """Does its part in the newest round announced of the run at hand."""

    @abstractmethod
    def _take_step(self, header: Dict[str, Any], tensors: Tensors) -> None:
        """Answers a step of a secure round."""

    def _leave(self, run: str, error: EdgewardError) -> None:
        """Declines a run it took part in, for a reason that does not go away."""
        self.runs.end(run)
        self.presence.say(RunDeclined(run, error.code))

    def _over(self, run: str) -> None:
        """A run is over, whether or not it took part in it."""

    def _ended(self, run: Run, tensors: Tensors) -> None:
        """A run it takes part in is over; tensors: what its gateway gives at the end."""

    def _idle(self) -> None:
        self._answer_newest_round()

    def _work_waits(self) -> bool:
        return self._at.round is not None

    def _close(self) -> None:
        self.gatekeeper.close()
        self.store.close()
        self._lock.free()

    def _take(self, kind: str, transfer: bytes, header: Dict[str, Any], tensors: Tensors) -> None:
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
            self._leave(OfRun.read(header).run, error)
        except EdgewardError as error:
            self._refuse("a round", error)
        except MemoryError:
            self._refuse("a round", EdgewardError(OUT_OF_MEMORY))

    def _take_round(self, transfer: bytes, header: Dict[str, Any], tensors: Tensors) -> None:
        announced = RoundAnnounced.read(header)
        if self.runs.turn_to(announced.run):
            self._begin_round(header, tensors)
            return
        log.info("round %d belongs to another run; waiting for its task", announced.round)
        self._homeless = (header, tensors)
        self._inbox.hear_again(GATEWAY, transfer)

    def _begin_round(self, header: Dict[str, Any], tensors: Tensors) -> None:
        whole = self._at.weights.whole(header, tensors)
        if whole is not None:
            self._at.round = (header, whole)
            return
        at = RoundAnnounced.read(header)
        log.info("round %d is about a change of weights this node does not have; asking for them", at.round)
        self._send(encode_body(WeightsWanted(at.run, at.round).written()))

    def _released(self, run: Run, number: int) -> Optional[bytes]:
        """The answer it gave to a round before, to be sent again; WireError where it can give none any more."""
        if not run.task.stages.of(number):
            raise WireError(f"round {number} of a run with {run.task.last_round} rounds")
        try:
            return self.store.released(run.id, number, run.digest)
        except EdgewardError as error:
            raise WireError(f"refused: {error}", "round") from error

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

    def _drop_answers(self) -> None:
        for answer in self._at.answers:
            self.outbox.drop(answer)
        self._at.answers.clear()

    def _abstain(self, header: Dict[str, Any], reason: EdgewardError) -> None:
        if isinstance(reason, (StoreError, DamagedError)):
            # Of this machine, and not of the attempt: the next one would be as short. The deadline is what gives it time.
            self._refuse("a step", reason)
            return
        at = AttemptOf.read(header)
        log.warning("round %d, attempt %d: abstained: %s", at.round, at.attempt, reason)
        self._send(encode_body(Abstention(at.run, at.round, at.attempt, reason.code).written()))
        if isinstance(reason, DisclosureError):
            self._leave(at.run, reason)

    def _finish(self, header: Dict[str, Any], tensors: Tensors) -> None:
        said = RunOver.read(header)
        self._over(said.run)
        run = self.runs.find(said.run)
        if run is None:
            self.runs.end(said.run)
            return
        self.runs.turn_to(run.id)
        milestones.info("run %s is over: %s", run.id, said.reason or "finished")
        self._ended(run, tensors)
        self._drop_answers()
        self.runs.end(run.id)
        self.presence.say(Hello(run.id))
        if self._once:
            self.link.flush(2.0)
            self.stop()
