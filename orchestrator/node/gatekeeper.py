"""The one who decides for the node's owner: takes a run, makes it wait for a person, or refuses it; counts every release.

Holds policy, ledger and approvals together. Nothing here listens to a gateway: a task is judged by its declaration alone.
"""

import hashlib
import json
import logging
import math
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from orchestrator.errors import LedgerError, PrivacyError, UsageError, WireError
from orchestrator.node import accountant
from orchestrator.node.anchor import Anchor, FolderAnchor, StoreAnchor
from orchestrator.node.approval import Approvals, digest_of, summary_of
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.ledger import APPROVED, DENIED, LEDGER_FILE, Ledger, Reservation
from orchestrator.node.policy import Policy, PolicyFile, Refusal
from orchestrator.node.roster import Roster, roster_of
from orchestrator.node.store import NodeStore
from orchestrator.privacy.charges import charges_of
from orchestrator.rounds.events import STATISTICS_ROUND
from orchestrator.wire.task import Task, objection_to

log = logging.getLogger("edgeward.node")


class Waiting(NamedTuple):
    """The owner has not decided on this task yet."""

    digest: str
    reason: str
    code: str = "policy.approval"


Verdict = Union[Refusal, Waiting]


class Gatekeeper:
    """Opens (or begins) the ledger in `state`; raises LedgerError when it is not the one that was left there.

    policy: file of the owner's rules. identity: names the gateway that signs for this node; its folder remembers the ledger too.
    """

    def __init__(
        self,
        state: Path,
        store: NodeStore,
        policy: Optional[Path] = None,
        identity: Optional[NodeIdentity] = None,
    ) -> None:
        anchors: List[Anchor] = [StoreAnchor(store)]
        if identity is not None:
            anchors.append(FolderAnchor(identity.folder))
        self._policy, self._signer = PolicyFile(policy), "" if identity is None else identity.signer
        self._approvals = Approvals(state)
        self._tasks: Dict[str, Task] = {}  # of the runs this process took part in
        self._counted: Dict[Tuple[str, ...], Tuple[float, float]] = {}
        self._process, self._told = secrets.token_hex(8), 0
        self._ledger = Ledger(state / LEDGER_FILE, anchors)

    def told(self) -> Dict[str, Any]:
        """What every presence says of the ledger. process and n tell a message that comes twice from a ledger put back."""
        self._told += 1
        return {**self._ledger.head._asdict(), "process": self._process, "n": self._told}

    def roster(self) -> Roster:
        """The peers this node's owner confirmed."""
        return roster_of({}, "", self._ledger.trusted())

    def close(self) -> None:
        self._ledger.close()

    def admit(self, run: str, task: Task, declared: Dict[str, Any], graph: bytes, records: int) -> Optional[Verdict]:
        """None when this node takes part: the run's whole budget is reserved then, once however often the task comes."""
        objection = objection_to(task, records)
        if objection:
            return Refusal("claim", objection)
        try:
            policy, version = self._policy.read()
        except UsageError as error:
            return Refusal("policy.unreadable", f"this node's policy cannot be read, so nothing is taken: {error}")
        try:
            verdict = self._decide(policy, version, run, task, declared, graph, records)
        except LedgerError as error:
            return Refusal("ledger.lost", str(error))
        except PrivacyError as error:
            return Refusal("ledger.run", str(error))
        if verdict is None:
            self._tasks[run] = task
        return verdict

    def charge(self, run: str, number: int) -> None:
        """To be called before the answer to round `number` is stored: notes durably that it will be released.

        Raises WireError for what was not reserved: the round is refused. LedgerError (the ledger is gone) ends the node.
        """
        task = self._tasks.get(run)
        if task is None:
            raise WireError(f"refused: run {run} was not taken by this node")
        try:
            self._ledger.charge(run, number, self._uses(run, task, number))
        except LedgerError:
            raise
        except PrivacyError as error:
            raise WireError(f"refused: {error}") from error

    def _uses(self, run: str, task: Task, number: int) -> Dict[str, int]:
        uses, bands = uses_of(task, number), task.privacy.bands
        known = self._ledger.reservation(run)
        if "training" not in uses or bands == 1 or known is None:
            return uses
        # Noise that is correlated over rounds makes them one release, as long as nobody is in two of `bands` in a row.
        near = [n for n in known.rounds if n != STATISTICS_ROUND and 0 < abs(number - n) < bands]
        if near:
            raise PrivacyError(
                f"round {number} of run {run} is less than {bands} rounds from round {near[0]}, answered here"
            )
        return {**uses, "training": 0 if known.used.get("training") else 1}

    def decided(self, digest: str) -> bool:
        """Whether the owner has said something on this task."""
        return self._ledger.decision(digest) is not None

    def _decide(
        self, policy: Policy, version: str, run: str, task: Task, declared: Dict[str, Any], graph: bytes, records: int
    ) -> Optional[Verdict]:
        self._ledger.check_present()
        refusal = policy.objection(task, self._signer, records)
        if refusal is not None:
            return refusal
        try:
            wanted = reservation_of(run, digest_of(declared, graph), task)
        except PrivacyError as error:
            return Refusal("claim", str(error))
        digest = wanted.digest
        epsilons: Optional[Tuple[float, float]] = None
        if policy.budget.limited:
            verdict = self._count(policy, wanted)
            if isinstance(verdict, Refusal):
                return verdict
            epsilons = verdict
        if policy.approval.required:
            word = self._ledger.decision(digest)
            if word == DENIED:
                return Refusal("policy.approval-denied", f"this node's owner denied task {digest[:16]}")
            if word != APPROVED:
                return self._ask(run, declared, graph, task, epsilons)
        more: Dict[str, Any] = {"policy": version, "delta": task.privacy.delta if task.privacy.on else None}
        if not version:
            log.warning("no --policy: any task is taken; the budget is recorded in the ledger and not limited")
        if self._ledger.reserve(wanted, **more):
            log.info(
                "run %s: budget reserved%s", run, "" if epsilons is None else f", epsilon {epsilons[1]:.3g} in all"
            )
        return None

    def _count(self, policy: Policy, wanted: Reservation) -> Union[Refusal, Tuple[float, float]]:
        """(epsilon of all runs of this task, of everything) with `wanted` included, or which limit that breaks."""
        budget = policy.budget
        known = [r for r in self._ledger.reservations() if r.run != wanted.run]
        same = [r for r in known if r.digest == wanted.digest]
        key = (str(budget.delta), wanted.run, wanted.digest, *(f"{r.run} {r.counted}" for r in known))
        if key not in self._counted:
            try:
                of_task, total = accountant.epsilons_apart([[*same, wanted], [*known, wanted]], budget.delta)
            except PrivacyError as error:
                return Refusal("policy.accountant", f"the policy limits epsilon, and {error}")
            self._counted = {key: (of_task, total)}
        of_task, total = self._counted[key]
        earlier = f" with {_runs(len(same))} of it" if same else ""
        if budget.epsilon_task and of_task > budget.epsilon_task:
            reason = f"the task would spend epsilon {_say(of_task)}{earlier} at delta {budget.delta:g}, at most"
            return Refusal("policy.epsilon-task", f"{reason} {budget.epsilon_task:g} is allowed for one task")
        if budget.epsilon_total and total > budget.epsilon_total:
            reason = (
                f"with it epsilon {_say(total)} at delta {budget.delta:g} would be spent in all ({_runs(len(known))})"
            )
            return Refusal("policy.epsilon-total", f"{reason}, at most {budget.epsilon_total:g} is allowed")
        return of_task, total

    def _ask(
        self, run: str, declared: Dict[str, Any], graph: bytes, task: Task, epsilons: Optional[Tuple[float, float]]
    ) -> Waiting:
        request = self._approvals.ask(run, declared, graph, None if epsilons is None else epsilons[0])
        command = f"edgeward node approve {request.digest[:16]}"
        log.warning(
            "run %s waits for a person: `%s` (with this node's --state)\n  %s",
            run,
            command,
            "\n  ".join(request.summary),
        )
        return Waiting(request.digest, f"the owner has to approve: {'; '.join(summary_of(task)[:3])}")


def reservation_of(run: str, digest: str, task: Task) -> Reservation:
    """Everything one run of `task` may release. Raises PrivacyError for a declaration whose loss cannot be stated."""
    sides = hashlib.sha256(json.dumps(asdict(task.schema), sort_keys=True).encode()).hexdigest()[:16]
    return Reservation(run, digest, task.name, task.privacy.unit, charges_of(task), sides, task.evaluation.share)


def uses_of(task: Task, number: int) -> Dict[str, int]:
    """kind -> releases of it in the answer to round `number`; nothing for a task without privacy."""
    if not task.privacy.on:
        return {}
    uses: Dict[str, int] = {}
    if number == STATISTICS_ROUND:
        uses["statistics"] = 1
    elif number <= task.training.rounds:
        uses["training"] = task.training.local_steps if task.privacy.within_node else 1
    if task.evaluates(number):
        uses["evaluation"] = 1
    return uses


def _runs(count: int) -> str:
    return f"{count} earlier run{'' if count == 1 else 's'}"


def _say(epsilon: float) -> str:
    return f"{epsilon:.3g}" if math.isfinite(epsilon) else "without bound"
