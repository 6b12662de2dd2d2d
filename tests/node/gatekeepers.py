"""Gatekeepers of nodes, what they are asked, and what a task costs by dp-accounting itself."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, List, Optional

import pytest

pytest.importorskip("dp_accounting")  # not on Python 3.8

from dp_accounting import dp_event, pld
from test_policy import make_task

from orchestrator.node.gatekeeper import Gatekeeper, Verdict, reservation_of
from orchestrator.node.policy import Refusal
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Task, digest_of, task_to_dict

GRAPH = b"graph"
DELTA = 1e-5


def gaussian(noise: float, count: int = 1, rate: float = 1.0) -> pld.PLDAccountant:
    return composed([(noise, count, rate)])


def composed(parts: List[Any]) -> pld.PLDAccountant:
    counted = pld.PLDAccountant(value_discretization_interval=1e-3)
    for noise, count, rate in parts:
        event: Any = dp_event.GaussianDpEvent(noise)
        counted.compose(dp_event.PoissonSampledDpEvent(rate, event) if rate < 1 else event, count)
    return counted


def open_keeper(folder: Path, policy: str = "policy.toml") -> Gatekeeper:
    return Gatekeeper(folder, NodeStore(folder / "node.sqlite"), folder / policy if policy else None)


def another_default(monkeypatch: pytest.MonkeyPatch, table: type, name: str, value: object) -> None:
    """As a version of Edgeward in which this field has another default."""
    make = table.__init__  # type: ignore[misc]
    names = [field.name for field in fields(table)]
    first = len(names) - len(make.__defaults__)
    defaults = [value if names[first + i] == name else old for i, old in enumerate(make.__defaults__)]
    monkeypatch.setattr(make, "__defaults__", tuple(defaults))


def admit(keeper: Gatekeeper, run: str, task: Task, records: int = 100) -> Optional[Verdict]:
    return keeper.admit(run, task, task_to_dict(task), GRAPH, records)


def reserve(keeper: Gatekeeper, run: str, task: Task) -> None:
    """As `admit` ends, without counting first."""
    keeper.ledger.reserve(reservation_of(run, digest_of(task_to_dict(task), GRAPH), task))


def code(verdict: Optional[Verdict]) -> str:
    return "accepted" if verdict is None else verdict.code


def said_epsilon(verdict: Optional[Verdict]) -> float:
    """The figure in a refusal of budget, of three digits."""
    assert isinstance(verdict, Refusal)
    found = re.search(r"epsilon ([0-9.]+) ", verdict.reason)
    assert found, verdict.reason
    return float(found[1])


# 2 steps at rate 0.25 with noise 1, and the number of records with noise 5: epsilon 2.87 at 1e-5
TASK = make_task(privacy=Privacy(noise_multiplier=1.0, epsilon=3.0))


HONEST = replace(TASK, privacy=replace(TASK.privacy, epsilon=5.0))
"""Whose claim holds."""


def spent(runs: int) -> float:
    """Epsilon of so many runs of TASK."""
    return float(composed([(1.0, 2 * runs, 0.25), (5.0, runs, 1.0)]).get_epsilon(DELTA))
