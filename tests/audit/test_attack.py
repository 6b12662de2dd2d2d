"""The audit's promise: an honest build stays below its claim, and each build that is broken on purpose is caught.

Epsilon 1 at delta 1e-3 is 1.6 at 1e-5, where canaries say most. Bounds of 40 runs each there:
honest 0.12 +- 0.13 (11 deviations below), noise off 3.49 +- 0.16, wrong scale 2.99 +- 0.24, one clip per batch 3.19 +- 0.28.
What is measured directly is called wrong beyond six standard errors.
"""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest

from orchestrator.audit.broken import broken_build
from orchestrator.audit.measured import Measured, wrong
from orchestrator.audit.one_run import Bound, best_bound
from orchestrator.audit.run import Prepared
from orchestrator.audit.training import Playing
from orchestrator.data.dataset import Dataset
from orchestrator.errors import UsageError
from orchestrator.privacy.accounting import epsilon_spent
from orchestrator.privacy.lattice import draw
from orchestrator.privacy.noisy_sum import NoisySum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Evaluation, Selection, Task

CANARIES, DELTA, ALPHA = 400, 1e-5, 0.025
Datasets = Dict[str, Dataset]


def quiet(what: str, done: int, of: int) -> None:
    pass


def claimed(task: Task) -> float:
    """A thousandth coarse, which is faster and no less than what is spent."""
    return epsilon_spent(replace(task, privacy=replace(task.privacy, delta=DELTA)), discretization=1e-3)


def attack(
    task: Task, ready: Prepared, datasets: Datasets, broken: str = "", canaries: int = CANARIES
) -> Tuple[Bound, Dict[str, Any]]:
    playing, measured = Playing(task, ready.graph, ready.weights, datasets, quiet), Measured()
    with ExitStack() as stack:
        if broken:
            stack.enter_context(broken_build(broken, min(d.records for d in datasets.values())))
        scores, included = playing.train_with(canaries, measured)
    return best_bound(scores, included, DELTA, ALPHA), measured.report()


@pytest.fixture(scope="module")
def planned(task: Task) -> Tuple[Task, float]:
    """The task, and what it claims at DELTA."""
    return task, claimed(task)


@pytest.mark.parametrize("seed", range(5))
def test_an_honest_build_stays_below_its_claim(
    planned: Tuple[Task, float], ready: Prepared, datasets: Datasets, seed: int
) -> None:
    bound, measured = attack(planned[0], ready, datasets)
    assert bound.epsilon <= planned[1]
    assert wrong(measured) == []
    assert set(measured) == {"noise", "sensitivity", "sampling"}


@pytest.mark.parametrize(
    ("broken", "measure"), [("noise-off", "noise"), ("wrong-scale", "noise"), ("clip-per-batch", "sensitivity")]
)
def test_a_broken_build_is_caught_twice(
    planned: Tuple[Task, float], ready: Prepared, datasets: Datasets, broken: str, measure: str
) -> None:
    """By guesses alone, and by what is measured directly."""
    bound, measured = attack(planned[0], ready, datasets, broken)
    assert bound.epsilon > planned[1]
    assert wrong(measured) == [measure]


def test_a_tenth_too_little_noise_is_measured(
    planned: Tuple[Task, float], ready: Prepared, datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses would not show it."""

    def less(self: NoisySum, random: SecureRandom) -> np.ndarray:
        return draw(random, self.mechanism, self.lattice.size, round(0.9 * self.std))

    monkeypatch.setattr(NoisySum, "noise", less)
    bound, measured = attack(planned[0], ready, datasets)
    assert bound.epsilon <= planned[1]
    assert wrong(measured) == ["noise"]


def node_task(task: Task, **privacy: Any) -> Task:
    schema = replace(task.schema, standardization="range")
    return replace(task, schema=schema, privacy=replace(task.privacy, unit="node", **privacy))


def masked(task: Task) -> Task:
    return replace(task, aggregation=Aggregation("masked"), rounds=replace(task.rounds, nodes=3, quorum=3))


def with_patients(datasets: Datasets) -> Datasets:
    return {n: d._replace(patients=(np.arange(d.records) // 3).astype(np.int32)) for n, d in datasets.items()}


PIPELINES: Dict[str, Callable[[Task], Task]] = {
    "patient": lambda task: replace(
        task, schema=replace(task.schema, patient="who"), privacy=replace(task.privacy, unit="patient")
    ),
    "several steps, fedprox, skellam": lambda task: replace(
        task,
        training=replace(task.training, strategy="fedprox", local_steps=2, rounds=10),
        privacy=replace(task.privacy, mechanism="skellam"),
    ),
    "distributed": lambda task: replace(masked(task), privacy=replace(task.privacy, noise="distributed")),
    "node": node_task,
    "node, distributed": lambda task: node_task(masked(task), noise="distributed"),
    "node, sampled, noise at the gateway": lambda task: replace(
        node_task(task, noise="gateway"), selection=Selection(sampling_rate=0.3)
    ),
}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_unit_and_placement_of_noise_is_audited(
    task: Task, ready: Prepared, datasets: Datasets, pipeline: str
) -> None:
    stated = replace(task.privacy, noise_multiplier=6.0, statistics_noise_multiplier=15.0)
    changed = PIPELINES[pipeline](replace(task, privacy=stated))
    data = with_patients(datasets) if changed.privacy.unit == "patient" else datasets
    if changed.privacy.noise == "distributed":
        data = {**datasets, "node-3": datasets["node-1"]}
    honest, measured = attack(changed, ready, data)
    claim = claimed(changed)
    assert honest.epsilon <= claim
    assert wrong(measured) == []
    bound, measured = attack(changed, ready, data, "noise-off")
    assert bound.epsilon > min(claim, 3.0)
    assert wrong(measured) == ["noise"]


def test_what_cannot_be_played_is_refused(task: Task, ready: Prepared, datasets: Datasets) -> None:
    scaffold = replace(task, training=replace(task.training, strategy="scaffold"))
    with pytest.raises(UsageError, match="does not play scaffold"):
        Playing(scaffold, ready.graph, ready.weights, datasets, quiet)
    scored = replace(
        task, training=replace(task.training, strategy="fuala", tail_average=False), evaluation=Evaluation(0.2)
    )
    with pytest.raises(UsageError, match="does not play fuala"):
        Playing(scored, ready.graph, ready.weights, datasets, quiet)
    open_task = replace(task, privacy=replace(task.privacy, unit="none"))
    with pytest.raises(UsageError, match="claims no privacy"):
        Playing(open_task, ready.graph, ready.weights, datasets, quiet).train_with(100, Measured())
