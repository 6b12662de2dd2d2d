"""Attack: a task named, to the eye, like one the owner knows, in letters of another alphabet. Promise: of a word that mixes Latin
letters with others that may look like them an owner is shown which these are; a policy that names the task refuses it."""

from dataclasses import replace
from typing import List, Tuple

import pytest
from inside import make_schema, make_task

from orchestrator.node.approval import summary_of
from orchestrator.node.policy import Allow, Policy

KNOWN = "sepsis-study"
FALSE = ["s\u0435psis-study", "sepsi\uff53-study", "sepsis-stud\u03b3", "\U0001d42cepsis-study"]


def shown(name: str, classes: Tuple[str, ...] = ("no", "yes")) -> List[str]:
    return summary_of(replace(make_task(make_schema(classes=classes)), name=name))


@pytest.mark.parametrize("name", FALSE)
def test_what_passes_for_a_known_name_is_told_apart(name: str) -> None:
    (strange,) = (c for c in name if not c.isascii())
    said = shown(name)[0]
    assert f"{name!r} (written with U+{ord(strange):04X}, no Latin letter)" in said
    assert "no Latin" not in shown(KNOWN)[0]


def test_a_policy_that_names_the_task_refuses_them() -> None:
    policy = Policy(allow=Allow(tasks=(KNOWN, "other-*")))
    verdicts = [policy.objection(replace(make_task(), name=name), "") for name in (KNOWN, *FALSE)]
    assert verdicts[0] is None
    assert {verdict.code for verdict in verdicts[1:] if verdict is not None} == {"policy.task"}
    assert None not in verdicts[1:]


@pytest.mark.parametrize(
    "name",
    ["\u03b2-blocker", "Herzt\u00f6ne", "\u0441\u0435\u043f\u0441\u0438\u0441 2", "HbA1c\u5024", "\u03b11-globulin"],
)
def test_words_of_one_alphabet_are_left_alone(name: str) -> None:
    assert shown(name)[0].startswith(f"task {name!r}: predicts")


def test_names_of_classes_are_looked_at_too() -> None:
    assert "'y\u0435s' (written with U+0435, no Latin letter)" in shown(KNOWN, ("no", "y\u0435s"))[0]
