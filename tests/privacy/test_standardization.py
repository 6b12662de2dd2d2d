from typing import List

import numpy as np
import pytest

from orchestrator.privacy.noisy_sum import statistics_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.standardization import (
    at_an_end,
    exact_mean_and_std,
    floor_warning,
    mean_and_std,
    moments,
    noise_of_std,
    on_floor,
    pooled,
    range_scaling,
    spread,
    spread_of_moments,
    standardize,
)
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

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


@pytest.mark.parametrize("high", [900.0, 1e6, 1e9])
def test_no_range_is_too_wide_for_exact_sums(high: float) -> None:
    """Values of 0.1 +- 0.014 on nodes with other means, in ranges of ten powers more."""
    schema = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("smoothness", 0, high), Feature("area", -high, high)))
    rng = np.random.default_rng(3)
    nodes = ((0.1, 40), (0.13, 9))
    parts = [np.column_stack([rng.normal(m, 0.014, n), rng.normal(600, 9, n)]).astype(np.float32) for m, n in nodes]
    total, records = pooled((len(part), spread(part, schema)) for part in parts)
    mean, std = exact_mean_and_std(total, records, schema)
    together = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, together.std(axis=0), rtol=1e-4)


def test_a_column_of_one_value_is_scaled_by_its_range() -> None:
    x = np.full((20, 4), [55, 1, 0, 100], np.float32)
    mean, std = exact_mean_and_std(*pooled([(20, spread(x, SCHEMA)), (0, np.zeros(4))]), SCHEMA)
    assert (mean[0], std[0], mean[3], std[3]) == (55, 50, 100, 60)


def test_sums_of_moments_still_count() -> None:
    part = rows(80, 0)
    sums = moments(part, SCHEMA, records(part)).sum(axis=0)
    np.testing.assert_allclose(spread_of_moments(sums, 80), spread(part, SCHEMA), rtol=1e-9)


def test_columns_whose_spread_noise_hides_are_named() -> None:
    x = rows(400, 0)
    wide = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("age", 0, 1e6), *SCHEMA.features[1:]))
    assert on_floor(mean_and_std(moments(x, wide, records(x)).sum(axis=0), 400, wide)[1], wide) == ["age"]
    assert on_floor(mean_and_std(moments(x, SCHEMA, records(x)).sum(axis=0), 400, SCHEMA)[1], SCHEMA) == []
    rare = np.array([0.98, 0.02]) @ [[-1, 1], [1, 1]]  # u and its square of a column of zeros and a few ones
    for u, square, noise, named in (
        (-1.0, 1.0, 0.0, True), (-0.35, 0.35, 0.0, True), (0.35, 0.36, 0.01, True), (-0.96, 0.93, 0.0, True),
        (-0.9, 0.83, 0.0, False), (*rare, 0.0, False), (-0.4, 0.28, 0.0, False), (0.0, 0.04, 0.0, False), (0.1, 0.1, 0.05, False),
    ):  # fmt: skip
        one = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("age", 0, 100),))
        mean, std = np.array([50 + 50 * u]), np.array([50 * np.sqrt(max(0, square - u * u))])
        assert (at_an_end(mean, std, one, noise) == ["age"]) == named, (u, square)
    assert noise_of_std(40.0, 400) > 0.4
    warning = floor_warning([f"{i}\n{'x' * 99}" for i in range(3000)])
    assert warning.isprintable()
    assert len(warning) < 500
    assert "and 2995 more" in warning


def test_range_scaling_releases_nothing_and_maps_ranges_to_plus_minus_one() -> None:
    mean, std = range_scaling(SCHEMA)
    ends = np.array([[0, 0, 1, 80], [100, 1, 0, 200]], np.float32)
    assert standardize(ends, mean, std)[:, [0, 3]].tolist() == [[-1, -1], [1, 1]]
