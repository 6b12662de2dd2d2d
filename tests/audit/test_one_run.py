"""The statistics of the one-run audit: against numbers computed independently, and against a mechanism of known epsilon."""

import math

import numpy as np
import pytest

from orchestrator.audit.one_run import Bound, best_bound, correct_guesses, lower_bound, p_value, reach

# canaries, guesses, right, epsilon, delta -> p value; computed with jax-privacy 2.0.0 (auditing).
P_VALUES = [
    (1000, 100, 80, 1.0, 1e-3, 0.21684316123893874),
    (1000, 1000, 700, 0.5, 1e-5, 0.0001867555867980428),
    (1000, 50, 50, 3.0, 1e-4, 0.13677091366386485),
    (500, 60, 55, 1.5, 0.0, 0.026598103407555005),
    (200, 20, 20, 2.0, 1e-3, 0.17670482182054148),
    (1000, 100, 60, 0.2, 1e-2, 1.0),
]
# canaries, guesses, right, alpha, delta -> largest refuted epsilon; the same source.
BOUNDS = [
    (1000, 100, 80, 0.05, 1e-3, 0.0),
    (1000, 1000, 700, 0.05, 1e-5, 0.7317406384658977),
    (1000, 50, 50, 0.01, 1e-4, 0.9088371659765487),
    (500, 60, 55, 0.05, 0.0, 1.605149709509688),
    (200, 20, 20, 0.05, 1e-3, 0.9790422681258898),
    (1000, 1000, 1000, 0.01, 1e-5, 5.315612183434034),
    (1000, 100, 55, 0.05, 1e-5, 0.0),
]


@pytest.mark.parametrize(("canaries", "guesses", "correct", "epsilon", "delta", "expected"), P_VALUES)
def test_p_values(canaries: int, guesses: int, correct: int, epsilon: float, delta: float, expected: float) -> None:
    assert p_value(canaries, guesses, correct, epsilon, delta) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("canaries", "guesses", "correct", "alpha", "delta", "expected"), BOUNDS)
def test_bounds(canaries: int, guesses: int, correct: int, alpha: float, delta: float, expected: float) -> None:
    assert lower_bound(canaries, guesses, correct, delta, alpha) == pytest.approx(expected, abs=2e-6)


def test_all_right_is_the_closed_form() -> None:
    """Without delta, r right guesses of r refute all e^epsilon / (1 + e^epsilon) < alpha^(1/r)."""
    q = 0.01 ** (1 / 300)
    assert lower_bound(1000, 300, 300, 0.0, 0.01) == pytest.approx(math.log(q / (1 - q)), rel=1e-9)


def test_counts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="11 right of 10"):
        p_value(100, 10, 11, 1.0, 0.0)
    with pytest.raises(ValueError, match="too few"):
        best_bound(np.arange(4.0), np.ones(4, bool), 1e-5, 0.05)


def test_guesses_are_the_two_ends() -> None:
    included = np.array([True, False, True, False, True, False])
    assert correct_guesses(np.array([9.0, 1, 8, 2, 5, 6]), included, 4) == 4
    assert correct_guesses(np.array([9.0, 1, 8, 2, 5, 6]), included, 6) == 4  # 5 looks out, 6 looks in


def test_the_best_count_pays_for_being_chosen() -> None:
    included = np.tile([True, False], 200)
    bound = best_bound(np.where(included, 1.0, -1.0), included, 0.0, 0.05)
    assert bound == Bound(pytest.approx(lower_bound(400, 400, 400, 0.0, 0.05 / 6), rel=1e-12), 400, 400)  # type: ignore[arg-type]
    assert bound.epsilon == reach(400, 0.0, 0.05)


def test_randomized_response_of_known_epsilon_is_not_refuted_and_nearly_reached() -> None:
    """Each bit is told truthfully with probability e^2 / (1 + e^2): the tightest mechanism there is, so alpha is used up."""
    rng = np.random.default_rng(1)  # a simulation, not noise of the product: it may be seeded
    m, above, bounds = 1000, 0, []
    for _ in range(30):
        included = rng.random(m) < 0.5
        told = included ^ (rng.random(m) > 1 / (1 + math.exp(-2.0)))
        bounds.append(best_bound(told + rng.random(m) * 0.1, included, 0.0, 0.05).epsilon)
        above += bounds[-1] > 2.0
    assert above <= 9  # at most 1.5 expected; so many by chance below 1e-4
    assert np.mean(bounds) > 1.4
