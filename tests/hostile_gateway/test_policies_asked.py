"""A gateway that announces policies of which sums, or differences of sums, are of one person alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from orchestrator.analyses.base import as_pairs
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.data.dataset import Dataset
from orchestrator.errors import DisclosureError
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, digest_of, task_to_dict
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
    "pairs": 2,
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


RULES = ({"minimum_cell": 5}, {"minimum_difference": 5}, {"parameters": 1.0}, {"dominance": 0.5}, {"p_percent": 10.0})


def sums_of(asked: np.ndarray, eldest: float) -> np.ndarray:
    analysis = analysis_of(task())
    return total(unit_vectors(analysis, asked, ward(eldest), "record"), analysis.sums.size)


def above(*thresholds: float) -> np.ndarray:
    """Of each pair one end gives "yes" to those above its threshold in years, and the other to those below."""
    steps = [(-100 * (2 * years / 100 - 1), 100.0) for years in thresholds]
    return np.concatenate([as_pairs(np.zeros(3)), np.array(steps, np.float32).ravel()])


@pytest.mark.parametrize("rules", RULES)
def test_two_sums_over_everybody_that_differ_in_one_person_leave_no_node(tmp_path: Path, rules: Dict[str, Any]) -> None:
    """Each is of forty people, of equal weight; found by trying to break the rules above, which look at one sum at a time."""
    asked, made = above(80.0, 99.0), task()
    differences = [np.subtract(*sums_of(asked, eldest)[:2]) for eldest in (0.0, 1.0)]
    assert abs(differences[0]) < 0.05
    assert abs(differences[1]) > 0.9, "the reward of the one who is 97"
    analysis, guard = (
        analysis_of(made),
        DisclosureGuard(lambda: Disclosure(**rules), NodeStore(tmp_path / "node.sqlite")),
    )
    with pytest.raises(DisclosureError, match="this kind takes noise here"):
        guard.passed(digest_of(task_to_dict(made), b""), made, analysis, asked, ward(1.0))


def test_without_such_rules_it_is_the_owners_choice(tmp_path: Path) -> None:
    made = task()
    guard = DisclosureGuard(lambda: Disclosure(minimum_patients=20), NodeStore(tmp_path / "node.sqlite"))
    passed = guard.passed(digest_of(task_to_dict(made), b""), made, analysis_of(made), above(80.0, 99.0), ward(1.0))
    assert passed.data.records == 40
