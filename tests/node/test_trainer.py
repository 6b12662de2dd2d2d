"""The trainer against gradients computed by hand, with the runtime replaced by a logistic regression in numpy."""

from typing import Any, Iterator, List

import numpy as np
import pytest
from declared_trainings import D, privacy, task_of

import orchestrator.node.trainer as trainer_module
from orchestrator.data.dataset import Dataset
from orchestrator.node.trainer import GradientTrainer, record_counts
from orchestrator.privacy.noisy_sum import training_sum
from orchestrator.privacy.own_sum import step_sum
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Task
from orchestrator.wire.training import Training


class NumpyGraph:
    """Softmax regression, 2 classes, weights (D * 2 + 2,)."""

    batch_size = 16

    def __init__(self, graph: bytes) -> None:
        pass

    def gradients(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        logits = x @ weights[: 2 * D].reshape(D, 2) + weights[2 * D :]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        return np.concatenate([(x[:, :, None] * p[:, None, :]).reshape(len(x), -1), p], axis=1).astype(np.float32)

    def gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, counts: Any = None) -> np.ndarray:
        if counts is None:
            return self.gradients(weights, x, y).mean(axis=0)
        return (counts[:, None] * self.gradients(weights, x, y)).sum(axis=0) / max(1.0, counts.sum())

    def gradient_blocks(
        self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, rows: np.ndarray
    ) -> Iterator[np.ndarray]:
        yield from np.array_split(self.gradients(weights, x[rows], y[rows]), 3)


@pytest.fixture(autouse=True)
def numpy_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "TrainingGraph", NumpyGraph)


def data(count: int = 200) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(rng.standard_normal((count, D)).astype("f4") * 0.5, rng.integers(0, 2, count).astype("i4"))


def make(training: Training, privacy: Privacy, dataset: Dataset) -> GradientTrainer:
    trainer = GradientTrainer(task_of(training, privacy), b"", dataset, "node")
    trainer.expect(len(dataset.units(privacy.unit)) if privacy.on else dataset.records)
    return trainer


def test_fedsgd_without_privacy_is_one_full_gradient_step() -> None:
    records = data()
    trainer = make(Training("fedsgd", learning_rate=0.5), Privacy(unit="none"), records)
    weights = np.linspace(-1, 1, 2 * D + 2).astype(np.float32)
    expected = -0.5 * NumpyGraph(b"").gradients(weights, records.x, records.y).mean(axis=0)
    np.testing.assert_allclose(trainer.train(weights, 1), expected, rtol=1e-4, atol=1e-6)


def test_fedavg_without_privacy_walks_through_every_record_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    records = data(40)
    seen: List[float] = []

    class Recording(NumpyGraph):
        def gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, counts: Any = None) -> np.ndarray:
            seen.extend(x[:, 0].tolist())
            return super().gradient(weights, x, y, counts)

    monkeypatch.setattr(trainer_module, "TrainingGraph", Recording)
    trainer = make(Training(local_steps=3), Privacy(unit="none"), records)
    trainer.train(np.zeros(2 * D + 2, np.float32), 1)
    assert sorted(seen) == sorted(records.x[:, 0].tolist())
    trainer.train(np.zeros(2 * D + 2, np.float32), 2)
    assert sorted(seen[40:]) == sorted(records.x[:, 0].tolist())
    assert seen[40:] != seen[:40]


def test_private_noise_has_exactly_the_declared_size() -> None:
    """Std of the update over many draws = noise * clip / (rate * stated records), plus the sampling's own, known variance."""
    records = data(200)
    weights = np.zeros(2 * D + 2, np.float32)
    noisy = make(Training("fedsgd", learning_rate=1.0), privacy(noise_multiplier=40.0), records)
    for stated in (200, 80):
        noisy.expect(stated)
        draws = np.stack([noisy.train(weights, 1) for _ in range(300)])
        expected = 40.0 * 0.5 / (0.25 * stated)
        assert draws.std(axis=0).mean() == pytest.approx(expected, rel=0.08)


def test_the_grid_of_an_update_says_the_stated_count_and_nothing_of_the_true_one() -> None:
    """An update is a whole number of steps over the divisor: whatever that is can be read off one answer."""
    weights = np.zeros(2 * D + 2, np.float32)
    for records in (60, 77):
        training = Training("fedsgd", learning_rate=1.0)
        trainer = make(training, privacy(), data(records))
        trainer.expect(64)
        step = step_sum(task_of(training, privacy()), weights.size).lattice.step / (0.25 * 64)
        in_steps = trainer.train(weights, 1).astype(np.float64) / step
        np.testing.assert_allclose(in_steps, np.rint(in_steps), atol=0.05)  # an update is in float32


def test_a_trainer_nobody_gave_a_count_makes_a_noised_one_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def drawn(task: Task, units: int, random: Any) -> int:
        asked.append(units)
        return 64

    monkeypatch.setattr(trainer_module, "noised_count", drawn)
    training, settings = Training("fedsgd", learning_rate=1.0), privacy(noise_multiplier=1e-4, sampling_rate=1.0)
    made = make(training, settings, data(60))
    weights = np.full(2 * D + 2, 0.1, np.float32)
    told = made.train(weights, 1)
    alone = GradientTrainer(task_of(training, settings), b"", data(60), "node")
    for _ in range(2):
        np.testing.assert_allclose(alone.train(weights, 1) * 64, told * 60, atol=2e-3)
    assert asked == [60]


def test_private_mean_is_the_mean_of_clipped_record_gradients() -> None:
    records = data(400)
    weights = np.array([0.3] * 2 * D + [-1, 1], np.float32)  # sure of class 1: half of the records pull back together
    gradients = NumpyGraph(b"").gradients(weights, records.x, records.y).astype(np.float64)
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    clipped = gradients * np.minimum(1, 0.8 / norms)
    assert (norms > 0.8).any()
    assert (norms < 0.8).any()
    trainer = make(Training("fedsgd", learning_rate=1.0), privacy(noise_multiplier=1e-4, clip_norm=0.8), records)
    draws = np.stack([trainer.train(weights, 1) for _ in range(300)])
    np.testing.assert_allclose(draws.mean(axis=0), -clipped.mean(axis=0), atol=0.02)
    # Clipping the batch instead of its records would not pass: its mean gradient is short.
    batch_clipped = gradients.mean(axis=0) * min(1, 0.8 / np.linalg.norm(gradients.mean(axis=0)))
    assert np.abs(clipped.mean(axis=0) - batch_clipped).max() > 0.04


def test_one_record_moves_the_sum_by_at_most_the_clip() -> None:
    records = data(50)
    extreme = Dataset(
        np.concatenate([records.x, np.full((1, D), 1e6, np.float32)]), np.append(records.y, 1).astype("i4")
    )
    weights = np.full(2 * D + 2, 0.1, np.float32)
    settings = privacy(sampling_rate=1.0, noise_multiplier=1e-4)
    without = make(Training("fedsgd", learning_rate=1.0), settings, records).train(weights, 1) * 50
    with_it = make(Training("fedsgd", learning_rate=1.0), settings, extreme).train(weights, 1) * 51
    assert np.linalg.norm(with_it - without) <= 0.5 + 2e-3


def test_a_patient_counts_once_however_many_records_it_has() -> None:
    """Unit patient: the mean gradient of a patient's records is clipped, so a hundred of them move the sum by one clip norm."""
    few = data(40)
    patients = np.arange(40, dtype=np.int32)
    many = Dataset(
        np.concatenate([few.x, np.full((100, D), 50.0, np.float32)]),
        np.append(few.y, np.ones(100, np.int32)).astype("i4"),
        np.append(patients, np.full(100, 40, np.int32)),
    )
    weights = np.full(2 * D + 2, 0.1, np.float32)
    settings = privacy(unit="patient", sampling_rate=1.0, noise_multiplier=1e-4)
    without = make(Training("fedsgd", learning_rate=1.0), settings, few._replace(patients=patients)).train(weights, 1)
    with_it = make(Training("fedsgd", learning_rate=1.0), settings, many).train(weights, 1)
    moved = np.linalg.norm(41 * with_it - 40 * without)
    assert 0.4 < moved <= 0.5 + 2e-3
    as_records = make(Training("fedsgd", learning_rate=1.0), privacy(sampling_rate=1.0, noise_multiplier=1e-4), many)
    assert np.linalg.norm(140 * as_records.train(weights, 1) - 40 * without) > 10, (
        "records would have moved it 100 times"
    )


def test_shares_of_distributed_noise_add_up_to_the_declared_noise_and_the_sum_of_gradients() -> None:
    records = data(120)
    weights = np.zeros(2 * D + 2, np.float32)
    settings = privacy(noise="distributed", sampling_rate=1.0, noise_multiplier=2.0)
    nodes = [make(Training("fedsgd"), settings, records.take(part)) for part in np.split(np.arange(120), 3)]
    mechanism = training_sum(task_of(Training("fedsgd"), settings), weights.size)
    assert mechanism.parties == 3
    sums = np.stack([sum(node.gradient_sum(weights, 1 << 40) for node in nodes) for _ in range(300)])
    released = mechanism.to_float(sums)
    assert released.std(axis=0).mean() == pytest.approx(2.0 * 0.5, rel=0.05)
    assert nodes[0].gradient_sum(weights, 1).std() < 2.5 * mechanism.std, "cut to nothing, only the share is left"
    gradients = NumpyGraph(b"").gradients(weights, records.x, records.y).astype(np.float64)
    clipped = gradients * np.minimum(1, 0.5 / np.linalg.norm(gradients, axis=1, keepdims=True))
    np.testing.assert_allclose(released.mean(axis=0), clipped.sum(axis=0), atol=5 * 1.0 / np.sqrt(300) + 0.01)


def test_a_gradient_that_overflows_is_dropped_not_spread() -> None:
    records = Dataset(np.array([[np.float32(3e38)] * D, [1] * D], np.float32), np.array([0, 1], np.int32))
    settings = privacy(sampling_rate=1.0, noise_multiplier=1e-4)
    with np.errstate(all="ignore"):
        update = make(Training("fedsgd", learning_rate=1.0), settings, records).train(np.ones(2 * D + 2, np.float32), 1)
    assert np.isfinite(update).all()


def test_fedprox_pulls_towards_the_rounds_weights() -> None:
    records = data(64)
    weights = np.full(2 * D + 2, 0.5, np.float32)
    free = make(Training(local_steps=40, learning_rate=0.5), Privacy(unit="none"), records)
    held = make(
        Training(strategy="fedprox", local_steps=40, learning_rate=0.5, options={"mu": 1.5}),
        Privacy(unit="none"),
        records,
    )
    assert np.linalg.norm(held.train(weights, 1)) < 0.6 * np.linalg.norm(free.train(weights, 1))


def test_the_schedule_sets_the_rate_of_a_round() -> None:
    records = data()
    weights = np.linspace(-1, 1, 2 * D + 2).astype(np.float32)
    training = Training("fedsgd", rounds=4, learning_rate=0.5, schedule="step", decay=0.1, decay_every=2)
    trainer = make(training, Privacy(unit="none"), records)
    np.testing.assert_allclose(trainer.train(weights, 3), 0.1 * trainer.train(weights, 2), rtol=1e-3, atol=1e-6)


def test_a_correction_is_added_to_every_gradient() -> None:
    records = data(40)
    weights = np.full(2 * D + 2, 0.5, np.float32)
    correction = np.linspace(-1, 1, 2 * D + 2).astype(np.float32)
    trainer = make(Training("fedsgd", learning_rate=0.5), Privacy(unit="none"), records)
    moved = trainer.train(weights, 1, correction) - trainer.train(weights, 1)
    np.testing.assert_allclose(moved, -0.5 * correction, atol=1e-6)


def test_the_tally_is_how_many_of_the_samples_gradients_were_too_long() -> None:
    """Next to no noise, every record in every step: two steps count twice."""
    dataset, clip_norm = data(), 0.9
    privacy = Privacy(noise_multiplier=1e-4, clip_norm=clip_norm, sampling_rate=1.0, clip_tally=True)
    training = Training(local_steps=2, learning_rate=1e-9)
    trainer = make(training, privacy, dataset)
    weights = np.zeros(2 * D + 2, np.float32)
    lengths = np.linalg.norm(NumpyGraph(b"").gradients(weights, dataset.x, dataset.y), axis=1)
    assert 0 < (lengths > clip_norm).sum() < 200
    trainer.train(weights, 1)
    tally = trainer.take_tally()
    assert tally is not None
    beside = training_sum(task_of(training, privacy), weights.size).beside
    assert tally[0] / beside == pytest.approx(2 * (lengths > clip_norm).sum(), abs=0.1)
    assert trainer.take_tally() is None, "each round has its own"


def test_without_the_tally_nothing_is_counted() -> None:
    trainer = make(Training(), Privacy(noise_multiplier=1.0), data())
    trainer.train(np.zeros(2 * D + 2, np.float32), 1)
    assert trainer.take_tally() is None


def test_class_weights_without_privacy_weigh_each_record_by_its_class() -> None:
    records = data(50)
    weights = np.linspace(-1, 1, 2 * D + 2).astype(np.float32)
    gradients = NumpyGraph(b"").gradients(weights, records.x, records.y)
    present = np.bincount(records.y)
    for given, count in (((0.25, 3.0), np.array([0.25, 3.0])), ("balanced", 50 / (2 * present))):
        trainer = make(Training("fedsgd", learning_rate=0.5, class_weights=given), Privacy(unit="none"), records)
        expected = -0.5 * (count[records.y][:, None] * gradients).mean(axis=0)
        np.testing.assert_allclose(trainer.train(weights, 1), expected, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_after_their_class_weighed_them() -> None:
    """One record of the class that counts 1000 times moves the sum by the clip norm, and no further."""
    records = data(1)
    private = Privacy(noise_multiplier=1e-4, clip_norm=0.5, sampling_rate=1.0)
    weight = tuple(1000.0 if one == records.y[0] else 1.0 for one in range(2))
    lengths = []
    for given in ((), weight):
        trainer = make(Training("fedsgd", learning_rate=1.0, class_weights=given), private, records)
        lengths.append(float(np.linalg.norm(trainer.train(np.zeros(2 * D + 2, np.float32), 1))))
    assert lengths[1] == pytest.approx(0.5, rel=0.02)
    small = make(Training("fedsgd", learning_rate=1.0, class_weights=(0.01, 0.01)), private, records)
    assert np.linalg.norm(small.train(np.zeros(2 * D + 2, np.float32), 1)) < 0.1 * lengths[0]


def test_a_class_that_a_node_lacks_leaves_the_others_balanced() -> None:
    task = task_of(Training(class_weights="balanced"), Privacy(unit="none"))
    for labels, expected in (([1, 1, 1], [1.0] * 3), ([0, 1, 1, 1], [2.0, 2 / 3, 2 / 3, 2 / 3])):
        counts = record_counts(task, np.array(labels))
        assert counts is not None
        np.testing.assert_allclose(counts, expected)
