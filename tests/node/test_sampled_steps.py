"""A node's private steps from outside: gradients are chosen, so every release says who was sampled and by what it was divided."""

import math
from typing import Any

import numpy as np
import pytest

import orchestrator.node.trainer as trainer_module
from orchestrator.data.dataset import Dataset
from orchestrator.node.trainer import GradientTrainer
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

UNITS = 60


class OneEach:
    """In the place of a graph: the gradient of record i is half a clip norm in coordinate i."""

    size, length = UNITS, 0.5

    def __init__(self, graph: bytes) -> None:
        pass

    def gradient_blocks(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, rows: Any = None) -> Any:
        asked = x if rows is None else x[rows]
        yield (self.length * (np.arange(self.size) == asked[:, :1])).astype(np.float32)


class Silent(OneEach):
    length = 0.0


def node(graph: Any, records: int, unit: str = "record", steps: int = 1, **privacy: Any) -> GradientTrainer:
    settings = Privacy(**{"unit": unit, "clip_norm": 1.0, "sampling_rate": 0.25, "noise_multiplier": 1e-3, **privacy})
    schema = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("i", 0, 1),), patient="who")
    training = Training(rounds=1000, local_steps=steps, learning_rate=1.0)
    task = Task("t", schema, {}, training, settings, Rounds(1, 1))
    patients = (np.arange(records) // 2).astype(np.int32) if unit == "patient" else None
    data = Dataset(np.arange(records, dtype=np.float32)[:, None], np.zeros(records, np.int32), patients)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "TrainingGraph", graph)
        return GradientTrainer(task, b"", data, "node")


def released(trainer: GradientTrainer, rounds: int, units: float) -> np.ndarray:
    """float64 (rounds, UNITS): the sums, of which an update is the part 1 / (expected number of units)."""
    trainer.expect(int(units))
    start = np.zeros(UNITS, np.float32)
    return (
        np.stack([-trainer.train(start, number).astype(np.float64) for number in range(1, rounds + 1)]) * 0.25 * units
    )


def test_a_sampled_unit_counts_once_in_a_sum_over_the_expected_number() -> None:
    """The real number of units in a sample is private: divided by it, every release would tell."""
    counted = released(node(OneEach, UNITS), 200, UNITS) / 0.5
    nearest = np.rint(counted)
    assert set(nearest.ravel().tolist()) == {0.0, 1.0}
    assert np.abs(counted - nearest).max() < 0.03
    sizes = nearest.sum(axis=1)
    assert abs(np.square(sizes - 15).mean() / (UNITS * 0.25 * 0.75) - 1) < 7.5 * math.sqrt(2.1 / 200)


def test_each_step_has_a_sample_of_its_own() -> None:
    taken = released(node(OneEach, UNITS), 300, UNITS) / 0.5 > 0.5
    centred = (taken - 0.25) / math.sqrt(0.25 * 0.75)
    for later in (1, 2, 3):
        assert abs((centred[later:] * centred[:-later]).sum()) < 6 * math.sqrt(UNITS * (300 - later))
    often = np.rint(released(node(OneEach, UNITS, steps=2), 300, UNITS) / 0.5)
    twice = int((often == 2).sum())
    assert abs(twice - 300 * UNITS / 16) < 6 * math.sqrt(300 * UNITS / 16), "also in the steps of one round"


def test_a_patient_is_sampled_as_one() -> None:
    counted = released(node(OneEach, UNITS, "patient"), 200, UNITS / 2) / 0.25
    pairs = np.rint(counted).reshape(200, UNITS // 2, 2)
    np.testing.assert_array_equal(pairs[:, :, 0], pairs[:, :, 1])
    assert set(pairs.ravel().tolist()) == {0.0, 1.0}
    assert abs(pairs[:, :, 0].sum() / (200 * UNITS / 2) - 0.25) < 6 * math.sqrt(0.25 * 0.75 / (100 * UNITS))


@pytest.mark.parametrize("records", [1, 2, 40])
def test_all_samples_are_noised_alike_the_empty_one_too(records: int) -> None:
    """Gradients of 0: a release is noise alone, and its size must not tell how many were sampled."""
    noise = released(node(Silent, records, noise_multiplier=2.0), 120, records)
    lengths = np.linalg.norm(noise, axis=1) / math.sqrt(UNITS) / 2.0
    assert lengths.min() > 1 - 6.5 / math.sqrt(2 * UNITS)
    assert lengths.max() < 1.02 + 6.5 / math.sqrt(2 * UNITS)
    cosines = noise @ noise.T / np.outer(np.linalg.norm(noise, axis=1), np.linalg.norm(noise, axis=1))
    np.fill_diagonal(cosines, 0)
    assert np.abs(cosines).max() < 7 / math.sqrt(UNITS), "and the same noise never comes again"
