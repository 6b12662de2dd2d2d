"""Means of a model with a logarithm as link beyond the range of the outcome, as an exposure makes them."""

import math
from dataclasses import replace
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from regression_rows import of_rows, task_of
from result_cells import numeric
from test_oracles import computed

from orchestrator.analyses.base import Result, Total
from orchestrator.analyses.registry import analysis_of
from orchestrator.analyses.regression import Regression
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema

pytest.importorskip("scipy", reason="results are made at gateways, which have it")

COUNTS = (Feature("count", 0, 8), Feature("a", -1, 1), Feature("time", 0.5, 40))
SCHEMA = Schema("table", "", (), {}, COUNTS)


def rows(count: int = 300) -> Dict[str, np.ndarray]:
    draw = np.random.default_rng(5)
    a, time = draw.uniform(-1, 1, count), draw.uniform(0.5, 40, count)
    return {"count": np.minimum(draw.poisson(0.6 * time), 8).astype(float), "a": a, "time": time}


def column(result: Result, name: str) -> List[float]:
    table = result.tables[0]
    return [numeric(row[table.columns.index(name)]) for row in table.rows]


def figure(result: Result, name: str) -> float:
    return next(numeric(row[1]) for row in result.tables[1].rows if row[0] == name)


@pytest.mark.parametrize("method", ["plain", "secure"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_means_above_the_largest_count_are_those_of_maximum_likelihood(alpha: float, method: str) -> None:
    """By Newton's method over all rows."""
    columns = rows()
    counts, time = columns["count"], columns["time"]
    design, expected = np.stack([np.ones(300), columns["a"]], axis=1), np.array([math.log(0.3), 0.0])
    for _ in range(50):
        mean = np.exp(design @ expected) * time
        information = (design * (mean / (1 + alpha * mean))[:, np.newaxis]).T @ design
        expected = expected + np.linalg.solve(information, design.T @ ((counts - mean) / (1 + alpha * mean)))
    assert mean.max() > 8
    family: Dict[str, Any] = {"family": "negative-binomial", "alpha": alpha} if alpha else {"family": "poisson"}
    task = task_of(SCHEMA, outcome="count", inputs=("a",), exposure="time", tolerance=1e-12, **family)
    data = of_rows(columns, COUNTS)
    result = computed(task, [data.take(np.arange(300) % 3 == place) for place in range(3)], method)
    np.testing.assert_allclose(column(result, "estimate"), expected, rtol=1e-7)
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose(column(result, "standard error"), errors, rtol=1e-7)


def test_gamma_means_with_an_exposure_are_those_of_maximum_likelihood() -> None:
    """Outcomes that do not grow with the exposure, so that means are far beyond their range."""
    features = (Feature("cost", 1, 20), Feature("a", -1, 1), Feature("time", 0.1, 1000))
    draw = np.random.default_rng(7)
    a, time = draw.uniform(-1, 1, 200), np.exp(draw.uniform(math.log(0.1), math.log(1000), 200))
    cost = draw.uniform(1, 20, 200)
    options = {"outcome": "cost", "family": "gamma", "inputs": ("a",), "exposure": "time"}
    task = task_of(Schema("table", "", (), {}, features), rounds=300, tolerance=1e-11, **options)
    result = computed(task, [of_rows({"cost": cost, "a": a, "time": time}, features)], "plain")
    design = np.stack([np.ones(200), a], axis=1)
    mean = np.exp(design @ np.array(column(result, "estimate"))) * time
    assert mean.max() > 200
    np.testing.assert_allclose(design.T @ (cost / mean - 1), 0.0, atol=1e-6)


@pytest.mark.parametrize("family", ["poisson", "negative-binomial"])
def test_with_noise_the_largest_count_bounds_means_and_a_note_says_so(family: str) -> None:
    """The bound is what noise is as large as."""
    alpha = {} if family == "poisson" else {"alpha": 1.0}
    task = task_of(SCHEMA, outcome="count", inputs=("a",), exposure="time", family=family, **alpha)
    noisy, exact = analysis_of(replace(task, privacy=Privacy("record", sampling_rate=1.0))), analysis_of(task)
    assert isinstance(noisy, Regression)
    assert isinstance(exact, Regression)
    assert noisy.family.gradient_scale == 8 < exact.family.gradient_scale
    asked, data = noisy.begin(0), of_rows(rows(), COUNTS)
    for analysis, deviation in ((noisy, 0.5), (exact, 0.0)):
        found = total(unit_vectors(analysis, asked, data, "record"), analysis.sums.size)
        notes = analysis.result(analysis.fold(asked, Total(found, deviation))[1].state, "records").notes
        assert any(note.startswith("with noise a mean above 8") for note in notes) == bool(deviation)


@pytest.mark.parametrize("method", ["plain", "secure"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_robust_errors_lose_no_digits_to_means_that_could_be(alpha: float, method: str) -> None:
    """Masked sums have as many binary places whatever the largest mean, and of the square of its residual too few."""
    draw = np.random.default_rng(1)
    a, time = draw.uniform(-1, 1, 300), np.exp(draw.uniform(math.log(0.01), math.log(100), 300))
    counts = draw.poisson(0.6 * np.exp(0.5 * a) * time).astype(float)
    features = (Feature("count", 0, 10_000), Feature("a", -1, 1), Feature("time", 0.01, 100))
    family: Dict[str, Any] = {"family": "negative-binomial", "alpha": alpha} if alpha else {"family": "poisson"}
    options = {"outcome": "count", "inputs": ("a",), "exposure": "time", "errors": "hc0", "rounds": 60, **family}
    data = of_rows({"count": counts, "a": a, "time": time}, features)
    task = task_of(Schema("table", "", (), {}, features), **options)
    result = computed(task, [data.take(np.arange(300) % 3 == place) for place in range(3)], method)
    design = np.stack([np.ones(300), a], axis=1)
    mean = np.exp(design @ np.array(column(result, "estimate"))) * time
    inverse = np.linalg.inv((design * (mean / (1 + alpha * mean))[:, np.newaxis]).T @ design)
    parts = design * ((counts - mean) / (1 + alpha * mean))[:, np.newaxis]
    expected = np.sqrt(np.diag(inverse @ parts.T @ parts @ inverse))
    np.testing.assert_allclose(column(result, "standard error"), expected, rtol=1e-6)


def test_gamma_robust_errors_lose_no_digits_either() -> None:
    features = (Feature("cost", 0.01, 10_000), Feature("a", -1, 1), Feature("time", 0.01, 100))
    draw = np.random.default_rng(2)
    a, time = draw.uniform(-1, 1, 300), np.exp(draw.uniform(math.log(0.01), math.log(100), 300))
    cost = np.clip(5 * np.exp(0.5 * a) * time * draw.gamma(20, 1 / 20, 300), 0.01, 10_000)
    options = {"outcome": "cost", "family": "gamma", "inputs": ("a",), "exposure": "time", "errors": "hc0"}
    task = task_of(Schema("table", "", (), {}, features), rounds=100, tolerance=1e-9, **options)
    result = computed(task, [of_rows({"cost": cost, "a": a, "time": time}, features)], "secure")
    design = np.stack([np.ones(300), a], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    parts = design * (cost / (np.exp(design @ np.array(column(result, "estimate"))) * time) - 1)[:, np.newaxis]
    expected = np.sqrt(np.diag(inverse @ parts.T @ parts @ inverse))
    np.testing.assert_allclose(column(result, "standard error"), expected, rtol=1e-6)


@pytest.mark.parametrize("times", [(0.5, 2), (0.1, 10), (0.01, 100)])
def test_the_dispersion_of_gamma_models_loses_no_digits(times: Tuple[float, float]) -> None:
    """Of masked sums, where outcomes may be many times as large as their means."""
    features = (Feature("cost", 1, 1e6), Feature("a", -1, 1), Feature("time", *times))
    draw = np.random.default_rng(2)
    a, time = draw.uniform(-1, 1, 300), np.exp(draw.uniform(-0.6, 0.6, 300))
    columns = {"cost": np.maximum(5 * np.exp(0.5 * a) * time * draw.gamma(20, 1 / 20, 300), 1), "a": a, "time": time}
    task = task_of(
        Schema("table", "", (), {}, features),
        outcome="cost",
        family="gamma",
        inputs=("a",),
        exposure="time",
        rounds=100,
    )
    data = of_rows(columns, features)
    result = computed(task, [data.take(np.arange(300) % 3 == place) for place in range(3)], "secure")
    mean = np.exp(np.stack([np.ones(300), a], axis=1) @ np.array(column(result, "estimate"))) * time
    expected = float(((columns["cost"] / mean - 1) ** 2).sum()) / 298
    assert figure(result, "dispersion") == pytest.approx(expected, rel=1e-5)


def test_plain_sums_have_their_deviance_however_wide_ranges_are() -> None:
    features = (Feature("cost", 0.01, 10_000), Feature("a", -1, 1), Feature("time", 1e-6, 1e6))
    draw = np.random.default_rng(2)
    a = draw.uniform(-1, 1, 300)
    columns = {"cost": 5 * np.exp(0.5 * a) * draw.gamma(20, 1 / 20, 300), "a": a, "time": np.ones(300)}
    options = {"outcome": "cost", "family": "gamma", "inputs": ("a",), "exposure": "time", "rounds": 300}
    result = computed(task_of(Schema("table", "", (), {}, features), **options), [of_rows(columns, features)], "plain")
    mean = np.exp(np.stack([np.ones(300), a], axis=1) @ np.array(column(result, "estimate")))
    expected = -2 * np.sum(np.log(columns["cost"] / mean) - (columns["cost"] - mean) / mean)
    assert figure(result, "deviance") == pytest.approx(expected, rel=1e-6)


def test_where_digits_are_lost_all_the_same_no_robust_error_is_shown() -> None:
    """The range of an input is a thousand times what it has, so that means could be e to the 500."""
    features = (Feature("count", 0, 1e6), Feature("a", -1000, 1000))
    draw = np.random.default_rng(3)
    a = draw.uniform(-1, 1, 300)
    columns = {"count": draw.poisson(np.exp(1 + 0.5 * a)).astype(float), "a": a}
    options = {"outcome": "count", "family": "poisson", "inputs": ("a",), "rounds": 60}
    for errors, shown in (("model", True), ("hc0", False)):
        task = task_of(Schema("table", "", (), {}, features), errors=errors, **options)
        result = computed(task, [of_rows(columns, features)], "secure")
        assert all((row[2] is not None) == shown for row in result.tables[0].rows)
        assert any("robust errors: narrow the ranges" in note for note in result.notes) != shown
