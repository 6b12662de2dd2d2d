"""Four hospitals, five seeds: Edgeward end to end beside scikit-learn on pooled and on local data, same rows and splits.

python benchmarks/heart_disease.py --data DIR [--seeds 5] [--epsilon 8] [--secure] [--json]

Every seed runs `edgeward demo --task heart-disease` (gateway, four nodes, virtual board as processes). The peers train
a logistic regression on the very rows the nodes had: `pooled` on all hospitals' rows in one place, which nobody may do in
earnest, and `local` on each hospital's own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from orchestrator.data.dataset import load_dataset
from orchestrator.gateway.config import load_config
from orchestrator.gateway.evaluation import score


def federated(data: Path, epsilon: str, seed: int, out: Path, secure: bool) -> Dict[str, Any]:
    command = [sys.executable, "-m", "orchestrator.cli.main", "demo", "--task", "heart-disease", "--data", str(data)]
    command += ["--rounds", "30", "--epsilon", epsilon, "--seed", str(seed), "--out", str(out)]
    command += ["--secure"] if secure else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    report: Dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def peers(out: Path) -> Dict[str, Any]:
    """Scores of pooled and local logistic regression on the test rows of a finished demo."""
    schema = load_config(out / "edgeward.toml").task.schema
    names = sorted(path.stem for path in (out / "nodes").glob("*.csv"))
    train = {name: load_dataset(out / "nodes" / f"{name}.csv", schema) for name in names}
    test = {name: load_dataset(out / "test" / f"{name}.csv", schema) for name in names}
    y = np.concatenate([test[name].y for name in names])
    groups = [name for name in names for _ in range(test[name].records)]

    def fit(x: np.ndarray, labels: np.ndarray) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, labels)

    pooled = fit(np.concatenate([train[n].x for n in names]), np.concatenate([train[n].y for n in names]))
    local = {n: fit(train[n].x, train[n].y) for n in names if len(set(train[n].y.tolist())) > 1}
    return {
        "pooled": score(y, np.concatenate([pooled.predict_proba(test[n].x) for n in names]), groups),
        "local": score(y, np.concatenate([local[n].predict_proba(test[n].x) for n in names]), groups),
    }


def mean_of_nodes(metrics: Dict[str, Any]) -> float:
    return float(np.mean(list(metrics["per_node"].values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilon", default="8", help="per record, or inf for training without privacy")
    parser.add_argument(
        "--secure", action="store_true", help="masked sums, and a share of the noise from every hospital"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: Dict[str, List[Dict[str, Any]]] = {}
    epsilons = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "out")
            report = federated(arguments.data, arguments.epsilon, seed, out, arguments.secure)
            epsilons.append(report["privacy"]["epsilon"])
            for name, metrics in {**report["metrics"], **peers(out)}.items():
                rows.setdefault(name, []).append(metrics)
    table = {
        name: {
            "auc": float(np.mean([m["auc"] for m in given])),
            "auc_sd": float(np.std([m["auc"] for m in given])),
            "mean_of_four": float(np.mean([mean_of_nodes(m) for m in given])),
            "pooled_accuracy": float(np.mean([m["accuracy"] for m in given])),
        }
        for name, given in rows.items()
    }
    if arguments.json:
        print(json.dumps({"seeds": arguments.seeds, "epsilon": epsilons, "rows": table}))
        return
    print(f"seeds 0-{arguments.seeds - 1}, epsilon spent {', '.join(f'{e:.2f}' if e else 'none' for e in epsilons)}\n")
    print("| model | pooled AUC | sd over seeds | mean-of-four accuracy | pooled accuracy |")
    print("|---|---|---|---|---|")
    for name, m in table.items():
        print(f"| {name} | {m['auc']:.3f} | {m['auc_sd']:.3f} | {m['mean_of_four']:.3f} | {m['pooled_accuracy']:.3f} |")


if __name__ == "__main__":
    main()
