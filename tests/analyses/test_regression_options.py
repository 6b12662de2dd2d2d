"""Which regressions there are with noise and which without, which options make no sense, and what AdaSSP says of itself."""

import tracemalloc
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from analysed_rows import OPEN, SCHEMA, rows, task_of
from result_cells import numeric, pairs_of

from orchestrator.analyses.base import Total
from orchestrator.analyses.meat import of_patient
from orchestrator.analyses.penalty import adaptive_ridge
from orchestrator.analyses.registry import analysis_of, check, make
from orchestrator.errors import UsageError
from orchestrator.node.approval import MOST_SHOWN
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema

NOISED = Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0)
COUNT: Dict[str, Any] = {"outcome": "age", "family": "poisson"}
REFUSED: Dict[str, Tuple[Privacy, Dict[str, Any]]] = {
    "errors 'hc0' would mean nothing": (NOISED, {"errors": "hc0"}),
    "errors 'clustered' would mean nothing": (NOISED, {"errors": "clustered"}),
    "an estimated alpha; give one": (NOISED, {**COUNT, "family": "negative-binomial"}),
    "a gamma model would drown": (NOISED, {**COUNT, "family": "gamma"}),
    "several strengths takes rounds": (NOISED, {**COUNT, "penalty": "lasso", "strengths": (0.1, 0.2)}),
    "follows from the noise; without noise": (OPEN, {"outcome": "age", "family": "linear", "penalty": "adassp"}),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_makes_no_sense_with_noise_or_without_is_refused(said: str) -> None:
    privacy, options = REFUSED[said]
    task = task_of("regression", privacy, **options)
    with pytest.raises(UsageError, match=said):
        check(task)


ALLOWED: List[Dict[str, Any]] = [
    {"weights": "age", "exposure": "ferritin", "interactions": (("sex2", "smoker"),), "outcome": "sex"},
    {**COUNT, "family": "negative-binomial", "alpha": 0.5},
    {**COUNT, "penalty": "lasso", "strengths": (0.1,)},
    {"outcome": "age", "family": "linear", "penalty": "ridge", "strengths": (0.1, 0.2)},
    {"outcome": "age", "family": "linear", "penalty": "adassp"},
]


@pytest.mark.parametrize("number", range(len(ALLOWED)))
def test_the_rest_is_there_with_noise(number: int) -> None:
    second = Feature("sex2", categories=("f", "m"))
    schema = Schema("table", "", (), {}, (*SCHEMA.features, second), patient="patient")
    task = task_of("regression", NOISED, schema, **ALLOWED[number])
    check(task)
    analysis, draw, state = analysis_of(task), np.random.default_rng(2), {}
    asked, data = analysis.begin(0), rows(500, 1)
    x = np.concatenate([data.x, data.x[:, 2:4]], axis=1)
    for _ in range(analysis.rounds):
        sums = analysis.vectors(analysis.question(asked), x).sum(axis=0)
        asked, folded = analysis.fold(asked, Total(sums + draw.normal(0, 3.0, sums.size), 3.0))
        state.update(folded.state)
    tables = analysis.result(state, "records").tables
    cells = [cell for table in tables for row in table.rows for cell in row[1:] if cell is not None]
    assert np.isfinite(np.array(cells, np.float64)).all()
    assert "AIC" not in pairs_of(tables[-1]), "noise would leave nothing of it"


MISTAKES: Dict[str, Dict[str, Any]] = {
    "it is one or the other": {"offset": "age", "exposure": "ferritin"},
    "did you mean 'ferritin'": {"exposure": "feritin"},
    "'smoker' has categories, expected a number": {"weights": "smoker"},
    "offset: 'age' is the outcome": {"outcome": "age", "family": "linear", "offset": "age"},
    "may be -1, which has no logarithm": {"exposure": "change"},
    "whose minimum is 0 or more": {"weights": "change"},
    "expected a number without transform": {"weights": "ferritin"},
    "offset: from 18 to 95, expected numbers within 40": {"offset": "age"},
    "'sex' is the outcome, or has another part": {"inputs": ("sex", "age")},
    "'age' is the outcome, or has another part": {"inputs": ("age", "ferritin"), "weights": "age"},
    "'smoker' is not among the inputs": {"inputs": ("age",), "interactions": (("age", "smoker"),)},
    "only a number has a square": {"interactions": (("smoker", "smoker"),)},
    "'age' and 'smoker' is there twice": {"interactions": (("age", "smoker"), ("smoker", "age"))},
    "each is of two columns": {"interactions": (("age",),)},
    "alpha: a logistic model has none": {"alpha": 1.0},
    "alpha: 1e-09, expected 0, or 0.0001 to 10000": {**COUNT, "family": "negative-binomial", "alpha": 1e-9},
    "there are no weights": {"weighting": "precision"},
    "weighting 'frequencies'": {"weighting": "frequencies"},
    "errors 'hc3'": {"errors": "hc3"},
    "coefficients with a penalty have none": {"errors": "hc0", "penalty": "ridge", "strengths": (1.0,)},
    "strengths: 0 of penalty 'lasso', expected one at least": {"penalty": "lasso"},
    "strengths: 1 of penalty 'none', expected none": {"strengths": (1.0,)},
    "strengths: -1.0, expected 0 to": {"penalty": "lasso", "strengths": (-1.0,)},
    "strengths[0]: nan is not a finite number": {"penalty": "lasso", "strengths": (float("nan"),)},
    "mix: penalty 'lasso' has none": {"penalty": "lasso", "strengths": (1.0,), "mix": 0.2},
    "mix: 2.0, expected 0 to 1": {"penalty": "elasticnet", "strengths": (1.0,), "mix": 2.0},
    "'adassp' is of linear models": {"penalty": "adassp"},
    "with a penalty it is given": {**COUNT, "family": "negative-binomial", "penalty": "ridge", "strengths": (1.0,)},
    "of a gamma model it is a number without transform": {"outcome": "change", "family": "gamma"},
}


@pytest.mark.parametrize("said", MISTAKES)
def test_mistakes_are_named(said: str) -> None:
    schema = Schema("table", "", (), {}, (*SCHEMA.features, Feature("change", -1, 1)), patient="patient")
    with pytest.raises(UsageError) as refused:
        make({"kind": "regression", "outcome": "sex", "family": "logistic", **MISTAKES[said]}, schema)
    assert said in str(refused.value)


def test_clustered_errors_need_to_know_whose_a_record_is() -> None:
    with pytest.raises(UsageError, match=r"needs schema\.patient"):
        make(
            {"kind": "regression", "outcome": "age", "errors": "clustered"},
            Schema("table", "", (), {}, SCHEMA.features),
        )


def test_products_of_many_levels_are_refused_before_they_are_listed() -> None:
    """Eight thousand products of each of a thousand pairs would take a node's memory."""
    levels = tuple(map(str, range(90)))
    features = (*(Feature(f"c{i}", categories=levels) for i in range(45)), Feature("y", 0, 1))
    pairs = [[f"c{i}", f"c{j}"] for i in range(45) for j in range(i)]
    schema = Schema("table", "", (), {}, features)
    tracemalloc.start()
    with pytest.raises(UsageError, match="more than 256 coefficients"):
        make({"kind": "regression", "outcome": "y", "interactions": pairs}, schema)
    assert tracemalloc.get_traced_memory()[1] < 16e6
    tracemalloc.stop()


def test_a_bound_is_reached_by_a_record_at_the_ends_of_all_ranges() -> None:
    schema = Schema(
        "table", "", (), {}, (Feature("y", 0, 1), Feature("a", 0, 1), Feature("b", 0, 1), Feature("w", 0, 5))
    )
    for weights in ("", "w"):
        options: Dict[str, Any] = {"inputs": ("a", "b"), "interactions": (("a", "b"),), "weights": weights}
        analysis = analysis_of(task_of("regression", OPEN, schema, outcome="y", family="linear", **options))
        (vector,) = analysis.vectors(analysis.question(analysis.begin(0)), np.array([[1.0, 1.0, 1.0, 5.0]]))
        assert np.linalg.norm(vector) == pytest.approx(analysis.sums.bound)


def test_a_patients_part_is_cut_in_all_directions_together() -> None:
    part, cut = of_patient(np.full(50, 500.0), 3.0)
    assert np.linalg.norm(part) == pytest.approx(3.0**0.5)
    assert cut
    part, cut = of_patient(np.full(50, 0.5), 3.0)
    assert not cut
    np.testing.assert_array_equal(part, np.full(50, 0.005))


def test_noise_is_seldom_longer_than_adassp_counts_on() -> None:
    draw, terms = np.random.default_rng(3), 6
    reach = adaptive_ridge(np.zeros((terms, terms)), 2.0)
    longer = 0
    for _ in range(500):
        noise = draw.normal(0, 2.0, (terms, terms))
        longer += bool(np.linalg.norm(np.triu(noise) + np.triu(noise, 1).T, 2) > reach)
    assert longer <= 0.05 * 500
    assert adaptive_ridge(np.eye(terms) * 1.9 * reach, 2.0) == pytest.approx(0.1 * reach)
    assert adaptive_ridge(np.eye(terms) * 2.1 * reach, 2.0) == 0


def adassp(records: int, deviation: float, tries: int) -> Tuple[List[Dict[str, Tuple[float, float]]], np.ndarray, str]:
    """(term -> (estimate, half of its interval) of each try, coefficients without noise, notes of the last one)."""
    schema = Schema("table", "", (), {}, (Feature("a", -1, 3), Feature("b", 0, 10), Feature("y", -20, 40)))
    task = task_of("regression", NOISED, schema, outcome="y", family="linear", penalty="adassp")
    analysis, draw = analysis_of(task), np.random.default_rng(4)
    x = np.stack([draw.uniform(-1, 3, records), draw.uniform(0, 10, records), np.zeros(records)], axis=1)
    x[:, 2] = 3 + 2 * x[:, 0] + x[:, 1] + draw.normal(0, 1, records)
    inputs = np.stack([np.ones(records), x[:, 0], x[:, 1]], axis=1)
    asked, found, notes = analysis.begin(0), [], ""
    exact = analysis.vectors(analysis.question(asked), x).sum(axis=0)
    for _ in range(tries):
        noised = Total(exact + draw.normal(0, deviation, exact.size), deviation)
        result = analysis.result(analysis.fold(asked, noised)[1].state, "records")
        notes = " ".join(result.notes)
        found.append({str(row[0]): (numeric(row[1]), numeric(row[2])) for row in result.tables[0].rows})
    return found, np.linalg.lstsq(inputs, x[:, 2], rcond=None)[0], notes


def test_intervals_of_adassp_cover_the_noise_where_there_is_no_ridge() -> None:
    draws, known, notes = adassp(4000, 10.0, 400)
    for name, value in zip(("(intercept)", "a", "b"), known):
        hits = np.mean([abs(draw[name][0] - value) <= draw[name][1] for draw in draws])
        assert hits == pytest.approx(0.95, abs=0.03), name
    assert "does not cover the sample" in notes
    assert "ridge" not in notes


def test_adassp_stays_near_where_noise_is_as_large_as_the_sums_and_says_what_it_does_not_cover() -> None:
    draws, _, notes = adassp(60, 40.0, 200)
    slopes = np.array([draw["a"][0] for draw in draws])
    assert np.abs(slopes).max() < 15, "half of a range over half of a range: what no ridge would leave goes to hundreds"
    assert "nor does it cover the ridge" in notes


def test_owners_are_shown_all_that_is_asked() -> None:
    options: Dict[str, Any] = {
        "inputs": ("age", "smoker"),
        "interactions": (("age", "smoker"),),
        "exposure": "ferritin",
    }
    second = Feature("times", 0, 9)
    schema = Schema("table", "", (), {}, (*SCHEMA.features, second), patient="patient")
    task = task_of("regression", OPEN, schema, errors="clustered", weights="times", **options)
    (_, *shown) = analysis_of(task).words(lambda name: f"<{name}>")
    assert shown == [
        "explained by <age>, <smoker>",
        "and by products of 1 pairs of them",
        "with the offset <ferritin>",
        "each record weighted by <times> (frequency)",
        "in a last round the sum, over patients, of products of each one's part of the gradient",
    ]
    assert len(shown) <= MOST_SHOWN
