"""What a noise-to-signal ratio costs in accuracy: linear models, clipped gradients, noise of just that ratio.

    python benchmarks/noise_to_signal.py [--data heart-disease] [--rounds 30] [--seeds 12]

The figure `edgeward privacy plan` judges by (orchestrator/privacy/planning.py) says how long the noise on the sum of all steps is
beside the longest sum of all steps. Here it is set, and the accuracy that is left is measured, mean over seeds: at one learning
rate for all (0.5), and at the best of five, which nobody could have known without spending privacy on it.
"""

import argparse
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

RATIOS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 2.0)
RATES = (1.0, 0.5, 0.125, 0.03125, 0.0078125)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the four UCI heart disease files; left out without it")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=12)
    arguments = parser.parse_args()
    print("| data | noise to signal | accuracy, rate 0.5 | accuracy, best rate |\n|---|---|---|---|")
    for name, (x, y) in data_sets(arguments.data).items():
        for ratio in RATIOS:
            found = [
                float(np.mean([accuracy(x, y, arguments.rounds, rate, ratio, seed) for seed in range(arguments.seeds)]))
                for rate in RATES
            ]
            print(f"| {name} | {ratio:g} | {found[RATES.index(0.5)]:.3f} | {max(found):.3f} |", flush=True)


def data_sets(heart: Optional[Path]) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    from sklearn.datasets import load_breast_cancer, load_digits

    sets = {}
    if heart is not None:
        sets["heart disease"] = read_heart(heart)
    x, y = load_breast_cancer(return_X_y=True)
    sets["breast cancer"] = ((x - x.mean(axis=0)) / x.std(axis=0), y)
    x, y = load_digits(return_X_y=True)
    sets["digits"] = ((x - 8) / 8, y)
    return sets


def read_heart(folder: Path) -> Tuple[np.ndarray, np.ndarray]:
    """The ten columns that all hospitals measured, chest pain as four inputs; rows without a value are left out."""
    rows: List[List[float]] = []
    for path in sorted(folder.glob("processed.*.data")):
        for line in path.read_text(errors="replace").splitlines():
            cells = line.strip().split(",")
            if len(cells) == 14 and "?" not in cells[:10]:
                rows.append([float(cell) for cell in (*cells[:10], cells[13])])
    table = np.array(rows)
    pain = np.eye(4)[table[:, 2].astype(int) - 1]
    numbers = np.delete(table[:, :10], 2, axis=1)
    x = np.hstack([(numbers - numbers.mean(axis=0)) / numbers.std(axis=0), pain])
    return x, (table[:, 10] > 0).astype(int)


def accuracy(x: np.ndarray, y: np.ndarray, rounds: int, rate: float, ratio: float, seed: int) -> float:
    """Of a softmax regression on a third of the rows; result: the mean of the second half of the rounds' weights."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(x))
    train, test = order[: 2 * len(x) // 3], order[2 * len(x) // 3 :]
    x = np.hstack([x, np.ones((len(x), 1))])
    classes = int(y.max()) + 1
    weights = np.zeros((x.shape[1], classes))
    # On the sum of all rounds the noise is `ratio` times rounds * clip norm 1 long; so much is due to one round's mean.
    deviation = ratio * np.sqrt(rounds) / np.sqrt(weights.size)
    kept = []
    for _ in range(rounds):
        rows = train[random.random(len(train)) < 0.5]
        errors = softmax(x[rows] @ weights) - np.eye(classes)[y[rows]]
        norms = np.linalg.norm(errors, axis=1) * np.linalg.norm(x[rows], axis=1)
        errors *= np.minimum(1.0, 1.0 / np.maximum(norms, 1e-12))[:, np.newaxis]
        mean = x[rows].T @ errors / (0.5 * len(train))
        weights = weights - rate * (mean + random.normal(0.0, deviation, weights.shape))
        kept.append(weights)
    scores = x[test] @ np.mean(kept[rounds // 2 :], axis=0)
    return float((scores.argmax(axis=1) == y[test]).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


if __name__ == "__main__":
    main()
