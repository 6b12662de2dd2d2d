"""Attack: a gateway names a column that differs in every row as the patient's, and makes records of patients. Promise: patients
are those of the column the owner names; another one, or none named, and the task is declined unread."""

from dataclasses import replace
from typing import Any, Dict

import pytest
from inside import INPUTS, csv_of, make_schema, make_task
from malicious import Attack, Victim
from watch import OpenWatch

from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Task

NOISE: Dict[str, Any] = {name: 5.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
ROWS = [(*(0.01 * ((i * k) % 40) for k in (1, 3, 7)), i % 2, f"p{i // 50}", f"visit-{i}") for i in range(200)]
TABLE = csv_of([*(f"x{i}" for i in range(INPUTS)), "y", "who", "visit"], ROWS)

PATIENTS = '[require]\nunits = ["patient"]\n'
NAMED = PATIENTS + 'patient = "who"\n'


def task(column: str, **changes: Any) -> Task:
    privacy = Privacy(unit="patient", epsilon=10.0, delta=1e-4, **NOISE)
    return make_task(make_schema(patient=column), **{"privacy": privacy, **changes})


@pytest.fixture(scope="module")
def node(victim: Victim) -> Attack:
    return victim(TABLE, NAMED)


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (NAMED, task("visit")),  # every row a patient of its own
        (NAMED, task("y")),  # a few large ones, whose mean is a count
        (NAMED, task("x0")),
        (NAMED, task("Who")),
        (NAMED, task("who ")),
        (NAMED, task("no-such-column")),
        (NAMED, task("who")),  # changed below: the same name for another column
        (PATIENTS, task("who")),  # nobody named one
        (PATIENTS, task("visit")),
    ],
    ids=["visit", "label", "input", "case", "space", "absent", "renamed", "unnamed", "unnamed-visit"],
)
def test_patients_of_another_column_are_declined_unread(node: Attack, policy: str, asked: Task, request: Any) -> None:
    gateway, process = node
    process.rule(policy)
    run = request.node.callspec.id
    if run == "renamed":  # a schema that names the columns itself calls the visits `who`
        columns = (*(f"x{i}" for i in range(INPUTS)), "y", "other", "who")
        asked = replace(asked, schema=make_schema(columns=columns))
    with OpenWatch(process.data) as watch:
        verdict = gateway.offer(process.name, run, asked)
        assert (verdict["kind"], verdict.get("code")) == ("declined", "policy.patient")
        assert watch.opened == 0


def test_patients_of_the_owners_column_are_served(node: Attack, linear_graph: bytes) -> None:
    """So that what is declined above is declined for its column alone."""
    gateway, process = node
    process.rule(NAMED)
    assert gateway.offer(process.name, "fits", task("who"), linear_graph)["kind"] == "ready"


def test_an_owner_who_lets_patients_in_but_not_records_gets_no_records(node: Attack) -> None:
    gateway, process = node
    process.rule(NAMED)
    verdicts: Dict[str, Any] = {}
    for unit in ("record", "node", "none"):
        privacy = Privacy(unit=unit, epsilon=10.0, delta=1e-4, **NOISE)
        verdicts[unit] = gateway.offer(process.name, f"unit-{unit}", task("who", privacy=privacy)).get("code")
    assert verdicts == dict.fromkeys(verdicts, "policy.unit")
