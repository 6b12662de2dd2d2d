"""`edgeward node graph`: an owner compares a task's graph with its declared model, and lets a declined one be tried again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest
from graph_samples import softmax_regression

from orchestrator.cli.main import main
from orchestrator.node.approval import Approvals
from orchestrator.node.graph_admission import REFUSED
from orchestrator.node.store import NodeStore
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.structure import unstructure
from orchestrator.wire.task import Task
from orchestrator.wire.training import Training

FEATURES = tuple(Feature(f"f{i}", 0, 1) for i in range(3))
SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, FEATURES)
TASK = Task("t", SCHEMA, {"kind": "mlp", "hidden": []}, Training(batch_size=4))


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> List[Dict[str, Any]]:
    """Specs the worker got, which exports a softmax regression for each."""
    specs: List[Dict[str, Any]] = []

    def run_worker(verb: str, spec: Dict[str, Any], out: Path) -> None:
        specs.append(spec)
        (out / "training.tflite").write_bytes(softmax_regression(3, 2, spec["batch_size"]))

    monkeypatch.setattr("model_export.client.run_worker", run_worker)
    return specs


def ask(state: Path, graph: bytes, task: Task = TASK) -> str:
    return Approvals(state).ask("run-1", unstructure(task), graph).digest


def compare(state: Path, digest: str, *more: str) -> int:
    return main(["node", "graph", "compare", digest[:12], "--state", str(state), *more])


def test_the_declared_models_graph_is_the_same(
    tmp_path: Path, exported: List[Dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    graph = softmax_regression(3, 2, 4).replace(b"made by a test", b"another  text.")
    assert compare(tmp_path, ask(tmp_path, graph)) == 0
    assert capsys.readouterr().out.startswith("same: ")
    assert exported == [{"model": TASK.model, "input_shape": [3], "classes": 2, "batch_size": 4, "seed": 0}]


def test_another_models_graph_is_different(
    tmp_path: Path, exported: List[Dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    digest = ask(tmp_path, softmax_regression(3, 2, 5))
    assert compare(tmp_path, digest) == 1
    assert capsys.readouterr().out.startswith("different: ")
    assert compare(tmp_path, digest, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"digest": digest, "same": False}


def test_what_cannot_be_compared_is_neither(
    tmp_path: Path, exported: List[Dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    keras = ask(tmp_path, softmax_regression(3, 2, 4), replace(TASK, model={"kind": "keras", "path": "m.keras"}))
    assert compare(tmp_path, keras) == 2
    assert "--model" in capsys.readouterr().err
    assert compare(tmp_path, keras, "--model", str(tmp_path / "own.keras")) == 0
    assert exported[0]["model"]["path"] == str(tmp_path / "own.keras")
    damaged = ask(tmp_path, b"no graph")
    assert compare(tmp_path, damaged) == 2
    (tmp_path / "approvals" / f"{keras}.tflite").write_bytes(softmax_regression(3, 2, 5))
    assert compare(tmp_path, keras, "--model", str(tmp_path / "own.keras")) == 2
    assert "was changed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_export_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorflow", reason="comes with the gateway, not on a node")
    from model_export.models import build_model
    from model_export.training_graph import export_training_graph

    graph = export_training_graph(build_model(TASK.model, (3,), 2, seed=5), 4)
    assert compare(tmp_path, ask(tmp_path, graph)) == 0
    assert capsys.readouterr().out.startswith("same: ")


def test_a_declined_graph_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = NodeStore(tmp_path / "node.sqlite")
    store.note_graph("81c2" + "0" * 60, REFUSED)
    state = ["--state", str(tmp_path)]
    assert main(["node", "graph", "list", *state]) == 0
    assert capsys.readouterr().out == f"81c2{'0' * 12}  refused\n"
    assert main(["node", "graph", "forget", "99", *state]) == 2
    assert main(["node", "graph", "forget", "81", *state]) == 0
    assert store.graphs() == []
    store.close()


def test_digests_go_with_verbs(tmp_path: Path) -> None:
    assert main(["node", "graph", "compare", "--state", str(tmp_path)]) == 2
    assert main(["node", "graph", "list", "81", "--state", str(tmp_path)]) == 2
    assert main(["node", "graph", "list", "--state", str(tmp_path)]) == 2
