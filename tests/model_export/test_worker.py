"""The worker process as the gateway starts it: files, results, metrics, and errors as one JSON line."""

import errno
import faulthandler
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from export_samples import representative

from model_export.bundle import verify_bundle, write_folder
from model_export.client import START, run_worker
from model_export.errors import ExportError
from model_export.evaluation import area_under_roc, classification_metrics, softmax
from model_export.gradient_check import run_graph
from model_export.manifest import FILES, FLOAT_FILES, MANIFEST
from model_export.worker import VERBS, main

MODEL = {"model": {"kind": "mlp", "hidden": [16]}, "input_shape": [13], "classes": 3}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("prepared")
    said: List[Any] = []
    result = run_worker("prepare", {**MODEL, "batch_size": 4, "seed": 7}, out, said.append)
    return out, result, said


def test_prepare_writes_what_nodes_need(prepared: Any) -> None:
    out, result, said = prepared
    weights = np.load(out / "weights.npy")
    tensors = json.loads((out / "tensors.json").read_text())
    assert result["parameters"] == len(weights) == sum(t["size"] for t in tensors) == 13 * 16 + 16 + 16 * 3 + 3
    assert weights.dtype == np.float32
    assert [t["shape"] for t in tensors] == [[13, 16], [16], [16, 3], [3]]
    assert result["gradients"]["max_error"] <= 1e-4
    assert any("gradients" in line for line in said)
    graph = (out / "training.tflite").read_bytes()
    assert result["training_bytes"] == len(graph)
    calls = {"0|grad|w": weights, "0|grad|x": representative("mlp", 4), "0|grad|y": np.zeros(4, np.int32)}
    found = run_graph(graph, {**calls, "0|grad|sw": np.ones(4, np.float32)})
    assert found["0|grad|g"].shape == weights.shape


def test_bundle_writes_a_bundle_and_its_evaluation(prepared: Any, tmp_path: Path) -> None:
    x = representative("mlp")
    # The untrained model's own float answers are the labels: float must be perfect, int8 nearly.
    logits = _infer(prepared[0], x)
    y = logits.argmax(1)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    spec = {
        **MODEL,
        "name": "levels",
        "weights": str(prepared[0] / "weights.npy"),
        "representative": str(tmp_path / "x.npy"),
        "labels": ["a", "b", "c"],
        "evaluation": {"x": str(tmp_path / "x.npy"), "y": str(tmp_path / "y.npy"), "outputs": str(tmp_path / "apart")},
        "privacy": {"unit": "record"},
    }
    out = tmp_path / "bundle"
    result = run_worker("bundle", spec, out)
    manifest = verify_bundle(out)
    assert result["model_digest"] == manifest["model_digest"]
    assert result["float"] == {"accuracy": 1.0}
    assert result["int8"]["accuracy"] >= 0.9
    assert manifest["accuracy"] == {key: result[key] for key in ("float", "int8", "tflm")}
    assert manifest["privacy"] == {"unit": "record"}
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, *FLOAT_FILES, MANIFEST])
    assert sorted(manifest["float_model"]["files"]) == sorted(FLOAT_FILES)
    found = run_graph((out / "model_float.tflite").read_bytes(), {"rows": x})["rows"]
    np.testing.assert_allclose(found, softmax(logits), atol=1e-5)
    assert (tmp_path / "apart").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "apart").iterdir()} == {0o600}
    saved = {path.stem: np.load(path) for path in (tmp_path / "apart").iterdir()}
    assert sorted(saved) == ["eval_int8_inputs", "float_probs", "int8_probs", "tflm_outputs", "y"]
    assert saved["eval_int8_inputs"].dtype == saved["tflm_outputs"].dtype == np.int8
    np.testing.assert_allclose(saved["float_probs"], softmax(logits), atol=1e-6)
    assert np.abs(saved["int8_probs"] - saved["float_probs"]).max() < 0.06
    assert result["tflm"]["accuracy"] == float((saved["tflm_outputs"].argmax(1) == y).mean())


def _infer(prepared: Path, x: "np.ndarray") -> "np.ndarray":
    weights = np.load(prepared / "weights.npy")
    calls: Dict[str, Any] = {}
    for i in range(len(x)):
        calls.update({f"{i}|infer1|w": weights, f"{i}|infer1|x": x[i : i + 1]})
    found = run_graph((prepared / "training.tflite").read_bytes(), calls)
    return np.concatenate([found[f"{i}|infer1|logits"] for i in range(len(x))])


def start(tmp_path: Path, verb: str, spec: Any) -> "subprocess.CompletedProcess[str]":
    path = tmp_path / "spec.json"
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    command = [sys.executable, "-c", START, verb, str(path), str(tmp_path / "out")]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("verb", "spec", "message"),
    [
        ("prepare", "{", "spec.json: is no JSON"),
        ("prepare", "[]", "must hold one JSON object"),
        ("prepare", {"classes": 2, "input_shape": [3]}, "key 'model' is missing"),
        ("prepare", {**MODEL, "sead": 1}, "key 'sead' is unknown; accepted are batch_size"),
        ("bundle", {**MODEL, "name": "m", "representative": "no.npy"}, "no.npy: there is no such file"),
        ("bundle", {**MODEL, "name": "m", "representative": 5}, "representative is 5; accepted is the path"),
    ],
)
def test_a_bad_spec_is_one_json_line_before_tensorflow_starts(
    tmp_path: Path, verb: str, spec: Any, message: str
) -> None:
    done = start(tmp_path, verb, spec)
    assert done.returncode == 1
    assert message in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr
    assert "TensorFlow" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_errors_keep_their_type_across_the_process(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="model kind 'tree' is unknown"):
        run_worker("prepare", {**MODEL, "model": {"kind": "tree"}}, tmp_path / "out")


def test_a_process_that_was_killed_says_by_what(tmp_path: Path) -> None:
    def dies() -> None:
        faulthandler.disable()  # a forked copy of this process, whose handler would print where it was
        os.kill(os.getpid(), signal.SIGSEGV)

    with pytest.raises(ExportError, match="was ended by SIGSEGV: a layer of this model"):
        run_worker("prepare", MODEL, tmp_path, first=dies)


def test_only_the_worker_needs_tensorflow() -> None:
    code = (
        "import sys; from model_export import bundle, client, evaluation, manifest, model_bin, tflm, worker; "
        "print([m for m in ('tensorflow', 'keras', 'ai_edge_litert', 'tflite_micro') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "usage: {prepare,bundle} SPEC.json OUT_DIR\n"


def test_auc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 60).astype(float)
    positive = rng.random(60) < 0.4
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert area_under_roc(scores, positive) == pytest.approx(expected, abs=1e-12)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    assert classification_metrics(probabilities, np.array([0, 1, 0])) == {"accuracy": pytest.approx(2 / 3), "auc": 1.0}
    assert "auc" not in classification_metrics(probabilities, np.array([0, 0, 0]))


def test_a_linear_model_starts_at_zero_and_one_with_hidden_layers_does_not(tmp_path: Path) -> None:
    for hidden, starts_at_zero in (([], True), ([4], False)):
        out = tmp_path / f"out{len(hidden)}"
        run_worker("prepare", {"model": {"kind": "mlp", "hidden": hidden}, "input_shape": [3], "classes": 2}, out)
        assert (not np.load(out / "weights.npy").any()) == starts_at_zero


@pytest.mark.parametrize("name", ["b/model.tflite", None])
def test_a_full_disk_is_a_json_line_with_the_place(
    name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(spec: Path, out: Path) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    monkeypatch.setitem(VERBS, "bundle", full)
    assert main(["bundle", "spec.json", "the/bundle"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["type"] == "ExportError"
    assert answer["error"].startswith(f"{name or 'the/bundle'}")
    assert "No space left on device: make room on that disk" in answer["error"]


def test_a_bundles_file_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_folder(tmp_path / "bundle", {"model.tflite": b"x"}, signer_known=False)
    assert caught.value.filename == str(tmp_path / "bundle" / "model.tflite")
    assert not list(tmp_path.iterdir())
