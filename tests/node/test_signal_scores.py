"""A model file that scores signals: what a node declines before it opens its data, and what its owner's rules keep inside."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from graph_samples import Builder
from guarded import Node
from offered import offered

from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.data.dataset import Dataset
from orchestrator.errors import GraphError, UsageError
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.approval import Approvals
from orchestrator.node.graph_admission import REFUSED, RUNS, admit_model
from orchestrator.node.graph_check import check_model
from orchestrator.node.graph_file import tflite_file
from orchestrator.node.graph_process import Limits
from orchestrator.node.scores import with_scores
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

SCHEMA = Schema("signal", "beat", ("N", "V"), {"0": 0, "1": 1}, samples=4, channels=2)


def model_of(edge: float, shape: Tuple[int, ...] = (1, 4, 2), ending: str = "LOGISTIC") -> bytes:
    """1 of signals whose first number is above `edge`, 0 of all others; the last operator is `ending`."""
    build = Builder()
    x = build.tensor(shape)
    flat = build.add("RESHAPE", [x, build.constant([1, 8], "int32")]) if len(shape) > 2 else x
    weights = np.zeros((2, 8), np.float32)
    weights[:, 0] = -1e4, 1e4
    found = build.add("FULLY_CONNECTED", [flat, build.constant(weights), build.constant([1e4 * edge, -1e4 * edge])])
    return tflite_file(build.function([x], [build.add(ending, [found])]))


def slow() -> bytes:
    """A signal becomes a matrix, multiplied with itself time and again."""
    build = Builder()
    x = build.tensor([1, 4, 2])
    flat = build.add("RESHAPE", [x, build.constant([1, 8], "int32")])
    one = build.add("SUM", [flat, build.constant([1], "int32")], keep_dims=True)
    whole = factor = build.add("TILE", [one, build.constant([1024, 1024], "int32")])
    for _ in range(20):
        whole = build.add("BATCH_MATMUL", [whole, factor])
    ends = build.constant([0, 0], "int32"), build.constant([1, 2], "int32")
    return tflite_file(build.function([x], [build.add("SLICE", [whole, *ends])]))


def task_of(model: bytes, schema: Schema = SCHEMA, **options: Any) -> Task:
    said = {"file": "m.tflite", "sha256": hashlib.sha256(model).hexdigest(), "size": len(model), "output": 1}
    analysis = {"kind": "performance", "outcome": schema.label or "beat", "bins": 2, "model": {**said, **options}}
    task = Task("t", schema, {}, Training(rounds=1), Privacy("none"), Rounds(3, 3), analysis=analysis)
    return spelled_out(replace(task, training=Training(rounds=1, parameters=analysis_of(task).sums.size)))


def signals(n: int = 60) -> Dataset:
    """Whose first numbers are 0.5, 1.5 and so on, in turn of either class."""
    x = np.random.default_rng(1).normal(0, 1, (n, 4, 2)).astype(np.float32)
    x[:, 0, 0] = np.arange(n) + 0.5
    return Dataset(x, (np.arange(n) % 2).astype(np.int32), places=np.arange(n))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[NodeStore]:
    opened = NodeStore(tmp_path / "node.sqlite")
    yield opened
    opened.close()


def scored(edge: float) -> Tuple[Task, Dataset]:
    model = model_of(edge)
    task = task_of(model)
    return task, with_scores(analysis_of(task), model, signals())


def test_a_model_tells_few_signals_apart_neither_alone_nor_with_another(tmp_path: Path) -> None:
    """The gateway chooses what it says of a signal: what holds for histograms of a column holds for its scores."""
    node = Node(tmp_path, minimum_cell=5)
    assert "disclosure.cell" in node.refusal(*scored(58.0)), "the last two signals"
    node.passed(*scored(30.0))
    assert "disclosure.difference" in node.refusal(*scored(32.0)), "one of each class lies between these models"
    Node(tmp_path / "free", minimum_cell=1).passed(*scored(32.0))


def test_three_classes_are_held_to_the_same(tmp_path: Path) -> None:
    schema = replace(SCHEMA, classes=("N", "V", "S"), label_values={"0": 0, "1": 1, "2": 2})
    node = Node(tmp_path, minimum_cell=5)

    def judged(edge: float) -> Tuple[Task, Dataset]:
        task = task_of(b"m", schema, output=0, outputs=(0, 1, 2))
        x = signals().x
        named = np.column_stack([np.eye(3)[np.arange(60) % 3], x[:, 0, 0] > edge])
        return replace(task, name=f"above {edge}"), Dataset(named, np.zeros(60, np.int32), places=np.arange(60))

    assert "disclosure.cell" in node.refusal(*judged(58.0))
    node.passed(*judged(30.0))
    assert "disclosure.difference" in node.refusal(*judged(33.0))


def named(schema: Schema, y: np.ndarray, predicted: np.ndarray) -> Tuple[Task, Dataset]:
    """A task over signals of whose label the file holds y, and what a model made of them."""
    k = len(schema.classes)
    options: Dict[str, Any] = {"output": 0, "outputs": tuple(range(k))} if k > 2 else {}
    truth = np.eye(k)[[schema.label_values[str(value)] for value in y]]
    x = np.column_stack([truth, predicted.astype(np.float64)])
    return task_of(b"m", schema, **options), Dataset(x, np.zeros(len(x), np.int32), places=np.arange(len(x)))


FOUR = Schema("signal", "beat", tuple("NVSF"), {"0": 0, "1": 1, "2": 2, "3": 3}, samples=4, channels=2)
OTHERS = [(0, 8), (15, 23), (30, 38)]
"""Signals of all other classes that the second model predicts as the last one."""
RENAMED: Dict[str, Tuple[Schema, Schema, List[Tuple[int, int, int]]]] = {
    "classes in another order": (
        SCHEMA,
        replace(SCHEMA, classes=("V", "N"), label_values={"0": 1, "1": 0}),
        [(59, 60, 0)],
    ),
    "classes by other names": (  # two pairs of predictions trade, so that no cell of the matrix tells
        FOUR,
        replace(FOUR, classes=tuple("nvsf")),
        [(0, 7, 1), (15, 22, 0), (30, 37, 3), (45, 52, 2), (40, 41, 1)],
    ),
    "a label by another name": (FOUR, replace(FOUR, label="rhythm"), [(0, 7, 3), (40, 41, 1)]),
}


@pytest.mark.parametrize("what", RENAMED)
def test_signals_of_a_class_are_the_same_whatever_a_gateway_calls_it(tmp_path: Path, what: str) -> None:
    """One signal of the first class moves alone, and so many of all others that counts of all classes together tell nothing."""
    first, second, moves = RENAMED[what]
    k = len(first.classes)
    turn, y = np.divmod(np.arange(60 * k), k)
    before = turn * k // 60
    after = before.copy()
    for start, end in OTHERS:
        after[(y > 0) & (start <= turn) & (turn < end)] = k - 1
    for start, end, predicted in moves:
        after[(y == 0) & (start <= turn) & (turn < end)] = predicted
    asked = named(second, y, after)
    Node(tmp_path / "alone", minimum_cell=5).passed(*asked)
    node = Node(tmp_path, minimum_cell=5)
    node.passed(*named(first, y, before))
    assert "disclosure.difference" in node.refusal(*asked)


def test_a_signal_adds_no_more_than_noise_is_made_for_whatever_the_model_says() -> None:
    for ending in ("LOGISTIC", "EXP", "LOG"):
        model = model_of(30.0, ending=ending)
        analysis = analysis_of(task_of(model))
        data = with_scores(analysis, model, signals())
        vectors = np.concatenate(list(unit_vectors(analysis, analysis.begin(0), data, "record")))
        assert np.isfinite(vectors).all()
        assert np.linalg.norm(vectors, axis=1).max() <= analysis.sums.bound + 1e-12
        missing = {"LOGISTIC": 0, "EXP": 30, "LOG": 30}[ending]
        found = total(iter([vectors]), analysis.sums.size)
        assert (found[-1], found[:4].sum()) == (missing, 60 - missing)


@pytest.mark.parametrize("shape", [(1, 2, 4), (1, 8)])
def test_a_model_of_another_shape_is_refused_and_not_tried(shape: Tuple[int, ...], store: NodeStore) -> None:
    model = model_of(1.0, shape)
    analysis = analysis_of(task_of(model))
    for check in (lambda: admit_model(store, model, analysis), lambda: with_scores(analysis, model, signals())):
        with pytest.raises(GraphError, match=r"the task's signals are \(4, 2\)"):
            check()
    assert all(state not in (RUNS, REFUSED) for _, state in store.graphs())


def test_a_model_that_overruns_is_never_tried_again(store: NodeStore) -> None:
    model, hasty = slow(), Limits(600.0, 600.0, 0.05, 0.0)
    for said in ("within its time limit", "ended or overran"):
        with pytest.raises(GraphError, match=said):
            admit_model(store, model, analysis_of(task_of(model)), hasty)
    assert dict(store.graphs()) == {check_model(model).digest(): REFUSED}


LIES: Dict[str, Tuple[Dict[str, Any], str]] = {
    "int8": ({"numbers": "int8"}, "nodes run float models alone"),
    "inputs": ({"inputs": ("beat",)}, "a signal has none"),
    "mean": ({"mean": (1.0,)}, "unit_scale alone"),
    "outputs": ({"outputs": (0, 1)}, "one `output` is judged"),
}


@pytest.mark.parametrize("what", LIES)
def test_what_a_gateway_says_of_signals_is_checked_by_its_words(what: str) -> None:
    options, said = LIES[what]
    with pytest.raises(UsageError, match=said):
        task_of(b"m", **options)


@pytest.mark.parametrize("changed", [{"label": "", "classes": (), "label_values": {}}, {"columns": ("beat", "x")}])
def test_signals_without_a_label_have_no_outcome(changed: Dict[str, Any]) -> None:
    schema = replace(SCHEMA, **changed)
    if schema.classes:
        assert analysis_of(task_of(b"m", schema)).schema.columns == ()
        return
    with pytest.raises(UsageError, match="the schema lacks label, classes and label_values"):
        task_of(b"m", schema)


def test_a_live_node_runs_it_once_its_owner_approved_what_is_said_of_it(tmp_path: Path) -> None:
    model, data = model_of(30.0), signals()
    np.savez(tmp_path / "icu.npz", x=data.x, beat=data.y)
    first, then = offered(tmp_path, task_of(model), model, tmp_path / "icu.npz")
    assert (first["kind"], first["code"], then["kind"]) == ("waiting", "policy.approval", "ready"), then
    text = "\n".join(Approvals(tmp_path / "state").find(str(first["digest"])).summary)
    assert "is run on each signal, of 4 samples and 2 channels" in text
    assert "of signals with their label 'beat'" in text


def test_a_model_of_another_shape_opens_no_data(tmp_path: Path) -> None:
    """There are none here: who opens them says so."""
    for number, (shape, code) in enumerate([((1, 4, 2), "data"), ((1, 2, 4), "graph")]):
        model = model_of(1.0, shape)
        said = offered(tmp_path / str(number), task_of(model), model)[-1]
        assert (said["kind"], said["code"]) == ("declined", code)
