"""What is unusual, learned by a real federation under privacy, without labels: score and threshold in bundle and board."""

import csv
import json
import math
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import tomli_w
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from model_export.bundle import verify_bundle
from model_export.model_bin import parse_model_bin
from model_export.tflm import TflmModel
from orchestrator.boards.client import BoardClient
from orchestrator.boards.protocol import Record
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli.main import main
from orchestrator.demo.processes import Federation
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.described_bundle import read_described, read_rows
from orchestrator.predict.engines import ENGINES
from orchestrator.privacy.standardization import standardize

COLUMNS = {  # of the first ten, what such a nucleus may measure
    "radius": (5, 40),
    "texture": (5, 55),
    "perimeter": (30, 270),
    "area": (0.8, 45),  # in hundreds, so that all of them are samples of 16 bits in hundredths
    "smoothness": (0.04, 0.25),
    "compactness": (0, 1.1),
    "concavity": (0, 1.3),
    "points": (0, 0.3),
    "symmetry": (0.08, 0.7),
    "dimension": (0.03, 0.22),
}


def write(path: Path, rows: np.ndarray) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(COLUMNS), *rows.tolist()])
    return path


def declaration(port: int) -> Dict[str, Any]:
    features = [{"name": name, "minimum": low, "maximum": high} for name, (low, high) in COLUMNS.items()]
    return {
        "gateway": {"federation": "nuclei", "broker": "embedded", "port": port},
        "task": {
            "name": "unusual",
            "schema": {"kind": "table", "features": features, "target": {"kind": "none", "quantile": 0.9}},
            "model": {"kind": "mlp", "hidden": [3], "activation": "linear"},
            "training": {"strategy": "fedsgd", "rounds": 25, "learning_rate": 1.0},
            "privacy": {"unit": "record", "epsilon": 100.0, "delta": 0.001, "sampling_rate": 0.5},
            "evaluation": {"share": 0.4, "every": 25},
            "rounds": {"nodes": 2, "quorum": 2},
        },
    }


def exact(rows: np.ndarray, outputs: np.ndarray, model: TflmModel) -> List[float]:
    """Scores by hand, one value after the other, as Python counts."""
    found = []
    for row, output in zip(rows.reshape(len(rows), -1).tolist(), outputs.reshape(len(rows), -1).tolist()):
        total = 0.0
        for q, r in zip(row, output):
            given = (q - model.input.zero_point) * float(np.float32(model.input.scale))
            made = (r - model.output.zero_point) * float(np.float32(model.output.scale))
            off = float(np.float32(given - made))
            total += off * off
        found.append(float(np.float32(total / len(row))))
    return found


def test_tumours_are_unusual_to_who_saw_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_breast_cancer()
    values = data.data[:, :10] / np.where(np.arange(10) == 3, 100, 1)
    usual, unusual = values[data.target == 1], values[data.target == 0]
    nodes = {f"node-{i}": write(tmp_path / f"{i}.csv", usual[i:300:2]) for i in (0, 1)}
    out, port, config = tmp_path / "out", free_port(), tmp_path / "edgeward.toml"
    config.write_text(tomli_w.dumps(declaration(port)))
    with Federation(config, out, f"mqtt://127.0.0.1:{port}", "nuclei", nodes) as federation:
        events = list(federation.events())
    assert 50 < events[-1]["privacy"]["epsilon"] <= 100
    federated = [event["federated"] for event in events if event["event"] == "evaluated"][-1]
    manifest = verify_bundle(out / "bundle")
    assert manifest["anomaly"]["threshold"] == federated["threshold"], "from what nodes held out, with noise"
    assert "records that nodes held out" in manifest["anomaly"]["of"]
    assert "privacy" in manifest

    new = write(tmp_path / "new.csv", np.concatenate([usual[300:], unusual]))
    answers = []
    for engine in ENGINES:
        assert main(["predict", str(out / "bundle"), "--data", str(new), "--engine", engine, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]["predictions"] == answers[1]["predictions"]
    truth = np.arange(answers[0]["records"]) >= len(usual) - 300
    assert roc_auc_score(truth, [row["score"] for row in answers[0]["predictions"]]) > 0.7
    flagged = np.array([row["unusual"] for row in answers[0]["predictions"]])
    assert flagged[~truth].mean() < 0.5
    assert flagged[truth].mean() > flagged[~truth].mean() + 0.1

    described = read_described(out / "bundle")
    packed = (out / "bundle" / "model.bin").read_bytes()
    model = TflmModel(parse_model_bin(packed).tflite)
    rows = model.input.quantize(described.inputs(read_rows(new, described.schema)))
    seen: List[Record] = []
    with VirtualBoard(out / "bundle" / "model.bin") as board, BoardClient(board.port, on_record=seen.append) as client:
        client.info()
        found = client.infer(rows)
        metrics = client.metrics()
        counts = np.rint(100 * np.concatenate([usual[300:340], unusual[:20]])).astype(np.int16)
        client.stream(counts_per_unit=100)
        streamed = [record.fields for record in client.feed(counts) if record.kind == "detect"]
    assert found.scores is not None
    assert found.over is not None
    assert found.scores.tolist() == exact(rows, model.run(rows), model), "bit for bit, in every row"
    assert found.over.tolist() == flagged.tolist()
    assert metrics["over"] == flagged.sum()

    windows = model.input.quantize(standardize(counts.astype("f4") / np.float32(100), described.mean, described.std))
    scores = exact(windows, model.run(windows), model)
    over = [score > np.float32(manifest["anomaly"]["threshold"]) for score in scores]
    changes = [i for i in range(len(over)) if i == 0 or over[i] != over[i - 1]]
    assert len(changes) > 1
    said = [(fields["window"] - 1, fields["label"], math.ldexp(*fields["score"])) for fields in streamed]
    assert said == [(i, int(over[i]), scores[i]) for i in changes]
