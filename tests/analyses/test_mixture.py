"""A mixture against scikit-learn's from the same start, the bound of a vector, and what noise does to it."""

import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from analysed_rows import SCHEMA, task_of
from result_cells import numeric, pairs_of
from test_oracles import FEATURES, METHODS, computed, site_files, task_with

from orchestrator.analyses.base import Total, as_pairs, from_pairs
from orchestrator.analyses.mixture import Mixture
from orchestrator.analyses.registry import analysis_of, make
from orchestrator.data.dataset import load_for
from orchestrator.errors import UsageError
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

NUMBERS = FEATURES[:4]
START = ((10.0, 1.0, 5000.0, 60.0), (30.0, 2.0, 9000.0, 80.0), (60.0, 9.0, 20_000.0, 70.0))
TWO = Schema("table", "", (), {}, (Feature("pulse", 0, 200), Feature("age", 0, 100)))


@pytest.fixture(scope="module")
def files(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    return site_files(shared_data("rand-hie") / "randhie.csv", tmp_path_factory.mktemp("sites"))


def all_rows(files: List[Path], task: Task) -> Tuple[np.ndarray, np.ndarray]:
    """(numbers over [-1, 1] of rows that lack none, half of each range)."""
    x = np.concatenate([load_for(path, task).x for path in files])
    low, high = (np.array([feature.range[end] for feature in NUMBERS]) for end in (0, 1))
    u = 2 * (x - low) / (high - low) - 1
    return u[~np.isnan(u).any(axis=1)], (high - low) / 2


def theirs_of(u: np.ndarray, covariance: str, start: np.ndarray, steps: int) -> Any:
    mixture = pytest.importorskip("sklearn.mixture")
    precision = np.full(u.shape[1], 1 / 0.25**2)
    kind, first = {
        "full": ("full", np.repeat(np.diag(precision)[np.newaxis], 3, axis=0)),
        "diagonal": ("diag", np.repeat(precision[np.newaxis], 3, axis=0)),
    }[covariance]
    model = mixture.GaussianMixture(
        3,
        covariance_type=kind,
        tol=0.0,
        max_iter=steps,
        weights_init=np.full(3, 1 / 3),
        means_init=start,
        precisions_init=first,
    )
    return model.fit(u)


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_scikit_learns_of_all_rows_together(files: List[Path], method: str, covariance: str) -> None:
    rounds = 9
    declared = {"kind": "mixture", "start": START, "rounds": rounds, "covariance": covariance, "tolerance": 0.0}
    task = task_with(declared, NUMBERS)
    sites = [load_for(path, task) for path in files]
    u, half = all_rows(files, task)
    start = (np.array(START) - [f.range[0] for f in NUMBERS]) / half - 1
    theirs = theirs_of(u, covariance, start, rounds - 1)
    result = computed(task, sites, method)
    tables = {table.name: table.rows for table in result.tables}
    order = np.argsort(-theirs.weights_)
    ours = np.array([row[1:] for row in tables["components"]], np.float64)
    np.testing.assert_allclose(ours[:, 0], theirs.weights_[order], rtol=0, atol=1e-8)
    means = (ours[:, 2:] - [f.range[0] for f in NUMBERS]) / half - 1
    np.testing.assert_allclose(means, theirs.means_[order], rtol=0, atol=1e-8)
    full = theirs.covariances_[order]
    variances = full if covariance == "diagonal" else np.diagonal(full, axis1=1, axis2=2)
    deviations = np.array([row[1:] for row in tables["deviations"]], np.float64) / half
    np.testing.assert_allclose(deviations, np.sqrt(variances), rtol=0, atol=1e-8)
    if covariance == "full":
        scaled = full / np.sqrt(variances[:, :, np.newaxis] * variances[:, np.newaxis, :])
        upper = np.triu_indices(4, 1)
        assert [row[3] for row in tables["correlations"]] == pytest.approx(
            [c for s in scaled for c in s[upper]], abs=1e-8
        )
    fit: Dict[Any, Any] = {name: value for name, value in tables["fit"]}
    shift = len(u) * np.log(half).sum()
    assert fit["records used"] == len(u)
    assert fit["records left out"] == sum(site.records for site in sites) - len(u) > 0
    assert fit["log-likelihood"] == pytest.approx(theirs.score(u) * len(u) - shift, rel=1e-9)
    assert fit["BIC"] == pytest.approx(theirs.bic(u) + 2 * shift, rel=1e-9)
    assert fit["AIC"] == pytest.approx(theirs.aic(u) + 2 * shift, rel=1e-9)
    assert any("not converged" in note for note in result.notes)


def test_it_ends_where_it_stands_still_and_more_components_do_not_always_fit_better(files: List[Path]) -> None:
    draw = np.random.default_rng(4)
    x = np.concatenate([draw.normal((60, 20), (8, 5), (700, 2)), draw.normal((130, 70), (10, 6), (300, 2))])
    found: Dict[int, Dict[str, Any]] = {}
    for components in (1, 2, 3):
        start = ((50.0, 10.0), (150.0, 90.0), (100.0, 50.0))[:components]
        analysis = make(
            {"kind": "mixture", "components": components, "start": start, "rounds": 300, "tolerance": 1e-7}, TWO
        )
        asked, rounds = analysis.begin(0), 0
        while rounds < 300:
            rounds += 1
            asked, folded = analysis.fold(asked, Total(analysis.vectors(analysis.question(asked), x).sum(axis=0)))
            if folded.done:
                break
        assert folded.done
        result = analysis.result(folded.state, "records")
        assert not any("not converged" in note for note in result.notes)
        found[components] = pairs_of(result.tables[-1])
    assert found[3]["log-likelihood"] > found[2]["log-likelihood"] > found[1]["log-likelihood"]
    assert found[2]["BIC"] < min(found[1]["BIC"], found[3]["BIC"])


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_the_bound_is_reached_by_a_record_at_the_ends_of_its_ranges_and_by_none_passed(covariance: str) -> None:
    analysis = make({"kind": "mixture", "covariance": covariance, "components": 2}, TWO)
    corner = np.array([[200.0, 100.0], [0.0, 100.0], [np.nan, 3.0]])
    longest = 0.0
    for apart in (0.0, 1.0):  # a narrow component far off: the likelihood is as small as it can be
        small = [1e-8, 0.0, 1e-8] if covariance == "full" else [1e-8, 1e-8]
        asked = as_pairs(np.array([1.0, 0.0, apart, apart, 1.0, 1.0, *small, *small, 0.0]))
        lengths = np.linalg.norm(analysis.vectors(analysis.question(asked), corner), axis=1)
        assert lengths.max() <= analysis.sums.bound
        assert lengths[2] == 1.0
        longest = max(longest, lengths.max())
    rest = 1 + 2 + (3 if covariance == "full" else 2)
    assert longest**2 > rest, "all but the likelihood's own 1 can be reached"
    assert analysis.sums.bound == math.sqrt(rest + 1)


@pytest.mark.parametrize("seed", range(5))
def test_with_noise_means_are_as_near_as_they_say_and_no_component_collapses(seed: int) -> None:
    declared = {"kind": "mixture", "start": ((60.0, 5.0), (180.0, 95.0), (0.0, 100.0)), "spread": 0.1}
    analysis = make(declared, TWO)
    assert isinstance(analysis, Mixture)
    draw = np.random.default_rng(seed)
    x = np.concatenate([draw.normal((60, 25), (12, 8), (4000, 2)), draw.normal((160, 80), (12, 8), (1500, 2))])
    asked = analysis.begin(0)
    for _ in range(12):
        before = asked
        exact = analysis.vectors(analysis.question(asked), x).sum(axis=0)
        asked, folded = analysis.fold(asked, Total(exact + draw.normal(0, 2.0, exact.size), 2.0))
        assert not folded.done
        assert np.isfinite(asked).all()
        weights = from_pairs(asked)[:3]
        assert weights.sum() == pytest.approx(1, abs=1e-6)
    _, without = analysis.fold(before, Total(exact))
    tables = {table.name: table for table in analysis.result(folded.state, "records").tables}
    assert "fit" not in tables
    *large, empty = tables["components"].rows
    known = analysis.maximized(analysis.model_of(analysis.question(before)), Total(exact))
    assert without.state["counts"].sum() == pytest.approx(len(x))
    for row, at in zip(large, np.argsort(-known.weights)):
        pulse, age, spread = (numeric(cell) for cell in row[3:])
        mean = 100 * (known.means[at] + 1) / 2
        assert abs(pulse / 2 - mean[0]) <= 1.5 * spread
        assert abs(age - mean[1]) <= 1.5 * spread
    assert empty[-1] is None or numeric(empty[2]) > 1.96 * 2, "a component that noise hides says nothing"
    for row in tables["deviations"].rows[:2]:
        assert all(3 < numeric(cell) < 30 for cell in row[1:])
    _, drowned = analysis.fold(before, Total(exact + draw.normal(0, 400.0, exact.size), 400.0))
    covariances = analysis.model_of(drowned.state["model"]).covariances
    for covariance, size in zip(covariances, drowned.state["counts"]):
        if size > 800:
            assert np.linalg.eigvalsh(covariance).min() >= 400.0 * 2 * math.sqrt(2) / size, (
                "what noise adds makes no peak"
            )
    _, deviations, correlations = analysis.result(drowned.state, "records").tables
    assert all(cell is None for row in deviations.rows for cell in row[1:]), "noise as wide as a variance hides it"
    assert all(row[-1] is None for row in correlations.rows), "nor is there a correlation of what is hidden"
    assert all(row[-1] is not None for row in tables["correlations"].rows[:2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"covariance": "tied"}, "expected one of full, diagonal"),
        ({"components": 0}, "components: 0, expected 1 to 100"),
        ({"regularization": 0.0}, "regularization: 0"),
        ({"spread": 0.0}, "spread: 0"),
        ({"components": 2, "start": ((20.0, 7.0), (99.0, 7.0))}, "age 99 is beyond its range"),
        ({"components": 2, "start": ((20.0, 7.0),)}, "expected one for each of 2 components"),
    ],
)
def test_mistakes_are_named(options: Dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make({"kind": "mixture", **options}, SCHEMA)


def test_an_honest_gateways_parameters_are_read_as_they_are() -> None:
    """What is made safe for lies does not touch them: else the sums would be at other parameters than are shown."""
    analysis = analysis_of(task_of("mixture"))
    draw = np.random.default_rng(2)
    root = draw.normal(0, 0.3, (3, 2, 2))
    covariances = root @ root.transpose(0, 2, 1) + 1e-6 * np.eye(2)
    upper = np.triu_indices(2)
    triangles = [covariance[upper] for covariance in covariances]
    told = np.concatenate([[0.2, 0.3, 0.5], draw.uniform(-1, 1, 6), np.clip(triangles, -1, 1).ravel(), [0.0]])
    np.testing.assert_allclose(analysis.question(as_pairs(told)), told[:-1], rtol=1e-13, atol=1e-15)
