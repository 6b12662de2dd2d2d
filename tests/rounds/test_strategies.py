import numpy as np
import pytest

from orchestrator.rounds.strategies import make_strategy
from orchestrator.rounds.strategy import Update, weighted_mean


def updates(count: int, size: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [Update(f"n{i}", float(rng.integers(1, 100)), rng.standard_normal(size).astype("f4")) for i in range(count)]


def test_weighted_mean_is_numpys_average() -> None:
    given = updates(7, 50)
    expected = np.average([u.delta.astype(np.float64) for u in given], axis=0, weights=[u.weight for u in given])
    np.testing.assert_allclose(weighted_mean(iter(given), 50), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["fedavg", "fedsgd"])
def test_the_server_learning_rate_scales_the_mean(name: str) -> None:
    weights = np.ones(3, np.float32)
    given = [Update("a", 1, np.full(3, 2, np.float32)), Update("b", 3, np.full(3, -2, np.float32))]
    np.testing.assert_array_equal(make_strategy(name, 0.5).aggregate(weights, given), np.full(3, 0.5, np.float32))


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'fedmagic'.*fedavg, fedsgd"):
        make_strategy("fedmagic", 1.0)


def test_no_updates_is_an_error() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        weighted_mean([], 3)
