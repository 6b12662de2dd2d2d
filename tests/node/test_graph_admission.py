"""Whether a node runs a graph: asked before data are opened, and remembered where it went wrong."""

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from graph_samples import softmax_regression

from orchestrator.errors import EdgewardError, GraphError
from orchestrator.node import graph_admission, graph_channel
from orchestrator.node.graph_admission import REFUSED, RUNS, TRIED, admit_graph, refuse_graph
from orchestrator.node.graph_check import check_graph
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Task
from orchestrator.wire.training import Training

GRAPH = softmax_regression(3, 2)
DIGEST = check_graph(GRAPH).digest()
FEATURES = tuple(Feature(f"f{i}", 0, 1) for i in range(3))
TASK = Task("t", Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, FEATURES), {"kind": "mlp", "hidden": []})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[NodeStore]:
    opened = NodeStore(tmp_path / "node.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """Functions that were run, in place of running them."""
    made: List[Any] = []
    monkeypatch.setattr(graph_admission, "try_graph", lambda graph, names, limits: made.append(names))
    return made


def test_a_graph_is_tried_once(store: NodeStore) -> None:
    admit_graph(store, GRAPH, TASK)
    assert store.graphs() == [(DIGEST, RUNS)]


def test_it_is_tried_with_what_the_task_runs(store: NodeStore, tries: List[Any]) -> None:
    private = dataclasses.replace(TASK, evaluation=Evaluation(0.2), privacy=Privacy(noise_multiplier=1.0))
    admit_graph(store, GRAPH, private)
    admit_graph(store, GRAPH, private)
    assert tries == [["grad1", "infer1"]]
    admit_graph(store, softmax_regression(3, 2, infer1=False), private)
    admit_graph(store, softmax_regression(3, 2, 5), dataclasses.replace(TASK, privacy=Privacy(unit="none")))
    assert tries[1:] == [["grad1", "infer"], ["grad"]]


CHANGES: Dict[str, Any] = {
    "parameters": (dataclasses.replace(TASK, training=Training(parameters=9)), "8 parameters, the task declares 9"),
    "features": (
        dataclasses.replace(TASK, schema=dataclasses.replace(TASK.schema, features=FEATURES[:2])),
        r"records of \(3,\)",
    ),
    "classes": (
        dataclasses.replace(TASK, schema=dataclasses.replace(TASK.schema, classes=("a", "b", "c"))),
        "2 classes, the task 3",
    ),
}


@pytest.mark.parametrize("what", sorted(CHANGES))
def test_a_graph_of_another_model_is_refused_and_not_blamed(store: NodeStore, tries: List[Any], what: str) -> None:
    task, says = CHANGES[what]
    with pytest.raises(GraphError, match=says):
        admit_graph(store, GRAPH, task)
    assert (tries, store.graphs()) == ([], [])
    admit_graph(store, GRAPH, TASK)


FATAL = """
import os, sys
sys.path.insert(0, {root!r})
from orchestrator.node import graph_child
graph_child._run = lambda *content: os._exit(1)
sys.path[:0] = sys.argv[3:]
graph_child.main(int(sys.argv[1]), False)
"""


def test_a_graph_that_ends_its_process_is_not_loaded_again(
    store: NodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatal = tmp_path / "fatal.py"
    fatal.write_text(FATAL.format(root=str(Path(__file__).resolve().parents[2])))
    monkeypatch.setattr(graph_channel, "CHILD", fatal)
    with pytest.raises(GraphError, match="ended before it answered"):
        admit_graph(store, GRAPH, TASK)
    assert store.graphs() == [(DIGEST, REFUSED)]
    monkeypatch.undo()
    for same in (GRAPH, GRAPH.replace(b"made by a test", b"made by a cat!")):
        with pytest.raises(GraphError, match="before, and is not loaded again"):
            admit_graph(store, same, TASK)
    admit_graph(store, softmax_regression(3, 2, 5), TASK)


def test_a_graph_that_ends_the_node_is_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tried in TRIED:  # once or twice may be a node that was stopped
        child = os.fork()
        if child == 0:
            own = NodeStore(tmp_path / "node.sqlite")
            monkeypatch.setattr(graph_admission, "try_graph", lambda *any: os._exit(9))
            admit_graph(own, GRAPH, TASK)
        os.waitpid(child, 0)
        store = NodeStore(tmp_path / "node.sqlite")
        assert store.graphs() == [(DIGEST, tried)]
        store.close()
    store = NodeStore(tmp_path / "node.sqlite")
    with pytest.raises(GraphError, match="before, and is not loaded again"):
        admit_graph(store, GRAPH, TASK)
    store.note_graph(DIGEST, None)
    admit_graph(store, GRAPH, TASK)
    store.close()


def test_a_machine_without_a_runtime_blames_no_graph(store: NodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise EdgewardError("no TensorFlow Lite runtime on this machine")

    monkeypatch.setattr(graph_channel, "runtime_package", missing)
    with pytest.raises(EdgewardError, match="no TensorFlow Lite runtime"):
        admit_graph(store, GRAPH, TASK)
    assert store.graphs() == []


def test_a_graph_that_fails_in_a_round_is_declined(store: NodeStore) -> None:
    admit_graph(store, GRAPH, TASK)
    refuse_graph(store, GRAPH)
    with pytest.raises(GraphError, match="before, and is not loaded again"):
        admit_graph(store, GRAPH, TASK)
