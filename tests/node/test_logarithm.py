"""transform = "log": a node, standardization and a bundle's description agree on what a column means."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_export.bundle import _profile, _profile_origin
from model_export.errors import ExportError
from model_export.manifest import check_features
from orchestrator.cli.score import _logarithm
from orchestrator.errors import DataError, UsageError
from orchestrator.gateway.bundling import describe_features
from orchestrator.gateway.calibration import synthetic_inputs
from orchestrator.gateway.retraining import run_and_watch
from orchestrator.gateway.settings import Config
from orchestrator.node.data import load_dataset
from orchestrator.privacy.standardization import (
    exact_mean_and_std,
    mean_and_std,
    moments,
    on_floor,
    pooled,
    range_scaling,
    spread,
    standardize,
)
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task, task_from_dict, task_to_dict

CRP = Feature("crp", 0.1, 1e6, transform="log")
SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("age", 0, 120), CRP))


def test_a_column_is_clamped_and_then_its_logarithm_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("crp,age,y\n1,60,0\n0,61,1\n1e9,62,0\n100,63,1\n")
    data = load_dataset(path, SCHEMA)
    np.testing.assert_allclose(data.x[:, 1], np.log([1, 0.1, 1e6, 100]), rtol=1e-6)
    assert data.clamped == (("crp", 2),)


def test_statistics_are_of_the_logarithm_and_noise_hides_it_no_more() -> None:
    x = np.column_stack([np.full(400, 60), np.random.default_rng(0).normal(2, 1, 400)]).astype(np.float32)
    units = [np.array([i]) for i in range(400)]
    exact = exact_mean_and_std(*pooled([(400, spread(x, SCHEMA))]), SCHEMA)
    for mean, std in (exact, mean_and_std(moments(x, SCHEMA, units).sum(axis=0), 400, SCHEMA)):
        assert (mean[1], std[1]) == pytest.approx((x[:, 1].mean(), x[:, 1].std()), rel=1e-3)
    assert on_floor(mean_and_std(moments(x, SCHEMA, units).sum(axis=0), 400, SCHEMA)[1], SCHEMA) == ["age"]
    ends = np.array([[0, np.log(0.1)], [120, np.log(1e6)]], np.float32)
    np.testing.assert_allclose(standardize(ends, *range_scaling(SCHEMA)), [[-1, -1], [1, 1]], rtol=1e-6)
    drawn = synthetic_inputs(SCHEMA, *exact, seed=0)
    assert np.isfinite(drawn).all()
    assert abs(float(drawn[:, 1].mean())) < 1


def test_a_bundle_says_so_and_gives_a_board_no_profile() -> None:
    features = check_features(describe_features(SCHEMA, np.zeros(2), np.ones(2)), (1, 2))
    assert [feature.get("transform") for feature in features] == [None, "log"]
    reference = np.zeros((4, 2), np.int8)
    assert _profile((1, 2), features, reference) is None
    assert "takes no logarithm of crp" in _profile_origin(features, reference)
    assert _profile((1, 2), features[:1] * 2, reference) is not None
    with pytest.raises(ExportError, match="transform is 'sqrt'"):
        check_features([{"name": "a", "transform": "sqrt"}], (1, 1))
    np.testing.assert_allclose(_logarithm(np.array([1.0, 10.0]), "crp"), [0, np.log(10)])
    with pytest.raises(DataError, match="'crp': a value is not above 0"):
        _logarithm(np.array([1.0, 0.0]), "crp")


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        ({"minimum": 0, "maximum": 5, "transform": "log"}, "a minimum above 0"),
        ({"categories": ["a", "b"], "transform": "log"}, "a minimum above 0"),
        ({"minimum": 1, "maximum": 5, "transform": "sqrt"}, "expected 'log'"),
    ],
)
def test_a_transform_that_makes_no_sense_is_refused(feature: Any, reason: str) -> None:
    declared = task_to_dict(Task("t", SCHEMA, {}))
    declared["schema"]["features"][0] = {"name": "age", **feature}
    with pytest.raises(UsageError, match=reason):
        task_from_dict(declared)


def test_tasks_without_one_are_declared_as_before() -> None:
    declared = task_to_dict(Task("t", SCHEMA, {}))["schema"]["features"]
    assert [feature.get("transform", "left out") for feature in declared] == ["left out", "log"]


def test_nobody_waits_for_drift_that_no_board_can_report(tmp_path: Path) -> None:
    config = Config(Task("t", SCHEMA, {"kind": "mlp", "hidden": []}, privacy=Privacy(unit="none")))
    with pytest.raises(UsageError, match="logarithm of crp"):
        run_and_watch(config, tmp_path, tmp_path / "out", lambda event: None, 1.0, 0.25)
