"""Results against programs of others, by plain sums and by masked and encrypted vectors, on the six sites of rand-hie."""

import csv
import statistics as exact
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pytest
from analysed_rows import OPEN, planned

from orchestrator.analyses.base import Analysis, Result, State, Total
from orchestrator.analyses.registry import analysis_of
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.data import Dataset, load_for
from orchestrator.privacy.ring import from_ring, mask_of, to_ring, word_of
from orchestrator.privacy.vector_layout import Layout, bits_for, parts_of
from orchestrator.wire.protection import Aggregation
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
STATISTICS = {"kind": "statistics", "bins": 10, "crosstabs": (("female", "child"), ("plan", "female"))}


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
    schema = Schema("table", features=features)
    task = Task("hie", schema, training=Training(), privacy=OPEN, rounds=Rounds(6, 6), analysis=analysis)
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
        state = folded.state
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
            levels = dict(tables[f"levels {feature.name}"].rows)  # type: ignore[arg-type]
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
    for first, second in STATISTICS["crosstabs"]:  # type: ignore[attr-defined]
        pairs = Counter(zip(cells(files, first), cells(files, second)))
        table = tables[f"crosstab {first} x {second}"]
        assert table.columns[1:] == ("0", "1")
        assert {row[0]: row[1:] for row in table.rows} == {
            level: (pairs[level, "0"], pairs[level, "1"]) for level in (str(row[0]) for row in table.rows)
        }
    assert sum(int(row[2]) for row in rows.values()) > 0, "a column with missing values is among them"  # type: ignore[arg-type]


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
            Schema("table", features=(Feature("x", 0, 1),)),
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
