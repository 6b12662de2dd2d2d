"""`edgeward data`: invented records fit every schema there is an example of, and what does not fit is said."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import List

import pytest

from orchestrator.cli.main import main
from orchestrator.data.dataset import load_for
from orchestrator.gateway.config import load_config

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([ROOT / "docs" / "edgeward.toml", *(ROOT / "examples").glob("*/edgeward.toml")])
ANALYSIS = """
[task]
name = "study"
[task.analysis]
kind = "statistics"
[task.schema]
kind = "table"
patient = "who"
features = [{ name = "age", minimum = 18, maximum = 95 }, { name = "crp", minimum = 0.1, maximum = 500, transform = "log" },
  { name = "sex", categories = ["f", "m"] }]
[task.privacy]
unit = "patient"
"""


@pytest.mark.parametrize("config", FILES, ids=lambda path: path.parent.name)
def test_invented_records_fit_the_schema(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = load_config(config).task
    out = tmp_path / ("mock.csv" if task.schema.kind == "table" else "mock.npz")
    assert main(["data", "mock", str(config), "--rows", "90", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(out), "records": 90}
    assert load_for(out, task).records == 90
    assert main(["data", "validate", str(out), str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["dropped"], found["clamped"]) == (90, 0, [])
    again = tmp_path / f"again{out.suffix}"
    assert main(["data", "mock", str(config), "--rows", "90", "--out", str(again)]) == 0
    assert "90 invented records" in capsys.readouterr().out
    if out.suffix == ".csv":
        assert again.read_bytes() == out.read_bytes()


def test_of_an_analysis_cells_may_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "edgeward.toml", tmp_path / "mock.csv"
    config.write_text(ANALYSIS)
    assert main(["data", "mock", str(config), "--rows", "300", "--missing", "0.2", "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "age,crp,sex,who"
    assert 60 < sum(line.startswith(",") for line in lines) < 0.4 * 300
    capsys.readouterr()
    assert main(["data", "validate", str(out), str(config)]) == 0
    assert "300 records of 100 patients fit the schema" in capsys.readouterr().out
    out.write_text("age,crp,sex,who\n200,1,f,p\n30,x,f,p\n30,1,d,p\n")
    assert main(["data", "validate", str(out), str(config)]) == 2
    said = capsys.readouterr().err
    assert "2 problems" in said
    assert ":3: column 'crp'" in said
    assert ":4: column 'sex'" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--out", "m.npz"], "are written as .csv"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: List[str], said: str) -> None:
    (tmp_path / "edgeward.toml").write_text(ANALYSIS)
    words = ["data", "mock", str(tmp_path / "edgeward.toml"), "--out", str(tmp_path / "m.csv")]
    assert main([*words, *more]) == 2
    assert said in capsys.readouterr().err


EXPORT = """Patient;Alter;Sex;glucose;dead
p1;63;1;100;1
p2;41,5;2;200;0
p3;80;1;n/a;0
"""
STUDY = """
[task]
name = "study"
[task.schema]
kind = "table"
label = "dead"
classes = ["no", "yes"]
label_values = { "0" = 0, "1" = 1 }
patient = "patient"
drop_missing = true
features = [{ name = "age", minimum = 0, maximum = 120 }, { name = "sex", categories = ["f", "m"] },
  { name = "glucose", minimum = 0, maximum = 50 }]
[task.model]
kind = "mlp"
[task.privacy]
unit = "patient"
delta = 1e-4
"""


def test_from_an_export_to_records_in_two_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export, config, ward = tmp_path / "export.csv", tmp_path / "edgeward.toml", tmp_path / "ward.toml"
    export.write_text(EXPORT)
    config.write_text(STUDY)
    assert main(["data", "map", str(export), str(config), "--out", str(ward)]) == 0
    said = capsys.readouterr().out
    assert "what '1', '2' mean" in said
    assert "'glucose': 2 of 2 values are beyond 0 to 50: another unit?" in said
    assert "column 'age': no column of the table is called like it" in said
    draft = ward.read_text()
    assert 'delimiter = ";"' in draft
    assert 'column = "Patient"  # CONFIRM' in draft
    assert 'missing = ["n/a"]' in draft
    assert main(["data", "validate", str(ward), str(config)]) == 2
    capsys.readouterr()
    ward.write_text(
        draft.replace('#? column = "..."', 'column = "Alter"\ndecimal_comma = true')
        .replace('#? recode = { 1 = "...", 2 = "..." }', 'recode = { 1 = "m", 2 = "f" }')
        .replace('#? unit = "..."', 'unit = "mg/dL"\nto = "mmol/L"\nsubstance = "glucose"')
    )
    assert main(["data", "validate", str(ward), str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["dropped"], found["units"], found["problems"]) == (2, 1, 2, 0)
    assert main(["data", "describe", str(ward), "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)["schema"]["fields"]
    assert {"age", "sex", "glucose"} <= {field["name"] for field in fields}
    assert main(["data", "map", str(export), str(config), "--out", str(ward)]) == 2
    assert "is not overwritten" in capsys.readouterr().err


def test_the_draft_of_a_table_with_tabs_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export, config, ward = tmp_path / "export.tsv", tmp_path / "edgeward.toml", tmp_path / "ward.toml"
    export.write_text("patient\tage\tsex\tglucose\tdead\np1\t63\tf\t5.5\t1\np2\t41\tm\t7\t0\n")
    config.write_text(STUDY)
    assert main(["data", "map", str(export), str(config), "--out", str(ward)]) == 0
    assert 'delimiter = "tab"' in ward.read_text()
    assert main(["data", "validate", str(ward), str(config)]) == 0
    assert "2 records of 2 patients fit the schema" in capsys.readouterr().out


def test_what_is_wrong_in_a_joined_table_has_its_file_and_who_is_a_stranger_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, ward, labs = tmp_path / "edgeward.toml", tmp_path / "ward.toml", tmp_path / "labs.csv"
    config.write_text(STUDY)
    (tmp_path / "patients.csv").write_text("patient,age,sex,dead\np1,63,f,1\np2,41,m,0\n")
    ward.write_text(
        '[source]\nfile = "patients.csv"\n[rows]\npatient = "patient"\n[tables.labs]\nfile = "labs.csv"\nkey = "who"\n'
        '[columns.glucose]\ntable = "labs"\ntake = "mean"\n'
    )
    labs.write_text("who,glucose\np1,5\np2,6\np2,7\np3,8\n")
    words = [sys.executable, "-m", "orchestrator.cli.main", "data", "validate", str(ward), str(config)]
    said = subprocess.run(words, capture_output=True, text=True)
    assert "2 records of 2 patients fit the schema" in said.stdout
    assert "labs.csv: left out: 1 row of 1 key that the patients' table does not have (column 'who')" in said.stderr
    assert main(["doctor", "--data", str(ward)]) == 0
    labs.write_text("who,glucose\np1,5\np2,high\np2,7\n")
    assert main(["data", "validate", str(ward), str(config), "--json"]) == 2
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["listed"] == [{"place": f"{labs}:3", "problem": found["listed"][0]["problem"]}]
    assert "column 'glucose': 'high' is not a number" in found["listed"][0]["problem"]
    labs.unlink()
    assert main(["doctor", "--data", str(ward)]) != 0
    assert "tables.labs: file: " in capsys.readouterr().out


def test_each_of_400_bad_cells_among_200_000_rows_is_listed(tmp_path: Path) -> None:
    config, path = tmp_path / "edgeward.toml", tmp_path / "long.csv"
    config.write_text(ANALYSIS)
    bad = {row for row in range(499, 200_000, 500)}
    with path.open("w") as file:
        file.write("age,crp,sex,who\n")
        for row in range(200_000):
            file.write(f"{18 + row % 70},{'low' if row in bad else 1 + row % 9},f,p{row // 4}\n")
    program = (
        "import re, sys; from pathlib import Path; from orchestrator.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())\n"
        "print(int(peak.group(1)) // 1024, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "data",
        "validate",
        str(path),
        str(config),
        "--problems",
        "1000",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert found["problems"] == len(bad) == 400
    assert [each["place"] for each in found["listed"]] == [str(row + 2) for row in sorted(bad)]
    assert all(each["problem"].startswith("column 'crp': 'low' is not a number") for each in found["listed"])
    assert int(done.stderr.split()[-1]) < 150


def test_a_level_is_not_counted_as_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """FHIR's gender has a level called unknown."""
    rows = [f"{('male', 'unknown', '')[n % 3]},{n % 40}" for n in range(60)]
    (tmp_path / "t.csv").write_text("sex,age\n" + "\n".join(rows) + "\n")
    assert main(["data", "describe", str(tmp_path / "t.csv")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sex")]
    assert line.split() == ["sex", "category", "male,", "unknown", "20"]


def test_a_codebook_is_proposed_written_read_and_made_a_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{20 + n % 50},{'fm'[n % 2]},{n % 3},2026-01-{1 + n % 28:02},{'na' if n % 7 else 3.5},text {n}"
        for n in range(60)
    ]
    export = tmp_path / "export.csv"
    export.write_text("age,sex,grade,seen,crp,notes\n" + "\n".join(rows) + "\n")
    assert main(["data", "describe", str(export), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    fields = {field["name"]: field for field in about["schema"]["fields"]}
    assert fields["age"] == {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}}
    assert fields["sex"]["constraints"] == {"enum": ["f", "m"]}
    assert fields["seen"] == {"name": "seen", "type": "date"}
    assert about["schema"]["missingValues"] == ["", "na"]
    schemas = []
    for name in ("codebook.csv", "codebook.json"):
        assert main(["data", "describe", str(export), "--out", str(tmp_path / name)]) == 0
        assert main(["data", "describe", str(export), "--out", str(tmp_path / name)]) == 2
        assert "it exists, and is not overwritten" in capsys.readouterr().err, "its owner may have corrected it"
        capsys.readouterr()
        assert main(["data", "schema", str(tmp_path / name), "--json"]) == 0
        schemas.append(json.loads(capsys.readouterr().out))
        assert main(["data", "schema", str(tmp_path / name)]) == 0
        config = tmp_path / "edgeward.toml"
        text = capsys.readouterr().out
        config.write_text(
            f'[task]\nname = "t"\n[task.analysis]\nkind = "statistics"\n{text}[task.privacy]\nunit = "none"\n'
        )
        assert [feature.name for feature in load_config(config).task.schema.features] == ["age", "sex", "grade"]
        assert load_for(export, load_config(config).task).records == 60
    assert schemas[0] == schemas[1]


CODEBOOK = """name,type,unit,minimum,maximum,levels,labels,missing,role
age,integer,a,18,95,,,-9,feature
stage,category,,,,1|2|3,I|II|III,,feature
dead,category,,,,0|1,no|yes,,label
pid,text,,,,,,,patient
"""


def test_a_codebook_of_people_becomes_a_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "codebook.csv"
    path.write_text(CODEBOOK)
    assert main(["data", "schema", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["label"], found["classes"], found["label_values"], found["patient"]) == (
        "dead",
        ["no", "yes"],
        {"0": 0, "1": 1},
        "pid",
    )
    assert found["missing_markers"] == ["", "-9"]
    assert found["features"][1]["categories"] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("age,integer", "age,integr"), "line 2: type 'integr': expected of number"),
        (("18,95", "eighteen,95"), "line 2: minimum: expected a finite number"),
        (("18,95", "95,18"), "minimum 95.0 is not below maximum 18.0"),
        (("18,95", ",95"), "feature 'age': minimum and maximum are needed"),
        (("1|2|3,I|II|III", "1|2|3,I|II"), "line 3: labels of 'stage': 2 for 3 levels"),
        (("1|2|3,I|II|III", "1|1,"), "line 3: levels of 'stage'"),
        (("pid,text", "age,text"), "line 2: column 'age' is named twice"),
        (("unit,minimum", "units,minimum"), "'units': unknown, did you mean 'unit'?"),
        (("patient\n", "label\n"), "role label: columns 'dead' and 'pid'"),
        (("-9,feature", "-9,featur"), "role 'featur': expected of feature"),
        (("pid,text,,,,,,,", "pid,text,,,,,,"), "as many values are expected"),
    ],
)
def test_mistakes_of_a_codebook_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: "tuple[str, str]", said: str
) -> None:
    assert change[0] in CODEBOOK
    path = tmp_path / "codebook.csv"
    path.write_text(CODEBOOK.replace(*change))
    assert main(["data", "schema", str(path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"fields": 3}', '{"fields": [3]}', '{"fields": []}', "[" * 9000, "\x00"]
)
def test_other_json_is_no_table_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = tmp_path / "schema.json"
    path.write_text(text)
    assert main(["data", "schema", str(path)]) == 2
    assert "schema.json" in capsys.readouterr().err


def test_a_codebook_has_an_ending_that_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = tmp_path / "export.csv"
    export.write_text("age\n1\n2\n3\n")
    assert main(["data", "describe", str(export), "--out", str(tmp_path / "codebook.txt")]) == 2
    assert "a codebook ends with .csv, or with .json as a Table Schema" in capsys.readouterr().err
    assert not (tmp_path / "codebook.txt").exists()


def test_a_database_has_names_of_columns_in_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, database = tmp_path / "edgeward.toml", tmp_path / "ward.sqlite"
    config.write_text(ANALYSIS)
    with closing(sqlite3.connect(str(database))) as ward, ward:
        ward.execute("CREATE TABLE visits (who, age, crp)")
        ward.execute("INSERT INTO visits VALUES ('p', 30, 1)")
    assert main(["data", "validate", f"{database}#visits", str(config)]) == 2
    assert f"{database}: no column 'sex'; the task needs it" in capsys.readouterr().err
    assert main(["data", "describe", f"{database}#visits"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(": 1 row")
