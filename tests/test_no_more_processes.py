"""A machine that gives no further process, thread or memory: one line that says so, with what to do."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from orchestrator.cli import main as cli
from orchestrator.mishaps import sentence

ERRORS = [
    (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "no further process or thread"),
    (RuntimeError("can't start new thread"), "no further process or thread"),
    (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "no more memory"),
]


@pytest.mark.parametrize(("error", "said"), ERRORS)
def test_it_is_said_in_words(error: Exception, said: str) -> None:
    assert said in sentence(error)
    assert "then give the same command again" in sentence(error)
    assert "no further" not in sentence(RuntimeError("anything else"))


@pytest.mark.parametrize(("error", "said"), ERRORS)
def test_a_command_ends_with_it(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails:
        def parse_args(self, _: object) -> "Fails":
            return self

        def run(self, _: object) -> int:
            raise error

    monkeypatch.setattr(cli, "build_parser", lambda _: Fails())
    assert cli.main(["doctor"]) == 1
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1


def test_python_says_so_of_threads() -> None:
    """The very words, which are all there is to know it by."""
    program = (
        "import resource, sys, threading\n"
        "sys.path.insert(0, '')\n"
        "from orchestrator.mishaps import sentence\n"
        "threading.stack_size(256 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n"
        "stop = threading.Event()\n"
        "try:\n"
        "    for _ in range(9): threading.Thread(target=stop.wait, daemon=True).start()\n"
        "except RuntimeError as error:\n"
        "    print(sentence(error))\n"
        "stop.set()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "no further process or thread" in done.stdout, done.stderr
    assert threading.active_count() >= 1
