"""What operators/ says of operators, against the schema's names and the list of kinds firmware has."""

import re
from pathlib import Path

from model_export.operator_entry import Role
from model_export.operators import aliases, operators, supported
from model_export.plan import kinds
from model_export.tflite_names import OPERATOR_NAMES

PLAN_H = Path(__file__).parents[2] / "firmware/engine/direct/plan.h"


def test_the_kinds_are_those_of_the_firmware() -> None:
    listed = re.findall(r"^  KIND\((\w+), (\d+)\)", PLAN_H.read_text(), re.MULTILINE)
    assert kinds() == {name: int(number) for name, number in listed}
    assert len(set(kinds().values())) == len(listed) > 10


def test_every_operator_is_one_of_the_schema() -> None:
    assert set(operators()) <= set(OPERATOR_NAMES)
    assert all(name == entry.name for name, entry in operators().items())


def test_an_operator_is_computed_or_does_nothing() -> None:
    assert supported()
    assert aliases()
    assert not supported() & aliases()
    kept = {name for name, entry in operators().items() if entry.role is not None}
    assert len(kept) == len(Role)
    assert {name for name, entry in operators().items() if entry.kinds} | kept == supported()
