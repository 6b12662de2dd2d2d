"""What a node gives to a round: sums for standardization or an analysis (summed.py), an update (updates.py), an evaluation;
clipped and noised as the task says.

`Contribution.parts` are what the node computed, `sent` what travels when answers are sent one by one. In secure rounds the parts
are hidden in a vector instead (node/secure.py). Parts in whole numbers (int64) carry their noise already.
"""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.errors import EdgewardError, GraphError
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.evaluation import evaluate
from orchestrator.node.graph_admission import refuse_graph
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.run import Run, Tensors, TrainerFactory
from orchestrator.node.scoring import scored
from orchestrator.node.store import NodeStore
from orchestrator.node.summed import analysed, limit_in, statistics_of
from orchestrator.node.trainer import GradientTrainer
from orchestrator.node.updates import Updates
from orchestrator.privacy.noisy_sum import TALLY, analysis_sum, evaluation_counts, statistics_sum, training_sum
from orchestrator.privacy.standardization import standardize
from orchestrator.privacy.vector_layout import UPDATE, Layout
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS, TRAINING
from orchestrator.wire.codec import EXACT, decode_update, encode_update


class Contribution(NamedTuple):
    """parts: name -> float means and sums, or int64 steps. keep: vectors to store with the release. fields: of the answer."""

    parts: Tensors
    keep: Tensors
    fields: Dict[str, Any]


class Contributor:
    """Computes the contributions of one node to one run."""

    def __init__(
        self,
        run: Run,
        store: NodeStore,
        name: str,
        trainer_factory: TrainerFactory,
        guard: Optional[DisclosureGuard] = None,
    ) -> None:
        """guard: of the node's owner, on sums without noise."""
        self.run, self.store, self.updates = run, store, Updates(run, store, name, trainer_factory)
        self._guard = guard or DisclosureGuard(Disclosure, store)

    def open_answer(
        self, number: int, announced: Dict[str, Any], tensors: Tensors
    ) -> Tuple[Dict[str, Any], Tensors, Tensors]:
        """(header fields, tensors to send, vectors to keep) of an answer that is sent as it is.

        What fails is not tried again, see `contribute`.
        """
        with self._once(number):
            return self._open_answer(number, announced, tensors)

    def _open_answer(
        self, number: int, announced: Dict[str, Any], tensors: Tensors
    ) -> Tuple[Dict[str, Any], Tensors, Tensors]:
        parts, keep, fields = self.contribute(number, announced, tensors)
        task = self.run.task
        sent: Tensors = {}
        if STATISTICS in parts:
            released = parts[STATISTICS]
            if task.privacy.on:
                released = statistics_sum(task).to_float(released).astype(np.float32)
            fields["codec"] = "float32" if task.privacy.on else EXACT
            sent = encode_update(released, fields["codec"], np.random.default_rng())
        if ANALYSIS in parts:
            released, fields["codec"] = parts[ANALYSIS], EXACT
            if task.privacy.on:
                released = analysis_sum(task).to_float(released)
            sent = encode_update(released, EXACT, np.random.default_rng())
        if UPDATE in parts:
            sent, residual = self.updates.encode(number, parts[UPDATE], fields)
            keep = {**keep, **residual}
        if TALLY in parts:
            beside = training_sum(task, self._parameters(tensors)).beside
            sent = {**sent, TALLY: (parts[TALLY] / beside).astype(np.float32)}
        if EVALUATION in parts:
            sums = parts[EVALUATION]
            if task.privacy.on:
                sums = evaluation_counts(task).to_float(sums)
            sent = {**sent, EVALUATION: sums.astype(np.float32)}
        if UPDATE in parts and self.updates.half.keeps:
            decoded = decode_update(sent, task.codec, parts[UPDATE].size)
            keep = {**keep, **self.updates.kept_with(number, announced, tensors, decoded)}
        return fields, sent, keep

    def contribute(
        self, number: int, announced: Dict[str, Any], tensors: Tensors, layout: Optional[Layout] = None
    ) -> Contribution:
        """What this node has to say in a round, from the round's message. `layout`: of the secure sum it is for, if it is.

        A graph that fails is declined from then on. A private round that fails is charged, and answered by its refusal.
        """
        with self._once(number):
            try:
                return self._contribution(number, announced, tensors, layout)
            except GraphError:
                refuse_graph(self.store, self.run.graph)
                raise

    @contextmanager
    def _once(self, number: int) -> Iterator[None]:
        """Whether a private answer can be given may depend on its noise: a second try would be a second draw of one charge."""
        try:
            yield
        except (EdgewardError, MemoryError):
            if self.run.task.privacy.on:
                self.store.forfeit(self.run.id, number, self.run.digest)
            raise

    def _contribution(
        self, number: int, announced: Dict[str, Any], tensors: Tensors, layout: Optional[Layout]
    ) -> Contribution:
        run = self.run
        parts: Tensors = {}
        keep: Tensors = {}
        fields: Dict[str, Any] = {"records": run.stated, "units": run.stated_units}
        stage = run.task.stages.of(number)
        if stage == STATISTICS:
            parts[STATISTICS] = statistics_of(run, layout)
        elif stage == ANALYSIS:
            parts[ANALYSIS] = analysed(run, number, tensors, layout, self._guard)
            fields.update(run.said)
        elif stage == TRAINING:
            fields.update(scored(run, self.store, number, announced, tensors, self._guard))
            parts[UPDATE], keep, more = self.updates.train(number, announced, tensors, layout)
            fields.update(more)
            if run.task.privacy.clip_tally and isinstance(run.trainer, GradientTrainer):
                tally = run.trainer.take_tally()
                parts.update({} if tally is None else {TALLY: tally})
        if run.task.evaluates(number):
            weights, mean, std = self.updates.round_tensors(number, tensors)
            held_out = run.held_out._replace(x=standardize(run.held_out.x, mean, std))
            limit = limit_in(layout, EVALUATION, run.stated_units)
            parts[EVALUATION] = evaluate(run.task, run.evaluation_graph(), held_out, weights, limit)
        return Contribution(parts, keep, fields)

    @staticmethod
    def _parameters(tensors: Tensors) -> int:
        return int(tensors["weights"].size)
