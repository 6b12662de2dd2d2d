from typing import List

import numpy as np

from orchestrator.privacy.noise import SecureRandom
from orchestrator.privacy.noisy_sum import statistics_sum
from orchestrator.privacy.standardization import mean_and_std, moments, range_scaling, standardize
from orchestrator.wire.task import Feature, Privacy, Schema, Task

SCHEMA = Schema(
    "table",
    "y",
    ("a", "b"),
    {"0": 0},
    (Feature("age", 0, 100), Feature("sex", categories=("m", "f")), Feature("bp", 80, 200)),
)


def records(x: np.ndarray) -> List[np.ndarray]:
    return [np.array([i]) for i in range(len(x))]


def rows(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sex = rng.integers(0, 2, count)
    return np.column_stack(
        [np.clip(rng.normal(55 + seed, 9, count), 0, 100), sex, 1 - sex, np.clip(rng.normal(130, 15, count), 80, 200)]
    ).astype(np.float32)


def test_sums_over_nodes_give_the_pooled_mean_and_std() -> None:
    parts = [rows(30, 0), rows(200, 20)]
    total = sum(moments(part, SCHEMA, records(part)).sum(axis=0) for part in parts)
    pooled = np.concatenate(parts)
    mean, std = mean_and_std(total, 230, SCHEMA)
    np.testing.assert_allclose(mean[[0, 3]], pooled[:, [0, 3]].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std[[0, 3]], pooled[:, [0, 3]].std(axis=0), rtol=1e-4)
    assert mean[[1, 2]].tolist() == [0.5, 0.5]
    assert std[[1, 2]].tolist() == [0.5, 0.5]
    scaled = standardize(pooled, mean, std)
    np.testing.assert_allclose(scaled[:, [0, 3]].std(axis=0), 1, rtol=1e-4)


def test_one_record_moves_the_sums_by_at_most_the_clip_and_noise_has_the_stated_size() -> None:
    extreme = np.array([[100, 0, 1, 200]], np.float32)
    clip = 0.7
    task = Task("t", SCHEMA, {}, privacy=Privacy(statistics_clip_norm=clip, statistics_noise_multiplier=2.0))
    mechanism = statistics_sum(task)
    unit_moments = moments(extreme, SCHEMA, records(extreme))
    released = np.array([mechanism.to_float(mechanism.release(unit_moments, SecureRandom())) for _ in range(3000)])
    assert np.linalg.norm(released.mean(axis=0)) < clip + 5 * 2 * clip * 2 / np.sqrt(3000)
    np.testing.assert_allclose(released.std(axis=0), 2.0 * clip, rtol=0.08)


def test_a_patient_contributes_the_mean_of_its_records() -> None:
    x = rows(6, 0)
    whose = [np.array([0, 1, 2, 3]), np.array([4]), np.array([5])]
    found, single = moments(x, SCHEMA, whose), moments(x, SCHEMA, records(x))
    np.testing.assert_allclose(found[0], single[:4].mean(axis=0))
    np.testing.assert_allclose(found[1:], single[4:])


def test_noise_can_never_leave_an_impossible_std() -> None:
    mean, std = mean_and_std(np.array([5.0, -9.0, -40.0, 0.3]), 3, SCHEMA)
    assert (std > 0).all()
    assert 0 <= mean[0] <= 100
    assert 80 <= mean[3] <= 200


def test_range_scaling_releases_nothing_and_maps_ranges_to_plus_minus_one() -> None:
    mean, std = range_scaling(SCHEMA)
    ends = np.array([[0, 0, 1, 80], [100, 1, 0, 200]], np.float32)
    assert standardize(ends, mean, std)[:, [0, 3]].tolist() == [[-1, -1], [1, 1]]
