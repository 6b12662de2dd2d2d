"""A known score against what scikit-learn says of all rows together, on the sites of a trial."""

import csv
import math
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from analysed_rows import OPEN, planned
from test_oracles import METHODS, computed, site_files

from orchestrator.analyses.base import Result
from orchestrator.analyses.performance_figures import area_of
from orchestrator.data.dataset import Dataset, load_for
from orchestrator.errors import UsageError
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

FEATURES = (
    Feature("xage", 0, 100),
    Feature("ghindx", 0, 100),
    Feature("female", categories=("0", "1")),
    Feature("child", categories=("0", "1")),
)
COEFFICIENTS = {"(intercept)": 1.5, "xage": -0.2, "ghindx": 0.01, "female = 1": 0.1}
MODEL = {
    "kind": "performance",
    "outcome": "child",
    "coefficients": COEFFICIENTS,
    "bins": 1000,
    "thresholds": (0.25, 0.5),
}


def task_of(**options: Any) -> Task:
    schema = Schema("table", "", (), {}, FEATURES)
    declared = {**MODEL, **options}
    return planned(Task("t", schema, {}, training=Training(), privacy=OPEN, rounds=Rounds(6, 6), analysis=declared))


@pytest.fixture(scope="module")
def files(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    return site_files(shared_data("rand-hie") / "randhie.csv", tmp_path_factory.mktemp("sites"))


@pytest.fixture(scope="module")
def rows(files: List[Path]) -> Dict[str, np.ndarray]:
    """All rows that lack nothing: outcome, probability, sex."""
    kept = []
    for path in files:
        with path.open() as file:
            kept += [r for r in csv.DictReader(file) if r["xage"] and r["ghindx"] and r["female"] and r["child"]]
    sums = [1.5 - 0.2 * float(r["xage"]) + 0.01 * float(r["ghindx"]) + 0.1 * float(r["female"]) for r in kept]
    return {
        "y": np.array([int(r["child"]) for r in kept]),
        "p": 1 / (1 + np.exp(-np.array(sums))),
        "female": np.array([int(r["female"]) for r in kept]),
    }


def found(files: List[Path], method: str, **options: Any) -> Result:
    task = task_of(**options)
    return computed(task, [load_for(path, task) for path in files], method)


def table(result: Result, name: str) -> List[Dict[str, Any]]:
    each = next(each for each in result.tables if each.name == name)
    return [dict(zip(each.columns, row)) for row in each.rows]


@pytest.mark.parametrize("method", METHODS)
def test_discrimination_and_calibration_are_those_of_all_rows(
    files: List[Path], rows: Dict[str, np.ndarray], method: str
) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the gateway, not on a node")
    result = found(files, method, by="female")
    for row, chosen in zip(
        table(result, "performance"), [rows["female"] >= 0, rows["female"] == 0, rows["female"] == 1]
    ):
        y, p = rows["y"][chosen], rows["p"][chosen]
        assert (row["records"], row["with the outcome"]) == (len(y), int(y.sum()))
        assert row["AUC"] == pytest.approx(metrics.roc_auc_score(y, np.floor(p * 1000)), abs=1e-12)
        assert row["AUC"] == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-3)
        assert row["from"] < row["AUC"] <= row["to"] <= 1
        assert row["Brier score"] == pytest.approx(metrics.brier_score_loss(y, p), abs=1e-6)
        assert row["expected / observed"] == pytest.approx(p.sum() / y.sum(), rel=1e-6)


def test_bands_and_thresholds_are_counted(files: List[Path], rows: Dict[str, np.ndarray]) -> None:
    result = found(files, "plain")
    for number, band in enumerate(table(result, "calibration")):
        inside = np.minimum((rows["p"] * 1000).astype(int) // 100, 9) == number
        assert band["records"] == inside.sum()
        if band["records"]:
            assert band["observed"] == pytest.approx(rows["y"][inside].mean())
            assert band["from (95 %)"] <= band["observed"] <= band["to (95 %)"]
    for row, threshold in zip(table(result, "thresholds"), (0.25, 0.5)):
        positive = np.floor(rows["p"] * 1000) >= threshold * 1000
        assert row["score from"] == threshold
        assert row["sensitivity"] == pytest.approx(positive[rows["y"] == 1].mean())
        assert row["specificity"] == pytest.approx((~positive)[rows["y"] == 0].mean())
        assert row["PPV"] == pytest.approx(rows["y"][positive].mean())
        assert row["NPV"] == pytest.approx(1 - rows["y"][~positive].mean())


def test_a_score_that_is_no_probability_is_ranked_only(files: List[Path], rows: Dict[str, np.ndarray]) -> None:
    result = found(files, "plain", score="xage", coefficients={}, thresholds=(18,))
    assert [each.name for each in result.tables] == ["performance", "thresholds", "confusion"]
    assert "Brier score" not in result.tables[0].columns
    assert table(result, "performance")[0]["AUC"] < 0.05, "the older, the less a child"


def test_an_interval_holds_what_it_says() -> None:
    draw = np.random.default_rng(7)
    truth = 0.5 * (1 + math.erf(0.5))  # two normal distributions whose means are 1 apart, over sqrt(2)
    held = 0
    for _ in range(400):
        ill, well = draw.normal(1, 1, 60), draw.normal(0, 1, 140)
        edges = np.linspace(-5, 6, 200)
        counts = [np.histogram(each, edges)[0] + draw.normal(0, 0.2, 199) for each in (well, ill)]
        area = area_of(counts[0], counts[1], 0.2)
        assert area is not None
        held += area[1] <= truth <= area[2]
    assert 0.92 <= held / 400 <= 0.99


def test_noise_that_hides_it_leaves_it_out() -> None:
    counts = np.full(50, 4.0)
    assert area_of(counts, counts, 0.0) is not None
    assert area_of(counts, counts, 10.0) is None
    assert area_of(counts, np.zeros(50), 0.0) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outcome": "xage"}, "outcome: 'xage': expected a column with 2 categories"),
        ({"outcome": "chid"}, "did you mean 'child'?"),
        ({"score": "xage"}, "score: either the column with the score, or coefficients"),
        ({"coefficients": {}}, "score: either the column with the score, or coefficients"),
        ({"coefficients": {"female = 2": 1.0}}, "is no number, no level"),
        ({"coefficients": {"child = 1": 1.0}}, "'child = 1' is the outcome"),
        ({"coefficients": {"xage": 1e9}}, "expected a number up to 1e6"),
        ({"by": "ghindx"}, "by: 'ghindx': expected a column with some categories"),
        ({"bins": 1}, "bins: 1"),
    ],
)
def test_mistakes_are_named(options: Dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(").replace("?", r"\?")):
        task_of(**options)


def test_of_missing_values_no_record_is_guessed(files: List[Path]) -> None:
    task = task_of()
    read = load_for(files[1], task)
    data = read.take(~np.isnan(read.x).any(axis=1))
    x = data.x.copy()
    x[:7, 0] = np.nan
    x[7:11, 4:] = 0.0
    result = computed(task, [Dataset(x, data.y)], "plain")
    assert table(result, "performance")[0]["records"] == data.records - 11
    assert any("11 records without score, outcome or group" in note for note in result.notes)
