"""Noise at the gateway: one node moves a round's mean by no more than the clip norm, whatever it sends, and noise is there."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from orchestrator.gateway.central_noise import CentralAggregation
from orchestrator.gateway.store import Store
from orchestrator.privacy.noisy_sum import CLIP_NORM
from orchestrator.rounds.events import Aggregate
from orchestrator.wire.body import encode_body
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task, task_to_dict
from orchestrator.wire.training import Training

SIZE = 40


def make(tmp_path: Path, privacy: Dict[str, Any], nodes: int = 20, **rest: Any) -> CentralAggregation:
    store, task = begun(tmp_path, privacy, nodes, **rest)
    return CentralAggregation(store, "r", task, None)


def begun(tmp_path: Path, privacy: Dict[str, Any], nodes: int = 20, **rest: Any) -> Tuple[Store, Task]:
    """A run in its store."""
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    settings = Privacy(**{"unit": "node", "noise": "gateway", "clip_norm": 0.5, "noise_multiplier": 1e-4, **privacy})
    task = Task("t", schema, {}, Training(rounds=100), settings, Rounds(nodes, 1), codec="float32", **rest)
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("r", task_to_dict(task), b"", np.zeros(SIZE, np.float32))
    return store, task


def round_of(
    tmp_path: Path, aggregation: CentralAggregation, number: int, updates: List[np.ndarray], within: bool = True
) -> np.ndarray:
    """The change of the weights; weights and state are stored as the gateway would."""
    store, names = Store(tmp_path / "gateway.sqlite"), [f"n{i}" for i in range(len(updates))]
    for name, update in zip(names, updates):
        header = {"kind": "update", "run": "r", "round": number, "records": 7, "codec": "float32", "within": within}
        store.put_update("r", number, name, encode_body(header, {"update": update.astype(np.float32)}))
    before = aggregation.weights()
    outcome = aggregation.outcome(Aggregate(number, tuple(names)), 0.0)
    for name, vector in outcome.vectors.items():
        store.put_vector("r", name, vector)
    return np.asarray(outcome.vectors["weights"] - before)


def test_the_mean_is_of_clipped_updates_and_over_the_expected_number_of_nodes(tmp_path: Path) -> None:
    direction = np.ones(SIZE) / np.sqrt(SIZE)
    aggregation = make(tmp_path, {})
    moved = round_of(tmp_path, aggregation, 1, [0.1 * direction] * 9 + [1000 * direction])
    np.testing.assert_allclose(moved, (9 * 0.1 + 0.5) / 20 * direction, atol=2e-5)


def test_the_noise_has_the_declared_size_also_without_a_single_update(tmp_path: Path) -> None:
    aggregation = make(tmp_path, {"noise_multiplier": 3.0})
    moved = np.concatenate([round_of(tmp_path, aggregation, number, []) for number in range(1, 60)])
    assert moved.std() == pytest.approx(3.0 * 0.5 / 20, rel=0.08)


def test_correlated_noise_partly_cancels_over_rounds_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    settings = {"noise_multiplier": 3.0, "bands": 4}
    selection = Selection(cohort=5)
    make(tmp_path / "correlated", settings, selection=selection)
    sums, steps = [], []
    for repeat in range(12):
        folder = tmp_path / f"run{repeat}"
        store, task = begun(folder, settings, selection=selection)
        aggregation = CentralAggregation(store, "r", task, None)
        for number in range(1, 17):
            if number == 9:  # a new process on the same store
                aggregation = CentralAggregation(store, "r", task, None)
            steps.append(round_of(folder, aggregation, number, []))
        sums.append(aggregation.weights())
    independent = np.std(steps) * np.sqrt(16)
    # c = 1, 1/2, 3/8, 5/16: the sum of 16 rounds has 0.56 of the noise that independent rows of the same size would leave.
    assert np.std(sums) < 0.75 * independent


def test_the_clip_norm_follows_the_updates(tmp_path: Path) -> None:
    aggregation = make(tmp_path, {"clip_quantile": 0.5, "noise_multiplier": 0.5, "clip_norm": 4.0}, nodes=60)
    assert aggregation.broadcast()[0][CLIP_NORM] == 4.0
    direction = np.ones(SIZE) / np.sqrt(SIZE)
    for number in range(1, 30):
        round_of(
            tmp_path, aggregation, number, [0.1 * direction] * 60, within=aggregation.broadcast()[0][CLIP_NORM] >= 0.1
        )
    assert 0.05 < aggregation.broadcast()[0][CLIP_NORM] < 0.4
