"""A model of several classes judged by all of them at once: scikit-learn's figures of the labels of `edgeward predict`."""

import csv
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
from graph_samples import Builder
from scored_hospitals import (
    EXACT,
    METHODS,
    NODES,
    Hospitals,
    check_charged,
    noised,
    simulated,
    tables,
    write_rows,
)

from orchestrator.analyses.class_figures import macro_f1, of_all, of_classes
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.cli.main import main
from orchestrator.data.dataset import load_for
from orchestrator.errors import DisclosureError, UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.described_bundle import read_described, read_rows
from orchestrator.gateway.scored_file import model_path
from orchestrator.gateway.trial import try_analysis
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.graph_file import tflite_file
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.scores import with_scores
from orchestrator.node.store import NodeStore
from orchestrator.predict.engines import outputs_of

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the gateway, not on a node")
if find_spec("tensorflow") is None:  # not imported: in one process with TenSEAL it crashes
    pytest.skip("TensorFlow makes bundles, at gateways", allow_module_level=True)

CLASSES = ("well", "ill", "grave")
WARDS = ("a", "b", "?")
TASK = """
[task]
name = "check"
[task.schema]
kind = "table"
features = [
  { name = "state", categories = ["grave", "well", "ill"] },
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
outcome = "state"
"""
MODEL = 'model = "bundle"\nby = "ward"\n'


@dataclass(frozen=True)
class Study(Hospitals):
    """A folder with a bundle and a file of each node; of all rows that lack nothing what they are, and what is predicted."""

    task = TASK
    truth: np.ndarray
    predicted: np.ndarray
    ward: np.ndarray
    missing: int


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("classes")
    known_bundles.three_class_bundle(folder)
    draw, missing, pooled = np.random.default_rng(5), 0, []
    for node in NODES:
        rows = []
        for _ in range(160):
            age, lactate = draw.uniform(20, 90), draw.gamma(2, 2.0)
            place = int(np.clip(np.rint(0.35 * lactate + 0.01 * (age - 50) + draw.normal(0, 0.5)), 0, 2))
            row = {"state": CLASSES[place], "age": f"{age:.1f}", "ward": str(draw.choice(WARDS))}
            row["lactate"] = f"{lactate:.2f}"
            if draw.random() < 0.05:
                row["age"], missing = "", missing + 1
            else:
                pooled.append(row)
            rows.append(row)
        write_rows(folder / f"{node}.csv", rows)
    write_rows(folder / "pooled.csv", pooled)
    predicted = _predicted(folder)
    truth, ward = (np.array([row[name] for row in pooled]) for name in ("state", "ward"))
    assert set(predicted) == set(CLASSES), "or figures of a class that never wins are compared"
    return Study(folder, truth, predicted, ward, missing)


def _predicted(folder: Path, model: str = "float") -> np.ndarray:
    """What `edgeward predict` says of all rows in one file."""
    out = folder / "predicted.csv"
    words = ["predict", str(folder / "bundle"), "--data", str(folder / "pooled.csv"), "--model", model]
    assert main([*words, "--out", str(out)]) == 0
    with out.open() as file:
        return np.array([row["predicted"] for row in csv.DictReader(file)])


@pytest.mark.parametrize("method", METHODS)
def test_figures_are_scikit_learns_of_predicted_labels(study: Study, method: str, tmp_path: Path) -> None:
    if method == "ckks":
        pytest.importorskip("tenseal")
    report = simulated(study.config(MODEL + EXACT + METHODS[method]), study.files(), tmp_path)
    found = tables(report)
    order = ["grave", "well", "ill"]
    assert [row["ward"] for row in found["performance"]] == ["all", *WARDS]
    for row in found["performance"]:
        chosen = np.full(len(study.truth), True) if row["ward"] == "all" else study.ward == row["ward"]
        y, p = study.truth[chosen], study.predicted[chosen]
        cells = [each for each in found["confusion"] if each["ward"] == row["ward"]]
        matrix = [[each[f"predicted {name}"] for name in order] for each in cells]
        np.testing.assert_array_equal(matrix, metrics.confusion_matrix(y, p, labels=order))
        assert row["records"] == len(y)
        assert row["accuracy"] == pytest.approx(metrics.accuracy_score(y, p), abs=1e-12)
        assert row["macro F1"] == pytest.approx(metrics.f1_score(y, p, average="macro"), abs=1e-12)
        assert row["base rate"] == pytest.approx(max((y == name).mean() for name in order), abs=1e-12)
        assert 0 <= row["from"] < row["accuracy"] < row["to"] <= 1
        assert row["macro F1 from"] < row["macro F1"] < row["macro F1 to"]
        _are_of_classes([each for each in found["classes"] if each["ward"] == row["ward"]], y, p, order)
    assert any(f"{study.missing} records without prediction" in note for note in report["analysis"]["notes"])


def _are_of_classes(rows: List[Dict[str, Any]], y: np.ndarray, p: np.ndarray, order: List[str]) -> None:
    ppv, sensitivity, f1, _ = metrics.precision_recall_fscore_support(y, p, labels=order, zero_division=0)
    for at, (each, name) in enumerate(zip(rows, order)):
        assert (each["class"], each["records"], each["predicted"]) == (name, (y == name).sum(), (p == name).sum())
        assert each["sensitivity"] == pytest.approx(sensitivity[at], abs=1e-12)
        assert each["F1"] == pytest.approx(f1[at], abs=1e-12)
        assert each["PPV"] == (pytest.approx(ppv[at], abs=1e-12) if (p == name).any() else None)
        assert each["F1 from"] <= each["F1"] <= each["F1 to"]


@pytest.mark.parametrize("event", ["", 'event = "ill"\n'])
def test_of_the_int8_model_scores_are_those_of_predict_bit_for_bit(study: Study, event: str) -> None:
    """The model that boards run; a .tflite of it, with its columns named, is the same."""
    described = read_described(study.folder / "bundle")
    shutil.copy(study.folder / "bundle" / "model.tflite", study.folder / "whole.tflite")
    said = f"mean = {[float(v) for v in described.mean]}, std = {[float(v) for v in described.std]}"
    order = "output = 1" if event else "outputs = [2, 0, 1]"
    named = f'model = {{ file = "whole.tflite", inputs = ["age", "ward", "lactate"], {said}, {order} }}\n'
    found = []
    for text in ('model = { file = "bundle", numbers = "int8" }\n', named):
        task = load_config(study.config(text + event + EXACT), files=True).task
        path = model_path(task, study.folder)
        assert path is not None
        assert spelled_out(task).analysis["model"]["numbers"] == "int8"
        scored = with_scores(analysis_of(task), path.read_bytes(), load_for(study.folder / "pooled.csv", task))
        found.append(scored.x[:, -1])
    np.testing.assert_array_equal(found[0], found[1])
    outputs = outputs_of(described, described.inputs(read_rows(study.folder / "pooled.csv", described.schema)), "int8")
    if event:
        np.testing.assert_array_equal(found[0].astype(np.float32), outputs[:, 1])
    else:
        labels = np.array(["grave", "well", "ill"])[found[0].astype(int)]
        np.testing.assert_array_equal(labels, np.array(described.schema.classes)[outputs.argmax(axis=1)])


def test_the_int8_model_is_evaluated_over_a_federation(study: Study, tmp_path: Path) -> None:
    report = simulated(
        study.config('model = { file = "bundle", numbers = "int8" }\n' + EXACT + METHODS["masked"]),
        study.files(),
        tmp_path,
    )
    labels = _predicted(study.folder, "int8")
    confusion = tables(report)["confusion"]
    matrix = [[row[f"predicted {name}"] for name in ("grave", "well", "ill")] for row in confusion]
    expected = metrics.confusion_matrix(study.truth, labels, labels=["grave", "well", "ill"])
    np.testing.assert_array_equal(matrix, expected)


def test_tables_and_a_picture_are_written(study: Study, tmp_path: Path) -> None:
    simulated(study.config(MODEL + EXACT), study.files(), tmp_path)
    (folder,) = (tmp_path / "analysis").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {"result.md", "result.png", "privacy.md"} < names
    (confusion,) = (name for name in names if "confusion" in name)
    with (folder / confusion).open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ward", "class", "predicted grave", "predicted well", "predicted ill"]
    assert len(rows) == 1 + 3 * 4


def test_with_noise_figures_are_near_and_intervals_are_wider(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    report = simulated(
        study.config('model = "bundle"\n' + noised(3.0) + METHODS["masked"]), study.files(), tmp_path / "noisy"
    )
    exact = simulated(study.config('model = "bundle"\n' + EXACT), study.files(), tmp_path / "exact")
    (row,), (bare,) = tables(report)["performance"], tables(exact)["performance"]
    check_charged(report, tmp_path / "noisy", 3.0)
    assert row["accuracy"] == pytest.approx(bare["accuracy"], abs=0.1)
    assert row["macro F1"] == pytest.approx(bare["macro F1"], abs=0.1)
    assert row["to"] - row["from"] > bare["to"] - bare["from"]
    assert any("each count carries noise" in note for note in report["analysis"]["notes"])


def test_of_equal_outputs_the_models_first_is_predicted(study: Study) -> None:
    """Whatever place its category has: `edgeward predict` knows the outputs alone."""
    build = Builder()
    x = build.tensor([1, 1])
    equal = build.add("MUL", [x, build.constant([[1.0, 1.0, 0.5]])])
    (study.folder / "equal.tflite").write_bytes(tflite_file(build.function([x], [equal])))
    for outputs, predicted in (([0, 1, 2], "grave"), ([1, 0, 2], "well"), ([2, 1, 0], "ill")):
        text = f'model = {{ file = "equal.tflite", inputs = ["lactate"], std = [30.0], outputs = {outputs} }}\n'
        task = load_config(study.config(text + EXACT), files=True).task
        result = try_analysis(task, study.files(), model=model_path(task, study.folder)).result
        confusion = result.tables[-1]
        counts = np.array([row[2:] for row in confusion.rows], float)
        assert counts[:, ["grave", "well", "ill"].index(predicted)].sum() == counts.sum() > 0


def _isolating(years: float) -> bytes:
    """(age) -> class 1 for who is older, class 0 for all others; class 2 for nobody."""
    build = Builder()
    x = build.tensor([1, 1])
    older = build.add("MUL", [x, build.constant([[0.0, 1.0, 0.0]])])
    return tflite_file(
        build.function([x], [build.add("SUB", [older, build.constant([[0.0, years, 1e6]])], activation=0)])
    )


def test_a_model_that_singles_out_one_person_meets_the_rules_and_the_bound(study: Study, tmp_path: Path) -> None:
    """Which class a model names is a channel for whatever a gateway likes to know of its inputs, a record at a time."""
    task_file, model = study.folder / "isolating.tflite", b""
    data = load_for(study.files()[0], load_config(study.config('score = "age"\nevent = "ill"\n' + EXACT)).task)
    ages = np.sort(data.x[:, 4][np.isfinite(data.x[:, 4])])
    model = _isolating(float(ages[-2:].mean()))
    task_file.write_bytes(model)
    task = spelled_out(
        load_config(study.config('model = { file = "isolating.tflite", inputs = ["age"] }\n' + EXACT), files=True).task
    )
    analysis = analysis_of(task)
    scored = with_scores(analysis, model, data)
    vectors = np.concatenate(list(unit_vectors(analysis, analysis.begin(0), scored, "record")))
    assert vectors.sum(axis=0)[:-1].reshape(3, 3)[:, 1].sum() == 1, "the oldest, and what that one has"
    assert np.linalg.norm(vectors, axis=1).max() <= analysis.sums.bound == 1.0
    store = NodeStore(tmp_path / "node.sqlite")
    guard = DisclosureGuard(lambda: Disclosure(minimum_cell=5), store)
    with pytest.raises(DisclosureError, match="minimum_cell: true and predicted classes"):
        guard.exact("0" * 64, task, analysis, analysis.begin(0), scored)
    store.close()


def test_what_is_no_number_names_no_class(study: Study) -> None:
    """Of a process that is the adversary's: outputs that are infinite or no number, and the record is left out."""
    (study.folder / "any.tflite").write_bytes(_isolating(50.0))
    task = load_config(
        study.config('model = { file = "any.tflite", inputs = ["age"], outputs = [2, 0, 1] }\n' + EXACT), files=True
    ).task
    scored = analysis_of(task).scored
    assert scored is not None
    answers = np.array(
        [[0.1, np.nan, 3], [np.inf, 0, 0], [-np.inf, 1, 0], [5, 5, 5], [-9, -8, -7], [0, 2, 1]], np.float32
    )
    np.testing.assert_array_equal(scored.scores(answers), [np.nan, np.nan, np.nan, 1, 0, 2])


def test_answers_beyond_the_classes_stay_in_the_bound(study: Study) -> None:
    """What is behind the inputs came out of a process that nobody vouches for."""
    task = load_config(study.config(MODEL + EXACT), files=True).task
    analysis = analysis_of(task)
    data = load_for(study.files()[0], task)
    for value in (-1e300, 1e300, 7.0, 0.49):
        answered = data._replace(x=np.column_stack([data.x, np.full(data.records, value)]))
        summed = total(unit_vectors(analysis, analysis.begin(0), answered, "record"), analysis.sums.size)
        assert summed.sum() == data.records
        assert summed.min() >= 0


MISTAKES: Dict[str, Tuple[str, str, List[str]]] = {
    "a category that is no class": (
        '"grave", "well", "ill"',
        'model = "bundle"',
        [
            "state = 'dead': no class of its model, whose 'state' has '0', '1', '2', 'well', 'ill', 'grave'; name one as `event`"
        ],
    ),
    "two categories of one class": (
        '"grave", "well"',
        'model = "bundle"',
        ["state = 'grave' and '2': one class of its model"],
    ),
    "thresholds": (
        "",
        'model = "bundle"\nthresholds = [0.5]',
        ["name an `event`, or leave them out"],
    ),
    "a score of its own": (
        "",
        'model = "bundle"\nscore = "age"',
        ["either the column with the score, or coefficients"],
    ),
    "another group": ("", 'model = "bundle"\nby = "age"', ["by: 'age': expected a column with some categories"]),
    "no such group": ("", 'model = "bundle"\nby = "wards"', ["by: 'wards': no such column, did you mean 'ward'?"]),
    "outputs of a bundle": ("", 'model = { file = "bundle", outputs = [0, 1, 2] }', ["outputs: the bundle says it"]),
    "an output twice": (
        "",
        'model = { file = "bundle/model_float.tflite", inputs = ["lactate", "age", "ward"], outputs = [0, 0, 1] }',
        ["model.outputs: expected each of 0 to 2 once, since 'state' has 3 categories"],
    ),
    "one output": (
        "",
        'model = { file = "bundle/model_float.tflite", output = 1 }',
        ["of all classes at once every output counts: name an `event`, or leave it out"],
    ),
    "too few outputs": (
        "",
        'model = { file = "two.tflite", inputs = ["age"] }',
        ["two.tflite: has 2 outputs, and 'state' has 3 categories"],
    ),
    "one class and all outputs": (
        "",
        'event = "ill"\nmodel = { file = "bundle/model_float.tflite", output = 1, outputs = [0, 1, 2] }',
        ["model.outputs: one `output` is judged here: leave them out"],
    ),
}
CHANGED = {
    '"grave", "well", "ill"': '"grave", "well", "dead"',
    '"grave", "well"': '"grave", "2", "well"',
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_said_when_the_file_is_read(study: Study, what: str) -> None:
    changed, text, said = MISTAKES[what]
    build = Builder()
    x = build.tensor([1, 1])
    two = build.function([x], [build.add("MUL", [x, build.constant([[0.5, 1.0]])])])
    (study.folder / "two.tflite").write_bytes(tflite_file(two))
    path = study.config(f"{text}\n{EXACT}")
    if changed:
        path.write_text(path.read_text().replace(changed, CHANGED[changed]))
    with pytest.raises(UsageError) as refused:
        load_config(path, files=True)
    for each in said:
        assert each in str(refused.value)


def test_a_class_that_the_outcome_lacks_is_said(tmp_path: Path) -> None:
    """Of four classes three are categories: a record that is predicted as the fourth would be in no cell."""
    from orchestrator.gateway.scored_file import classes_of
    from orchestrator.wire.schema import Feature, Schema

    trained = Schema(
        "table",
        "state",
        (*CLASSES, "dead"),
        {name: at for at, name in enumerate((*CLASSES, "dead"))},
        (Feature("age", 0, 1),),
    )
    outputs, wrong = classes_of(trained, Feature("state", categories=("grave", "well", "ill")))
    assert outputs == []
    assert "class 'dead' is no category of 'state'" in wrong[0]


def test_two_classes_are_judged_by_a_score_as_before(study: Study) -> None:
    text = 'model = "bundle"\nevent = "ill"\n'
    task = spelled_out(load_config(study.config(text + EXACT), files=True).task)
    assert "outputs" not in task.analysis["model"], "an owner's word on such a task is kept"
    result = try_analysis(task, study.files(), model=model_path(task, study.folder)).result
    assert [table.name for table in result.tables] == ["performance", "calibration", "thresholds", "confusion"]


TRUTH = np.array([[0.20, 0.05, 0.02], [0.06, 0.30, 0.08], [0.02, 0.07, 0.20]])


@pytest.mark.parametrize("noise", [0.0, 4.0])
def test_intervals_hold_what_they_say(noise: float) -> None:
    """Of 400 draws of 600 records each, with noise on every cell or without."""
    draw, held = np.random.default_rng(3), np.zeros(5)
    right, either = TRUTH.diagonal(), TRUTH.sum(axis=0) + TRUTH.sum(axis=1)
    f1 = 2 * right / either
    wanted = (right.sum(), f1.mean(), right[0] / TRUTH[0].sum(), right[0] / TRUTH[:, 0].sum(), f1[0])
    for _ in range(400):
        matrix = draw.multinomial(600, TRUTH.ravel()).reshape(3, 3) + draw.normal(0, noise, (3, 3))
        accuracy, low, high, macro, macro_low, macro_high, _ = of_all(matrix, noise)
        first = next(of_classes(matrix, noise))[2:]
        triples = [(accuracy, low, high), (macro, macro_low, macro_high), first[:3], first[3:6], first[6:9]]
        for at, (triple, truth) in enumerate(zip(triples, wanted)):
            found, start, end = (float(each) for each in triple if each is not None)
            assert start <= found <= end
            held[at] += start <= truth <= end
    assert (held / 400 >= 0.92).all()
    assert (held / 400 <= 0.99).all()


def test_noise_that_hides_it_leaves_it_out() -> None:
    matrix = 20.0 * np.eye(3) + 4
    assert None not in of_all(matrix, 0.0)
    assert of_all(matrix, 30.0) == (None,) * 7
    assert macro_f1(np.zeros((3, 3)), 0.0) == (None, None, None)


def test_a_class_that_never_occurs_is_not_in_the_mean() -> None:
    matrix = np.array([[8.0, 2, 0], [1, 9, 0], [0, 0, 0]])
    y, p = np.repeat([0, 0, 1, 1], [8, 2, 1, 9]), np.repeat([0, 1, 0, 1], [8, 2, 1, 9])
    assert macro_f1(matrix, 0.0)[0] == pytest.approx(metrics.f1_score(y, p, average="macro"), abs=1e-12)
