"""Where a task meets a node's private data: what is asked first, and an answer that says as little as it can."""

import logging
import math
import os
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple, Union

from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import CLAMPED_SHARE, Dataset, clamped_columns, hold_out, load_dataset, load_for
from orchestrator.data.described import is_live, versions_of
from orchestrator.data.sources.registry import located
from orchestrator.errors import AwayError, DataError, EdgewardError, GraphError
from orchestrator.node.figures import MemoryFigures
from orchestrator.node.gatekeeper import Gatekeeper, Verdict, Waiting, looked_for
from orchestrator.node.graph_admission import admit_graph, admit_model, refuse_model
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.held import FOLDER, MOST_HELD, Held, digest_of_answer
from orchestrator.node.ledger import APPROVED, DENIED
from orchestrator.node.pace import Pace
from orchestrator.node.policy import Refusal
from orchestrator.node.reservation import keep_newest
from orchestrator.node.run import Run
from orchestrator.node.scores import with_scores
from orchestrator.node.store import NodeStore
from orchestrator.wire.task import Task

log = logging.getLogger("edgeward.node")
milestones = logging.getLogger("edgeward.node.milestones")

LOOK_S = 0.25
"""Answers to tasks for which the data were opened go out at multiples of this."""

LIVE_S = 3600.0
"""Data of a server may be others at each multiple of this: the same question is another one then, a try of the day."""

AWAY_S, AWAY_MOST_S = 30.0, 3600.0
"""How long a server that was away is left alone, twice as long each time: it may be this node's query that it does not bear."""

OUT_OF_MEMORY = "this machine has too little memory for that: use a smaller file, fewer columns, or a smaller model"

CHANGED = (
    "the data are not those that run {run} was accepted with: put them back, or, where the change is meant, let the run have "
    "them: edgeward node accept-data {run}"
)

AWAY = "data.away"

_MOST_ANSWERS = 2000


class Question(NamedTuple):
    """A task that a gateway announced. begun: when it came (time.monotonic), from which the time of the answer is counted."""

    run: str
    task: Task
    declared: Dict[str, Any]
    graph: bytes
    certificates: int
    begun: float
    digest: str  # of declaration and graph


class Opening:
    """The only place where a task meets the data. The same question gets the same answer, without looking again.

    How long an answer takes, and the ledger that closed a run, would otherwise say more with each repetition.
    """

    def __init__(
        self,
        data: Path,
        store: NodeStore,
        gatekeeper: Gatekeeper,
        memory: MemoryFigures,
        graphs: bool,
        held: Optional[Tuple[DisclosureGuard, Held]] = None,
    ) -> None:
        """graphs: whether this node computes by the task's graph, which is then admitted before any data are opened. held: what
        computes answers that wait for their owner, and where they are.
        """
        self._held = held
        self._data, self._store, self._gatekeeper, self._memory, self._graphs = data, store, gatekeeper, memory, graphs
        self._answers: Dict[str, Refusal] = {}  # digest of declaration and file -> why the file does not fit
        self._read_s = 0.0
        self._now = (
            "",
            0,
        )  # the question that is being answered, and the multiple of LIVE_S at which its data are looked at
        self._away: Dict[
            str, int
        ] = {}  # question -> that multiple, while its data were away: no further try is counted
        self._away_s, self._away_until = 0.0, 0.0  # by time.monotonic

    @property
    def may_try(self) -> bool:
        """Whether the data are looked for now: not soon after they were away, whatever the question."""
        return time.monotonic() >= self._away_until

    def answered(self, asked: Question) -> Optional[Refusal]:
        """Why this very task of this run was declined after its count was stated, also by the process before this one."""
        try:
            stated = self._store.counted(asked.run, asked.digest)
        except EdgewardError:
            return None  # the run was another task's: the ledger says so
        return None if stated is None else self._gatekeeper.too_large(asked.task, stated)

    def open(self, asked: Question) -> Union[Run, Verdict]:
        """The run this node takes part in, its budget reserved and its count stated; or why it does not."""
        declined = self._admit(asked)
        if declined is not None:
            return declined
        if not self.may_try:
            return Waiting(asked.digest, AWAY)
        look = self._look_for(asked.task)
        if isinstance(look, Refusal):
            return look
        if look in self._answers:
            return self._answers[look]
        opened = self._read(asked, look)
        # How long reading took says how much there was to read. What follows takes less, and depends on which rows are used.
        multiples = max(1, math.ceil(1.5 * self._read_s / LOOK_S))
        Pace(LOOK_S * multiples, asked.begun, time.monotonic).hold(time.sleep)
        return opened

    def _admit(self, asked: Question) -> Optional[Refusal]:
        analysis = None if asked.task.trains else analysis_of(asked.task)
        try:
            if analysis is not None and analysis.scored is not None:
                admit_model(self._store, asked.graph, analysis)
            elif analysis is None and self._graphs:
                admit_graph(self._store, asked.graph, asked.task)
        except EdgewardError as error:  # a GraphError, or this machine starts no process for it
            return Refusal(error.code, str(error))
        return None

    def _scored(self, asked: Question, loaded: Dataset) -> Dataset:
        """The data with each record's score, where the task has a model file."""
        if asked.task.trains:
            return loaded
        try:
            return with_scores(analysis_of(asked.task), asked.graph, loaded)
        except GraphError:
            refuse_model(self._store, asked.graph, analysis_of(asked.task))
            raise

    def _look_for(self, task: Task) -> Union[str, Refusal]:
        """Digest of declaration and version of the files, counted as a try of the day; "" where one is not there."""
        try:
            found = [os.stat(str(located(each)[0])) for each in versions_of(self._data)]
        except OSError:
            return self._gatekeeper.may_look(task) or ""  # opening it will say what is wrong
        version = " ".join(f"{each.st_mtime_ns} {each.st_size}" for each in found)
        question = looked_for(task, version)
        self._now = (question, self._away.get(question, int(time.time() // LIVE_S)))
        if is_live(self._data):
            version += f" {self._now[1]}"
        return self._gatekeeper.may_look(task, version) or looked_for(task, version)

    def _read(self, asked: Question, look: str) -> Union[Run, Verdict]:
        run, task = asked.run, asked.task
        if task.privacy.on:
            self._memory.keep()
        milestones.info("run %s: reading %s", run, self._data)
        try:
            loaded, content = self._load(asked)
            for share, text in clamped_columns(loaded, task.schema):  # for the owner: no word of it leaves this machine
                log.log(logging.WARNING if share > CLAMPED_SHARE else logging.INFO, "run %s: %s", run, text)
            if loaded.dropped:
                log.warning("run %s: %d rows without a used value are left out", run, loaded.dropped)
            dataset, held_out = hold_out(loaded, task.evaluation.share, self._store.secret("hold-out"))
            opened = Run(run, asked.digest, task, asked.graph, dataset, held_out, asked.certificates)
            verdict = self._gatekeeper.accept(run, task, asked.declared, asked.graph)
            if verdict is not None:
                return verdict
            if not self._store.freeze(run, content):
                return Refusal("data.changed", CHANGED.format(run=run))
            stated = self._gatekeeper.state_count(run, task, opened.digest, opened.units)
            too_large = self._gatekeeper.check_size(run, task, stated)
            if too_large is not None:
                return too_large
            opened.state(stated)
            return self._unreleased(opened) or opened
        except AwayError as error:
            log.warning("run %s waits: %s", run, error)
            self._away[self._now[0]] = self._now[1]
            keep_newest(self._away, _MOST_ANSWERS)
            self._away_s = min(AWAY_MOST_S, max(AWAY_S, 2 * self._away_s))
            self._away_until = time.monotonic() + self._away_s
            return Waiting(asked.digest, AWAY)
        except DataError as error:
            refusal = Refusal(error.code, str(error))
            # What this machine could not read just now, it may read next time, though the file is the same.
            return refusal if isinstance(error.__cause__, OSError) or not look else self._keep(look, refusal)
        except EdgewardError as error:
            return Refusal(error.code, str(error))
        except MemoryError:
            return Refusal("data", OUT_OF_MEMORY)

    def _unreleased(self, run: Run) -> Optional[Verdict]:
        """Where its owner holds answers: that this one waits for a word, or was withheld; None where it may leave."""
        task = run.task
        if self._held is None or task.trains or task.privacy.on or not self._gatekeeper.disclosure().hold:
            return None
        guard, held = self._held
        analysis = analysis_of(task)
        answer, _ = guard.exact(run.digest, task, analysis, analysis.begin(task.seed), run.dataset)
        digest = digest_of_answer(run.digest, answer)
        word = self._gatekeeper.word(digest)
        if word == APPROVED:
            return None
        if word == DENIED:
            return Refusal("policy.withheld", f"this node's owner withheld answer {digest[:16]}")
        if not held.put(digest, run.id, task.name, analysis, answer):
            return Refusal("policy.approvals", f"{MOST_HELD} answers are held; delete files in the folder {FOLDER}")
        log.warning("run %s waits: edgeward node release %s lets the answer leave", run.id, digest[:16])
        return Waiting(run.digest, "policy.release", digest)

    def _keep(self, question: str, answer: Refusal) -> Refusal:
        self._answers[question] = answer
        keep_newest(self._answers, _MOST_ANSWERS)
        return answer

    def _load(self, asked: Question) -> Tuple[Dataset, str]:
        """(the data, with scores where the task has a model file; the digest of what was read)."""
        task = asked.task
        begun = time.monotonic()
        try:
            loaded = load_dataset(self._data, task.schema) if task.trains else load_for(self._data, task)
            self._away.pop(self._now[0], None)
            self._away_s = 0.0
            return self._scored(asked, loaded), loaded.digest()
        finally:
            self._read_s = time.monotonic() - begun
