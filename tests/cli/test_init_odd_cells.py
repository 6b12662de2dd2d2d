"""`edgeward init` of numbers that are not written as numbers, of amounts as labels, and of what stands for no value."""

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest

from orchestrator.cli.main import main
from orchestrator.data.cells import bare_number, number_form
from orchestrator.gateway.config import load_config
from orchestrator.gateway.delimited import read_delimited


def file_of(folder: Path, cells: List[str], labels: List[str], separator: str = ",") -> Path:
    path = folder / "t.csv"
    quoted = [f'"{cell}"' if separator in cell else cell for cell in cells]
    lines = [f"{cell}{separator}{row % 7}{separator}{labels[row % len(labels)]}" for row, cell in enumerate(quoted)]
    path.write_text("\n".join([separator.join("aby"), *lines]) + "\n", encoding="utf-8")
    return path


def init(folder: Path, path: Path) -> int:
    return main(["init", str(path), "--label", "y", "--out", str(folder / "e.toml"), "--json", "--force"])


def said(folder: Path, cells: List[str], capsys: pytest.CaptureFixture[str]) -> Dict[str, Any]:
    path = file_of(folder, cells, ["0", "1"])
    assert init(folder, path) == 0
    return json.loads(capsys.readouterr().out)


PLAIN = [f"{number / 4:.2f}" for number in range(1, 301)]


def among(*odd: str) -> List[str]:
    """Three hundred numbers, with others in every tenth row from line 6 on."""
    return [odd[(row // 10) % len(odd)] if row % 10 == 4 else cell for row, cell in enumerate(PLAIN)]


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (("<5",), "30 as a bound, as in <5 (first in line 6): decide on one value"),
        ((">100", "\u2265 90 mg/l", "5+"), "30 as a bound"),
        (("1,234", "12,345"), "30 with a comma, as in 1,234"),
        (("12 %",), "30 with a unit or % (first in line 6): write the number without its unit"),
        (("7.5 mg/dl", "8 mmol/l"), "30 with a unit"),
        (("3,5",), "30 with a decimal comma"),
        (("1'234.5",), "30 with thousands set apart"),
        (("\u0663", "1_000"), "30 with other digits"),
        (
            ("see notes", "haemolysed"),
            "all but 30 of its values are numbers: correct the others, the first is in line 6",
        ),
        (("<5", "see notes"), "15 texts (first in line 16): correct them, or list them in missing_markers"),
    ],
)
def test_numbers_that_are_written_otherwise_are_counted_and_no_category(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: Any, expected: str
) -> None:
    found = said(tmp_path, among(*odd), capsys)
    assert [feature["name"] for feature in found["features"]] == ["b"]
    why = {each["name"]: each["why"] for each in found["left_out"]}["a"]
    assert expected in why
    assert expected in (tmp_path / "e.toml").read_text()
    assert not [
        cell for cell in odd if len(cell) > 3 and cell in why.replace("as in 1,234", "")
    ]  # other people read it


def test_also_where_most_values_are_written_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [f"<{row % 60}" if row % 3 else "n/d!" for row in range(300)]
    why = said(tmp_path, cells, capsys)["left_out"][0]["why"]
    assert "of its 300 values 0 are plain numbers; 200 as a bound" in why
    assert "100 texts" in why


MISSING = ["NA", "n/a", "-", ".", "", "?", "unknown", "#DIV/0!", "not done", "N.A."]


def test_what_stands_for_no_value_is_counted_by_column_and_asked_of_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(tmp_path, among(*MISSING), capsys)
    feature = found["features"][0]
    assert (feature["name"], feature["kind"], feature["missing"]) == ("a", "number", 30)
    assert found["complete_rows"] == 270
    assert set(MISSING) <= set(load_config(tmp_path / "e.toml").task.schema.missing_markers)
    assert not any("would refuse" in line for line in found["warnings"])
    path = tmp_path / "t.csv"
    assert main(["init", str(path), "--label", "y", "--out", str(tmp_path / "e.toml"), "--force"]) == 0
    assert "a: number, 0 to 100; 30 missing" in capsys.readouterr().out


def test_few_levels_stay_a_category_and_say_that_they_have_no_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feature = said(tmp_path, [("0", "1", "2", ">2")[row % 4] for row in range(100)], capsys)["features"][0]
    assert feature["categories"] == ["0", "1", "2", ">2"]
    assert "25 as a bound" in feature["note"]
    assert "no order" in feature["note"]
    words = said(tmp_path, [f"\u0141\u00f3d\u017a-{row % 12}" for row in range(100)], capsys)["features"][0]
    assert (words["kind"], len(words["categories"])) == ("category", 12)  # letters beyond ASCII are no numbers


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0.5", "1.5", "2.5"], "numbers with fractions (3 different ones, from 0.5 to 2.5), an amount, and"),
        (["1.5", "NA", "2"], "numbers with fractions (2 different ones"),
        (["<0.1", "0.2", "0.3", "4"], "'low' below 0.3 and 'high' from there on"),
        (["1.5 kg", "2 kg"], "numbers with fractions"),
        ([str(1000 + number) for number in range(60)], "numbers (60 different ones, from 1000 to 1059), an amount"),
        ([f"{number},500" for number in range(1, 60)], "numbers (59 different ones, from 1500 to 59500)"),
    ],
)
def test_an_amount_is_no_label_and_bands_are_proposed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: List[str], expected: str
) -> None:
    labels = [f'"{label}"' if "," in label else label for label in labels]
    assert init(tmp_path, file_of(tmp_path, [str(row % 50) for row in range(300)], labels)) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "add a column with its bands to the file" in error
    assert not (tmp_path / "e.toml").exists()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "1", "."], {"no": "0", "yes": "1"}),  # a sign for no value among numbers is no class
        (["0", "1", "unknown"], {"no": "0", "yes": "1"}),
        (["+", "-"], {"+": "+", "-": "-"}),
        (["<5", "5-10", ">10"], {"5-10": "5-10", "<5": "<5", ">10": ">10"}),
        (["<5", ">=5"], {"<5": "<5", ">=5": ">=5"}),
        (["low", "unknown"], {"low": "low", "unknown": "unknown"}),
        (["0.0", "1.0"], {"no": "0", "yes": "1"}),
    ],
)
def test_bands_words_and_codes_are_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: List[str], classes: Dict[str, str]
) -> None:
    assert init(tmp_path, file_of(tmp_path, [str(row % 50) for row in range(300)], labels)) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == classes


def test_many_whole_numbers_as_classes_are_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path, file_of(tmp_path, PLAIN, [str(number) for number in range(12)])) == 0
    assert any("12 whole numbers as classes" in line for line in json.loads(capsys.readouterr().out)["warnings"])


@pytest.mark.parametrize(
    ("cells", "comma"),
    [(["1,5", "2,25"], True), (["1,234", "2,345"], True), (["1,234", "2.5"], False), (["1,234", "3,5", "2.5"], True)],
)
def test_thousands_are_no_decimals_where_others_have_points(tmp_path: Path, cells: List[str], comma: bool) -> None:
    path = file_of(tmp_path, [cells[row % len(cells)] for row in range(40)], ["no", "yes"], ";")
    assert read_delimited(path).decimal_comma is comma


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *[
            ("<5", 5),
            (">= 1,5", 1.5),
            ("12 %", 12),
            ("1,234", 1234),
            ("1.234,5", 1234.5),
            ("1 234.5", 1234.5),
            ("5+", 5),
        ],
        *[("37.5\u00b0C", 37.5), ("\u22125", -5), ("yes", None), ("2024-01-05", None), ("A12", None), ("12", None)],
        *[("70 kg/m2", 70), ("5 x10^9/l", 5)],
    ],
)
def test_what_number_a_cell_is_about(cell: str, number: Any) -> None:
    assert bare_number(cell) == number
    assert bool(number_form(cell)) is (number is not None)


def test_of_a_long_file_rows_from_everywhere_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are sorted, by their labels too; and delta goes by all rows."""
    from orchestrator.cli import init as command
    from orchestrator.gateway import delimited

    monkeypatch.setattr(delimited, "MOST_ROWS", 400)
    monkeypatch.setattr(command, "LARGE", 1000)
    lines = [f"{row * 31 % 97},{row % 7},{int(row >= 3000)}" for row in range(4000)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    read = delimited.read_delimited(tmp_path / "t.csv")
    places = [line for line, _ in read.rows]
    assert (len(places), read.total, sorted(places)) == (400, 4000, places)
    assert 60 < sum(place > 3000 for place in places) < 140  # of 100 expected; the draw is always the same
    assert init(tmp_path, tmp_path / "t.csv") == 0
    answer = capsys.readouterr()
    found = json.loads(answer.out)
    assert (found["rows"], found["classes"]) == (4000, {"no": "0", "yes": "1"})
    assert "400 rows drawn at random were looked at" in "; ".join(found["assumed"])
    assert "reading it again as a node does" in answer.err
    assert load_config(tmp_path / "e.toml").task.privacy.delta < 1 / 4000


def test_patients_of_a_long_file_are_counted_in_all_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 rows of a patient one in ten is looked at: neither their number nor that of patients is ten times what is seen."""
    from orchestrator.gateway import delimited
    from orchestrator.gateway.survey import survey

    monkeypatch.setattr(delimited, "MOST_ROWS", 400)
    lines = [f"P{row % 100},{row * 31 % 97},{row % 7 % 2}\n\n" for row in range(4000)]
    (tmp_path / "t.csv").write_text("patient_id,a,y\n" + "".join(lines))
    assert init(tmp_path, tmp_path / "t.csv") == 0
    assert json.loads(capsys.readouterr().out)["patient"] == "patient_id"
    seen = survey(delimited.read_delimited(tmp_path / "t.csv"), "y")
    assert (seen.patients, seen.rows_a_patient) == (100, 64)


@pytest.mark.parametrize("end", ["", "1,2,0\n" * 20_000])
def test_a_quotation_mark_that_is_never_closed_is_named_by_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n" + "1,2,0\n2,1,1\n" * 150 + '1,"2,0\n' + end)
    assert init(tmp_path, tmp_path / "t.csv") == 2
    assert "is a quotation mark of line 302 never closed?" in capsys.readouterr().err


def test_a_number_that_tells_the_outcome_is_pointed_out(tmp_path: Path) -> None:
    """As a birth weight does of a preterm birth; one that is merely related does not."""
    from orchestrator.gateway.survey import survey

    rows = [(day, day * 7 % 61, day * 37 % 300 + (150 if day % 300 < 60 else 0)) for day in range(600)]
    lines = [f"{day % 300},{other},{related},{'early' if day % 300 < 60 else 'term'}" for day, other, related in rows]
    (tmp_path / "t.csv").write_text("\n".join(["ga,other,related,y", *lines]) + "\n")
    warnings = survey(read_delimited(tmp_path / "t.csv"), "y").warnings
    assert len(warnings) == 1
    assert "column 'ga' alone tells 'early' in nearly every row: does it hold the answer" in warnings[0]


@pytest.mark.parametrize(("rows", "every"), [(720, 0), (1200, 20), (1700, 10), (4000, 5)])
def test_the_nodes_evaluate_as_often_as_noise_leaves_something_to_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int, every: int
) -> None:
    """All figures of a first run were too noisy to show, and had cost as much as ones that show something."""
    assert init(tmp_path, file_of(tmp_path, [f"{row * 31 % 97}" for row in range(rows)], ["no", "yes"])) == 0
    found, task = json.loads(capsys.readouterr().out), load_config(tmp_path / "e.toml").task
    assert (task.evaluation.on, task.evaluation.every if every else 0) == (every > 0, every)
    assert any("no evaluation by the nodes" in line for line in found["warnings"]) is (every == 0)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("{0}/80", "100 of its 100 values are no plain numbers: two numbers; give each a column of its own"),
        ("{0}-200", "100 of its 100 values are no plain numbers: a range; decide on one value"),
        ("'{0}", "100 in quotation marks (first in line 2): take out what stands round the number"),
    ],
)
def test_columns_that_hold_no_plain_numbers_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: str, why: str
) -> None:
    lines = [f"{20 + i % 60},{cell.format(100 + i % 50)},{i % 2}" for i in range(100)]
    (tmp_path / "t.csv").write_text("age,bp,y\n" + "\n".join(lines) + "\n\x1a")
    assert main(["init", str(tmp_path / "t.csv"), "--label", "y", "--json", "--out", str(tmp_path / "e.toml")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == 100
    assert why in {entry["name"]: entry["why"] for entry in said["left_out"]}["bp"]
