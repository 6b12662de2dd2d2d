"""Discrete noise against its exact laws; samplers that are a little wrong must be told apart."""

import math
from decimal import Decimal, localcontext
from typing import Callable, List

import numpy as np
import pytest

from orchestrator.privacy import discrete
from orchestrator.privacy.discrete import discrete_gaussian, skellam
from orchestrator.privacy.secure_random import SecureRandom

pytestmark = pytest.mark.slow

N = 300_000
DOUBT = 16.2  # a right sampler is refused with probability exp(-16.2) = 1e-7


def gaussian_law(sigma: float) -> np.ndarray:
    """float64 (2a + 1,): probabilities of -a .. a, with a = 12 sigma."""
    reach = math.ceil(12 * sigma)
    law = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(law / law.sum())


def skellam_law(variance: float) -> np.ndarray:
    """float64 (2a + 1,): exp(-v) I_k(v) by the downward recurrence I_(k-1) = I_(k+1) + 2k/v I_k (Miller)."""
    reach = math.ceil(14 * math.sqrt(variance)) + 20
    terms: List[float] = [0.0, 1e-300]
    for k in range(reach, 0, -1):
        terms.append(terms[-2] + 2 * k / variance * terms[-1])
        if terms[-1] > 1e290:
            terms = [term * 1e-290 for term in terms]
    half = np.array(terms[:0:-1])
    law = np.concatenate([half[:0:-1], half])
    return np.asarray(law / law.sum())


def excess(samples: np.ndarray, law: np.ndarray, bins: int = 60) -> float:
    """Pearson's chi-square over its bound; above 1 with probability exp(-DOUBT) (Laurent and Massart 2000, lemma 1)."""
    reach = len(law) // 2
    assert np.abs(samples).max() <= reach
    # Bins of about equal probability; where single numbers are likelier than that, one for each.
    edges = np.unique(np.searchsorted(np.cumsum(law), np.arange(1, bins) / bins))
    expected = np.add.reduceat(law, np.concatenate([[0], edges + 1])) * len(samples)
    counts = np.bincount(np.searchsorted(edges, samples + reach), minlength=len(expected))
    assert expected.min() > 20
    freedom = len(expected) - 1
    bound = freedom + 2 * math.sqrt(freedom * DOUBT) + 2 * DOUBT
    return float(((counts - expected) ** 2 / expected).sum() / bound)


@pytest.mark.parametrize("sigma", [1, 2, 3, 50, 2048, 1 << 18])
def test_discrete_gaussian_numbers_follow_their_law_and_no_other(sigma: int) -> None:
    samples = discrete_gaussian(SecureRandom(), N, sigma)
    assert samples.dtype == np.int64
    assert samples.shape == (N,)
    assert excess(samples, gaussian_law(sigma)) < 1
    assert excess(samples, gaussian_law(sigma * 1.03)) > 1
    assert excess(samples, gaussian_law(sigma / 1.03)) > 1


def test_the_law_is_right_to_a_few_parts_in_a_thousand() -> None:
    samples = discrete_gaussian(SecureRandom(), 8_000_000, 2)
    assert excess(samples, gaussian_law(2)) < 1
    assert excess(samples, gaussian_law(2 * 1.004)) > 1


@pytest.mark.parametrize("sigma", [1, 3])
def test_wrong_samplers_are_noticed(sigma: int) -> None:
    rng = np.random.default_rng(0)
    law = gaussian_law(sigma)
    values = np.arange(len(law)) - len(law) // 2
    assert excess(rng.choice(values, N, p=law), law) < 1
    twice_zero = law + law * (values == 0)
    assert excess(rng.choice(values, N, p=twice_zero / twice_zero.sum()), law) > 1


def test_a_rounded_floating_point_gaussian_is_no_discrete_gaussian() -> None:
    assert excess(np.round(np.random.default_rng(0).normal(0, 1, N)).astype(np.int64), gaussian_law(1)) > 1


@pytest.mark.parametrize("variance", [2, 50, 4_000_000])
def test_skellam_numbers_follow_their_law_and_no_other(variance: int) -> None:
    samples = skellam(SecureRandom(), N, variance)
    assert samples.dtype == np.int64
    assert samples.shape == (N,)
    assert excess(samples, skellam_law(variance)) < 1
    assert excess(samples, skellam_law(variance * 1.06)) > 1
    assert excess(samples, skellam_law(variance / 1.06)) > 1


def test_small_skellam_noise_is_no_discrete_gaussian() -> None:
    assert excess(skellam(SecureRandom(), N, 2), gaussian_law(math.sqrt(2))) > 1


@pytest.mark.parametrize(
    "sampler", [lambda n: discrete_gaussian(SecureRandom(), n, 7), lambda n: skellam(SecureRandom(), n, 50)]
)
def test_any_number_of_values_one_independent_of_the_next(sampler: Callable[[int], np.ndarray]) -> None:
    for size in (0, 1, 7, 40_000):
        assert sampler(size).shape == (size,)
    once = sampler(40_001)
    assert abs(np.corrcoef(once[1:], once[:-1])[0, 1]) < 6 / math.sqrt(40_000)


def test_what_cannot_be_drawn_is_refused() -> None:
    for sigma in (0, -1, 1.5, (1 << 24) + 1):
        with pytest.raises(ValueError, match="sigma"):
            discrete_gaussian(SecureRandom(), 1, sigma)  # type: ignore[arg-type]
    for variance in (0, 3, -2, (1 << 28) + 2):
        with pytest.raises(ValueError, match="variance"):
            skellam(SecureRandom(), 1, variance)


@pytest.mark.parametrize("mean", [1, 25, 1000])
def test_poisson_thresholds_are_right_to_120_bits(mean: int) -> None:
    table = discrete.poisson_table(mean)
    with localcontext() as context:
        context.prec = 600
        weight, total, wrong = (-Decimal(mean)).exp(), Decimal(0), Decimal(0)
        for k in range(table.first + len(table.high)):
            total += weight
            weight = weight * mean / (k + 1)
            if k >= table.first:
                i = k - table.first
                threshold = (int(table.high[i]) << 64) + int(table.low[i])
                wrong = max(wrong, abs(threshold - total * 2**128))
        assert wrong <= 2**8
        assert total > 1 - Decimal(2) ** -120


class Scripted(SecureRandom):
    """Words from a list."""

    def __init__(self, words: List[int]) -> None:
        self.script = list(words)

    def words(self, size: int) -> np.ndarray:
        taken, self.script = self.script[:size], self.script[size:]
        assert len(taken) == size
        return np.array(taken, np.uint64)


def test_a_word_equal_to_half_a_threshold_is_decided_by_the_next() -> None:
    table = discrete.poisson_table(25)
    high, low = int(table.high[9]), int(table.low[9])
    for second, k in ((low - 1, 9), (low, 10), (low + 1, 10)):
        assert discrete.invert(Scripted([high, second]), 1, table).tolist() == [table.first + k]
    assert discrete.invert(Scripted([high - 1, high + 1]), 2, table).tolist() == [table.first + 9, table.first + 10]


def test_a_word_equal_to_a_digit_of_the_probability_is_decided_by_the_next() -> None:
    for k in (0, 3, len(discrete.LEVELS) - 1):
        digits = discrete.LEVELS[k]
        rest = list(digits[1:])
        below, above = [*rest[:-1], rest[-1] - 1], [*rest[:-1], rest[-1] + 1]
        for words, result in ((below, k), (rest, k + 1), (above, k + 1)):
            assert discrete.levels(Scripted([digits[0], *words]), 1).tolist() == [result]
    first = discrete.LEVELS[3][0]
    assert discrete.levels(Scripted([0, first - 1, first + 1]), 3).tolist() == [0, 3, 4]


def test_the_levels_of_a_gaussian_are_right_to_a_thousand_bits() -> None:
    with localcontext() as context:
        context.prec = 400
        weights = [(-Decimal(k * k) / 2).exp() for k in range(60)]
        for k, digits in enumerate(discrete.LEVELS):
            number = sum(digit << 64 * (15 - i) for i, digit in enumerate(digits))
            assert abs(Decimal(number) - sum(weights[: k + 1], Decimal()) / sum(weights, Decimal()) * 2**1024) < 2**16
        assert 1 - sum(weights[: len(discrete.LEVELS) + 1]) / sum(weights) < Decimal(2) ** -1000


def test_words_of_the_incomplete_last_period_are_drawn_again() -> None:
    top = 2**64 - 1
    assert discrete.below(Scripted([top, 4, top, 5]), np.array([3, 3], np.uint64)).tolist() == [2, 1]
    assert discrete.below(Scripted([top, top]), np.array([1, 2**63], np.uint64)).tolist() == [0, 2**63 - 1]


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 5), (1, 7), (5, 7), (7, 7), (1 << 48, 1 << 50)])
def test_bernoulli_trials_have_probability_exp(numerator: int, denominator: int) -> None:
    rows = np.ones(N, np.uint64)
    hits = discrete.bernoulli_exp(SecureRandom(), rows * np.uint64(numerator), rows * np.uint64(denominator)).sum()
    p = math.exp(-numerator / denominator)
    assert abs(hits - N * p) <= 5.5 * math.sqrt(N * p * (1 - p))
