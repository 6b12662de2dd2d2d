"""`edgeward init`: what it makes of tables nobody prepared, and what it says."""

import csv
import io
import json
import random
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from messy_table import NAMES, rows

from orchestrator.cli.main import main
from orchestrator.data.dataset import load_dataset
from orchestrator.gateway.config import load_config
from orchestrator.gateway.delimited import read_delimited
from orchestrator.gateway.survey import rounded_outward, survey


def write(path: Path, separator: str = ",", encoding: str = "utf-8", comma: bool = False) -> Path:
    lines = [NAMES.split(","), *rows()]
    if comma:
        lines = [lines[0], *([cell.replace(".", ",") for cell in line] for line in lines[1:])]
    path.write_text("\n".join(separator.join(line) for line in lines) + "\n", encoding=encoding)
    return path


def init(path: Path, *options: str) -> int:
    return main(["init", str(path), "--out", str(path.parent / "edgeward.toml"), *options])


def clear(folder: Path) -> None:
    """Takes out what `init` wrote."""
    for name in ("edgeward.toml", "policy.toml", "ward.toml"):
        (folder / name).unlink(missing_ok=True)


def found(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> Dict[str, Any]:
    assert init(path, "--label", "sepsis", "--json", *options) == 0
    return json.loads(capsys.readouterr().out)


def test_a_table_that_nobody_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "My Records.csv")
    said = found(capsys, path)
    features = {feature["name"]: feature for feature in said["features"]}
    kinds = {name: feature["kind"] for name, feature in features.items()}
    assert kinds == {
        "age": "integer",
        "lactate": "number",
        "sex": "category",
        "ward": "category",
        "smoker": "category",
        "score": "integer",
    }
    assert (features["age"]["minimum"], features["age"]["maximum"]) == (0, 100)
    assert (features["lactate"]["minimum"], features["lactate"]["maximum"]) == (0, 5.5)
    assert features["ward"]["categories"] == ["icu", "medical", "none", "surgical"]  # a level called none is a level
    assert "if they are codes" in features["score"]["note"]
    why = {each["name"]: each["why"] for each in said["left_out"]}
    assert set(why) == {"visit id", "admitted", "empty", "site", "notes", "temp", "zip"}
    for name, reason in {
        "visit id": "an id says nothing",
        "admitted": "a date",
        "empty": "no value",
        "site": "the same value in every row",
        "notes": "free text",
        "temp": "67% of its values are missing",
        "zip": "of its 240 values 239 are plain numbers; 1 as a bound, as in <5 (first in line 11): decide on one value",
    }.items():
        assert reason in why[name]
    assert (said["patient"], said["complete_rows"], said["classes"]) == (
        "pat_id",
        239,
        {"no": "no", "septic": "septic"},
    )
    assert "n/a" in said["missing_markers"]
    assert "Confirm each of them" in said["warnings"][0]
    task = load_config(tmp_path / "edgeward.toml").task
    assert (task.privacy.unit, task.privacy.delta < 1 / 80, task.privacy.records_per_patient) == ("patient", True, 4)
    assert load_dataset(path, task.schema).records == 239  # a node reads the very file
    assert said["next"][0].endswith("edgeward.toml --patients 80")
    text = (tmp_path / "edgeward.toml").read_text()
    assert "CONFIRM every range" in text
    assert 'federation = "my-records"' in text
    private = [cell for line in rows() for cell in (line[0], line[1], line[11])]
    assert not [cell for cell in private if cell in text + json.dumps(said)]


def test_it_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "r.csv")
    (tmp_path / "edgeward.toml").write_text("mine")
    assert init(path, "--label", "sepsis") == 2
    assert "it exists, and is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "edgeward.toml").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["edgeward.toml", "r.csv"]


@pytest.mark.parametrize(
    ("separator", "encoding", "comma", "assumed"),
    [
        (";", "cp1252", True, "read as Windows-1252|semicolons|decimals are written with commas"),
        ("\t", "utf-16", False, "tabs|UTF-16"),
        ("|", "utf-8-sig", False, "vertical bars|the text is UTF-8"),
    ],
)
def test_other_separators_and_encodings_are_found_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], separator: str, encoding: str, comma: bool, assumed: str
) -> None:
    plain = found(capsys, write(tmp_path / "plain.csv"))
    clear(tmp_path)
    path = write(tmp_path / "other.csv", separator, encoding, comma)
    path.write_bytes(path.read_bytes().replace("night".encode(encoding), "nächt".encode(encoding)))
    other = found(capsys, path)
    assert all(word in "; ".join(other["assumed"]) for word in assumed.split("|"))
    assert other["features"] == plain["features"]
    assert "nodes read CSV with commas" in other["warnings"][-1]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("sepsiss", "no such column, did you mean 'sepsis'?"),
        ("site", "only, and at least two classes"),
        ("lactate", "put `target` in the place of classes (docs/data.md"),
        (None, "likely ones are sepsis, "),
    ],
)
def test_a_label_that_cannot_be_one(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    label: Optional[str],
    reason: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert init(write(tmp_path / "r.csv"), *([] if label is None else ["--label", label])) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "edgeward.toml").exists()


def test_the_label_is_asked_for_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO("1\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    assert init(write(tmp_path / "r.csv")) == 0
    assert load_config(tmp_path / "edgeward.toml").task.schema.label == "sepsis"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04rest", "a zip archive, as .xlsx, .ods and .npz are"),
        (b"\x1f\x8b\x08" + bytes(99), "compressed with gzip; unpack it first: gunzip FILE"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5; read it with pandas"),
        (b"a,b\n" + b"1,2\x00\n" * 30, "not text"),
        ("a,b\n1,2\n".encode("utf-32"), "UTF-32 text; convert it: iconv"),
        (b'[{"a": 1, "b": 2},\n{"a": 1, "b": 2}]\n', "r.csv:1: looks like JSON"),
        (b'{\n"a": 1, "b": 2\n}\n' * 30, "r.csv:1: looks like JSON"),
        (b"<table><tr><td>a,b</td></tr>\n" * 30, "r.csv:1: looks like HTML or XML"),
        (b"a,,b,\n" + b"1,2,3,4\n" * 30, "r.csv:1: columns 2, 4 have no name"),
        (b"a,b\n1,2\n1\n", "r.csv:3: 1 values, the first line names 2 columns"),
        (b"1,2\n3,4\n", "the first line holds numbers"),
        (b"a,a\n1,2\n", "column 'a' occurs twice"),
        (b"# export\na,b\n1,2\n", "r.csv:1: a comment"),
        (b"one\ntwo\n", "no table is recognized"),
        (b"a,b\n" + b"1,2\n" * 5, "a table of 5 rows does not show what a column holds"),
        (b"a,b\n" + b'1,"2\n' * 30, "not CSV"),
        (b"a,b\n", "no rows under the names"),
        (b"a,b\n" + b"1,x\n1,y\n" * 20, "no column is left to learn from"),
    ],
)
def test_what_is_no_table_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    assert init(tmp_path / "r.csv", "--label", "b") in (1, 2)
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((21, 88), (0, 100)),
        ((0.5, 13.2), (0, 14)),
        ((121, 158), (115, 160)),
        ((-7.5, 3), (-10, 4)),
        ((0.002, 0.9), (0, 1)),
        ((-80, -2), (-90, 0)),
        ((1e-7, 3e-7), (0, 3.5e-7)),
        ((1900, 2024), (1880, 2040)),
    ],
)
def test_ranges_hold_the_values_and_are_round(values: Any, expected: Any) -> None:
    assert rounded_outward(*values) == pytest.approx(expected, rel=1e-12)


def test_names_that_look_the_same_are_pointed_out(tmp_path: Path) -> None:
    """A Cyrillic letter in a header; a class whose accent is a character of its own in some rows."""
    rows = [f"{20 + i * 7 % 60},{i * 3 % 17},{('cafe' + chr(0x301), 'caf' + chr(0xE9))[i % 2]}" for i in range(60)]
    (tmp_path / "r.csv").write_text("\n".join([f"age,{chr(0x430)}ge,place", *rows]) + "\n", encoding="utf-8")
    first, second = survey(read_delimited(tmp_path / "r.csv"), "place").warnings[-2:]
    assert "columns 'age', '\\u0430ge' look the same, and are not" in first
    assert "classes 'cafe\\u0301', 'caf\\xe9' look the same and count as different" in second


def test_what_a_person_should_look_at_is_said(tmp_path: Path) -> None:
    """A code for a missing value, the answer in a column, spellings, a rare class, dates without dashes, ticket numbers."""
    lines = []
    for i in range(60):
        weight, sex, dead = 999 if i % 9 == 0 else 20 + i % 40, "mMf"[i % 3], int(i % 4 == 0)
        lines.append(f"{weight},{'AB'[dead]},{sex},2024010{1 + i % 9},{900000 + i * 7919 % 99999},{dead}")
    path = tmp_path / "r.csv"
    path.write_text("weight,verdict,sex,day,ticket,dead\n" + "\n".join(lines) + "\n")
    seen = survey(read_delimited(path), "dead")
    notes = {column.name: column.note for column in seen.columns}
    assert "999 is far from all other values" in notes["weight"]
    assert "M, m differ in case only" in notes["sex"]
    assert {name for name, _ in seen.left_out} == {"day", "ticket"}
    assert seen.warnings == [
        "few rows are of class 'yes' (15): little can be learned of it",
        "column 'verdict' alone tells the label in every row: does it hold the answer?",
    ]


WORDS = [
    "yes",
    "No",
    'a "b"',
    "x,y",
    "ä ö",
    "N/A",
    "none",
    "",
    "?",
    "-",
    "0",
    "1",
    "1.0",
    "01",
    "TRUE",
    "<5",
    "NaN",
    "inf",
    "1_0",
    "٣",
]


def random_table(draw: random.Random) -> List[List[str]]:
    count = draw.randint(20, 60)

    def column() -> List[str]:
        kind = draw.randrange(5)
        if kind == 0:
            return [str(draw.randint(0, 10 ** draw.randint(0, 9))) for _ in range(count)]
        if kind == 1:
            scale = 10.0 ** draw.randint(-8, 8)
            return [f"{draw.gauss(draw.choice([0, 5]), 1) * scale:.4g}" for _ in range(count)]
        if kind == 2:
            return [draw.choice(WORDS) if draw.random() < 0.1 else str(draw.randint(1, 50)) for _ in range(count)]
        few = draw.sample(WORDS, draw.randint(1, 5))
        return [draw.choice(few) for _ in range(count)]

    names = draw.sample(
        ["age", "Age", "patient_id", "id", "a.b", "ü", 'x"y', "", "#n", "[t]", "a=b", "k v", "true", "1"], 6
    )
    return [names, *map(list, zip(*(column() for _ in names)))]


def test_what_it_writes_is_what_nodes_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of any table: the draft is accepted, its rows are usable by a node as counted, and no value is beyond its range."""
    draw, made = random.Random(11), 0
    path, draft = tmp_path / "r.csv", tmp_path / "edgeward.toml"
    for _ in range(150):
        lines = random_table(draw)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
        if init(path, "--label", lines[0][5], "--json") == 0:
            said, schema = json.loads(capsys.readouterr().out), load_config(draft).task.schema
            data = load_dataset(path, schema)
            assert (data.records, data.clamped) == (said["complete_rows"], ())
            assert load_dataset(tmp_path / "ward.toml", schema).digest() == data.digest(), (
                "the description changes nothing"
            )
            made += 1
            clear(tmp_path)
        else:
            assert capsys.readouterr().err.startswith("edgeward: ")
    assert made > 30


def test_real_tables(tmp_path: Path, shared_data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared_data("respiratory/respiratory.csv")
    assert main(["init", str(path), "--label", "outcome", "--out", str(tmp_path / "r.toml"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["patient"], [each["name"] for each in said["left_out"]]) == ("id", ["rownames"])
    assert load_dataset(path, load_config(tmp_path / "r.toml").task.schema).records == 444


def drafted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: List[str], head: str = "a,b,y"
) -> Dict[str, Any]:
    """What `init` says of a column `a` beside a plain one and the label."""
    path = tmp_path / "t.csv"
    lines = [f"{cell},{number % 7},{number % 2}" for number, cell in enumerate(cells)]
    path.write_text("\n".join([head, *lines]) + "\n")
    clear(tmp_path)
    assert init(path, "--label", "y", "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([f"{1e9 + i / 100}" for i in range(40)], "too close together"),
        ([f"{i}e-300" for i in range(1, 41)], "too close together"),
        ([f"{i} mg" for i in range(40)], "without its unit"),
        ([f"{i}%" for i in range(40)], "without its unit"),
        ([f'"{i},5"' for i in range(40)], "decimal comma"),
    ],
)
def test_a_column_that_cannot_be_used_is_left_out_with_its_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: List[str], why: str
) -> None:
    said = drafted(tmp_path, capsys, cells)
    assert [each["name"] for each in said["features"]] == ["b"]
    assert why in said["left_out"][0]["why"]


def test_codes_for_missing_values_are_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for code, expected in (("-1", "the only negative value"), ("-9", "the only"), ("999", "far from all"), ("7", "")):
        said = drafted(tmp_path, capsys, [code if i == 5 else f"{20 + i % 60}" for i in range(70)])
        column = said["features"][0]
        assert expected in column.get("note", "")
        assert bool(column.get("note")) == bool(expected)
        assert (column["minimum"] % 1, column["maximum"] % 1) == (0, 0)


def test_two_codes_are_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sex as 1 and 2 would be learned as an amount of 0 to 3."""
    path = tmp_path / "t.csv"
    path.write_text("sex,flag,sepsis\n" + "".join(f"{1 + row % 2},{row % 3 % 2},{row // 2 % 2}\n" for row in range(40)))
    features = {feature["name"]: feature for feature in found(capsys, path)["features"]}
    assert features["sex"]["note"].startswith("2 whole numbers: if they are codes and not amounts, write categories")
    assert "note" not in features["flag"], "0 and 1 need none"


def test_several_codes_are_pointed_out_as_the_file_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    amounts = [f"{20 + i % 60}" for i in range(70)]
    for codes, expected in (
        (["998", "999"], "998, 999 are far from all other values"),
        (["-99.90"], "-99.90 is far from all other values"),
        (["8888"], "8888 is far"),
        (["-9", "-8"], "-8, -9 are the only negative values"),
        (["99"], ""),
    ):
        note = drafted(tmp_path, capsys, [*codes, *amounts])["features"][0].get("note", "")
        assert expected in note
        assert bool(note) == bool(expected)


def test_rows_of_nobody_are_said_and_no_patient_becomes_a_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.csv"
    whose = ["NA" if i % 20 == 3 else f"p{i % 15}" for i in range(100)]
    path.write_text("age,patient_id,y\n" + "".join(f"{20 + i % 60},{who},{i % 2}\n" for i, who in enumerate(whose)))
    assert init(path, "--label", "y", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["patient"] is None
    assert [each["name"] for each in said["features"]] == ["age"]
    assert any(
        "'patient_id' seems to say whose record it is, and 5 rows have none" in line for line in said["warnings"]
    )
    clear(tmp_path)
    assert init(path, "--label", "y", "--patient", "patient_id", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert any(line.startswith("5 rows do not say whose they are") for line in said["warnings"])
    assert any("a node would refuse this file: " in line for line in said["warnings"])
    assert "--patients 15" in said["next"][0]


def test_names_of_columns_in_the_middle_are_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "r.csv")
    path.write_text(path.read_text() * 2)
    assert init(path, "--label", "sepsis") == 2
    assert "r.csv:242: the names of the columns again" in capsys.readouterr().err


def test_what_nodes_would_refuse_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, odd = [f"{i}" for i in range(40)], [f"x\x07{i % 2}" for i in range(40)]
    assert not any("would refuse" in line for line in drafted(tmp_path, capsys, plain)["warnings"])
    assert any("would refuse" in line for line in drafted(tmp_path, capsys, odd)["warnings"])


@pytest.mark.parametrize(
    ("begin", "reason"), [("sep=;\na,y\n", ":1: a line for Excel"), ("a,y\n" + "x" * 200_000 + ",1\n", ":2: 200,0")]
)
def test_lines_that_are_no_rows_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], begin: str, reason: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(begin + "1,0\n2,1\n" * 20)
    assert init(path, "--label", "y") == 2
    assert reason in capsys.readouterr().err
