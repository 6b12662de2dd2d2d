"""A declaration that would have a node hold or count more than any task has a use for is refused by every reader."""

from typing import Any, Dict

import pytest
from test_task import minimal

from orchestrator.errors import UsageError
from orchestrator.wire.task import task_from_dict


def many(count: int) -> Dict[str, Any]:
    return {"name": "z", "categories": [str(i) for i in range(count)]}


NUMBERS = [{"name": f"x{i}", "minimum": 0, "maximum": 1} for i in range(4097)]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"features": [many(1001)]}, "schema.features: 'z': categories: 1001, at most 1000"),
        ({"features": NUMBERS}, "inputs in all, one for each number and each category: 4097, at most 4096"),
        ({"features": [{**many(1000), "name": f"z{i}"} for i in range(5)]}, "5000, at most 4096"),
        ({"label_values": {str(i): 0 for i in range(1001)}}, "label_values: 1001, at most 1000"),
        ({"classes": [str(i) for i in range(1001)]}, "classes: 1001, at most 1000"),
        ({"missing_markers": [str(i) for i in range(101)]}, "missing_markers: 101, at most 100"),
        ({"columns": ["age", "pain", "y", *map(str, range(8190))]}, "columns: 8193, at most 8192"),
        ({"missing_markers": [201 * "x"]}, "characters of 'x+': 201, at most 200"),
        ({"kind": "signal", "samples": 1 << 20, "channels": 2}, "samples x channels: 2097152, at most 1048576"),
    ],
)
def test_a_schema_has_bounds(schema: Dict[str, Any], reason: str) -> None:
    declared = minimal()
    with pytest.raises(UsageError, match=reason):
        task_from_dict({**declared, "schema": {**declared["schema"], **schema}})


def test_an_evaluation_has_as_many_sums_as_a_node_can_hold() -> None:
    declared = minimal()
    schema = {**declared["schema"], "classes": [str(i) for i in range(1000)]}
    assert task_from_dict({**declared, "schema": schema}).evaluation.bins
    with pytest.raises(UsageError, match="classes x classes x bins: 20000000, at most 262144"):
        task_from_dict({**declared, "schema": schema, "evaluation": {"share": 0.2}})
