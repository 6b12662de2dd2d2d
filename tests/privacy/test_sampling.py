"""Poisson samples: every unit by itself, at the exact rate, in every step again. Bounds are six deviations, or exact."""

import math

import numpy as np
import pytest

from orchestrator.privacy.secure_random import SecureRandom

UNITS, STEPS = 500, 400


def samples(rate: float, steps: int = STEPS) -> np.ndarray:
    """bool (steps, UNITS): of one node."""
    random = SecureRandom()
    taken = np.zeros((steps, UNITS), np.int64)
    for row in taken:
        chosen = random.poisson_sample(UNITS, rate)
        np.add.at(row, chosen, 1)
    assert taken.max() <= 1, "no unit twice in a sample"
    return taken.astype(bool)


@pytest.mark.parametrize("rate", [0.02, 0.25, 0.7])
def test_the_rate_is_exact_to_one_percent(rate: float) -> None:
    wanted = int(40_000 * (1 - rate) / rate)  # so that 1 % are more than six standard errors
    size = len(SecureRandom().poisson_sample(10 * wanted, rate))
    assert abs(size / (10 * wanted * rate) - 1) < 0.01


@pytest.mark.parametrize("rate", [0.02, 0.25, 0.7])
def test_every_unit_is_as_likely_as_the_others(rate: float) -> None:
    taken = samples(rate)
    often = (taken.sum(axis=0) - STEPS * rate) / math.sqrt(STEPS * rate * (1 - rate))
    assert np.abs(often).max() < 9
    # Sum of squares: chi-square of 500, a little wider for the binomial's own fourth moment.
    assert abs(np.square(often).sum() / UNITS - 1) < 7 * math.sqrt((2 + 1 / (STEPS * rate * (1 - rate))) / UNITS)


@pytest.mark.parametrize("rate", [0.02, 0.25, 0.7])
def test_sizes_vary_as_those_of_a_poisson_sample(rate: float) -> None:
    sizes = samples(rate).sum(axis=1)
    spread = np.square(sizes - UNITS * rate).mean() / (UNITS * rate * (1 - rate))
    assert abs(spread - 1) < 7 * math.sqrt((2 + 1 / (UNITS * rate * (1 - rate))) / STEPS)


@pytest.mark.parametrize("rate", [0.25, 0.7])
def test_one_step_tells_nothing_of_the_next_nor_one_unit_of_its_neighbour(rate: float) -> None:
    centred = (samples(rate) - rate) / math.sqrt(rate * (1 - rate))
    for later in (1, 2, 3, 4):
        assert abs((centred[later:] * centred[:-later]).sum()) < 6.5 * math.sqrt((STEPS - later) * UNITS)
        assert abs((centred[:, later:] * centred[:, :-later]).sum()) < 6.5 * math.sqrt(STEPS * (UNITS - later))
    products = centred @ centred.T / math.sqrt(UNITS)
    np.fill_diagonal(products, 0)
    assert np.abs(products).max() < 7.5


def test_two_nodes_draw_two_samples() -> None:
    one, other = samples(0.25, 40), samples(0.25, 40)
    common = (one & other).sum()
    expected = 40 * UNITS / 16
    assert abs(common - expected) < 6 * math.sqrt(expected)
