"""The owner's word on a task: asked for when there is none yet, and good for as many runs as the task is for."""

import logging
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from orchestrator.node.approval import MOST_REQUESTS, Approvals, reading_of
from orchestrator.node.claims import check_claim
from orchestrator.node.ledger import APPROVED, DENIED, Ledger
from orchestrator.node.policy import Refusal
from orchestrator.node.reservation import Reservation, keep_newest
from orchestrator.wire.task import Task

log = logging.getLogger("edgeward.node")


class Waiting(NamedTuple):
    """The owner has not decided on this task yet."""

    digest: str  # of the task; travels
    code: str = "policy.approval"  # travels
    answer: str = ""
    """Digest of the answer that waits. It stays on the node: a gateway could try values until one has it."""


Verdict = Union[Refusal, Waiting]


class Consent:
    """Of one owner. Requests lie in the node's state folder, decisions are in its ledger."""

    def __init__(self, state: Path, ledger: Ledger, peers: Callable[[Task], List[str]]) -> None:
        """`peers`: lines for the owner on whom the node would be in a task's sums with."""
        self._approvals, self._ledger, self._peers = Approvals(state), ledger, peers
        self._claims: Dict[str, Union[Refusal, float, None]] = {}  # digest of a task -> what `check_claim` said
        self._waited: Dict[str, Tuple[int, str]] = {}  # digest -> for how many runs a task that waited is, its reading

    def objection(self, wanted: Reservation, task: Task, declared: Dict[str, Any], graph: bytes) -> Optional[Verdict]:
        """None where the owner approved the task, and for no fewer runs than this one makes; else the owner is asked."""
        digest, runs, reading = wanted.digest, max(1, task.privacy.runs), reading_of(task)
        word = self._ledger.decision(digest, reading)
        if word == DENIED:
            return Refusal("policy.approval-denied", f"this node's owner denied task {digest[:16]}")
        if digest not in self._claims:
            self._claims[digest] = check_claim(task, wanted)
            keep_newest(self._claims, MOST_REQUESTS)
        claim = self._claims[digest]
        if isinstance(claim, Refusal):
            return claim
        known = self._ledger.reservation(wanted.run) is not None
        if word == APPROVED and (known or not self._ledger.waits(digest, runs, reading)):
            return None
        if self._approvals.full(digest):
            return Refusal(
                "policy.approvals", f"{MOST_REQUESTS} tasks were asked already: delete those you need no more"
            )
        request = self._approvals.ask(wanted.run, declared, graph, claim, self._peers(task))
        self._waited[request.digest] = runs, reading
        command = f"edgeward node approve {request.digest[:16]}"
        log.warning(
            "run %s waits for a person: `%s` (with this node's --state)\n  %s",
            wanted.run,
            command,
            "\n  ".join([*request.summary, *request.peers]),
        )
        return Waiting(request.digest)

    def decided(self, digest: str) -> bool:
        """Whether the owner has said something on this task since it waits."""
        return not self._ledger.waits(digest, *self._waited.get(digest, (1, "")))
