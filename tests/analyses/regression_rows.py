"""Records that regressions are tried on, made up, and what is computed of them over two nodes."""

from typing import Any, Dict, Tuple

import numpy as np
from analysed_rows import OPEN, planned
from result_cells import pairs_of
from test_oracles import computed

from orchestrator.analyses.base import Result
from orchestrator.data.dataset import Dataset
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task


def task_of(schema: Schema, **options: Any) -> Task:
    declared = {"kind": "regression", **options}
    return planned(Task("t", schema, {}, privacy=OPEN, rounds=Rounds(6, 6), analysis=declared))


def of_rows(columns: Dict[str, np.ndarray], features: Tuple[Feature, ...], patients: Any = None) -> Dataset:
    """Inputs as `load_dataset` makes them: indicators of levels, given as their numbers."""
    found = []
    for feature in features:
        values = columns[feature.name]
        found.append(np.eye(feature.width)[values.astype(int)] if feature.categories else values[:, np.newaxis])
    x = np.concatenate(found, axis=1)
    return Dataset(x, np.full(len(x), -1, np.int32), patients)


MADE = (
    Feature("cost", 1, 200),
    Feature("count", 0, 60),
    Feature("sick", categories=("no", "yes")),
    Feature("a", -3, 5),
    Feature("b", 10, 90),
    Feature("arm", categories=("x", "y", "z")),
    Feature("times", 0, 6),
    Feature("shift", -2, 2),
)


def made(count: int = 400, seed: int = 3) -> Tuple[Dict[str, np.ndarray], np.ndarray]:
    """(columns of MADE, whose records they are): patients have up to nine records, which hang together."""
    draw = np.random.default_rng(seed)
    a, b, arm = draw.uniform(-3, 5, count), draw.uniform(10, 90, count), draw.integers(0, 3, count)
    patients = draw.integers(0, count // 4, count)
    predictor = 0.4 + 0.2 * a - 0.01 * b + 0.3 * (arm == 1) + draw.normal(0, 0.5, count)[patients]
    columns = {"a": a, "b": b, "arm": arm, "times": draw.integers(1, 7, count), "shift": draw.uniform(-2, 2, count)}
    columns["cost"] = np.clip(5 * np.exp(predictor) * draw.gamma(2, 0.5, count), 1, 200)
    columns["count"] = np.minimum(draw.poisson(np.exp(predictor)), 60).astype(float)
    columns["sick"] = (draw.random(count) < 1 / (1 + np.exp(-predictor))).astype(int)
    return columns, patients


def fitted(columns: Dict[str, np.ndarray], patients: np.ndarray, **options: Any) -> Result:
    """Over two nodes."""
    schema = Schema("table", "", (), {}, MADE, patient="who")
    task = task_of(schema, **{"inputs": ("a", "b", "arm"), **options})
    data = of_rows(columns, MADE, patients)
    return computed(task, [data.take(patients % 2 == 0), data.take(patients % 2 == 1)], "plain")


def plain_inputs(columns: Dict[str, np.ndarray]) -> np.ndarray:
    arms = [columns["arm"] == level for level in (1, 2)]
    return np.stack([np.ones(len(columns["a"])), columns["a"], columns["b"], *arms], axis=1)


def fit(result: Result) -> Dict[str, float]:
    return pairs_of(result.tables[-1])
