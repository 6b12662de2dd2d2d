"""The audit's tests of noise and samples: how often honest ones fail, and what others are told apart."""

import math
from typing import Callable, Dict, List

import numpy as np
import pytest

from orchestrator.audit import laws

RNG = np.random.default_rng(5)  # a simulation, not noise of the product: it may be seeded


def gaussian(count: int = 40, size: int = 200, std: float = 1500.0) -> np.ndarray:
    return np.rint(RNG.normal(0, std, (count, size)))


def test_p_values_of_honest_noise_are_spread_and_not_too_small() -> None:
    """100 simulations: below p as often as p, at most; a bound on 11 tests that errs shows here."""
    found: Dict[str, List[float]] = {}
    for _ in range(100):
        for test, result in laws.noise(gaussian(), 1500.0, 1500.0).items():
            found.setdefault(test, []).append(result.p)
    assert len(found) == 9
    for test, values in found.items():
        for level in (0.001, 0.01, 0.1):
            most = 100 * level + 6 * math.sqrt(100 * level) + 3
            assert (np.array(values) < level).sum() <= most, test
    assert (np.array(found["law"]) < 0.5).any()


def test_p_values_of_honest_samples_are_spread_and_not_too_small() -> None:
    for rate in (0.02, 0.25):
        found: Dict[str, List[float]] = {}
        for _ in range(60):
            for test, result in laws.samples(RNG.random((50, 300)) < rate, rate).items():
                found.setdefault(test, []).append(result.p)
        for test, values in found.items():
            for level in (0.001, 0.01, 0.1):
                assert (np.array(values) < level).sum() <= 100 * level + 6 * math.sqrt(100 * level) + 3, test


def irwin_hall(count: int, size: int) -> np.ndarray:
    return np.rint(1500 * (RNG.random((12, count, size)).sum(axis=0) - 6))


OTHERS: Dict[str, Callable[[], np.ndarray]] = {
    "size": lambda: gaussian(std=1500 * 0.93),
    "law": lambda: irwin_hall(300, 400),
    "centre": lambda: gaussian() + 120,
    "releases": lambda: gaussian() * np.where(np.arange(40) == 7, 0.5, 1.0)[:, None],
    "coordinates": lambda: gaussian() * np.where(np.arange(200) == 199, 0.1, 1.0),
    "grid": lambda: 64 * np.rint(gaussian() / 64),
    "repeats": lambda: (lambda v: np.concatenate([v[:-1], -v[:1]]))(gaussian()),
    "pairs": lambda: (lambda v: np.concatenate([v[:, :-1], v[:, :1]], axis=1))(gaussian()),
    "lags": lambda: (lambda v: (v + 0.2 * np.roll(v, 200)) / math.sqrt(1.04))(gaussian().ravel()).reshape(40, 200),
}


@pytest.mark.parametrize("test", OTHERS)
def test_other_noise_is_told_apart_by_the_test_made_for_it(test: str) -> None:
    assert not laws.noise(OTHERS[test](), 1500.0, 1500.0)[test].holds


def test_too_much_noise_is_not_the_declared_noise_either() -> None:
    assert not laws.noise(gaussian(std=1700), 1500, 1515)["size"].holds
    assert laws.noise(gaussian(std=1508), 1500, 1515)["size"].holds


def test_no_noise_at_all_has_an_answer_for_every_test() -> None:
    found = laws.noise(np.zeros((30, 50)), 1.0, 1.01)
    assert not found["size"].holds
    assert not found["law"].holds
    assert all(0 <= result.p <= 1 for result in found.values())


def test_dependent_samples_are_told_apart() -> None:
    rate, steps, units = 0.25, 120, 400
    honest = RNG.random((steps, units)) < rate
    sticky = honest.copy()
    for step in range(1, steps):
        stay = RNG.random(units) < 0.1
        sticky[step, stay] = sticky[step - 1, stay]
    favoured = honest | ((np.arange(units) == 5) & (RNG.random((steps, 1)) < 0.6))
    cases = {"steps": sticky, "units": favoured, "rate": RNG.random((steps, units)) < 0.29}
    for test, taken in cases.items():
        assert not laws.samples(taken, rate)[test].holds, test
    twin = honest.copy()
    twin[70] = twin[3]
    assert not laws.samples(twin, rate)["overlap"].holds
    assert list(laws.samples(np.ones((5, 9), bool), 1.0)) == ["rate"]
    assert not laws.samples(np.arange(45).reshape(5, 9) > 0, 1.0)["rate"].holds


@pytest.mark.parametrize(
    ("length", "holds"), [(0.0, True), (0.99, True), (1.0, True), (1.06, False), (math.sqrt(2), False)]
)
def test_a_shift_is_measured_to_a_few_percent(length: float, holds: bool) -> None:
    moved = RNG.normal(0, 0.003, 500)
    moved += length * np.ones(500) / math.sqrt(500)
    assert laws.shift(moved, 0.003, 1.01).holds is holds
    assert laws.shift(np.array([np.nan, 1.0]), 0.1, 1.0).p == 0.0


def test_bits_that_are_not_fair_are_noticed() -> None:
    words = RNG.integers(0, 2**64, 100_000, dtype=np.uint64)
    assert laws.bits(words).holds
    assert not laws.bits(words >> np.uint64(1)).holds
    assert not laws.bits(np.arange(100_000, dtype=np.uint64)).holds
