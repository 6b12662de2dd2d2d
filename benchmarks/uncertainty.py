"""Four hospitals, one of them with its labels flipped: FedAvg beside strategy fuala, and what the heads' spread says of odd rows.

python benchmarks/uncertainty.py --data DIR [--seeds 5] [--epsilon 3] > benchmarks/results/uncertainty.md

Gateway and nodes run in this process, as `edgeward simulate` has them, with the same splits of UCI heart disease as
benchmarks/heart_disease.py; AUC is over all hospitals' test rows. Which records a node holds out is drawn in each run.
"""

import argparse
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from sklearn.metrics import roc_auc_score

from model_export.client import run_worker
from model_export.heads import mean_and_spread
from orchestrator.data.dataset import load_dataset
from orchestrator.demo.heart import HOSPITALS
from orchestrator.demo.tasks import Request, heart_disease
from orchestrator.gateway.memory_store import MemoryStore
from orchestrator.gateway.run import RunResult
from orchestrator.privacy.accounting import plan_noise
from orchestrator.simulation.federation import SimulatedNodes
from orchestrator.wire.protection import Privacy
from orchestrator.wire.stated import export_spec
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

ROUNDS, STEPS, RATE, BATCH, SHARE = 12, 5, 0.5, 256, 0.2

STRATEGIES = ("fedavg", "fuala")


class Outcome(NamedTuple):
    auc: float  # of the model
    heads: Optional[float]  # of the heads' mean
    shares: Dict[str, float]  # what a hospital's update counted for in the last round
    spreads: Dict[str, Tuple[float, float]]  # of rows: mean spread, and AUC of telling them from clean ones by it


def flip(path: Path) -> None:
    rows = [line.split(",") for line in path.read_text().split()]
    path.write_text("".join(",".join([*row[:-1], "0" if float(row[-1]) else "1"]) + "\n" for row in rows))


def declared(task: Task, strategy: str, privacy: Privacy) -> Task:
    training = Training(strategy, ROUNDS, STEPS, BATCH, RATE, parameters=2 * task.schema.input_shape[0] + 2)
    rules: Dict[str, Any] = {"evaluation": Evaluation(SHARE, ROUNDS), "rounds": Rounds(4, 4)}
    return plan_noise(replace(task, training=training, privacy=privacy, codec="float32", **rules))


def logits(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """float (..., n, 2) of weights (..., P) of a softmax regression over x (n, inputs)."""
    inputs = x.shape[1]
    return x @ weights[..., : 2 * inputs].reshape(*weights.shape[:-1], inputs, 2) + weights[..., None, 2 * inputs :]


def shares_of(heads: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n, heads, 2): each head's probabilities."""
    found = logits(heads, x)
    e = np.exp(found - found.max(axis=-1, keepdims=True))
    return np.asarray((e / e.sum(axis=-1, keepdims=True)).transpose(1, 0, 2))


def odd_rows(x: np.ndarray, schema: Any, rng: np.random.Generator) -> Dict[str, np.ndarray]:
    """Raw rows that are not like the hospitals': a third of the columns from other rows, all of them so, numbers at the ends."""
    mixed, swapped, extreme = x.copy(), x.copy(), x.copy()
    chosen = rng.random(x.shape) < 1 / 3
    for column in range(x.shape[1]):
        other = rng.permutation(x[:, column])
        mixed[:, column] = np.where(chosen[:, column], other, x[:, column])
        swapped[:, column] = other
    for place, feature in schema.numbers():
        low, high = feature.range
        extreme[:, place] = np.where(rng.random(len(x)) < 0.5, low, high)
    return {
        "a third of the columns of other rows": mixed,
        "every column of another row": swapped,
        "numbers at the ends of their ranges": extreme,
    }


def judged(task: Task, result: RunResult, tests: List[Path], seed: int) -> Outcome:
    sets = [load_dataset(path, task.schema) for path in tests]
    x, y = np.concatenate([d.x for d in sets]), np.concatenate([d.y for d in sets])

    def scaled(rows: np.ndarray) -> np.ndarray:
        return np.asarray((rows - result.mean) / result.std)

    outputs = logits(result.weights, scaled(x))
    auc = float(roc_auc_score(y, outputs[:, 1] - outputs[:, 0]))
    standing = result.rounds[-1].get("generalisation", {})
    shares = {node: each["share"] for node, each in standing.items()}
    if result.heads is None:
        return Outcome(auc, None, shares, {})
    mean, clean = mean_and_spread(shares_of(result.heads, scaled(x)))
    spreads = {"test rows as they are": (float(clean.mean()), 0.5)}
    for name, rows in odd_rows(x, task.schema, np.random.default_rng(seed)).items():
        _, spread = mean_and_spread(shares_of(result.heads, scaled(rows)))
        apart = roc_auc_score(np.repeat([0, 1], len(clean)), np.concatenate([clean, spread]))
        spreads[name] = float(spread.mean()), float(apart)
    wrong = mean.argmax(1) != y
    spreads["of them, those that are predicted wrong"] = float(clean[wrong].mean()), float(roc_auc_score(wrong, clean))
    return Outcome(auc, float(roc_auc_score(y, mean[:, 1])), shares, spreads)


def run(data: Path, graphs: Dict[Any, bytes], strategy: str, seed: int, flipped: str, privacy: Privacy) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        prepared = heart_disease(Request(4, ROUNDS, 8.0, seed, data, Path(folder)))
        if flipped:
            flip(prepared.node_files[flipped])
        task = declared(prepared.task, strategy, privacy)
        shape = task.schema.input_shape
        if shape not in graphs:
            with tempfile.TemporaryDirectory() as work:
                run_worker("prepare", export_spec(task, task.model), Path(work))
                graphs[shape] = (Path(work) / "training.tflite").read_bytes()
        first = np.zeros(task.training.parameters, np.float32)
        with SimulatedNodes(task, "benchmark", prepared.node_files) as nodes:
            result = nodes.run(MemoryStore(), "run", graphs[shape], first)
        return judged(task, result, list(prepared.test_files.values()), seed)


def table(found: Dict[Tuple[str, str], List[Outcome]]) -> List[str]:
    head = ("labels flipped at", "FedAvg", "fuala", "its least", "mean of its heads", "weight of that hospital")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|---|"]
    for flipped in ("", *HOSPITALS):
        plain, ours = found["fedavg", flipped], found["fuala", flipped]
        means = [each.heads for each in ours if each.heads is not None]
        share = f"{np.mean([each.shares[flipped] for each in ours]):.3f}" if flipped else "-"
        lines.append(
            f"| {flipped or 'none'} | {np.mean([each.auc for each in plain]):.3f} | {np.mean([each.auc for each in ours]):.3f} | "
            f"{min(each.auc for each in ours):.3f} | {np.mean(means):.3f} | {share} |"
        )
    return lines


def spread_table(outcomes: List[Outcome]) -> List[str]:
    lines = ["| rows | mean spread | AUC of telling them by it |", "|---|---|---|"]
    for name in outcomes[0].spreads:
        mean, apart = (np.mean([each.spreads[name][place] for each in outcomes]) for place in (0, 1))
        lines.append(f"| {name} | {mean:.3f} | {'-' if name == 'test rows as they are' else f'{apart:.3f}'} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilon", type=float, default=3.0, help="of the second table, per record")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    graphs: Dict[Any, bytes] = {}
    print("# Uncertainty-aware federation (strategy fuala)\n")
    print(
        "`python benchmarks/uncertainty.py --data ../shared/data/heart-disease > benchmarks/results/uncertainty.md`\n"
    )
    print(
        f"UCI heart disease, four hospitals, logistic regression, {ROUNDS} rounds of {STEPS} steps, {SHARE:.0%} of the records "
        f"held out; means over seeds 0 to {arguments.seeds - 1}. AUC of the model over all hospitals' test rows, whose labels "
        "are right."
    )
    for title, privacy in (
        ("Without privacy", Privacy("none")),
        (
            f"epsilon {arguments.epsilon:g} per record, delta 1e-3",
            Privacy("record", arguments.epsilon, 1e-3, 1.0, 0.25),
        ),
    ):
        found: Dict[Tuple[str, str], List[Outcome]] = {}
        for strategy in STRATEGIES:
            for flipped in ("", *HOSPITALS):
                found[strategy, flipped] = [
                    run(arguments.data, graphs, strategy, seed, flipped, privacy) for seed in range(arguments.seeds)
                ]
        print(f"\n## {title}\n")
        print("\n".join(table(found)))
        print("\nThe spread over the heads, where no labels are flipped:\n")
        print("\n".join(spread_table(found["fuala", ""])), flush=True)


if __name__ == "__main__":
    main()
