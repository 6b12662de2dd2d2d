"""`edgeward init` of tables that are no text: it makes of them what it makes of the same rows as CSV."""

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from orchestrator.cli.main import main
from orchestrator.data.dataset import load_dataset
from orchestrator.gateway import delimited
from orchestrator.gateway.any_table import read_any
from orchestrator.gateway.config import load_config

NAMES = ("patient", "age", "crp", "ward", "dead")
ROWS: List[Tuple[Any, ...]] = [
    (f"p{i // 3}", 20 + i * 7 % 60, None if i % 11 == 0 else i % 13 + 0.25, "Köln" if i % 3 else "ICU", i * i % 5 % 2)
    for i in range(90)
]


def text(path: Path, separator: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows([NAMES, *ROWS])
    return path


def json_lines(folder: Path) -> Path:
    path = folder / "wards.jsonl"
    path.write_text("".join(json.dumps(dict(zip(NAMES, row))) + "\n" for row in ROWS), encoding="utf-8")
    return path


def database(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "cdm.sqlite")) as opened:
        opened.execute(f"CREATE TABLE wards ({', '.join(NAMES)})")
        opened.execute("CREATE VIEW nobody AS SELECT * FROM wards WHERE age > 200")
        opened.executemany("INSERT INTO wards VALUES (?, ?, ?, ?, ?)", ROWS)
        opened.commit()
    return folder / "cdm.sqlite#wards"


def workbook(folder: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [NAMES, *ROWS]:
        book.active.append(row)
    book.save(folder / "wards.xlsx")
    return folder / "wards.xlsx"


def parquet(folder: Path) -> Path:
    pyarrow, written = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(dict(zip(NAMES, map(list, zip(*ROWS)))))
    written.write_table(table, folder / "wards.parquet")
    return folder / "wards.parquet"


def init(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Dict[str, Any]:
    out = path.parent / path.stem / "edgeward.toml"
    out.parent.mkdir()
    assert main(["init", str(path), "--label", "dead", "--out", str(out), "--yes", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("made", [json_lines, database, workbook, parquet])
def test_every_format_a_node_reads_gives_the_same_drafts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: Callable[[Path], Path]
) -> None:
    (tmp_path / "text").mkdir()
    expected = init(text(tmp_path / "text/wards.csv"), capsys)
    found = init(made(tmp_path), capsys)
    assert found["patient"] == "patient"
    for key in ("name", "rows", "complete_rows", "classes", "patient", "features", "left_out", "missing_markers"):
        assert found[key] == expected[key]
    assert [line for line in found["warnings"] if "refuse" in line] == []
    read = []
    for each in (expected, found):
        schema = load_config(Path(each["config"])).task.schema
        read.append((schema, load_dataset(Path(each["description"]), schema).digest()))
    assert read[0] == read[1]


def test_what_cannot_be_read_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wards = database(tmp_path)
    for name, reason in (
        ("cdm.sqlite#wrads", "no table or view 'wrads', did you mean 'wards'?"),
        ("cdm.sqlite#nobody", "no rows under the names of the columns"),
        ("cdm.sqlite", "name the table or view as cdm.sqlite#NAME; it has nobody, wards"),
        ("other.sqlite#wards", "no such file"),
        ("site.toml", "a description; name the table itself"),
    ):
        (tmp_path / "site.toml").write_text(f'[source]\nfile = "{wards}"\n')
        assert main(["init", str(tmp_path / name), "--label", "dead", "--out", str(tmp_path / "e.toml")]) in (1, 2)
        assert reason in capsys.readouterr().err


@pytest.mark.parametrize("made", [lambda folder: text(folder / "wards.csv", ";"), json_lines])
def test_patients_are_counted_in_all_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, made: Callable[[Path], Path]
) -> None:
    monkeypatch.setattr(delimited, "MOST_ROWS", 60)
    found = init(made(tmp_path), capsys)
    assert found["assumed"][-1].startswith("60 rows drawn at random were looked at")
    assert found["rows"] == 90
    assert f"--patients {len({row[0] for row in ROWS})}" in found["next"][0]


def test_decimal_commas_of_texts(tmp_path: Path) -> None:
    """As a database has them that was filled from a text; not where some numbers of the column have points."""
    for name, cells, comma in (
        ("commas", ["1,5", "2"], True),
        ("thousands", ["1,500", "2.5"], False),
        ("both", ["1,5", 2.5], False),
    ):
        rows = [json.dumps({"a": cells[i % 2], "b": i}) for i in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
        assert read_any(tmp_path / f"{name}.jsonl").decimal_comma is comma
    described = tmp_path / "ward.toml"
    described.write_text('[source]\nfile = "commas.jsonl"\n')
    assert not read_any(described).decimal_comma, "what a description leaves is what a node computes with"
