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

from orchestrator.analyses.registry import exchange_of
from orchestrator.errors import (
    EdgewardError,
)
from orchestrator.node.contribution import Contributor
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.held import Held
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.member import Member, Tensors
from orchestrator.node.opening import Opening
from orchestrator.node.pace import Pace
from orchestrator.node.peer_rounds import PeerRounds
from orchestrator.node.personal import PERSONAL, write_personal
from orchestrator.node.policy import OPEN, Policy
from orchestrator.node.run import Run, TrainerFactory
from orchestrator.node.secure_steps import SecureSteps
from orchestrator.node.tasks import Tasks
from orchestrator.node.trainer import GradientTrainer
from orchestrator.rounds.stages import FIRST_ROUND
from orchestrator.wire.announcing import OfRound
from orchestrator.wire.answering import Update
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import Broker
from orchestrator.wire.secure_steps import AttemptOf

log = logging.getLogger("edgeward.node")


class NodeAgent(Member):
    """Answers the rounds of tasks its owner allows with what its data give, each charged to the ledger before it leaves."""

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
        otherwise: Policy = OPEN,
    ) -> None:
        super().__init__(broker, federation, name, state, once, labels, identity, policy, otherwise)
        self.store.before_release = self.gatekeeper.charge
        self.trainer_factory = trainer_factory
        self._disclosure = DisclosureGuard(
            self.gatekeeper.disclosure, self.store, self.gatekeeper.word, self.gatekeeper.bounds_noise
        )
        graphs, held = trainer_factory is GradientTrainer, (self._disclosure, Held(state))
        opening = Opening(data, self.store, self.gatekeeper, self._memory, graphs, held)
        self._tasks = Tasks(name, self.runs, self.gatekeeper, self.peers, opening, self.presence)
        self._steps = SecureSteps(
            federation,
            name,
            self.runs,
            self.store,
            self.peers,
            self.gatekeeper,
            wake=self._wake,
            contributor=self._contributor,
            figures=self._figures,
            send=self._send,
            abstain=lambda header, reason: self._abstain(header, reason),
        )

        self._beside = self._talks = PeerRounds(
            federation, name, self.runs, self.store, self.peers, self._disclosure, self.link
        )

    def _idle(self) -> None:
        self._look_for_approval()
        self._answer_newest_round()

    def _take_task(self, header: Dict[str, Any], tensors: Tensors) -> None:
        begun = self._tasks.take(header, tensors)
        if begun is None:
            return
        if exchange_of(begun.task) is not None:
            self._talks.listen()
        early, self._homeless = self._homeless, None
        if early is not None and early[0].get("run") == begun.id:
            self._begin_round(*early)

    def _look_for_approval(self) -> None:
        for header, tensors in self._tasks.decided():
            self._take_task(header, tensors)

    def _answer_round(self, header: Dict[str, Any], tensors: Tensors) -> None:
        run, number = self._run, OfRound.read(header).round
        if run is None:
            return
        if run.task.aggregation.secure and run.task.stages.of(number):
            AttemptOf.read(header)  # before a talk begins: what neighbours get is of private data
            if not self._talks.waits_for(self._at, header, tensors):
                self._steps.begin(run, header, tensors)
                for held in self._talks.held_steps(self._at):
                    self._steps.answer(held)
            return
        body = self._released(run, number)
        if body is None and self._talks.waits_for(self._at, header, tensors):
            return
        if body is None:
            body = self._release(run, number, header, tensors)
        log.info("round %d: update of %d bytes", number, len(body))
        self._send(body)

    def _release(self, run: Run, number: int, announced: Dict[str, Any], tensors: Tensors) -> bytes:
        """Computes a round's answer and stores it durably; whatever happens from here on, the same bytes are sent."""
        self._wake(run, number)
        begun = time.monotonic()
        try:
            fields, sent, keep = self._contributor(run).open_answer(number, announced, tensors)
        finally:
            Pace(run.quantum_s(number), begun).hold()
        # Charged first, so that the answer says where the ledger ends with it: an older copy of this state shows ever after.
        self.store.charge(run.id, number)
        begun_with = Update(run.id, number, run.stated).written()
        body = encode_body({**begun_with, **fields, **self._figures()}, sent)
        self.store.release(run.id, number, run.digest, body, keep)
        stored = self.store.released(run.id, number, run.digest)
        return body if stored is None else stored

    def _figures(self) -> Dict[str, Any]:
        return {"memory_mib": self._memory.peak_mib(), "ledger": self.gatekeeper.ledger_head()}

    def _wake(self, run: Run, number: int) -> None:
        if (
            run.task.trains
            and self.trainer_factory is GradientTrainer
            and number > FIRST_ROUND
            and run.task.privacy.within_node
        ):
            run.wake()

    def _contributor(self, run: Run) -> Contributor:
        return Contributor(run, self.store, self.name, self.trainer_factory, self._disclosure)

    def _take_step(self, header: Dict[str, Any], tensors: Tensors) -> None:
        at = AttemptOf.read(header)
        if self.runs.turn_to(at.run) and self._at.round is not None:
            self._answer_newest_round()  # a step may come right behind its round; those of other runs wait
        if self._talks.holds_step(self._at, header):
            return
        before = self._at.secure
        if before is not None and before.precedes(at):
            self._at.early = header  # or before it
            return
        self._steps.answer(header)

    def _leave(self, run: str, error: EdgewardError) -> None:
        self._tasks.leave(run, error)

    def _over(self, run: str) -> None:
        self._tasks.over(run)
        self.store.exchanges.over(run)

    def _ended(self, run: Run, tensors: Tensors) -> None:
        if "weights" in tensors and self.store.kept(run.id, PERSONAL) is not None:
            whole, mean, std = self._contributor(run).updates.round_tensors(run.task.last_round, tensors)
            records = run.dataset.records
            path = write_personal(self._state, run.id, self.name, run.task, records, whole, mean, std)
            log.info("this node's own model: %s", path)
