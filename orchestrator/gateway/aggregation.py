"""From stored updates to a round's result: the arithmetic of the gateway, without MQTT. What nodes answered is read back one by
one, decoded, and checked against the task.

Everything is read from the store and nothing is written to it: a round computed again after a crash gives the same result.
"""

from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import numpy as np

from orchestrator.analyses.agents import PeerAnalysis
from orchestrator.analyses.blocks import ROUNDED, impossible
from orchestrator.analyses.registry import analysis_of
from orchestrator.errors import RoundError, WireError
from orchestrator.gateway.analysed import folded
from orchestrator.gateway.analysed_nodes import nodes_before
from orchestrator.gateway.clipped import Tallies, check_tally
from orchestrator.gateway.course import MOST_RECORDS
from orchestrator.gateway.cross_scores import CrossScores
from orchestrator.gateway.judged import pooled_figures
from orchestrator.gateway.outcome import Outcome
from orchestrator.gateway.run import norm_multiple, standardization, strategy_of, tail_starts_after, trained_rounds
from orchestrator.gateway.run_store import OWED, PARTIAL, STATE_PREFIX, RunStore
from orchestrator.gateway.scores import steers
from orchestrator.gateway.statistics_round import StatisticsRound, Total
from orchestrator.gateway.steering import Steering
from orchestrator.privacy.noisy_sum import TALLY
from orchestrator.privacy.vector_layout import most_values
from orchestrator.rounds.events import Aggregate
from orchestrator.rounds.norm_bound import LEAST, bound_of, norm_of
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS
from orchestrator.rounds.strategy import Update
from orchestrator.wire.announcing import LastCounted, OfRound
from orchestrator.wire.answering import Coded
from orchestrator.wire.body import decode_body
from orchestrator.wire.codec import EXACT, decode_update
from orchestrator.wire.counted import Counted
from orchestrator.wire.evaluation import check
from orchestrator.wire.plain import plain
from orchestrator.wire.task import Task
from orchestrator.wire.weight_step import CODEC, WeightStep, step_towards

MAX_MESSAGE_BYTES = 512 << 20

MOST_MOVED = 1e15
"""What a value of an update may be: far beyond any that trains, and far below what float32 weights can hold."""

MOST_COUNTED = 2.0**40
"""What a sum over a node's records may be: what is summed is scaled to its range, and noise is no more."""

_ROUNDING = 1 + 1e-5
"""float32 has not all of a sum."""

Tensors = Dict[str, np.ndarray]

ROOM_BYTES = 64 << 10
"""For what a message holds beside its numbers."""

Evaluate = Callable[[np.ndarray, np.ndarray, np.ndarray], Dict[str, Any]]


class StoredAnswers:
    """Of one run. Memory does not grow with the number of nodes, and the order is that of their names."""

    def __init__(self, store: RunStore, run: str, task: Task) -> None:
        self._store, self._run, self._task, self._stages = store, run, task, task.stages
        self._parameters: Optional[int] = None  # read once: the weights may be large
        self._most = 0

    def weights(self) -> np.ndarray:
        """float32 (P,): what the run's rounds came to so far."""
        weights = self._store.vector(self._run, "weights")
        if weights is None:
            raise RoundError(f"run {self._run} has no weights in its store")
        return weights

    def of(self, action: Aggregate) -> Iterator[Tuple[str, Dict[str, Any], Tensors]]:
        """(node, header, tensors) of every answer that is in the round."""
        for node, body in self._store.updates(self._run, action.round, action.nodes):
            header, tensors = decode_body(body, MAX_MESSAGE_BYTES)
            yield node, header, tensors

    def vector(self, number: int, header: Dict[str, Any], tensors: Tensors) -> np.ndarray:
        """The update or sum in an answer to round `number`; WireError for one that is not as the task has it."""
        stage, said = self._stages.of(number), Coded.read(header).codec
        exact = stage == ANALYSIS or (stage == STATISTICS and said == EXACT and not self._task.privacy.on)
        codec = EXACT if exact else "float32" if stage == STATISTICS else self._task.codec
        if said != codec:
            raise WireError(f"update in codec {plain(repr(said))}, the task says {codec!r}")
        return decode_update(tensors, codec, self.size(number))

    def evaluation(self, tensors: Tensors) -> np.ndarray:
        """The sums of federated evaluation in an answer."""
        return check(tensors.get("evaluation"), self._task.schema.learned.size(self._task.evaluation.bins))

    def size(self, number: int) -> int:
        """Values of the update or sum of round `number`."""
        if self._stages.of(number) == STATISTICS:
            return 2 * len(self._task.schema.numbers())
        if not self._task.trains:
            return self._task.training.parameters
        if self._parameters is None:
            self._parameters = int(self.weights().size)
        return self._parameters - self._task.training.personal_parameters

    def most_values(self) -> int:
        """Numbers in a node's answer to any round, at most."""
        if not self._most:
            held = self._store.vector(self._run, "weights")
            parameters = max(self._task.training.parameters, 0 if held is None else held.size)
            if not parameters:  # a relay's own task; its nodes' updates are bounded by what a message may be
                return MAX_MESSAGE_BYTES // 4
            self._most = most_values(self._task, parameters)
        return self._most

    def check(self, number: int, header: Dict[str, Any], tensors: Tensors) -> None:
        """Raises WireError for an answer that could not be aggregated, or that no records of the node add up to."""
        stage = self._stages.of(number)
        if stage != EVALUATION:
            update = self.vector(number, header, tensors)
            largest, most = float(np.abs(update).max(initial=0.0)), self._most_of(stage, header)
            if not largest <= most:
                raise WireError(f"update with a value of {largest:.3g}, at most {most:.3g} makes sense")
            check_tally(tensors.get(TALLY), MOST_COUNTED)
            if not self._task.privacy.on:
                self._check_exact(stage, header, update)
        if self._task.evaluates(number):
            self._check_evaluation(self.evaluation(tensors))

    def _most_of(self, stage: str, header: Dict[str, Any]) -> float:
        """What a value may be: no record adds more than 1 to a sum, but noise does."""
        if stage not in (STATISTICS, ANALYSIS):
            return MOST_MOVED
        return MOST_COUNTED if self._task.privacy.on else float(Counted.read(header).records) * _ROUNDING

    def _check_exact(self, stage: str, header: Dict[str, Any], sums: np.ndarray) -> None:
        if stage == STATISTICS and float(sums[len(sums) // 2 :].min(initial=0.0)) < 0:
            raise WireError("statistics with a sum of squares below 0")
        if stage == ANALYSIS:
            analysis = analysis_of(self._task)
            blocks = analysis.blocks(analysis.question(self.weights()))
            why = impossible(blocks, sums, float(Counted.read(header).records), ROUNDED in header)
            if not why and isinstance(analysis, PeerAnalysis) and analysis.exchanges(analysis.question(self.weights())):
                why = analysis.wrong_answer(sums)
            if why:
                raise WireError(f"sums that no records add up to: {why}")

    def _check_evaluation(self, sums: np.ndarray) -> None:
        """Cells of 0 or more, of which a record adds 1 in all, and a value of 0 to 1 (`Target.size`), unless there is noise."""
        most = MOST_COUNTED if self._task.privacy.on else float(MOST_RECORDS)
        cells, rest = float(sums[:-1].sum()), float(sums[-1])
        if float(np.abs(sums).max(initial=0.0)) > most:
            raise WireError(f"evaluation with a count of {np.abs(sums).max():.3g}, at most {most:.3g} makes sense")
        if not self._task.privacy.on and not (sums.min() >= 0 and rest <= cells * _ROUNDING):
            raise WireError(
                f"evaluation sums that no records add up to: least {sums.min():.3g}, {rest:.3g} of {cells:.3g}"
            )


class Aggregation:
    """The rounds of one run, computed from its store."""

    always_steps = False
    """Whether the weights move also in a round without any update."""

    def __init__(self, store: RunStore, run: str, task: Task, evaluate: Optional[Evaluate]) -> None:
        self._store, self._run, self._task, self._evaluate = store, run, task, evaluate
        self._stages = task.stages
        self._strategy = strategy_of(task)
        self._answers = StoredAnswers(store, run, task)
        self._statistics = StatisticsRound(task, self._answers)
        self._steering = Steering(store, run, task)
        self._multiple = norm_multiple(task)
        self._shortened: Tuple[str, ...] = ()
        self._tallies = Tallies(task)
        self.scores = CrossScores(store, run, task)
        self.step: Optional[WeightStep] = None
        """From the weights of the round before to those of the next; None where they travel whole, or nothing is known."""

    def most_unpacked(self, header: Dict[str, Any]) -> int:
        """Bytes a node's message with this header may have, unpacked: what the task's parameters make of its kind."""
        return ROOM_BYTES + (4 * self._answers.most_values() if header.get("kind") == "update" else 0)

    def most_sent(self) -> int:
        """Bytes of the largest message of a node, as it travels: what does not compress gets a little longer."""
        most = self.most_unpacked({"kind": "update"})
        return min(MAX_MESSAGE_BYTES, most + most // 128 + ROOM_BYTES)

    def check_update(self, number: int, header: Dict[str, Any], tensors: Tensors) -> None:
        """Raises WireError for an update that could not be aggregated."""
        self._answers.check(number, header, tensors)

    def weights(self) -> np.ndarray:
        return self._answers.weights()

    def broadcast(self) -> Tuple[Dict[str, Any], Tensors]:
        """(header fields, tensors) a training round carries beside the weights, as the strategy wants them."""
        if not self._strategy.names_counted:
            return {}, self._strategy.broadcast(self._strategy_state())
        counted: Dict[str, int] = {}
        for result in trained_rounds(self._store, self._run, self._task):
            counted.update({node: result["round"] for node in result["nodes"]})
        return LastCounted(counted).written(), self._strategy.broadcast(self._strategy_state())

    def outcome(self, action: Aggregate, known: float) -> Outcome:
        """`known`: records of all nodes that ever joined the run.

        Raises RoundError when the strategy cannot aggregate these updates, saying why.
        """
        self._shortened = ()
        self._tallies = Tallies(self._task)
        self.scores.begin()
        if self._task.rounds.provided:
            return self._partial(action)
        stage = self._stages.of(action.round)
        if stage == STATISTICS:
            return self._standardized(action)
        if stage == ANALYSIS:
            return self._analysed(action)
        outcome = Outcome()
        sums: Dict[str, np.ndarray] = {}
        if stage == EVALUATION:
            self._take_sums(action, sums)
        elif action.nodes or self.always_steps:
            outcome.vectors = self._step(action, known, sums)
        else:
            outcome.vectors = {**self._tail(action.round, self.weights())}  # a Poisson sample may be empty
        if sums:
            self._take_evaluation(sums, len(action.nodes) if "" in sums else len(sums), outcome)
        if self._evaluate is not None and stage != EVALUATION:
            mean, std = standardization(self._store, self._run, self._task)
            weights = outcome.vectors.get("weights", self.weights())
            shape = self._task.schema.input_shape
            outcome.figures = self._evaluate(weights, mean.reshape(shape), std.reshape(shape))
            if not self._task.evaluation.on:
                self._steering.compare(action.round, outcome.figures, weights, outcome)
        outcome.figures.update(self.scores.figures(outcome.vectors))
        if self._shortened:
            outcome.figures["shortened"] = list(self._shortened)
        if self._tallies.nodes:
            outcome.figures["clipped"] = self._tallies.figures(self.weights().size)
        return outcome

    def _standardized(self, action: Aggregate) -> Outcome:
        total = None if self._statistics.exact else self._statistics_total(action)
        vectors = self._statistics.vectors(action, total)
        self._check_finite(action, vectors)
        return Outcome(vectors, self._statistics.figures(action, total, **vectors))

    def _statistics_total(self, action: Aggregate) -> Total:
        return self._statistics.total(action)

    def _analysed(self, action: Aggregate) -> Outcome:
        """Of a round that nobody answered, or whose sum was not opened: nothing moves."""
        if not action.nodes:
            return Outcome()
        before = nodes_before(self._store, self._run, action.round)
        others = before is not None and before != action.nodes
        total, headers = self._analysis_total(action), self._answer_headers(action)
        try:
            vectors, figures, done = folded(self._task, self.weights(), total, len(action.nodes), headers, others)
        except (ValueError, ArithmeticError) as error:  # numpy's LinAlgError is a ValueError
            raise RoundError(f"round {action.round} cannot be computed: {error}; nothing was kept") from error
        self._check_finite(action, vectors)
        return Outcome(vectors, figures, stop=done)

    def _analysis_total(self, action: Aggregate) -> np.ndarray:
        """float64 (size,): the sum of all nodes."""
        total = np.zeros(self._answers.size(action.round), np.float64)
        for _, header, tensors in self._answers.of(action):
            total += self._answers.vector(action.round, header, tensors)
        return total

    def _answer_headers(self, action: Aggregate) -> Dict[str, Dict[str, Any]]:
        """Of the answers that a round's sum is of, by node."""
        return {node: header for node, header, _ in self._answers.of(action)}

    def _partial(self, action: Aggregate) -> Outcome:
        """For a higher gateway: what one node with the records of all of these would send it."""
        if self._stages.of(action.round) == STATISTICS and not self._task.privacy.on:
            partial, records = self._statistics.exact_total(action)
        else:
            partial, records = self._weighted(action)
        self._check_finite(action, {PARTIAL: partial})
        figures: Dict[str, Any] = {"records": records}
        if self._shortened:
            figures["shortened"] = list(self._shortened)
        return Outcome({PARTIAL: partial}, figures)

    def _weighted(self, action: Aggregate) -> Tuple[np.ndarray, int]:
        """(sum of statistics, or mean of updates over their nodes' records; how many records these are)."""
        records, summed = 0, self._stages.of(action.round) == STATISTICS
        total = np.zeros(self._answers.size(action.round), np.float64)
        bound = self._bound(action)
        for node, header, tensors in self._answers.of(action):
            vector = self._within(bound, node, self._answers.vector(action.round, header, tensors)).astype(np.float64)
            stated = Counted.read(header).records
            total += vector if summed else stated * vector
            records += stated
        return (total if summed else total / max(1, records)), records

    def _step(self, action: Aggregate, known: float, sums: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        weights, shared = self.weights(), self._answers.size(action.round)
        try:
            moved, state = self._moved(action, known, sums, weights[:shared])
        except ValueError as error:
            raise RoundError(f"round {action.round} cannot be aggregated: {error}") from error
        self._check_finite(action, {"weights": moved, **state})
        new = np.concatenate([moved, weights[shared:]])  # personal parts stay as they were before the first round
        kept = {f"{STATE_PREFIX}{name}": vector for name, vector in state.items()}
        if self._task.rounds.weights == CODEC:
            owed = self._store.vector(self._run, OWED)
            try:
                self.step, new, kept[OWED] = step_towards(weights, new, np.zeros_like(new) if owed is None else owed)
            except ValueError as error:
                raise RoundError(f"round {action.round} cannot be aggregated: {error}; nothing was kept") from error
        return {"weights": new, **self._tail(action.round, new), **kept}

    def _check_finite(self, action: Aggregate, vectors: Tensors) -> None:
        """Nothing that is no number becomes the model, or what the strategy remembers."""
        for name, vector in vectors.items():
            if not np.isfinite(vector).all():
                raise RoundError(
                    f"round {action.round} gives {name} that are not finite numbers{self._longest(action)}; nothing was kept"
                )

    def _longest(self, action: Aggregate) -> str:
        """Who sent the longest update, in words; nothing where single ones cannot be seen."""
        norms = self._norms(action) if self._task.trains else {}
        node = max(norms, key=lambda name: norms[name], default="")
        return f": the longest update, of norm {norms[node]:.3g}, is that of {node}" if norms else ""

    def _norms(self, action: Aggregate) -> Dict[str, float]:
        """node -> L2 norm of its update as it came."""
        return {
            n: norm_of(self._answers.vector(int(h["round"]), h, tensors)) for n, h, tensors in self._answers.of(action)
        }

    def _bound(self, action: Aggregate) -> float:
        if not self._multiple or len(action.nodes) < LEAST or self._stages.of(action.round) == STATISTICS:
            return float("inf")
        return bound_of(self._norms(action).values(), self._multiple)

    def _within(self, bound: float, node: str, delta: np.ndarray) -> np.ndarray:
        """The update, shortened to the bound, and its node noted, where it is longer."""
        norm = norm_of(delta) if np.isfinite(bound) else 0.0
        if norm <= bound:
            return delta
        self._shortened = (*self._shortened, node)
        return np.asarray(delta * np.float32(bound / norm))

    def _moved(
        self, action: Aggregate, known: float, sums: Dict[str, np.ndarray], shared: np.ndarray
    ) -> Tuple[np.ndarray, Tensors]:
        """(new shared weights, strategy's new state); evaluations that came along go into `sums`, by node."""
        return self._strategy.aggregate(shared, self._updates(action, known, sums), self._strategy_state())

    def _take_sums(self, action: Aggregate, sums: Dict[str, np.ndarray]) -> None:
        """The evaluations of a round that trains nothing."""
        for node, _, tensors in self._answers.of(action):
            sums[node] = self._answers.evaluation(tensors)

    def _updates(self, action: Aggregate, known: float, sums: Dict[str, np.ndarray]) -> Iterator[Update]:
        """The round's updates one at a time; their evaluations go into `sums`, but for those of older weights."""
        bound = self._bound(action)
        for node, header, tensors in self._answers.of(action):
            number, stated = OfRound.read(header).round, Counted.read(header)
            staleness = action.round - number
            if not staleness and self._task.evaluates(action.round):
                sums[node] = self._answers.evaluation(tensors)
            if TALLY in tensors and self._task.privacy.clip_tally:
                self._tallies.add(tensors[TALLY], stated.units)
            delta = self._within(bound, node, self._answers.vector(number, header, tensors))
            travel = self._task.training.travel_at(number)
            update = Update(node, float(stated.records), delta, staleness, travel, known)
            yield self.scores.scored(number, header, update) if self.scores.on(number) else update

    def _strategy_state(self) -> Dict[str, np.ndarray]:
        stored = self._store.vectors(self._run, STATE_PREFIX)
        return {name[len(STATE_PREFIX) :]: vector for name, vector in stored.items()}

    def _tail(self, number: int, weights: np.ndarray) -> Dict[str, np.ndarray]:
        if not self._task.training.tail_average or number <= tail_starts_after(self._task):
            return {}
        before = self._store.vector(self._run, "tail")
        return {"tail": weights.astype(np.float64) if before is None else before + weights}

    # Evaluation

    def _take_evaluation(self, sums: Dict[str, np.ndarray], nodes: int, outcome: Outcome) -> None:
        """What `nodes` nodes counted is about the weights they were sent: those of the last round trained before."""
        trained = self._store.newest_round(self._run)
        pooled = pooled_figures(self._task, sums, nodes)
        if self._steering.wanted:
            pooled["steers"] = steers(pooled, self._task.training.metric, self._task.privacy.on)
        outcome.evaluated = (trained, {"federated": pooled})
        self._steering.compare(trained, pooled, self.weights(), outcome)
