"""The noise of every private sum is what the task declares, and no unit moves a sum by more than it is made for."""

import math
from typing import Any, List

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.errors import PrivacyError
from orchestrator.node import evaluation
from orchestrator.node.evaluation import evaluate
from orchestrator.privacy import noisy_sum
from orchestrator.privacy.lattice import Draws, party_variance
from orchestrator.privacy.noisy_sum import (
    NoisyCounts,
    NoisySum,
    evaluation_counts,
    parties_of,
    statistics_sum,
    training_sum,
)
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.standardization import moments
from orchestrator.wire.evaluation import SENSITIVITY
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

SIZE = 20


def make_task(honest: int = 3, colluding: int = 0, **privacy: Any) -> Task:
    declared = {"noise_multiplier": 1.5, "statistics_noise_multiplier": 2.0, "statistics_clip_norm": 0.7}
    settings = Privacy(**{**declared, "evaluation_noise_multiplier": 3.0, "clip_norm": 0.5, **privacy})
    unit_range = "range" if settings.unit == "node" else "federated"
    features = (Feature("a", -4, 4), Feature("b", -4, 4))
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, features, standardization=unit_range, patient="id")
    method = "masked" if settings.noise == "distributed" else "plain"
    aggregation = Aggregation(method, honest, colluding)
    least = max(3, aggregation.least)
    evaluated = Evaluation(0.0 if settings.unit == "node" else 0.2)
    return Task(
        "t", schema, {}, Training(), settings, Rounds(least, least), evaluation=evaluated, aggregation=aggregation
    )


def sums_of(task: Task) -> List[Any]:
    return [training_sum(task, SIZE), statistics_sum(task), evaluation_counts(task)]


def test_how_many_parties_share_the_noise() -> None:
    """Of those that follow the protocol: what colluding nodes add, they can take off again."""
    assert parties_of(make_task()) == 1
    assert parties_of(make_task(noise="distributed")) == 3
    assert parties_of(make_task(honest=7, colluding=2, noise="distributed")) == 7
    assert parties_of(make_task(unit="node", noise="gateway")) == 1
    assert parties_of(make_task(unit="node", noise="distributed", honest=5)) == 5


@pytest.mark.parametrize("mechanism", ["discrete-gaussian", "skellam"])
@pytest.mark.parametrize("honest", [3, 5, 40])
def test_the_honest_parties_together_add_the_declared_noise_and_little_more(honest: int, mechanism: str) -> None:
    task = make_task(honest, 2, noise="distributed", mechanism=mechanism)
    for released, multiplier in zip(sums_of(task), (1.5, 2.0, 3.0)):
        assert released.parties == honest
        assert released.noise_multiplier == multiplier
        assert released.mechanism == mechanism
        sensitivity = released.lattice.bound if isinstance(released, NoisySum) else SENSITIVITY * released.scale
        together = math.sqrt(honest * party_variance(mechanism, released.std))
        assert multiplier * sensitivity <= together <= 1.002 * multiplier * sensitivity
        fewer = math.sqrt((honest - 1) * party_variance(mechanism, released.std))
        assert fewer < multiplier * sensitivity, "with one honest party less the claim would be broken"


@pytest.mark.parametrize("mechanism", ["discrete-gaussian", "skellam"])
def test_the_noise_drawn_is_the_noise_declared(mechanism: str) -> None:
    """40,000 draws: their variance is known to 0.7 %, and this allows 5 %: 7 standard errors."""
    task = make_task(3, noise="distributed", mechanism=mechanism)
    random = SecureRandom()
    for released in (training_sum(task, 2000), evaluation_counts(task)):
        draws = np.concatenate([released.noise(random) for _ in range(-(-40_000 // released.noise(random).size))])
        assert draws.dtype == np.int64
        assert draws.var() == pytest.approx(party_variance(mechanism, released.std), rel=0.05)
        assert abs(draws.mean()) < 7 * released.std / math.sqrt(draws.size)
        assert (draws % 2).any(), "every step occurs, not only every second one"


def test_one_vector_moves_a_sum_by_no_more_than_it_is_made_for() -> None:
    mechanism = training_sum(make_task(), SIZE)
    rng = np.random.default_rng(1)
    for scale in (0.01, 0.5, 1e6):
        for _ in range(50):
            vector = rng.normal(size=SIZE) * scale
            moved = mechanism.total([vector], rng)
            assert np.linalg.norm(moved.astype(float)) <= mechanism.lattice.bound * (1 + 1e-12)


def test_a_sum_is_of_its_clipped_vectors_also_when_they_are_many() -> None:
    mechanism = training_sum(make_task(noise_multiplier=50.0), SIZE)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(3000, SIZE)) * 0.2
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    clipped = vectors * np.minimum(1, 0.5 / norms)
    assert 0.2 < (norms > 0.5).mean() < 1
    total = mechanism.to_float(mechanism.total(iter(vectors), rng))
    step = mechanism.lattice.step
    np.testing.assert_allclose(total, clipped.sum(axis=0), atol=8 * step * math.sqrt(3000 / 4))
    assert not mechanism.total([], rng).any()


def test_the_limit_is_applied_before_the_noise() -> None:
    """After it, the noise would be cut as well, and a sum near the limit would show more than it may."""
    mechanism = training_sum(make_task(), SIZE)
    vectors = np.full((100, SIZE), 1.0)
    whole = mechanism.total(vectors, np.random.default_rng(0))
    limit = int(whole.min() // 10)
    released = np.concatenate([mechanism.release(vectors, SecureRandom(), limit) for _ in range(50)])
    assert (np.abs(released) > limit).mean() > 0.3
    assert abs(released.mean() - limit) < 7 * mechanism.std / math.sqrt(released.size)


def test_a_task_without_noise_has_no_private_sum() -> None:
    with pytest.raises(Exception, match="noise multiplier 0"):
        training_sum(make_task(noise_multiplier=0.0), SIZE)


# Counts


@pytest.mark.parametrize("multiplier", [0.05, 0.7, 3.0, 4000.0])
@pytest.mark.parametrize("parties", [1, 3, 50])
def test_counts_are_in_steps_so_fine_that_each_partys_noise_is_smooth(multiplier: float, parties: int) -> None:
    counts = NoisyCounts(41, multiplier, parties, "discrete-gaussian")
    assert counts.std >= 1024
    assert counts.scale & (counts.scale - 1) == 0
    assert counts.scale == 1 or counts.std < 2 * 1024 + 2, "and no finer than needed"
    np.testing.assert_array_equal(counts.to_float(np.array([counts.scale, -3 * counts.scale])), [1, -3])


class TwoLogits:
    """Logits that depend on the first input alone."""

    @staticmethod
    def logits(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, 0], -x[:, 0]], axis=1)

    record_logits = logits


def noiseless(task: Task, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, limit: Any = None) -> np.ndarray:
    """The sums in steps as they are before the noise."""
    monkeypatch.setattr(NoisyCounts, "noise", lambda self, random: np.zeros(self.size, np.int64))
    return evaluate(task, TwoLogits(), dataset, np.zeros(1), limit)  # type: ignore[arg-type]


def records(count: int, seed: int = 0, patients: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(count, 2)) * 8).astype(np.float32)  # some very wrong: their loss is cut at the bound
    owners = rng.integers(0, patients, count).astype(np.int32) if patients else None
    return Dataset(x, rng.integers(0, 2, count).astype(np.int32), owners)


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_one_unit_moves_the_counts_by_at_most_the_square_root_of_two(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(unit=unit)
    scale = evaluation_counts(task).scale
    whole = records(60, patients=12)
    sums = noiseless(task, whole, monkeypatch)
    assert sums.dtype == np.int64
    farthest = 0.0
    for rows in whole.units(unit):
        keep = np.ones(whole.records, bool)
        keep[rows] = False
        moved = np.linalg.norm((sums - noiseless(task, whole.take(keep), monkeypatch)).astype(float))
        farthest = max(farthest, float(moved))
        assert moved <= SENSITIVITY * scale
    if unit == "record":
        assert farthest > 0.99 * SENSITIVITY * scale, "one that is very wrong comes this far"


def test_a_patient_counts_as_the_mean_of_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(unit="patient")
    scale = evaluation_counts(task).scale
    one = records(1, 3)
    same = Dataset(np.repeat(one.x, 7, 0), np.repeat(one.y, 7), np.zeros(7, np.int32))
    alone = Dataset(one.x, one.y, np.zeros(1, np.int32))
    np.testing.assert_allclose(noiseless(task, same, monkeypatch), noiseless(task, alone, monkeypatch), atol=1, rtol=0)
    two = Dataset(np.array([[9, 0], [-9, 0]], "f4"), np.array([0, 0], np.int32), np.zeros(2, np.int32))
    sums = noiseless(task, two, monkeypatch)
    assert sorted(sums[:-1][sums[:-1] > 0]) == [scale // 2, scale // 2]


def test_counts_are_cut_to_the_limit_before_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    whole = noiseless(task, records(60), monkeypatch)
    limit = int(whole.max()) // 3
    np.testing.assert_array_equal(noiseless(task, records(60), monkeypatch, limit), np.minimum(whole, limit))


def test_evaluation_is_noised(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    drawn = []

    def counted() -> SecureRandom:
        drawn.append(1)
        return SecureRandom()

    monkeypatch.setattr(evaluation, "SecureRandom", counted)
    one, other = (evaluate(task, TwoLogits(), records(60), np.zeros(1)) for _ in range(2))  # type: ignore[arg-type]
    assert len(drawn) == 2
    spread = (one - other).std() / math.sqrt(2)
    assert spread == pytest.approx(evaluation_counts(task).std, rel=0.6)
    assert (one != other).mean() > 0.9


# Statistics


def test_one_unit_moves_the_statistics_by_no_more_than_the_clip() -> None:
    task = make_task(unit="patient")
    mechanism, whole = statistics_sum(task), records(80, 5, patients=9)
    assert mechanism.lattice.clip_norm == 0.7
    assert mechanism.lattice.size == 4
    for vector in moments(whole.x, task.schema, whole.units("patient")):
        moved = mechanism.total([vector], np.random.default_rng(0))
        assert np.linalg.norm(moved.astype(float)) <= mechanism.lattice.bound * (1 + 1e-12)


def test_a_patients_statistics_are_the_mean_of_its_records() -> None:
    task = make_task(unit="patient")
    whole = records(30, 6, patients=4)
    units = whole.units("patient")
    assert sorted(np.concatenate(units).tolist()) == list(range(30))
    single = moments(whole.x, task.schema, whole.units("record"))
    expected = np.stack([single[rows].mean(axis=0) for rows in units])
    np.testing.assert_allclose(moments(whole.x, task.schema, units), expected)


@pytest.mark.parametrize("multiplier", [5e-324, 1e-300, 1e-17, 1e-6])
def test_counts_with_next_to_no_noise_are_refused_and_end_no_process(multiplier: float) -> None:
    with pytest.raises(PrivacyError, match="no grid for counts"):
        NoisyCounts(9, multiplier, 1, "discrete-gaussian").total([np.zeros(9)])


# Blocks


@pytest.mark.parametrize("part", [1, 700, 1 << 16])
def test_a_sum_is_the_same_however_many_vectors_come_or_are_worked_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """With many that are rounded again: their draws must not move those of the vectors behind them."""
    mechanism = training_sum(make_task(noise_multiplier=50.0), SIZE)
    vectors = np.random.default_rng(3).normal(size=(500, SIZE))  # all are clipped, so one in ten is rounded again

    def total(pieces: Any) -> np.ndarray:
        return mechanism.total(pieces, np.random.default_rng(7))

    whole = total([vectors])
    monkeypatch.setattr(noisy_sum, "PART", part)
    np.testing.assert_array_equal(total(vectors), whole)
    np.testing.assert_array_equal(total(np.array_split(vectors, 7)), whole)
    np.testing.assert_array_equal(total([vectors[0], vectors[1:400], *vectors[400:]]), whole)
    assert not np.array_equal(total([vectors[:-1]]), whole)


def test_some_vectors_are_rounded_again_by_numbers_of_their_own() -> None:
    draws = Draws(np.random.default_rng(1))
    first, uniform = draws.first(3, SIZE)
    assert (first, draws.first(2, SIZE)[0]) == (0, 3)
    rows = np.arange(4000)
    again = draws.again(rows, 1, SIZE)
    assert again.min() >= 0
    assert again.max() < 1
    np.testing.assert_array_equal(draws.again(rows[7:9], 1, SIZE), again[7:9])
    assert len(np.unique(np.concatenate([again, draws.again(rows, 2, SIZE)]))) == 2 * again.size
    assert abs(again.mean() - 0.5) < 6 / math.sqrt(12 * again.size)
    assert abs(np.corrcoef(again[1:].ravel(), again[:-1].ravel())[0, 1]) < 6 / math.sqrt(again.size)
    assert not np.array_equal(Draws(np.random.default_rng(2)).first(1, SIZE)[1], uniform[:1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_a_vector_that_is_not_finite_leaves_the_others_of_its_block_as_they_are(value: float) -> None:
    mechanism = training_sum(make_task(noise_multiplier=50.0), SIZE)
    vectors = np.random.default_rng(4).normal(size=(40, SIZE))
    without = vectors.copy()
    vectors[13, 3] = value
    without[13] = 0.0
    with np.errstate(all="ignore"):
        found = mechanism.total([vectors], np.random.default_rng(5))
    np.testing.assert_array_equal(found, mechanism.total([without], np.random.default_rng(5)))


def test_noise_drawn_ahead_is_handed_out_once() -> None:
    random = SecureRandom()
    drawn = [random.drawn_ahead("law", 10, random.words) for _ in range(2000)]
    assert len(np.unique(np.concatenate(drawn))) == 20_000
    assert random.drawn_ahead("law", 30_000, random.words).shape == (30_000,)
    mechanism = training_sum(make_task(), SIZE)
    noise = np.stack([mechanism.noise(random) for _ in range(300)]).astype(float) / mechanism.std
    cosines = noise @ noise.T / SIZE
    np.fill_diagonal(cosines, 0)
    assert np.abs(cosines).max() < 7 / math.sqrt(SIZE)
