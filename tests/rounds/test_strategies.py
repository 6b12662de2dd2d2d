"""Strategies against formulas written out again, and against nodes that lie."""

from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from orchestrator.rounds.strategies import STRATEGIES, make_strategy
from orchestrator.rounds.strategy import State, Update, weighted_mean


def updates(count: int, size: int, seed: int = 0) -> List[Update]:
    rng = np.random.default_rng(seed)
    return [Update(f"n{i}", float(rng.integers(1, 100)), rng.standard_normal(size).astype("f4")) for i in range(count)]


def run(name: str, rounds: List[List[Update]], rate: float = 1.0, **options: float) -> Tuple[np.ndarray, State]:
    strategy = make_strategy(name, rate, options)
    weights = np.zeros(rounds[0][0].delta.size, np.float32)
    state: Dict[str, np.ndarray] = {}
    for given in rounds:
        given = [u._replace(travel=0.1, known=1000.0) for u in given]
        weights, state = strategy.aggregate(weights, iter(given), state)
    return weights, state


def mean(given: List[Update]) -> np.ndarray:
    return np.average([u.delta.astype(np.float64) for u in given], axis=0, weights=[u.weight for u in given])


def test_weighted_mean_is_numpys_average() -> None:
    given = updates(7, 50)
    np.testing.assert_allclose(weighted_mean(iter(given), 50), mean(given), rtol=1e-12)


@pytest.mark.parametrize("name", ["fedavg", "fedsgd", "fedprox"])
def test_the_server_learning_rate_scales_the_mean(name: str) -> None:
    given = [Update("a", 1, np.full(3, 2, np.float32)), Update("b", 3, np.full(3, -2, np.float32))]
    weights, _ = run(name, [given], rate=0.5)
    np.testing.assert_array_equal(weights, np.full(3, -0.5, np.float32))


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_adaptive_steps_follow_the_papers_algorithm(name: str) -> None:
    rounds = [updates(4, 6, seed) for seed in range(5)]
    beta1, beta2, tau = 0.6, 0.8, 0.01
    options: Dict[str, float] = {"beta1": beta1, "tau": tau, **({} if name == "fedadagrad" else {"beta2": beta2})}
    ours, _ = run(name, rounds, rate=0.3, **options)
    w, m, v = np.zeros(6), np.zeros(6), np.full(6, tau**2)
    for given in rounds:
        d = mean(given)
        m = beta1 * m + (1 - beta1) * d
        if name == "fedadagrad":
            v = v + d**2
        elif name == "fedadam":
            v = beta2 * v + (1 - beta2) * d**2
        else:
            v = v - (1 - beta2) * d**2 * np.sign(v - d**2)
        w = w + 0.3 * m / (np.sqrt(v) + tau)
    np.testing.assert_allclose(ours, w, rtol=1e-5)


def test_median_and_trimmed_mean_by_hand() -> None:
    given = [Update(str(i), 1, np.array([v], np.float32)) for i, v in enumerate((1, 2, 3, 10, 1000))]
    assert run("median", [given])[0].tolist() == [3.0]
    assert run("trimmed-mean", [given], trim=0.2)[0].tolist() == [5.0]


def test_krum_chooses_from_the_crowd_and_multi_krum_averages_it() -> None:
    crowd = [Update(f"c{i}", 1, np.array([1 + 0.01 * i, 0], np.float32)) for i in range(5)]
    liars = [Update("l0", 1, np.array([50, 50], np.float32)), Update("l1", 1, np.array([-50, 9], np.float32))]
    chosen, _ = run("krum", [crowd + liars], byzantine=2)
    assert any(np.array_equal(chosen, u.delta) for u in crowd)
    averaged, _ = run("multi-krum", [crowd + liars], byzantine=2)
    assert 1.0 <= averaged[0] <= 1.04
    with pytest.raises(ValueError, match="byzantine = 2 needs at least 7 updates, there are 6"):
        run("krum", [(crowd + liars)[:6]], byzantine=2)


def test_the_geometric_median_has_the_least_sum_of_distances() -> None:
    given = updates(9, 4, 3)
    point, _ = run("geometric-median", [given])
    deltas = np.stack([u.delta for u in given]).astype(np.float64)

    def cost(p: np.ndarray) -> float:
        return float(np.linalg.norm(deltas - p, axis=1).sum())

    rng = np.random.default_rng(0)
    assert all(cost(point) <= cost(point + rng.normal(0, s, 4)) + 1e-6 for s in (1e-3, 1e-2, 0.1, 1) for _ in range(50))


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum", "multi-krum", "geometric-median"])
def test_a_minority_of_liars_cannot_drag_the_result_away(name: str) -> None:
    rng = np.random.default_rng(1)
    honest = [Update(f"h{i}", 10, (np.ones(20) + rng.normal(0, 0.1, 20)).astype("f4")) for i in range(8)]
    liars = [Update(f"x{i}", 1e9, np.full(20, -1e6, np.float32)) for i in range(2)]
    options: Dict[str, Dict[str, Any]] = {
        "trimmed-mean": {"trim": 0.25},
        "krum": {"byzantine": 2},
        "multi-krum": {"byzantine": 2},
    }
    robust, _ = run(name, [honest + liars], **options.get(name, {}))
    assert np.abs(robust - 1).max() < 0.5
    assert run("fedavg", [honest + liars])[0].max() < -1e5


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_is_a_function_of_its_inputs(name: str) -> None:
    rounds = [updates(6, 10, seed) for seed in range(3)]
    np.testing.assert_array_equal(run(name, rounds)[0], run(name, rounds)[0])


def test_what_is_unknown_is_refused_with_what_is_known() -> None:
    with pytest.raises(ValueError, match="'fedmagic'.*fedavg, fedbuff, fedprox, fedsgd"):
        make_strategy("fedmagic", 1.0, {})
    with pytest.raises(ValueError, match="'fedadam' has no option 'beta3'; it has beta1, beta2, tau"):
        make_strategy("fedadam", 1.0, {"beta3": 1.0})
    with pytest.raises(ValueError, match="'trim' is 0.9, expected 0 to 0.49"):
        make_strategy("trimmed-mean", 1.0, {"trim": 0.9})


def test_no_updates_is_an_error() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        weighted_mean([], 3)
