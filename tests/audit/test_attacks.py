"""Membership inference, gradient inversion and masks: each against a case whose answer is known."""

import math
from dataclasses import replace
from typing import Dict

import numpy as np
import pytest

from orchestrator.audit.broken import KINDS, broken_build, check_broken
from orchestrator.audit.inversion import FirstLayer, first_layer, inversion, invert
from orchestrator.audit.masks import mask_reuse
from orchestrator.audit.measured import Measured, wrong
from orchestrator.audit.membership import allowed_advantage, losses, membership
from orchestrator.audit.run import Prepared
from orchestrator.data.dataset import Dataset
from orchestrator.errors import UsageError
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.standardization import range_scaling, standardize
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Task


def test_auc_and_advantage_of_losses_known_by_hand() -> None:
    found = membership(np.array([0.1, 0.2, 0.3, 1.4]), np.array([0.3, 0.6, 2.0]), 1.0, 1e-3)
    assert found["auc"] == pytest.approx((3 + 3 + 2.5 + 1) / 12)
    assert found["true_positive_rate"] == 0.75  # below the mean of 0.5
    assert found["false_positive_rate"] == pytest.approx(1 / 3)
    assert found["advantage"] == pytest.approx(0.75 - 1 / 3)
    low, high = found["auc_interval"]
    assert low < found["auc"] < high


def test_hanley_mcneil_interval_covers() -> None:
    """500 simulations of a known AUC, Phi(1/sqrt 2) = 0.7602: 95 % intervals that hold it, within six standard deviations."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(500):
        low, high = membership(rng.normal(0, 1, 80), rng.normal(1, 1, 60), 1.0, 0.0)["auc_interval"]
        inside += low <= 0.76025 <= high
    assert inside > 500 * 0.95 - 6 * math.sqrt(500 * 0.95 * 0.05)


def test_what_a_claim_allows() -> None:
    assert allowed_advantage(0.0, 0.0) == 0.0
    assert allowed_advantage(1.0, 0.0) == pytest.approx(math.tanh(0.5))
    assert allowed_advantage(0.0, 0.1) == pytest.approx(0.1)
    assert allowed_advantage(1000.0, 0.0) == 1.0
    perfect = membership(np.zeros(100), np.ones(100), 1.0, 1e-3)
    assert perfect["advantage"] == 1.0
    assert not perfect["holds"]


def test_losses_are_the_cross_entropy_of_the_graph(ready: Prepared, task: Task, datasets: Dict[str, Dataset]) -> None:
    graph, data = TrainingGraph(ready.graph), datasets["node-1"]
    x = standardize(data.x, *range_scaling(task.schema))[:20]
    logits = graph.logits(ready.weights, x).astype(np.float64)
    expected = [-math.log(np.exp(row)[label] / np.exp(row).sum()) for row, label in zip(logits, data.y)]
    np.testing.assert_allclose(losses(graph, ready.weights, x, data.y[:20]), expected, rtol=1e-9)


def test_a_record_is_read_off_a_plain_gradient_and_not_off_a_noised_one(
    ready: Prepared, task: Task, datasets: Dict[str, Dataset]
) -> None:
    layer = first_layer(ready.tensors, 30)
    assert layer == FirstLayer(0, 480, 30, 16)
    data = datasets["node-1"]
    scaled = data._replace(x=standardize(data.x, *range_scaling(task.schema)))
    noisy = replace(task, privacy=replace(task.privacy, noise_multiplier=4.0))
    found = inversion(noisy, TrainingGraph(ready.graph), ready.weights, scaled, layer)
    assert found["plain"] < 1e-5
    assert found["protected"] > 0.5 * found["guess"]
    nearly_none = replace(task, privacy=replace(task.privacy, noise_multiplier=1e-4))
    assert inversion(nearly_none, TrainingGraph(ready.graph), ready.weights, scaled, layer)["protected"] < 0.02
    open_task = replace(task, privacy=replace(task.privacy, unit="none"))
    assert inversion(open_task, TrainingGraph(ready.graph), ready.weights, scaled, layer)["protected"] is None


def test_inversion_applies_to_dense_first_layers_only(
    ready: Prepared, task: Task, datasets: Dict[str, Dataset]
) -> None:
    convolution = [
        {"name": "c/kernel", "shape": [5, 1, 8], "offset": 0, "size": 40},
        {"name": "c/bias", "shape": [8], "offset": 40, "size": 8},
    ]
    assert first_layer(convolution, 128) is None
    without_bias = [{"name": "d", "shape": [30, 16], "offset": 0, "size": 480}, {**ready.tensors[2], "offset": 480}]
    assert first_layer(without_bias, 30) is None
    assert first_layer(ready.tensors, 31) is None
    found = inversion(task, TrainingGraph(ready.graph), ready.weights, datasets["node-1"], None)
    assert found["applies"] is False
    assert (invert(np.zeros(512), FirstLayer(0, 480, 30, 16)) == 0).all()


def masked(task: Task) -> Task:
    secure = replace(task, aggregation=Aggregation("masked"), rounds=replace(task.rounds, nodes=3, quorum=3))
    return replace(secure, privacy=replace(task.privacy, noise="distributed", noise_multiplier=4.0))


def test_masks_are_new_in_every_round_and_their_reuse_is_seen(task: Task, datasets: Dict[str, Dataset]) -> None:
    secure, data = masked(task), datasets["node-1"]
    honest = mask_reuse(secure, data, 530)
    assert honest["holds"]
    assert honest["values"] == 3 * 530
    with broken_build("mask-reuse", 10):
        reused = mask_reuse(secure, data, 530)
    assert not reused["holds"]
    assert reused["agreeing"] == reused["values"]


def test_broken_builds_end_with_their_block_and_fit_their_task(task: Task) -> None:
    for kind, known in KINDS.items():
        places = [(target, name, getattr(target, name)) for target, name, _ in known.make(100)]
        with broken_build(kind, 100):
            assert all(getattr(target, name) is not before for target, name, before in places), kind
        assert all(getattr(target, name) is before for target, name, before in places), kind
    with pytest.raises(UsageError, match="has no masks"):
        check_broken("mask-reuse", [task])
    check_broken("mask-reuse", [masked(task)])
    node = replace(
        task, schema=replace(task.schema, standardization="range"), privacy=replace(task.privacy, unit="node")
    )
    with pytest.raises(UsageError, match="clipped in batches"):
        check_broken("clip-per-batch", [node])
    with pytest.raises(UsageError, match="expected one of"), broken_build("nonsense", 100):
        pass


def test_measures_call_wrong_what_is_beyond_six_errors() -> None:
    rng = np.random.default_rng(0)
    measured = Measured()
    measured.noise(rng.normal(0, 3.0, 20_000), 3.0)
    measured.shift(1.0 + rng.normal(0, 2.0, 5_000))
    measured.sampling(250, 1000, 0.25)
    report = measured.report()
    assert [entry["holds"] for entry in report.values()] == [True, True, True]
    assert report["noise"]["measured"] == pytest.approx(1.0, abs=0.03)
    assert report["sensitivity"]["error"] == pytest.approx(2 / math.sqrt(5000), rel=0.05)
    assert report["sampling"]["error"] == pytest.approx(math.sqrt(0.75 / 250))
    worse = Measured()
    worse.noise(rng.normal(0, 2.7, 20_000), 3.0)
    worse.shift(1.3 + rng.normal(0, 2.0, 5_000))
    worse.sampling(400, 1000, 0.25)
    assert [entry["holds"] for entry in worse.report().values()] == [False, False, False]
    assert Measured().report() == {}


@pytest.mark.parametrize("canaries", [2, 3, 5, 9])
def test_few_canaries_are_no_proof_of_a_wide_reach(canaries: int) -> None:
    """Their standard error is a guess from as few numbers, which six of them are not rare enough for."""
    rng = np.random.default_rng(canaries)
    for heard in 1 + 3 * rng.standard_normal((5000, canaries)):
        measured = Measured()
        measured.shift(heard)
        assert wrong(measured.report()) == []


def test_a_reach_that_is_too_wide_is_found_with_few_canaries_and_little_noise() -> None:
    measured = Measured()
    measured.shift(1.5 + 0.01 * np.random.default_rng(0).standard_normal(12))
    assert wrong(measured.report()) == ["sensitivity"]
