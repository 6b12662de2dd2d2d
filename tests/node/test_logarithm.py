"""transform = "log": node, standardization, bundle and board take the same logarithm, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_export.bundle import profile_of
from model_export.errors import ExportError
from model_export.input_profile import make_profile, pack_profile, parse_profile
from model_export.manifest import check_features
from orchestrator.data.dataset import load_dataset
from orchestrator.errors import UsageError
from orchestrator.gateway.bundling import describe_features
from orchestrator.gateway.calibration import synthetic_inputs
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


def test_a_bundle_says_so_and_gives_a_board_what_it_needs() -> None:
    features = check_features(describe_features(SCHEMA, np.zeros(2), np.ones(2)), (1, 2))
    assert [feature.get("transform") for feature in features] == [None, "log"]
    reference = np.zeros((4, 2), np.int8)
    profile = profile_of((1, 2), features, reference, None)
    assert profile is not None
    section = pack_profile(profile)
    found = parse_profile(section)
    assert found.ranges is not None
    assert found.ranges.tolist() == [[0, np.float32(0.1)], [0, 1e6]]
    assert pack_profile(found) == section
    plain = pack_profile(make_profile((1, 2), features[:1] * 2, reference))
    assert (section[0], plain[0], len(section) - len(plain)) == (2, 1, 16), (
        "other files stay as older firmware reads them"
    )
    at = 24 + 16 + 4  # the second channel's least value
    for damage in (-1.0, 0.0, 1e-38, np.nan, np.inf, 2e6):
        with pytest.raises(ExportError, match="not one of positive numbers"):
            parse_profile(section[:at] + np.float32(damage).tobytes() + section[at + 4 :])


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"transform": "sqrt"}, "transform is 'sqrt'"),
        ({"transform": "log"}, "needs a range of positive numbers, minimum is None"),
        ({"transform": "log", "minimum": 0.0, "maximum": 5.0}, "needs a range of positive numbers"),
        ({"transform": "log", "minimum": 2.0, "maximum": 1.0}, "needs a range of positive numbers"),
        ({"transform": "log", "minimum": True, "maximum": 2}, "needs a range of positive numbers"),
        ({"minimum": 1.0}, "minimum are for a transform"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(entry: Any, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        check_features([{"name": "a", **entry}], (1, 1))


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
