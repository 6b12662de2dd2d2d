"""docs/data.md as a newcomer follows it: its files in an empty folder, its commands one after another."""

import re
import shlex
from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np
import pytest

from orchestrator.cli.main import main
from orchestrator.data.dataset import load_for
from orchestrator.data.table import every_row
from orchestrator.data.units import MOLAR_MASSES
from orchestrator.gateway.config import load_config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
TASK = """
[gateway]
federation = "ward"
[task]
name = "ward"
[task.schema]
kind = "table"
label = "dead"
classes = ["no", "yes"]
label_values = { "0" = 0, "1" = 1 }
patient = "case"
drop_missing = true
features = [{ name = "age", minimum = 0, maximum = 120 }, { name = "sex", categories = ["f", "m"] },
  { name = "glucose", minimum = 0, maximum = 50 }, { name = "bmi", minimum = 5, maximum = 100 }]
[task.model]
kind = "mlp"
[task.privacy]
unit = "patient"
delta = 1e-4
"""


def blocks(text: str) -> Iterator[Tuple[str, str]]:
    """(what a comment before it says, text without its indent) of each marked block."""
    for mark, block in re.findall(r"<!-- ([^>]+) -->\n\n((?:    .*\n|\n(?=    ))+)", text):
        yield mark, re.sub(r"^    ", "", block, flags=re.M)


def test_two_tables_are_joined(tmp_path: Path) -> None:
    for mark, text in blocks(PAGE.read_text()):
        if mark.startswith("joined: "):
            (tmp_path / mark.partition(": ")[2]).write_text(text)
    rows = [cells for _, cells in every_row(tmp_path / "joined.toml")]
    assert [dict(zip(rows[0], cells)) for cells in rows[1:]] == [
        {"case": "p1", "sex": "f", "admission": "2026-03-31", "dead": "1", "crp": "80", "tests": "4"},
        {"case": "p2", "sex": "m", "admission": "2026-03-01", "dead": "0", "crp": "", "tests": "0"},
    ]


def test_three_commands_lead_from_an_export_to_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list(blocks(PAGE.read_text()))
    files = {mark.partition(": ")[2]: text for mark, text in found if mark.startswith("file")}
    commands = [shlex.split(text) for mark, text in found if mark == "run"]
    node = next(shlex.split(text) for mark, text in found if mark == "run: node")
    assert set(files) == {"export.csv", "ward.toml"}
    monkeypatch.chdir(tmp_path)
    Path("export.csv").write_text(files["export.csv"])
    Path("edgeward.toml").write_text(TASK)
    said: List[str] = []
    for words in commands:
        assert main(words[1:]) == 0, words
        said.append(capsys.readouterr().out)
        if words[2] == "map":
            assert 'column = "Fallnr"' not in Path("ward.toml").read_text(), "no name is alike: it is asked for"
            Path("ward.toml").write_text(files["ward.toml"])
    assert "2 records of 2 patients fit the schema, 1 row without a used value is left out" in said[1]
    x = load_for(Path("ward.toml"), load_config(Path("edgeward.toml")).task).x
    glucose = 1000 / MOLAR_MASSES["glucose"]
    np.testing.assert_allclose(x, [[63, 1, 0, glucose, 25], [41, 0, 1, 2 * glucose, 20]], rtol=1e-6)
    assert node[node.index("--data") + 1] == "ward.toml"
    assert node[node.index("--federation") + 1] == load_config(Path("edgeward.toml")).gateway.federation
