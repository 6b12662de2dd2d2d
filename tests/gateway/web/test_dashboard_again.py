"""A dashboard that died while the machine gives no thread, or no process, comes back when it does."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, List

import pytest
from dashboards import dashboard, make_store

from orchestrator.gateway.web import child


@pytest.mark.parametrize("lacking", ["thread", "process"])
def test_it_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    monkeypatch.setattr(child, "_RESTART_S", 0.05)
    make_store(tmp_path)
    failed: List[str] = []
    start, popen = threading.Thread.start, subprocess.Popen

    def no_thread(self: threading.Thread) -> None:
        if self.name == "asked" and len(failed) < 3:
            failed.append("thread")
            raise RuntimeError("can't start new thread")
        start(self)

    def no_process(*words: Any, **more: Any) -> Any:
        if len(failed) < 3:
            failed.append("process")
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return popen(*words, **more)

    with dashboard(tmp_path) as (client, process):
        first = process.pid
        assert first is not None
        if lacking == "thread":
            monkeypatch.setattr(threading.Thread, "start", no_thread)
        else:
            monkeypatch.setattr(subprocess, "Popen", no_process)
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 600
        while process.restarts == 0:
            assert time.monotonic() < deadline, failed
            time.sleep(0.05)
        client.wait()
        assert process.pid != first
        assert failed == [lacking] * 3
