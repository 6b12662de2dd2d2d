"""What goes wrong where hospitals compute together, as reports of other systems tell it: each with the answer it gets here."""

import datetime
import json
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from descriptions import describe
from fhir_samples import export, observation, patient, quantity

from orchestrator.cli.main import main
from orchestrator.data.dataset import load_dataset
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("I", "II", "III", "IV")
SCHEMA = Schema(
    "table",
    "dead",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (Feature("sex", categories=("f", "m")), Feature("stage", categories=STAGES)),
    patient="case",
)


def table(path: Path, lines: str) -> Path:
    path.write_text(textwrap.dedent(lines).lstrip())
    return path


def refused(path: Path, schema: Schema = SCHEMA) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(path, schema)
    return str(caught.value)


def test_a_hospital_without_a_level_and_one_that_codes_sex_the_other_way(tmp_path: Path) -> None:
    """exareme PR 297: a level that one hospital lacks recoded the others in silence."""
    a = table(tmp_path / "a.csv", "case,sex,stage,dead\np1,f,I,0\np2,m,IV,1\n")
    b = table(tmp_path / "b.csv", "case,sex,stage,dead\nq1,1,I,0\nq2,2,IV,1\n")  # 1 is f there
    c = table(tmp_path / "c.csv", "case,sex,stage,dead\nr1,2,I,0\nr2,1,II,1\n")  # 1 is m there, and nobody has IV
    plain = load_dataset(a, SCHEMA)
    assert plain.x.tolist() == [[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1]]
    assert "b.csv:2: column 'sex': '1' is not one of f, m" in refused(b)
    own = {}
    for path, codes in ((b, {"1": "f", "2": "m"}), (c, {"1": "m", "2": "f"})):
        own[path.name] = load_dataset(
            describe(tmp_path, {"file": path.name}, columns={"sex": {"recode": codes}}), SCHEMA
        )
    assert own["b.csv"].x.tolist() == plain.x.tolist()
    assert own["c.csv"].x.tolist() == [[1, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0]], "the columns are the declared ones"
    table(c, "case,sex,stage,dead\nr1,2,I,0\nr2,3,II,1\nr3,1,V,1\n")
    said = refused(tmp_path / "ward.toml")
    assert "c.csv:3: column 'sex': '3' is not in `recode` (1, 2)" in said
    table(c, "case,sex,stage,dead\nr1,2,I,0\nr2,1,V,1\n")
    assert "c.csv:3: column 'stage': 'V' is not one of I, II, III, IV" in refused(tmp_path / "ward.toml")


def test_thirty_rows_of_four_patients_are_four(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """FLIP PR 1197: a minimum of ten was met by the visits of a few."""
    rows = [f"p{number % 4},{'fm'[number % 2]},I,{number % 2}" for number in range(30)]
    path = table(tmp_path / "v.csv", "\n".join(["case,sex,stage,dead", *rows]) + "\n")
    found = load_dataset(path, SCHEMA)
    assert (found.records, len(found.units("patient"))) == (30, 4)
    rules = table(tmp_path / "rules.toml", 'k = 10\npatient = "case"\nquasi = { sex = { levels = ["f", "m"] } }\n')
    assert main(["anonymize", str(path), str(rules), "--out", str(tmp_path / "out.csv")]) == 2
    assert "fewer than k = 10 persons" in capsys.readouterr().err
    rules.write_text(rules.read_text().replace("k = 10", "k = 2"))
    assert main(["anonymize", str(path), str(rules), "--out", str(tmp_path / "out.csv")]) == 0
    words = ["--columns", "case", "--study", "s", "--key", str(tmp_path / "k"), "--out", str(tmp_path / "q.json")]
    assert main(["link", "ask", str(path), *words]) == 2
    assert "4 " in capsys.readouterr().err
    assert not (tmp_path / "q.json").exists()
    for nobody in ("", "NULL", "?"):
        table(tmp_path / "v.csv", "\n".join(["case,sex,stage,dead", *rows, f"{nobody},f,I,0"]) + "\n")
        assert "v.csv:32: column 'case': " in refused(path)


MIXED = Schema(
    "table",
    "dead",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (Feature("grade", categories=("1", "2")), Feature("crp", 0, 100), Feature("stay", 0, 1000)),
    missing_markers=("", "NA"),
)
EXPORT = [
    ("1", "1.5", "2026-01-31", "0"),
    ("1.0", "2", "2026-02-01", "1"),
    ("NA", "0.1", "2026-02-28", "1"),
    ("", "NA", "", "0"),
    ("2", "", "2026-03-01", "1"),
]
STAY = {"stay": {"formula": "days(seen, '2026-01-01')"}}


def mixed(folder: Path) -> Dict[str, Path]:
    """The same cells as three programs write them."""
    lines = ["grade,crp,seen,dead", *map(",".join, EXPORT)]
    (folder / "bom.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    german = [
        f"{grade};{crp};{'.'.join(reversed(seen.split('-')))};{dead}".replace("1.5", "1,5")
        for grade, crp, seen, dead in EXPORT
    ]
    german = [line.replace("0.1;", "0,1;") for line in german]
    (folder / "german.csv").write_text("\n".join(["grade;crp;seen;dead", *german]))
    forms: Dict[str, Any] = {
        "bom": ({"file": "bom.csv"}, {}),
        "german": (
            {"file": "german.csv", "delimiter": ";"},
            {"crp": {"decimal_comma": True, "missing": ["NA"]}, "seen": {"date": "%d.%m.%Y"}},
        ),
    }
    made = {}
    for name, (source, columns) in forms.items():
        made[name] = describe(folder, source, columns={**columns, **STAY}).rename(folder / f"{name}.toml")
    return made


def test_mixed_types_are_the_same_numbers_on_every_node(tmp_path: Path) -> None:
    """vantage6 issue 1501, Genie PR 644: "1", "1.0", "NA", nothing, a byte order mark, decimal commas, dates of Excel."""
    paths = mixed(tmp_path)
    found = {name: load_dataset(path, MIXED, gaps=True) for name, path in paths.items()}
    expected = [[1, 0, 1.5, 30], [1, 0, 2, 31], [0, 0, 0.1, 58], [0, 0, np.nan, np.nan], [0, 1, np.nan, 59]]
    np.testing.assert_array_equal(found["bom"].x, expected)
    assert {data.digest() for data in found.values()} == {found["bom"].digest()}


def test_dates_of_excel_are_dates_and_no_numbers(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="Excel needs openpyxl")
    plain = load_dataset(mixed(tmp_path)["bom"], MIXED, gaps=True)
    book = openpyxl.Workbook()
    book.active.append(["grade", "crp", "seen", "dead"])
    for number, (grade, crp, seen, dead) in enumerate(EXPORT):
        day = datetime.datetime.fromisoformat(seen) if seen else None
        cells: List[Any] = [
            float(grade) if grade == "1.0" else grade or None,
            crp if crp == "NA" else float(crp or 0) or None,
        ]
        book.active.append([*cells, day if number else day and day.date(), int(dead)])
    book.save(tmp_path / "t.xlsx")
    path = describe(tmp_path, {"file": "t.xlsx"}, columns=STAY)
    assert load_dataset(path, MIXED, gaps=True).digest() == plain.digest()
    as_number = replace(MIXED, features=(Feature("seen", 0, 99999),))
    assert (
        "t.xlsx:2: column 'seen': '2026-01-31T00:00:00' is not a number; a date; make it a number, such as days"
        in refused(tmp_path / "t.xlsx", as_number)
    )


def test_the_first_hundred_problems_are_listed_and_the_rest_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{number % 2 + 1},{'high' if number % 2 else number},{number % 2}\n" for number in range(300))
    path = table(tmp_path / "t.csv", "grade,crp,dead\n" + rows)
    task = (
        '[task]\nname = "s"\n[task.schema]\nkind = "table"\nfeatures = [{ name = "crp", minimum = 0, maximum = 999 }]\n'
        '[task.analysis]\nkind = "statistics"\n[task.privacy]\nunit = "none"\n'
    )
    config = table(tmp_path / "edgeward.toml", task)
    assert main(["data", "validate", str(path), str(config), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["problems"], len(found["listed"])) == (150, 100)
    assert [each["place"] for each in found["listed"]] == [str(2 * n + 3) for n in range(100)]
    assert all(each["problem"].startswith("column 'crp': 'high' is not a number") for each in found["listed"])


OFFLINE = """
import os, sys
def alone(event, arguments):
    if event.startswith(("socket.", "urllib.", "subprocess.", "os.exec", "os.posix_spawn", "os.system", "http.")):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(7)
sys.addaudithook(alone)
from pathlib import Path
from orchestrator.data.dataset import load_dataset
from orchestrator.wire.schema import Feature, Schema
schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", 0, 9),))
digests = {load_dataset(Path(path), schema).digest() for path in sys.argv[1:]}
print(len(sys.argv) - 1, len(digests))
"""


def test_a_fresh_machine_without_a_network_reads_all_files(tmp_path: Path) -> None:
    """ctx issue 100, duckdb-sqlite issue 130: a reader that fetches an extension when it is first used."""
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    openpyxl = pytest.importorskip("openpyxl", reason="Excel needs openpyxl")
    rows = [(number % 7 / 2, number % 2) for number in range(20)]
    table(tmp_path / "t.csv", "x,y\n" + "".join(f"{x},{y}\n" for x, y in rows))
    table(tmp_path / "t.jsonl", "".join(json.dumps({"x": x, "y": y}) + "\n" for x, y in rows))
    parquet.write_table(pyarrow.table({"x": [x for x, _ in rows], "y": [y for _, y in rows]}), tmp_path / "t.parquet")
    book = openpyxl.Workbook()
    for row in [("x", "y"), *rows]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    database = sqlite3.connect(tmp_path / "t.sqlite")
    database.execute("CREATE TABLE t (x REAL, y INTEGER)")
    database.executemany("INSERT INTO t VALUES (?, ?)", rows)
    database.commit()
    database.close()
    people = [patient(f"p{number}", deceasedBoolean=y == 1) for number, (_, y) in enumerate(rows)]
    values = [observation(f"o{number}", f"p{number}", valueQuantity=quantity(x)) for number, (x, _) in enumerate(rows)]
    export(tmp_path / "bulk", Patient=people, Observation=values)
    columns = [
        {"name": "x", "from": "Observation", "code": "4548-4", "take": "value", "unit": "%"},
        {"name": "y", "from": "Patient", "path": "deceased"},
    ]
    fhir = describe(tmp_path, {"kind": "fhir", "folder": "bulk", "columns": columns})
    paths = [*(tmp_path / f"t.{ending}" for ending in ("csv", "jsonl", "parquet", "xlsx", "sqlite")), fhir]
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *map(str, paths)],
        env={"PYTHONPATH": str(ROOT), "HOME": str(home), "PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "6 1\n", done.stderr
    assert list(home.iterdir()) == [], "nothing is kept there either"
