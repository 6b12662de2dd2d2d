"""The one who decides for the node's owner: accepts a run, makes it wait for a person, or refuses it; counts every release.

Holds policy, ledger and approvals together. Nothing here listens to a gateway: a task is judged by its declaration alone, and
before anybody opens the data. `reason`s are for the node's own log; what travels is their `code` (wire/refusals.py).
"""

import hashlib
import json
import logging
import secrets
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.analyses.registry import exchange_of
from orchestrator.errors import LedgerError, PrivacyError, UsageError, WireError
from orchestrator.node.anchor import Anchor, FolderAnchor, Head, StoreAnchor
from orchestrator.node.consent import Consent, Verdict, Waiting
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.ledger import LEDGER_FILE, Ledger, StaleError
from orchestrator.node.policy import OPEN, Policy, PolicyFile, Refusal
from orchestrator.node.reservation import Reservation, keep_newest
from orchestrator.node.roster import NOBODY, Roster, neighbour_lines, roster_lines, roster_of
from orchestrator.node.spending import Spending
from orchestrator.node.store import NodeStore
from orchestrator.privacy.charges import Charge, charges_of
from orchestrator.privacy.grids import on_grids
from orchestrator.privacy.noisy_sum import noised_count
from orchestrator.privacy.releases import COUNT, kinds_in, releases_of
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.terms import unit_of
from orchestrator.rounds.stages import FIRST_ROUND
from orchestrator.wire.claims import objection_to
from orchestrator.wire.presence import LedgerHead
from orchestrator.wire.task import Task, digest_of

__all__ = ["COUNT_ROUND", "Gatekeeper", "Verdict", "Waiting", "looked_for", "reservation_of", "uses_of"]

log = logging.getLogger("edgeward.node")

COUNT_ROUND = -1
"""Under which the ledger notes that the number of units was stated: before any round."""

_RACES = 20
"""How often a budget is counted again because the ledger changed meanwhile."""


_MOST_RUNS = 8
"""Whose tasks are remembered: more than a node has open, so that a gateway that begins one after another fills no memory."""


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
        name: str = "",
        otherwise: Policy = OPEN,
    ) -> None:
        self._name, self._open = name, policy is None
        anchors: List[Anchor] = [StoreAnchor(store)]
        if identity is not None:
            anchors.append(FolderAnchor(identity.folder))
        self._store = store
        self._policy, self._signer = PolicyFile(policy, otherwise), "" if identity is None else identity.signer
        self._tasks: Dict[str, Task] = {}  # of the newest runs this process takes part in
        self._epsilons: Optional[Tuple[float, float]] = None  # of one task and of all, as last counted
        self._process, self._said = secrets.token_hex(8), 0
        self.ledger = Ledger(state / LEDGER_FILE, anchors)
        self._spending = Spending(self.ledger)
        self._consent = Consent(state, self.ledger, self._peers_said)

    def ledger_head(self) -> Dict[str, Any]:
        """What every presence says of the ledger. process and n tell a message that comes twice from a ledger put back."""
        self._said += 1
        head = self.ledger.head
        return LedgerHead(head.entries, head.hash, self._process, self._said).written()

    def roster(self) -> Roster:
        """Whom the owner confirmed by policy and ledger; nobody while the policy cannot be read."""
        try:
            require = self._policy.read()[0].require
        except UsageError as error:
            log.warning("this node's policy cannot be read, so no peer is admitted: %s", error)
            return NOBODY
        return roster_of(require.peers, require.key_holder, self.ledger.trusted())

    @property
    def steady(self) -> bool:
        """Whether sums without noise may be over the same nodes only, throughout a run."""
        try:
            return self._policy.read()[0].require.steady
        except UsageError:
            return True

    def disclosure(self) -> Disclosure:
        """What the owner says of sums without noise. UsageError where the policy cannot be read."""
        return self._policy.read()[0].disclosure

    def bounds_noise(self) -> bool:
        """Whether it is bounded how often answers with noise are given. UsageError where the policy cannot be read."""
        return self._policy.read()[0].bounds_noise

    def word(self, digest: str) -> Optional[str]:
        """The owner's last word on an answer that is held; None where there is none."""
        return self.ledger.decision(digest)

    def close(self) -> None:
        self.ledger.close()

    def consider(self, run: str, task: Task, declared: Dict[str, Any], graph: bytes) -> Optional[Verdict]:
        """None where nothing but the data themselves can speak against the run. Nothing is reserved yet, no data are needed."""
        objection = objection_to(task)
        if objection:
            return Refusal("claim", objection)
        try:
            policy, _ = self._policy.read()
        except UsageError as error:
            return _unreadable(error)
        try:
            return self._decide(policy, run, task, declared, graph)
        except LedgerError as error:
            return Refusal("ledger.lost", str(error))
        except PrivacyError as error:
            return Refusal("ledger.run", str(error))

    def may_look(self, task: Task, version: str = "") -> Optional[Refusal]:
        """None where the data may be opened for this task: how they fit it is an answer about them, so there are few a day.

        version: of the data; the same question about data that changed is another one.
        """
        try:
            most = self._policy.read()[0].allow.schemas_a_day
        except UsageError as error:
            return _unreadable(error)
        if self._store.may_look(looked_for(task, version), time.time(), most):
            return None
        return Refusal("policy.tries", f"the data were opened for {most} different declarations within a day")

    def accept(self, run: str, task: Task, declared: Dict[str, Any], graph: bytes) -> Optional[Verdict]:
        """None when this node takes part: the run's whole budget is reserved then, once however often the task comes.

        After `consider`, and with the data open. What another process reserved meanwhile is counted again.
        """
        try:
            policy, version = self._policy.read()
        except UsageError as error:
            return _unreadable(error)
        verdict: Optional[Verdict] = None
        for _ in range(_RACES):
            head = self.ledger.head
            verdict = self.consider(run, task, declared, graph)
            if verdict is not None:
                return verdict
            try:
                self._reserve(policy, version, run, task, declared, graph, head)
            except StaleError:
                continue
            except LedgerError as error:
                return Refusal("ledger.lost", str(error))
            except PrivacyError as error:
                return Refusal("ledger.run", str(error))
            self._tasks[run] = self._tasks.pop(run, task)
            keep_newest(self._tasks, _MOST_RUNS)
            return None
        return Refusal("policy.accountant", f"the ledger changed {_RACES} times while its budget was counted")

    def admit(self, run: str, task: Task, declared: Dict[str, Any], graph: bytes, units: int) -> Optional[Verdict]:
        """All of it in one, for data that are open already and of which so many units are stated."""
        verdict = self.consider(run, task, declared, graph) or self.accept(run, task, declared, graph)
        return verdict or self.check_size(run, task, units)

    def check_size(self, run: str, task: Task, stated: int) -> Optional[Refusal]:
        """Why a delta means nothing for so many units; the run is closed then, with nothing but the count spent.

        By the number that is stated: compared with the real one, a declared delta would be a question for it.
        """
        refusal = self.too_large(task, stated)
        if refusal is not None and refusal.code == "data":
            try:
                self.ledger.close_run(run)
            except PrivacyError as error:
                return Refusal("ledger.run", str(error))
        return refusal

    def too_large(self, task: Task, stated: int) -> Optional[Refusal]:
        """Why a delta means nothing for a node that states so many units; None where it does."""
        try:
            reason = self._policy.read()[0].objection_to_size(task, stated)
        except UsageError as error:
            return _unreadable(error)
        return Refusal("data", reason) if reason else None

    def state_count(self, run: str, task: Task, digest: str, units: int) -> int:
        """How many units this node says it has: exactly as many without privacy, else as many as a noised draw says, once.

        For records and patients the draw is charged; a node as unit says 1. Raises WireError where the ledger has no room.
        """
        if not task.privacy.on:
            return units
        if not task.privacy.within_node:
            return 1
        known = self._store.counted(run, digest)
        if known is None:
            known = noised_count(task, units, SecureRandom())
            self._store.put_count(run, digest, known, COUNT_ROUND)
            known = self._store.counted(run, digest) or known
        return known

    def charge(self, run: str, number: int) -> None:
        """To be called before the answer to round `number` is stored: notes durably that it will be released.

        Raises WireError for what was not reserved: the round is refused. LedgerError (the ledger is gone) ends the node.
        """
        task = self._tasks.pop(run, None)
        if task is None:
            raise WireError(f"refused: run {run} was not accepted by this node", "round")
        self._tasks[run] = task  # the newest again
        try:
            self.ledger.charge(run, number, self._uses(run, task, number))
        except LedgerError:
            raise
        except PrivacyError as error:
            raise WireError(f"refused: {error}", "round") from error

    def _uses(self, run: str, task: Task, number: int) -> Dict[str, int]:
        uses, bands = uses_of(task, number), task.privacy.bands
        known = self.ledger.reservation(run)
        if known is not None and not task.privacy.on and not known.charges:
            return {}  # reserved before runs without privacy had charges
        if "training" not in uses or bands == 1 or known is None:
            return uses
        # Noise that is correlated over rounds makes them one release, as long as nobody is in two of `bands` in a row.
        near = [n for n in known.rounds if n > FIRST_ROUND and 0 < abs(number - n) < bands]
        if near:
            raise PrivacyError(
                f"round {number} of run {run} is less than {bands} rounds from round {near[0]}, answered here"
            )
        return {**uses, "training": 0 if known.used.get("training") else 1}

    def decided(self, digest: str) -> bool:
        """Whether the owner has said something on this task since it waits."""
        return self._consent.decided(digest)

    def _decide(
        self, policy: Policy, run: str, task: Task, declared: Dict[str, Any], graph: bytes
    ) -> Optional[Verdict]:
        self.ledger.check_present()
        refusal = policy.objection(task, self._signer)
        if refusal is not None:
            return refusal
        try:
            wanted = reservation_of(run, digest_of(declared, graph), task)
        except PrivacyError as error:
            return Refusal("claim", str(error))
        self.ledger.check_free(wanted)
        epsilons: Optional[Tuple[float, float]] = None
        if policy.budget.limited:
            verdict = self._spending.with_run(policy.budget, wanted)
            if isinstance(verdict, Refusal):
                return verdict
            epsilons = verdict
        if policy.approval.required:
            unapproved = self._consent.objection(wanted, task, declared, graph)
            if unapproved is not None:
                return unapproved
        self._epsilons = epsilons
        return None

    def _peers_said(self, task: Task) -> List[str]:
        """Lines for the owner: whom this node would be in sums with, and whom it would send messages."""
        roster, exchange = self.roster(), exchange_of(task)
        neighbours = () if exchange is None else exchange.graph.neighbours(self._name)
        lines = roster_lines(task.aggregation, self._name, roster, first_sight=self._open)
        return [*lines, *neighbour_lines(neighbours, roster, first_sight=self._open)]

    def _reserve(
        self,
        policy: Policy,
        version: str,
        run: str,
        task: Task,
        declared: Dict[str, Any],
        graph: bytes,
        head: Head,
    ) -> None:
        wanted = reservation_of(run, digest_of(declared, graph), task)
        more: Dict[str, Any] = {"policy": version, "delta": task.privacy.delta if task.privacy.on else None}
        if not version:
            log.warning("no --policy: any task is accepted; the budget is recorded in the ledger and not limited")
        if self.ledger.reserve(wanted, head if policy.budget.limited or policy.approval.required else None, **more):
            said = "" if self._epsilons is None else f", epsilon {self._epsilons[1]:.3g} in all"
            log.info("run %s: budget reserved%s", run, said)


def reservation_of(run: str, digest: str, task: Task) -> Reservation:
    """Everything one run of `task` may release. Raises PrivacyError for a declaration whose loss cannot be stated."""
    sides = hashlib.sha256(json.dumps(asdict(task.schema), sort_keys=True).encode()).hexdigest()
    if task.privacy.on:
        charges = on_grids(task, charges_of(task))
    else:  # no epsilon bounds them, and the ledger says so
        charges = tuple(Charge(r.kind, 0.0, count=r.count, group=r.group) for r in releases_of(task))
    return Reservation(run, digest, task.name, unit_of(task.privacy), charges, sides, task.evaluation.share)


def uses_of(task: Task, number: int) -> Dict[str, int]:
    """kind -> releases of it in the answer to round `number`."""
    if number == COUNT_ROUND:
        return {COUNT: 1}
    each = {release.kind: release.each for release in releases_of(task)}
    return {kind: each.get(kind, 1) for kind in kinds_in(task, number)}


def looked_for(task: Task, version: str) -> str:
    """Digest of all that decides what opening the data for a task says about them."""
    asked = [asdict(task.schema), task.evaluation.share, unit_of(task.privacy), version]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _unreadable(error: UsageError) -> Refusal:
    return Refusal("policy.unreadable", f"this node's policy cannot be read, so nothing is accepted: {error}")
