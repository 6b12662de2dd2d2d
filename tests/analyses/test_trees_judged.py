"""A bundle of trees evaluated over a federation: the figures are those of `edgeward predict` on all rows in one file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
from scored_hospitals import (
    EXACT,
    METHODS,
    NODES,
    Hospitals,
    check_charged,
    check_two_classes,
    noised,
    simulated,
    tables,
    write_rows,
)

from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import load_for
from orchestrator.errors import UsageError
from orchestrator.gateway.analysed import report_of
from orchestrator.gateway.config import load_config
from orchestrator.gateway.described_bundle import read_described, read_rows
from orchestrator.gateway.scored_file import model_path
from orchestrator.gateway.trees_bundle import export_trees
from orchestrator.gateway.trial import try_analysis
from orchestrator.node.scores import with_scores
from orchestrator.predict.engines import outputs_of

pytestmark = pytest.mark.slow


metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the gateway, not on a node")

TASK = """
[task]
name = "check"
[task.schema]
kind = "table"
features = [
  { name = "sick", categories = ["no", "yes"] },
  { name = "lactate", minimum = 0.1, maximum = 30, transform = "log" },
  { name = "age", minimum = 0, maximum = 110 },
  { name = "ward", categories = ["a", "b", "c"] },
]
missing_markers = [""]
[task.rounds]
nodes = 3
quorum = 3
[task.analysis]
"""
GROWN = {
    "forest": 'kind = "forest"\noutcome = "sick"\ntrees = 20\ndepth = 4\nbins = 20\n',
    "boosted": 'kind = "boosted"\noutcome = "sick"\ntrees = 12\ndepth = 3\nbins = 20\n',
    "wards": 'kind = "forest"\noutcome = "ward"\ntrees = 15\ndepth = 4\nbins = 12\n',
    "ages": 'kind = "boosted"\noutcome = "age"\ntrees = 5\ndepth = 2\nbins = 12\n',
}


@dataclass(frozen=True)
class Study(Hospitals):
    """A folder with a bundle of each kind of trees and a file of each node; predictions of all rows by `edgeward predict`."""

    task = TASK + 'kind = "performance"\n'
    predicted: Dict[str, np.ndarray]
    sick: np.ndarray
    ward: np.ndarray


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    draw, pooled = np.random.default_rng(5), []
    for node in NODES:
        rows = []
        for _ in range(150):
            age, ward, lactate = draw.uniform(20, 90), str(draw.choice(["a", "b", "c"])), draw.gamma(2, 1.5) + 0.1
            risk = 1 / (1 + np.exp(2 - 0.02 * (age - 50) - 0.6 * lactate - (ward == "c")))
            row = {"age": f"{age:.1f}", "ward": ward, "lactate": f"{lactate:.2f}"}
            row["sick"] = "yes" if draw.random() < risk else "no"
            row.update({"age": ""} if draw.random() < 0.1 else {})
            rows.append(row)
        write_rows(folder / f"{node}.csv", rows)
        pooled += rows
    write_rows(folder / "pooled.csv", pooled)
    predicted = {}
    for name, text in GROWN.items():
        (folder / "grow.toml").write_text(TASK + text + EXACT)
        task = load_config(folder / "grow.toml").task
        tried = try_analysis(task, [folder / f"{node}.csv" for node in NODES])
        said = {"tried": True, "analysis": report_of(tried.result, task)}
        (folder / f"{name}.json").write_text(json.dumps(said))
        export_trees(folder / f"{name}.json", folder / name)
        described = read_described(folder / name)
        data = read_rows(folder / "pooled.csv", described.schema, gaps=True)
        predicted[name] = outputs_of(described, described.inputs(data), "int8").astype(np.float64)
    sick = np.array([row["sick"] == "yes" for row in pooled]).astype(int)
    return Study(folder, predicted, sick, np.array(["abc".index(row["ward"]) for row in pooled]))


@pytest.mark.parametrize("name", ["forest", "boosted"])
def test_nodes_score_each_record_as_predict_does(study: Study, name: str) -> None:
    """Those too that lack a value: trees know where they go."""
    task = load_config(study.config(f'outcome = "sick"\nmodel = "{name}"\n{EXACT}')).task
    path = model_path(task, study.folder)
    assert path is not None
    scored = with_scores(analysis_of(task), path.read_bytes(), load_for(study.folder / "pooled.csv", task))
    np.testing.assert_array_equal(scored.x[:, -1], study.predicted[name][:, 1])
    assert np.isnan(scored.x).any()
    assert len(np.unique(scored.x[:, -1])) > 10


@pytest.mark.parametrize("method", METHODS)
def test_figures_are_those_of_predictions_on_all_rows(study: Study, method: str, tmp_path: Path) -> None:
    if method == "ckks":
        pytest.importorskip("tenseal")
    text = 'outcome = "sick"\nmodel = "forest"\nbins = 256\n' + EXACT + METHODS[method]
    found = tables(simulated(study.config(text), study.files(), tmp_path))
    (row,), (confusion,) = found["performance"], found["confusion"]
    check_two_classes(row, confusion, study.sick, study.predicted["forest"][:, 1], 256)


def test_with_noise_figures_are_near_and_the_ledgers_are_charged(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    text = 'outcome = "sick"\nmodel = "boosted"\nbins = 10\n' + noised(8.0) + METHODS["masked"]
    report = simulated(study.config(text), study.files(), tmp_path)
    (row,) = tables(report)["performance"]
    check_charged(report, tmp_path, 8.0)
    assert abs(row["records"] - len(study.sick)) < 60


def test_all_classes_at_once_are_those_that_predict_names(study: Study) -> None:
    task = load_config(study.config(f'outcome = "ward"\nmodel = "wards"\n{EXACT}')).task
    path = model_path(task, study.folder)
    assert path is not None
    scored = with_scores(analysis_of(task), path.read_bytes(), load_for(study.folder / "pooled.csv", task))
    named = study.predicted["wards"].argmax(axis=1)
    np.testing.assert_array_equal(scored.x[:, -1], named)
    result = try_analysis(task, study.files(), model=path).result
    cells = np.array([row[2:5] for table in result.tables if table.name == "confusion" for row in table.rows])
    assert len(set(named)) == 3
    expected = metrics.confusion_matrix(study.ward, named)
    np.testing.assert_array_equal(cells.astype(float), expected)


MISTAKES: Dict[str, Tuple[str, str, List[str]]] = {
    "a number": ("", 'model = "ages"', ["its model learned target 'number', and a score is of classes"]),
    "another range": (
        "maximum = 110",
        'model = "forest"',
        ["'age' has the range 0 to 110, the schema's the range 0 to 99"],
    ),
    "other categories": (
        '"a", "b", "c"',
        'model = "forest"',
        ["'ward' has the categories 'a', 'b', 'c', the schema's"],
    ),
    "no logarithm": (', transform = "log"', 'model = "forest"', ["'lactate' has the range 0.1 to 30 with a logarithm"]),
    "no such column": ('"age"', 'model = "forest"', ["takes column 'age', which the schema lacks"]),
    "other numbers": ("", 'model = { file = "forest", numbers = "int8" }', ["its model is of trees: leave it out"]),
    "a file alone": ("", 'model = "forest/model.bin"', ["of trees, and does not name its columns: name its bundle"]),
    "columns": ("", 'model = { file = "forest", inputs = ["age"] }', ["inputs: the bundle says it: leave it out"]),
}
CHANGED = {
    "maximum = 110": "maximum = 99",
    '"a", "b", "c"': '"a", "b", "d"',
    ', transform = "log"': "",
    '"age"': '"ages"',
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_said_when_the_file_is_read_all_at_once(study: Study, what: str) -> None:
    changed, text, said = MISTAKES[what]
    path = study.config(f'outcome = "sick"\n{text}\nbins = 1\n{EXACT}')
    path.write_text(path.read_text().replace(changed, CHANGED[changed]) if changed else path.read_text())
    with pytest.raises(UsageError) as error:
        load_config(path)
    for each in [*said, "task.analysis.model", "bins: 1"]:
        assert each in str(error.value)
