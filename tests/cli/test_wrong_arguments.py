"""No wrong argument of any command ends in a traceback, in silence, or in a success; what was given is wrong: exit code 2.

The commands and their arguments come from the parser, so a new one is in this test by itself.
"""

import errno
import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

import pytest
from wrong_arguments import FILES, KINDS, Case, cases, make_files

from orchestrator.cli import main as main_module
from orchestrator.doctor import examine
from orchestrator.doctor.privacy import check_privacy
from orchestrator.errors import (
    AwayError,
    BrokerError,
    DamagedError,
    DataError,
    EdgewardError,
    EnrolmentError,
    IdentityError,
    RoundError,
    UsageError,
    exit_code_of,
)
from orchestrator.wire.task import Task

PARSER = main_module.build_parser()
CASES: Dict[str, List[Case]] = {}
for case in cases(PARSER):
    CASES.setdefault(case.command, []).append(case)

NEW_PATH = {"missing", "-1"}
NAMES = {"1e99", "nan"}
UNUSED = {*FILES, "unreadable"}
PARTIES = ("gateway run", "gateway relay", "node run", "keyholder run")
RIGHT: Dict[Tuple[str, str], Set[str]] = {
    # A party goes on until nobody is at its broker's address, and has failed then.
    **{(party, "--log-file"): {*FILES, *NEW_PATH} for party in PARTIES},
    **{(party, "--out"): {"a folder", *NEW_PATH} for party in PARTIES[:2]},
    **{(party, "--state"): {"a folder", *NEW_PATH} for party in PARTIES[2:]},
    **{(party, name): NAMES for party in PARTIES[2:] for name in ("--broker", "--federation", "--name")},
    **{
        ("gateway relay", name): NAMES
        for name in ("--upstream", "--upstream-federation", "--name", "--broker", "--host")
    },
    ("gateway relay", "--federation"): NAMES,
    ("gateway run", "--dashboard"): {"empty"},
    ("node run", "--data"): UNUSED,  # which a node opens for a task that its owner allows
    ("node run", "--policy"): {"an empty file"},
    ("keyholder run", "--policy"): {"an empty file"},
    ("node policy check", "file"): {"an empty file"},
    ("data validate", "data"): {"one row"},
    ("doctor", "--data"): {"one row"},
    ("doctor", "--out"): {"a folder", *NEW_PATH},
    ("doctor", "--state"): {"a folder", *UNUSED, *NEW_PATH},  # of a node
    ("doctor", "--broker"): {*NAMES, "empty"},  # that of edgeward.toml
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
    ("node request", "--out"): {*FILES, *NEW_PATH},
    ("score keygen", "--out"): {"a folder", *NEW_PATH},
    ("model keygen", "private"): NEW_PATH,
    ("model list", "--out"): {"a folder"},
    ("gateway dashboard", "out"): {"a folder"},
    ("board simulate", "--flash"): NEW_PATH,
    ("board simulate", "--samples"): {"a file", "one row", "a binary file"},
    ("board simulate", "--pins"): {"a file", "an empty file", "one row", "a binary file", "-1"},
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
        # A disk that gives no bytes has failed; whatever else is wrong here was typed or given.
        expected = (0, 1, 2) if right else (1, 2) if case.kind == "unreadable" else (2,)
        assert code in expected, f"{case}: exit code {code}, {said}"
        assert said.strip(), f"{case}: says nothing"
        assert "Traceback" not in said, f"{case}: {said}"


def test_exit_codes_are_of_errors() -> None:
    """Decided in errors.py by the kind of error alone: a command that made one of its own would be another rule."""
    given = DataError("x")
    given.__cause__ = OSError(errno.EIO, "a disk")
    wanted: Dict[BaseException, int] = {
        UsageError("x"): 2,
        DataError("x"): 2,
        IdentityError("x"): 2,
        AwayError("x"): 1,
        EnrolmentError("x"): 1,
    }
    wanted.update({EdgewardError("x"): 1, BrokerError("x"): 1, RoundError("x"): 1, DamagedError("x"): 1, given: 1})
    wanted.update({FileNotFoundError(errno.ENOENT, "x", "f"): 2, NotADirectoryError(errno.ENOTDIR, "x", "f"): 2})
    wanted.update({OSError(errno.ENOSPC, "x", "f"): 1, OSError(errno.ECONNREFUSED, "x"): 1})
    assert {error: exit_code_of(error) for error in wanted} == wanted


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
