"""A gateway that announces projections of which two counts, each over everybody, differ in one person alone."""

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

SCHEMA = Schema("table", "", (), {}, (Feature("age", 0, 100), Feature("ill", categories=("no", "yes"))), patient="who")
BITS, BINS = 8, 8


def ward() -> Dataset:
    """Forty people, of whom one is older than 90."""
    draw = np.random.default_rng(1)
    x = np.zeros((40, 3))
    x[:, 0] = draw.uniform(20, 60, 40)
    x[7, 0] = 97.0
    x[np.arange(40), 1 + draw.integers(0, 2, 40)] = 1.0
    return Dataset(x, np.full(40, -1, np.int32), np.arange(40))


OPEN = Privacy("none")


def task(privacy: Privacy = OPEN) -> Task:
    declared = {"kind": "hashing", "outcome": "ill", "bits": BITS, "bins": BINS}
    made = Task("t", SCHEMA, {}, privacy=privacy, rounds=Rounds(3, 3), analysis=declared)
    return spelled_out(replace(made, training=Training(rounds=2, parameters=analysis_of(made).sums.size)))


def above(*thresholds: float) -> np.ndarray:
    """Of each a projection that steps from the first bin to the last at an age."""
    weights, middles = np.zeros((BITS, 2)), np.zeros(BITS)
    for bit, years in enumerate(thresholds):
        weights[bit, 0], middles[bit] = 1e5, 1e5 * (2 * years / 100 - 1)
    return as_pairs(np.concatenate([[1.0], middles, weights.ravel()]))


RULES = ({"minimum_cell": 5}, {"minimum_difference": 5}, {"parameters": 1.0}, {"dominance": 0.5}, {"p_percent": 10.0})


@pytest.mark.parametrize("rules", RULES)
def test_two_counts_that_differ_in_one_person_leave_no_node(tmp_path: Path, rules: Dict[str, Any]) -> None:
    """Ages, and anything else that is linear in the columns, could be halved until single people are left."""
    made, asked = task(), above(80.0, 99.0)
    analysis = analysis_of(made)
    counts = total(unit_vectors(analysis, asked, ward(), "record"), analysis.sums.size)[: BITS * BINS]
    older = counts.reshape(BITS, BINS)[:2, -1]
    assert older.tolist() == [1.0, 0.0], "the one who is 97"
    guard = DisclosureGuard(lambda: Disclosure(**rules), NodeStore(tmp_path / "node.sqlite"))
    with pytest.raises(DisclosureError, match="this kind takes noise here"):
        guard.passed(digest_of(task_to_dict(made), b""), made, analysis, asked, ward())


def test_with_noise_that_is_bounded_it_is_answered(tmp_path: Path) -> None:
    private = Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0)
    made = task(private)
    made = replace(made, privacy=replace(private, clip_norm=analysis_of(made).sums.bound))
    guard = DisclosureGuard(lambda: Disclosure(minimum_cell=5), NodeStore(tmp_path / "node.sqlite"))
    passed = guard.passed(digest_of(task_to_dict(made), b""), made, analysis_of(made), above(80.0), ward())
    assert passed.data.records == 40
