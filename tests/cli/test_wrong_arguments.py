"""No wrong argument of any command ends in a traceback, in silence, or in a success.

The commands and their arguments come from the parser, so a new one is in this test by itself.
"""

import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

import pytest
from wrong_arguments import KINDS, Case, cases, make_files

from orchestrator.cli import main as main_module
from orchestrator.doctor import examine
from orchestrator.doctor.privacy import check_privacy
from orchestrator.wire.task import Task

PARSER = main_module.build_parser()
CASES: Dict[str, List[Case]] = {}
for case in cases(PARSER):
    CASES.setdefault(case.command, []).append(case)

NEW_PATH = {"missing", "-1"}
NAMES = {"1e99", "nan"}
RIGHT: Dict[Tuple[str, str], Set[str]] = {
    # What another command would refuse is right there: a folder that is to be made, a file that is to be written, a name.
    ("gateway init", "folder"): {"a folder", *NEW_PATH},
    ("gateway init", "--federation"): NAMES,
    ("gateway init", "--host"): NAMES,
    ("gateway init", "--request"): NEW_PATH,
    ("authority init", "folder"): {"a folder", *NEW_PATH},
    ("authority init", "--federation"): NAMES,
    ("node request", "--name"): NAMES,
    ("node request", "--federation"): NAMES,
    ("node request", "--identity"): {"a folder", *NEW_PATH},
    ("node request", "--out"): {"a file", *NEW_PATH},
    ("score keygen", "--out"): {"a folder", *NEW_PATH},
    ("model keygen", "private"): NEW_PATH,
    ("model list", "--out"): {"a folder"},
    ("gateway dashboard", "out"): {"a folder"},
    ("board simulate", "--flash"): NEW_PATH,
    ("board simulate", "--samples"): {"a file"},
    ("board simulate", "--pins"): {"a file", "-1"},
}
MACHINE = ("check_runtime", "check_confinement", "check_packages", "check_mosquitto", "check_serial")
OF_MACHINE: Dict[str, Callable[..., Any]] = {name: lru_cache(maxsize=None)(getattr(examine, name)) for name in MACHINE}
"""What the doctor finds of the machine is the same whatever it is asked, and takes processes of its own: looked at once."""
ACCOUNTED: Dict[str, Any] = {}
"""And what the accountant says of a task is the same whenever it is asked."""

SERVE = ("gateway dashboard", "board simulate")
"""They end only when they are stopped: what is right for them is left out."""


def accounted(task: Task) -> Any:
    if repr(task) not in ACCOUNTED:
        ACCOUNTED[repr(task)] = check_privacy(task)
    return ACCOUNTED[repr(task)]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One parser and one machine for all calls; nothing to read; signals as they were."""
    monkeypatch.setattr(main_module, "build_parser", lambda command: PARSER)
    for name, look in OF_MACHINE.items():
        monkeypatch.setattr(examine, name, look)
    monkeypatch.setattr(examine, "check_privacy", accounted)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def call(words: List[str], monkeypatch: pytest.MonkeyPatch) -> Tuple[Any, str]:
    """(exit code, all that was printed). Whatever else is raised would be a traceback, and fails the test."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with redirect_stdout(said), redirect_stderr(said):
        try:
            return main_module.main(words), said.getvalue()
        except SystemExit as error:
            return error.code, said.getvalue()


@pytest.mark.parametrize("command", [pytest.param(c, marks=[pytest.mark.slow] * (c == "doctor")) for c in CASES])
def test_wrong_arguments(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: None) -> None:
    for number, case in enumerate(CASES[command]):
        right = case.kind in RIGHT.get((command, case.argument), ())
        if right and command in SERVE:
            continue
        folder = tmp_path / str(number)
        (folder / "cwd").mkdir(parents=True)
        make_files(folder)
        monkeypatch.chdir(folder / "cwd")
        code, said = call([word.replace("@", str(folder)) for word in case.words], monkeypatch)
        assert code in ((0, 1, 2) if right else (1, 2)), f"{case}: exit code {code}, {said}"
        assert said.strip(), f"{case}: says nothing"
        assert "Traceback" not in said, f"{case}: {said}"


def test_every_command_is_gone_through_with_every_kind() -> None:
    assert len(CASES) > 70
    assert {case.kind for found in CASES.values() for case in found} == set(KINDS)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is wrong with files is said in a line: an error in the program is not made to look like one of its user."""

    def broken(*_: object) -> int:
        raise KeyError("a bug")

    monkeypatch.setattr("orchestrator.cli.doctor._run", broken)
    with pytest.raises(KeyError):
        main_module.main(["doctor"])
