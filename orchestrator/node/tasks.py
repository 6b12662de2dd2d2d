"""What becomes of a task that a gateway announces: the node joins, declines, or waits for its owner's word or its data.

Decided before data are opened where it can be (opening.py, gatekeeper.py); the reason stays in its log, a code travels.
"""

import logging
import time
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from orchestrator.analyses.registry import check, exchange_of
from orchestrator.errors import EdgewardError, PrivacyError, UsageError
from orchestrator.node.gatekeeper import Gatekeeper, Verdict, Waiting
from orchestrator.node.intake import training_graph
from orchestrator.node.open_runs import MOST_RUNS, Announced, OpenRuns
from orchestrator.node.opening import AWAY, Opening, Question, milestones
from orchestrator.node.peers import Peers
from orchestrator.node.policy import Refusal
from orchestrator.node.presence import Presence
from orchestrator.node.reservation import keep_newest
from orchestrator.node.run import Run
from orchestrator.rounds.declared import STRATEGIES
from orchestrator.wire.announcing import TaskAnnounced
from orchestrator.wire.presence import RunDeclined, RunReady, RunWaiting
from orchestrator.wire.task import Task, digest_of, task_from_dict
from orchestrator.wire.transparency import read_log

log = logging.getLogger("edgeward.node")

GATEWAY = "gateway"

_LOOK_EVERY_S = 1.0
"""How often it is looked whether the owner decided."""


class Tasks:
    """Of one node process, whatever the runs."""

    def __init__(
        self, name: str, runs: OpenRuns, gatekeeper: Gatekeeper, peers: Peers, opening: Opening, presence: Presence
    ) -> None:
        self._name, self._runs, self._gatekeeper, self._peers = name, runs, gatekeeper, peers
        self._opening, self._presence = opening, presence
        self._asked: OrderedDict[str, Tuple[Waiting, Announced]] = OrderedDict()  # run -> what waits for a person
        self._look_at = 0.0

    def take(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> Optional[Run]:
        """The run that begins with it on this node; None where it goes on, is declined or waits. WireError for no task."""
        announced = TaskAnnounced.read(header)
        run = announced.run
        self._asked.pop(run, None)
        try:
            asked = self._question(announced, tensors)
        except (PrivacyError, UsageError) as error:
            self._stay_out(run, Refusal(error.code, str(error)), (header, tensors))
            return None
        verdict = self._opening.answered(asked) or self._consider(asked)
        if verdict is not None:
            self._stay_out(run, verdict, (header, tensors))
            return None
        known = self._runs.find(run)
        if known is not None and known.digest == asked.digest:
            self._runs.turn_to(run)
            self._say_ready(known)
            return None
        self._runs.rest(but=run)
        opened = self._opening.open(asked)
        if not isinstance(opened, Run):
            self._stay_out(run, opened, (header, tensors))
            return None
        self._runs.begin(opened)
        records = opened.dataset.records
        milestones.info("run %s: task %r, %d records, stated as %d", run, asked.task.name, records, opened.stated)
        self._say_ready(opened)
        return opened

    def decided(self) -> List[Announced]:
        """Tasks that waited and are to be looked at again: there is a word of the owner on them, there are enough peers, or it is
        time to look whether the server with the data is back.
        """
        if not self._asked or time.monotonic() < self._look_at:
            return []
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        return [announced for waiting, announced in self._asked.values() if self._is_decided(waiting, announced[0])]

    def leave(self, run: str, error: EdgewardError) -> None:
        """Declines a run this node took part in, for a reason that does not go away."""
        self._runs.end(run)
        self._decline(run, Refusal(error.code, str(error)))

    def over(self, run: str) -> None:
        """An owner's yes that comes later spends nothing on a run that is over."""
        self._asked.pop(run, None)

    def _question(self, announced: TaskAnnounced, tensors: Dict[str, np.ndarray]) -> Question:
        declared = announced.task
        task = task_from_dict(declared, "the gateway's task")
        graph = training_graph(task, tensors)
        if task.training.strategy not in STRATEGIES:
            raise UsageError(
                f"task {task.name!r}: strategy {task.training.strategy!r} is not one of this version: what it has nodes do would "
                "be left out"
            )
        if not task.trains:
            check(task)
        exchange = exchange_of(task)
        if exchange is not None and self._name not in exchange.graph.nodes:
            raise UsageError(
                f"task {task.name!r}: its nodes send each other messages, and {self._name} is not one of them"
            )
        if task.aggregation.key_holder:
            from orchestrator.node.encrypted import objection_to_encrypting

            unable = objection_to_encrypting(task, self._name)
            if unable:
                raise UsageError(unable)
        shown = read_log(announced.certificates)
        certificates = self._peers.see_log(shown, task.aggregation.secure or exchange is not None)
        digest = digest_of(declared, graph)
        return Question(announced.run, task, declared, graph, certificates, time.monotonic(), digest)

    def _consider(self, asked: Question) -> Optional[Verdict]:
        """What the owner's rules say, and whether the peers a secure sum needs are confirmed; None for yes."""
        verdict = self._gatekeeper.consider(asked.run, asked.task, asked.declared, asked.graph)
        objection = "" if verdict is not None else self._lacks(asked.task)
        if not objection:
            return verdict
        log.warning("run %s waits: %s", asked.run, objection)
        self._peers.note_unconfirmed(apart=(GATEWAY,))
        return Waiting(asked.digest, "policy.peers")

    def _is_decided(self, waiting: Waiting, header: Dict[str, Any]) -> bool:
        if waiting.code == AWAY:
            return self._opening.may_try
        if waiting.code == "policy.release":
            return self._gatekeeper.word(waiting.answer) is not None
        if waiting.code != "policy.peers":
            return self._gatekeeper.decided(waiting.digest)
        return not self._lacks(task_from_dict(TaskAnnounced.read(header).task, "the gateway's task"))

    def _lacks(self, task: Task) -> str:
        """Why its owner has not confirmed all whom this node would be in a sum, or an exchange, with; "" where that is so."""
        exchange = exchange_of(task)
        neighbours = () if exchange is None else exchange.graph.neighbours(self._name)
        return self._peers.objection_to(task.aggregation) or self._peers.objection_to_neighbours(neighbours)

    def _say_ready(self, run: Run) -> None:
        self._presence.say(RunReady(run.id, run.stated, run.stated_units))

    def _stay_out(self, run: str, verdict: Verdict, announced: Announced) -> None:
        self._runs.end(run)  # of this run alone: others go on
        if isinstance(verdict, Refusal):
            self._decline(run, verdict)
        else:
            self._asked[run] = (verdict, announced)
            keep_newest(self._asked, MOST_RUNS)
            self._presence.say(RunWaiting(run, verdict.digest, verdict.code))

    def _decline(self, run: str, refusal: Refusal) -> None:
        log.error("declined run %s: %s", run, refusal.reason)
        self._presence.say(RunDeclined(run, refusal.code))
