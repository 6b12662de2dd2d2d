"""How much privacy was lost at least, from guesses about which canaries took part in one training.

Each of m canaries is put in with probability 1/2, independently. An attacker who sees all that left the nodes guesses for some of
them whether they were in. If the training is (epsilon, delta)-differentially private for each canary, then for r guesses

    P[at least v right] <= beta + 2 m delta max_{i=1..v} (P[Bin >= v - i] - beta) / i,    beta = P[Bin >= v],

where Bin is binomial with r trials of probability e^epsilon / (1 + e^epsilon) (Steinke, Nasr, Jagielski, "Privacy auditing with
one (1) training run", 2023, arXiv 2305.08846). Every epsilon for which that is below alpha is refuted with confidence 1 - alpha.

Several trainings of their own randomness are one mechanism, in which every canary is in one of them: their canaries may be
thrown together, and m is then the number of all.
"""

from typing import List, NamedTuple

import numpy as np

SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the canaries that are guessed about. Which says most is not known before, so each may err by its part of alpha."""

LEAST_GUESSES = 8
_MOST_EPSILON = 50.0


class Bound(NamedTuple):
    """epsilon: at least so much, with the confidence asked for; 0 where nothing is refuted. `correct` of `guesses` were right."""

    epsilon: float
    guesses: int
    correct: int


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Probability of at least `correct` right guesses of `guesses` about `canaries`, at most, if (epsilon, delta) holds.

    ValueError unless correct <= guesses <= canaries.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} right of {guesses} guesses about {canaries} canaries makes no sense")
    tail = _tails(guesses, 1 / (1 + np.exp(-epsilon)))
    beta = tail[correct]
    if correct == 0 or delta == 0:
        return float(min(beta, 1.0))
    gains = tail[:correct][::-1] - beta  # P[v > Bin >= v - i] for i = 1 .. v
    alpha = float(np.max(gains / np.arange(1, correct + 1)))
    return float(min(1.0, beta + 2 * canaries * delta * max(0.0, alpha)))


def lower_bound(canaries: int, guesses: int, correct: int, delta: float, alpha: float) -> float:
    """The largest epsilon that is refuted at level `alpha`; 0.0 if none is."""
    if p_value(canaries, guesses, correct, 0.0, delta) >= alpha:
        return 0.0
    low, high = 0.0, _MOST_EPSILON
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(canaries, guesses, correct, middle, delta) < alpha else (low, middle)
    return low


def guess_counts(canaries: int) -> List[int]:
    """Even numbers of guesses to try, half of them for "in" and half for "out"."""
    counts = {2 * int(share * canaries / 2) for share in SHARES}
    return sorted(count for count in counts if count >= LEAST_GUESSES)


def best_bound(scores: np.ndarray, included: np.ndarray, delta: float, alpha: float) -> Bound:
    """The best of several numbers of guesses, each held to its part of alpha (Bonferroni).

    scores: float (m,), higher where a canary looks as if it was in; included: bool (m,), the truth. ValueError for fewer than
    LEAST_GUESSES canaries.
    """
    canaries = len(scores)
    counts = guess_counts(canaries)
    if not counts:
        raise ValueError(f"{canaries} canaries are too few: at least {LEAST_GUESSES} are needed")
    tried = [Bound(0.0, count, correct_guesses(scores, included, count)) for count in counts]
    bounds = [
        t._replace(epsilon=lower_bound(canaries, t.guesses, t.correct, delta, alpha / len(counts))) for t in tried
    ]
    return max(bounds, key=lambda bound: bound.epsilon)


def correct_guesses(scores: np.ndarray, included: np.ndarray, count: int) -> int:
    """Right ones when the count/2 highest scores count as canaries that were in, and the count/2 lowest for absent ones."""
    order, half = np.argsort(scores, kind="stable"), count // 2
    return int(included[order[len(order) - half :]].sum() + (~included[order[:half]]).sum())


def reach(canaries: int, delta: float, alpha: float) -> float:
    """The highest bound so many canaries can give: every guess right."""
    counts = guess_counts(canaries)
    return max((lower_bound(canaries, n, n, delta, alpha / len(counts)) for n in counts), default=0.0)


def _tails(trials: int, probability: float) -> np.ndarray:
    """float64 (trials + 2,): P[binomial >= v] for v = 0 .. trials + 1."""
    k = np.arange(trials + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    choose = factorials[-1] - factorials - factorials[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        other = 1 - probability
        logs = choose + k * np.log(probability) + np.where(k < trials, (trials - k) * np.log(other), 0.0)
    masses = np.exp(logs)
    return np.append(np.minimum(np.cumsum(masses[::-1])[::-1], 1.0), 0.0)
