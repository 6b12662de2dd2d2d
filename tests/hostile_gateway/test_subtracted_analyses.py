"""Attack: the exact sum of an analysis over n nodes, then the same sum under another name over all but one. Promise: a node helps
with an analysis of a schema that asks the same over one set of nodes only, whatever its options and however it is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from inside import make_schema
from test_subtracted_sums import FEWER, OTHERS, VICTIM, Attacked

from orchestrator.analyses.base import as_pairs, from_pairs
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.errors import PrivacyError
from orchestrator.node.contribution import Contribution, Contributor
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.vector_layout import Layout
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

FEATURES = (Feature("x0", 0.25, 1.25), Feature("x1", -1.0, 1.0), Feature("x2", -1.0, 1.0))
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
    schema = replace(SCHEMA, features=CLASSES) if analysis.get("outcome") == "x1" else SCHEMA
    task = Task("t", schema, {}, privacy=Privacy("none"), aggregation=secure, rounds=rules, analysis=analysis)
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


def grown(weights: np.ndarray) -> np.ndarray:
    """Another tree, at its second level: the cells of other records."""
    other = np.zeros_like(weights)
    other[:3], other[8:9] = (1.0, 0.0, 1.0), 3.0
    return other


def one_further(weights: np.ndarray) -> np.ndarray:
    """A later round of quantiles, with each point one cell beyond: the difference of both sums has the cell of one node."""
    high, low = np.split(weights.copy(), 2)
    high[0], high[4:] = 1.0, high[4:] + 1.0
    return np.concatenate([high, low])


QUANTILES = {"kind": "quantiles", "columns": ["x0"], "bins": 10, "step": [0.001]}
MIXTURE = {"kind": "mixture", "components": 2, "rounds": 5, "start": START}
CLASSES = (Feature("x0", 0.0, 1.0), Feature("x1", categories=("0", "1")))
FOREST = {"kind": "forest", "outcome": "x1", "trees": 4, "depth": 2, "bins": 4}
BOOSTED = {"kind": "boosted", "outcome": "x1", "trees": 2, "depth": 2, "bins": 4}
POISSON = {"kind": "regression", "outcome": "x0", "family": "poisson", "rounds": 5}
LINEAR = {"kind": "regression", "outcome": "x0", "inputs": ["x1"]}
GAMMA = {**LINEAR, "family": "gamma"}
OF_X1 = {**POISSON, "inputs": ["x1"]}


def scored(weights: np.ndarray) -> np.ndarray:
    """The same coefficients, at which the products of each one's part of the gradient are asked, and not the gradient."""
    return as_pairs(np.append(from_pairs(weights)[:-2], [1.0, 0.0]))


def same(weights: np.ndarray) -> np.ndarray:
    return weights


AGAIN: Dict[str, Any] = {
    "a regression, asked with another likelihood": (POISSON, POISSON, told_otherwise),
    "a linear model, asked with other coefficients": (LINEAR, LINEAR, lambda weights: weights + 1),
    "a linear model, of one more column": (LINEAR, {**LINEAR, "inputs": ["x1", "x2"]}, same),
    "a linear model, with a square": (LINEAR, {**LINEAR, "interactions": [["x1", "x1"]]}, same),
    "a linear model, of another outcome": (LINEAR, {**LINEAR, "outcome": "x2"}, same),
    "a linear model, with weights": (LINEAR, {**LINEAR, "outcome": "x2", "weights": "x0"}, same),
    "a linear model, with an offset": (LINEAR, {**LINEAR, "offset": "x2"}, same),
    "a linear model, with a penalty": (LINEAR, {**LINEAR, "penalty": "lasso", "strengths": [0.1, 0.2]}, same),
    "a linear model, with robust errors": (LINEAR, {**LINEAR, "errors": "hc1"}, same),
    "a gamma model, asked with other coefficients": (GAMMA, GAMMA, lambda weights: weights + 1),
    "a gamma model after a linear one": (LINEAR, GAMMA, lambda weights: weights + 1),
    "robust errors, at the coefficients of a sum": (OF_X1, {**OF_X1, "errors": "hc0"}, scored),
    "clustered errors after robust ones": ({**OF_X1, "errors": "hc0"}, {**OF_X1, "errors": "clustered"}, scored),
    "a regression, with a column more, whose coefficient is 0": (OF_X1, {**OF_X1, "inputs": ["x1", "x2"]}, same),
    "a regression, with a product more": (OF_X1, {**OF_X1, "interactions": [["x1", "x1"]]}, same),
    "a regression, of another family": (OF_X1, {**OF_X1, "family": "negative-binomial", "alpha": 2.0}, same),
    "a regression, with alpha estimated": (OF_X1, {**OF_X1, "family": "negative-binomial"}, same),
    "a regression, with its first strength": (OF_X1, {**OF_X1, "penalty": "ridge", "strengths": [0.1]}, same),
    "statistics, asked with another number": (STATISTICS, STATISTICS, lambda weights: weights + 1),
    "statistics, with other bins": (STATISTICS, {**STATISTICS, "bins": 5}, same),
    "quantiles, with other bins": (QUANTILES, {**QUANTILES, "bins": 11}, same),
    "quantiles, on a grid one cell finer": (QUANTILES, {**QUANTILES, "step": [1 / 1001]}, same),
    "quantiles, other ones": (QUANTILES, {**QUANTILES, "quantiles": [0.5]}, same),
    "quantiles, up to points one cell beyond": (QUANTILES, QUANTILES, one_further),
    "a forest, of other trees": (FOREST, {**FOREST, "seed": 2}, same),
    "a forest, with others held out": (FOREST, {**FOREST, "held_out": 0.26}, same),
    "a forest, scored by other leaves": (FOREST, FOREST, lambda weights: np.full_like(weights, 0.75)),
    "boosted trees, in other bins": (BOOSTED, {**BOOSTED, "bins": 5}, same),
    "boosted trees, with others held out": (BOOSTED, {**BOOSTED, "seed": 2}, same),
    "boosted trees, below another split": (BOOSTED, BOOSTED, grown),
    "a mixture, in a longer run": (MIXTURE, {**MIXTURE, "rounds": 6}, same),
    "a mixture, parameters written otherwise": (MIXTURE, MIXTURE, cut_elsewhere),
    "a mixture, asked with another likelihood": (MIXTURE, MIXTURE, told_otherwise),
    "statistics, then quantiles from the same bins": (STATISTICS, {**QUANTILES, "bins": 4, "step": []}, same),
    "quantiles, then principal components": (QUANTILES, {"kind": "pca"}, same),
    "k-means, in a longer run": (KMEANS, {**KMEANS, "rounds": 6}, same),
    "k-means, with another tolerance": (KMEANS, {**KMEANS, "tolerance": 0.1}, same),
    "k-means, centres written otherwise": (KMEANS, KMEANS, cut_elsewhere),
    "k-means, a centre beyond its range": (KMEANS, KMEANS, beyond),
}


@pytest.mark.parametrize("attack", AGAIN)
def test_no_sum_of_an_analysis_comes_again_over_other_nodes(tmp_path: Path, attack: str) -> None:
    before, second, change = AGAIN[attack]
    attacked = AttackedAnalysis(tmp_path, steady=False, task=task_of(before))
    attacked.open_from(1, OTHERS, asked(attacked.task))
    attacked.begin("again", task_of(second))
    with pytest.raises(PrivacyError, match="over other nodes"):
        attacked.open_from(1, FEWER, {"weights": change(asked(attacked.task)["weights"])})


@pytest.mark.parametrize("order", [["x1", "x2"], ["x2", "x1"]])
def test_the_order_of_columns_makes_no_other_sum(tmp_path: Path, order: List[str]) -> None:
    coefficients = {"": -1.0, "x1": 0.25, "x2": 0.5}

    def asked_in(names: List[str]) -> Dict[str, np.ndarray]:
        now = [coefficients[name] for name in ("", *names)]
        return {"weights": as_pairs(np.array([*now, 0.0, 0.0, 0.0, -1e30, 0.0, 0.0]))}

    attacked = AttackedAnalysis(tmp_path, steady=False, task=task_of({**POISSON, "inputs": ["x1", "x2"]}))
    attacked.open_from(1, OTHERS, asked_in(["x1", "x2"]))
    attacked.begin("again", task_of({**POISSON, "inputs": order}))
    with pytest.raises(PrivacyError, match="over other nodes"):
        attacked.open_from(1, FEWER, asked_in(order))


ROBUST = {**LINEAR, "errors": "clustered", "interactions": [["x1", "x1"]]}


@pytest.mark.parametrize(
    "analysis",
    [STATISTICS, KMEANS, LINEAR, ROBUST, QUANTILES, MIXTURE],
    ids=["statistics", "kmeans", "linear", "clustered", "quantiles", "mixture"],
)
def test_the_same_nodes_are_asked_again_and_others_something_else(tmp_path: Path, analysis: Dict[str, Any]) -> None:
    """So that the refusals above are of who is in the sum."""
    attacked = AttackedAnalysis(tmp_path, steady=False, task=task_of(analysis))
    attacked.open_from(1, OTHERS, asked(attacked.task))
    attacked.begin("again", task_of(analysis))
    attacked.open_from(1, OTHERS, asked(attacked.task))
    other = {**KMEANS, "start": ((0.5, 0.25, -0.5), (0.75, 0.0, 0.75))}
    attacked.begin("another", task_of(other))
    attacked.open_from(1, FEWER, asked(attacked.task))
