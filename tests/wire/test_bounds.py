"""What a declaration may hold, value by value."""

import math
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.wire.bounds import at_least_one, host_name, near, not_negative, one_of, positive, refuse, within
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task, task_from_dict, task_to_dict
from orchestrator.wire.training import Training

NOT_NUMBERS = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_what_is_no_finite_number_is_in_no_range(value: float) -> None:
    for found in (within("x", value, -1e308, 1e308), positive("x", value), not_negative("x", value)):
        assert found[0].startswith(f"x: {value}, expected ")
    assert within("x", 1e308, -1e308, 1e308) == []


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_range_has_its_ends_in_it(value: float, a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    assert (within("x", value, low, high) == []) == (low <= value <= high)
    assert within("x", low, low, high) == within("x", high, low, high) == []


def test_closed_sets_name_the_nearest() -> None:
    assert one_of("codec", "int8", ("int8", "int4")) == []
    assert one_of("codec", "in8", ("int8", "float32")) == [
        "codec 'in8': expected one of int8, float32, did you mean 'int8'?"
    ]
    assert near("zzz", ("int8",)) == ""
    assert at_least_one("n", 0)
    assert not at_least_one("n", 1)


@pytest.mark.parametrize(
    "name", ["gateway", "a.b-c.example", "icu_1.local", "10.0.0.1", "::1", "fe80::1%eth0", "a" * 63]
)
def test_hosts(name: str) -> None:
    assert host_name("host", name) == []


@pytest.mark.parametrize(
    "name", ["", "not a host", "a/b", "a:1883", "mqtt://a", "-a", "a..b", "a b", "\u00e4", "x" * 254, "a\n"]
)
def test_what_no_host_is_called(name: str) -> None:
    assert host_name("host", name)


def test_a_broker_is_at_a_host() -> None:
    with pytest.raises(UsageError, match="expected mqtt://HOST"):
        BrokerAddress.parse("mqtt://not a host:1883")
    assert BrokerAddress.parse("mqtt://[::1]:1884").host == "::1"


def test_every_reason_is_told() -> None:
    refuse([])
    with pytest.raises(ValueError, match="^a\nb$"):
        refuse(["a", "b"])


FLOATS: List[Any] = [
    *((Training, name) for name in ("learning_rate", "server_learning_rate", "decay", "final_share")),
    *((Privacy, name) for name in ("epsilon", "delta", "clip_norm", "sampling_rate", "noise_multiplier")),
    *((Privacy, name) for name in ("statistics_clip_norm", "statistics_noise_multiplier", "count_noise_multiplier")),
    *((Privacy, name) for name in ("evaluation_noise_multiplier", "clip_quantile", "clip_learning_rate")),
    (Aggregation, "update_range"),
    (Rounds, "deadline_s"),
    (Rounds, "gather_s"),
    (Evaluation, "share"),
    *((Selection, name) for name in ("sampling_rate", "minimum_battery", "maximum_temperature_c", "seen_within_s")),
    (Selection, "minimum_free_memory_mib"),
]


@pytest.mark.parametrize(("kind", "name"), FLOATS)
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_no_part_of_a_task_holds_what_is_no_number(kind: Any, name: str, value: float) -> None:
    """However it is built: from a file, from the wire, by a command."""
    with pytest.raises(ValueError, match=name):
        kind(**{name: value})


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_nor_do_ranges_scales_and_options(value: float) -> None:
    ranges: List[Dict[str, Any]] = [{"minimum": value, "maximum": 1.0}, {"minimum": 0.0, "maximum": value}]
    for wrong in ranges:
        with pytest.raises(ValueError, match="finite"):
            Feature("x", **wrong)
    with pytest.raises(ValueError, match="options.mu"):
        Training(options={"mu": value})
    with pytest.raises(ValueError, match="unit_scale"):
        Schema("signal", "y", ("a", "b"), {"0": 0}, samples=1, unit_scale=value)


def test_a_number_has_a_range_or_is_a_category() -> None:
    halves: List[Dict[str, Any]] = [{}, {"minimum": 0.0}, {"maximum": 1.0}]
    for wrong in halves:
        with pytest.raises(ValueError, match="minimum and maximum are needed"):
            Feature("x", **wrong)
    with pytest.raises(ValueError, match="a range and categories"):
        Feature("x", 0, 1, ("a", "b"))
    assert Feature("x", 0, 110).range == (0, 110)


def test_tasks_stored_by_earlier_versions_are_read() -> None:
    """They give every category the range 0 to 1, which was the default and meant nothing."""
    task = Task(
        "t", Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", 0, 9), Feature("c", categories=("u", "v")))), {}
    )
    written = task_to_dict(task)
    assert written["schema"]["features"][1] == {"name": "c", "categories": ["u", "v"]}, (
        "no null, which TOML does not have"
    )
    assert task_from_dict(written) == task
    written["schema"]["features"][1].update(minimum=0.0, maximum=1.0)
    del written["rounds"]["minimum_nodes"]
    assert task_from_dict(written) == task
    written["schema"]["features"][1].update(maximum=2.0)
    with pytest.raises(UsageError, match="a range and categories"):
        task_from_dict(written)
