"""Canaries: where they lie, and that what the attacker reads back is what the node really released."""

from dataclasses import replace
from typing import Dict

import numpy as np
import pytest

from orchestrator.audit.canaries import LOUDNESS, Canaries, CanaryTrainer
from orchestrator.audit.run import Prepared
from orchestrator.data.dataset import Dataset
from orchestrator.wire.task import Task


@pytest.mark.parametrize(("count", "parameters"), [(7, 100), (100, 7)])
def test_canaries_are_spread_evenly_and_anew_in_each_step(count: int, parameters: int) -> None:
    canaries = Canaries(count, parameters, 2.0)
    first = canaries.directions()
    crowd = np.bincount(first.places, minlength=parameters)
    assert crowd.max() - crowd.min() <= 1
    assert set(first.signs.tolist()) <= {-1.0, 1.0}
    steps = [canaries.directions() for _ in range(50)]
    assert any((step.places != first.places).any() for step in steps)
    vector = canaries.vector(first, 3)
    assert np.flatnonzero(vector).tolist() == [first.places[3]]
    assert vector[first.places[3]] == first.signs[3] * LOUDNESS * 2.0


def test_a_fair_coin_decides_who_is_in() -> None:
    canaries = Canaries(10_000, 10, 1.0)
    assert abs(int(canaries.included.sum()) - 5000) < 300  # six standard deviations
    assert (canaries.members == np.flatnonzero(canaries.included)).all()


def test_who_listens_hears_the_canary_that_is_in() -> None:
    canaries = Canaries(50, 100, 0.5)
    directions = canaries.directions()
    total = np.sum([canaries.vector(directions, int(i)) / LOUDNESS for i in canaries.members], axis=0)
    np.testing.assert_allclose(canaries.listen(np.asarray(total), directions), canaries.included.astype(float))


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
def test_sums_are_read_back_from_the_update(
    task: Task, ready: Prepared, datasets: Dict[str, Dataset], strategy: str
) -> None:
    """With next to no noise the three steps' sums must come out as the clipped gradients they were made of."""
    quiet = replace(task.privacy, noise_multiplier=1e-4, clip_norm=0.7)
    training = replace(task.training, strategy=strategy, local_steps=3)
    canaries = Canaries(40, ready.weights.size, 0.7)
    data = datasets["node-1"]
    trainer = CanaryTrainer(replace(task, privacy=quiet, training=training), ready.graph, data, "node-1", canaries)
    update = trainer.train(ready.weights, 1)
    sums = trainer.released(ready.weights, update, 1)
    assert len(sums) == len(trainer.steps) == 3
    for step, total in zip(trainer.steps, sums):
        np.testing.assert_allclose(total, step.everything, atol=0.01)
        guests = step.everything - step.real
        heard = step.directions.signs * guests[step.directions.places]
        assert sorted(set(step.sampled)) == sorted(step.sampled)
        assert (heard[step.sampled] > 0.69).all()  # each canary was clipped, and to no less than the norm
        assert set(step.sampled) <= set(canaries.members.tolist())
    assert trainer.units == data.records + len(canaries.members)
