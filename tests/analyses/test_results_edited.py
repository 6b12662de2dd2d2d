"""A result.json that somebody edited: `edgeward model export` refuses it in words, or makes a whole bundle of it."""

import copy
import json
import math
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from analysed_rows import SCHEMA, task_of

from orchestrator.cli.main import main
from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError
from orchestrator.gateway.analysed import report_of
from orchestrator.gateway.trees_bundle import export_trees
from orchestrator.gateway.trial import try_planned

pytestmark = pytest.mark.slow


pytest.importorskip("serial", reason="bundles are made at gateways, which have it")

KINDS: Dict[str, Dict[str, Any]] = {
    "boosted": {"outcome": "ferritin", "trees": 3, "depth": 2, "bins": 16, "least": 5, "held_out": 0.0},
    "forest": {"outcome": "smoker", "trees": 2, "depth": 2, "held_out": 0.0},
}
VALUES: List[Any] = [None, 10**25, 1e300, math.nan, {}]


@pytest.fixture(scope="module")
def reports() -> Dict[str, Dict[str, Any]]:
    draw = np.random.default_rng(5)
    iron = np.log(draw.uniform(1, 5000, 300)).astype(np.float32)
    sex, smoker = np.eye(2)[(iron > 6.5).astype(int)], np.eye(3)[draw.integers(0, 3, 300)]
    site = Dataset(np.column_stack([draw.uniform(18, 95, 300), iron, sex, smoker]), np.zeros(300, np.int32))
    found = {}
    for kind, options in KINDS.items():
        task = task_of(kind, schema=SCHEMA, **options)
        made = {"analysis": report_of(try_planned(task, [site]).result, task)}
        found[kind] = json.loads(json.dumps({**made, "privacy": {"unit": "none", "claim": "sums can reveal records"}}))
    return found


def places(value: Any, place: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """Of everything in it, but of lists of the first and the last two."""
    yield place
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list):
        for at in sorted({*range(min(2, len(value))), *range(max(0, len(value) - 2), len(value))}):
            yield from places(value[at], (*place, at))


def edited(report: Dict[str, Any]) -> Iterator[Tuple[Tuple[Any, ...], Any]]:
    """(place, what the report is with another value there, or without it)."""
    for place in places(report):
        for value in VALUES if place else ():
            changed = copy.deepcopy(report)
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            yield place, changed
        if place:
            del inner[place[-1]]
            yield place, changed


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whatever_was_edited_there_is_an_error_in_words_or_a_bundle(
    reports: Dict[str, Dict[str, Any]], tmp_path: Path, kind: str
) -> None:
    said, made = [], 0
    for place, changed in edited(reports[kind]):
        (tmp_path / "result.json").write_text(json.dumps(changed))
        try:
            export_trees(tmp_path, tmp_path / "bundle")
            made += 1
        except EdgewardError as error:
            said.append(f"{place}: {error}")
    assert not [each for each in said if "Error" in each]
    assert len(said) > 200
    assert made > 10


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("tables", 0, "rows", 2, 1), 10**9, "rows, and is of 1000000000 trees"),
        (("tables", 0, "rows", -1, 1), math.nan, "base: nan is not a finite number"),
        (("tables", 2, "rows", -1, 6), 10**400 // 7, "not JSON|invalid row"),
        (("tables", 2, "name"), "leaves", "tables are not those of 'boosted'"),
        (("of", "analysis"), None, "does not say of which columns"),
        (("of", "schema", "features", 1, "maximum"), 1e300, "expected -1e.30 to 1e.30"),
    ],
)
def test_edited_results_are_refused(
    reports: Dict[str, Dict[str, Any]], tmp_path: Path, place: Tuple[Any, ...], value: Any, said: str
) -> None:
    changed = copy.deepcopy(reports["boosted"])
    inner = changed["analysis"]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "result.json").write_text(json.dumps(changed))
    with pytest.raises(EdgewardError, match=said):
        export_trees(tmp_path, tmp_path / "bundle")


@pytest.mark.parametrize("privacy", [True, [], {}, {"unit": "record"}, "none", {"unit": "none", "rounds": 10**400}])
def test_a_statement_that_is_none_makes_no_bundle(
    reports: Dict[str, Dict[str, Any]], tmp_path: Path, privacy: Any
) -> None:
    (tmp_path / "result.json").write_text(json.dumps({**reports["forest"], "privacy": privacy}))
    with pytest.raises(EdgewardError, match="privacy: not the statement that a run writes"):
        export_trees(tmp_path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("without", [{}, {"privacy": None}, {"tried": False}, {"tried": "true"}])
def test_a_statement_that_was_deleted_makes_no_bundle(
    reports: Dict[str, Dict[str, Any]], tmp_path: Path, without: Dict[str, Any]
) -> None:
    """A bundle that says nothing of privacy would pass for one of data that need none."""
    left = {name: said for name, said in reports["forest"].items() if name != "privacy"}
    (tmp_path / "result.json").write_text(json.dumps({**left, **without}))
    with pytest.raises(EdgewardError, match=r"result\.json: privacy: missing"):
        export_trees(tmp_path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "result.json").write_text(json.dumps({**left, "tried": True}))
    export_trees(tmp_path, tmp_path / "bundle")


@pytest.mark.parametrize(
    "content", [b"[" * 1_000_000, b"1" * 10_000, b"\xff", b"", b'{"analysis": null}', b"{" + b" " * 99]
)
def test_what_is_no_result_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "result.json").write_bytes(content)
    assert main(["model", "export", str(tmp_path / "result.json"), "--out", str(tmp_path / "out")]) == 2
    assert "result.json: not " in capsys.readouterr().err
