"""The last handler: one line that says what went wrong, where and what to do, instead of a traceback or silence."""

import logging
import sqlite3
import threading
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.mishaps import catch_in_threads, sentence


def test_a_sentence_says_what_can_be_done_or_where_it_was(tmp_path: Path) -> None:
    assert sentence(UsageError("x: expected y")) == "x: expected y"
    with pytest.raises(OSError, match="No such file") as missing:
        (tmp_path / "none" / "x").read_text()
    assert sentence(missing.value) == f"{tmp_path}/none/x: No such file or directory"
    advice = "No space left on device: make room on that disk, then give the same command again"
    assert sentence(OSError(28, "No space left on device")) == advice
    assert sentence(sqlite3.OperationalError("disk I/O error")) == "a store cannot be used: disk I/O error"
    with pytest.raises(IndexError) as fault:
        [].pop()
    assert sentence(fault.value).startswith("IndexError: pop from empty list (test_mishaps.py:")


def test_no_thread_ends_in_silence(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr("sys.unraisablehook", None)
    log = logging.getLogger("edgeward.test")
    catch_in_threads(log)
    thread = threading.Thread(target=lambda: 1 / 0, name="listener")
    thread.start()
    thread.join()
    assert caplog.messages == [
        m
        for m in caplog.messages
        if m.startswith("the thread 'listener' ended, start this program again: ZeroDivision")
    ]
    assert len(caplog.messages) == 1
    assert "Traceback" not in capfd.readouterr().err
