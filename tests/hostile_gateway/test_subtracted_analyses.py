"""Attack: the exact sum of an analysis over n nodes, then the same sum under another name over all but one. Promise: a node helps
with an analysis of a schema that asks the same over one set of nodes only, whatever its options and however it is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from inside import make_schema
from test_subtracted_sums import FEWER, OTHERS, VICTIM, Attacked

from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.errors import EdgewardError
from orchestrator.node.contribution import Contribution, Contributor
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.vector_layout import Layout
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

FEATURES = (Feature("x0", 0.0, 1.0), Feature("x1", -1.0, 1.0), Feature("x2", -1.0, 1.0))
SCHEMA = make_schema(label="", classes=(), label_values={}, standardization="federated", features=FEATURES)
START = ((0.5, 0.25, -0.5), (0.75, 0.0, 1.0))
STATISTICS = {"kind": "statistics", "bins": 4}
KMEANS = {"kind": "kmeans", "clusters": 2, "rounds": 5, "start": START}


class AttackedAnalysis(Attacked):
    """The victim computes what it is asked for, by its own code."""

    def _contribute(self, number: int, header: Any, tensors: Any, layout: Layout) -> Contribution:
        return Contributor(self.run, self.store, VICTIM, GradientTrainer).contribute(number, header, tensors, layout)


def task_of(analysis: Dict[str, Any]) -> Task:
    secure, rules = Aggregation("masked", honest=3), Rounds(5, 3)
    task = Task("t", SCHEMA, {}, privacy=Privacy("none"), aggregation=secure, rounds=rules, analysis=analysis)
    found = analysis_of(task)
    return spelled_out(replace(task, training=Training(rounds=found.rounds, parameters=found.sums.size)))


def asked(task: Task) -> Dict[str, np.ndarray]:
    return {"weights": analysis_of(task).begin(0)}


def cut_elsewhere(weights: np.ndarray) -> np.ndarray:
    """The same centres, each as two other numbers."""
    high, low = np.split(weights.astype(np.float64), 2)
    other = (high + low).astype(np.float32) + np.float32(2.0**-20)
    return np.concatenate([other, (high + low - other).astype(np.float32)])


def beyond(weights: np.ndarray) -> np.ndarray:
    """What is beyond the range is read as its end."""
    high, low = np.split(weights, 2)
    return np.concatenate([np.where(high == 1.0, np.float32(7.0), high), low])


def told_otherwise(weights: np.ndarray) -> np.ndarray:
    """A regression is announced with the coefficients before and their likelihood, too: nodes do not read them."""
    other = weights.copy()
    other[-1] = 3.0
    return other


POISSON = {"kind": "regression", "outcome": "x0", "family": "poisson", "rounds": 5}
LINEAR = {"kind": "regression", "outcome": "x0", "inputs": ["x1"]}
AGAIN: Dict[str, Any] = {
    "a regression, asked with another likelihood": (POISSON, POISSON, told_otherwise),
    "a linear model, asked with other coefficients": (LINEAR, LINEAR, lambda weights: weights + 1),
    "statistics, asked with another number": (STATISTICS, STATISTICS, lambda weights: weights + 1),
    "statistics, with other bins": (STATISTICS, {**STATISTICS, "bins": 5}, lambda weights: weights),
    "k-means, in a longer run": (KMEANS, {**KMEANS, "rounds": 6}, lambda weights: weights),
    "k-means, with another tolerance": (KMEANS, {**KMEANS, "tolerance": 0.1}, lambda weights: weights),
    "k-means, centres written otherwise": (KMEANS, KMEANS, cut_elsewhere),
    "k-means, a centre beyond its range": (KMEANS, KMEANS, beyond),
}


@pytest.mark.parametrize("attack", AGAIN)
def test_no_sum_of_an_analysis_comes_again_over_other_nodes(tmp_path: Path, attack: str) -> None:
    first, second, change = AGAIN[attack]
    attacked = AttackedAnalysis(tmp_path, steady=False, task=task_of(first))
    attacked.open_from(1, OTHERS, asked(attacked.task))
    attacked.begin("again", task_of(second))
    with pytest.raises(EdgewardError):
        attacked.open_from(1, FEWER, {"weights": change(asked(attacked.task)["weights"])})


@pytest.mark.parametrize("analysis", [STATISTICS, KMEANS, LINEAR], ids=["statistics", "kmeans", "linear"])
def test_the_same_nodes_are_asked_again_and_others_something_else(tmp_path: Path, analysis: Dict[str, Any]) -> None:
    """So that the refusals above are of who is in the sum."""
    attacked = AttackedAnalysis(tmp_path, steady=False, task=task_of(analysis))
    attacked.open_from(1, OTHERS, asked(attacked.task))
    attacked.begin("again", task_of(analysis))
    attacked.open_from(1, OTHERS, asked(attacked.task))
    other = {**KMEANS, "start": ((0.5, 0.25, -0.5), (0.75, 0.0, 0.75))}
    attacked.begin("another", task_of(other))
    attacked.open_from(1, FEWER, asked(attacked.task))
