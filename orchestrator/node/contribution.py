"""What a node gives to a round: sums for standardization, an update, an evaluation; clipped and noised as the task says.

`Contribution.parts` are what the node computed, `sent` what travels when answers are sent one by one. In secure rounds the parts
are hidden in a vector instead (node/secure.py). Parts in whole numbers (int64) carry their noise already.
"""

import logging
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Set, Tuple

import numpy as np

from orchestrator.analyses.agents import EXCHANGE, PeerAnalysis
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError, GraphError, WireError
from orchestrator.node.analysed import asked_of, unit_vectors
from orchestrator.node.control import NodeControl
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.evaluation import evaluate, evaluation_work
from orchestrator.node.graph_admission import functions_of, refuse_graph
from orchestrator.node.graph_check import check_graph
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.pace import most_held_out, quantum_s
from orchestrator.node.personal import PERSONAL, with_personal
from orchestrator.node.runtime import TrainingGraph
from orchestrator.node.store import RESIDUAL, NodeStore
from orchestrator.node.trainer import GradientTrainer, Trainer, step_work
from orchestrator.node.units import rows_of_units, units_in
from orchestrator.privacy.clipping import clip_l2
from orchestrator.privacy.noisy_sum import (
    CLIP_NORM,
    TALLY,
    WITHIN,
    analysis_sum,
    evaluation_counts,
    noised_count,
    statistics_sum,
    training_sum,
)
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.standardization import at_an_end, floor_warning, moments, on_floor, spread, standardize
from orchestrator.privacy.terms import unit_of
from orchestrator.privacy.vector_layout import UPDATE, Layout
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS, TRAINING
from orchestrator.wire.codec import ERROR_FEEDBACK, EXACT, decode_update, encode_update
from orchestrator.wire.task import Task

log = logging.getLogger("edgeward.node")

Tensors = Dict[str, np.ndarray]
TrainerFactory = Callable[[Task, bytes, Dataset, str], Trainer]


class Run:
    """The run this node takes part in: task, graph, data; the trainer once mean and std are known."""

    def __init__(
        self,
        run: str,
        digest: str,
        task: Task,
        graph: bytes,
        dataset: Dataset,
        held_out: Dataset,
        certificates: Optional[int] = None,
    ) -> None:
        """`certificates`: entries of the certificate log that the run goes by (`Peers.see_log`), None where none is kept."""
        self.id = run
        self.digest = digest
        self.task = task
        self.graph = graph
        self.certificates = certificates
        self.dataset = dataset
        self.held_out = held_out  # raw; evaluated on, never trained on
        self.units = units_in(task, dataset)  # private: nothing that is sent may depend on it
        self._stated: Optional[int] = None
        self._parameters: Optional[int] = None
        self.trainer: Optional[Trainer] = None
        # (round, digest of its model, parts) of a secure round, while it may be attempted again
        self.parts: Optional[Tuple[int, str, Tensors]] = None
        self.said: Dict[str, Any] = {}  # with an answer without noise: what its owner's rules left out of it
        # (round, answer, what is said of it) of an exchange with neighbours that is over
        self.exchanged: Optional[Tuple[int, np.ndarray, Dict[str, Any]]] = None
        self._evaluation_graph: Optional[TrainingGraph] = None
        self._awake: Optional[TrainingGraph] = None

    def state(self, units: int) -> None:
        """Fixes what others are given as how many records or units there are (Gatekeeper.state_count)."""
        self._stated = units

    @property
    def stated(self) -> int:
        """How many records this node says it has: all of them without privacy, else a noised count of its units; of a node 1.

        Weights, divisors and limits are made of it, so that what is sent is a function of noised sums and of this.
        """
        privacy = self.task.privacy
        if self._stated is None:
            self._stated = self.dataset.records
            if privacy.on:
                self._stated = noised_count(self.task, self.units, SecureRandom()) if privacy.within_node else 1
        return self._stated if privacy.on else self.dataset.records

    @property
    def parameters(self) -> int:
        """Of the model: as declared, or as the graph has it where the task leaves it out; 0 where there is no graph."""
        if self._parameters is None:
            self._parameters = self.task.training.parameters
            if not self._parameters:
                with suppress(GraphError):  # what computes here is no graph
                    self._parameters = check_graph(self.graph).parameters
        return self._parameters

    @property
    def stated_units(self) -> int:
        return self.stated if self.task.privacy.on else self.units

    def quantum_s(self, number: int) -> float:
        """Of what a round's answer is held up to a multiple (node/pace.py), from public numbers; 0 where no graph ran."""
        task, seconds = self.task, 0.0
        if not task.privacy.within_node:
            return 0.0  # what such a task promises does not rest on a secret sample
        most = task.privacy.most_units(self.stated)  # a gateway chooses how much noise is on the stated number
        rows = task.privacy.records_per_patient if task.privacy.of_patients else 1
        if task.evaluates(number) and self._evaluation_graph is not None:
            seconds = self._evaluation_s(self._evaluation_graph, most_held_out(most, task.evaluation.share), rows)
        if not isinstance(self.trainer, GradientTrainer) or not task.stages.trains(number):
            return quantum_s(0.0, 0, 0.0, other_s=seconds) if seconds else 0.0
        steps, rate = task.training.local_steps, task.privacy.sampling_rate
        work = step_work(task, self.trainer.graph.parameters)
        seconds += steps * (work.fixed_s + self.trainer.step_seconds())
        return quantum_s(self.trainer.record_seconds(), most, rate, steps, rows, seconds, work.unit_s)

    def _evaluation_s(self, graph: TrainingGraph, units: float, rows: int) -> float:
        """rows: of a patient, at most. How fast inference is has nothing to do with how fast gradients are."""
        *_, inference = functions_of(check_graph(self.graph), self.task)
        work = evaluation_work(self.task)
        return work.fixed_s + units * (rows * graph.record_seconds(inference) + work.unit_s)

    def rest(self) -> None:
        """Ends the processes of the run's graph; the next round that needs one starts it, on the mean and std it comes with."""
        if isinstance(self.trainer, GradientTrainer):
            self.trainer = None
        self._evaluation_graph = self._awake = None

    def wake(self) -> None:
        """Starts the graph's process, and measures a round's work, before a request's time counts: else an answer behind it
        would leave a multiple later.

        A graph that fails here fails in the answer as well, where that is charged and said.
        """
        if self._awake is not None and not self._awake.process.broken:
            return
        try:
            self._awake = TrainingGraph(self.graph)
            for name in functions_of(check_graph(self.graph), self.task):
                self._awake.record_seconds(name)
            self._try_work(self._awake.parameters)
        except EdgewardError as error:
            log.warning("run %s: %s", self.id, error)

    def _try_work(self, parameters: int) -> None:
        """Measures what a round takes beside the graph; from then on it is known."""
        if self.task.privacy.within_node:
            step_work(self.task, parameters)
            if self.task.evaluation.on:
                evaluation_work(self.task)

    def processes(self) -> Set[int]:
        """Process ids of the graphs that run."""
        graphs = [self._evaluation_graph, self._awake, getattr(self.trainer, "graph", None)]
        return {graph.process.pid for graph in graphs if isinstance(graph, TrainingGraph)}

    def evaluation_graph(self) -> TrainingGraph:
        if self._evaluation_graph is None:
            self._evaluation_graph = TrainingGraph(self.graph)
        return self._evaluation_graph


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
        self.run, self.store, self._name, self.trainer_factory = run, store, name, trainer_factory
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
            sent, residual = self._encode(number, parts[UPDATE], fields)
            keep = {**keep, **residual}
        if TALLY in parts:
            beside = training_sum(task, self._parameters(tensors)).beside
            sent = {**sent, TALLY: (parts[TALLY] / beside).astype(np.float32)}
        if EVALUATION in parts:
            sums = parts[EVALUATION]
            if task.privacy.on:
                sums = evaluation_counts(task).to_float(sums)
            sent = {**sent, EVALUATION: sums.astype(np.float32)}
        if task.training.strategy == "scaffold" and UPDATE in parts:
            decoded = decode_update(sent, task.codec, parts[UPDATE].size)
            control = self._control(announced, tensors, parts[UPDATE].size)
            keep = {**keep, **control.after(decoded, task.training.travel_at(number))}
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
            parts[STATISTICS] = self._statistics(layout)
        elif stage == ANALYSIS:
            parts[ANALYSIS] = self._analyse(number, tensors, layout)
            fields.update(run.said)
        elif stage == TRAINING:
            parts[UPDATE], keep, more = self._train(number, announced, tensors, layout)
            fields.update(more)
            if run.task.privacy.clip_tally and isinstance(run.trainer, GradientTrainer):
                tally = run.trainer.take_tally()
                parts.update({} if tally is None else {TALLY: tally})
        if run.task.evaluates(number):
            weights, mean, std = self.round_tensors(number, tensors)
            held_out = run.held_out._replace(x=standardize(run.held_out.x, mean, std))
            limit = limit_in(layout, EVALUATION, run.stated_units)
            parts[EVALUATION] = evaluate(run.task, run.evaluation_graph(), held_out, weights, limit)
        return Contribution(parts, keep, fields)

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

    @staticmethod
    def _parameters(tensors: Tensors) -> int:
        return int(tensors["weights"].size)

    def _statistics(self, layout: Optional[Layout]) -> np.ndarray:
        run = self.run
        if layout is None and not run.task.privacy.on:
            return spread(run.dataset.x, run.task.schema)
        unit_moments = moments(run.dataset.x, run.task.schema, rows_of_units(run.task, run.dataset))
        if not run.task.privacy.on:
            return np.asarray(unit_moments.sum(axis=0))
        limit = limit_in(layout, STATISTICS, run.stated_units)
        return statistics_sum(run.task).release(unit_moments, SecureRandom(), limit)

    def _analyse(self, number: int, tensors: Tensors, layout: Optional[Layout]) -> np.ndarray:
        """float64 sums, or int64 in steps with noise (node/analysed.py)."""
        run, task = self.run, self.run.task
        analysis = analysis_of(task)
        asked = asked_of(analysis, tensors.get("weights"), number)
        if isinstance(analysis, PeerAnalysis) and analysis.exchanges(analysis.question(asked)):
            if run.exchanged is None or run.exchanged[0] != number:
                raise WireError(f"round {number}: this node's exchange with its neighbours is not over")
            run.said = {EXCHANGE: run.exchanged[2]}
            return self._guard.leaves(run.digest, task, run.exchanged[1])
        if not task.privacy.on:
            answer, run.said = self._guard.exact(run.digest, task, analysis, asked, run.dataset)
            return self._guard.leaves(run.digest, task, answer)
        passed = self._guard.passed(run.digest, task, analysis, asked, run.dataset)
        vectors = unit_vectors(analysis, asked, passed.data, unit_of(task.privacy))
        limit = limit_in(layout, ANALYSIS, run.stated_units)
        if task.privacy.distributed and limit is None:
            raise WireError(f"round {number} is not a secure one: this node's share of the noise protects only a sum")
        each = (vector for some in vectors for vector in some)
        return analysis_sum(task).release(each, SecureRandom(), limit)

    def _warn_of_floor(self, mean: np.ndarray, std: np.ndarray) -> None:
        """To the owner: both came from the gateway, and nothing is computed from records."""
        task = self.run.task
        if not task.standardizes or not (task.privacy.on or task.aggregation.secure):
            return
        at_end = at_an_end(mean, std, task.schema) if task.privacy.on else []
        hidden = list(dict.fromkeys([*on_floor(std, task.schema), *at_end]))
        if hidden:
            log.warning("run %s: %s", self.run.id, floor_warning(hidden))

    def _train(
        self, number: int, announced: Dict[str, Any], tensors: Tensors, layout: Optional[Layout]
    ) -> Tuple[np.ndarray, Tensors, Dict[str, Any]]:
        run, training = self.run, self.run.task.training
        weights, mean, std = self.round_tensors(number, tensors)
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
        if training.strategy == "scaffold":
            control = self._control(announced, tensors, shared)
            correction = np.append(control.correction, np.zeros(weights.size - shared, np.float32))
            change = run.trainer.train(weights, number, correction)
        else:
            change = run.trainer.train(weights, number)
        keep = {PERSONAL: weights[shared:] + change[shared:]} if training.personal_parameters else {}
        if privacy.of_nodes:
            update, fields = self._bounded(change[:shared], announced)
            return update, keep, fields
        return change[:shared], keep, {}

    def _bounded(self, update: np.ndarray, announced: Dict[str, Any]) -> Tuple[np.ndarray, Dict[str, Any]]:
        """A whole update clipped, and noised here unless the gateway does it."""
        privacy, fields = self.run.task.privacy, {}
        clip_norm = privacy.clip_norm
        if privacy.clip_quantile:
            told = announced.get(CLIP_NORM)
            if not isinstance(told, float) or not 0 < told < 1e12:
                raise WireError(f"a round whose clip norm follows the updates came with {CLIP_NORM} {told!r}")
            clip_norm, fields = told, {WITHIN: bool(np.linalg.norm(update) <= told)}
        mechanism = training_sum(self.run.task, update.size, clip_norm)
        if privacy.central:
            return clip_l2(update[np.newaxis].astype(np.float64), clip_norm)[0].astype(np.float32), fields
        steps = mechanism.release([update], SecureRandom())
        return (steps if privacy.distributed else mechanism.to_float(steps).astype(np.float32)), fields

    def _control(self, announced: Dict[str, Any], tensors: Tensors, size: int) -> NodeControl:
        return NodeControl(self.store, self.run.id, self._name, announced, tensors, size)

    def _encode(self, number: int, update: np.ndarray, fields: Dict[str, Any]) -> Tuple[Tensors, Tensors]:
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


def limit_in(layout: Optional[Layout], name: str, units: int) -> Optional[int]:
    """To what this node's part of a noisy sum is cut before its noise; None outside secure sums, which have room for all.

    units: as stated. The limit of a sum must not depend on how many units really are in it.
    """
    part = next((p for p in layout.parts if p.name == name and p.noisy), None) if layout is not None else None
    if layout is None or part is None:
        return None
    return layout.limit(part, part.times * units)
