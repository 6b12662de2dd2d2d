"""A number learned by a real federation: as good as least squares on all records, and the board as TFLM in every row."""

import csv
import json
import re
from io import StringIO
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import tomli_w
from rich.console import Console

from model_export.bundle import verify_bundle
from orchestrator.cli.demo import TASK_NAMES
from orchestrator.cli.main import main
from orchestrator.data.dataset import load_dataset
from orchestrator.demo.board import run_board
from orchestrator.demo.processes import Federation
from orchestrator.demo.report import assemble, plot_rounds, print_table
from orchestrator.demo.tasks import TASKS, Request
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.bundling import EVALUATION
from orchestrator.predict.engines import ENGINES

COLUMNS = {
    "coins": (0, 100),
    "xage": (0, 65),
    "female": (0, 1),
    "black": (0, 1),
    "income": (0, 30_000),
    "educdec": (0, 25),
    "disea": (0, 60),
    "physlm": (0, 1),
    "hlthg": (0, 1),
    "hlthf": (0, 1),
    "hlthp": (0, 1),
    "child": (0, 1),
    "lfam": (0, 3),
}
LEAST, MOST = 1.0, 10_000.0  # dollars; who spent nothing counts as one who spent one


def least_squares(rows: List[Dict[str, str]]) -> float:
    """R2 of the logarithm of outpatient spending on the columns, all records at one place."""
    x = np.array([[float(row[name]) for name in COLUMNS] for row in rows])
    y = np.log(np.clip([float(row["outpdol"]) for row in rows], LEAST, MOST))
    design = np.column_stack([np.ones(len(x)), x])
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum())


def write(path: Path, rows: List[Dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "outpdol"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def declaration(port: int) -> Dict[str, Any]:
    features = [{"name": name, "minimum": low, "maximum": high} for name, (low, high) in COLUMNS.items()]
    target = {"kind": "number", "minimum": LEAST, "maximum": MOST, "transform": "log"}
    return {
        "gateway": {"federation": "rand", "broker": "embedded", "port": port},
        "evaluation": {"all": "all.csv"},
        "task": {
            "name": "spending",
            "schema": {"kind": "table", "label": "outpdol", "target": target, "features": features},
            "model": {"kind": "mlp", "hidden": []},
            "training": {"strategy": "fedsgd", "rounds": 30, "learning_rate": 0.15},
            "privacy": {"unit": "none"},
            "evaluation": {"share": 0.4, "every": 15},  # of 0.2, one run in 150 was 0.05 off by chance
            "rounds": {"nodes": 3, "quorum": 3},
        },
    }


def test_spending_is_learned_as_least_squares_would(
    shared_data: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with shared_data("rand-hie/randhie.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_site = {f"node-{i}": [row for row in rows if int(row["site"]) in (2 * i - 1, 2 * i)] for i in (1, 2, 3)}
    nodes = {name: write(tmp_path / f"{name}.csv", of) for name, of in by_site.items()}
    data, out, port = write(tmp_path / "all.csv", rows), tmp_path / "out", free_port()
    config = tmp_path / "edgeward.toml"
    config.write_text(tomli_w.dumps(declaration(port)))
    with Federation(config, out, f"mqtt://127.0.0.1:{port}", "rand", nodes) as federation:
        events = list(federation.events())
    found, pooled = events[-1], least_squares(rows)
    figures = found["metrics"]["float"]
    assert figures["records"] == len(rows)
    assert figures["r2"] == pytest.approx(pooled, abs=0.01)
    assert found["metrics"]["tflm"]["r2"] == pytest.approx(pooled, abs=0.01)
    held_out = [event["federated"] for event in events if event["event"] == "evaluated"][-1]
    assert held_out["r2"] == pytest.approx(pooled, abs=0.05)
    assert held_out["mae"] == pytest.approx(figures["mae"], abs=0.1)

    board = run_board(out / "bundle", out / EVALUATION)["report"]
    assert (board["rows"], board["mismatches_vs_tflm"]) == (len(rows), 0)
    manifest = verify_bundle(out / "bundle")
    assert manifest["arena"]["direct_refused"] is None
    assert manifest["labels"] == []
    assert manifest["accuracy"]["tflm"]["r2"] == found["metrics"]["tflm"]["r2"]
    answers = []
    for engine in ENGINES:
        assert main(["predict", str(out / "bundle"), "--data", str(data), "--engine", engine, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]["predictions"] == answers[1]["predictions"]
    dollars = np.array([row["predicted"] for row in answers[0]["predictions"]])
    spent = np.array([float(row["outpdol"]) for row in rows])
    logs = np.log(np.clip(spent, LEAST, MOST))
    error = ((np.log(dollars) - logs) ** 2).mean() / logs.var()
    report = assemble(found, board, found["metrics"]["tflm"], 1.0)
    shown = Console(record=True, width=200, file=StringIO())
    print_table(report, shown)
    plot_rounds(report, tmp_path / "rounds.png")
    assert f"R2 {figures['r2']:.3f}" in re.sub(r"[\s│]+", " ", shown.export_text())
    assert (tmp_path / "rounds.png").stat().st_size > 1000
    assert 1 - error == pytest.approx(found["metrics"]["tflm"]["r2"], abs=1e-3), "predictions are in dollars"


def test_the_demo_has_a_number_to_learn(tmp_path: Path) -> None:
    prepared = TASKS["regression"](Request(3, 5, 8.0, 0, None, tmp_path))
    files = [*prepared.node_files.values(), *prepared.test_files.values()]
    sets = [load_dataset(path, prepared.task.schema) for path in files]
    assert (len(sets), sum(data.records for data in sets)) == (4, 442)
    assert not any(data.clamped for data in sets), "its public ranges hold all values"
    assert set(TASKS) == set(TASK_NAMES)
