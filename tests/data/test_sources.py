"""Tables that are no CSV give the records that the same table as CSV gives, and what is wrong with them is said like that."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

NAMES = ["age", "sex", "visits", "dead"]
ROWS: List[List[Any]] = [[63.5, "f", 2, 1], [41, "m", 0, 0], [None, "f", 7, 1], [80.25, "m", 3, 0], [19, "f", 1, 0]]
SCHEMA = Schema(
    "table",
    "dead",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (Feature("age", 0, 120), Feature("sex", categories=("f", "m")), Feature("visits", 0, 20)),
    drop_missing=True,
)


def csv_file(path: Path, rows: List[List[Any]]) -> Path:
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    path.write_text("\n".join([",".join(NAMES), *lines]) + "\n")
    return path


def sqlite_file(path: Path, rows: List[List[Any]], table: str = "visits 2026") -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f'CREATE TABLE "{table}" (age REAL, sex TEXT, visits INTEGER, dead INTEGER)')
        database.executemany(f'INSERT INTO "{table}" VALUES (?, ?, ?, ?)', rows)
        database.commit()
    return path


def json_file(path: Path, rows: List[List[Any]]) -> Path:
    lines = [
        json.dumps({name: cell for name, cell in zip(NAMES, row) if cell is not None or row is rows[0]}) for row in rows
    ]
    path.write_text("\n".join(lines) + "\n\n")
    return path


def excel_file(path: Path, rows: List[List[Any]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [NAMES, *rows]:
        book.active.append(row)
    book.save(path)
    return path


def parquet_file(path: Path, rows: List[List[Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(NAMES)}
    columns["age"] = [None if age is None else float(age) for age in columns["age"]]
    parquet.write_table(pyarrow.table(columns), path)
    return path


FORMATS: Dict[str, Callable[[Path, List[List[Any]]], Path]] = {
    "t.sqlite": sqlite_file,
    "t.jsonl": json_file,
    "t.xlsx": excel_file,
    "t.parquet": parquet_file,
}


def alike(one: Dataset, other: Dataset) -> bool:
    return bool(np.array_equal(one.x, other.x) and np.array_equal(one.y, other.y) and one.dropped == other.dropped)


@pytest.mark.parametrize("name", FORMATS)
def test_records_are_those_of_the_same_table_as_csv(tmp_path: Path, name: str) -> None:
    plain = load_dataset(csv_file(tmp_path / "t.csv", ROWS), SCHEMA)
    assert (plain.records, plain.dropped) == (4, 1)
    assert alike(load_dataset(FORMATS[name](tmp_path / name, ROWS), SCHEMA), plain)


@pytest.mark.parametrize("name", FORMATS)
def test_what_does_not_fit_is_said_by_its_row(tmp_path: Path, name: str) -> None:
    wrong = [*ROWS[:3], [200.5, "x", 1, 0], [30, "f", 1, 9]]
    with pytest.raises(DataError) as caught:
        load_dataset(FORMATS[name](tmp_path / name, wrong), SCHEMA)
    said = str(caught.value)
    assert "2 problems" in said
    first = 5 if name == "t.xlsx" else 4
    assert f"{name}:{first}: column 'sex': 'x'" in said
    assert f"{name}:{first + 1}: column 'dead': label '9'" in said


def test_of_several_tables_one_is_named(tmp_path: Path) -> None:
    path = sqlite_file(sqlite_file(tmp_path / "t.sqlite", ROWS), ROWS[:2], "visits 2027")
    with closing(sqlite3.connect(path)) as database:
        database.execute('CREATE VIEW old AS SELECT * FROM "visits 2026" WHERE age > 60')
        database.commit()
    with pytest.raises(
        DataError, match=r"name the table or view as t\.sqlite#NAME; it has old, visits 2026, visits 2027"
    ):
        load_dataset(path, SCHEMA)
    assert load_dataset(tmp_path / "t.sqlite#visits 2027", SCHEMA).records == 2
    assert load_dataset(tmp_path / "t.sqlite#old", SCHEMA).records == 2
    with pytest.raises(DataError, match="no table or view 'visit 2027', did you mean 'visits 2027'"):
        load_dataset(tmp_path / "t.sqlite#visit 2027", SCHEMA)
    with pytest.raises(DataError, match="no such file"):
        load_dataset(tmp_path / "other.sqlite#old", SCHEMA)
    csv_file(tmp_path / "t.csv", ROWS)
    with pytest.raises(DataError, match="no file of several tables"):
        load_dataset(tmp_path / "t.csv#old", SCHEMA)
    assert load_dataset(csv_file(tmp_path / "a#b.csv", ROWS), SCHEMA).records == 4


def test_a_database_is_opened_to_read_only(tmp_path: Path) -> None:
    path = sqlite_file(tmp_path / "t.sqlite", ROWS)
    path.chmod(0o444)
    before = path.read_bytes()
    load_dataset(path, SCHEMA)
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["t.sqlite"]


DAMAGED: Dict[str, Any] = {
    "half an SQLite file": (
        lambda p: p.write_bytes(sqlite_file(p, ROWS).read_bytes()[:3000]),
        "cannot be read as what it begins like",
    ),
    "only its first bytes": (
        lambda p: p.write_bytes(b"SQLite format 3\x00" + bytes(84)),
        "cannot be read as what it begins like|nothing",
    ),
    "an SQLite file without a table": (
        lambda p: sqlite3.connect(p).execute("PRAGMA user_version = 3").connection.close(),
        "it has nothing",
    ),
    "blobs": (lambda p: sqlite_file(p, [[b"abc", "f", 1, 1]]), ":1: column 'age' holds bytes"),
    "nested JSON": (
        lambda p: p.write_text('{"age": [1], "sex": "f", "visits": 1, "dead": 0}\n'),
        ":1: column 'age' holds list",
    ),
    "half a line": (
        lambda p: p.write_text('{"age": 1, "sex": "f", "visits": 1, "dead": 0}\n{"age": 2, "se'),
        ":2: is no JSON",
    ),
    "another key": (
        lambda p: p.write_text('{"age": 1, "sex": "f", "visits": 1, "dead": 0}\n{"agee": 2}\n'),
        ":2: has column 'agee', which the first line does not have: put it there too",
    ),
    "a key twice": (
        lambda p: p.write_text(
            '{"age": 1, "sex": "f", "visits": 1, "dead": 0}\n{"age": 2, "sex": "f", "visits": 1, "dead": 0, "age": 3}\n'
        ),
        ":2: has 'age' twice; which one is meant",
    ),
    "a list below": (
        lambda p: p.write_text('{"age": 1, "sex": "f", "visits": 1, "dead": 0}\n[1]\n'),
        ":2: is no JSON object",
    ),
    "not a number": (
        lambda p: p.write_text('{"age": 1e999, "sex": "f", "visits": 1, "dead": 0}\n'),
        ":1: column 'age'",
    ),
    "a lone surrogate": (
        lambda p: p.write_text('{"age": 1, "sex": "\\\\ud800", "visits": 1, "dead": 0}\n'),
        ":1: column 'sex'",
    ),
    "another column": (lambda p: p.write_text('{"years": 1, "sex": "f", "visits": 1, "dead": 0}\n'), "no column 'age'"),
    "a deep object": (lambda p: p.write_text('{"age": ' + "[" * 5000 + "]" * 5000 + "}\n"), "JSON"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_file_that_is_damaged_or_no_table_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    make, said = DAMAGED[what]
    path = tmp_path / "t"
    make(path)
    with pytest.raises(DataError, match=said):
        load_dataset(path, SCHEMA)


def test_no_column_or_table_name_is_run(tmp_path: Path) -> None:
    path, name = tmp_path / "t.sqlite", 'x"; DROP TABLE y; --'
    with closing(sqlite3.connect(path)) as database:
        database.execute('CREATE TABLE "x""; DROP TABLE y; --" (age, sex, visits, dead)')
        database.execute("CREATE TABLE y (a)")
        database.execute("INSERT INTO \"x\"\"; DROP TABLE y; --\" VALUES (1, 'f', 1, 0), (2, 'm', 1, 1)")
        database.commit()
    assert load_dataset(tmp_path / f"t.sqlite#{name}", SCHEMA).records == 2
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT COUNT(*) FROM y").fetchone() == (0,)
