"""A model file that scores records: what a node accepts and counts of one, and what it declines before it opens its data."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from agent_at_post import AtPost
from graph_samples import Builder, mutants, softmax_regression, training_file
from int8_samples import classifier, int8_file

from orchestrator.analyses.performance import Performance
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.cli.main import main
from orchestrator.data.dataset import Dataset
from orchestrator.errors import GraphError
from orchestrator.node.agent import NodeAgent
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.approval import Approvals
from orchestrator.node.graph_admission import REFUSED, RUNS, admit_model, refuse_model
from orchestrator.node.graph_check import check_model
from orchestrator.node.graph_file import Function, tflite_file
from orchestrator.node.graph_process import Limits
from orchestrator.node.scores import with_scores
from orchestrator.node.store import NodeStore
from orchestrator.wire.post import Post
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, digest_of, task_to_dict
from orchestrator.wire.training import Training

SCHEMA = Schema(
    "table",
    "",
    (),
    {},
    (
        Feature("age", 0, 100),
        Feature("sex", categories=("f", "m")),
        Feature("sick", categories=("no", "yes")),
    ),
)
WEIGHTS = np.array([[0.3, -1.0, 0.5], [-0.2, 0.4, -0.5]], np.float32)
MEAN, STD = (50.0, 0.5, 0.5), (20.0, 0.5, 0.5)
PATIENT = Limits(600.0, 600.0, 600.0, 1000.0)


def model_of(ending: Optional[str] = "SOFTMAX", weights: np.ndarray = WEIGHTS) -> bytes:
    """(age, f, m) -> a linear layer of two outputs, and an operator on these."""
    build = Builder()
    x = build.tensor([1, 3])
    found = build.add("FULLY_CONNECTED", [x, build.constant(weights), -1])
    options: Dict[str, Any] = {"beta": 1.0} if ending == "SOFTMAX" else {}
    return file_of(build.function([x], [build.add(ending, [found], **options) if ending else found]))


def file_of(function: Function) -> bytes:
    return tflite_file(function)


def task_of(model: bytes, named: Optional[bytes] = None, **options: Any) -> Task:
    """named: the file that the task names, where it is another one."""
    named = model if named is None else named
    said: Dict[str, Any] = {"file": "model.tflite", "sha256": hashlib.sha256(named).hexdigest(), "size": len(named)}
    said.update({"inputs": ("age", "sex"), "mean": MEAN, "std": STD, "output": 1, **options})
    analysis = {"kind": "performance", "outcome": "sick", "bins": 10, "model": said}
    task = Task("t", SCHEMA, {}, Training(rounds=1), Privacy("none"), Rounds(3, 3), analysis=analysis)
    return spelled_out(replace(task, training=Training(rounds=1, parameters=analysis_of(task).sums.size)))


def rows(ages: List[float]) -> Dataset:
    x = np.array([[age, i % 2, 1 - i % 2, i % 3 == 0, i % 3 != 0] for i, age in enumerate(ages)], np.float64)
    return Dataset(x, np.full(len(x), -1, np.int32))


def by_hand(data: Dataset) -> np.ndarray:
    logits = ((data.x[:, :3] - np.array(MEAN)) / np.array(STD)) @ WEIGHTS.T.astype(np.float64)
    return np.asarray(np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[NodeStore]:
    opened = NodeStore(tmp_path / "node.sqlite")
    yield opened
    opened.close()


def test_scores_are_what_the_model_gives_for_standardized_columns() -> None:
    data, model = rows([3.0, 20.0, 50.0, 71.5, 99.0]), model_of()
    scored = with_scores(analysis_of(task_of(model)), model, data)
    np.testing.assert_allclose(scored.x[:, -1], by_hand(data), atol=1e-6)
    np.testing.assert_array_equal(scored.x[:, :-1], data.x)
    other = with_scores(analysis_of(task_of(model, output=0)), model, data)
    np.testing.assert_allclose(other.x[:, -1], 1 - by_hand(data), atol=1e-6)


def test_a_record_without_an_input_has_no_score_and_changes_no_other() -> None:
    data, model = rows([3.0, np.nan, 50.0, 71.5, 99.0]), model_of()
    data.x[3, 1:3] = 0.0
    scores = with_scores(analysis_of(task_of(model)), model, data).x[:, -1]
    assert np.isnan(scores).tolist() == [False, True, False, True, False]
    whole = with_scores(analysis_of(task_of(model)), model, rows([3.0, 20.0, 50.0, 71.5, 99.0])).x[:, -1]
    np.testing.assert_array_equal(scores[[0, 2, 4]], whole[[0, 2, 4]])


def summed(model: bytes, data: Dataset) -> Tuple[Performance, np.ndarray]:
    analysis = analysis_of(task_of(model))
    assert isinstance(analysis, Performance)
    scored = with_scores(analysis, model, data)
    return analysis, total(unit_vectors(analysis, analysis.begin(0), scored, "record"), analysis.sums.size)


def test_what_is_no_number_is_counted_as_missing_and_never_leaves() -> None:
    """The logarithm of a number below 0."""
    data = rows([0.0, 100.0] * 10)
    _, found = summed(model_of("LOG", 1e3 * WEIGHTS), data)
    logits = ((data.x[:, :3] - np.array(MEAN)) / np.array(STD)) @ WEIGHTS.T
    below = int((logits[:, 1] < 0).sum())
    assert 0 < below < data.records
    assert np.isfinite(found).all()
    assert found[-1] == below
    assert found[:-3].sum() == data.records - below


@pytest.mark.parametrize("ending", [None, "EXP"])
def test_scores_beyond_0_and_1_count_as_the_nearest_end(ending: Optional[str]) -> None:
    """Those that are infinite are no number."""
    data = rows([0.0, 49.0, 51.0, 100.0])
    model = model_of(ending, np.float32(1e6) * WEIGHTS)
    analysis, found = summed(model, data)
    scores = with_scores(analysis, model, data).x[:, -1]
    assert np.isin(scores[~np.isnan(scores)], (0.0, 1.0)).all()
    assert np.isnan(scores).any() == (ending == "EXP")
    bins = found[:-3].reshape(2, 10)
    assert not bins[:, 1:-1].any()
    assert bins.sum() + found[-1] == data.records
    assert np.linalg.norm(found) <= data.records * analysis.sums.bound


def large(side: int, times: int) -> bytes:
    """A record becomes a matrix of so many rows and columns, multiplied with itself so often."""
    build = Builder()
    x = build.tensor([1, 3])
    one = build.add("SUM", [x, build.constant([1], "int32")], keep_dims=True)
    whole = factor = build.add("TILE", [one, build.constant([side, side], "int32")])
    for _ in range(times):
        whole = build.add("BATCH_MATMUL", [whole, factor])
    zero, two = build.constant([0, 0], "int32"), build.constant([1, 2], "int32")
    return file_of(build.function([x], [build.add("SLICE", [whole, zero, two])]))


def two_at_a_time() -> bytes:
    build = Builder()
    x = build.tensor([2, 3])
    return file_of(build.function([x], [build.add("FULLY_CONNECTED", [x, build.constant(WEIGHTS), -1])]))


def mixed(inputs: int, outputs: int) -> bytes:
    build = Builder()
    given = [build.tensor([1, 3]) for _ in range(inputs)]
    return file_of(build.function(given, [build.add("NEG", [given[0]]) for _ in range(outputs)]))


BAD: Dict[str, Tuple[bytes, str]] = {
    "no file": (b"", r"no \.tflite"),
    "no model": (b"\0" * 64, r"no \.tflite|damaged"),
    "a training graph": (softmax_regression(3, 2), "subgraphs, expected one"),
    "one with weights": (training_file({"infer": check_model(model_of()).functions["scores"]}), "2 inputs"),
    "two outputs": (mixed(1, 2), "2 outputs"),
    "two records at once": (two_at_a_time(), "one record at a time"),
    "gigabytes": (large(4000, 9), "too much memory"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_model_of_records_is_refused_before_a_runtime_sees_it(what: str, store: NodeStore) -> None:
    model, said = BAD[what]
    with pytest.raises(GraphError, match=said):
        admit_model(store, model, analysis_of(task_of(b"", model_of())))
    assert store.graphs() == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inputs": ("sex",), "mean": (), "std": ()}, "columns are 2 inputs"),
        ({"output": 2}, "2 outputs, the task counts number 2"),
    ],
)
def test_a_model_of_another_shape_than_the_task_says_is_refused(
    changed: Dict[str, Any], said: str, store: NodeStore
) -> None:
    model = model_of()
    for check in (lambda of: admit_model(store, model, of), lambda of: with_scores(of, model, rows([1.0]))):
        with pytest.raises(GraphError, match=said):
            check(analysis_of(task_of(model, **changed)))


def test_an_int8_model_is_checked_and_no_process_tries_it(store: NodeStore) -> None:
    """What a task calls int8 has to be, and the other way round; nothing is noted of it, since nothing can end."""
    whole = int8_file(*classifier())
    analysis = analysis_of(task_of(whole, numbers="int8"))
    admit_model(store, whole, analysis)
    refuse_model(store, whole, analysis)
    admit_model(store, whole, analysis)
    assert store.graphs() == []
    with pytest.raises(GraphError, match="float32; an int8 model has int8 tensors"):
        admit_model(store, model_of(), analysis)
    with pytest.raises(GraphError, match="version 4 is not accepted in a model file"):
        admit_model(store, whole, analysis_of(task_of(whole)))
    with pytest.raises(GraphError, match="columns are 2 inputs"):
        admit_model(store, whole, analysis_of(task_of(whole, numbers="int8", inputs=("sex",), mean=(), std=())))
    with pytest.raises(GraphError, match="4 outputs, the task counts number 4 from 0"):
        admit_model(store, whole, analysis_of(task_of(whole, numbers="int8", output=4)))


def test_a_model_is_tried_once_and_one_that_overruns_never_again(store: NodeStore) -> None:
    good, slow = model_of(), large(1024, 20)
    admit_model(store, good, analysis_of(task_of(good)))
    hasty = Limits(600.0, 600.0, 0.05, 0.0)
    for said in ("within its time limit", "ended or overran"):
        with pytest.raises(GraphError, match=said):
            admit_model(store, slow, analysis_of(task_of(slow)), hasty)
    assert dict(store.graphs()) == {check_model(good).digest(): RUNS, check_model(slow).digest(): REFUSED}


def test_a_damaged_model_is_read_or_refused() -> None:
    accepted = 0
    for mutant in mutants(model_of(), 3000, 7):
        try:
            accepted += check_model(mutant).input_shape == (3,)
        except GraphError:
            continue
    assert accepted, "some damage is of names and weights only"


def offered(
    folder: Path, task: Task, model: Optional[bytes], policy: str = "", again: Tuple[Tuple[str, Task, bytes], ...] = ()
) -> List[Dict[str, Any]]:
    """What a node says to tasks; it has no data file, so that it says `data` of a task for which it opened it."""
    path = folder / "policy.toml"
    path.write_text('[require]\nunits = ["none"]\nsteady = false\nstages = []\n' + policy)
    agent = NodeAgent(Post(), "f", "icu", folder / "none.csv", folder / "state", policy=path)
    node, said = AtPost(agent), []
    offers = [("one", task, model), *again]
    for run, each, content in offers:
        tensors = {} if content is None else {"graph": np.frombuffer(content, np.uint8)}
        node.hear({"kind": "task", "run": run, "task": task_to_dict(each)}, tensors)
        said.append(node.presence())
        if said[-1]["kind"] == "waiting":
            assert main(["node", "approve", said[-1]["digest"], "--state", str(folder / "state")]) == 0
            node.hear({"kind": "task", "run": run, "task": task_to_dict(each)}, tensors)
            said.append(node.presence())
    agent.close()
    return said


def test_another_model_than_the_task_names_opens_no_data(tmp_path: Path) -> None:
    model, other = model_of(), model_of(weights=-WEIGHTS)
    for number, (sent, code) in enumerate([(model, "data"), (other, "task"), (model[:-1], "task")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (said,) = offered(folder, task_of(model), sent)
        assert (said["kind"], said["code"]) == ("declined", code)


def test_a_model_that_is_not_accepted_opens_no_data(tmp_path: Path) -> None:
    (said,) = offered(tmp_path, task_of(BAD["gigabytes"][0]), BAD["gigabytes"][0])
    assert (said["kind"], said["code"]) == ("declined", "graph")


def test_an_owners_word_is_for_the_very_bytes_of_the_model(tmp_path: Path) -> None:
    model, other = model_of(), model_of(weights=-WEIGHTS)
    one, another = task_of(model), task_of(other)
    said = offered(tmp_path, one, model, "[approval]\nrequired = true\n", (("two", another, other),))
    kinds = [(each["kind"], each["code"]) for each in said]
    assert kinds == [("waiting", "policy.approval"), ("declined", "data")] * 2, (
        "the other one waits for a word of its own"
    )
    assert said[0]["digest"] == digest_of(task_to_dict(one), model)
    assert said[2]["digest"] == digest_of(task_to_dict(another), other)
    asked = Approvals(tmp_path / "state").find(str(said[0]["digest"]))
    text = "\n".join(asked.summary)
    assert f"the file 'model.tflite', {len(model)} bytes, SHA-256 {hashlib.sha256(model).hexdigest()}" in text
    assert "is run on 'age', 'sex' of each record" in text
    assert "kept within 0 and 1, leaves this node only in sums" in text
    assert Approvals(tmp_path / "state").graph(asked.digest) == model
