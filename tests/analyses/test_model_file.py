"""A bundle, or a .tflite, evaluated over a federation: the figures are those of `edgeward predict` on all rows in one file."""

import csv
import json
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "predict"))

import known_bundles
from scored_hospitals import (
    EXACT,
    METHODS,
    NODES,
    Hospitals,
    check_calibration,
    check_charged,
    check_two_classes,
    noised,
    simulated,
    tables,
    write_rows,
)

from orchestrator.analyses.registry import analysis_of
from orchestrator.cli.main import main
from orchestrator.data.dataset import load_for
from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.described_bundle import read_described, read_rows
from orchestrator.gateway.scored_file import FLOAT_FILE, model_path
from orchestrator.gateway.trial import try_analysis
from orchestrator.node.scores import with_scores
from orchestrator.predict.engines import outputs_of
from orchestrator.simulation.federation import simulate

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the gateway, not on a node")
if find_spec("tensorflow") is None:  # not imported: in one process with TenSEAL it crashes
    pytest.skip("TensorFlow makes bundles, at gateways", allow_module_level=True)

TASK = """
[task]
name = "check"
[task.schema]
kind = "table"
features = [
  { name = "sick", categories = ["0", "1"] },
  { name = "lactate", minimum = 0, maximum = 30 },
  { name = "age", minimum = 0, maximum = 110 },
  { name = "ward", categories = ["a", "b", "?"] },
]
missing_markers = [""]
[task.rounds]
nodes = 3
quorum = 3
[task.analysis]
kind = "performance"
outcome = "sick"
"""
MODEL = 'model = "bundle"\nby = "ward"\nbins = 200\n'


@dataclass(frozen=True)
class Study(Hospitals):
    """A folder with a bundle and a file of each node; all rows that lack nothing, by `edgeward predict`."""

    task = TASK
    p: np.ndarray
    y: np.ndarray
    ward: np.ndarray
    missing: int


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    bundle = known_bundles.table_bundle(folder).bundle
    draw, pooled, missing = np.random.default_rng(5), [], 0
    for node in NODES:
        rows = []
        for _ in range(150):
            age, ward, lactate = draw.uniform(20, 90), str(draw.choice(["a", "b", "?"])), draw.gamma(2, 1.5)
            sick = draw.random() < 1 / (1 + np.exp(2 - 0.02 * (age - 50) - 0.6 * lactate))
            row = {"who": "x", "age": f"{age:.1f}", "ward": ward, "lactate": f"{lactate:.2f}", "sick": str(int(sick))}
            if draw.random() < 0.05:
                row["age"], missing = "", missing + 1
            else:
                pooled.append(row)
            rows.append(row)
        write_rows(folder / f"{node}.csv", rows)
    write_rows(folder / "pooled.csv", pooled)
    described = read_described(bundle)
    data = read_rows(folder / "pooled.csv", described.schema)
    p = outputs_of(described, described.inputs(data), "float")[:, 1].astype(np.float64)
    sick, wards = np.array([int(row["sick"]) for row in pooled]), np.array([row["ward"] for row in pooled])
    return Study(folder, p, sick, wards, missing)


@pytest.mark.parametrize("method", METHODS)
def test_figures_are_those_of_predictions_on_all_rows(study: Study, method: str, tmp_path: Path) -> None:
    if method == "ckks":
        pytest.importorskip("tenseal")
    report = simulated(study.config(MODEL + EXACT + METHODS[method]), study.files(), tmp_path)
    found = tables(report)
    for row, confusion in zip(found["performance"], found["confusion"]):
        chosen = np.full(len(study.y), True) if row["ward"] == "all" else study.ward == row["ward"]
        check_two_classes(row, confusion, study.y[chosen], study.p[chosen], 200)
    assert {row["ward"] for row in found["performance"]} == {"all", "a", "b", "?"}
    check_calibration([band for band in found["calibration"] if band["ward"] == "all"], study.y, study.p)
    assert any(f"{study.missing} records without score" in note for note in report["analysis"]["notes"])


def test_with_noise_figures_are_near_and_the_ledgers_are_charged(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    report = simulated(
        study.config('model = "bundle"\nbins = 10\n' + noised(8.0) + METHODS["masked"]), study.files(), tmp_path
    )
    (row,) = tables(report)["performance"]
    check_charged(report, tmp_path, 8.0)
    assert abs(row["records"] - len(study.y)) < 60
    assert row["AUC"] == pytest.approx(metrics.roc_auc_score(study.y, study.p), abs=0.1)
    assert any("each count carries noise" in note for note in report["analysis"]["notes"])


def test_nodes_score_each_record_as_predict_does(study: Study) -> None:
    config = load_config(study.config(MODEL + EXACT))
    path = model_path(config.task, study.folder)
    assert path is not None
    scored = with_scores(
        analysis_of(config.task), path.read_bytes(), load_for(study.folder / "pooled.csv", config.task)
    )
    np.testing.assert_array_equal(scored.x[:, -1].astype(np.float32), study.p.astype(np.float32))


def test_a_tflite_file_with_its_columns_named_is_the_same(study: Study) -> None:
    shutil.copy(study.folder / "bundle" / FLOAT_FILE, study.folder / "plain.tflite")
    described = read_described(study.folder / "bundle")
    said = f"mean = {[float(v) for v in described.mean]}, std = {[float(v) for v in described.std]}"
    named = (
        f'model = {{ file = "plain.tflite", inputs = ["age", "ward", "lactate"], {said} }}\nby = "ward"\nbins = 200\n'
    )
    results = []
    for text in (MODEL, named):
        task = load_config(study.config(text + EXACT)).task
        results.append(try_analysis(task, study.files(), model=model_path(task, study.folder)).result.tables)
    assert results[0] == results[1]


def test_one_class_of_several_is_told_from_all_others(study: Study, tmp_path: Path) -> None:
    """The ward is predicted, by a model of three outputs whose second is a record's lactate over 30."""
    model = known_three()
    (study.folder / "three.tflite").write_bytes(model)
    text = (
        'model = { file = "three.tflite", inputs = ["lactate"], std = [30.0], output = 1 }\nevent = "b"\nbins = 100\n'
    )
    with pytest.raises(UsageError, match="of all classes at once every output counts: name an `event`"):
        load_config(_other(study, 'outcome = "ward"', text.replace('event = "b"', "") + EXACT))
    task = load_config(_other(study, 'outcome = "ward"', text + EXACT)).task
    result = try_analysis(task, study.files(), model=model_path(task, study.folder)).result
    (row,) = result.tables[0].rows
    rows = [row for path in study.files() for row in csv.DictReader(path.open())]
    y = np.array([row["ward"] == "b" for row in rows])
    assert row[1:3] == (len(rows), y.sum())
    bins = [int(np.float32(row["lactate"]) / np.float32(30) * np.float64(100)) for row in rows]
    assert row[3] == pytest.approx(metrics.roc_auc_score(y, bins), abs=0.005)


def _other(study: Study, outcome: str, text: str) -> Path:
    path = study.config(text)
    path.write_text(path.read_text().replace('outcome = "sick"', outcome))
    return path


def known_three() -> bytes:
    from graph_samples import Builder

    from orchestrator.node.graph_file import tflite_file

    build = Builder()
    x = build.tensor([1, 1])
    return tflite_file(build.function([x], [build.add("MUL", [x, build.constant([[0.5, 1.0, 2.0]])])]))


MISTAKES: Dict[str, Tuple[str, str, List[str]]] = {
    "no such file": ("", 'model = "gone.tflite"', ["gone.tflite: No such file"]),
    "no such bundle's file": ("", 'model = "."', ["manifest.json"]),
    "another range": (
        "maximum = 30 ",
        'model = "bundle"',
        ["'lactate' has the range 0 to 30, the schema's the range 0 to 31"],
    ),
    "other categories": (
        '"a", "b", "?"',
        'model = "bundle"',
        ["column 'ward' has the categories 'a', 'b', '?', the schema's the categories 'a', 'b', 'c'"],
    ),
    "no such column": (
        '"age"',
        'model = "bundle"',
        ["its model takes column 'age', which the schema lacks, did you mean 'ages'?"],
    ),
    "no such class": (
        '["0", "1"]',
        'model = "bundle"',
        ["sick = '2' is no class of its model, whose 'sick' has '0', '1', 'no', 'yes'"],
    ),
    "two of them": ("", 'model = "bundle"\nscore = "age"', ["either the column with the score, or coefficients"]),
    "a bundle's standardization": (
        "",
        'model = { file = "bundle", mean = [1.0], output = 0 }',
        ["model: mean: the bundle says it", "model: output: the bundle says it"],
    ),
    "what the gateway says": ("", 'model = { file = "bundle", size = 3 }', ["model: size: set by the gateway"]),
    "an int8 model called float": (
        "",
        'model = { file = "bundle/model.tflite", inputs = ["age", "ward", "lactate"], numbers = "float" }',
        ["numbers: 'float', and the model is of int8: leave it out"],
    ),
    "other numbers": (
        "",
        'model = { file = "bundle", numbers = "int16" }',
        ["model.numbers 'int16': expected one of float, int8"],
    ),
    "another width": (
        "",
        'model = { file = "bundle/model_float.tflite", inputs = ["age"] }',
        ["takes 5 numbers", "columns are 1"],
    ),
    "no such output": ("", 'model = { file = "bundle/model_float.tflite", output = 2 }', ["output 2: it has 2"]),
    "three outputs": (
        "",
        'model = { file = "three.tflite", inputs = ["age"] }',
        ["has 3 outputs: say which is the score"],
    ),
    "a number": ("", "model = 3", ["expected a bundle or a .tflite file"]),
    "an unknown key": ("", 'model = { file = "bundle", path = "x" }', ["model.path: unknown"]),
    "no width": (
        "",
        'model = { file = "bundle/model_float.tflite", std = [0.0] }',
        ["model.std: 1 numbers", "1e-30 to 1e30"],
    ),
}
CHANGED = {
    "maximum = 30 ": "maximum = 31 ",
    '"a", "b", "?"': '"a", "b", "c"',
    '"age"': '"ages"',
    '["0", "1"]': '["1", "2"]',
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_said_when_the_file_is_read(
    study: Study, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All at once: a mistake elsewhere in the file is in each answer."""
    changed, text, said = MISTAKES[what]
    (study.folder / "three.tflite").write_bytes(known_three())
    path = study.config(f"{text}\nbins = 1\n{EXACT}")
    if changed:
        path.write_text(path.read_text().replace(changed, CHANGED[changed]))
    trial = ["analyze", str(path), "--data", str(study.files()[0])]
    run = ["gateway", "run", str(path), "--out", str(tmp_path / "out")]
    for command in (trial, run) if what != "no such file" else (run,):
        assert main(command) == 2
        _says(capsys.readouterr().err, what, said)


def _says(found: str, what: str, said: List[str]) -> None:
    for each in said:
        assert each in found, found
    assert "task.analysis.model" in found or "task.analysis.score" in found
    if "unknown" not in what:
        assert "bins: 1" in found


def test_a_file_that_changed_since_is_not_announced(study: Study, tmp_path: Path) -> None:
    config = load_config(study.config(MODEL + EXACT))
    other = tmp_path / "other"
    shutil.copytree(study.folder / "bundle", other / "bundle")
    content = bytearray((other / "bundle" / FLOAT_FILE).read_bytes())
    content[-1] ^= 1
    (other / "bundle" / FLOAT_FILE).write_bytes(content)
    with pytest.raises(UsageError, match="another file than when"):
        simulate(config, other, dict(zip(NODES, study.files())), tmp_path / "out", lambda event: None)


def test_a_hospital_compares_its_data_with_a_task_without_the_model(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is the gateway's; a trial needs it, and says where it is not."""
    path = tmp_path / "edgeward.toml"
    path.write_text(TASK + MODEL + EXACT)
    assert main(["data", "validate", str(study.files()[0]), str(path)]) == 0
    capsys.readouterr()
    assert main(["analyze", str(path), "--data", str(study.files()[0])]) == 2
    assert f"{tmp_path / 'bundle'}: No such file" in capsys.readouterr().err


def test_an_attack_runs_the_model_as_nodes_do(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dp_accounting")
    monkeypatch.setattr("orchestrator.audit.run.examine_analysis", lambda *_: iter(()))
    config = study.config(MODEL + noised(3.0, "node"))
    words = ["attack", str(config), "--data", str(study.files()[0]), "--canaries", "16", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "consistent with the claim"


def test_what_a_task_says_of_a_model_is_its_digest_and_no_word_of_tasks_without(study: Study) -> None:
    from orchestrator.analyses.registry import spelled_out

    with_it = spelled_out(load_config(study.config(MODEL + EXACT)).task).analysis
    assert with_it["model"]["size"] == (study.folder / "bundle" / FLOAT_FILE).stat().st_size
    without = spelled_out(load_config(study.config('score = "lactate"\n' + EXACT)).task).analysis
    assert "model" not in without
    assert "event" not in without
    assert json.dumps(with_it)
