"""What an owner's rules on disclosure are tried on: small tables, tasks over them, and a node with its rules."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

import numpy as np
import pytest

from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.data.dataset import Dataset
from orchestrator.errors import DisclosureError
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.guard import DisclosureGuard, Passed
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, digest_of, task_to_dict
from orchestrator.wire.training import Training

AGE, COST = Feature("age", 0, 100), Feature("cost", 0, 1000)


SEX, WARD = Feature("sex", categories=("f", "m")), Feature("ward", categories=("a", "b", "c"))


FEATURES = (AGE, COST, SEX, WARD)


WIDTHS = {"age": 0, "cost": 1, "sex": 2, "ward": 4}


Levels = Union[Sequence[int], np.ndarray]
Numbers = Union[Sequence[float], np.ndarray]


def data_of(
    sex: Levels,
    ward: Levels,
    age: Optional[Numbers] = None,
    cost: Optional[Numbers] = None,
    patients: Optional[Sequence[int]] = None,
) -> Dataset:
    """Records of these levels, -1 where one is missing; ages from 20 to 80 and costs from 100 to 200 where none are given."""
    n = len(sex)
    x = np.zeros((n, 7))
    x[:, 0] = np.linspace(20, 80, n) if age is None else age
    x[:, 1] = np.linspace(100, 200, n) if cost is None else cost
    for first, levels in ((2, sex), (4, ward)):
        for row, level in enumerate(levels):
            if level >= 0:
                x[row, first + level] = 1.0
    who = None if patients is None else np.asarray(patients, np.int64)
    return Dataset(x, np.full(n, -1, np.int32), who, places=np.arange(2, n + 2))


def even(n: int = 60) -> Dataset:
    """Every cell of sex and ward has a sixth."""
    return data_of([i % 2 for i in range(n)], [(i // 2) % 3 for i in range(n)])


def task_of(declared: Dict[str, Any], features: Sequence[Feature] = FEATURES, **changes: Any) -> Task:
    schema = Schema("table", "", (), {}, tuple(features), patient="who")
    known: Dict[str, Any] = {
        "privacy": Privacy("none"),
        "rounds": Rounds(3, 3),
        "aggregation": Aggregation(),
        **changes,
    }
    task = Task("t", schema, {}, training=Training(rounds=1), analysis=declared, **known)
    analysis = analysis_of(task)
    training = Training(rounds=analysis.rounds, parameters=analysis.sums.size)
    return spelled_out(replace(task, training=training))


class Node:
    """One, with its rules, its store, and what it was asked before."""

    def __init__(self, folder: Path, bounded: bool = True, **rules: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.store = NodeStore(folder / "node.sqlite")
        self._guard = DisclosureGuard(lambda: Disclosure(**rules), self.store, bounded=lambda: bounded)

    def passed(self, task: Task, data: Dataset, asked: Optional[np.ndarray] = None) -> Passed:
        analysis = analysis_of(task)
        asked = analysis.begin(0) if asked is None else asked
        return self._guard.passed(digest_of(task_to_dict(task), b""), task, analysis, asked, data)

    def answer(self, task: Task, data: Dataset, asked: Optional[np.ndarray] = None) -> np.ndarray:
        """What leaves it."""
        analysis = analysis_of(task)
        asked = analysis.begin(0) if asked is None else asked
        passed = self.passed(task, data, asked)
        return passed.of(total(unit_vectors(analysis, asked, passed.data, "record"), analysis.sums.size))

    def refusal(self, task: Task, data: Dataset, asked: Optional[np.ndarray] = None) -> str:
        with pytest.raises(DisclosureError) as refused:
            self.passed(task, data, asked)
        return f"{refused.value.code}: {refused.value}"


STATISTICS = {"kind": "statistics", "bins": 3, "crosstabs": [["sex", "ward"]]}


LINEAR = {"kind": "regression", "outcome": "cost"}


def tables(task: Task, data: Dataset) -> np.ndarray:
    analysis = analysis_of(task)
    return total(unit_vectors(analysis, analysis.begin(0), data, "record"), analysis.sums.size)
