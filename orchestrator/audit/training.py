"""The rounds of a task played in this process: the nodes' own code from data to update, and strategies as the gateway has them.

Only what lies between them is left out: MQTT, codecs and, where sums are secure, the masks, which are looked at by themselves
(masks.py). What is audited is thus at least what the other side gets to see.
"""

import tempfile
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.audit.canaries import Canaries, CanaryTrainer, clipped_to
from orchestrator.audit.measured import Measured
from orchestrator.data.dataset import Dataset
from orchestrator.errors import UsageError
from orchestrator.node.contribution import Contributor
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.node.trainer import GradientTrainer, Trainer
from orchestrator.privacy.noisy_sum import statistics_sum, training_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.standardization import exact_mean_and_std, mean_and_std, pooled, range_scaling
from orchestrator.privacy.vector_layout import UPDATE, Layout, bits_for, parts_of
from orchestrator.rounds.declared import declared
from orchestrator.rounds.stages import STATISTICS
from orchestrator.rounds.strategies import make_strategy
from orchestrator.rounds.strategy import Update, move_by_mean
from orchestrator.wire.task import Evaluation, Task

Progress = Callable[[str, int, int], None]
"""(what is being done, steps done, of)"""


class Model(NamedTuple):
    """weights: float32 (P,), of the model the task would give. mean, std: float32 of the input shape."""

    weights: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def check_playable(task: Task) -> None:
    """UsageError for a task whose rounds cannot be played here, with the reason."""
    privacy, training = task.privacy, task.training
    if not task.trains:
        raise UsageError("the audit plays training, and this task has an analysis")
    if task.schema.target:
        raise UsageError(
            f"the audit's attacks are of classes, and this task has target {task.schema.learned.kind!r}; clipping and noise are "
            "the same: audit the task with the number in bands, as classes"
        )
    if not declared(training.strategy).audited or training.personal != "none":
        what = "personal parts" if training.personal != "none" else training.strategy
        raise UsageError(
            f"the audit does not play {what}; noise and clipping are the same without: audit the task with strategy 'fedavg' "
            "and personal 'none'"
        )
    if privacy.on and (privacy.clip_quantile or privacy.bands > 1):
        raise UsageError("the audit plays neither clip_quantile nor bands: leave them out of the audited task")


class Playing:
    """Nodes of one task, with their data, for one training after another."""

    def __init__(
        self, task: Task, graph: bytes, weights: np.ndarray, datasets: Dict[str, Dataset], progress: Progress
    ) -> None:
        """`datasets`: raw, by node. `weights`: float32 (P,), those of the beginning."""
        check_playable(task)
        self.task = replace(task, evaluation=Evaluation())
        self._graph, self._weights, self._datasets, self._progress = graph, weights, datasets, progress

    @property
    def parameters(self) -> int:
        return int(self._weights.size)

    def train(self) -> Model:
        """One training as it is, without canaries."""
        return self._play(None, "training")

    def train_with(self, canaries: int, measured: Measured) -> Tuple[np.ndarray, np.ndarray]:
        """(scores, included), float and bool (canaries,), of one training with canaries."""
        return self._attack(canaries, measured).result()

    def _attack(self, count: int, measured: Measured) -> "_Attack":
        if not self.task.privacy.on:
            raise UsageError(
                "the task claims no privacy (unit 'none'): there is no claim to hold against a measurement"
            )
        kind = _NodeAttack if self.task.privacy.of_nodes else _UnitAttack
        attack = kind(self.task, self.parameters, list(self._datasets), count, measured)
        self._play(attack, "training with canaries")
        return attack

    def _play(self, attack: "Optional[_Attack]", what: str) -> Model:
        task, training = self.task, self.task.training
        strategy = make_strategy(training.strategy, training.server_learning_rate, training.options)
        with tempfile.TemporaryDirectory(prefix="edgeward-audit-") as folder, ExitStack() as stack:
            nodes = {}
            for name, dataset in self._datasets.items():
                store = NodeStore(Path(folder) / f"{name}.sqlite")
                stack.callback(store.close)
                run = Run("audit", "", task, self._graph, dataset, dataset.take(np.empty(0, np.int64)))
                make = attack.trainer if attack is not None else GradientTrainer
                nodes[name] = _Node(run, Contributor(run, store, name, make))
            mean, std = self._standardization(nodes)
            for name, node in nodes.items():
                node.run.units += attack.guests(name) if attack is not None else 0
            current, tail = self._weights.astype(np.float32), []
            state: Dict[str, np.ndarray] = {}
            for number in range(1, training.rounds + 1):
                self._progress(what, number - 1, training.rounds)
                updates = _updates(task, nodes, number, {"weights": current, "mean": mean, "std": std}, attack)
                if isinstance(updates, np.ndarray):
                    current, state = move_by_mean(strategy, current, updates, state)
                else:
                    current, state = strategy.aggregate(current, updates, state)
                if number > training.rounds // 2:
                    tail.append(current)
            self._progress(what, training.rounds, training.rounds)
        return Model(np.mean(tail, axis=0).astype(np.float32) if training.tail_average else current, mean, std)

    def _standardization(self, nodes: "Dict[str, _Node]") -> Tuple[np.ndarray, np.ndarray]:
        task = self.task
        if not task.standardizes:
            if task.schema.kind == "signal":
                return np.zeros(task.schema.input_shape, np.float32), np.ones(task.schema.input_shape, np.float32)
            return range_scaling(task.schema)
        if not task.privacy.on:
            answers = [
                (node.run.units, node.contributor.contribute(0, {}, {}).parts[STATISTICS]) for node in nodes.values()
            ]
            return exact_mean_and_std(*pooled(answers), task.schema)
        sums = [node.contributor.contribute(0, {}, {}).parts[STATISTICS] for node in nodes.values()]
        total = np.sum(sums, axis=0)
        units = sum(node.run.units for node in nodes.values())
        return mean_and_std(statistics_sum(task).to_float(total), float(units), task.schema)


class _Node(NamedTuple):
    run: Run
    contributor: Contributor


def _updates(
    task: Task, nodes: Dict[str, _Node], number: int, tensors: Dict[str, np.ndarray], attack: "Optional[_Attack]"
) -> Any:
    """One round: the nodes' updates, or what their noised sum comes to, float64 (P,), where only that can be seen."""
    weights, privacy = tensors["weights"], task.privacy
    summed = privacy.distributed or privacy.of_nodes
    layout = _layout(task, nodes, number, weights.size) if privacy.distributed else None
    parts: Dict[str, np.ndarray] = {}
    for name, node in nodes.items():
        parts[name] = node.contributor.contribute(number, {}, tensors, layout).parts[UPDATE]
        if isinstance(attack, _UnitAttack) and not summed:
            attack.saw(number, weights, name, parts[name])
    if not summed:
        return [
            Update(name, float(nodes[name].run.dataset.records), part, 0, task.training.travel_at(number))
            for name, part in parts.items()
        ]
    mechanism = training_sum(task, weights.size)
    step = mechanism.lattice.step if privacy.distributed else 1.0  # those answers are whole numbers of steps
    answers = {name: part.astype(np.float64) * step for name, part in parts.items()}
    total = np.sum(list(answers.values()), axis=0)
    if privacy.of_nodes:
        if privacy.central:
            total = total + mechanism.to_float(mechanism.noise(SecureRandom()))
        return (attack.saw_answers(answers, total) if isinstance(attack, _NodeAttack) else total) / len(nodes)
    if isinstance(attack, _UnitAttack):
        attack.saw_sum(total)
    return (
        -task.training.learning_rate_at(number)
        * total
        / (privacy.sampling_rate * sum(node.run.units for node in nodes.values()))
    )


def _layout(task: Task, nodes: Dict[str, _Node], number: int, parameters: int) -> Layout:
    parts = parts_of(task, number, parameters)
    records = sum(node.run.dataset.records for node in nodes.values())
    units = sum(node.run.units for node in nodes.values())
    return Layout(parts, bits_for(parts, units, len(nodes), task.aggregation.bits), len(nodes), units, records)


class _Attack(ABC):
    """Canaries in one training, and what an attacker makes of what it sees."""

    def __init__(self, task: Task, parameters: int, names: List[str], count: int, measured: Measured) -> None:
        self._task, self._measured = task, measured
        self._mechanism = training_sum(task, parameters)
        step = self._mechanism.lattice.step
        self._std = self._mechanism.std * np.sqrt(self._mechanism.parties) * step  # of a sum with all of its noise

    def guests(self, name: str) -> int:
        """Canaries that are in among a node's units."""
        return 0

    @abstractmethod
    def trainer(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> Trainer:
        """The node's, with its canaries."""

    @abstractmethod
    def result(self) -> Tuple[np.ndarray, np.ndarray]:
        """(scores, whether it was in), both (canaries,)."""


class _UnitAttack(_Attack):
    """Records or patients: canaries among the units of every node, or of one where only the nodes' sum is seen."""

    def __init__(self, task: Task, parameters: int, names: List[str], count: int, measured: Measured) -> None:
        super().__init__(task, parameters, names, count, measured)
        hosts = names[:1] if task.privacy.distributed else names
        clip_norm = task.privacy.clip_norm
        share, more = divmod(count, len(hosts))
        self._canaries = {
            name: Canaries(share + (i < more) if name in hosts else 0, parameters, clip_norm)
            for i, name in enumerate(names)
        }
        self._trainers: Dict[str, CanaryTrainer] = {}

    def guests(self, name: str) -> int:
        return len(self._canaries[name].members)

    def trainer(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> Trainer:
        self._trainers[node] = CanaryTrainer(task, graph, dataset, node, self._canaries[node])
        return self._trainers[node]

    def saw(self, number: int, weights: np.ndarray, name: str, update: np.ndarray) -> None:
        """One node's update."""
        trainer = self._trainers[name]
        for step, total in zip(trainer.steps, trainer.released(weights, update, number)):
            self._listen(name, step, total - step.real, total - step.everything)
        trainer.steps.clear()

    def saw_sum(self, total: np.ndarray) -> None:
        """The nodes' sum of one step, float64 (P,)."""
        steps = {name: trainer.steps[-1] for name, trainer in self._trainers.items()}
        real, everything = (
            np.sum([getattr(step, what) for step in steps.values()], axis=0) for what in ("real", "everything")
        )
        for name, step in steps.items():
            if self._canaries[name].count:
                self._listen(name, step, total - real, total - everything)
            self._trainers[name].steps.clear()

    def _listen(self, name: str, step: Any, unknown: np.ndarray, residual: np.ndarray) -> None:
        canaries, rate = self._canaries[name], self._task.privacy.sampling_rate
        heard = canaries.listen(unknown, step.directions)
        self._measured.noise(residual, self._std)
        self._measured.shift(heard[step.sampled])
        self._measured.sampling(len(step.sampled), len(canaries.members), rate)

    def result(self) -> Tuple[np.ndarray, np.ndarray]:
        parts = self._canaries.values()
        return np.concatenate([c.scores for c in parts]), np.concatenate([c.included for c in parts])


class _RecordingTrainer(GradientTrainer):
    """Keeps the last update, which the attacker knows of every real node."""

    last: np.ndarray

    def train(self, weights: np.ndarray, round_number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        self.last = super().train(weights, round_number, correction)
        return self.last


class _NodeAttack(_Attack):
    """Whole nodes: canaries are further nodes, whose updates are clipped and rounded as all are.

    They add no noise of their own, as nodes that collude would not. So what hides them is the noise the claim rests on: that of
    one node (noise "node"), of the honest ones together ("distributed"), or the gateway's.
    """

    def __init__(self, task: Task, parameters: int, names: List[str], count: int, measured: Measured) -> None:
        super().__init__(task, parameters, names, count, measured)
        self._canaries = Canaries(count, parameters, task.privacy.clip_norm)
        self._random, self._rounding = SecureRandom(), np.random.default_rng()
        self._trainers: Dict[str, _RecordingTrainer] = {}

    def trainer(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> Trainer:
        self._trainers[node] = _RecordingTrainer(task, graph, dataset, node)
        return self._trainers[node]

    def saw_answers(self, answers: Dict[str, np.ndarray], total: np.ndarray) -> np.ndarray:
        """float64 (P,): the noised total with the canaries in it. answers: of the real nodes, float (P,), in units of weights."""
        canaries, mechanism, privacy = self._canaries, self._mechanism, self._task.privacy
        directions, drawn = canaries.directions(), canaries.members
        rate = self._task.selection.sampling_rate if privacy.central else 0.0
        if rate:
            drawn = drawn[self._random.poisson_sample(len(drawn), rate)]
            self._measured.sampling(len(drawn), len(canaries.members), rate)
        vectors = (canaries.vector(directions, int(canary)) for canary in drawn)
        added = mechanism.to_float(mechanism.total(vectors, self._rounding))
        carriers = list(answers)[:1] if privacy.local else list(answers)
        known = np.sum([clipped_to(self._trainers[n].last, privacy.clip_norm) for n in carriers], axis=0)
        noise = (answers[carriers[0]] if privacy.local else total) - known
        heard = canaries.listen(noise + added, directions)
        self._measured.noise(noise, self._std)
        self._measured.shift(heard[drawn])
        return total + added

    def result(self) -> Tuple[np.ndarray, np.ndarray]:
        return self._canaries.scores, self._canaries.included
