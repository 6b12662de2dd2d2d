"""What a clip norm costs: log-loss and accuracy of private softmax regression, by clip norm, at the same epsilon.

    python benchmarks/clip_norm.py [--data FOLDER]

The arithmetic of the nodes' steps in numpy, with Gaussian noise; eight splits each. `follows` is what a task that states no
clip norm gets (orchestrator/privacy/clipping.py).
"""

import argparse
import csv
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import log_loss

from orchestrator.privacy.accounting import plan_noise
from orchestrator.privacy.clipping import default_clip_norm
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task
from orchestrator.wire.training import Training

RATE, STEPS, LEARNING_RATE, SPLITS, NODES = 0.25, 80, 0.5, 8, 2
NUMBERS, CATEGORIES = (0, 3, 4, 7, 9), (1, 2, 5, 6, 8, 10, 11, 12)


def heart_disease(folder: Path) -> Tuple[np.ndarray, np.ndarray]:
    lines = [row for path in sorted(folder.glob("processed.*.data")) for row in csv.reader(path.open(errors="ignore"))]
    rows = [row for row in lines if len(row) == 14]
    columns = []
    for j in NUMBERS:
        values = np.array([np.nan if row[j] == "?" else float(row[j]) for row in rows])
        columns.append(np.where(np.isnan(values), np.nanmean(values), values))
    x = [(c - c.mean()) / c.std() for c in columns]
    for j in CATEGORIES:
        levels = sorted({row[j].replace(".0", "") for row in rows})
        k = len(levels)
        x += [
            (np.array([row[j].replace(".0", "") == level for row in rows]) - 1 / k) * k / (k - 1) ** 0.5
            for level in levels
        ]
    return np.stack(x, axis=1), np.array([int(float(row[13]) > 0) for row in rows])


def standardized(loader: Callable[[], Any]) -> Tuple[np.ndarray, np.ndarray]:
    data = loader()
    spread = data.data.std(axis=0)
    return (data.data - data.data.mean(axis=0)) / np.where(spread > 0, spread, 1), data.target


def task_of(x: np.ndarray, y: np.ndarray, epsilon: float) -> Task:
    classes = tuple(str(i) for i in range(int(y.max()) + 1))
    features = tuple(Feature(f"x{i}", -1, 1) for i in range(x.shape[1]))
    schema = Schema("table", "y", classes, {c: i for i, c in enumerate(classes)}, features, standardization="range")
    privacy = Privacy(epsilon=epsilon, delta=1e-4, clip_norm=0.0, sampling_rate=RATE)
    return plan_noise(Task("t", schema, {}, Training("fedsgd", rounds=STEPS), privacy))


def train(x: np.ndarray, y: np.ndarray, task: Task, clip_norm: float, seed: int) -> Tuple[float, float]:
    rng, classes = np.random.default_rng(seed), int(y.max()) + 1
    order = rng.permutation(len(y))
    trained, held = np.split(order, [int(0.7 * len(y))])
    inputs = np.c_[x, np.ones(len(x))]
    weights, tail = np.zeros((inputs.shape[1], classes)), []
    deviation = task.privacy.noise_multiplier * clip_norm * NODES**0.5
    for step in range(STEPS):
        batch = trained[rng.random(len(trained)) < RATE]
        error = probabilities(inputs[batch] @ weights) - np.eye(classes)[y[batch]]
        length = np.linalg.norm(error, axis=1) * np.linalg.norm(inputs[batch], axis=1)
        error *= np.minimum(1, clip_norm / np.maximum(length, 1e-9))[:, None]
        noised = inputs[batch].T @ error + rng.normal(0, deviation, weights.shape)
        weights = weights - LEARNING_RATE * noised / (RATE * len(trained))
        tail += [weights] if step >= STEPS // 2 else []
    found = probabilities(inputs[held] @ np.mean(tail, axis=0))
    return float(log_loss(y[held], found, labels=range(classes))), float((found.argmax(1) == y[held]).mean())


def probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with UCI's heart-disease files")
    given = parser.parse_args()
    sets: Dict[str, Tuple[np.ndarray, np.ndarray]] = {"breast cancer": standardized(load_breast_cancer)}
    if given.data is not None:
        sets["heart disease"] = heart_disease(given.data)
    sets["digits"] = standardized(load_digits)
    print(
        "| data | inputs, classes | epsilon | clip norm 1 | 2 | follows | twice that |\n|---|---|---|---|---|---|---|"
    )
    for name, (x, y) in sets.items():
        for epsilon in (1.0, 3.0, 8.0):
            task = task_of(x, y, epsilon)
            follows = default_clip_norm(task)
            cells: List[str] = []
            for clip_norm in (1.0, 2.0, follows, 2 * follows):
                loss, accuracy = np.mean([train(x, y, task, clip_norm, seed) for seed in range(SPLITS)], axis=0)
                cells.append(f"{loss:.3f}, {accuracy:.3f}")
            cells[2] = f"**{follows:g}**: {cells[2]}"
            print(f"| {name} | {x.shape[1]}, {int(y.max()) + 1} | {epsilon:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
