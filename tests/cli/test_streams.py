"""Streams that are closed, full, or of an encoding that lacks a letter: a command ends with what it has to say, or in order."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

ROWS = "age,wörd,died\n" + "".join(f"{20 + i % 60},{'äß'[i % 2]},{'nein' if i % 3 else 'já'}\n" for i in range(40))


def edgeward(
    folder: Path, words: str, redirected: str = "", printed: str = "utf-8", **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Of a shell, in a folder with a table whose names are not ASCII."""
    (folder / "t.csv").write_text(ROWS, encoding="utf-8")
    command = f"{sys.executable} -m orchestrator.cli.main {words} {redirected}"
    surroundings = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.run(["sh", "-c", command], cwd=folder, env=surroundings, capture_output=True, encoding=printed)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "ascii:surrogateescape"])
def test_letters_that_the_terminal_does_not_have(tmp_path: Path, encoding: str) -> None:
    done = edgeward(tmp_path, "init t.csv --label died", printed="latin-1", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "learns 'died'" in done.stdout
    assert ("j\\xe1" if encoding.startswith("ascii") else "já") in done.stdout


@pytest.mark.parametrize(
    ("closed", "code"), [("<&-", 2), (">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), ("</dev/null", 2)]
)
def test_streams_that_are_closed(tmp_path: Path, closed: str, code: int) -> None:
    label = "" if code else "--label died"  # which is asked for on stdin
    done = edgeward(tmp_path, f"init t.csv {label}", closed)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert code == 0 or done.stderr.startswith("edgeward: --label COLUMN")


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what a library prints would be written into a store."""
    program = (
        "import os, sys; from orchestrator.cli.main import _open_streams; _open_streams(); "
        "opened = os.open('store', os.O_RDWR | os.O_CREAT); os.write(1, b'noise'); os.write(2, b'noise'); print('x'); "
        "sys.exit(0 if opened > 2 and sys.stdin.read() == '' else 9)"
    )
    command = f'{sys.executable} -c "{program}" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    assert done.returncode == 0
    assert (tmp_path / "store").read_bytes() == b""


def test_a_full_disk_behind_stdout_is_said(tmp_path: Path) -> None:
    done = edgeward(tmp_path, "init t.csv --label died", ">/dev/full")
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["gateway password .", "node enroll --identity id --token-file -"])
def test_what_is_typed_and_no_text_is_refused(tmp_path: Path, words: str) -> None:
    done = edgeward(tmp_path, words, PYTHONIOENCODING="utf-8:strict")
    assert "Traceback" not in done.stderr
    (tmp_path / "typed").write_bytes(b"\xff\xfe\n")
    done = edgeward(tmp_path, words, "<typed", PYTHONIOENCODING="utf-8:strict")
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("edgeward: ")
    assert "Traceback" not in done.stderr


def test_commands_to_go_on_with_can_be_pasted(tmp_path: Path) -> None:
    done = edgeward(tmp_path, "init t.csv --label died --json --out 'my draft.toml'")
    steps: List[str] = json.loads(done.stdout)["next"]
    found: Dict[str, Any] = {}
    for step in steps[:2]:
        found[step] = edgeward(tmp_path, step.partition(" ")[2]).stderr
        assert "no such file" not in found[step].lower()
        assert "unrecognized" not in found[step]


def test_a_password_where_no_gateway_works_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "typed").write_text("a long enough one\n")
    done = edgeward(tmp_path, "gateway password fedration", "<typed")
    assert done.returncode == 0
    assert "fedration: no gateway has worked there yet" in done.stderr
