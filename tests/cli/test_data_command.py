"""`edgeward data`: invented records fit every schema there is an example of, and what does not fit is said."""

import json
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
    assert main(["data", "check", str(out), str(config), "--json"]) == 0
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
    assert main(["data", "check", str(out), str(config)]) == 0
    assert "300 records of 100 patients fit the schema" in capsys.readouterr().out
    out.write_text("age,crp,sex,who\n200,1,f,p\n30,x,f,p\n30,1,d,p\n")
    assert main(["data", "check", str(out), str(config)]) == 1
    said = capsys.readouterr().err
    assert "2 problems" in said
    assert ":3: column 'crp'" in said
    assert ":4: column 'sex'" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--rows", "0"], "--rows: 0"),
        (["--missing", "2"], "--missing: 2"),
        (["--out", "m.npz"], "are written as .csv"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: List[str], said: str) -> None:
    (tmp_path / "edgeward.toml").write_text(ANALYSIS)
    words = ["data", "mock", str(tmp_path / "edgeward.toml"), "--out", str(tmp_path / "m.csv")]
    assert main([*words, *more]) == 2
    assert said in capsys.readouterr().err
