"""SCAFFOLD against FedAvg on problems where nodes disagree, and its two halves against each other."""

from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.errors import WireError
from orchestrator.node.store import NodeStore
from orchestrator.rounds.scaffold import CONTROL, NodeControl
from orchestrator.rounds.strategies import make_strategy
from orchestrator.rounds.strategy import Begun, State, Update
from orchestrator.wire.announcing import LastCounted
from orchestrator.wire.codec import decode_update, encode_update
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task
from orchestrator.wire.training import Training

Gradient = Callable[[np.ndarray], np.ndarray]
STEPS, RATE = 8, 0.1


def begun(store: NodeStore, node: str, counted: Dict[str, int], tensors: Dict[str, np.ndarray], size: int) -> Begun:
    return Begun(node, lambda: counted, tensors, size, lambda what: store.kept("run", what))


class Federation:
    """Nodes with exact gradients, the real strategy, the real node's half and a real store for each node."""

    def __init__(self, folder: Path, strategy: str, nodes: Dict[str, Tuple[float, Gradient]], size: int) -> None:
        self.folder, self.nodes, self.size = folder, nodes, size
        self.state: State
        self.strategy, self.name = make_strategy(strategy, 1.0, {}), strategy
        self.weights, self.state = np.zeros(size, np.float32), {}
        self.stores = {name: NodeStore(folder / f"{name}.sqlite") for name in nodes}
        self.counted: Dict[str, int] = {}
        self.number = 0

    def control(self, node: str) -> NodeControl:
        tensors = self.strategy.broadcast(self.state)
        return NodeControl(begun(self.stores[node], node, dict(self.counted), tensors, self.size))

    def round(self, answers: Sequence[str], counts: Optional[Sequence[str]] = None, codec: str = "float32") -> None:
        """`answers` train and release; of these only `counts` (default: all) come in time."""
        self.number += 1
        updates: List[Update] = []
        for node in sorted(answers):
            weight, gradient = self.nodes[node]
            control = self.control(node) if self.name == "scaffold" else None
            w = self.weights.astype(np.float64)
            for _ in range(STEPS):
                w -= RATE * (gradient(w) + (control.correction if control else 0.0))
            sent = encode_update((w - self.weights).astype("f4"), codec, np.random.default_rng(self.number))
            delta = decode_update(sent, codec, self.size)
            keep = control.after(delta, STEPS * RATE) if control else {}
            self.stores[node].release("run", self.number, "task", b"", keep)
            known = sum(n for n, _ in self.nodes.values())
            updates.append(Update(node, weight, delta, 0, STEPS * RATE, known))
        inside = [u for u in updates if counts is None or u.node in counts]
        self.weights, self.state = self.strategy.aggregate(self.weights, iter(inside), self.state)
        self.counted.update({u.node: self.number for u in inside})

    def held(self, node: str) -> np.ndarray:
        return self.control(node).own

    def assert_agreed(self) -> None:
        total = sum(n for n, _ in self.nodes.values())
        mean = sum(n * self.held(name) for name, (n, _) in self.nodes.items()) / total
        np.testing.assert_allclose(self.state[CONTROL], mean, atol=2e-5)


def quadratic(curvature: np.ndarray, centre: np.ndarray) -> Gradient:
    return lambda w: curvature * (w - centre)


def quadratics(seed: int, count: int = 3, size: int = 4) -> Tuple[Dict[str, Tuple[float, Gradient]], np.ndarray]:
    """(nodes, the weights where the sum of records times loss is least)."""
    rng = np.random.default_rng(seed)
    records = rng.integers(10, 40, count)
    curvatures, centres = rng.uniform(0.2, 2, (count, size)), rng.normal(0, 2, (count, size))
    pull = records[:, None] * curvatures
    best = (pull * centres).sum(axis=0) / pull.sum(axis=0)
    nodes = {f"n{i}": (float(records[i]), quadratic(curvatures[i], centres[i])) for i in range(count)}
    return nodes, best


@examples(8)
@given(seed=st.integers(0, 10_000))
@pytest.mark.slow
def test_it_reaches_the_optimum_of_quadratics_where_fedavg_drifts(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    nodes, best = quadratics(seed)
    distance = {}
    for name in ("fedavg", "scaffold"):
        federation = Federation(tmp_path_factory.mktemp("f"), name, nodes, 4)
        for _ in range(60):
            federation.round(list(nodes))
        distance[name] = float(np.abs(federation.weights - best).max())
    assert distance["scaffold"] < 2e-3
    assert distance["scaffold"] < 0.2 * distance["fedavg"]


def test_it_reaches_the_optimum_of_logistic_losses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = []
    for shift in (-2.0, 0.0, 2.0):
        x = np.c_[rng.normal(shift, 1 + abs(shift), (60, 2)), np.ones(60)]
        data.append((x, (rng.random(60) < 1 / (1 + np.exp(-x @ [1, -1, shift]))).astype(float)))

    def gradient(x: np.ndarray, y: np.ndarray) -> Gradient:
        return lambda w: x.T @ (1 / (1 + np.exp(-x @ w)) - y) / len(y) + 0.05 * w

    nodes = {f"n{i}": (60.0, gradient(x, y)) for i, (x, y) in enumerate(data)}
    slopes = {}
    for name in ("fedavg", "scaffold"):
        federation = Federation(tmp_path / name, name, nodes, 3)
        for _ in range(150):
            federation.round(list(nodes))
        slopes[name] = float(np.linalg.norm(sum(g(federation.weights) for _, g in nodes.values()) / 3))
    assert slopes["scaffold"] < 1e-3 < slopes["fedavg"]


@pytest.mark.parametrize("codec", ["float32", "int8"])
def test_the_gateways_control_is_the_mean_of_the_nodes_whoever_takes_part_or_comes_too_late(
    tmp_path: Path, codec: str
) -> None:
    nodes, _ = quadratics(5)
    federation = Federation(tmp_path, "scaffold", nodes, 4)
    federation.round(["n0", "n1", "n2"], codec=codec)
    federation.assert_agreed()
    federation.round(["n0", "n2"], codec=codec)
    federation.assert_agreed()
    before = federation.held("n1")
    federation.round(["n0", "n1", "n2"], counts=["n0", "n2"], codec=codec)  # n1 answered, and was not counted
    np.testing.assert_array_equal(federation.held("n1"), before)
    federation.assert_agreed()
    federation.round(["n0", "n1"], codec=codec)
    federation.round(["n1", "n2"], codec=codec)
    federation.assert_agreed()
    assert np.abs(federation.state[CONTROL]).max() > 1e-3


def test_a_node_that_was_killed_goes_on_with_its_control_variate(tmp_path: Path) -> None:
    nodes, _ = quadratics(6)
    federation = Federation(tmp_path, "scaffold", nodes, 4)
    federation.round(list(nodes))
    federation.round(list(nodes))
    before = federation.held("n0")
    federation.stores["n0"].close()
    federation.stores["n0"] = NodeStore(tmp_path / "n0.sqlite")
    np.testing.assert_array_equal(federation.held("n0"), before)
    assert np.abs(before).max() > 0
    federation.round(list(nodes))
    federation.assert_agreed()


def test_a_node_that_joins_later_takes_its_share_of_the_mean(tmp_path: Path) -> None:
    nodes, _ = quadratics(7)
    late = nodes.pop("n2")
    federation = Federation(tmp_path, "scaffold", nodes, 4)
    federation.round(list(nodes))
    nodes["n2"] = late
    federation.stores["n2"] = NodeStore(tmp_path / "n2.sqlite")
    federation.round(["n0", "n1", "n2"])
    federation.assert_agreed()


def test_rounds_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "n.sqlite")
    with pytest.raises(WireError, match="without 'counted'"):
        NodeControl(begun(store, "n", {}, {}, 3)._replace(counted=lambda: LastCounted.read({}).counted))
    for wrong in (np.zeros(2, np.float32), np.zeros(3), np.full(3, np.nan, np.float32)):
        with pytest.raises(WireError, match="control variate"):
            NodeControl(begun(store, "n", {}, {CONTROL: wrong}, 3))
    schema = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", 0, 1),))
    with pytest.raises(ValueError, match="scaffold reads control variates off whole updates"):
        Task("t", schema, {}, Training("scaffold"), codec="top10")
