"""Columns and outcomes of one value, and columns that say the same: rounding is no variance, and counts as no parameter."""

import math
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from regression_rows import of_rows, task_of
from result_cells import pairs_of
from test_oracles import computed, task_with

from orchestrator.analyses.base import Cell, Result
from orchestrator.analyses.class_figures import macro_f1
from orchestrator.analyses.compare import mean_test
from orchestrator.analyses.cpds import CHECKPOINTS
from orchestrator.analyses.registry import make
from orchestrator.analyses.rounding import around_mean, rounding
from orchestrator.data.dataset import Dataset
from orchestrator.node.analysed import total
from orchestrator.wire.schema import Feature, Schema

pytest.importorskip("scipy", reason="results are made at gateways, which have it")

FEATURES = (
    Feature("age", 0, 120),
    Feature("bmi", 10, 60),
    Feature("days", 1, 1000),
    Feature("sex", categories=("f", "m")),
    Feature("arm", categories=("a", "b", "c")),
)
SCHEMA = Schema("table", "", (), {}, FEATURES)
COUNT = 117


def rows(**values: Any) -> Dict[str, np.ndarray]:
    """Of constants, but for what is given."""
    fixed = {"age": 50.0, "bmi": 25.3, "days": 97.0, "sex": 0, "arm": 0}
    return {name: np.resize(np.asarray(values.get(name, value)), COUNT) for name, value in fixed.items()}


def drawn() -> Dict[str, np.ndarray]:
    """Nobody is in the last arm."""
    draw = np.random.default_rng(4)
    made = {"age": draw.uniform(20, 90, COUNT), "arm": draw.integers(0, 2, COUNT), "sex": draw.integers(0, 2, COUNT)}
    return {**rows(), **made, "bmi": draw.uniform(15, 40, COUNT), "days": draw.integers(1, 900, COUNT).astype(float)}


def sites(columns: Dict[str, np.ndarray]) -> List[Dataset]:
    data = of_rows(columns, FEATURES)
    return [data.take(np.arange(COUNT) % 3 == place) for place in range(3)]


def of(columns: Dict[str, np.ndarray], method: str = "plain", **declared: Any) -> Result:
    return computed(task_with(declared, FEATURES), sites(columns), method)


def table(result: Result, name: str) -> List[Tuple[Cell, ...]]:
    return next(each.rows for each in result.tables if each.name == name)


def figures_of(result: Result) -> Dict[str, float]:
    return pairs_of(next(each for each in result.tables if each.name == "fit"))


@pytest.mark.parametrize("method", ["plain", "secure"])
def test_constant_columns_have_a_deviation_of_0_everywhere(method: str) -> None:
    """And correlate with nothing, are in no component, and have no test."""
    columns = rows(sex=np.arange(COUNT) % 2)
    described = of(columns, method, kind="statistics")
    assert [row[4] for row in table(described, "columns")] == [0, 0, 0, None, None]
    assert "age, bmi, days: all values are the same" in described.notes
    components = of(columns, method, kind="pca")
    assert [row[3] for row in table(components, "columns")] == [0, 0, 0]
    assert {cell for row in table(components, "correlation") for cell in row[1:]} == {None}
    assert table(components, "explained") == []
    compared = of(columns, method, kind="compare", by="sex")
    assert {row[5] for row in table(compared, "numbers")} == {0}
    assert [row for row in table(compared, "tests") if "Welch" in str(row[1])] == []
    assert any(note.startswith("age, bmi, days: all values of a group") for note in compared.notes)


def test_of_a_column_that_varies_little_the_deviation_is_kept() -> None:
    """A millionth of its range."""
    columns = rows(age=50 + 1e-4 * (np.arange(COUNT) % 2))
    age = table(of(columns, kind="statistics"), "columns")[0]
    assert age[4] == pytest.approx(float(columns["age"].std(ddof=1)), rel=1e-2)


@pytest.mark.parametrize("count", [2, 1000, 100_003])
def test_rounding_of_many_equal_values_is_below_its_bound(count: int) -> None:
    """Of any number of them, added up as nodes do: row by row it would not be."""
    values = np.tile(np.random.default_rng(1).uniform(-1, 1, 30), (count, 1))
    first, second = (total(iter(np.array_split(each, 4)), 30) for each in (values, values**2))
    assert not np.any(around_mean(first, second, count))
    assert rounding(1e6) < 1e-12
    assert math.isnan(float(around_mean(math.nan, 1.0, 5)))


def test_a_group_of_one_value_has_no_test() -> None:
    """Of two groups one of which varies."""
    assert mean_test("x", [(5, 0, 1.0, 0.0), (5, 0, 1.0, 2.0)]) == []


@pytest.mark.parametrize("family", ["linear", "poisson", "gamma", "negative-binomial"])
def test_a_constant_outcome_leaves_a_deviance_of_0(family: str) -> None:
    """And no R squared, deviation, or likelihood of none."""
    columns = {**drawn(), "days": rows()["days"]}
    task = task_of(SCHEMA, outcome="days", family=family, inputs=("age",), rounds=60)
    figures = figures_of(computed(task, sites(columns), "plain"))
    assert figures["deviance"] == 0
    assert family != "linear" or set(figures) == {"records used", "records left out", "deviance"}
    assert figures.get("dispersion", 0) == 0


def test_a_linear_model_that_explains_all_shows_its_coefficients_alone() -> None:
    """Errors of 0 are no errors."""
    columns = drawn()
    columns["bmi"] = 12 + 0.3 * columns["age"]
    result = computed(task_of(SCHEMA, outcome="bmi", inputs=("age",)), sites(columns), "plain")
    for row, expected in zip(table(result, "coefficients"), (12, 0.3)):
        assert row[1] == pytest.approx(expected)
        assert set(row[2:]) == {None}
    assert any("explains every outcome" in note for note in result.notes)


@pytest.mark.parametrize("errors", ["model", "hc1"])
@pytest.mark.parametrize("family", ["linear", "poisson", "gamma", "negative-binomial", "logistic"])
def test_terms_that_are_not_estimated_are_no_parameters(family: str, errors: str) -> None:
    """A level nobody has changes nothing but its own row."""
    outcome = "sex" if family == "logistic" else "days"
    results = []
    for features in (FEATURES, (*FEATURES[:4], Feature("arm", categories=("a", "b")))):
        schema = Schema("table", "", (), {}, features)
        task = task_of(schema, outcome=outcome, family=family, inputs=("age", "arm"), errors=errors, rounds=80)
        results.append(computed(task, [of_rows(drawn(), features)], "plain"))
    (*empty, nobody), rest = (table(result, "coefficients") for result in results)
    assert set(nobody[1:]) == {None}
    for ours, theirs in zip(empty, rest):
        assert ours[1:] == pytest.approx(theirs[1:], rel=1e-6)
    assert figures_of(results[0]) == pytest.approx(figures_of(results[1]), rel=1e-9)


def test_a_cox_model_of_a_constant_has_no_parameter() -> None:
    """So that AIC is minus twice the log-likelihood."""
    columns = {**drawn(), "bmi": rows()["bmi"]}
    result = of(columns, kind="cox", time="days", event="sex", inputs=("bmi",), steps=20)
    figures = figures_of(result)
    assert table(result, "coefficients")[0][1] is None
    assert figures["AIC"] == pytest.approx(-2 * figures["log-likelihood"])


@pytest.mark.parametrize("kind", ["forest", "boosted"])
def test_trees_of_equal_records_that_are_all_held_out_say_why_there_are_none(kind: str) -> None:
    """Or, with another seed, none of which is."""
    columns, notes = rows(sex=np.arange(COUNT) % 2), set()
    for seed in range(8):
        declared: Dict[str, Any] = {
            "kind": kind,
            "outcome": "sex",
            "inputs": ("age", "bmi"),
            "trees": 5,
            "depth": 2,
            "seed": seed,
        }
        result = of(columns, held_out=0.5, bins=10, **declared)
        figures = {str(row[0]): row[1] for row in table(result, "fit")}
        fitted_on = figures["records fitted on"]
        assert {fitted_on, figures["records held out"]} == {0, COUNT}
        if not fitted_on:
            assert [each.name for each in result.tables] == ["fit"]
            assert not set(figures) & {"AUC of m", "Brier score", "base (log-odds)"}
            notes.add(result.notes[0])
    (note,) = notes
    assert note.startswith(f"no records to fit on: all {COUNT} are held out")


def test_a_support_vector_machine_without_anybody_with_the_outcome_has_no_sensitivity() -> None:
    """It is a share of nobody."""
    declared = {"kind": "svm", "outcome": "sex", "nodes": ("a", "b"), "inputs": ("age",), "box": 10.0}
    machine = make(declared, SCHEMA)
    state = {
        "counts": np.array([0.0, 9.0, 0.0]),
        "weights": np.zeros(2),
        "answers": np.array([2.0]),
        "of": np.array([9.0]),
    }
    state.update(history=np.zeros(3 * CHECKPOINTS), measured=np.array([0.0, 9.0, 0.0, 9.0, 0.0]))
    shown = list(table(machine.result(state, "records"), "fit"))[-3:]
    assert shown == [("predicted right", 1), ("sensitivity", None), ("specificity", 1)]


def test_a_mean_f1_of_records_of_one_class_is_left_out() -> None:
    """As is an area under a curve."""
    assert macro_f1(np.array([[9.0, 0], [0, 0]]), 0.0) == (None, None, None)
    assert macro_f1(np.array([[7.0, 2], [0, 0]]), 0.0) == (None, None, None)
    assert macro_f1(np.array([[7.0, 2], [0, 1]]), 0.0)[0] is not None


@pytest.mark.parametrize("value", [60.01, 60.0001, 59.99999, 60.0])
def test_a_constant_near_the_middle_of_its_range_is_one_in_masked_sums_too(value: float) -> None:
    """The square of what is next to 0 has few of a masked sum's binary places."""
    columns = {**drawn(), "age": np.full(COUNT, value)}
    statistics = of(columns, "secure", kind="statistics", bins=4)
    (age,) = (row for row in table(statistics, "columns") if row[0] == "age")
    assert age[4] == 0
    assert "age: all values are the same" in statistics.notes
    compared = of(columns, "secure", kind="compare", by="sex")
    assert [row[5] for row in table(compared, "numbers") if row[0] == "age"] == [0, 0]
    components = of(columns, "secure", kind="pca", components=3)
    assert len(table(components, "explained")) == 2


@pytest.mark.parametrize(
    ("family", "age"),
    [("linear", 60.01), ("linear", 59.99), ("poisson", 3.0), ("negative-binomial", 3.0), ("gamma", 3.0)],
)
@pytest.mark.parametrize("most", [120, 1000])
def test_a_deviance_of_masked_sums_is_never_below_nothing(family: str, age: float, most: int) -> None:
    features = (Feature("age", 1, most), Feature("bmi", 10, 60))
    columns = {"age": np.full(COUNT, age), "bmi": drawn()["bmi"]}
    task = task_of(Schema("table", "", (), {}, features), outcome="age", family=family, inputs=("bmi",), rounds=40)
    data = of_rows(columns, features)
    result = computed(task, [data.take(np.arange(COUNT) % 3 == place) for place in range(3)], "secure")
    fit: Dict[str, Any] = pairs_of(result.tables[1])
    assert fit["deviance"] == 0
    assert "residual standard deviation" not in fit
