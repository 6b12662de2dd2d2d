"""Counts in messages of nodes."""

from typing import Any

import pytest

from orchestrator.errors import WireError
from orchestrator.wire.counted import Counted


def test_units_are_records_where_they_are_left_out() -> None:
    assert Counted.read({"records": 7}) == (7, 7)
    assert Counted.read({"records": 7, "units": 3, "kind": "update"}) == (7, 3)


@pytest.mark.parametrize("wrong", [None, True, 1.0, float("nan"), "7", b"7", [7], {}])
def test_counts_are_whole_numbers(wrong: Any) -> None:
    for header in ({"records": wrong}, {"records": 7, "units": wrong}, {"records": wrong, "units": 7}):
        with pytest.raises(WireError, match="expected int"):
            Counted.read(header)
    with pytest.raises(WireError, match="'records' is None"):
        Counted.read({"units": 7})
