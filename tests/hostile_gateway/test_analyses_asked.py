"""Attack: analyses no honest gateway would announce, rounds there are not, one round asked twice with other centres. Promise: a
node declines and lives on, and gives each sum with noise once."""

from dataclasses import replace
from functools import partial
from typing import Any, Dict, Optional

import numpy as np
import pytest
from inside import DELTA, INPUTS, csv_of, make_schema
from malicious import Attack, Victim

from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.analyses.regression_options import RegressionOptions
from orchestrator.privacy.clipping import with_clipping
from orchestrator.wire.protection import Privacy
from orchestrator.wire.structure import unstructure
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

SCHEMA = make_schema(label="", classes=(), label_values={}, standardization="federated", patient="")
TABLE = csv_of([f"x{i}" for i in range(INPUTS)], [[0.1 * row - 1, 0.5, "" if row == 3 else -0.25] for row in range(20)])
NOISY = Privacy("record", 1.0, DELTA, noise_multiplier=5.0, sampling_rate=1.0, clip_norm=0.0)
NODE = "icu-1"


def deep(levels: int) -> Any:
    found: Any = "x"
    for _ in range(levels):
        found = [found]
    return found


REGRESSION = {"kind": "regression", **unstructure(RegressionOptions("x0", tolerance=0.0))}
MIXTURE = {
    "kind": "mixture", "components": 2, "covariance": "full", "rounds": 3, "tolerance": 0.0, "regularization": 1e-6, "start": [],
    "spread": 0.25,
}  # fmt: skip
FOREST = {
    "kind": "forest", "outcome": "x0", "inputs": [], "trees": 4, "depth": 2, "held_out": 0.25, "bins": 4, "least": 5, "seed": 1,
}  # fmt: skip
BOOSTED = {
    "kind": "boosted", "outcome": "x0", "inputs": [], "trees": 4, "depth": 2, "bins": 4, "shrinkage": 0.3, "penalty": 1.0,
    "least": 5, "held_out": 0.25, "seed": 1,
}  # fmt: skip
QUANTILES = {"kind": "quantiles", "columns": ["x0"], "quantiles": [0.5], "by": "", "bins": 10, "step": [], "least": 10}
ODD: Dict[str, Dict[str, Any]] = {
    "no kind": {"bins": 4},
    "a kind that is a list": {"kind": ["statistics"]},
    "a kind in a kind": {"kind": {"kind": "statistics"}},
    "NaN": {"kind": "statistics", "bins": float("nan"), "crosstabs": []},
    "not a whole number": {"kind": "statistics", "bins": 4.0, "crosstabs": []},
    "true": {"kind": "statistics", "bins": True, "crosstabs": []},
    "nested": {"kind": "statistics", "bins": 4, "crosstabs": deep(20)},
    "a million bins": {"kind": "statistics", "bins": 1_000_000, "crosstabs": []},
    "crosstabs without end": {"kind": "statistics", "bins": 4, "crosstabs": [["x0", "x1"]] * 40_000},
    "names without end": {"kind": "statistics", "bins": 4, "crosstabs": [[f"y{i}", f"z{i}"] for i in range(30_000)]},
    "centres of infinity": {"kind": "kmeans", "clusters": 2, "rounds": 3, "tolerance": 0.0, "start": [[float("inf")] * 3] * 2},
    "centres of nothing": {"kind": "kmeans", "clusters": 900, "rounds": 3, "tolerance": 0.0, "start": [[]] * 900},
    "one input without end": {**REGRESSION, "inputs": ["x1"] * 100_000},
    "inputs nobody has": {**REGRESSION, "inputs": [f"y{i}" for i in range(256)]},
    "pairs without end": {**REGRESSION, "interactions": [["x1", "x2"]] * 40_000},
    "a pair of many": {**REGRESSION, "interactions": [["x1"] * 100_000]},
    "pairs nobody has": {**REGRESSION, "interactions": [[f"y{i}", f"z{i}"] for i in range(1000)]},
    "pairs in pairs": {**REGRESSION, "interactions": deep(20)},
    "strengths without end": {**REGRESSION, "penalty": "lasso", "strengths": [0.5] * 100_000},
    "a strength of infinity": {**REGRESSION, "penalty": "lasso", "strengths": [float("inf")]},
    "an alpha that divides by nothing": {**REGRESSION, "family": "negative-binomial", "alpha": 5e-324},
    "weights below 0": {**REGRESSION, "weights": "x1"},
    "the logarithm of 0": {**REGRESSION, "exposure": "x1"},
    "patients nobody named": {**REGRESSION, "errors": "clustered"},
    "a ridge of noise there is none of": {**REGRESSION, "penalty": "adassp"},
    "a family nobody knows": {**REGRESSION, "family": "cox"},
    "a mixture of nothing": {**MIXTURE, "regularization": 0.0},
    "a mixture of points": {**MIXTURE, "spread": 1e-300},
    "a forest without end": {**FOREST, "trees": 2000, "depth": 12},
    "a forest of all held out": {**FOREST, "held_out": 1.0},
    "a forest from a seed that is no number": {**FOREST, "seed": "; DROP"},
    "boosted trees without end": {**BOOSTED, "trees": 10**9},
    "boosted trees of single records": {**BOOSTED, "least": 1},
    "boosted trees of a penalty below zero": {**BOOSTED, "penalty": -1.0},
    "a grid without end": {**QUANTILES, "step": [1e-300]},
    "a grid of nothing": {**QUANTILES, "step": [0.0]},
    "quantiles of single records": {**QUANTILES, "quantiles": [0.0001]},
    "quantiles without end": {**QUANTILES, "quantiles": [0.5] * 50_000},
    "bytes": {"kind": b"statistics"},
    "characters that turn a line round": {"kind": "statistics\u202e", "bins": 4, "crosstabs": []},
}  # fmt: skip


def task_of(analysis: Dict[str, Any], privacy: Privacy) -> Task:
    task = Task("t", SCHEMA, {}, privacy=privacy, rounds=Rounds(3, 3), analysis=analysis)
    found = analysis_of(task)
    return with_clipping(spelled_out(replace(task, training=Training(rounds=found.rounds, parameters=found.sums.size))))


@pytest.fixture(scope="module")
def attack(victim: Victim) -> Attack:
    return victim(TABLE)


@pytest.mark.parametrize("odd", ODD)
def test_odd_analyses_are_declined_and_the_node_lives_on(attack: Attack, odd: str) -> None:
    honest = task_to_dict(task_of({"kind": "statistics", "bins": 4}, Privacy("none")))
    said = attack.gateway.offer(NODE, f"odd-{list(ODD).index(odd)}", {**honest, "analysis": ODD[odd]})
    assert said["kind"] == "declined", odd
    attack.node.still_here()
    reasons = attack.node.log.split("declined run")[-1]
    assert reasons.count("\n") < 60, "one declaration does not fill the owner's log"


def test_an_analysis_that_comes_with_a_graph_is_refused(attack: Attack) -> None:
    task = task_to_dict(task_of({"kind": "statistics", "bins": 4}, Privacy("none")))
    header = {"kind": "task", "run": "with-graph", "task": task}
    said = attack.gateway.refusal(NODE, header, {"graph": np.frombuffer(b"no graph", np.uint8)})
    assert said["kind"] == "refused"


def test_a_round_is_answered_once_whatever_is_asked_and_no_other_round_is(attack: Attack) -> None:
    gateway, task = attack.gateway, task_of({"kind": "kmeans", "clusters": 2, "rounds": 2}, NOISY)
    assert gateway.offer(NODE, "honest", task)["kind"] == "ready"
    analysis = analysis_of(task)
    first, other = ({"weights": analysis.begin(seed)} for seed in (1, 2))
    assert gateway.round(NODE, "honest", 1, first).tensors["update"].shape == (analysis.sums.size,)
    for serial, tensors in enumerate((other, first)):
        gateway.send(NODE, {"kind": "round", "run": "honest", "round": 1, "n": serial}, tensors)
    lie = {"weights": np.full(12, np.nan, np.float32)}

    def logs(why: str) -> Optional[bool]:
        return why in attack.node.log or None

    for number, tensors, why in (
        (0, other, "round 0 of a run with 2"),
        (-1, other, "round -1 of a run with 2"),
        (3, other, "round 3 of a run with 2"),
        (2**40, other, f"round {2**40} of a run with 2"),
        (2, lie, "round 2 came without the 12 finite float32 numbers"),
        # What failed is charged, and not tried again: it would be a second draw for one charge.
        (2, other, "round 2 of run honest was answered before and is over"),
    ):
        gateway.send(NODE, {"kind": "round", "run": "honest", "round": number, "why": why}, tensors)
        # A node says so on the wire once a second only.
        gateway.until(partial(logs, why), why, NODE)
    attack.node.still_here()
    answers = [transfer for transfer in gateway.transfers if transfer.header.get("run") == "honest"]
    assert len(answers) == 1, "one sum with one noise, which a node sends again as it was"
