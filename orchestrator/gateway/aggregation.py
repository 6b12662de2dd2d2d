"""From stored updates to a round's result: the arithmetic of the gateway, without MQTT.

Everything is read from the store and nothing is written to it: a round computed again after a crash gives the same result.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from orchestrator.errors import RoundError, WireError
from orchestrator.gateway.analysed import folded
from orchestrator.gateway.clipped import Tallies, check_tally
from orchestrator.gateway.run import norm_multiple, standardization, strategy_of, tail_starts_after, trained_rounds
from orchestrator.gateway.scores import STEERS_WITHIN, figures, of_sums, steers
from orchestrator.gateway.store import OWED, PARTIAL, STATE_PREFIX, Store
from orchestrator.privacy.noisy_sum import TALLY, evaluation_noise, statistics_sum
from orchestrator.privacy.standardization import (
    MIN_STD,
    at_an_end,
    constant_columns,
    exact_mean_and_std,
    mean_and_std,
    noise_of_std,
    on_floor,
    pooled,
    spread_of_moments,
)
from orchestrator.privacy.vector_layout import LIMBS
from orchestrator.rounds.events import Aggregate
from orchestrator.rounds.norm_bound import LEAST, bound_of, norm_of
from orchestrator.rounds.scaffold import COUNTED
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, FIRST_ROUND, STATISTICS
from orchestrator.rounds.strategy import Update
from orchestrator.wire.body import decode_body
from orchestrator.wire.codec import EXACT, decode_update
from orchestrator.wire.evaluation import check, vector_size
from orchestrator.wire.task import Task
from orchestrator.wire.weight_step import CODEC, WeightStep, step_towards

MAX_MESSAGE_BYTES = 512 << 20
ROOM_BYTES = 64 << 10
"""For what a message holds beside its numbers."""

MOST_MOVED = 1e15
"""What a value of an update may be: far beyond any that trains, and far below what float32 weights can hold."""

MOST_COUNTED = 2.0**40
"""What a sum over a node's records may be: what is summed is scaled to its range, and noise is no more."""

_SPARE_VALUES = 64  # masked vectors carry their weights, and what was cut, beside the values

Evaluate = Callable[[np.ndarray, np.ndarray, np.ndarray], Dict[str, Any]]
Tensors = Dict[str, np.ndarray]


@dataclass
class Outcome:
    """What a round leaves: vectors to store, figures of it, figures it brought of an earlier round, whether to stop, and what
    people should know, said once."""

    vectors: Dict[str, np.ndarray] = field(default_factory=dict)
    figures: Dict[str, Any] = field(default_factory=dict)
    evaluated: Optional[Tuple[int, Dict[str, Any]]] = None
    stop: bool = False
    notice: str = ""

    def not_finite(self) -> str:
        """The first of what is no finite number: a vector, or a figure such as the loss; empty where all are."""
        for name, vector in self.vectors.items():
            if not np.isfinite(vector).all():
                return name
        for said in (self.figures, {} if self.evaluated is None else self.evaluated[1]):
            named = _not_finite_in(said)
            if named:
                return named
        return ""


def _not_finite_in(said: Dict[str, Any]) -> str:
    for name, value in said.items():
        inner = _not_finite_in(value) if isinstance(value, dict) else ""
        if inner or (isinstance(value, float) and not np.isfinite(value)):
            return inner or name
    return ""


class Aggregation:
    """The rounds of one run, computed from its store."""

    always_steps = False
    """Whether the weights move also in a round without any update."""

    def __init__(self, store: Store, run: str, task: Task, evaluate: Optional[Evaluate]) -> None:
        self._store, self._run, self._task, self._evaluate = store, run, task, evaluate
        self._stages = task.stages
        self._strategy = strategy_of(task)
        self._parameters: Optional[int] = None  # read once: the weights may be large
        self._most = 0
        self._multiple = norm_multiple(task)
        self._shortened: Tuple[str, ...] = ()
        self._tallies = Tallies(task)
        self.step: Optional[WeightStep] = None
        """From the weights of the round before to those of the next; None where they travel whole, or nothing is known."""
        self._compared = FIRST_ROUND  # the newest round that counts in the next two
        self._best: Optional[Tuple[float, int]] = None  # score of the best round, and its number negated
        self._was_noisy = False

    def most_unpacked(self, header: Dict[str, Any]) -> int:
        """Bytes a node's message with this header may have, unpacked: what the task's parameters make of its kind."""
        return ROOM_BYTES + (4 * self._most_values() if header.get("kind") == "update" else 0)

    def most_sent(self) -> int:
        """Bytes of the largest message of a node, as it travels: what does not compress gets a little longer."""
        most = self.most_unpacked({"kind": "update"})
        return min(MAX_MESSAGE_BYTES, most + most // 128 + ROOM_BYTES)

    def _most_values(self) -> int:
        """Numbers in a node's answer to any round, at most."""
        if not self._most:
            task, held = self._task, self._store.vector(self._run, "weights")
            parameters = max(task.training.parameters, 0 if held is None else held.size)
            if not parameters:  # a relay's own task; its nodes' updates are bounded by what a message may be
                return MAX_MESSAGE_BYTES // 4
            if not task.trains:  # alone they travel as float64, in a sum in digits
                self._most = parameters * LIMBS + _SPARE_VALUES
                return self._most
            counts = vector_size(len(task.schema.classes), task.evaluation.bins) if task.evaluation.on else 0
            self._most = max(parameters, 2 * len(task.schema.numbers())) + counts + _SPARE_VALUES
        return self._most

    def check_update(self, number: int, header: Dict[str, Any], tensors: Tensors) -> None:
        """Raises WireError for an update that could not be aggregated."""
        stage = self._stages.of(number)
        if stage != EVALUATION:
            update = self._decode(number, header, tensors)
            most = {STATISTICS: MOST_COUNTED, ANALYSIS: self._most_of_analysis(header)}.get(stage, MOST_MOVED)
            largest = float(np.abs(update).max(initial=0.0))
            if largest > most:
                raise WireError(f"update with a value of {largest:.3g}, at most {most:.3g} makes sense")
            check_tally(tensors.get(TALLY), MOST_COUNTED)
        if self._task.evaluates(number):
            counted = float(np.abs(self._evaluation_sums(tensors)).max(initial=0.0))
            if counted > MOST_COUNTED:
                raise WireError(f"evaluation with a count of {counted:.3g}, at most {MOST_COUNTED:.3g} makes sense")

    def _most_of_analysis(self, header: Dict[str, Any]) -> float:
        """What a value of a node's sum may be: no record adds more than 1 to it, but noise does."""
        return MOST_COUNTED if self._task.privacy.on else float(header["records"]) * (1 + 1e-9)

    def weights(self) -> np.ndarray:
        weights = self._store.vector(self._run, "weights")
        if weights is None:
            raise RoundError(f"run {self._run} has no weights in its store")
        return weights

    def broadcast(self) -> Tuple[Dict[str, Any], Tensors]:
        """(header fields, tensors) a training round carries beside the weights, as the strategy wants them."""
        if self._task.training.strategy != "scaffold":
            return {}, self._strategy.broadcast(self._strategy_state())
        counted: Dict[str, int] = {}
        for result in trained_rounds(self._store, self._run, self._task):
            counted.update({node: result["round"] for node in result["nodes"]})
        return {COUNTED: counted}, self._strategy.broadcast(self._strategy_state())

    def outcome(self, action: Aggregate, known: float) -> Outcome:
        """`known`: records of all nodes that ever joined the run.

        Raises RoundError when the strategy cannot aggregate these updates, saying why.
        """
        self._shortened = ()
        self._tallies = Tallies(self._task)
        if self._task.rounds.provided:
            return self._partial(action)
        stage = self._stages.of(action.round)
        if stage == STATISTICS:
            vectors = self._statistics(action)
            return Outcome(vectors, {"on_floor": self._on_floor(action, **vectors), "constant": self._constant(action)})
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
                self._compare(action.round, outcome.figures, weights, outcome)
        if self._shortened:
            outcome.figures["shortened"] = list(self._shortened)
        if self._tallies.nodes:
            outcome.figures["clipped"] = self._tallies.figures(self.weights().size)
        return outcome

    def _analysed(self, action: Aggregate) -> Outcome:
        """Of a round that nobody answered, or whose sum was not opened: nothing moves."""
        if not action.nodes:
            return Outcome()
        vectors, figures, done = folded(self._task, self.weights(), self._analysis_total(action), len(action.nodes))
        self._check_finite(action, vectors)
        return Outcome(vectors, figures, stop=done)

    def _analysis_total(self, action: Aggregate) -> np.ndarray:
        """float64 (size,): the sum of all nodes."""
        total = np.zeros(self._update_size(action.round), np.float64)
        for _, header, tensors in self._stored(action):
            total += self._decode(action.round, header, tensors)
        return total

    def _partial(self, action: Aggregate) -> Outcome:
        """For a higher gateway: what one node with the records of all of these would send it."""
        if self._stages.of(action.round) == STATISTICS and not self._task.privacy.on:
            partial, records = self._exact_total(action)
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
        total = np.zeros(self._update_size(action.round), np.float64)
        bound = self._bound(action)
        for node, header, tensors in self._stored(action):
            vector = self._within(bound, node, self._decode(action.round, header, tensors)).astype(np.float64)
            total += vector if summed else int(header["records"]) * vector
            records += int(header["records"])
        return (total if summed else total / max(1, records)), records

    def _step(self, action: Aggregate, known: float, sums: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        weights, shared = self.weights(), self._update_size(action.round)
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
        return {n: norm_of(self._decode(int(h["round"]), h, tensors)) for n, h, tensors in self._stored(action)}

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
        for node, _, tensors in self._stored(action):
            sums[node] = self._evaluation_sums(tensors)

    def _updates(self, action: Aggregate, known: float, sums: Dict[str, np.ndarray]) -> Iterator[Update]:
        """The round's updates one at a time; their evaluations go into `sums`, but for those of older weights."""
        bound = self._bound(action)
        for node, header, tensors in self._stored(action):
            staleness = action.round - int(header["round"])
            if not staleness and self._task.evaluates(action.round):
                sums[node] = self._evaluation_sums(tensors)
            number = int(header["round"])
            if TALLY in tensors and self._task.privacy.clip_tally:
                self._tallies.add(tensors[TALLY], int(header.get("units", header["records"])))
            delta = self._within(bound, node, self._decode(number, header, tensors))
            travel = self._task.training.travel_at(number)
            yield Update(node, float(header["records"]), delta, staleness, travel, known)

    def _stored(self, action: Aggregate) -> Iterator[Tuple[str, Dict[str, Any], Tensors]]:
        for node, body in self._store.updates(self._run, action.round, action.nodes):
            header, tensors = decode_body(body, MAX_MESSAGE_BYTES)
            yield node, header, tensors

    def _decode(self, number: int, header: Dict[str, Any], tensors: Tensors) -> np.ndarray:
        stage = self._stages.of(number)
        summed = stage == STATISTICS
        codec = EXACT if stage == ANALYSIS else "float32" if summed else self._task.codec
        if summed and header.get("codec") == EXACT and not self._task.privacy.on:
            codec = EXACT
        if header.get("codec") != codec:
            raise WireError(f"update in codec {header.get('codec')!r}, the task says {codec!r}")
        return decode_update(tensors, codec, self._update_size(number))

    def _update_size(self, number: int) -> int:
        if self._stages.of(number) == STATISTICS:
            return 2 * len(self._task.schema.numbers())
        if not self._task.trains:
            return self._task.training.parameters
        if self._parameters is None:
            self._parameters = int(self.weights().size)
        return self._parameters - self._task.training.personal_parameters

    def _strategy_state(self) -> Dict[str, np.ndarray]:
        stored = self._store.vectors(self._run, STATE_PREFIX)
        return {name[len(STATE_PREFIX) :]: vector for name, vector in stored.items()}

    def _statistics(self, action: Aggregate) -> Dict[str, np.ndarray]:
        if self._task.privacy.on or self._task.aggregation.secure:
            mean, std = mean_and_std(*self._statistics_total(action), self._task.schema)
        else:
            mean, std = exact_mean_and_std(*self._exact_total(action), self._task.schema)
        self._check_finite(action, {"mean": mean, "std": std})
        return {"mean": mean, "std": std}

    def _on_floor(self, action: Aggregate, mean: np.ndarray, std: np.ndarray) -> List[str]:
        """Columns whose spread is lost in noise, clipping or rounding, from what was released."""
        if not (self._task.privacy.on or self._task.aggregation.secure):
            return []
        least, share = MIN_STD, 0.0
        if self._task.privacy.on:
            released = statistics_sum(self._task)
            noise, units = (
                released.std * released.lattice.step * math.sqrt(len(action.nodes)),
                self._statistics_total(action)[1],
            )
            least, share = noise_of_std(noise, max(1.0, units)), noise / max(1.0, units)
        schema = self._task.schema
        found = {*on_floor(std, schema, least), *at_an_end(mean, std, schema, share)}
        return [feature.name for _, feature in schema.numbers() if feature.name in found]

    def _constant(self, action: Aggregate) -> List[str]:
        """Columns with one value on all nodes, where the sums are exact; with noise they are `on_floor`."""
        if self._task.privacy.on or self._task.aggregation.secure:
            return []
        return constant_columns(*self._exact_total(action), self._task.schema)

    def _exact_total(self, action: Aggregate) -> Tuple[np.ndarray, int]:
        """(sums and squared distances of all nodes' records together, how many records they are)."""
        parts = []
        for _, header, tensors in self._stored(action):
            records, vector = int(header["records"]), self._decode(action.round, header, tensors)
            # An answer to a gateway of before, which asked for moments.
            exact = header["codec"] == EXACT or not records
            parts.append((records, vector if exact else spread_of_moments(vector, records)))
        return pooled(parts)

    def _statistics_total(self, action: Aggregate) -> Tuple[np.ndarray, float]:
        """(sums of all nodes, how many privacy units they are over)."""
        total = np.zeros(self._update_size(action.round), np.float64)
        units = 0
        for _, header, tensors in self._stored(action):
            total += self._decode(action.round, header, tensors)
            units += int(header.get("units", header["records"]))
        return total, float(units)

    def _tail(self, number: int, weights: np.ndarray) -> Dict[str, np.ndarray]:
        if not self._task.training.tail_average or number <= tail_starts_after(self._task):
            return {}
        before = self._store.vector(self._run, "tail")
        return {"tail": weights.astype(np.float64) if before is None else before + weights}

    # Evaluation

    def _evaluation_sums(self, tensors: Tensors) -> np.ndarray:
        return check(tensors.get("evaluation"), len(self._task.schema.classes), self._task.evaluation.bins)

    def _take_evaluation(self, sums: Dict[str, np.ndarray], nodes: int, outcome: Outcome) -> None:
        """What `nodes` nodes counted is about the weights they were sent: those of the last round trained before."""
        trained = self._store.newest_round(self._run)
        pooled = self._said(np.sum([sums[node] for node in sorted(sums)], axis=0), nodes)
        # A secure sum comes under no node's name.
        per_node = {node: self._said(vector, 1) for node, vector in sorted(sums.items()) if node}
        if per_node:
            pooled["per_node"] = per_node
        if self._steered:
            pooled["steers"] = steers(pooled, self._task.training.metric, self._task.privacy.on)
        outcome.evaluated = (trained, {"federated": pooled})
        self._compare(trained, pooled, self.weights(), outcome)

    def _said(self, sums: np.ndarray, nodes: int) -> Dict[str, Any]:
        classes, noise = self._task.schema.classes, evaluation_noise(self._task, nodes)
        return figures(of_sums(sums, len(classes), self._task.evaluation.bins, noise), classes)

    @property
    def _steered(self) -> bool:
        return self._task.training.best or self._task.training.patience > 0

    def _compare(self, number: int, said: Dict[str, Any], weights: np.ndarray, outcome: Outcome) -> None:
        """Keeps the weights of the best round, and says when there was no better one for `patience` rounds."""
        training = self._task.training
        if not self._steered:
            return
        self._look_back(number)
        best, score = self._best, self._score(said)
        if score is None and self._task.evaluation.on:
            if not self._was_noisy:
                outcome.notice = self._cannot_steer(said)
        elif score is not None and (best is None or score > best[0]):
            outcome.vectors["best"] = weights
        elif training.patience and best is not None:
            outcome.stop = number + best[1] >= training.patience

    def _look_back(self, number: int) -> None:
        """Takes the rounds before `number` into account that were not yet: what they came to is final."""
        for result in self._store.each_result(self._run, self._compared + 1):
            if result["round"] >= number:
                return
            said = result.get("federated", {}) if self._task.evaluation.on else result
            score = self._score(said)
            if score is not None:
                self._best = max(self._best or (score, -result["round"]), (score, -result["round"]))
            self._was_noisy |= result.get("federated", {}).get("steers") is False
            self._compared = result["round"]

    def _cannot_steer(self, said: Dict[str, Any]) -> str:
        metric = self._task.training.metric
        half = said.get("noise", {}).get(metric)
        moved = "drowns it" if half is None else f"moves it by {half:.2g}"
        return (
            f"best and patience do not go by {metric}: the noise of federated evaluation {moved} (95 %), more than "
            f"{STEERS_WITHIN:g}. The result is the last round's unless a later one shows better, and nothing stops early"
        )

    def _score(self, said: Dict[str, Any]) -> Optional[float]:
        """The task's metric, the higher the better; None where it was not measured, or is mostly noise."""
        metric, private = self._task.training.metric, self._task.privacy.on and self._task.evaluation.on
        if not steers(said, metric, private):
            return None
        return -float(said[metric]) if metric == "loss" else float(said[metric])
