"""Hospitals at which a model there is already is judged: their files, ways to add up, and the command that simulates them."""

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping, Sequence

import numpy as np
import pytest

from orchestrator.node.ledger import LEDGER_FILE, Ledger

NODES = ("north", "south", "west")
EXACT = '[task.privacy]\nunit = "none"\n'
METHODS = {
    "plain": "",
    "masked": '[task.aggregation]\nmethod = "masked"\n',
    "ckks": '[task.aggregation]\nmethod = "ckks"\nkey_holder = "board"\n',
}


def noised(epsilon: float, noise: str = "distributed") -> str:
    return f'[task.privacy]\nunit = "record"\nepsilon = {epsilon}\ndelta = 1e-3\nnoise = "{noise}"\n'


@dataclass(frozen=True)
class Hospitals:
    """A folder with what a task judges and a file of each node. task: an edgeward.toml's first lines; ending: of the files."""

    folder: Path
    task: ClassVar[str]
    ending: ClassVar[str] = ".csv"

    def config(self, text: str) -> Path:
        path = self.folder / "edgeward.toml"
        path.write_text(self.task + text)
        return path

    def files(self) -> List[Path]:
        return [self.folder / f"{node}{self.ending}" for node in NODES]


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def simulated(config: Path, files: Sequence[Path], out: Path) -> Dict[str, Any]:
    """By the command, in a process of its own: TenSEAL crashes where another test imported TensorFlow."""
    words = ["simulate", str(config), "--data", *map(str, files), "--out", str(out), "--json"]
    done = subprocess.run([sys.executable, "-m", "orchestrator.cli.main", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def tables(report: Dict[str, Any]) -> Dict[str, List[Dict[str, Any]]]:
    found = report["analysis"]["tables"]
    return {each["name"]: [dict(zip(each["columns"], row)) for row in each["rows"]] for each in found}


def check_two_classes(row: Dict[str, Any], confusion: Dict[str, Any], y: np.ndarray, p: np.ndarray, bins: int) -> None:
    """Figures of a group are scikit-learn's, of its outcomes y and probabilities p; the AUC is that of the binned ones."""
    metrics = pytest.importorskip("sklearn.metrics")
    assert (row["records"], row["with the outcome"]) == (len(y), y.sum())
    binned = np.minimum(np.floor(p * bins), bins - 1)
    assert row["AUC"] == pytest.approx(metrics.roc_auc_score(y, binned), abs=1e-12)
    assert row["AUC"] == pytest.approx(metrics.roc_auc_score(y, p), abs=0.01)
    assert row["Brier score"] == pytest.approx(metrics.brier_score_loss(y, p), abs=1e-6)
    assert row["expected / observed"] == pytest.approx(p.sum() / y.sum(), rel=1e-6)
    (right, false), (missed, hit) = metrics.confusion_matrix(y, p >= 0.5)
    assert list(confusion.values())[2:] == [hit, false, missed, right, metrics.accuracy_score(y, p >= 0.5)]


def check_calibration(bands: Sequence[Dict[str, Any]], y: np.ndarray, p: np.ndarray) -> None:
    assert bands
    for band in bands:
        inside = (p >= band["from"]) & ((p < band["to"]) | (band["to"] == 1))
        assert band["records"] == inside.sum()
        assert band["observed"] == (pytest.approx(y[inside].mean()) if inside.any() else None)


def check_charged(report: Dict[str, Any], out: Path, epsilon: float) -> None:
    """What a run of one round spends, about so much, is in the ledger of each node: how many records, and their sums."""
    assert epsilon - 1 < report["privacy"]["epsilon"] <= epsilon
    for node in NODES:
        ledger = Ledger(out / "nodes" / node / LEDGER_FILE, [])
        try:
            used = [entry["uses"] for entry in ledger.entries() if entry["kind"] == "release"]
        finally:
            ledger.close()
        assert used == [{"count": 1}, {"analysis": 1}], node
