"""How well an autoencoder and principal components of as many numbers give records back, with privacy and without (rand-hie)."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import tomli_w
from hospital_tables import Data, by, read, written

from model_export.gradient_check import run_graph
from orchestrator.analyses.base import Result
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import Dataset, load_for
from orchestrator.gateway.described_bundle import read_described
from orchestrator.gateway.trial import planned, try_planned
from orchestrator.privacy.standardization import standardize
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

COLUMNS = (
    Feature("xage", 0, 70),
    Feature("educdec", 0, 25),
    Feature("income", 0, 40_000),
    Feature("num", 0, 15),
    Feature("disea", 0, 60),
    Feature("ghindx", 0, 100),
    Feature("lfam", 0, 3),
)
COMPONENTS, DELTA, ALL = 3, 1e-5, (0.0, 1.0, 3.0)
"""ALL: epsilon of each column of the table; 0 is without privacy."""
NOISED = {"rounds": 100, "local_steps": 1, "learning_rate": 1.5, "schedule": "cosine", "strategy": "fedsgd"}
EXACT = {"rounds": 40, "local_steps": 20, "batch_size": 64, "learning_rate": 0.5, "schedule": "cosine"}


def codes(source: Path, seeds: int) -> None:
    """A table: the mean squared error of a number, in its standard deviations over all rows; all columns known."""
    rows = [row for row in read(source / "rand-hie" / "randhie.csv") if all(row[each.name] for each in COLUMNS)]
    data = Data(COLUMNS, by(rows, "site"))
    with tempfile.TemporaryDirectory() as folder:
        paths = written(data, Path(folder))
        task = _pca(Privacy("none"), len(paths))
        sites = [load_for(path, task) for path in paths]
        x = np.concatenate([site.x for site in sites]).astype(np.float64)
        print(
            f"| {COMPONENTS} numbers of {len(COLUMNS)} columns | {' | '.join(map(_headed, ALL))} |\n|---|"
            + "---|" * len(ALL)
        )
        for name, one in (("principal components", _of_pca), ("linear autoencoder", _of_autoencoder)):
            found = []
            for epsilon in ALL:
                draws = range(seeds if epsilon else 1)
                found.append(_median([one(paths, sites, x, epsilon, seed) for seed in draws]))
            print(f"| {name} | {' | '.join(found)} |", flush=True)
        least = float(np.sort(np.linalg.eigvalsh(np.corrcoef(x.T)))[:-COMPONENTS].sum()) / len(COLUMNS)
        print(
            f"\n{len(x):,} records. Of all rows in one place a plane of {COMPONENTS} directions comes to {least:.4f} at least."
        )


def _headed(epsilon: float) -> str:
    return f"record, epsilon {epsilon:g}" if epsilon else "no noise"


def _median(found: Sequence[Optional[float]]) -> str:
    known = [value for value in found if value is not None]
    return f"{np.median(known):.4f}" if 2 * len(known) > len(found) else "hidden"


def _off(x: np.ndarray, back: np.ndarray) -> float:
    return float((((x - back) / x.std(axis=0)) ** 2).mean())


def _privacy(epsilon: float) -> Dict[str, Any]:
    return {"unit": "record", "epsilon": epsilon, "delta": DELTA} if epsilon else {"unit": "none"}


def _pca(privacy: Privacy, nodes: int) -> Task:
    schema, rounds = Schema("table", "", (), {}, COLUMNS, missing_markers=("",)), Rounds(nodes, nodes)
    declared = {"kind": "pca", "components": COMPONENTS}
    task = Task(
        "pca",
        schema,
        {},
        privacy=privacy,
        rounds=rounds,
        aggregation=Aggregation("masked", honest=nodes),
        analysis=declared,
    )
    return replace(task, training=Training(rounds=analysis_of(task).rounds))


def _of_pca(
    paths: Sequence[Path], sites: Sequence[Dataset], x: np.ndarray, epsilon: float, seed: int
) -> Optional[float]:
    """Noise simulated as strong as that of a run with `noise = "distributed"`."""
    private = (
        Privacy(**_privacy(epsilon), clip_norm=0.0, sampling_rate=1.0, noise="distributed")
        if epsilon
        else Privacy("none")
    )
    result = try_planned(planned(_pca(private, len(paths)))[0], sites, seed).result
    columns, components = (_rows(result, name) for name in ("columns", "components"))
    if any(None in row for row in (*columns, *components)):
        return None
    mean, spread = (np.array([row[at] for row in columns], float) for at in (2, 3))
    plane = np.array([row[1:] for row in components], float)
    return _off(x, ((x - mean) / spread) @ plane @ plane.T * spread + mean)


def _rows(result: Result, name: str) -> List[Tuple[Any, ...]]:
    return next(each for each in result.tables if each.name == name).rows


def _of_autoencoder(paths: Sequence[Path], sites: Sequence[Dataset], x: np.ndarray, epsilon: float, seed: int) -> float:
    """`edgeward simulate`, with the float model of its bundle; a tenth of the records is held out, for the threshold."""
    training = NOISED if epsilon else EXACT
    features = [{"name": each.name, "minimum": each.range[0], "maximum": each.range[1]} for each in COLUMNS]
    privacy = {**_privacy(epsilon), **({"noise": "distributed", "sampling_rate": 0.2} if epsilon else {})}
    declared = {
        "name": "codes",
        "seed": seed,
        "schema": {"kind": "table", "features": features, "target": {"kind": "none"}},
        "model": {"kind": "mlp", "hidden": [COMPONENTS], "activation": "linear"},
        "training": training,
        "privacy": privacy,
        "evaluation": {"share": 0.1, "every": training["rounds"]},
        "rounds": {"nodes": len(paths), "quorum": len(paths)},
        "aggregation": {"method": "masked", "honest": len(paths)} if epsilon else {"method": "plain"},
    }
    with tempfile.TemporaryDirectory() as folder:
        config, out = Path(folder) / "edgeward.toml", Path(folder) / "out"
        config.write_text(tomli_w.dumps({"task": declared}))
        words = ["simulate", str(config), "--data", *map(str, paths), "--out", str(out)]
        subprocess.run([sys.executable, "-m", "orchestrator.cli.main", *words], check=True, capture_output=True)
        bundle = read_described(out / "bundle")
        inputs = standardize(x, bundle.mean, bundle.std)
        back = run_graph((bundle.folder / "model_float.tflite").read_bytes(), {"rows": inputs})["rows"]
    return _off(x, back.reshape(x.shape) * bundle.std + bundle.mean)
