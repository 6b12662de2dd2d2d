"""One table in every form that a hospital may have it in gives one Dataset, bit for bit.

Its cells are those in which forms differ: fractions that are not exact in binary, a zero with a sign, gaps, dates, letters beyond
ASCII, a comma and quotation marks, numbers that are categories.
"""

import csv
import datetime
import io
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Tuple
from unittest.mock import patch

import numpy as np
import pytest
from descriptions import describe
from fhir_samples import coded, export, observation, patient
from postgres_server import PostgresServer

from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.wire.schema import Feature, Schema

NAMES = ("case", "crp", "lactate", "severity", "stage", "ventilated", "came", "left", "dead")
LEVELS = ("größer", "µ-klein", "≥ 2 日本")
KINDS = {"crp": float, "lactate": float, "stage": int, "ventilated": bool, "came": datetime.date, "left": datetime.date}
"""Of the columns that are no text or label."""


def day(number: int) -> datetime.date:
    return datetime.date(2026, 2, 25) + datetime.timedelta(days=number)


ROWS: Tuple[Tuple[Any, ...], ...] = (
    ('Müller, "Zoë"', 0.1, 0.30000000000000004, "größer", 1, True, day(0), day(5), 1),
    ("007", 2.675, -0.0, "≥ 2 日本", 3, False, day(1), day(3), 0),
    ("b-1", None, 1.0000000000000002, "µ-klein", 2, True, day(2), day(9), 0),
    ("b-1", 1e-05, None, "µ-klein", 2, None, day(3), day(3), 1),
    ("Ωmega 12", 123.0, 1.7e-08, None, 1, False, day(4), day(44), 0),
    ("c", 99.99, 4.35, "größer", None, True, day(5), None, 0),
    ("d", 1 / 3, 5.0, "≥ 2 日本", 2, False, day(6), day(10), 1),
)
DAYS = {"stay": {"formula": "days(left, came)"}}

SCHEMA = Schema(
    "table",
    "dead",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (
        *(Feature("crp", 1e-6, 200, transform="log"), Feature("lactate", -1, 20)),
        *(Feature("severity", categories=LEVELS), Feature("stage", categories=("1", "2", "3"))),
        *(Feature("ventilated", categories=("false", "true")), Feature("stay", 0, 365)),
    ),
    patient="case",
    drop_missing=True,
)


def plain(value: Any) -> str:
    """A cell of a CSV file."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def separated(rows: Iterable[Iterable[str]], delimiter: str = ",") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows(rows)
    return file.getvalue()


def as_csv(folder: Path) -> Path:
    (folder / "t.csv").write_text(separated([NAMES, *(map(plain, row) for row in ROWS)]), encoding="utf-8")
    return describe(folder, {"file": "t.csv"}, columns=DAYS)


def german(value: Any) -> str:
    """As a German Excel writes it."""
    if isinstance(value, datetime.date):
        return value.strftime("%d.%m.%Y")
    return plain(value).replace(".", ",") if isinstance(value, float) else plain(value)


GERMAN = {
    **{name: {"decimal_comma": True} for name in ("crp", "lactate")},
    **{name: {"date": "%d.%m.%Y"} for name in ("came", "left")},
    **DAYS,
}


def as_semicolons(folder: Path) -> Path:
    """With decimal commas and a byte order mark."""
    text = separated([NAMES, *(map(german, row) for row in ROWS)], ";")
    (folder / "t.csv").write_bytes(text.encode("utf-8-sig"))
    return describe(folder, {"file": "t.csv", "delimiter": ";"}, columns=GERMAN)


def as_latin_1(folder: Path) -> Path:
    """Which has no letter for two of the values: a hospital has codes in their place, and says what they mean."""
    codes = {"≥ 2 日本": "2+", "Ωmega 12": "Omega 12"}
    cells = [[codes.get(each, each) for each in map(german, row)] for row in ROWS]
    (folder / "t.csv").write_bytes(separated([NAMES, *cells], "\t").encode("latin-1"))
    recode = {"2+": "≥ 2 日本", **{level: level for level in LEVELS[:2]}}
    cases = {each: each for each in (row[0] for row in ROWS) if each not in codes}
    columns = {**GERMAN, "severity": {"recode": recode}, "case": {"recode": {"Omega 12": "Ωmega 12", **cases}}}
    return describe(folder, {"file": "t.csv", "delimiter": "tab", "encoding": "latin-1"}, columns=columns)


def as_json_lines(folder: Path) -> Path:
    lines = [
        json.dumps({name: value for name, value in zip(NAMES, row) if value is not None or row is ROWS[0]}, default=str)
        for row in ROWS
    ]
    (folder / "t.jsonl").write_text("\n".join(lines))
    return describe(folder, {"file": "t.jsonl"}, columns=DAYS)


def as_parquet(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        pyarrow.table({name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}), folder / "t.parquet"
    )
    return describe(folder, {"file": "t.parquet"}, columns=DAYS)


def as_pandas_writes_it(folder: Path) -> Path:
    """Whole numbers with gaps are floats, texts an own type, days are moments."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    frame = pandas.DataFrame(list(ROWS), columns=NAMES)
    frame["came"], frame["left"] = pandas.to_datetime(frame["came"]), pandas.to_datetime(frame["left"])
    assert str(frame["stage"].dtype) == "float64"
    frame.to_parquet(folder / "t.parquet")
    return describe(folder, {"file": "t.parquet"}, columns=DAYS)


def excels(value: Any) -> str:
    """What a number is in a sheet."""
    return repr(value) if isinstance(value, float) else str(int(value) if isinstance(value, bool) else value)


def as_excel(folder: Path) -> Path:
    """With days that are Excel's dates, on the second of two sheets."""
    openpyxl = pytest.importorskip("openpyxl", reason="Excel needs openpyxl")
    book = openpyxl.Workbook()
    sheet = book.create_sheet("Fälle 2026")
    for row in (NAMES, *ROWS):
        sheet.append(row)
    with patch("openpyxl.cell._writer.safe_string", excels):  # Excel writes 17 digits, openpyxl 16
        book.save(folder / "t.xlsx")
    return describe(folder, {"file": "t.xlsx#Fälle 2026"}, columns=DAYS)


def as_sqlite(folder: Path) -> Path:
    """Which has no type for truth values: they are 1 and 0."""
    with closing(sqlite3.connect(folder / "t.sqlite")) as database:
        database.execute(
            'CREATE TABLE "Fälle" ("case" TEXT, crp REAL, lactate REAL, severity TEXT, stage INTEGER, ventilated INTEGER, '
            'came TEXT, "left" TEXT, dead INTEGER)'
        )
        cells = [[str(each) if isinstance(each, datetime.date) else each for each in row] for row in ROWS]
        database.executemany(f'INSERT INTO "Fälle" VALUES ({", ".join("?" * len(NAMES))})', cells)
        database.commit()
    truth = {"ventilated": {"recode": {"1": "true", "0": "false"}}}
    return describe(folder, {"file": "t.sqlite#Fälle"}, columns={**truth, **DAYS})


def as_fhir(folder: Path) -> Path:
    """A bulk export. Patients have no second record there, so an encounter's cells are one Patient's, who is named by an
    identifier."""
    resources: Dict[str, List[Any]] = {"Patient": [], "Observation": []}
    for number, row in enumerate(ROWS):
        cells = dict(zip(NAMES, row))
        named = [{"system": "urn:cases", "value": cells["case"]}]
        resources["Patient"].append(patient(f"r{number}", identifier=named, deceasedBoolean=cells["dead"] == 1))
        for name in NAMES[1:-1]:
            if cells[name] is not None:
                code = {"code": {"coding": [{"system": "urn:columns", "code": name}]}}
                made = observation(f"{name}{number}", f"r{number}", **{**code, **_value(cells[name])})
                resources["Observation"].append(made)
    resources["Observation"].append(observation("o", "r0", code=coded("another"), valueString="of no column"))
    export(folder / "export", **resources)
    columns = [
        {"name": "case", "from": "Patient", "path": "identifier.value", "system": "urn:cases"},
        {"name": "dead", "from": "Patient", "path": "deceased"},
        *(
            {
                **{"name": name, "from": "Observation", "code": name, "system": "urn:columns", "take": "value"},
                **({"unit": "mg/L"} if KINDS.get(name) is float else {}),
            }
            for name in NAMES[1:-1]
        ),
    ]
    return describe(folder, {"kind": "fhir", "folder": "export", "columns": columns}, columns=DAYS)


def _value(value: Any) -> Dict[str, Any]:
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value}
    if isinstance(value, float):
        return {"valueQuantity": {"value": value, "unit": "mg/L"}}
    return {"valueDateTime": str(value)} if isinstance(value, datetime.date) else {"valueString": value}


FORMS: Dict[str, Callable[[Path], Path]] = {
    "semicolons": as_semicolons,
    "latin-1": as_latin_1,
    "JSON lines": as_json_lines,
    "Parquet": as_parquet,
    "pandas' Parquet": as_pandas_writes_it,
    "Excel": as_excel,
    "SQLite": as_sqlite,
    "FHIR": as_fhir,
}


def bits(data: Dataset) -> List[Tuple[bytes, int, int]]:
    """(x, y, patient) of each record. In x also the bits that no comparison of numbers sees: a zero's sign."""
    assert data.patients is not None
    return [
        (np.ascontiguousarray(x).tobytes(), int(y), int(whose)) for x, y, whose in zip(data.x, data.y, data.patients)
    ]


def same(one: Dataset, other: Dataset, ordered: bool = True) -> bool:
    assert one.x.dtype == other.x.dtype
    found, expected = bits(one), bits(other)
    return (found == expected if ordered else sorted(found) == sorted(expected)) and one.digest() == other.digest()


def check(path: Path, folder: Path, ordered: bool = True) -> None:
    """As a training reads it, and as an analysis does, which has float64 and gaps."""
    folder.mkdir()
    table = as_csv(folder)
    trained = load_dataset(table, SCHEMA)
    assert (trained.records, trained.dropped) == (3, 4)
    gappy = replace(SCHEMA, drop_missing=False)
    analysed = load_dataset(table, gappy, gaps=True)
    assert (analysed.records, int(np.isnan(analysed.x).sum())) == (7, 3)
    assert same(load_dataset(path, SCHEMA), trained, ordered)
    assert same(load_dataset(path, gappy, gaps=True), analysed, ordered)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_table_is_the_same_records_in_every_form(tmp_path: Path, form: str) -> None:
    check(FORMS[form](tmp_path), tmp_path / "csv")


@pytest.mark.parametrize("number", ["double precision", "numeric"])
def test_the_same_table_is_the_same_records_in_postgresql(
    tmp_path: Path, postgres: PostgresServer, number: str
) -> None:
    """Its rows have no order."""
    postgres.run("DROP TABLE IF EXISTS same_table")
    postgres.run(
        f'CREATE TABLE same_table ("case" text, crp {number}, lactate {number}, severity text, stage smallint, '
        'ventilated boolean, came date, "left" date, dead integer)'
    )
    with postgres.connect() as connection, connection.cursor() as cursor:
        # PostgreSQL makes of a float a numeric of 15 digits.
        exact = [
            [Decimal(repr(each)) if number == "numeric" and isinstance(each, float) else each for each in row]
            for row in ROWS
        ]
        cursor.executemany(f"INSERT INTO same_table VALUES ({', '.join(['%s'] * len(NAMES))})", exact)
    path = describe(tmp_path, postgres.source(table="same_table"), columns=DAYS)
    check(path, tmp_path / "csv", ordered=False)


def test_numbers_of_single_precision_are_those_that_a_csv_file_of_them_has(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """0.1 is 0.1 in it, and not 0.10000000149011612, the double that is nearest to its bits."""
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values, schema = (
        [0.1, 36.6, 1e-05, 3.0],
        replace(SCHEMA, features=(Feature("crp", 0, 100),), drop_missing=False, patient=""),
    )
    (tmp_path / "t.csv").write_text("crp,dead\n" + "".join(f"{value!r},1\n" for value in values))
    columns = {"crp": pyarrow.array(values, pyarrow.float32()), "dead": [1] * len(values)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    postgres.run("DROP TABLE IF EXISTS singles")
    postgres.run("CREATE TABLE singles AS SELECT unnest(%s::real[]) AS crp, 1 AS dead", [values])
    described = describe(tmp_path, postgres.source(table="singles"))
    for path in (tmp_path / "t.csv", tmp_path / "t.parquet", described):
        assert sorted(load_dataset(path, schema, gaps=True).x.ravel().tolist()) == sorted(values)
