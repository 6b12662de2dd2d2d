"""Tasks whose graph of masks would be too sparse are refused before anything is prepared, with the number it takes."""

from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.run import check_neighbours, plan_of
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task
from orchestrator.wire.training import Training


def make_task(nodes: int, cohort: int = 0, **aggregation: Any) -> Task:
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    secure = Aggregation(**{"method": "masked", **aggregation})
    rules = Rounds(nodes, max(3, secure.least))
    return Task(
        "t", schema, {}, Training(), Privacy("none"), rules, selection=Selection(cohort=cohort), aggregation=secure
    )


def test_the_plan_refuses_too_few_neighbours_and_says_how_many() -> None:
    task = make_task(100, neighbours=20, colluding=10)
    with pytest.raises(
        UsageError, match="of 100 nodes with 20 neighbours each, 10 may work .* aggregation.neighbours to 22"
    ):
        plan_of(task, b"key")
    plan = plan_of(make_task(100, neighbours=22, colluding=10), b"key")
    assert (plan.all_neighbours, plan.withheld) == (23, 3)


@pytest.mark.parametrize(
    "task",
    [
        make_task(21, neighbours=20, colluding=10),  # all are neighbours
        make_task(100, neighbours=20, colluding=9),
        make_task(1000, cohort=21, neighbours=20, colluding=10),
        make_task(100, method="plain"),
    ],
)
def test_others_pass(task: Task) -> None:
    check_neighbours(task)


def test_only_masked_rounds_have_a_graph() -> None:
    assert plan_of(make_task(100, method="plain"), b"key").all_neighbours == 0
