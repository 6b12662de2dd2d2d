"""Whatever is wrong with a cell or a row: its owner reads file, row, column and a cure; of all that the gateway reads a code."""

import csv
import io
import json
import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
import pytest
from test_node_says_codes import SECRET, Node, private

from orchestrator.node import opening as opening_module
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

TASK = private(
    schema=Schema(
        "table",
        "y",
        ("no", "yes"),
        {"0": 0, "1": 1},
        (Feature("x", 0, 1), Feature("c", categories=("u", "v"))),
        standardization="range",
        patient="p",
    )
)
SIGNALS = private(schema=Schema("signal", "y", ("no", "yes"), {"0": 0, "1": 1}, samples=4, patient="p"))
AMOUNT = "74310952"
"""In cells that are about a number."""
GOOD = ("0.5", "u", "0", "Zwqx-7431")
NAMES = ("x", "c", "y", "p")


class Case(NamedTuple):
    """write: the data into a folder, and the path that a node is given. where: file and row as they are said."""

    write: Callable[[Path], Path]
    where: str
    column: str
    cure: str
    task: Task = TASK


def text(rows: Sequence[Sequence[str]], names: Sequence[str] = NAMES, delimiter: str = ",") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([names, *rows])
    return file.getvalue()


def in_csv(column: str, cell: str, cure: str) -> Case:
    """A cell of the second row of a plain table."""
    row = [cell if name == column else good for name, good in zip(NAMES, GOOD)]
    return Case(lambda folder: put(folder / "t.csv", text([GOOD, row])), "t.csv:3", column, cure)


def lines(content: str, row: int, cure: str) -> Case:
    return Case(lambda folder: put(folder / "t.csv", content), f"t.csv:{row}", "", cure)


def put(path: Path, content: "str | bytes") -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def through(columns: str, column: str, cell: str, cure: str, head: str = "", row: int = 3, shown: str = "") -> Case:
    """The same through a description; `shown` is the column that is said."""

    def write(folder: Path) -> Path:
        rows = [GOOD, [cell if name == column else good for name, good in zip(NAMES, GOOD)]]
        put(folder / "t.csv", text(rows))
        return put(folder / "ward.toml", f'{head}[source]\nfile = "t.csv"\n{columns}')

    return Case(write, f"t.csv:{row}", shown or column, cure)


def visits(rows: str, row: int, cell: str, cure: str) -> Case:
    """Several rows a patient: when, x."""

    def write(folder: Path) -> Path:
        made = [line.split(" ") for line in cell.split(";")]
        put(folder / "t.csv", text([[*GOOD[:3], GOOD[3], each] for (each,) in made], [*NAMES, "w"]))
        return put(folder / "ward.toml", f'[source]\nfile = "t.csv"\n[rows]\npatient = "p"\n{rows}')

    return Case(write, f"t.csv:{row}", "w", cure)


def joined(row: Sequence[str], column: str, cure: str, take: str = "mean", form: str = "%Y-%m-%d") -> Case:
    """A row of another table; its columns are k, at, x."""
    written = f'date = "{form}"\n' if form else ""

    def write(folder: Path) -> Path:
        put(folder / "t.csv", text([[*GOOD[1:], "2026-03-31"]], [*NAMES[1:], "came"]))
        put(folder / "l.csv", text([[GOOD[3], "2026-03-01", "0.5"], row], ["k", "at", "x"]))
        return put(
            folder / "ward.toml",
            '[source]\nfile = "t.csv"\n[rows]\npatient = "p"\n[tables.l]\nfile = "l.csv"\nkey = "k"\nwhen = "at"\n'
            f'{written}[columns.x]\ntable = "l"\ntake = "{take}"\ncolumn = "x"\nanchor = "came"\ndays = [-60, 0]\n',
        )

    return Case(write, "l.csv:3", column, cure)


def patients(rows: List[List[str]], row: int, column: str, cure: str) -> Case:
    """Of the table to which another one is joined."""

    def write(folder: Path) -> Path:
        put(folder / "t.csv", text(rows, [*NAMES[1:], "came"]))
        put(folder / "l.csv", text([], ["k", "at"]))
        return put(
            folder / "ward.toml",
            '[source]\nfile = "t.csv"\n[rows]\npatient = "p"\n[tables.l]\nfile = "l.csv"\nkey = "k"\nwhen = "at"\n'
            '[columns.x]\ntable = "l"\ntake = "count"\nanchor = "came"\ndays = [-60, 0]\n',
        )

    return Case(write, f"t.csv:{row}", column, cure)


def json_lines(second: str, column: str, cure: str) -> Case:
    first = json.dumps(dict(zip(NAMES, GOOD)))
    return Case(lambda folder: put(folder / "t.jsonl", f"{first}\n{second}\n"), "t.jsonl:2", column, cure)


def blob(folder: Path) -> Path:
    path = folder / "t.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x, c, y, p)")
        database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [GOOD, [SECRET.encode(), *GOOD[1:]]])
        database.commit()
    return path


def beyond(folder: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl", reason="Excel needs openpyxl")
    book = openpyxl.Workbook()
    for row in (NAMES, GOOD, [*GOOD, None, SECRET]):
        book.active.append(row)
    book.save(folder / "t.xlsx")
    return folder / "t.xlsx"


def nested(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {name: [good, good] for name, good in zip(NAMES[1:], GOOD[1:])}
    parquet.write_table(pyarrow.table({"x": [None, [SECRET]], **columns}), folder / "t.parquet")
    return folder / "t.parquet"


def fhir(cure: str, take: str = "value", **said: Any) -> Case:
    """An Observation of the second line."""

    def write(folder: Path) -> Path:
        (folder / "e").mkdir()
        code = {"coding": [{"system": "s", "code": "1"}]}
        good = {"resourceType": "Observation", "status": "final", "code": code, "effectiveDateTime": "2026-01-01"}
        value = {"valueQuantity": {"value": 0.5, "unit": "mg"}}
        first = {**good, "id": "o1", "subject": {"reference": "Patient/a"}, **value}
        other = {**good, "id": "o2", "subject": {"reference": "Patient/b"}, **value, **said}
        other = {key: each for key, each in other.items() if each is not None}
        people = [{"resourceType": "Patient", "id": name, "gender": SECRET} for name in "ab"]
        put(folder / "e" / "Patient.ndjson", "".join(json.dumps(each) + "\n" for each in people))
        put(folder / "e" / "Observation.ndjson", "".join(json.dumps(each) + "\n" for each in (first, other)))
        return put(
            folder / "ward.toml",
            '[source]\nkind = "fhir"\nfolder = "e"\n[[source.columns]]\nname = "p"\nfrom = "Patient"\npath = "id"\n'
            f'[[source.columns]]\nname = "x"\nfrom = "Observation"\ncode = "1"\nunit = "mg"\ntake = "{take}"\n',
        )

    return Case(write, "e/Observation.ndjson:2", "x", cure)


def anonymous(rules: str, column: str, cell: str, cure: str) -> Case:
    def write(folder: Path) -> Path:
        rows = [GOOD, [cell if name == column else good for name, good in zip(NAMES, GOOD)]]
        put(folder / "t.csv", text(rows))
        put(folder / "tree.csv", "u,all\nv,all\n")
        put(folder / "rules.toml", f"k = 2\n{rules}\n")
        return put(folder / "ward.toml", 'anonymize = "rules.toml"\n[source]\nfile = "t.csv"\n')

    return Case(write, "t.csv:3", column, cure)


def signal(cure: str, **arrays: Any) -> Case:
    def write(folder: Path) -> Path:
        good = {"x": np.zeros((3, 4)), "y": np.zeros(3, int), "p": np.array([GOOD[3]] * 3)}
        np.savez(folder / "t.npz", **{**good, **arrays})
        return folder / "t.npz"

    return Case(write, "t.npz", "", cure, SIGNALS)


UNIT = '[columns.x]\nunit = "mg/dL"\nto = "mg/L"\n'
NOT_FINITE = np.array([[0.0] * 4, [0.0] * 4, [0.0, np.inf, 0.0, 0.0]])
CASES: Dict[str, Case] = {
    "a missing value": in_csv("x", "", "fill it in, remove the row, or set drop_missing"),
    "no number": in_csv("x", SECRET, "correct it, or take the row out"),
    "a number with a unit": in_csv("x", f"{AMOUNT} Zwqx", "write the number without its unit"),
    "a decimal comma": in_csv("x", f"{AMOUNT},5", "write 3.5"),
    "a date": in_csv("x", "7431-01-01", "make it a number, such as days"),
    "an infinite number": in_csv("x", f"1e{AMOUNT}", "correct it, or leave the cell empty"),
    "a marker": in_csv("x", "not measured", "ask for it among missing_markers"),
    "a level": in_csv("c", SECRET, "correct it, or say with `recode` of a description what it means"),
    "a level in another case": in_csv("c", "U", "did you mean 'u'?"),
    "a label": in_csv("y", SECRET, "correct it, or say with `recode` of a description what it means"),
    "nobody": in_csv("p", "", "fill it in, or remove the row"),
    "a marker of nobody": in_csv("p", "NULL", "fill it in, or remove the row"),
    "half a row": lines(text([GOOD, GOOD[:2]]), 3, "is the line cut off?"),
    "a comma in a text": lines(text([GOOD]) + f"0.5,u,0,{SECRET},x\n", 3, "needs quotation marks"),
    "a comma at the end": lines(text([GOOD]) + f"0.5,u,0,{SECRET},\n", 3, "a comma too many at its end"),
    "names again": lines(text([GOOD, NAMES]), 3, "take the line out"),
    "an open quote": lines(text([GOOD]) + f'0.5,"{SECRET}', 3, "is a quotation mark of line 3 never closed?"),
    "another encoding": Case(
        lambda folder: put(folder / "t.csv", text([GOOD]).encode() + f"0.5,u,0,{SECRET}ä\n".encode("latin-1")),
        "t.csv:3",
        "",
        "convert it: iconv",
    ),
    "not the declared encoding": Case(
        lambda folder: put(
            folder / "ward.toml",
            f'[source]\nfile = "{put(folder / "t.csv", text([GOOD, [*GOOD[:3], SECRET + "ä"]])).name}"\nencoding = "ascii"\n',
        ),
        "t.csv:3",
        "",
        "name the right `encoding`, or correct that line",
    ),
    "a code that no recode has": through('[columns.c]\nrecode = { u = "u" }\n', "c", SECRET, "say there what it means"),
    "a point": through("[columns.x]\ndecimal_comma = true\n", "x", f"{AMOUNT}.5", "write it with a comma", row=2),
    "a date of another form": through(
        '[columns.c]\ndate = "%d.%m.%Y"\n', "c", SECRET, "say with `date` how all", row=2
    ),
    "a unit of a text": through(UNIT, "x", SECRET, "correct it, or list it in `missing`"),
    "a unit twice": through(UNIT, "x", f"{AMOUNT} Zwqx", "write the number without its unit"),
    "a marker where there is a unit": through(UNIT, "x", "n/a", "list it in `missing`"),
    "a formula of a text": through('[columns.z]\nformula = "x + 1"\n', "x", SECRET, "correct x there", shown="z"),
    "a formula without a value": through(
        '[columns.z]\nformula = "1 / (x - 0.5)"\n', "x", "1", "correct x there", "", 2, "z"
    ),
    "a formula of no date": through(
        '[columns.z]\nformula = "days(c, c)"\n', "c", SECRET, "says how it is written", "", 2, "z"
    ),
    "half a row of a description": Case(
        lambda folder: put(
            put(folder / "t.csv", text([GOOD, GOOD[:2]])).with_name("w.toml"), '[source]\nfile = "t.csv"\n'
        ),
        "t.csv:3",
        "",
        "is the line cut off?",
    ),
    "nobody among several": through(
        '[rows]\npatient = "p"\nkeep = "last"\n', "p", "N/A", "fill it in, or remove the row"
    ),
    "no order": visits(
        'keep = "last"\norder = "w"\n', 3, f"2026-01-01;{SECRET}", "`date` of its column says how it is written"
    ),
    "two kinds of order": visits('keep = "first"\norder = "w"\n', 3, f"2026-01-01;{AMOUNT}", "write all alike"),
    "no mean": visits('keep = "mean"\n', 3, f"{AMOUNT};{SECRET}", "keep the first or the last, or write all alike"),
    "no date of an event": joined(
        [GOOD[3], SECRET, "0.5"], "at", "`date` of the table says how it is written", form=""
    ),
    "an event of another form": joined([GOOD[3], SECRET, "0.5"], "at", "say with `date` how all of them are written"),
    "an event without a date": joined([GOOD[3], "", "0.5"], "at", "fill it in, or take the row out"),
    "an event without a number": joined([GOOD[3], "2026-03-01", SECRET], "x", "correct it, or list it in `missing`"),
    "an event that is neither": joined([GOOD[3], "2026-03-01", SECRET], "x", "`recode` makes it one", "any"),
    "an event of nobody": joined(["", "2026-03-01", "0.5"], "k", "fill it in, or remove the row"),
    "half an event": joined([GOOD[3]], "", "is the line cut off?"),
    "a patient twice": patients([[*GOOD[1:], ""]] * 2, 3, "p", "take one out, or set `keep` in [rows]"),
    "a patient of no name": patients([[*GOOD[1:3], "?", ""]], 2, "p", "fill it in, or remove the row"),
    "no date of a patient": patients([[*GOOD[1:], SECRET]], 2, "came", "`date` of its column says how it is written"),
    "half a line of JSON": json_lines(f'{{"x": "{SECRET}', "", "is it cut off?"),
    "a list of JSON": json_lines(f'["{SECRET}"]', "", "write an object a line"),
    "a key of JSON": json_lines(f'{{"{SECRET}": 1}}', SECRET, "put it there too, with null if need be, or take it out"),
    "a list in JSON": json_lines(f'{{"x": ["{SECRET}"]}}', "x", "leave the column out, or make it one"),
    "bytes": Case(blob, "t.sqlite:2", "x", "leave the column out, or make it one"),
    "a list": Case(nested, "t.parquet:2", "x", "leave the column out, or make it one"),
    "beyond the names": Case(beyond, "t.xlsx:3", "F", "name the column in the first row, or take the value out"),
    "another unit": fhir("other_units = [", valueQuantity={"value": int(AMOUNT), "unit": "g"}),
    "a bound": fhir('set bounds = "limit"', valueQuantity={"value": int(AMOUNT), "unit": "mg", "comparator": "<"}),
    "a second value": fhir("take first, last or mean", subject={"reference": "Patient/a"}),
    "no time": fhir("first and last go by it", "last", effectiveDateTime=None),
    "a text for a number": fhir("take out `unit`", valueString=SECRET, valueQuantity=None),
    "out of a range": anonymous(
        "quasi = { x = { minimum = 0, maximum = 1 } }", "x", AMOUNT, "correct it, or the range"
    ),
    "no level": anonymous('quasi = { c = { levels = ["u", "v"] } }', "c", SECRET, "or list it in the rules"),
    "no leaf": anonymous('quasi = { c = { hierarchy = "tree.csv" } }', "c", SECRET, "or put it there"),
    "no sensitive value": anonymous(
        'sensitive = "y"\nquasi = { c = { levels = ["u", "v"] } }', "y", "", "fill it in, or write a level of its own"
    ),
    "a sample that is no number": signal("correct it, or take the record out", x=NOT_FINITE),
    "a label of a signal": signal("known: 0, 1", y=np.array(["0", "1", SECRET])),
    "a signal of nobody": signal("fill it in, or remove the row", p=np.array([SECRET, SECRET, "NA"])),
}


@pytest.mark.parametrize("what", CASES)
def test_the_owner_reads_file_row_column_and_cure_and_the_gateway_a_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    case = CASES[what]
    monkeypatch.setattr(opening_module, "LOOK_S", 0.001)
    task = case.task
    if "e/Observation" in case.where:  # of which no label is asked
        task = replace(task, schema=replace(task.schema, label="x", features=(Feature("x", 0, 1),)))
    node = Node(tmp_path, data=case.write(tmp_path))
    said = node.asked(task)
    (reason,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    found = next((line for line in reason.splitlines() if case.where in line and case.cure in line), "")
    assert found, reason
    assert f"column {case.column!r}" in found or not case.column
    if task is SIGNALS:
        assert "record 2 of" in found
    assert (said["kind"], said["code"]) == ("declined", "data")
    travels = repr(node.said()) + repr(b"".join(node.raw))
    for part in (SECRET, "Zwqx", AMOUNT, "column", "t.csv", "ward"):
        assert part not in travels
