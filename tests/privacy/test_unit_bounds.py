"""Whatever one unit comes with, it moves a private sum by no more than the noise is matched to: NaN, inf and 1e38 too."""

import math
from typing import Any, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.privacy.lattice import make_lattice
from orchestrator.privacy.noisy_sum import NoisyCounts, NoisySum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.evaluation import LOSS_BOUND, count, vector_size

SIZE = vector_size(2, 3)
COUNTS = NoisyCounts(SIZE, 3.0, 2, "discrete-gaussian")
NASTY = [math.nan, math.inf, -math.inf, 1e38, -1e38, 1e308, -1e308, 5e-324, -5e-324, -0.0, 1 + 1e-12, 1 + 1e-6, -1e-12]

numbers = st.one_of(st.sampled_from(NASTY), st.floats(0, 1), st.floats())
contributions = st.lists(numbers, min_size=SIZE, max_size=SIZE).map(np.array)


def honest(cell: int, loss: float) -> np.ndarray:
    vector = np.zeros(SIZE)
    vector[cell], vector[-1] = 1.0, loss
    return vector


@examples(200)
@given(st.lists(contributions, max_size=4), contributions)
def test_no_contribution_moves_counts_by_more_than_the_bound(others: List[np.ndarray], one: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        without, with_it = COUNTS.total(others), COUNTS.total([*others, one])
    assert without.dtype == with_it.dtype == np.int64
    moved = with_it - without
    assert (moved >= 0).all()
    assert moved[:-1].sum() <= COUNTS.scale
    assert moved[-1] <= COUNTS.scale
    assert np.linalg.norm(moved.astype(np.float64)) <= COUNTS.bound


@examples(200)
@given(st.lists(st.tuples(st.integers(0, SIZE - 2), st.floats(0, 1)), min_size=1, max_size=30), contributions)
def test_what_a_unit_may_add_is_added_whatever_comes_beside_it(units: Any, nasty: np.ndarray) -> None:
    """A patient's records are a mean: of many ones, and of losses up to the largest, it must not count as too much."""
    mean = np.mean([honest(cell, loss) for cell, loss in units], axis=0)
    alone = COUNTS.total([mean])
    assert alone[:-1].sum() > COUNTS.scale - SIZE, "rounded down, less than a step a cell"
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(COUNTS.total([mean, nasty]), alone + COUNTS.total([nasty]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38, 1e308, -1e308, -5e-324, -1e-12, 1 + 1e-6])
@pytest.mark.parametrize("place", [0, 1, SIZE - 1])
def test_a_contribution_that_is_not_a_units_counts_as_nothing(place: int, value: float) -> None:
    vector = honest(1, 0.5)
    vector[place] = value
    with np.errstate(over="ignore"):
        assert not COUNTS.total([vector]).any()
        np.testing.assert_array_equal(COUNTS.total([vector, honest(1, 0.5)]), COUNTS.total([honest(1, 0.5)]))
    assert COUNTS.total([honest(1, 0.5)])[[1, -1]].tolist() == [COUNTS.scale, COUNTS.scale // 2]


@pytest.mark.parametrize("shape", [(SIZE - 1,), (SIZE + 1,), (1, SIZE), ()])
def test_a_contribution_of_another_shape_is_a_bug(shape: Tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a contribution of shape"):
        COUNTS.total([np.zeros(shape)])


@examples(150)
@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8), st.lists(st.integers(0, 1), min_size=8, max_size=8)
)
def test_counts_of_records_are_within_the_bound_for_any_probabilities_of_a_softmax(
    rows: Any, labels: List[int]
) -> None:
    logits = np.array(rows, np.float64)
    with np.errstate(all="ignore"):
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    clean = np.isfinite(probabilities).all(axis=1)
    y = np.array(labels[: len(rows)])[clean]
    if not clean.any():
        return
    sums = count(y, probabilities[clean], 3)
    assert sums[:-1].sum() == len(y)
    assert 0 <= sums[-1] * LOSS_BOUND <= LOSS_BOUND * len(y)
    assert (COUNTS.total([sums / len(y)])[:-1].sum()) > COUNTS.scale - SIZE


@pytest.mark.parametrize("limit", [None, 1, 1000])
def test_a_release_is_the_bounded_sum_and_noise(monkeypatch: pytest.MonkeyPatch, limit: Optional[int]) -> None:
    monkeypatch.setattr(NoisyCounts, "noise", lambda self, _: np.full(self.size, 7, np.int64))
    units = [honest(1, 1.0), honest(1, 0.25), np.full(SIZE, np.nan), np.full(SIZE, 1e38)]
    released = COUNTS.release(units, SecureRandom(), limit)
    cut = math.inf if limit is None else limit
    expected = np.full(SIZE, 7.0)
    expected[1] += min(2 * COUNTS.scale, cut)
    expected[-1] += min(1.25 * COUNTS.scale, cut)
    np.testing.assert_array_equal(released, expected)


@examples(200)
@given(st.lists(numbers, min_size=6, max_size=6), st.integers(0, 2**32))
def test_no_vector_moves_a_sum_of_clipped_ones_by_more_than_its_bound(vector: List[float], seed: int) -> None:
    released = NoisySum(make_lattice(0.7, 6, 1.5, 1), 1.5, 1, "discrete-gaussian")
    with np.errstate(all="ignore"):
        moved = released.total([np.array(vector)], np.random.default_rng(seed))
        as_float32 = released.total([np.array(vector, np.float32)], np.random.default_rng(seed))
    for steps in (moved, as_float32):
        assert steps.dtype == np.int64
        assert np.linalg.norm(steps.astype(np.float64)) <= released.bound
