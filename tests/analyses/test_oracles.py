"""Results against programs of others, by plain sums and by masked and encrypted vectors, on the six sites of rand-hie."""

import csv
import statistics as exact
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pytest
from analysed_rows import OPEN, planned
from result_cells import numeric, pairs_of
from textbook import newton

from orchestrator.analyses.base import Analysis, Result, State, Total
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import Dataset, load_for
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.privacy.ring import from_ring, mask_of, to_ring, word_of
from orchestrator.privacy.vector_layout import Layout, bits_for, parts_of
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

FEATURES = (
    Feature("xage", 0, 100),
    Feature("mdvis", 0, 100),
    Feature("income", 0, 40_000),
    Feature("ghindx", 0, 100),
    Feature("female", categories=("0", "1")),
    Feature("child", categories=("0", "1")),
    Feature("plan", categories=tuple(str(number) for number in range(1, 25))),
)
TINY = 1e-300
STATISTICS: Dict[str, Any] = {"kind": "statistics", "bins": 10, "crosstabs": (("female", "child"), ("plan", "female"))}


def site_files(source: Path, folder: Path) -> List[Path]:
    with source.open() as file:
        table = list(csv.DictReader(file))
    paths = []
    for site in sorted({row["site"] for row in table}):
        paths.append(folder / f"site-{site}.csv")
        with paths[-1].open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(row for row in table if row["site"] == site)
    return paths


def task_with(analysis: Dict[str, Any], features: Any = FEATURES) -> Task:
    schema = Schema("table", "", (), {}, features)
    task = Task("hie", schema, {}, training=Training(), privacy=OPEN, rounds=Rounds(6, 6), analysis=analysis)
    return planned(task)


def as_they_are(task: Task, vectors: List[np.ndarray]) -> np.ndarray:
    return np.asarray(np.sum(vectors, axis=0))


def in_a_ring(task: Task, vectors: List[np.ndarray]) -> np.ndarray:
    """As masked and encrypted rounds add them up: whole numbers that wrap around."""
    parts = parts_of(task, 1, task.training.parameters)
    bits = bits_for(parts, 6000, len(vectors))
    layout = Layout(parts, bits, len(vectors), 6000, 6000)
    (part,) = parts
    ring = np.zeros(layout.size, word_of(bits))
    for vector in vectors:
        ring += to_ring(layout.encode({part.name: vector}, {}, np.random.default_rng()), bits)
    return layout.decode(from_ring(ring & mask_of(bits), bits))[part.name].values


METHODS: Dict[str, Callable[[Task, List[np.ndarray]], np.ndarray]] = {"plain": as_they_are, "secure": in_a_ring}


def computed(task: Task, sites: List[Dataset], method: str) -> Result:
    analysis: Analysis = analysis_of(task)
    asked, state = analysis.begin(task.seed), {}
    for _ in range(analysis.rounds):
        sums = [total(unit_vectors(analysis, asked, site, "record"), analysis.sums.size) for site in sites]
        asked, folded = analysis.fold(asked, Total(METHODS[method](task, sums)))
        state.update(folded.state)
        if folded.done:
            break
    kept: State = state
    return analysis.result(kept, "records")


@pytest.fixture(scope="module")
def files(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    return site_files(shared_data("rand-hie") / "randhie.csv", tmp_path_factory.mktemp("sites"))


def cells(files: List[Path], name: str) -> List[Optional[str]]:
    found: List[Optional[str]] = []
    for path in files:
        with path.open() as file:
            found += [row[name] or None for row in csv.DictReader(file)]
    return found


@pytest.mark.parametrize("method", METHODS)
def test_statistics_are_those_of_all_rows_together(files: List[Path], method: str) -> None:
    task = task_with(STATISTICS)
    result = computed(task, [load_for(path, task) for path in files], method)
    tables = {table.name: table for table in result.tables}
    rows = {row[0]: row for row in tables["columns"].rows}
    for feature in FEATURES:
        column = cells(files, feature.name)
        known = [cell for cell in column if cell is not None]
        assert rows[feature.name][1:3] == (len(known), len(column) - len(known))
        if feature.categories:
            counts = Counter(known)
            levels: Dict[Any, Any] = pairs_of(tables[f"levels {feature.name}"])
            assert levels == {
                **{level: counts[level] for level in feature.categories},
                "(missing)": len(column) - len(known),
            }
            continue
        values = [min(max(float(cell), feature.range[0]), feature.range[1]) for cell in known]
        mean, deviation = rows[feature.name][3:5]
        assert mean == pytest.approx(exact.fmean(values), rel=1e-12)
        assert deviation == pytest.approx(exact.stdev(values), rel=1e-10)
        histogram = [row[2] for row in tables[f"histogram {feature.name}"].rows]
        expected, _ = np.histogram(values, 10, feature.range)
        assert histogram == [*expected, len(column) - len(known)]
    for first, second in STATISTICS["crosstabs"]:
        pairs = Counter(zip(cells(files, first), cells(files, second)))
        table = tables[f"crosstab {first} x {second}"]
        assert table.columns[1:] == ("0", "1")
        assert {row[0]: row[1:] for row in table.rows} == {
            level: (pairs[level, "0"], pairs[level, "1"]) for level in (str(row[0]) for row in table.rows)
        }
    missing: List[Any] = [row[2] for row in rows.values()]
    assert sum(int(each) for each in missing) > 0, "a column with missing values is among them"


@pytest.mark.parametrize("method", METHODS)
def test_kmeans_centres_are_scikit_learns(files: List[Path], method: str) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    features = FEATURES[:3]
    start = ((10.0, 1.0, 5000.0), (30.0, 2.0, 9000.0), (45.0, 9.0, 20_000.0), (60.0, 3.0, 12_000.0))
    task = task_with({"kind": "kmeans", "clusters": 4, "rounds": 300, "start": start}, features)
    sites = [load_for(path, task) for path in files]
    low, high = (np.array([feature.range[end] for feature in features]) for end in (0, 1))
    u = 2 * (np.concatenate([site.x for site in sites]) - low) / (high - low) - 1
    theirs = cluster.KMeans(4, init=2 * (np.array(start) - low) / (high - low) - 1, n_init=1, max_iter=300, tol=0).fit(
        u
    )
    (table,) = computed(task, sites, method).tables
    ours = np.array([row[2:] for row in table.rows], np.float64)
    order = np.argsort(-np.bincount(theirs.labels_), kind="stable")
    np.testing.assert_allclose(2 * (ours - low) / (high - low) - 1, theirs.cluster_centers_[order], rtol=0, atol=1e-9)
    assert [row[1] for row in table.rows] == sorted(np.bincount(theirs.labels_), reverse=True)


def test_exact_sums_hold_in_a_ring_whatever_their_size() -> None:
    task = planned(
        Task(
            "t",
            Schema("table", "", (), {}, (Feature("x", 0, 1),)),
            {},
            training=Training(),
            privacy=OPEN,
            rounds=Rounds(4, 4),
            aggregation=Aggregation("masked"),
            analysis={"kind": "statistics", "bins": 3},
        )
    )
    draw = np.random.default_rng(7)
    for _ in range(200):
        vectors = [draw.standard_normal(7) * 10.0 ** draw.uniform(-9, 9, 7) for _ in range(4)]
        np.testing.assert_allclose(in_a_ring(task, vectors), np.sum(vectors, axis=0), rtol=1e-12, atol=1e-15)
    from orchestrator.errors import PrivacyError

    with pytest.raises(PrivacyError, match="beyond"):
        in_a_ring(task, [np.full(7, 1e12)] * 4)


def design(files: List[Path], numbers: List[str], categories: Dict[str, List[str]], outcome: str) -> Any:
    """(X with an intercept, y, names) of rows that lack nothing, made here from the files."""
    columns = {name: cells(files, name) for name in [*numbers, *categories, outcome]}
    whole = [i for i in range(len(columns[outcome])) if all(column[i] is not None for column in columns.values())]
    x = [np.ones(len(whole))]
    names = ["(intercept)"]
    for name in numbers:
        x.append(np.array([float(columns[name][i] or 0) for i in whole]))
        names.append(name)
    for name, levels in categories.items():
        for level in levels[1:]:
            x.append(np.array([float(columns[name][i] == level) for i in whole]))
            names.append(f"{name} = {level}")
    return np.stack(x, axis=1), np.array([float(columns[outcome][i] or 0) for i in whole]), names


SOME = ["xage", "ghindx"]
OF = {"female": ["0", "1"], "child": ["0", "1"]}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["linear", "logistic", "poisson"])
def test_regressions_are_those_of_all_rows_together(files: List[Path], family: str, method: str) -> None:
    pytest.importorskip("scipy", reason="results are made at gateways, which have it")
    outcome = "female" if family == "logistic" else "mdvis"
    categories = {"child": OF["child"]} if family == "logistic" else OF
    features = tuple(f for f in FEATURES if f.name in (*SOME, *categories, outcome))
    task = task_with({"kind": "regression", "family": family, "outcome": outcome}, features)
    result = computed(task, [load_for(path, task) for path in files], method)
    x, y, names = design(files, SOME, categories, outcome)
    found = {str(row[0]): row[1:] for row in result.tables[0].rows}
    fit: Dict[Any, Any] = pairs_of(result.tables[1])
    assert result.notes == []
    assert sorted(found) == sorted(names)
    assert (fit["records used"], fit["records left out"]) == (len(y), len(cells(files, outcome)) - len(y))
    if family == "linear":
        beta = np.linalg.solve(x.T @ x, x.T @ y)
        residual = float(((y - x @ beta) ** 2).sum()) / (len(y) - len(beta))
        covariance = residual * np.linalg.inv(x.T @ x)
        assert fit["residual standard deviation"] == pytest.approx(residual**0.5, rel=1e-9)
        assert fit["R squared"] == pytest.approx(
            1 - residual * (len(y) - len(beta)) / ((y - y.mean()) ** 2).sum(), rel=1e-9
        )
    else:
        beta, covariance, likelihood = newton(x, y, family)
        assert fit["log-likelihood"] == pytest.approx(likelihood, rel=1e-9)
        assert fit["AIC"] == pytest.approx(2 * len(beta) - 2 * likelihood, rel=1e-9)
    from scipy import stats

    for number, name in enumerate(names):
        estimate, error, low, high, value, p = (numeric(v) for v in found[name][:6])
        assert estimate == pytest.approx(beta[number], rel=1e-7, abs=1e-9)
        assert error == pytest.approx(covariance[number, number] ** 0.5, rel=1e-6)
        law = stats.t(len(y) - len(beta)) if family == "linear" else stats.norm
        assert low == pytest.approx(
            estimate - (stats.t(len(y) - len(beta)).ppf(0.975) if family == "linear" else 1.96) * error
        )
        assert high + low == pytest.approx(2 * estimate)
        assert p == pytest.approx(2 * law.sf(abs(value)), rel=1e-6, abs=1e-300)


def test_what_cannot_be_told_apart_is_named() -> None:
    pytest.importorskip("scipy", reason="results are made at gateways, which have it")
    from analysed_rows import SCHEMA

    draw = np.random.default_rng(2)
    x = np.zeros((400, 7))
    x[:, 0], x[:, 1] = draw.uniform(18, 95, 400), np.log(draw.uniform(1, 5000, 400))
    sex = (x[:, 0] > 55).astype(int)
    x[np.arange(400), 2 + sex] = 1.0
    x[np.arange(400), 4 + 2 * sex] = 1.0
    data = Dataset(x, np.full(400, -1, np.int32))
    schema = Schema("table", "", (), {}, SCHEMA.features)
    declared = {"kind": "regression", "family": "logistic", "outcome": "sex", "inputs": ("age",)}
    separated = computed(
        planned(Task("t", schema, {}, privacy=OPEN, rounds=Rounds(6, 6), analysis=declared)), [data], "plain"
    )
    assert any("age: these tell the outcome apart" in note for note in separated.notes)
    declared = {"kind": "regression", "outcome": "age", "inputs": ("sex", "smoker")}
    alike = computed(
        planned(Task("t", schema, {}, privacy=OPEN, rounds=Rounds(6, 6), analysis=declared)), [data], "plain"
    )
    (note,) = [note for note in alike.notes if "say the same" in note]
    assert "sex = m" in note
    assert "smoker = former" in note
    shown = {row[0]: row[1] for row in alike.tables[0].rows}
    assert shown["sex = m"] is None
    assert shown["smoker = yes"] is None, "no record has it"


@pytest.mark.parametrize("family", ["linear", "logistic", "poisson", "negative-binomial"])
def test_intervals_count_the_noise(family: str) -> None:
    """Over many draws of rows and noise the true coefficient is in about 95 of 100 intervals."""
    pytest.importorskip("scipy", reason="results are made at gateways, which have it")
    counted = family in ("poisson", "negative-binomial")
    outcome = Feature("y", -10, 10) if family == "linear" else Feature("y", categories=("n", "y"))
    outcome = Feature("y", 0, 30) if counted else outcome
    schema = Schema("table", "", (), {}, (Feature("a", -1, 1), Feature("b", -1, 1), outcome))
    declared = {"kind": "regression", "family": family, "outcome": "y", "rounds": 8}
    declared.update({"alpha": 0.25} if family == "negative-binomial" else {})
    task = planned(Task("t", schema, {}, privacy=OPEN, rounds=Rounds(3, 3), analysis=declared))
    analysis = analysis_of(replace(task, privacy=Privacy("record", sampling_rate=1.0)))
    draw, hits, shown, tries = np.random.default_rng(5), 0, 0, 120
    deviation = 2.0 if counted else 12.0  # of a value that one record moves by 1; a count of 30 is one
    for _ in range(tries):
        x = np.zeros((3000, 4 if family == "logistic" else 3))
        x[:, :2] = draw.uniform(-1, 1, (3000, 2))
        predictor = 0.4 + 0.8 * x[:, 0] - 0.5 * x[:, 1]
        if family == "logistic":
            x[np.arange(3000), 2 + (draw.random(3000) < 1 / (1 + np.exp(-predictor)))] = 1.0
        else:
            share = draw.gamma(4, 0.25, 3000) if family == "negative-binomial" else 1.0
            x[:, 2] = draw.poisson(np.exp(predictor) * share) if counted else predictor + draw.normal(0, 1, 3000)
        asked, state = analysis.begin(0), {}
        for _ in range(analysis.rounds):
            sums = analysis.vectors(analysis.question(asked), x).sum(axis=0) + draw.normal(
                0, deviation, analysis.sums.size
            )
            asked, folded = analysis.fold(asked, Total(sums, deviation))
            state.update(folded.state)
        row = next(row for row in analysis.result(state, "records").tables[0].rows if row[0] == "a")
        shown += row[1] is not None
        hits += row[1] is not None and numeric(row[3]) <= 0.8 <= numeric(row[4])
    assert shown > 0.9 * tries
    assert 0.88 * shown <= hits, f"{hits} of {shown}"


@pytest.mark.parametrize("method", METHODS)
def test_components_and_correlations_are_scikit_learns(files: List[Path], method: str) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    features = FEATURES[:4]
    task = task_with({"kind": "pca"}, features)
    result = computed(task, [load_for(path, task) for path in files], method)
    tables = {table.name: table.rows for table in result.tables}
    columns = [cells(files, feature.name) for feature in features]
    rows = np.array([[float(cell) for cell in row] for row in zip(*columns) if None not in row])
    rows = np.clip(rows, [f.range[0] for f in features], [f.range[1] for f in features])
    np.testing.assert_allclose(
        np.array([row[1:] for row in tables["correlation"]], np.float64), np.corrcoef(rows.T), rtol=0, atol=1e-9
    )
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    theirs = decomposition.PCA(4).fit(scaled)
    np.testing.assert_allclose(
        np.array([row[2] for row in tables["explained"]], np.float64), theirs.explained_variance_ratio_, rtol=1e-9
    )
    ours = np.array([row[1:] for row in tables["components"]], np.float64).T
    np.testing.assert_allclose(np.abs(np.sum(ours * theirs.components_, axis=1)), 1.0, rtol=0, atol=1e-9)
    assert [row[3] for row in tables["columns"]] == pytest.approx(rows.std(axis=0, ddof=1), rel=1e-9)
    assert any(f"{len(columns[0]) - len(rows)} records" in note for note in result.notes)


@pytest.mark.parametrize("method", METHODS)
def test_groups_are_compared_as_scipy_does(files: List[Path], method: str) -> None:
    stats = pytest.importorskip("scipy.stats")
    features = (*FEATURES, Feature("hlthp", categories=("0", "1")))
    for by in ("child", "plan"):
        task = task_with({"kind": "compare", "by": by}, features)
        result = computed(task, [load_for(path, task) for path in files], method)
        tables = {table.name: table.rows for table in result.tables}
        groups = cells(files, by)
        levels = [level for level in next(f for f in features if f.name == by).categories if level in groups]
        tests = {(row[0], row[1]): row[2:] for row in tables["tests"]}
        for feature in (each for each in features if each.name != by):
            column = cells(files, feature.name)
            parts = [[cell for cell, group in zip(column, groups) if group == level] for level in levels]
            if feature.categories:
                table = np.array([[part.count(level) for level in feature.categories] for part in parts])
                ours = np.array([row[1:] for row in tables[f"levels {feature.name}"]][:-1])
                assert ours[:, ours.sum(axis=0) > 0].T.tolist() == table.tolist()
                seen = table[:, table.sum(axis=0) > 0]
                value, p, degrees, _ = stats.chi2_contingency(seen, correction=False)
                assert tests[feature.name, "chi squared"] == pytest.approx((value, degrees, p), rel=1e-9, abs=TINY)
                if seen.shape == (2, 2):
                    exactly = stats.fisher_exact(seen)[1]
                    assert tests[feature.name, "Fisher's exact"][2] == pytest.approx(exactly, rel=1e-6, abs=TINY)
                continue
            known = [np.clip([float(cell) for cell in part if cell is not None], *feature.range) for part in parts]
            rows = [row for row in tables["numbers"] if row[0] == feature.name and row[1] in levels]
            assert [row[2:4] for row in rows] == [(len(k), len(part) - len(k)) for k, part in zip(known, parts)]
            assert [row[4] for row in rows if row[2]] == pytest.approx([k.mean() for k in known if len(k)], rel=1e-9)
            assert [row[5] for row in rows if row[2]] == pytest.approx(
                [k.std(ddof=1) for k in known if len(k)], rel=1e-9
            )
            known = [k for k in known if len(k)]  # nobody asked children how they feel
            if len(known) == 1:
                assert feature.name not in {column for column, _ in tests}
            elif len(levels) == 2:
                found = stats.ttest_ind(*known, equal_var=False)
                theirs = found.statistic, found.df, found.pvalue
                assert tests[feature.name, "Welch's t"] == pytest.approx(theirs, rel=1e-6, abs=TINY)
            else:
                found = stats.f_oneway(*known, equal_var=False)
                assert tests[feature.name, "Welch's F"][0] == pytest.approx(found.statistic, rel=1e-6)
                assert tests[feature.name, "Welch's F"][2] == pytest.approx(found.pvalue, rel=1e-6)
