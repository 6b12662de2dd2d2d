"""What a task demands of a node against what the node says of itself."""

import pytest

from orchestrator.gateway.selection import Standings
from orchestrator.node.health import read_health
from orchestrator.wire.task import Selection

FINE = {"labels": {"site": "icu"}, "health": {"battery": 80.0, "temperature_c": 40.0, "free_memory_mib": 900.0}}


@pytest.mark.parametrize(
    ("selection", "changed", "objection"),
    [
        (Selection(labels={"site": "icu"}), {}, ""),
        (Selection(labels={"site": "ward"}), {}, "label site is 'icu', the task wants 'ward'"),
        (Selection(labels={"gpu": "true"}), {}, "no label gpu=true"),
        (Selection(minimum_battery=50), {}, ""),
        (Selection(minimum_battery=90), {}, "battery is 80%, at least 90 is wanted"),
        (Selection(maximum_temperature_c=30), {}, "temperature_c is 40 °C, at most 30 is wanted"),
        (Selection(minimum_free_memory_mib=1000), {}, "free_memory_mib is 900 MiB, at least 1000 is wanted"),
        (Selection(maximum_temperature_c=30), {"health": {}}, "it does not report temperature_c"),
        (Selection(), {"labels": {}, "health": {}}, ""),
    ],
)
def test_each_demand_is_checked_and_named(selection: Selection, changed: "dict[str, object]", objection: str) -> None:
    standings = Standings(selection)
    standings.heard("a", {**FINE, **changed}, now=100.0)
    assert standings.objection("a", now=101.0) == objection


def test_a_silent_node_is_passed_over_until_it_is_heard_again() -> None:
    standings = Standings(Selection(seen_within_s=95))
    standings.heard("a", FINE, now=100.0)
    assert standings.objection("a", now=195.0) == ""
    assert standings.objection("a", now=200.0) == "not heard of for 100 s"
    standings.heard("a", {}, now=201.0)
    assert standings.objection("a", now=202.0) == ""


def test_health_is_read_from_this_machine() -> None:
    health = read_health()
    assert health["free_memory_mib"] > 0
    assert 0 <= health.get("battery", 100.0) <= 100
