"""The examples do what their pages say: table and regression from end to end, the signal as far as a run begins."""

import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import pytest

from orchestrator.cli.main import build_parser
from orchestrator.data.dataset import load_dataset
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.config import load_config

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def block(page: Path) -> str:
    """The commands of a page: its indented lines."""
    return "\n".join(line[4:] for line in page.read_text().splitlines() if line.startswith("    "))


@pytest.fixture
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the folder of examples that the test names, on a free port."""
    folder = Path(shutil.copytree(EXAMPLES / request.param, tmp_path / request.param))
    port = str(free_port())
    for name in ("README.md", "edgeward.toml"):
        if (folder / name).is_file():
            (folder / name).write_text((folder / name).read_text().replace("1883", port))
    return folder


def shell(folder: Path, commands: str, terminal: bool = False) -> str:
    """What the commands print; `python` and `edgeward` are the ones under test."""
    programs = folder.parent / "bin"
    programs.mkdir()
    for name, arguments in (("python", ""), ("edgeward", "-m orchestrator.cli.main")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "100", "TERM": "xterm"}
    ours, theirs = pty.openpty()
    said: List[bytes] = []
    reader = threading.Thread(target=_read, args=(ours, said))
    reader.start()
    out = theirs if terminal else subprocess.PIPE
    done = subprocess.run(
        ["bash", "-ec", commands], cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, timeout=850
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = b"".join(said).decode() if terminal else done.stdout.decode()
    assert done.returncode == 0, text
    return text


def _read(descriptor: int, said: List[bytes]) -> None:
    while True:
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:  # what a terminal gives when nobody has its other side any more
            return
        said.append(part)


@pytest.mark.parametrize("copy", ["table"], indirect=True)
def test_the_table_runs_as_its_page_says(copy: Path) -> None:
    toml = copy / "edgeward.toml"
    toml.write_text(re.sub(r"^rounds = \d+", "rounds = 3", toml.read_text(), flags=re.M))
    said = shell(copy, block(copy / "README.md") + "\nwait", terminal=True)
    assert "3 nodes answered, loss 0." in said
    assert "round 3/3" in said
    assert re.search(r"bundle +out/bundle", said)
    rows = (copy / "predictions.csv").read_text().splitlines()
    assert rows[0] == "line,predicted,probability no,probability yes"
    new = (copy / "new.csv").read_text().splitlines()
    assert len(rows) - 1 == sum("" not in row.split(",") for row in new[1:])


@pytest.mark.parametrize("copy", ["regression"], indirect=True)
def test_the_regression_runs_as_its_page_says(copy: Path) -> None:
    said = shell(copy, block(copy / "README.md"))
    step = float(re.findall(r"a step of the int8 output is ([\d.]+)", said)[0])
    assert float(re.findall(r"difference from the float model ([\d.]+)", said)[0]) < 2 * step
    assert "real values: scale" in said


@pytest.mark.parametrize("copy", ["signal", "table"], indirect=True)
def test_a_declaration_and_its_data_fit(copy: Path) -> None:
    shell(copy, "python make_data.py")
    config = load_config(copy / "edgeward.toml", files=True)
    named = {*config.evaluation.values(), config.calibration}
    for path in [p for p in copy.iterdir() if p.suffix in (".csv", ".npz") and p.name not in named]:
        new = path.stem == "new"
        data = load_dataset(path, config.task.schema, unlabelled=new)
        assert data.records > 15
        assert not data.clamped
        assert new or 0.1 < data.y.mean() < 0.9


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("*/README.md")), ids=lambda page: page.parent.name)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    lines = [line.strip().rstrip("&").split("#")[0] for line in block(page).splitlines() if "edgeward " in line]
    parser = build_parser()
    for line in lines:
        words = line.split()
        parser.parse_args(words[words.index("edgeward") + 1 :])
    assert lines
