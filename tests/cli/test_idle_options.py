"""An option that would do nothing where it stands is refused: who gave it meant something by it."""

from pathlib import Path
from typing import List

import pytest

from orchestrator.cli.main import main

TASK = """
[task]
name = "t"
kind = "mlp"
rounds = 1
[[features]]
name = "x"
minimum = 0.0
maximum = 1.0
[label]
name = "y"
levels = ["a", "b"]
"""


@pytest.mark.parametrize("option", ["--dashboard-cert", "--dashboard-key"])
def test_a_certificate_of_no_dashboard(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    config = tmp_path / "edgeward.toml"
    config.write_text(TASK)
    (tmp_path / "file.pem").write_text("")
    assert (
        main(["gateway", "run", str(config), "--out", str(tmp_path / "out"), option, str(tmp_path / "file.pem")]) == 2
    )
    name = option[2:].replace("-", "_")
    assert f"gateway.{name}: is for the dashboard, and none is asked for" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--ca-file", "ca.crt"], ["--federation", "icu"]])
def test_what_is_for_a_broker_that_a_dashboard_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: List[str]
) -> None:
    assert main(["gateway", "dashboard", str(tmp_path), *words]) == 2
    assert f"{words[0]} is used with --broker" in capsys.readouterr().err
