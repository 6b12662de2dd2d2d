"""All mistakes of [task.analysis] are said at once: a wrong option hides no column that is not there, and makes up no mistake."""

from contextlib import suppress
from typing import Any, Dict, List

import pytest

from orchestrator.analyses.registry import ANALYSES, make
from orchestrator.errors import UsageError
from orchestrator.wire.schema import Feature, Schema

SCHEMA = Schema(
    kind="table",
    label="",
    classes=(),
    label_values={},
    features=(
        Feature("age", minimum=0, maximum=120),
        Feature("bmi", minimum=10, maximum=60),
        Feature("sex", categories=("f", "m")),
        Feature("arm", categories=("a", "b", "c")),
        Feature("days", minimum=0, maximum=1000),
        Feature("w", minimum=0.5, maximum=20),
    ),
)
REGRESSION = {"kind": "regression", "outcome": "bmii", "inputs": ["agee", "sexx"], "weights": "ww"}
NOT_THERE = [
    "outcome: no column 'bmii'",
    "inputs: no column 'agee'",
    "inputs: no column 'sexx'",
    "weights: no column 'ww'",
]
SVM = {"kind": "svm", "outcome": "sexx", "nodes": ["a", "b"], "inputs": ["zz"]}
DOSING = {"kind": "dosing", "weight": "bmii", "function": "ww", "inputs": ["zz"]}
QUANTILES = {"kind": "quantiles", "columns": ["agee"], "by": "age"}


def lines_of(declared: Dict[str, Any]) -> List[str]:
    with pytest.raises(UsageError) as caught:
        make(declared, SCHEMA)
    return str(caught.value).split("\n")


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({**REGRESSION, "familyy": "x"}, ["familyy: unknown", *NOT_THERE]),
        ({**REGRESSION, "penalty": "rdge"}, ["penalty 'rdge'", *NOT_THERE]),
        ({**REGRESSION, "family": "logistik", "rounds": 0}, ["family 'logistik'", "rounds: 0", *NOT_THERE]),
        ({**REGRESSION, "rounds": "x"}, ["rounds: 'x' is not a whole number", *NOT_THERE]),
        ({**REGRESSION, "familyy": "x", "rounds": 0}, ["familyy: unknown", "rounds: 0", *NOT_THERE]),
        ({"kind": "regression", "outcom": "bmi", "inputs": ["agee"]}, ["outcom: unknown", "inputs: no column 'agee'"]),
        ({"kind": "regression", "outcome": 5, "inputs": ["agee"]}, ["outcome: 5", "inputs: no column 'agee'"]),
        ({"kind": "survival", "time": "dayss", "event": "sexx", "steps": 0}, ["steps: 0", "time: no", "event: no"]),
        (
            {"kind": "forest", "outcome": "sexx", "bins": "x", "trees": 0},
            ["bins: 'x'", "trees: 0", "outcome: no column"],
        ),
        (
            {**DOSING, "low": 30, "high": 20},
            ["high: 20", "weight: no column", "function: no column", "inputs: no column"],
        ),
        ({**SVM, "nodes": ["a", "a", "B B"]}, ["nodes 'B B'", "nodes: ", "outcome: no column", "inputs: no column"]),
        (
            {**SVM, "nodes": ["a", "a"], "graph": "edges"},
            ["nodes: ", "edges: 0", "outcome: no column", "inputs: no column"],
        ),
        ({**QUANTILES, "bins": 1, "quantiles": [2]}, ["bins: 1", "quantiles: 2", "columns: ", "by: 'age'"]),
    ],
)
def test_mistakes_in_options_hide_no_column(declared: Dict[str, Any], expected: List[str]) -> None:
    said = lines_of(declared)
    for beginning in expected:
        assert any(line.startswith(beginning) for line in said), (beginning, said)
    assert len(said) == len(set(said))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"kind": "regression", "outcome": "sex", "family": "logistik", "inputs": ["age"]}, "family 'logistik'"),
        ({"kind": "regression", "outcome": "sex", "familyy": "logistic", "inputs": ["age"]}, "familyy: unknown"),
        ({"kind": "regression", "outcome": "bmi", "penalty": "rdge", "strengths": [1.0]}, "penalty 'rdge'"),
        ({"kind": "performance", "outcom": "sex", "score": "w"}, "outcom: unknown"),
    ],
)
def test_what_stands_in_for_an_option_makes_no_mistake_of_its_own(declared: Dict[str, Any], said: str) -> None:
    found = [line for line in lines_of(declared) if "missing" not in line]
    assert len(found) == 1, found
    assert found[0].startswith(said)


@pytest.mark.parametrize("kind", list(ANALYSES))
@pytest.mark.parametrize("value", [None, -1, "x", [], ["zz"], {"a": 1}, [[1]]])
def test_whatever_is_wrong_is_said_and_nothing_breaks(kind: str, value: Any) -> None:
    for name in ANALYSES[kind].Options.__dataclass_fields__:
        assert all(lines_of({"kind": kind, name: value, "zzz": 1}))
        with suppress(UsageError):  # an empty list may be right
            make({"kind": kind, name: value}, SCHEMA)
