"""This node's part in the steps of secure rounds: how they begin, what a step is answered, and when."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Type

from orchestrator.errors import EdgewardError, PrivacyError
from orchestrator.node.contribution import Contribution, Contributor
from orchestrator.node.gatekeeper import Gatekeeper
from orchestrator.node.open_runs import AtWork, OpenRuns
from orchestrator.node.opening import OUT_OF_MEMORY
from orchestrator.node.pace import Pace
from orchestrator.node.peers import Peers
from orchestrator.node.run import Run, Tensors
from orchestrator.node.store import NodeStore
from orchestrator.privacy.vector_layout import Layout
from orchestrator.rounds.steps import PREPARED, SHARES_OF
from orchestrator.wire.body import encode_body
from orchestrator.wire.secure_steps import AttemptOf, SharesOf
from orchestrator.wire.transfer import transfer_id

if TYPE_CHECKING:
    from orchestrator.node.secure import Answer, Contribute, SecureRound


@dataclass
class SecureSteps:
    """Of the run at hand, whichever that is."""

    federation: str
    name: str
    runs: OpenRuns
    store: NodeStore
    peers: Peers
    gatekeeper: Gatekeeper
    wake: Callable[[Run, int], None]  # starts the graph's process for the answer to a round
    contributor: Callable[[Run], Contributor]
    figures: Callable[[], Dict[str, Any]]  # what goes with an answer that carries values
    send: Callable[[bytes], None]
    abstain: Callable[[Dict[str, Any], EdgewardError], None]  # says that this node is out of what a message announced

    @property
    def _at(self) -> AtWork:
        return self.runs.at

    def begin(self, run: Run, header: Dict[str, Any], tensors: Tensors) -> None:
        """Goes along with an announced round, and answers its first step where that is asked with it."""
        at = AttemptOf.read(header)
        if self._at.secure is None or not self._at.secure.is_at(at):
            before, self._at.secure = self._at.secure, None
            party = before.following if before is not None and before.precedes(at) else None
            contribute = paced(run, self.contributor)
            kind = self.kind_of(run)
            try:
                about = (self.federation, run, header, tensors, self.name, self.peers, self.store)
                self._at.secure = kind(*about, contribute, party, self.gatekeeper.steady)
            except EdgewardError as error:
                self.abstain(header, error)
                return
        if at.attempt != PREPARED:
            self.answer(header)
        elif SHARES_OF in header:
            own = SharesOf.read(header).shares_of.get(self.name, {})
            self.answer({**header, "shares": own})
        elif self._at.early is not None:  # the first step has a message of its own, which is smaller and may be faster
            early, self._at.early = self._at.early, None
            self.answer(early)

    def kind_of(self, run: Run) -> "Type[SecureRound]":
        """Imported when a run needs it: a node in plain rounds has no memory for this cryptography."""
        if run.task.aggregation.key_holder:
            from orchestrator.node.encrypted import EncryptedRound

            return EncryptedRound
        from orchestrator.node.secure import MaskedRound

        return MaskedRound

    def answer(self, header: Dict[str, Any]) -> None:
        """This node's part in a step of a secure round, or the word that it is out of it, and why."""
        secure = self._at.secure
        at = AttemptOf.read(header)
        if secure is None or not secure.is_at(at):
            reason = "this node has no keys for this attempt: it came later, or began again"
            self.abstain(header, PrivacyError(reason, "sum.keys"))
            return
        self.wake(secure.run, secure.number)
        try:
            fields, tensors = self._answer_of(secure, header)
        except EdgewardError as error:
            self._at.secure = None
            self.abstain(header, error)
            return
        figures = self.figures() if tensors else {}
        body = encode_body({**fields, **figures}, tensors, level=1)
        self._at.answers.append(transfer_id(body))
        self.send(body)

    @staticmethod
    def _answer_of(secure: "SecureRound", header: Dict[str, Any]) -> "Answer":
        try:
            return secure.answer(header)
        except MemoryError as error:
            raise EdgewardError(OUT_OF_MEMORY) from error


def paced(run: Run, contributor: Callable[[Run], Contributor]) -> "Contribute":
    """What computes a secure round's vector. It ends, well or not, at a multiple of the quantum: what comes after, such as
    masks or encryption, takes as long whatever the sample was, and longer than a small one.
    """

    def contribute(number: int, announced: Dict[str, Any], tensors: Tensors, layout: Layout) -> Contribution:
        begun = time.monotonic()
        try:
            return contributor(run).contribute(number, announced, tensors, layout)
        finally:
            Pace(run.quantum_s(number), begun).hold()

    return contribute
