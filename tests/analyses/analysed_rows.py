"""Rows, tasks and sums the tests of analyses share."""

from typing import Any, Dict, List, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.data.dataset import Dataset
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.privacy.clipping import with_clipping
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

OPEN = Privacy("none")
SCHEMA = Schema(
    "table",
    "",
    (),
    {},
    (
        Feature("age", 18, 95),
        Feature("ferritin", 1, 5000, transform="log"),
        Feature("sex", categories=("f", "m")),
        Feature("smoker", categories=("no", "yes", "former")),
    ),
    patient="patient",
)
DECLARED: Dict[str, Dict[str, Any]] = {
    "statistics": {"kind": "statistics", "bins": 7, "crosstabs": (("sex", "smoker"),)},
    "quantiles": {
        "kind": "quantiles",
        "columns": ("ferritin", "age"),
        "quantiles": (0.25, 0.5),
        "by": "smoker",
        "bins": 6,
        "step": (1.0, 10.0),
    },
    "kmeans": {"kind": "kmeans", "clusters": 3, "rounds": 4},
    "mixture": {"kind": "mixture", "components": 3, "rounds": 4},
    "forest": {"kind": "forest", "outcome": "smoker", "trees": 6, "depth": 3, "bins": 4},
    "boosted": {"kind": "boosted", "outcome": "sex", "trees": 3, "depth": 2, "bins": 4, "least": 5},
    "survival": {"kind": "survival", "time": "age", "event": "sex", "by": "smoker", "steps": 6},
    "compare": {"kind": "compare", "by": "smoker"},
    "cox": {"kind": "cox", "time": "age", "event": "sex", "steps": 6},
    "pca": {"kind": "pca", "components": 2},
    "performance": {
        "kind": "performance",
        "outcome": "sex",
        "coefficients": {"age": 0.05, "smoker = yes": -0.5},
        "bins": 9,
    },
    "performance of a model file": {
        "kind": "performance",
        "outcome": "smoker",
        "event": "yes",
        "model": {"file": "out/bundle", "sha256": "5" * 64, "size": 300, "inputs": ("age", "sex")},
        "by": "sex",
        "bins": 9,
    },
    "performance of all classes": {
        "kind": "performance",
        "outcome": "smoker",
        "model": {"file": "out/bundle", "sha256": "5" * 64, "size": 300, "inputs": ("age",), "outputs": (2, 0, 1)},
        "by": "sex",
    },
    "regression": {"kind": "regression", "outcome": "sex", "family": "logistic"},
    "weighted regression": {
        "kind": "regression",
        "outcome": "sex",
        "family": "logistic",
        "inputs": ("smoker",),
        "weights": "age",
        "exposure": "ferritin",
        "weighting": "precision",
        "errors": "hc1",
    },
    "regression by products": {
        "kind": "regression",
        "outcome": "age",
        "family": "poisson",
        "interactions": (("ferritin", "sex"), ("sex", "smoker"), ("ferritin", "ferritin")),
    },
    "gamma regression": {
        "kind": "regression",
        "outcome": "age",
        "family": "gamma",
        "offset": "ferritin",
        "errors": "clustered",
    },
    "negative binomial regression": {
        "kind": "regression",
        "outcome": "age",
        "family": "negative-binomial",
        "errors": "hc0",
    },
    "clustered regression": {"kind": "regression", "outcome": "age", "offset": "ferritin", "errors": "clustered"},
    "svm": {"kind": "svm", "outcome": "sex", "nodes": ("a", "b", "c"), "iterations": 30},
    "hashing": {"kind": "hashing", "outcome": "smoker", "bits": 8, "bins": 8},
    "dosing": {"kind": "dosing", "weight": "age", "function": "", "doses": 3, "pairs": 3, "rounds": 2},
    "policy": {"kind": "policy", "action": "smoker", "reward": "age", "pairs": 3, "rounds": 2},
    "policy of episodes": {
        "kind": "policy",
        "action": "smoker",
        "reward": "age",
        "lower_is_better": True,
        "episodes": True,
        "most_weight": 5.0,
        "pairs": 3,
        "rounds": 2,
    },
    "lasso": {"kind": "regression", "outcome": "age", "penalty": "lasso", "strengths": (0.5, 0.1)},
}
"""Declarations over SCHEMA: a kind that is added needs one here, and is then held to all that follows."""


def task_of(kind: str, privacy: Privacy = OPEN, schema: Schema = SCHEMA, **options: Any) -> Task:
    """As a gateway announces it, but for its noise."""
    aggregation = options.pop("aggregation", Aggregation())
    task = Task(
        "t",
        schema,
        {},
        training=Training(rounds=1),
        privacy=privacy,
        rounds=Rounds(3, 3),
        aggregation=aggregation,
        analysis={**DECLARED[kind], **options},
    )
    return planned(task)


def planned(task: Task) -> Task:
    from dataclasses import replace

    analysis = analysis_of(task)
    training = Training(rounds=analysis.rounds, parameters=analysis.sums.size)
    return with_clipping(spelled_out(replace(task, training=training)))


def rows(count: int, seed: int, patients: int = 5) -> Dataset:
    """Random ones, with values missing, as load_dataset reads them with gaps; behind them scores, as of a model file."""
    draw = np.random.default_rng(seed)
    x = np.zeros((count, 7))
    x[:, 0] = draw.choice([18.0, 40.0, 64.5, 95.0], count)
    x[:, 1] = np.log(draw.uniform(1, 5000, count))
    x[draw.random((count, 7)) < 0.2] = np.nan
    x[:, 2:] = 0.0
    for start, levels in ((2, 2), (4, 3)):
        level = draw.integers(-1, levels, count)
        known = level >= 0
        x[np.flatnonzero(known), start + level[known]] = 1.0
    patient = draw.integers(0, patients, count)
    scores = np.where(
        draw.random(count) < 0.2, draw.choice([np.nan, np.inf, -1.0, 1.0, 9.0], count), draw.random(count)
    )
    return Dataset(np.column_stack([x, scores]), np.full(count, -1, np.int32), patient)


def summed(analysis: Analysis, asked: np.ndarray, data: Dataset, unit: str = "record") -> np.ndarray:
    return total(unit_vectors(analysis, asked, data, unit), analysis.sums.size)


def any_asked(analysis: Analysis, seed: int) -> np.ndarray:
    """What a gateway that lies may announce: any finite numbers."""
    draw = np.random.default_rng(seed)
    scale = 10.0 ** draw.integers(-3, 30)
    return (scale * draw.standard_normal(analysis.begin(0).shape)).astype(np.float32)


def split(data: Dataset, seed: int) -> Tuple[Dataset, Dataset]:
    """Among two nodes; a patient is at one of them."""
    assert data.patients is not None
    chosen = np.random.default_rng(seed).random(1 + data.patients.max())[data.patients] < 0.4
    return data.take(chosen), data.take(~chosen)


def without(data: Dataset, rows_of_one: np.ndarray) -> Dataset:
    kept = np.ones(data.records, bool)
    kept[rows_of_one] = False
    return data.take(kept)


def column(data: Dataset, at: int) -> List[float]:
    return [float(value) for value in data.x[:, at] if not np.isnan(value)]
