"""What a compacted journal keeps: every field of every coordinator, and what is kept of nodes, comes back from JSON the same."""

import json
from dataclasses import fields
from typing import Any, Dict, List, Type, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.events import Compacted, event_from_dict, event_to_dict
from orchestrator.rounds.members import Member, Members
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.rounds.state import FINISHED
from orchestrator.rounds.steps import MASKED_STEPS

PLAN = Plan(rounds=2, nodes=3, quorum=2, deadline_s=10, attempts=2, gather_s=100, statistics=False)
NAMES = st.one_of(st.sampled_from(["a", "icu-1", ""]), st.text(max_size=4))
VALUES: Dict[Any, Any] = {
    str: NAMES,
    bool: st.booleans(),
    int: st.integers(-1, 1 << 40),
    float: st.floats(allow_nan=False, allow_infinity=False),
}


def kinds(of: Type[Any]) -> List[Type[Any]]:
    """The class and all that are made of it, so that a new one is not forgotten."""
    return [of, *(kind for below in of.__subclasses__() for kind in kinds(below))]


def values_of(hint: Any) -> Any:
    """Any value of a field so annotated. AssertionError for a kind of field that this test does not know yet."""
    inside, origin = get_args(hint), get_origin(hint)
    if origin is dict:
        return st.dictionaries(values_of(inside[0]), values_of(inside[1]), max_size=3)
    if origin is set:
        return st.sets(values_of(inside[0]), max_size=3)
    if origin is tuple and inside[1:] == (Ellipsis,):
        return st.lists(values_of(inside[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, inside))
    assert hint in VALUES, f"how does {hint} come back from JSON? Coordinator._restore has to know, and this test"
    return VALUES[hint]


def any_of(kind: Type[Any], **fixed: Any) -> Any:
    hints = get_type_hints(kind)
    drawn = {f.name: values_of(hints[f.name]) for f in fields(kind) if f.name not in fixed}
    return st.fixed_dictionaries(drawn).map(lambda values: kind(**fixed, **values))


def through_json(event: Compacted) -> Any:
    return event_from_dict(json.loads(json.dumps(event_to_dict(event))))


@pytest.mark.parametrize("kind", kinds(Coordinator))
@examples(60)
@given(data=st.data())
def test_every_field_of_a_coordinator_comes_back(kind: Type[Coordinator], data: st.DataObject) -> None:
    before = data.draw(any_of(kind, plan=PLAN))
    after = kind(PLAN)
    after.handle(through_json(Compacted(1.0, before.snapshot(), {})))
    assert after == before
    assert {n: type(v) for n, v in vars(after).items()} == {n: type(v) for n, v in vars(before).items()}


@given(members=st.dictionaries(NAMES, any_of(Member), max_size=3))
def test_all_that_is_kept_of_nodes_comes_back(members: Dict[str, Member]) -> None:
    after = Members({"else": Member()})
    after.take(through_json(Compacted(1.0, {}, Members(members).as_dict())))
    assert after == members


def test_all_kinds_of_coordinators_are_tried() -> None:
    assert set(kinds(Coordinator)) >= {Coordinator, SecureCoordinator}


@pytest.mark.parametrize("hint", [List[str], object, Dict[str, List[int]]])
def test_a_field_of_a_kind_nobody_thought_of_is_an_error(hint: Any) -> None:
    with pytest.raises(AssertionError, match="come back from JSON"):
        values_of(hint)


def test_a_run_compacted_by_an_earlier_version_is_not_said_to_have_moved_nothing() -> None:
    before = SecureCoordinator(PLAN, phase=FINISHED, round=2).snapshot()
    before = {name: value for name, value in before.items() if name not in ("moved", "unusable", "skip_reason")}
    after = SecureCoordinator(Plan(2, 3, 2, 10, 2, 100, False, steps=MASKED_STEPS))
    after.handle(through_json(Compacted(1.0, before, {})))
    assert after.moved
