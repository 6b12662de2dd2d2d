"""Noise that is a whole number, exactly distributed: discrete Gaussian and Skellam. No floating point decides anything.

A floating-point Gaussian leaves traces of what it was added to in its lowest bits (Mironov 2012); a sum of whole numbers has
no such bits, and adds up modulo 2^bits under secure aggregation. All randomness comes as 64-bit words from a `SecureRandom`.

Sources: Karney, "Sampling exactly from the normal distribution", ACM TOMS 42 (2016), algorithm D. Canonne, Kamath, Steinke,
"The discrete Gaussian for differential privacy" (2020), algorithm 1, for Bernoulli(exp(-x)). Agarwal, Kairouz, Liu, "The
Skellam mechanism" (2021), for why a difference of Poisson counts will do.
"""

from functools import lru_cache
from typing import List, NamedTuple, Tuple

import numpy as np

from orchestrator.privacy.secure_random import SecureRandom

MAX_SIGMA = 1 << 24
MAX_SKELLAM_VARIANCE = 1 << 28
"""Beyond it the table of Poisson counts would take more memory than a node should give."""

_BATCH = 1 << 15
"""Candidates drawn at a time: what is worked on stays in the cache."""


def discrete_gaussian(random: SecureRandom, size: int, sigma: int) -> np.ndarray:
    """int64 (size,): each value x with probability proportional to exp(-x^2 / (2 sigma^2)), independent and exact.

    `sigma` is a whole number from 1 to 2^24; ValueError otherwise. "Exact" is short for: within 2^-1000 in total variation.
    That is how many digits of the law of k are kept, and less likely still is a loop that would overflow 64 bits.
    """
    if sigma != int(sigma) or not 1 <= sigma <= MAX_SIGMA:
        raise ValueError(f"sigma of a discrete Gaussian must be a whole number from 1 to 2^24, not {sigma}")
    parts, missing = [np.empty(0, np.int64)], size
    while missing > 0:
        # 71 % of the candidates are kept: sqrt(pi / 2) to the sum of exp(-k^2 / 2) over k.
        found = _candidates(random, min(_BATCH, 7 * missing // 5 + 4 * int(missing**0.5) + 16), int(sigma))[:missing]
        parts.append(found)
        missing -= len(found)
    return np.concatenate(parts)


def skellam(random: SecureRandom, size: int, variance: int) -> np.ndarray:
    """int64 (size,): the difference of two independent Poisson(variance / 2) counts; sums of such values are Skellam again.

    `variance` is even, from 2 to 2^28; ValueError otherwise. Each value is within 2^-100 of the law in total variation (the
    thresholds are whole multiples of 2^-128, and there are less than 2^19 of them for each count).
    """
    if variance != int(variance) or variance % 2 or not 2 <= variance <= MAX_SKELLAM_VARIANCE:
        raise ValueError(f"the variance of Skellam noise must be an even whole number from 2 to 2^28, not {variance}")
    table = poisson_table(int(variance) // 2)
    return invert(random, size, table) - invert(random, size, table)


def _candidates(random: SecureRandom, count: int, sigma: int) -> np.ndarray:
    """Those of `count` candidates that algorithm D accepts, in order, as int64."""
    # D1, D2: k >= 0 with probability proportional to exp(-k^2/2).
    k = levels(random, count)
    # D3 to D5: a sign, and j of [0, sigma). Zero is proposed with one of its signs only, else it came twice as often.
    j = below(random, np.full(len(k), sigma, np.uint64))
    negative = random.words(len(k)) >> np.uint64(63) == 1
    once = ~(negative & (k == 0) & (j == 0))
    k, j, negative = k[once], j[once], negative[once]
    # D6, D7: accept with probability exp(-x (2k + x) / 2), x = j / sigma, as k + 1 trials whose exponents are below 1.
    numerator, denominator = j * (np.uint64(2 * sigma) * k + j), (k + np.uint64(1)) * np.uint64(2 * sigma * sigma)
    trials = (k + np.uint64(1)).astype(np.int64)
    passed = bernoulli_exp(random, np.repeat(numerator, trials), np.repeat(denominator, trials))
    accepted = np.logical_and.reduceat(passed, np.cumsum(trials) - trials) if len(k) else np.zeros(0, bool)
    magnitude = (np.uint64(sigma) * k[accepted] + j[accepted]).astype(np.int64)
    return np.where(negative[accepted], -magnitude, magnitude)


def levels(random: SecureRandom, size: int) -> np.ndarray:
    """uint64 (size,): for each a uniform U of [0, 1), the least k with U < P(K <= k), of 1,024 bits where it takes so many."""
    words = random.words(size)
    k = np.searchsorted(_FIRST_DIGITS, words, side="right")
    # The last threshold that is not above the word is the only one it can be equal to.
    for i in np.flatnonzero(_FIRST_DIGITS[np.maximum(k, 1) - 1] == words):
        digits = (int(words[i]), *(int(word) for word in random.words(len(LEVELS[0]) - 1)))
        k[i] = sum(threshold <= digits for threshold in LEVELS)
    return k.astype(np.uint64)


def bernoulli_exp(random: SecureRandom, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """bool (n,), True with probability exp(-numerator / denominator), for uint64 numerator <= denominator.

    Draws Bernoulli(x / K) for K = 1, 2, ... up to the first failure; exp(-x) is the probability that it comes at an odd K.
    """
    odd = np.zeros(len(numerator), bool)
    running = np.arange(len(numerator))
    turn = 1
    while running.size:
        failed = below(random, denominator * np.uint64(turn)) >= numerator
        if turn % 2:
            odd[running[failed]] = True
        going = ~failed
        running, numerator, denominator = running[going], numerator[going], denominator[going]
        turn += 1
    return odd


def below(random: SecureRandom, limits: np.ndarray) -> np.ndarray:
    """uint64 (n,), uniform in [0, limits) each: the remainder of a word, unless the word is of the last, incomplete period."""
    words = random.words(len(limits))
    values = words % limits
    again = np.flatnonzero(words - values > np.uint64(0) - limits)
    while again.size:
        words = random.words(len(again))
        values[again] = words % limits[again]
        again = again[words - values[again] > np.uint64(0) - limits[again]]
    return values


class _Table(NamedTuple):
    """2^128 P(X <= k) for k = first, first + 1, ..., rounded down, in two words; without those that are 0 or 2^128."""

    first: int
    high: np.ndarray
    low: np.ndarray


def invert(random: SecureRandom, size: int, table: _Table) -> np.ndarray:
    """int64 (size,): for each a uniform U of 128 bits, the least k with U < 2^128 P(X <= k)."""
    words = random.words(size)
    index = np.searchsorted(table.high, words, side="right")
    # The second half of U is only needed where the first equals that of a threshold.
    for i in np.flatnonzero((index > 0) & (table.high[index - 1] == words)):
        start = np.searchsorted(table.high, words[i], side="left")
        index[i] = start + np.searchsorted(table.low[start : index[i]], random.words(1)[0], side="right")
    return index + table.first


@lru_cache(maxsize=4)
def poisson_table(mean: int) -> _Table:
    """Of Poisson(mean). The weights p(k) / p(mean) are whole multiples of 2^-192, each within k - mean of them of the truth."""
    first, weights = _poisson_weights(mean)
    total, cumulative = sum(weights), 0
    thresholds = []
    for weight in weights:
        cumulative += weight
        thresholds.append((cumulative << 128) // total)
    skipped = sum(1 for threshold in thresholds if threshold == 0)
    inside = [threshold for threshold in thresholds[skipped:] if threshold < 1 << 128]
    high = np.array([threshold >> 64 for threshold in inside], np.uint64)
    low = np.array([threshold & (1 << 64) - 1 for threshold in inside], np.uint64)
    return _Table(first + skipped, high, low)


def _poisson_weights(mean: int) -> Tuple[int, List[int]]:
    """The first k, and 2^192 p(k) / p(mean) from there on, rounded down at each step away from the mean, while it is not 0."""
    upper, k = [1 << 192], mean
    while upper[-1]:
        k += 1
        upper.append(upper[-1] * mean // k)
    lower, k = [1 << 192], mean
    while lower[-1] and k > 0:
        lower.append(lower[-1] * k // mean)
        k -= 1
    return k, lower[:0:-1] + upper


def _digits(number: int, bits: int) -> Tuple[int, ...]:
    """The first sixteen 64-bit digits of number / 2^bits."""
    return tuple((number >> bits - 64 * (i + 1)) & (1 << 64) - 1 for i in range(16))


def _exp_square_levels() -> Tuple[Tuple[int, ...], ...]:
    """P(K <= k) for k = 0, 1, ..., of K with probability proportional to exp(-k^2/2), while it is below 1 - 2^-1024."""
    half, term, n = 0, 1 << 1100, 0
    while term:  # the series of exp(-1/2)
        half += -term if n % 2 else term
        n += 1
        term //= 2 * n
    weights, power, factor = [1 << 1100], half, half
    whole = half * half >> 1100
    while weights[-1]:  # exp(-k^2/2) from exp(-(k-1)^2/2) and exp(-(2k-1)/2)
        weights.append(power)
        factor = factor * whole >> 1100
        power = power * factor >> 1100
    total, below, levels = sum(weights), 0, []
    for weight in weights:
        below += weight
        levels.append(_digits((below << 1100) // total, 1100))
    return tuple(level for level in levels if any(digit != (1 << 64) - 1 for digit in level) and any(level))


LEVELS = _exp_square_levels()
_FIRST_DIGITS = np.array([level[0] for level in LEVELS], np.uint64)
