"""Correlated noise: its sensitivity and error against published software, its exactness by undoing it."""

import itertools
import math

import numpy as np
import pytest

from orchestrator.privacy.correlated import (
    FRACTION_BITS,
    CorrelatedNoise,
    coefficients,
    expected_error,
    most_participations,
    sensitivity,
    summed_deviation,
)

ONE = 1 << FRACTION_BITS


def strategy(bands: int, rounds: int) -> np.ndarray:
    """C, float64 (rounds, rounds)."""
    c = coefficients(bands)
    return np.asarray(sum(np.diag(np.full(rounds - j, c[j]), -j) for j in range(min(bands, rounds))))


def test_coefficients_are_the_square_root_of_the_prefix_sum_on_a_grid() -> None:
    c = coefficients(40)
    exact = [math.comb(2 * j, j) / 4**j for j in range(40)]
    np.testing.assert_allclose(c, exact, atol=0.5 / ONE)
    np.testing.assert_array_equal(c * ONE, np.rint(c * ONE))
    assert c[0] == 1
    assert (np.diff(c) <= 0).all()
    assert (coefficients(3000) > 0).all()


# (rounds, bands, participations): toeplitz.minsep_sensitivity_squared^(1/2) and, times it, the root of the mean of
# toeplitz.per_query_error, for our coefficients; and that product for its own optimized ones. jax-privacy 2.0.0, float64.
PUBLISHED = [
    (30, 4, 8, 3.415841, 6.826285, 6.713028),
    (30, 10, 3, 2.318161, 3.542494, 3.538100),
    (30, 30, 1, 1.465141, 1.991984, 1.942978),
    (64, 8, 8, 3.708840, 7.690228, 7.534859),
    (100, 16, 7, 3.626103, 7.038626, 6.882945),
    (50, 10, 2, 1.892771, 3.355178, 3.328406),
]


@pytest.mark.parametrize(("rounds", "bands", "times", "moved", "error", "optimal"), PUBLISHED)
def test_sensitivity_and_error_equal_published_software(
    rounds: int, bands: int, times: int, moved: float, error: float, optimal: float
) -> None:
    assert sensitivity(bands, rounds, times, bands) == pytest.approx(moved, rel=1e-6)
    assert expected_error(bands, rounds, times) == pytest.approx(error, rel=1e-6)
    assert error < 1.03 * optimal, "within 3 % of coefficients found by optimization"
    assert error < 0.65 * expected_error(1, rounds, times), "and far better than independent noise"


@pytest.mark.parametrize(
    ("bands", "rounds", "separation", "times"),
    [
        *[(3, 8, 2, 3), (5, 9, 5, 2), (4, 7, 1, 7), (1, 6, 2, 3)],  # columns that overlap, and that do not
        *[(5, 11, 5, 3), (5, 10, 5, 3), (5, 3, 5, 1), (3, 9, 4, 3), (3, 9, 4, 2), (2, 9, 2, 9)],
    ],
)
def test_no_pattern_of_turns_moves_more_than_the_sensitivity(
    bands: int, rounds: int, separation: int, times: int
) -> None:
    """All patterns, all of their unit vectors alike (the worst, since C has no negative entry)."""
    c, worst = strategy(bands, rounds), 0.0
    for count in range(1, times + 1):
        for turns in itertools.combinations(range(rounds), count):
            if all(later - earlier >= separation for earlier, later in zip(turns, turns[1:])):
                worst = max(worst, float(np.linalg.norm(c[:, turns].sum(axis=1))))
    assert sensitivity(bands, rounds, times, separation) == pytest.approx(worst, rel=1e-12)


def test_the_sensitivity_of_more_rounds_than_memory_holds_takes_no_longer() -> None:
    """A gateway chooses the rounds; a node that counts them one by one would be stopped by one declaration."""
    assert sensitivity(4, 10**15, most_participations(10**15, 4), 4) == pytest.approx(
        math.sqrt(10**15 / 4) * float(np.linalg.norm(coefficients(4))), rel=1e-9
    )


def test_turns_are_counted_from_the_first() -> None:
    assert [most_participations(rounds, 10) for rounds in (1, 10, 11, 30)] == [1, 1, 2, 3]


def test_summed_deviation_is_that_of_the_last_prefix() -> None:
    for bands, rounds in ((1, 30), (7, 30), (40, 30)):
        inverse = np.linalg.inv(strategy(bands, rounds))
        exact = np.linalg.norm(inverse.sum(axis=0))
        assert summed_deviation(bands, rounds) == pytest.approx(exact, rel=1e-9)
    assert summed_deviation(1, 30) == pytest.approx(math.sqrt(30))


def rows_of(bands: int, fresh: np.ndarray) -> np.ndarray:
    noise = CorrelatedNoise(bands)
    return np.array([noise.next(row) for row in fresh])


@pytest.mark.parametrize("bands", [1, 2, 6])
def test_the_strategy_gives_the_fresh_noise_back(bands: int) -> None:
    """C w is z but for the rounding of w to whole numbers, at most half a step a row."""
    fresh = np.random.default_rng(0).integers(-(1 << 22), 1 << 22, (25, 40))
    rows = rows_of(bands, fresh)
    assert rows.dtype == np.int64
    assert np.abs(strategy(bands, 25) @ rows - fresh / ONE).max() <= 0.5


def test_a_release_is_computed_from_released_values_alone() -> None:
    """Sum plus row is exactly what follows from D = C x + z and the earlier releases: nothing else can be in it."""
    random, bands = np.random.default_rng(1), 4
    whole = np.rint(coefficients(bands) * ONE).astype(np.int64)
    sums, fresh = random.integers(-5000, 5000, (20, 30)), random.integers(-(1 << 20), 1 << 20, (20, 30))
    released = sums + rows_of(bands, fresh)
    again = np.zeros_like(released)
    for t in range(20):
        reach = range(min(bands, t + 1))
        measured = sum(whole[j] * sums[t - j] for j in reach) + fresh[t]
        again[t] = (measured - sum(whole[j] * again[t - j] for j in reach if j) + ONE // 2) // ONE
    np.testing.assert_array_equal(released, again)


def test_a_restart_goes_on_where_it_was() -> None:
    fresh = np.random.default_rng(2).integers(-(1 << 20), 1 << 20, (12, 5))
    whole = rows_of(4, fresh)
    first = CorrelatedNoise(4)
    for row in fresh[:7]:
        first.next(row)
    assert len(first.rows) == 3
    second = CorrelatedNoise(4, first.rows)
    np.testing.assert_array_equal([second.next(row) for row in fresh[7:]], whole[7:])


def test_what_is_not_whole_or_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        CorrelatedNoise(3).next(np.zeros(4))
    with pytest.raises(ValueError, match="need at most 2"):
        CorrelatedNoise(3, [np.zeros(4, np.int64)] * 3)
    noise = CorrelatedNoise(3, [np.zeros(4, np.int64)])
    with pytest.raises(ValueError, match="earlier rows have"):
        noise.next(np.zeros(5, np.int64))
    with pytest.raises(ValueError, match="at least 1"):
        coefficients(0)
