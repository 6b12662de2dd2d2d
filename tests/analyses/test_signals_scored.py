"""A model of signals evaluated over a federation: the figures are those of `edgeward predict` on all signals in one file."""

import json
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Tuple

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
)

from orchestrator.analyses.registry import analysis_of
from orchestrator.cli.main import main
from orchestrator.data.dataset import load_for
from orchestrator.gateway.config import load_config
from orchestrator.gateway.described_bundle import read_described, read_rows
from orchestrator.gateway.scored_file import FLOAT_FILE, model_path
from orchestrator.gateway.trial import try_analysis
from orchestrator.node.scores import with_scores
from orchestrator.predict.engines import outputs_of

pytestmark = pytest.mark.slow

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the gateway, not on a node")
if find_spec("tensorflow") is None:  # not imported: in one process with TenSEAL it crashes
    pytest.skip("TensorFlow makes bundles, at gateways", allow_module_level=True)

CLASSES = ("N", "V", "other")
TASK = """
[task]
name = "check"
[task.schema]
kind = "signal"
label = "beat"
classes = ["N", "V", "other"]
label_values = { 0 = 0, 1 = 1, 2 = 2 }
samples = 16
channels = 2
unit_scale = 200.0
[task.rounds]
nodes = 3
quorum = 3
[task.analysis]
kind = "performance"
outcome = "beat"
"""
MODEL = 'model = "bundle"\n'


@dataclass(frozen=True)
class Study(Hospitals):
    """A folder with a bundle and a file of each node; all signals' classes and probabilities by `edgeward predict`."""

    task = TASK
    ending = ".npz"
    p: np.ndarray
    y: np.ndarray


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("signals")
    bundle = known_bundles.signal_bundle(folder)
    described, draw, parts = read_described(bundle), np.random.default_rng(8), []
    for node in NODES:
        x = (200 * draw.normal(0, 1.5, (80, 16, 2))).astype(np.float32)
        np.savez(folder / "x.npz", x=x)
        p = _predicted(folder / "x.npz", bundle)
        y = np.where(draw.random(80) < 0.6, p.argmax(axis=1), draw.integers(0, 3, 80))
        np.savez(folder / f"{node}.npz", x=x, beat=y)
        parts.append((x, y))
    x, y = (np.concatenate(part) for part in zip(*parts))
    np.savez(folder / "pooled.npz", x=x, beat=y)
    assert described.schema.kind == "signal"
    return Study(folder, _predicted(folder / "pooled.npz", bundle), y)


def _predicted(path: Path, bundle: Path) -> np.ndarray:
    described = read_described(bundle)
    return outputs_of(described, described.inputs(read_rows(path, described.schema)), "float").astype(np.float64)


def check_one(found: Dict[str, List[Dict[str, Any]]], study: Study) -> None:
    (row,), (confusion,) = found["performance"], found["confusion"]
    check_two_classes(row, confusion, study.y == 1, study.p[:, 1], 200)
    check_calibration(found["calibration"], study.y == 1, study.p[:, 1])


def check_all(found: Dict[str, List[Dict[str, Any]]], study: Study) -> None:
    (row,) = found["performance"]
    named = study.p.argmax(axis=1)
    counts = [[line[f"predicted {name}"] for name in CLASSES] for line in found["confusion"]]
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(study.y, named))
    assert row["accuracy"] == pytest.approx(metrics.accuracy_score(study.y, named), abs=1e-12)
    assert row["macro F1"] == pytest.approx(metrics.f1_score(study.y, named, average="macro"), abs=1e-12)


JUDGED = {"one class": ('event = "V"\nbins = 200\n', check_one), "all classes": ("", check_all)}


@pytest.mark.parametrize(
    ("method", "judged"), [(m, j) for m in METHODS for j in JUDGED if m == "plain" or j == "all classes"]
)
def test_figures_are_those_of_predictions_on_all_signals(
    study: Study, method: str, judged: str, tmp_path: Path
) -> None:
    if method == "ckks":
        pytest.importorskip("tenseal")
    text, check = JUDGED[judged]
    check(tables(simulated(study.config(MODEL + text + EXACT + METHODS[method]), study.files(), tmp_path)), study)


def test_with_noise_figures_are_near_and_the_ledgers_are_charged(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    report = simulated(study.config(MODEL + noised(8.0) + METHODS["masked"]), study.files(), tmp_path)
    (row,) = tables(report)["performance"]
    check_charged(report, tmp_path, 8.0)
    assert row["accuracy"] == pytest.approx(metrics.accuracy_score(study.y, study.p.argmax(axis=1)), abs=0.15)


def test_nodes_score_each_signal_as_predict_does(study: Study) -> None:
    task = load_config(study.config(MODEL + 'event = "V"\n' + EXACT)).task
    path = model_path(task, study.folder)
    assert path is not None
    scored = with_scores(analysis_of(task), path.read_bytes(), load_for(study.folder / "pooled.npz", task))
    np.testing.assert_array_equal(scored.x[:, -1].astype(np.float32), study.p[:, 1].astype(np.float32))
    np.testing.assert_array_equal(scored.x[:, :-1], np.eye(3)[study.y])


def test_a_tflite_file_is_the_same_and_its_outputs_may_be_in_another_order(study: Study) -> None:
    shutil.copy(study.folder / "bundle" / FLOAT_FILE, study.folder / "plain.tflite")
    results = []
    for text in (MODEL, 'model = "plain.tflite"\n'):
        task = load_config(study.config(text + EXACT)).task
        results.append(try_analysis(task, study.files(), model=model_path(task, study.folder)).result.tables)
    assert results[0] == results[1]
    task = load_config(study.config('model = { file = "plain.tflite", outputs = [1, 0, 2] }\n' + EXACT)).task
    found = try_analysis(task, study.files(), model=model_path(task, study.folder)).result.tables
    counts = metrics.confusion_matrix(study.y, np.array([1, 0, 2])[study.p.argmax(axis=1)])
    np.testing.assert_array_equal([row[2:5] for row in found[2].rows], counts)


MISTAKES: Dict[str, Tuple[str, List[str]]] = {
    "a group": ('model = "bundle"\nby = "beat"', ["by: 'beat': a column, and signals have none: leave it out"]),
    "inputs": (
        'model = { file = "bundle/model_float.tflite", inputs = ["beat"], std = [2.0] }',
        ["model.inputs: of columns, and a signal has none", "model.std: of columns, and a signal is divided by"],
    ),
    "a score": ('score = "beat"', ["score: of columns, and signals have none", "only a model's file can be judged"]),
    "coefficients": ('coefficients = { beat = 1.0 }\nmodel = "bundle"', ["coefficients: of columns, and signals"]),
    "an outcome": ('model = "bundle"\nevent = "V"', ["outcome: 'beats': of signals it is the schema's label, 'beat'"]),
    "an event": ('model = "bundle"\nevent = "W"', ["event: 'beat' has no category 'W'"]),
    "int8": ('model = { file = "bundle", numbers = "int8" }', ["of which nodes run the float model: leave `numbers`"]),
    "an int8 file": ('model = "bundle/model.tflite"', ["of signals nodes run float models alone: name the float"]),
    "a shape": (
        'model = "bundle/model_float.tflite"',
        ["takes 16 x 2 numbers of a record, and the schema's signals have 17 x 2"],
    ),
    "another shape": ('model = "bundle"', ["its model's signals have samples 16, the schema's 17"]),
    "another scale": ('model = "bundle"', ["its model's signals have unit_scale 200, the schema's 100"]),
    "other classes": ('model = "bundle"', ["beat = 'S': no class of its model, whose 'beat' has 'N', 'V', 'other'"]),
    "a table's model": ('model = "tables/bundle"', ["its model is of schema.kind 'table', and the task's schema"]),
    "another kind": ('model = "bundle"', ["kind: 'statistics': of tables, and the schema is of kind 'signal'"]),
}
CHANGED = {
    "an outcome": ('outcome = "beat"', 'outcome = "beats"'),
    "a shape": ("samples = 16", "samples = 17"),
    "another shape": ("samples = 16", "samples = 17"),
    "another scale": ("200.0", "100.0"),
    "other classes": ('"V", "other"', '"S", "other"'),
    "another kind": ('"performance"', '"statistics"'),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_said_when_the_file_is_read(study: Study, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All at once: mistakes elsewhere in the file are in each answer."""
    text, said = MISTAKES[what]
    if "table" in what and not (study.folder / "tables").exists():
        known_bundles.table_bundle(study.folder / "tables")
    path = study.config(f"{text}\n{EXACT}[task.training]\nrounds = 0\n")
    path.write_text(path.read_text().replace(*CHANGED.get(what, ("", ""))))
    assert main(["analyze", str(path), "--data", str(study.files()[0])]) == 2
    found = capsys.readouterr().err
    for each in [*said, "rounds: 0"]:
        assert each in found, found


def test_an_attack_plays_signals_as_nodes_do(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dp_accounting")
    monkeypatch.setattr("orchestrator.audit.run.examine_analysis", lambda *_: iter(()))
    words = [
        "attack",
        str(study.config(MODEL + noised(3.0, "node"))),
        "--data",
        str(study.files()[0]),
        "--canaries",
        "300",
        "--json",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "consistent with the claim"
    assert main([*words, "--broken", "clip-off"]) == 1
