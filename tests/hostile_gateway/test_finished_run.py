"""Attack: a run ends while its task waits for the owner, whose yes then opens the data and spends budget for nobody. Promise: a
run that is over spends nothing, whenever the owner decides; the next run of the task does."""

from dataclasses import replace
from typing import Any, Dict

import pytest
from inside import INPUTS, csv_of, make_task
from malicious import Attack, Victim

from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Task

RULES = "[approval]\nrequired = true\n"


@pytest.fixture(scope="module")
def node(victim: Victim, linear_graph: bytes) -> Attack:
    rows = [(*(0.01 * ((i * k) % 40) for k in (1, 3, 7)), i % 2, f"p{i}") for i in range(40)]
    attack = victim(csv_of([*(f"x{i}" for i in range(INPUTS)), "y", "who"], rows), RULES)
    attack.gateway.graph = linear_graph
    return attack


@pytest.fixture(scope="module")
def task() -> Task:
    noise: Dict[str, Any] = {name: 5.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    return make_task(privacy=Privacy(unit="record", epsilon=10.0, delta=1e-4, **noise))


def test_a_yes_after_the_end_spends_nothing(node: Attack, task: Task) -> None:
    gateway, other = node.gateway, replace(task, seed=task.seed + 1)
    asked = [gateway.offer("icu-1", run, one) for run, one in (("over", task), ("goes-on", other))]
    assert [word["kind"] for word in asked] == ["waiting", "waiting"]
    gateway.send("icu-1", {"kind": "finished", "run": "over"})
    assert gateway.offer("icu-1", "no-task", {"nonsense": 1})["kind"] == "declined"  # what came before it was heard
    for word in asked:
        assert node.node.command("approve", word["digest"]).returncode == 0
    # The node looks at both in this order, so when it has come to the second the first was decided on.
    gateway.until(lambda: next((p for p in gateway.presences if p.get("run") == "goes-on" and ready(p)), None), "a yes")
    assert not [p for p in gateway.presences if p.get("run") == "over" and ready(p)]
    assert "over" not in node.node.command("ledger", "--json").stdout
    assert ready(gateway.offer("icu-1", "again", task)), "the owner's yes is for the task, whichever run comes next"


def ready(presence: Dict[str, Any]) -> bool:
    return presence["kind"] == "ready"
