"""A gateway that announces policies which differ for one person alone: the sum of their differences would be of that person."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.analyses.base import as_pairs
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.data.dataset import Dataset
from orchestrator.errors import DisclosureError
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.approval import digest_of
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

SCHEMA = Schema(
    "table",
    "",
    (),
    {},
    (Feature("given", categories=("no", "yes")), Feature("better", 0, 1), Feature("age", 0, 100)),
    patient="who",
)
DECLARED = {
    "kind": "policy",
    "action": "given",
    "reward": "better",
    "inputs": ("age",),
    "pairs": 1,
    "spread": 1.0,
    "rounds": 1,
}


def ward(eldest: float) -> Dataset:
    """Forty people, of whom one is older than 90."""
    draw = np.random.default_rng(1)
    x = np.zeros((40, 4))
    x[np.arange(40), draw.integers(0, 2, 40)] = 1.0
    x[:, 2], x[:, 3] = draw.integers(0, 2, 40), draw.uniform(20, 60, 40)
    x[7] = (0.0, 1.0, eldest, 97.0)
    return Dataset(x, np.full(40, -1, np.int32), np.arange(40))


def task() -> Task:
    made = Task("t", SCHEMA, {}, privacy=Privacy("none"), rounds=Rounds(3, 3), analysis=DECLARED)
    return spelled_out(replace(made, training=Training(rounds=1, parameters=analysis_of(made).sums.size)))


def test_a_difference_that_is_of_one_person_leaves_no_node(tmp_path: Path) -> None:
    made = task()
    analysis = analysis_of(made)
    asked = np.concatenate([as_pairs(np.array([-80.0, 50.0, 0.0])), np.array([0.0, 50.0], np.float32)])
    sums = [total(unit_vectors(analysis, asked, ward(eldest), "record"), analysis.sums.size) for eldest in (0.0, 1.0)]
    assert abs(sums[0][0]) < 1e-6, "of all others nothing is in it"
    assert abs(sums[1][0]) > 0.5, "and the reward of the one is"
    for rules in ({"minimum_cell": 5}, {"parameters": 0.1}):
        guard = DisclosureGuard(lambda rules=rules: Disclosure(**rules), NodeStore(tmp_path / f"{len(rules)}.sqlite"))
        with pytest.raises(DisclosureError):
            guard.passed(digest_of(task_to_dict(made), b""), made, analysis, asked, ward(1.0))
