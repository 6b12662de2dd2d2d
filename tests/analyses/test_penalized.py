"""Ridge, lasso and elastic net against scikit-learn, and at the minimum of what they make least."""

import csv
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from regression_rows import MADE, fit, fitted, made, of_rows, plain_inputs, task_of
from result_cells import numeric
from test_oracles import computed

from orchestrator.analyses.base import Result, Total
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import load_for
from orchestrator.demo import heart
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.wire.schema import Feature, Schema

pytest.importorskip("scipy", reason="results are made at gateways, which have it")


def objective(x: np.ndarray, y: np.ndarray, b: np.ndarray, family: str, strength: float, mix: float) -> float:
    """What glmnet makes least, over inputs as they are penalized."""
    eta = x @ b
    if family == "linear":
        loss = ((y - eta) ** 2).mean() / 2
    elif family == "logistic":
        loss = (np.logaddexp(0, eta) - y * eta).mean()
    else:
        loss = (np.exp(eta) - y * eta).mean() if family == "poisson" else (eta + y * np.exp(-eta)).mean()
    return float(loss + strength * (mix * np.abs(b[1:]).sum() + (1 - mix) / 2 * (b[1:] ** 2).sum()))


def scaled_inputs(columns: Dict[str, np.ndarray]) -> np.ndarray:
    x = plain_inputs(columns)
    x[:, 1], x[:, 2] = (x[:, 1] - 1) / 4, (x[:, 2] - 50) / 40
    return x


def over_ranges(result: Result, place: int) -> np.ndarray:
    """Coefficients of a column of the table, of inputs as they are penalized."""
    found = np.array([numeric(row[1 + place]) for row in result.tables[0].rows])
    found[0] += found[1] * 1 + found[2] * 50
    found[1:3] *= [4, 40]
    return found


PENALIZED = [("ridge", 0.0), ("lasso", 1.0), ("elasticnet", 0.3)]


@pytest.mark.parametrize(("penalty", "mix"), PENALIZED)
def test_penalized_linear_models_are_scikit_learns(penalty: str, mix: float) -> None:
    models = pytest.importorskip("sklearn.linear_model")
    columns, patients = made()
    strengths = (4.0, 0.5, 0.05)
    options: Dict[str, Any] = {"mix": mix} if penalty == "elasticnet" else {}
    result = fitted(columns, patients, outcome="cost", penalty=penalty, strengths=strengths, **options)
    x, y = scaled_inputs(columns), columns["cost"]
    counts = []
    for place, strength in enumerate(strengths):
        if penalty == "ridge":
            theirs = models.Ridge(strength * len(y), tol=1e-14).fit(x[:, 1:], y)
        else:
            theirs = models.ElasticNet(strength, l1_ratio=mix, tol=1e-14, max_iter=100_000).fit(x[:, 1:], y)
        beta = np.array([theirs.intercept_, *theirs.coef_])
        np.testing.assert_allclose(over_ranges(result, place), beta, rtol=1e-7, atol=1e-9)
        counts.append(int(np.count_nonzero(theirs.coef_)))
        assert result.tables[1].rows[place][2] == pytest.approx(((y - x @ beta) ** 2).sum(), rel=1e-9)
    assert [row[:2] for row in result.tables[1].rows] == list(zip(strengths, counts))
    assert result.tables[0].columns == ("term", "at 4", "at 0.5", "at 0.05"), "no standard errors"
    assert counts[0] < 4 or penalty == "ridge"


@pytest.mark.parametrize(("penalty", "mix"), PENALIZED)
@pytest.mark.parametrize("family", ["logistic", "poisson", "gamma"])
def test_penalized_models_are_at_their_minimum(family: str, penalty: str, mix: float) -> None:
    """Where the slope of a coefficient is less than the penalty's, at 0; else where both cancel out."""
    columns, patients = made()
    outcome = {"logistic": "sick", "poisson": "count", "gamma": "cost"}[family]
    options: Dict[str, Any] = {"mix": mix} if penalty == "elasticnet" else {}
    strengths = (0.2, 0.02)
    result = fitted(columns, patients, outcome=outcome, family=family, penalty=penalty, strengths=strengths, **options)
    x, y = scaled_inputs(columns), columns[outcome].astype(float)
    for place, strength in enumerate(strengths):
        beta = over_ranges(result, place)
        mean = 1 / (1 + np.exp(-x @ beta)) if family == "logistic" else np.exp(x @ beta)
        residual = (y - mean) / (mean if family == "gamma" else 1.0)
        slope = x.T @ residual / len(y) - strength * (1 - mix) * np.array([0.0, *beta[1:]])
        free = np.abs(beta) > 1e-12
        wanted = strength * mix * np.sign(beta) * (np.arange(len(beta)) > 0)
        np.testing.assert_allclose(slope[free], wanted[free], atol=1e-7)
        assert (np.abs(slope[~free]) <= strength * mix + 1e-9).all()
        least = objective(x, y, beta, family, strength, mix)
        draw = np.random.default_rng(1)
        others = [beta + draw.normal(0, 0.01, len(beta)) for _ in range(20)]
        assert all(objective(x, y, other, family, strength, mix) > least for other in others)
    assert not [note for note in result.notes if "converge" in note]


@pytest.mark.parametrize("family", ["poisson", "gamma", "logistic"])
def test_ridges_of_counts_costs_and_events_are_scikit_learns(family: str) -> None:
    models = pytest.importorskip("sklearn.linear_model")
    columns, patients = made()
    outcome = {"logistic": "sick", "poisson": "count", "gamma": "cost"}[family]
    result = fitted(columns, patients, outcome=outcome, family=family, penalty="ridge", strengths=(0.1,))
    x, y = scaled_inputs(columns)[:, 1:], columns[outcome]
    if family == "logistic":
        theirs = models.LogisticRegression(C=1 / (0.1 * len(y)), tol=1e-12, max_iter=10_000).fit(x, y)
    else:
        of = models.PoissonRegressor if family == "poisson" else models.GammaRegressor
        theirs = of(alpha=0.1, tol=1e-12, max_iter=10_000).fit(x, y)
    beta = np.array([float(np.ravel(theirs.intercept_)[0]), *np.ravel(theirs.coef_)])
    np.testing.assert_allclose(over_ranges(result, 0), beta, rtol=1e-4, atol=1e-6)


def test_strengths_that_no_round_was_left_for_are_said() -> None:
    columns, patients = made()
    analysis = analysis_of(task_of(Schema("table", "", (), {}, MADE), **PATH))
    data, asked, state = of_rows(columns, MADE, patients), analysis.begin(0), {}
    for _ in range(10):
        sums = total(unit_vectors(analysis, asked, data, "none"), analysis.sums.size)
        asked, folded = analysis.fold(asked, Total(sums))
        state.update(folded.state)
    result = analysis.result(state, "records")
    assert "no round was left for 2 of 3 strengths" in result.notes
    assert result.tables[0].columns == ("term", "at 0.1")


PATH: Dict[str, Any] = {
    "outcome": "count",
    "family": "poisson",
    "inputs": ("a", "b", "arm"),
    "penalty": "lasso",
    "strengths": (0.1, 0.05, 0.02),
    "tolerance": 0.0,
}


HEART = (
    Feature("age", 20, 90),
    Feature("trestbps", 60, 220),
    Feature("thalach", 60, 220),
    Feature("oldpeak", -4, 8),
    Feature("sex", categories=("0", "1")),
    Feature("exang", categories=("0", "1")),
    Feature("ill", categories=("0", "1")),
)


def test_a_path_of_four_hospitals_is_scikit_learns(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    models = pytest.importorskip("sklearn.linear_model")
    task = task_of(
        Schema("table", "", (), {}, HEART), outcome="ill", family="logistic", penalty="ridge", strengths=(0.2, 0.01)
    )
    sites, x, y = [], [], []
    for name in heart.HOSPITALS:
        lines = (shared_data("heart-disease") / heart.file_of(name)).read_text().split()
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(feature.name for feature in HEART)
            for cells in (dict(zip(heart.COLUMNS, line.split(","))) for line in lines):
                row = {feature.name: cells[feature.name] for feature in HEART[:-1]}
                levels = {
                    name: row[name] if row[name] == "?" else str(int(float(row[name]))) for name in ("sex", "exang")
                }
                row.update(levels, ill=str(int(cells["num"] != "0")))
                writer.writerow(row[feature.name] for feature in HEART)
                if "?" not in row.values():
                    ends = [(feature.name, *feature.range) for feature in HEART[:4]]
                    numbers = [
                        2 * (min(max(float(row[n]), low), high) - low) / (high - low) - 1 for n, low, high in ends
                    ]
                    x.append([*numbers, float(row["sex"]), float(row["exang"])])
                    y.append(int(row["ill"]))
        sites.append(load_for(tmp_path / f"{name}.csv", task))
    result = computed(task, sites, "secure")
    assert fit(result)["records used"] == len(y) > 800
    for place, strength in enumerate((0.2, 0.01)):
        theirs = models.LogisticRegression(C=1 / (strength * len(y)), tol=1e-12, max_iter=10_000).fit(x, y)
        ours = [numeric(row[1 + place]) for row in result.tables[0].rows[1:]]
        half = [(feature.range[1] - feature.range[0]) / 2 for feature in HEART[:4]]
        np.testing.assert_allclose(np.array(ours) * [*half, 1, 1], theirs.coef_[0], rtol=1e-5)
        mean = theirs.predict_proba(x)[:, 1]
        deviance = -2 * np.log(np.where(np.array(y) == 1, mean, 1 - mean)).sum()
        assert result.tables[1].rows[place][2] == pytest.approx(deviance, rel=1e-7)
