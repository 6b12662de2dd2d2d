"""`edgeward init` of columns that nobody can name or compute with: each is left out with the reason that holds for it."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest

from orchestrator.cli.main import main
from orchestrator.data.codebook import read_codebook
from orchestrator.gateway.config import load_config
from orchestrator.gateway.delimited import read_delimited
from orchestrator.gateway.survey import label_candidates

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROWS = 60


def write(folder: Path, columns: Dict[str, Sequence[Any]]) -> Path:
    path = folder / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))
    return path


def beside(name: str, cells: Sequence[Any]) -> Dict[str, Sequence[Any]]:
    """A column beside one that a model can use, and the label `y`."""
    return {name: cells, "b": [row * 7 % 23 for row in range(ROWS)], "y": ["no", "yes"] * (ROWS // 2)}


def init(path: Path, label: str = "y", *options: str) -> int:
    out = path.parent / "edgeward.toml"
    return main(["init", str(path), "--label", label, "--force", "--out", str(out), *options])


LONG = "h" * 3000
PATIENTS = [f"P{row // 3}" for row in range(ROWS)]


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        (LONG, range(ROWS), "its name has 3,000 characters, at most 200: rename it"),
        (f"patient {LONG}", PATIENTS, "its name has 3,008 characters, at most 200: rename it"),
        ("patient\nid", PATIENTS, "its name has a line end, which cannot be printed: rename it"),
        ("b\xa0mi", range(ROWS), "its name has a no-break space, which cannot be printed: rename it"),
        ("b\x07mi", range(ROWS), "its name has a control character (U+0007), which cannot be printed: rename it"),
        ("", range(ROWS), "it has no name: give it one in the line of names"),
        (
            "a",
            ["m\nm", "f", "d"] * 20,
            "a value (first in line 3) has a line end, which cannot be printed: replace it by a short code",
        ),
        ("a", ["f", "m" * 150] * 30, "a value (first in line 3) has 150 characters, at most 100"),
        ("a", [10**18 + row for row in range(ROWS)], "it numbers the rows: an id says nothing about a new record"),
        ("a", [10**18 + row * 37 % ROWS for row in range(ROWS)], "it numbers the rows"),
        ("a", [10**18 + row % 5 for row in range(ROWS)], "its values are too close together"),
        ("a", [f"1.00000000000000000{row % 7}" for row in range(ROWS)], "its values are too close together"),
        ("a", [f"1.{'0' * 5000}{row % 7}" for row in range(ROWS)], "its values are too close together"),
        ("a", [f"1e-{400 + row % 7}" for row in range(ROWS)], "its values are too close together"),
        ("a", ["1", "1.0", "1.00"] * 20, "it has the same value in every row"),
        ("a", ["3", *[""] * (ROWS - 1)], "it has the same value in every row that has one"),
        ("a", ["x", "", "x"] * 20, "it has the same value in every row that has one"),
        ("a", [""] * ROWS, "it holds no value"),
        ("a", ["NaN"] * ROWS, "it holds no value: what its cells hold are words for a missing one"),
        ("a", ["1e400"] * ROWS, "its values are too large to compute with: beyond 1e+30"),
        ("a", ["1e400", *range(1, ROWS)], "1 of its 60 values is too large to compute with"),
        ("a", [f"2020-01-{1 + row % 28:02d}" for row in range(ROWS)], "it is a date or a time"),
    ],
)
def test_a_column_is_left_out_for_what_is_wrong_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, cells: List[Any], why: str
) -> None:
    path = write(tmp_path, beside(name, cells))
    assert init(path, "y", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found["left_out"]] == [name]
    reason = found["left_out"][0]["why"]
    assert reason.startswith(why)
    assert reason == why or not why.endswith(("row", "one", "value", "it"))
    assert [each["name"] for each in found["features"]] == ["b"]
    assert not [line for line in found["warnings"] if "would refuse" in line]
    assert load_config(tmp_path / "edgeward.toml").task.schema.features[0].name == "b"
    assert init(path) == 0
    said = capsys.readouterr().out
    assert f": {reason}\n" in said
    assert max(map(len, (tmp_path / "edgeward.toml").read_text().splitlines())) < 300


@pytest.mark.parametrize(
    ("columns", "label", "why"),
    [
        ({"b": range(ROWS), "y": ["c", "a\nb"] * 30}, "y", "its value 'a\\nb' (first in line 4) has a line end"),
        ({"b": range(ROWS), "y": ["c", "m" * 3000] * 30}, "y", "(first in line 3) has 3,000 characters, at most 200"),
        (
            {"b": range(ROWS), "y": ["c", "m\xa0x"] * 30},
            "y",
            "its value 'm\\xa0x' (first in line 3) has a no-break space",
        ),
        (
            {"b": range(ROWS), LONG: ["c", "d"] * 30},
            LONG,
            "its name has 3,000 characters, at most 200: rename it in the",
        ),
        ({LONG: range(ROWS), "y": ["c", "d"] * 30}, "x", "no such column; the file has 'hhhh"),
    ],
)
def test_a_label_that_no_task_can_hold_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], columns: Dict[str, Any], label: str, why: str
) -> None:
    assert init(write(tmp_path, columns), label) == 2
    said = capsys.readouterr().err
    assert f"--label '{label[:20]}" in said
    assert why in said
    assert "make no edgeward.toml" not in said
    assert len(said) < 400
    assert not (tmp_path / "edgeward.toml").exists()


def test_a_patients_column_that_no_task_can_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, beside(LONG, PATIENTS))
    assert init(path, "y", "--patient", LONG) == 2
    assert "--patient 'hhh" in capsys.readouterr().err


def test_such_a_column_is_not_proposed_as_the_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"out\ncome": ["a", "b"] * 30, "class": ["a\nb", "b"] * 30, "": ["a", "b"] * 30, "b": range(ROWS)}
    path = write(tmp_path, columns)
    assert label_candidates(read_delimited(path)) == []
    terminal = io.StringIO("\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(["init", str(path), "--out", str(tmp_path / "e.toml")]) == 2
    assert "--label COLUMN: name the column that is to be learned" in capsys.readouterr().err


def test_names_that_differ_by_case_or_spaces_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {name: [row * 7 % 23 for row in range(ROWS)] for name in ("Age", "age", "b p", "bp", "c")}
    assert init(write(tmp_path, {**columns, "y": ["no", "yes"] * 30}), "y", "--json") == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert [line for line in warnings if "columns 'Age', 'age', 'b p', 'bp' differ by case or by spaces only" in line]
    assert init(write(tmp_path, {"age": range(ROWS), " age": range(ROWS), "y": ["no", "yes"] * 30})) == 2
    assert "'age' occurs twice, but for the spaces around it (columns 1, 2)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", LONG, "b\nmi"])
def test_a_codebook_and_a_description_of_such_a_table_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """One column made the whole codebook, and the description, something that no command reads."""
    path = write(tmp_path, beside(name, [row * 11 % 23 for row in range(ROWS)]))
    assert main(["data", "describe", str(path), "--out", str(tmp_path / "book.csv")]) == 0
    said = capsys.readouterr().out
    assert "which no task can name" in said
    assert max(map(len, said.splitlines())) < 300
    assert [entry.name for entry in read_codebook(tmp_path / "book.csv")] == ["b", "y"]
    assert main(["data", "schema", str(tmp_path / "book.csv")]) == 0
    assert init(path) == 0
    wanted = (tmp_path / "edgeward.toml").read_text().replace('"b"', '"zz"')
    (tmp_path / "other.toml").write_text(wanted)
    out = tmp_path / "own.toml"
    assert main(["data", "map", str(path), str(tmp_path / "other.toml"), "--out", str(out)]) == 0
    assert "the table has" in out.read_text()
    tomllib.loads(out.read_text())
