"""Regressions against statsmodels' figures, scikit-learn and textbook formulas, over the sites of rand-hie and respiratory."""

import csv
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from regression_rows import MADE, fit, fitted, made, of_rows, plain_inputs, task_of
from result_cells import numeric
from statsmodels_figures import ALPHA, ALPHA_ERROR, FIGURES
from test_oracles import computed, site_files

from orchestrator.analyses.base import Result, as_pairs, from_pairs
from orchestrator.analyses.dispersed import polygamma
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import Dataset, load_for
from orchestrator.node.analysed import unit_vectors
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

pytest.importorskip("scipy", reason="results are made at gateways, which have it")

HIE = (
    Feature("mdvis", 0, 100),
    Feature("income", 1, 40_000),
    Feature("xage", 0, 100),
    Feature("ghindx", 0, 100),
    Feature("num", 1, 20),
    Feature("female", categories=("0", "1")),
)
BY = ("xage", "ghindx", "female")
VISITS = (
    Feature("outcome", 0, 1),
    Feature("event", categories=("0", "1")),
    Feature("age", 0, 100),
    Feature("baseline", categories=("0", "1")),
    Feature("treat", categories=("A", "P")),
    Feature("sex", categories=("F", "M")),
)
OF_HIE: Dict[str, Dict[str, Any]] = {
    "linear": {},
    "linear hc0": {"errors": "hc0"},
    "linear hc1": {"errors": "hc1"},
    "poisson hc0": {"family": "poisson", "errors": "hc0"},
    "poisson interaction": {"family": "poisson", "interactions": (("xage", "female"),)},
    "poisson exposure num": {"family": "poisson", "exposure": "num"},
    "poisson frequency num": {"family": "poisson", "weights": "num"},
    "linear frequency num": {"weights": "num"},
    "linear precision num": {"weights": "num", "weighting": "precision"},
    "linear precision hc1 num": {"weights": "num", "weighting": "precision", "errors": "hc1"},
    "negative-binomial 2": {"family": "negative-binomial", "alpha": 2.0},
    "negative-binomial 2 hc0": {"family": "negative-binomial", "alpha": 2.0, "errors": "hc0"},
    "negative-binomial": {"family": "negative-binomial", "rounds": 60},
    "gamma": {"family": "gamma", "outcome": "income"},
    "gamma hc0": {"family": "gamma", "outcome": "income", "errors": "hc0"},
}
OF_VISITS: Dict[str, Dict[str, Any]] = {
    "respiratory clustered": {"outcome": "event", "family": "logistic", "errors": "clustered"},
    "respiratory linear clustered": {"outcome": "outcome", "errors": "clustered"},
}


def hie_task(**options: Any) -> Task:
    return task_of(Schema("table", "", (), {}, HIE), **{"outcome": "mdvis", "inputs": BY, **options})


def visits_task(**options: Any) -> Task:
    schema = Schema("table", "", (), {}, VISITS, patient="id")
    return task_of(schema, inputs=("age", "baseline", "treat", "sex"), **options)


@pytest.fixture(scope="module")
def hie(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> List[Dataset]:
    files = site_files(shared_data("rand-hie") / "randhie.csv", tmp_path_factory.mktemp("hie"))
    return [load_for(path, hie_task()) for path in files]


@pytest.fixture(scope="module")
def visits(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> List[Dataset]:
    """Two centres, whose patients have the same numbers."""
    with (shared_data("respiratory") / "respiratory.csv").open() as file:
        rows = [{**row, "event": row["outcome"]} for row in csv.DictReader(file)]
    found = []
    for center in ("1", "2"):
        path = tmp_path_factory.mktemp("visits") / f"{center}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row for row in rows if row["center"] == center)
        found.append(load_for(path, visits_task(outcome="outcome")))
    return found


def column(result: Result, name: str) -> List[float]:
    table = result.tables[0]
    return [numeric(row[table.columns.index(name)]) for row in table.rows]


def check(result: Result, name: str) -> None:
    theirs, ours = FIGURES[name], fit(result)
    np.testing.assert_allclose(column(result, "estimate"), theirs.estimates, rtol=1e-6)
    np.testing.assert_allclose(column(result, "standard error"), theirs.errors, rtol=1e-6)
    if theirs.deviance is not None:
        assert ours["deviance"] == pytest.approx(theirs.deviance, rel=1e-8)
    if "precision" in name:
        assert "AIC" not in ours, "it would have the logarithms of weights in it"
    elif not name.startswith("gamma"):
        assert ours["log-likelihood"] == pytest.approx(theirs.likelihood, rel=1e-8)
        parameters = 2 if "linear" in name else 0  # statsmodels counts no dispersion
        assert ours["AIC"] - parameters == pytest.approx(theirs.aic, rel=1e-8)


@pytest.mark.parametrize("name", OF_HIE)
def test_of_six_sites_as_statsmodels_of_all_rows(hie: List[Dataset], name: str) -> None:
    result = computed(hie_task(**OF_HIE[name]), hie, "secure" if "hc" in name else "plain")
    check(result, name)
    assert not [note for note in result.notes if "converge" in note]
    if name == "negative-binomial":
        assert fit(result)["alpha"] == pytest.approx(ALPHA, rel=1e-6)


@pytest.mark.parametrize("name", OF_VISITS)
def test_of_patients_with_several_visits_as_statsmodels(visits: List[Dataset], name: str) -> None:
    result = computed(visits_task(**OF_VISITS[name]), visits, "secure")
    check(result, name)
    assert "errors are of 111 patients" in result.notes


def test_the_error_of_alpha_is_near_that_of_all_parameters_together(hie: List[Dataset]) -> None:
    """statsmodels inverts the whole information; alpha and coefficients depend on each other to second order."""
    found = fit(computed(hie_task(family="negative-binomial", rounds=60), hie, "plain"))
    assert found["standard error of alpha"] == pytest.approx(ALPHA_ERROR, rel=0.01)


def test_digamma_and_trigamma_are_scipys() -> None:
    from scipy.special import digamma
    from scipy.special import polygamma as of_scipy

    values = np.concatenate([np.logspace(-4, 7, 400), np.arange(1.0, 30.0)])
    first, second = polygamma(values)
    np.testing.assert_allclose(first, digamma(values), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(second, of_scipy(1, values), rtol=1e-12)


def test_a_gamma_models_likelihood_is_that_of_its_density() -> None:
    from scipy import stats

    columns, patients = made()
    result = fitted(columns, patients, outcome="cost", family="gamma")
    mean = np.exp(plain_inputs(columns) @ column(result, "estimate"))
    deviance = 2 * ((columns["cost"] - mean) / mean - np.log(columns["cost"] / mean)).sum()
    shape = len(mean) / deviance
    likelihood = stats.gamma.logpdf(columns["cost"], shape, scale=mean / shape).sum()
    found = fit(result)
    assert found["deviance"] == pytest.approx(deviance, rel=1e-9)
    assert found["log-likelihood"] == pytest.approx(likelihood, rel=1e-9)
    assert found["AIC"] == pytest.approx(2 * 6 - 2 * likelihood, rel=1e-9)
    assert found["dispersion"] == pytest.approx((((columns["cost"] - mean) / mean) ** 2).sum() / (400 - 5), rel=1e-9)


def test_an_offset_of_a_linear_model_is_subtracted_from_the_outcome() -> None:
    columns, patients = made()
    result = fitted(columns, patients, outcome="cost", offset="shift")
    theirs = np.linalg.lstsq(plain_inputs(columns), columns["cost"] - columns["shift"], rcond=None)[0]
    np.testing.assert_allclose(column(result, "estimate"), theirs, rtol=1e-9)
    assert "R squared" not in fit(result)


PAIRS: Dict[str, Tuple[Tuple[Tuple[str, str], ...], Callable[[Dict[str, np.ndarray]], List[np.ndarray]]]] = {
    "two numbers": ((("a", "b"),), lambda c: [c["a"] * c["b"]]),
    "a square": ((("a", "a"),), lambda c: [c["a"] ** 2]),
    "a category and a number": ((("arm", "a"),), lambda c: [(c["arm"] == 1) * c["a"], (c["arm"] == 2) * c["a"]]),
    "two categories": ((("sick", "arm"),), lambda c: [c["sick"] * (c["arm"] == 1), c["sick"] * (c["arm"] == 2)]),
    "two pairs": ((("a", "b"), ("b", "sick")), lambda c: [c["a"] * c["b"], c["b"] * c["sick"]]),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_products_are_of_the_columns_in_their_own_units(pair: str) -> None:
    columns, patients = made()
    interactions, products = PAIRS[pair]
    result = fitted(columns, patients, outcome="cost", inputs=("a", "b", "arm", "sick"), interactions=interactions)
    x = np.stack([*plain_inputs(columns).T, columns["sick"], *products(columns)], axis=1)
    beta = np.linalg.solve(x.T @ x, x.T @ columns["cost"])
    spread = ((columns["cost"] - x @ beta) ** 2).sum() / (len(x) - len(beta))
    np.testing.assert_allclose(column(result, "estimate"), beta, rtol=1e-7)
    errors = np.sqrt(spread * np.diag(np.linalg.inv(x.T @ x)))
    np.testing.assert_allclose(column(result, "standard error"), errors, rtol=1e-7)


@pytest.mark.parametrize("errors", ["model", "hc0", "hc1", "clustered"])
@pytest.mark.parametrize("family", ["linear", "logistic", "gamma"])
def test_a_frequency_is_so_many_records(family: str, errors: str) -> None:
    columns, patients = made()
    columns["times"][::7] = 0
    outcome = {"linear": "cost", "logistic": "sick", "gamma": "cost"}[family]
    times = columns["times"].astype(int)
    weighted = fitted(columns, patients, outcome=outcome, family=family, errors=errors, weights="times")
    repeated = {name: np.repeat(values, times) for name, values in columns.items()}
    alone = fitted(repeated, np.repeat(patients, times), outcome=outcome, family=family, errors=errors)
    for name in ("estimate", "standard error", "from", "p"):
        np.testing.assert_allclose(column(weighted, name), column(alone, name), rtol=1e-6, atol=1e-12)
    ours, theirs = fit(weighted), fit(alone)
    assert ours["sum of weights"] == theirs["records used"] == times.sum()
    assert ours["records left out"] == (times == 0).sum()
    for name in ("deviance", "log-likelihood", "AIC"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-9)


def test_clustered_errors_of_one_record_each_are_robust_ones() -> None:
    """But for factors: n / (n - 1) (n - 1) / (n - k) is that of hc1."""
    columns, _ = made()
    alone = np.arange(400)
    one = fitted(columns, alone, outcome="sick", family="logistic", errors="clustered")
    other = fitted(columns, alone, outcome="sick", family="logistic", errors="hc1")
    np.testing.assert_allclose(column(one, "standard error"), column(other, "standard error"), rtol=1e-9)


def test_a_patient_of_thousands_of_records_stays_within_the_bound_and_it_is_said() -> None:
    columns, _ = made(6000)
    columns["sick"] = (np.arange(6000) < 3000).astype(int)
    patients = np.repeat([0, 1, 2, 3], [3000, 2998, 1, 1])
    options: Dict[str, Any] = {
        "outcome": "sick",
        "family": "logistic",
        "inputs": ("a", "b", "arm"),
        "errors": "clustered",
    }
    analysis = analysis_of(task_of(Schema("table", "", (), {}, MADE, patient="who"), **options))
    asked = as_pairs(np.append(from_pairs(analysis.begin(0))[:-2], [1.0, 0.0]))
    found = np.concatenate(list(unit_vectors(analysis, asked, of_rows(columns, MADE, patients), "none")))
    assert len(found) == 4
    assert np.abs(found).max() <= 1
    assert np.linalg.norm(found, axis=1).max() <= analysis.sums.bound
    notes = fitted(columns, patients, **options).notes
    assert "the part of 2 patients in the errors was cut, so that they are too small" in notes
    assert "of fewer than 30 patients clustered errors are too small" in notes


def test_without_the_further_round_nothing_is_said_of_errors() -> None:
    columns, patients = made()
    result = fitted(columns, patients, outcome="sick", family="logistic", errors="hc1", rounds=2)
    assert all(cell is None for row in result.tables[0].rows for cell in row[1:])
    assert any("not converged" in note for note in result.notes)


@pytest.mark.parametrize("family", ["gamma", "negative-binomial", "poisson"])
def test_products_that_say_the_same_are_named(family: str) -> None:
    columns, patients = made()
    columns["sick"] = np.where(columns["arm"] == 1, columns["sick"], 0)
    outcome = "cost" if family == "gamma" else "count"
    pairs = (("arm", "sick"),)
    result = fitted(columns, patients, outcome=outcome, family=family, inputs=("a", "arm", "sick"), interactions=pairs)
    (note,) = [note for note in result.notes if "say the same" in note]
    assert note.startswith("sick = yes, arm = y : sick = yes, arm = z : sick = yes: these say the same")
    shown = {row[0]: row[1] for row in result.tables[0].rows}
    assert shown["arm = y : sick = yes"] is None
    assert shown["a"] is not None


EMPTY: Dict[str, Dict[str, Any]] = {
    "linear": {"outcome": "cost", "errors": "clustered"},
    "gamma": {"outcome": "cost", "family": "gamma", "errors": "hc1"},
    "negative binomial": {"outcome": "count", "family": "negative-binomial", "errors": "hc0", "weights": "times"},
    "lasso": {"outcome": "count", "family": "poisson", "penalty": "lasso", "strengths": (0.1, 0.01)},
    "ridge": {"outcome": "cost", "penalty": "ridge", "strengths": (0.1,)},
}


@pytest.mark.parametrize("known", [0, 1])
@pytest.mark.parametrize("kind", EMPTY)
def test_a_run_over_next_to_no_records_ends(kind: str, known: int) -> None:
    columns, patients = made(40)
    columns["a"][known:] = np.nan
    result = fitted(columns, patients, **EMPTY[kind])
    assert (fit(result)["records used"], fit(result)["records left out"]) == (known, 40 - known)
    if "penalty" not in EMPTY[kind]:
        assert all(cell is None for row in result.tables[0].rows for cell in row[1:])


def test_counts_that_spread_no_more_than_poissons_are_said_to_be_such() -> None:
    columns, patients = made(2000)
    columns["count"] = np.round(np.exp(1 + 0.2 * columns["a"]))
    result = fitted(columns, patients, outcome="count", family="negative-binomial")
    assert result.notes == ["counts spread no more than those of a Poisson model: use that"]


@pytest.mark.parametrize("family", ["poisson", "negative-binomial", "gamma"])
@pytest.mark.parametrize(("low", "high", "rate"), [(0.001, 1.0, 30.0), (0.1, 30.0, 0.3), (1.0, 20_000.0, 0.002)])
def test_exposures_of_many_sizes_converge(family: str, low: float, high: float, rate: float) -> None:
    draw = np.random.default_rng(0)
    outcome = Feature("y", 1, 1e6) if family == "gamma" else Feature("y", 0, 1000)
    features = (outcome, Feature("t", low, high), Feature("a", -1, 1))
    t, a = np.exp(draw.uniform(np.log(low), np.log(high), 2000)), draw.uniform(-1, 1, 2000)
    mean = rate * t * np.exp(0.5 * a)
    y = 100 * mean * draw.gamma(2, 0.5, 2000) if family == "gamma" else draw.poisson(mean * draw.gamma(2, 0.5, 2000))
    task = task_of(Schema("table", "", (), {}, features), outcome="y", family=family, inputs=("a",), exposure="t")
    data = of_rows({"y": np.clip(y, *outcome.range).astype(float), "t": t, "a": a}, features)
    assert computed(task, [data], "plain").notes == []
