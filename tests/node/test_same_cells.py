"""Cells of the same people are compared however a task names them: by another spelling, another kind, or all groups together."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from guarded import AGE, COST, SEX, Node, data_of, task_of

from orchestrator.analyses.base import as_pairs, from_pairs
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import Dataset
from orchestrator.wire.schema import Feature

WARD = Feature("ward", categories=("a", "b"))
WIDER = replace(AGE, maximum=101)  # the middle of it is 50.5
Asked = Tuple[Dict[str, Any], Tuple[Feature, ...]]


def one_between() -> Dataset:
    """Of each sex 24 below 50 and 24 above 51; one between. Wards a and b alternate."""
    ages = [*np.linspace(10, 40, 48), 50.2, *np.linspace(60, 90, 48)]
    data = data_of([i % 2 for i in range(97)], [i // 2 % 2 for i in range(97)], ages)
    return data._replace(x=np.ascontiguousarray(data.x[:, :6]))


def asked(declared: Dict[str, Any], age: Feature = AGE) -> Asked:
    return declared, (age, COST, SEX, WARD)


HISTOGRAM = {"kind": "statistics", "bins": 2}
SURVIVAL = {"kind": "survival", "time": "age", "event": "sex", "steps": 2}
SCORE = {"kind": "performance", "score": "age", "outcome": "sex", "bins": 2}
MODEL = {"kind": "performance", "outcome": "sex", "bins": 2}
PAIRS: Dict[str, Tuple[Asked, Asked]] = {
    "times of events and losses": (asked(HISTOGRAM), asked(SURVIVAL, WIDER)),
    "times by group": (asked(SURVIVAL), asked({**SURVIVAL, "by": "ward"}, WIDER)),
    "scores with and without the outcome": (asked(HISTOGRAM), asked(SCORE, WIDER)),
    "scores by group": (asked(SCORE), asked({**SCORE, "by": "ward"}, WIDER)),
    "models that differ a little": (
        asked({**MODEL, "coefficients": {"age": 0.1, "(intercept)": -5.0}}),
        asked({**MODEL, "coefficients": {"age": 0.1, "(intercept)": -5.05}}),
    ),
    "a model turned round": (
        asked({**MODEL, "coefficients": {"age": 0.1, "(intercept)": -5.0}}),
        asked({**MODEL, "coefficients": {"age": -0.1, "(intercept)": 5.05}}),
    ),
    "a term of next to no weight more": (
        asked({**MODEL, "coefficients": {"age": 0.1, "(intercept)": -5.0}}),
        asked({**MODEL, "coefficients": {"age": 0.1, "cost": -1e-9, "(intercept)": -5.05}}),
    ),
    "a level of next to no weight more": (
        asked(HISTOGRAM),
        asked({**MODEL, "coefficients": {"age": 0.1, "ward = a": 1e-9, "(intercept)": -5.05}}),
    ),
    "a term more, and turned round": (
        asked(SCORE),
        asked({**MODEL, "coefficients": {"age": -0.1, "ward = a": 1e-9, "(intercept)": 5.05}}),
    ),
    "other terms of next to no weight": (
        asked({**MODEL, "coefficients": {"age": 0.1, "ward = a": 1e-9, "(intercept)": -5.0}}),
        asked({**MODEL, "coefficients": {"age": 0.1, "cost": 1e-9, "(intercept)": -5.05}}),
    ),
}


@pytest.mark.parametrize("way", PAIRS)
def test_one_patient_between_cells_of_two_kinds_is_seen(tmp_path: Path, way: str) -> None:
    (first, columns), (second, others) = PAIRS[way]
    data = one_between()
    node = Node(tmp_path, minimum_cell=5)
    node.passed(task_of(first, columns), data)
    (tmp_path / "alone").mkdir()
    Node(tmp_path / "alone", minimum_cell=5).passed(task_of(second, others), data)
    assert "disclosure.difference" in node.refusal(task_of(second, others), data)


def test_records_with_an_outcome_are_the_same_whichever_is_the_event(tmp_path: Path) -> None:
    """Ten men move between the bins beside the one woman, so that bins of all differ in eleven."""
    data = one_between()
    x = data.x.copy()
    x[:, 1] = 0.0
    x[np.flatnonzero(x[:, 3] > 0.5)[:10], 1] = 900.0
    before = {**MODEL, "event": "m", "coefficients": {"age": 0.1, "cost": 1e-9, "(intercept)": -5.0}}
    after = {**MODEL, "event": "f", "coefficients": {"age": 0.1, "cost": 0.01, "(intercept)": -5.05}}
    first, second = (task_of(*asked(declared)) for declared in (before, after))
    Node(tmp_path / "alone", minimum_cell=5).passed(second, data._replace(x=x))
    node = Node(tmp_path, minimum_cell=5)
    node.passed(first, data._replace(x=x))
    assert "disclosure.difference" in node.refusal(second, data._replace(x=x))


def test_a_group_is_the_same_one_however_its_level_is_spelled(tmp_path: Path) -> None:
    """Counts of everybody and of the other group stay as they are: only the group's own tell."""
    spelled, otherwise = Feature("sex", categories=("0", "1")), Feature("sex", categories=("00", "1.0"))
    declared = {"kind": "quantiles", "columns": ["age"], "by": "sex", "bins": 2, "step": [0.1], "quantiles": [0.5]}
    node = Node(tmp_path, minimum_cell=5)
    first, second = (task_of(declared, (AGE, COST, sex, WARD)) for sex in (spelled, otherwise))
    analysis = analysis_of(first)
    points = from_pairs(analysis.begin(0))
    points[0], points[-3:] = analysis.rounds - 1, (600.0, 500.0, 600.0)  # of everybody, of the group, of the other one
    node.passed(first, one_between(), as_pairs(points))
    points[-2] = 505.0
    assert "disclosure.difference" in node.refusal(second, one_between(), as_pairs(points))
