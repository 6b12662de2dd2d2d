"""`edgeward analyze`: what is tried on files is what a run comes to, and is said to be tried."""

import csv
import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from orchestrator.cli.main import main

STUDY = """
[task]
name = "study"
[task.analysis]
kind = "statistics"
bins = 5
[task.schema]
kind = "table"
features = [{ name = "age", minimum = 0, maximum = 100 }, { name = "s|ex", categories = ["f", "m"] }]
[task.privacy]
"""


@pytest.fixture
def study(tmp_path: Path) -> List[str]:
    """edgeward.toml and three files."""
    (tmp_path / "edgeward.toml").write_text(STUDY + 'unit = "none"\n')
    draw = np.random.default_rng(3)
    names = []
    for site in range(3):
        path = tmp_path / f"{site}.csv"
        rows = [f"{draw.integers(20, 90)},{draw.choice(['f', 'm'])}" for _ in range(50 + site)]
        path.write_text("\n".join(["age,s|ex", *rows]) + "\n")
        names.append(str(path))
    return [str(tmp_path / "edgeward.toml"), *names]


def tried(study: List[str], capsys: pytest.CaptureFixture[str], *more: str) -> Dict[str, Any]:
    assert main(["analyze", study[0], "--data", *study[1:], "--json", *more]) == 0
    found: Dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_tried_without_noise_it_is_that_of_all_rows(study: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = tried(study, capsys)
    ages = [float(line.split(",")[0]) for name in study[1:] for line in Path(name).read_text().splitlines()[1:]]
    table = next(each for each in found["analysis"]["tables"] if each["name"] == "columns")
    row = dict(zip(table["columns"], table["rows"][0]))
    assert row["mean"] == pytest.approx(np.mean(ages), abs=1e-9)
    assert found["tried"] is True
    assert [each["records"] for each in found["nodes"]] == [50, 51, 52]
    assert (found["simulated_noise"], found["epsilon"]) == (0.0, None)
    assert main(["analyze", study[0], "--data", *study[1:]]) == 0
    assert "Nothing was protected, charged or sent." in capsys.readouterr().out


def test_noise_is_simulated_as_strong_as_a_runs(study: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(study[0]).write_text(STUDY + 'unit = "record"\nepsilon = 1.0\ndelta = 1e-4\nnoise = "node"\n')
    found = tried(study, capsys)
    assert found["epsilon"] == pytest.approx(1.0, abs=0.02)
    assert found["simulated_noise"] > 1
    assert found["analysis"] == tried(study, capsys)["analysis"]
    assert found["analysis"] != tried(study, capsys, "--seed", "1")["analysis"]
    assert main(["analyze", study[0], "--data", *study[1:]]) == 0
    assert "simulated; a run spends epsilon 0.99" in capsys.readouterr().out


def test_what_earlier_rounds_left_is_kept(study: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The round for robust errors leaves only those."""
    model = 'kind = "regression"\noutcome = "age"\nerrors = "hc1"'
    Path(study[0]).write_text(STUDY.replace('kind = "statistics"\nbins = 5', model) + 'unit = "none"\n')
    found = tried(study, capsys)
    assert found["rounds"] == 2
    ages = {level: [] for level in "fm"}  # type: Dict[str, List[float]]
    for line in (line for name in study[1:] for line in Path(name).read_text().splitlines()[1:]):
        ages[line[-1]].append(float(line.split(",")[0]))
    (sex,) = [row for row in found["analysis"]["tables"][0]["rows"] if row[0] == "s|ex = m"]
    assert sex[1] == pytest.approx(np.mean(ages["m"]) - np.mean(ages["f"]))
    variance = sum(
        float(np.square(each - np.mean(each)).sum()) / len(each) ** 2 for each in map(np.array, ages.values())
    )
    count = sum(map(len, ages.values()))
    assert sex[2] == pytest.approx((variance * count / (count - 2)) ** 0.5)


def test_tables_are_written_in_three_forms_with_a_picture(
    study: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    found = tried(study, capsys, "--out", str(out))
    assert json.loads((out / "result.json").read_text()) == found
    assert (out / "result.png").read_bytes().startswith(b"\x89PNG")
    with next(out.glob("01-*.csv")).open(newline="") as file:
        assert next(csv.reader(file)) == found["analysis"]["tables"][0]["columns"]
    text = (out / "result.md").read_text()
    assert "## columns" in text
    assert "s\\|ex" in text, "a name is text, and ends no cell"
    widths = {line.count("|") - line.count("\\|") for line in text.split("## ")[1].splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_another_analysis_does_not_leave_its_tables_among_the_old_ones(
    study: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    out.mkdir(parents=True)
    tried(study, capsys, "--out", str(out))
    assert main(["analyze", study[0], "--data", study[1], "--out", str(out)]) == 2
    assert f"--out {out}: it holds files, and is not overwritten; name another folder" in capsys.readouterr().err
    assert main(["analyze", study[0], "--data", study[1], "--out", study[1]]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err


def test_values_in_another_unit_are_said(study: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Else a mean is the end of the range, and nobody knows why."""
    Path(study[1]).write_text("age,s|ex\n40000,f\n30,m\n")
    said = "column 'age': 1 of 2 values (50.00%) are beyond the task's range 0 to 100"
    assert [len(each["clamped"]) for each in tried(study, capsys)["nodes"]] == [1, 0, 0]
    assert main(["analyze", study[0], "--data", study[1]]) == 0
    shown = capsys.readouterr().out
    assert f"{study[1]}: {said}" in shown
    assert "tried on 1 file of 2 records in 1 round, no noise" in shown


def test_a_seed_of_no_simulated_noise_is_refused(
    study: List[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.main.main", lambda arguments: 0)  # else it waits for nodes
    assert main(["analyze", study[0], "--seed", "3"]) == 2
    assert "--seed: of the noise that is simulated where --data is given" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_a_vector_of_almost_nothing_is_clipped_to_itself(study: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In the round that measures a forest a record that is not held out has a vector of zeros."""
    forest = 'kind = "forest"\noutcome = "s|ex"\ntrees = 30\nheld_out = 0.4'
    text = STUDY.replace('kind = "statistics"\nbins = 5', forest)
    Path(study[0]).write_text(text + 'unit = "record"\nepsilon = 1.0\ndelta = 1e-4\nnoise = "node"\n')
    assert tried(study, capsys)["rounds"] == 2


def test_what_is_no_analysis_is_refused(study: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["analyze", str(Path(__file__).resolve().parents[2] / "docs" / "edgeward.toml"), "--data", study[1]]) == 2
    )
    assert "has no [task.analysis]: edgeward gateway run" in capsys.readouterr().err
    assert main(["analyze", study[0], "--data", str(tmp_path / "nothing.csv")]) == 2
    assert "no such file" in capsys.readouterr().err
