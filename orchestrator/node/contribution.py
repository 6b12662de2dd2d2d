"""What a node gives to a round: sums for standardization, or of an analysis (summed.py), an update, an evaluation;
clipped and noised as the task says.

`Contribution.parts` are what the node computed, `sent` what travels when answers are sent one by one. In secure rounds the parts
are hidden in a vector instead (node/secure.py). Parts in whole numbers (int64) carry their noise already.
"""

import logging
from contextlib import contextmanager
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.errors import EdgewardError, GraphError, WireError
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.evaluation import evaluate
from orchestrator.node.graph_admission import refuse_graph
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.personal import PERSONAL, with_personal
from orchestrator.node.run import Run, Tensors, TrainerFactory
from orchestrator.node.scoring import scored
from orchestrator.node.store import RESIDUAL, NodeStore
from orchestrator.node.summed import analysed, limit_in
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.lattice import clip_l2
from orchestrator.privacy.noisy_sum import TALLY, WITHIN, analysis_sum, evaluation_counts, statistics_sum, training_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.standardization import at_an_end, floor_warning, moments, on_floor, spread, standardize
from orchestrator.privacy.terms import unit_of
from orchestrator.privacy.vector_layout import UPDATE, Layout
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS, TRAINING
from orchestrator.rounds.strategies import node_half
from orchestrator.rounds.strategy import Begun
from orchestrator.wire.announcing import ClipAnnounced, LastCounted
from orchestrator.wire.codec import ERROR_FEEDBACK, EXACT, decode_update, encode_update

log = logging.getLogger("edgeward.node")


class Updates:
    """Of one node in one run: trained from a round's weights, clipped and noised as the task says, and written in its codec."""

    def __init__(self, run: Run, store: NodeStore, name: str, trainer_factory: TrainerFactory) -> None:
        self.run, self.store, self._name, self.trainer_factory = run, store, name, trainer_factory
        self.half = node_half(run.task.training.strategy, run.task.training.options)

    def round_tensors(self, number: int, tensors: Tensors) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(weights with this node's part, mean, std) of a round; raises WireError where one is missing or of another shape."""
        weights, mean, std = (tensors.get(name) for name in ("weights", "mean", "std"))
        shape = self.run.task.schema.input_shape
        if weights is None or mean is None or std is None or not mean.shape == shape == std.shape:
            raise WireError(f"round {number} came without weights, mean or std of the task's shape")
        for name, tensor in (("weights", weights), ("mean", mean), ("std", std)):
            if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
                raise WireError(f"round {number} came with {name} that are not finite float32 numbers")
        if weights.ndim != 1 or self.run.task.training.parameters not in (0, weights.size):
            raise WireError(f"round {number} came with weights of shape {weights.shape}, the task has other ones")
        return with_personal(self.store, self.run.id, self.run.task, np.asarray(weights)), mean, std

    def _warn_of_floor(self, mean: np.ndarray, std: np.ndarray) -> None:
        """To the owner: both came from the gateway, and nothing is computed from records."""
        task = self.run.task
        if not task.standardizes or not (task.privacy.on or task.aggregation.secure):
            return
        at_end = at_an_end(mean, std, task.schema) if task.privacy.on else []
        hidden = list(dict.fromkeys([*on_floor(std, task.schema), *at_end]))
        if hidden:
            log.warning("run %s: %s", self.run.id, floor_warning(hidden))

    def train(
        self, number: int, announced: Dict[str, Any], tensors: Tensors, layout: Optional[Layout]
    ) -> Tuple[np.ndarray, Tensors, Dict[str, Any]]:
        run, training = self.run, self.run.task.training
        weights, mean, std = self.round_tensors(number, tensors)
        clip_norm = self._clip_norm(announced)
        if run.trainer is None:
            self._warn_of_floor(mean, std)
            scaled = run.dataset._replace(x=standardize(run.dataset.x, mean, std))
            run.trainer = self.trainer_factory(run.task, run.graph, scaled, self._name)
            if isinstance(run.trainer, GradientTrainer):
                run.trainer.expect(run.stated_units)
        privacy = run.task.privacy
        tally_limit = limit_in(layout, TALLY, run.stated_units)
        if isinstance(run.trainer, GradientTrainer) and tally_limit is not None:
            run.trainer.tally_limit = max(1, tally_limit // training.local_steps)
        if privacy.within_node and privacy.distributed:
            limit = limit_in(layout, UPDATE, run.stated_units)
            if limit is None:
                raise WireError(
                    f"round {number} is not a secure one: this node's share of the noise protects only a sum"
                )
            return run.trainer.gradient_sum(weights, limit), {}, {}
        shared = weights.size - training.personal_parameters
        correction = self.half.correction(self._begun(announced, tensors, shared))
        if correction is None:
            change = run.trainer.train(weights, number)
        else:
            own = np.zeros(weights.size - shared, np.float32)
            change = run.trainer.train(weights, number, np.append(correction, own))
        keep = {PERSONAL: weights[shared:] + change[shared:]} if training.personal_parameters else {}
        if privacy.of_nodes:
            update, fields = self._bounded(change[:shared], clip_norm)
            return update, keep, fields
        return change[:shared], keep, {}

    def _clip_norm(self, announced: Dict[str, Any]) -> float:
        """What bounds a whole update; WireError where it follows the updates and the round does not say it."""
        privacy = self.run.task.privacy
        if not privacy.clip_quantile:
            return privacy.clip_norm
        try:
            return ClipAnnounced.read(announced).clip_norm
        except WireError as error:
            raise WireError(f"a round whose clip norm follows the updates came with no usable one: {error}") from error

    def _bounded(self, update: np.ndarray, clip_norm: float) -> Tuple[np.ndarray, Dict[str, Any]]:
        """A whole update clipped, and noised here unless the gateway does it."""
        privacy, fields = self.run.task.privacy, {}
        if privacy.clip_quantile:
            fields = {WITHIN: bool(np.linalg.norm(update) <= clip_norm)}
        mechanism = training_sum(self.run.task, update.size, clip_norm)
        if privacy.central:
            return clip_l2(update[np.newaxis].astype(np.float64), clip_norm)[0].astype(np.float32), fields
        steps = mechanism.release([update], SecureRandom())
        return (steps if privacy.distributed else mechanism.to_float(steps).astype(np.float32)), fields

    def kept_with(self, number: int, announced: Dict[str, Any], tensors: Tensors, decoded: np.ndarray) -> Tensors:
        """What the strategy keeps when an update is released, which the gateway will decode to `decoded`."""
        travel = self.run.task.training.travel_at(number)
        return self.half.after(self._begun(announced, tensors, decoded.size), decoded, travel)

    def _begun(self, announced: Dict[str, Any], tensors: Tensors, size: int) -> Begun:
        return Begun(
            self._name,
            lambda: LastCounted.read(announced).counted,
            tensors,
            size,
            lambda what: self.store.kept(self.run.id, what),
        )

    def encode(self, number: int, update: np.ndarray, fields: Dict[str, Any]) -> Tuple[Tensors, Tensors]:
        """(tensors of the update in the task's codec, what the codec left out and the next update makes up for)."""
        codec = self.run.task.codec
        before = self.store.kept(self.run.id, RESIDUAL) if codec in ERROR_FEEDBACK else None
        if before is not None:
            update = update + before.vector
        sent = encode_update(update, codec, np.random.default_rng())
        decoded = decode_update(sent, codec, update.size)
        error = float(np.linalg.norm(update - decoded) / max(float(np.linalg.norm(update)), 1e-30))
        fields.update(codec=codec, codec_error=error)
        return sent, ({RESIDUAL: update - decoded} if codec in ERROR_FEEDBACK else {})


def statistics_of(run: Run, layout: Optional[Layout]) -> np.ndarray:
    """For standardization: float64 sums, or int64 in steps with noise."""
    if layout is None and not run.task.privacy.on:
        return spread(run.dataset.x, run.task.schema)
    unit_moments = moments(run.dataset.x, run.task.schema, run.dataset.units(unit_of(run.task.privacy)))
    if not run.task.privacy.on:
        return np.asarray(unit_moments.sum(axis=0))
    limit = limit_in(layout, STATISTICS, run.stated_units)
    return statistics_sum(run.task).release(unit_moments, SecureRandom(), limit)


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
