"""The schemas and weights these tests know, and bundles made of them as a gateway makes them."""

from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import numpy as np

from orchestrator.gateway.bundling import quantize
from orchestrator.gateway.calibration import Calibration
from orchestrator.gateway.run import Trained
from orchestrator.privacy.accounting_process import statement_apart
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Task

TABLE = Schema(
    "table",
    "sick",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (Feature("age", 0, 110), Feature("ward", categories=("a", "b", "?")), Feature("lactate", 0, 30)),
    patient="who",
)
SIGNAL = Schema(
    "signal", "beat", ("N", "V", "other"), {"0": 0, "1": 1, "2": 2}, samples=16, channels=2, unit_scale=200.0
)


class Known(NamedTuple):
    """A bundle and the logistic regression it was made of: logits = ((x - mean) / std) @ kernel + bias."""

    bundle: Path
    mean: np.ndarray
    std: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray


def table_bundle(out: Path) -> Known:
    mean, std = np.array([61.25, 1 / 3, 1 / 3, 1 / 3, 2.5], "f4"), np.array([17.5, 0.47, 0.47, 0.47, 1.75], "f4")
    kernel = np.array([[-0.8, 0.8], [0.2, -0.2], [-0.5, 0.5], [0, 0], [-1, 1]], "f4")
    bias = np.array([0.25, -0.25], "f4")
    task = Task("sepsis", TABLE, {"kind": "mlp", "hidden": []}, privacy=Privacy(unit="none"))
    trained = Trained(np.concatenate([kernel.ravel(), bias]), mean, std)
    return Known(_made(task, trained, None, out), mean, std, kernel, bias)


def three_class_bundle(out: Path) -> Path:
    """Of TABLE's columns: the higher age and lactate are, the graver is a state."""
    classes = ("well", "ill", "grave")
    schema = Schema("table", "state", classes, {"0": 0, "1": 1, "2": 2, **dict(zip(classes, range(3)))}, TABLE.features)
    mean, std = np.array([55.0, 0, 0, 0, 4.0], "f4"), np.array([20.0, 1, 1, 1, 2.8], "f4")
    kernel = np.array([[-0.3, 0, 0.3], [0.3, 0, 0], [0, 0.2, 0], [0, 0, 0], [-2.4, 0, 2.2]], "f4")
    task = Task("states", schema, {"kind": "mlp", "hidden": []}, privacy=Privacy(unit="none"))
    return _made(task, Trained(np.append(kernel.ravel(), np.array([0, 0.6, -0.6], "f4")), mean, std), None, out)


def layered_bundle(out: Path, hidden: Sequence[int], activation: str, seed: int) -> Path:
    """Of TABLE's columns three classes, by layers of random weights."""
    schema = Schema("table", "state", ("x", "y", "z"), {"0": 0, "1": 1, "2": 2}, TABLE.features)
    task = Task(
        "layers",
        schema,
        {"kind": "mlp", "hidden": list(hidden), "activation": activation},
        privacy=Privacy(unit="none"),
    )
    draw, widths, weights = np.random.default_rng(seed), [schema.input_shape[0], *hidden, 3], []
    for width, units in zip(widths, widths[1:]):
        weights += [draw.normal(0, 1.5 / width**0.5, width * units), draw.normal(0, 0.3, units)]
    mean, std = np.array([55.0, 0.3, 0.3, 0.3, 4.0], "f4"), np.array([20.0, 0.5, 0.5, 0.5, 3.0], "f4")
    return _made(task, Trained(np.concatenate(weights).astype("f4"), mean, std), None, out)


def autoencoder_bundle(out: Path, hidden: Sequence[int], weights: np.ndarray, activation: str = "tanh") -> Path:
    """Of TABLE's columns, which it gives back; inputs are not standardized."""
    schema = Schema("table", "", (), {}, TABLE.features, target={"kind": "none"})
    model = {"kind": "mlp", "hidden": list(hidden), "activation": activation}
    task = Task("codes", schema, model, privacy=Privacy(unit="none"), evaluation=Evaluation(0.2))
    width = schema.input_shape[0]
    return _made(task, Trained(weights.astype("f4"), np.zeros(width, "f4"), np.ones(width, "f4")), None, out)


def signal_bundle(out: Path) -> Path:
    model = {"kind": "cnn1d", "filters": [4], "kernel": 3, "dense": []}
    task = Task("beats", SIGNAL, model, privacy=Privacy(unit="none"))
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.5, 3 * 2 * 4 + 4 + 4 * 3 + 3).astype("f4")
    trained = Trained(weights, np.zeros((16, 2), "f4"), np.ones((16, 2), "f4"))
    return _made(task, trained, Calibration(rng.normal(0, 1, (50, 16, 2)).astype("f4")), out)


def _made(task: Task, trained: Trained, rows: Optional[Calibration], out: Path) -> Path:
    claim = statement_apart(task, {"n": 100})
    return Path(quantize(task, dict(task.model), trained, None, rows, claim, out, lambda event: None)["bundle"])
