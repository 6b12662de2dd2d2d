"""The same tables in databases, workbooks and at a server are the same records."""

import datetime
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Callable, Dict

import pytest
from joined_tables import (
    LABS,
    MADE,
    PATIENTS,
    SCHEMA,
    Table,
    described,
    drawn,
    joined,
    refused,
)
from postgres_server import PostgresServer

from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.data.described import read_description, versions_of
from orchestrator.data.sources.registry import service_tables


def sqlite_file(path: Path, people: Table, labs: Table) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute('CREATE TABLE patients ("case" TEXT, sex TEXT, admission TEXT, dead INTEGER)')
        database.execute("CREATE TABLE labs (fall TEXT, sampled TEXT, code TEXT, value REAL, urgent INTEGER)")
        database.executemany("INSERT INTO patients VALUES (?, ?, ?, ?)", people)
        database.executemany("INSERT INTO labs VALUES (?, ?, ?, ?, ?)", labs)
        database.commit()


def as_sqlite(folder: Path, people: Table, labs: Table) -> Path:
    sqlite_file(folder / "h.sqlite", people, labs)
    return described(folder, {"file": "h.sqlite#patients"}, {"file": "h.sqlite#labs"})


def as_excel(folder: Path, people: Table, labs: Table) -> Path:
    """Two sheets; days and times are Excel's."""
    openpyxl = pytest.importorskip("openpyxl", reason="Excel needs openpyxl")
    book = openpyxl.Workbook()
    for title, names, rows in (("patients", PATIENTS, people), ("labs", LABS, labs)):
        sheet = book.create_sheet(title)
        for row in [names, *rows]:
            sheet.append(
                [datetime.datetime.fromisoformat(each) if str(each).startswith("2026-") else each for each in row]
            )
    book.save(folder / "h.xlsx")
    return described(folder, {"file": "h.xlsx#patients"}, {"file": "h.xlsx#labs"})


def as_a_mixture(folder: Path, people: Table, labs: Table) -> Path:
    """Patients in Parquet, labs with semicolons, decimal commas, German dates and in latin-1."""
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {name: [row[i] for row in people] for i, name in enumerate(PATIENTS)}
    parquet.write_table(pyarrow.table(columns), folder / "p.parquet")
    lines = [";".join(LABS)]
    for fall, sampled, code, value, urgent in labs:
        at = datetime.datetime.fromisoformat(sampled).strftime("%d.%m.%Y %H:%M:%S")
        shown = "" if value is None else str(value).replace(".", ",")
        lines.append(";".join([fall, at, code, shown, {None: "", 1: "ja", 0: "nein"}[urgent]]))
    (folder / "labor.csv").write_bytes("\n".join(lines).encode("latin-1"))
    events = {"file": "labor.csv", "delimiter": ";", "encoding": "latin-1", "date": "%d.%m.%Y %H:%M:%S"}
    made = {
        name: {**said, **({"decimal_comma": True} if said.get("column") == "value" else {})}
        for name, said in MADE.items()
    }
    made["any_before"] = {**made["any_before"], "recode": {"ja": "1", "nein": "0"}}
    return described(folder, {"file": "p.parquet"}, events, made)


FORMS: Dict[str, Callable[[Path, Table, Table], Path]] = {
    "two tables of SQLite": as_sqlite,
    "two sheets of Excel": as_excel,
    "Parquet and latin-1": as_a_mixture,
}


def same(one: Dataset, other: Dataset) -> bool:
    return one.x.tobytes() == other.x.tobytes() and one.digest() == other.digest()


@pytest.mark.parametrize("form", FORMS)
def test_the_same_tables_in_another_format_are_the_same_records(tmp_path: Path, form: str) -> None:
    people, labs = drawn(7)
    plain = load_dataset(joined(tmp_path, people, labs), SCHEMA, gaps=True)
    assert same(load_dataset(FORMS[form](tmp_path, people, labs), SCHEMA, gaps=True), plain)


def at_a_server(folder: Path, postgres: PostgresServer, people: Table, labs: Table) -> Path:
    postgres.run("DROP TABLE IF EXISTS patients, labs")
    postgres.run('CREATE TABLE patients ("case" text, sex text, admission date, dead smallint)')
    postgres.run("CREATE TABLE labs (fall text, sampled timestamp, code text, value numeric, urgent boolean)")
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO patients VALUES (%s, %s, %s, %s)", people)
        rows = [
            [*row[:3], None if row[3] is None else str(row[3]), None if row[4] is None else row[4] == 1] for row in labs
        ]
        cursor.executemany("INSERT INTO labs VALUES (%s, %s, %s, %s, %s)", rows)
    (folder / "labs.sql").write_text("SELECT * FROM labs ORDER BY random()")
    return described(folder, postgres.source(table="patients"), {"query_file": "labs.sql"})


def test_two_tables_of_a_server_are_the_same_records_whatever_their_order(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    people, labs = drawn(8)
    plain = load_dataset(joined(tmp_path, people, labs), SCHEMA, gaps=True)
    path = at_a_server(tmp_path, postgres, people, labs)
    digests = {load_dataset(path, SCHEMA, gaps=True).digest() for _ in range(3)}
    assert digests == {plain.digest()}
    files = joined(tmp_path, people, labs).parent / "labs.csv"
    path = described(tmp_path, postgres.source(table="patients"), {"file": files.name})
    assert load_dataset(path, SCHEMA, gaps=True).digest() == plain.digest(), "with a file beside the server's table"
    path = described(tmp_path, postgres.source(table="patients"), {"query_file": "labs.sql"})
    assert versions_of(path) == [path, tmp_path / "labs.sql"]


def test_two_tables_of_a_server_are_of_one_moment(tmp_path: Path, postgres: PostgresServer) -> None:
    people, labs = drawn(9, 3, 5)
    path = at_a_server(tmp_path, postgres, people, labs)
    service = read_description(path).service
    tables = service_tables(path, service, {"labs": {"table": "labs"}, "again": {"query_file": "labs.sql"}})
    assert len(list(next(tables))) == 1 + 3
    postgres.run("INSERT INTO labs VALUES ('Fäll 0', now(), 'CRP', 1)")
    assert [len(list(each)) for each in tables] == [1 + 5, 1 + 5]
    assert postgres.run("SELECT count(*) FROM labs") == [(6,)]


def test_a_table_that_the_server_lacks_is_named(tmp_path: Path, postgres: PostgresServer) -> None:
    at_a_server(tmp_path, postgres, *drawn(9, 3, 5))
    said = refused(described(tmp_path, postgres.source(table="patients"), {"table": "lab"}))
    assert 'relation "lab" does not exist; this user may read ' in said
    said = refused(described(tmp_path, postgres.source(table="patients"), {"table": "a.b.c"}))
    assert "tables.labs" in said
    assert "expected NAME or SCHEMA.NAME" in said


def test_rows_of_a_server_are_named_by_their_table(tmp_path: Path, postgres: PostgresServer) -> None:
    path = at_a_server(tmp_path, postgres, [["a", "f", None, 1]], [["a", None, "CRP", 5, 1]])
    assert "ward.toml: tables.labs:1: column 'sampled': empty" in refused(path)
