"""Children left by a gateway that was killed: what may stand in their note, and ends while it is looked at."""

import os
import signal
import subprocess
from pathlib import Path
from typing import List

import pytest

from orchestrator.gateway import leftover


def test_a_pipe_in_place_of_the_note_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "broker.pid")
    assert leftover.end(tmp_path / "broker.pid") is None


def test_one_that_ends_by_itself_meanwhile_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broker.pid"
    sent: List[int] = []

    kill = os.kill

    def too_late(pid: int, number: int) -> None:
        kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        path.unlink()  # another gateway looked after it as well
        sent.append(number)
        raise ProcessLookupError

    with subprocess.Popen(["sleep", "1000"]) as child:
        leftover.note(path, child.pid)
        monkeypatch.setattr(os, "kill", too_late)
        assert leftover.end(path) == child.pid
    assert sent == [signal.SIGTERM]
    assert not path.exists()
