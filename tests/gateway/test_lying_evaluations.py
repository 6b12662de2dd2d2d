"""Federated evaluation without noise: what nodes may say they counted on the records they held out."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from orchestrator.errors import WireError
from orchestrator.gateway.aggregation import Aggregation
from orchestrator.gateway.store import Store
from orchestrator.wire.evaluation import count
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

SCHEMA = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", -4, 4),), standardization="range")
TASK = Task("t", SCHEMA, {}, Training(rounds=9), Privacy("none"), Rounds(2, 2), evaluation=Evaluation(0.3))
Y = np.arange(30) % 2
SUMS = count(Y, np.stack([1 - 0.6 * Y, 0.6 * Y], axis=1), TASK.evaluation.bins)


def changed(at: int, value: float) -> np.ndarray:
    sums = SUMS.copy()
    sums[at] = value
    return sums


LIES: Dict[str, np.ndarray] = {
    "a count below 0": changed(0, -2.0),
    "a loss below 0": changed(-1, -0.5),
    "more loss than records have": changed(-1, 31.0),
    "more records than a node may have": changed(0, 2.0**31),
    "NaN": changed(0, np.nan),
    "infinity": changed(-1, np.inf),
}


@pytest.fixture
def aggregation(tmp_path: Path) -> Aggregation:
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(TASK), b"graph", np.zeros(4, np.float32))
    return Aggregation(store, "run", TASK, None)


def sent(sums: np.ndarray) -> Any:
    return 10, {"records": 70}, {"evaluation": sums.astype(np.float32)}


@pytest.mark.parametrize("lie", LIES)
def test_counts_that_no_records_add_up_to_are_refused(aggregation: Aggregation, lie: str) -> None:
    with pytest.raises(WireError):
        aggregation.check_update(*sent(LIES[lie]))


def test_what_an_honest_node_counts_is_accepted(aggregation: Aggregation) -> None:
    worst = count(Y, np.stack([Y, 1 - Y], axis=1).astype(float), TASK.evaluation.bins)
    assert worst[-1] == len(Y), "each loss is at its bound"
    for sums in (SUMS, worst, 0 * SUMS):
        aggregation.check_update(*sent(sums))
