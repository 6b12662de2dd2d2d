"""Whatever becomes of the process that counts epsilon, its caller gets a sentence, and no process is left."""

import os
import sys
from pathlib import Path

import pytest

from orchestrator.errors import PrivacyError
from orchestrator.privacy import accounting_process
from orchestrator.privacy.accounting_process import epsilons_apart, plan_apart
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

SCHEMA = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("age", 0, 110),))
TASK = Task("t", SCHEMA, {"kind": "mlp", "hidden": [4]}, privacy=Privacy("record", 3.0, 1e-4))

ENDS = {
    "kill -STOP $$": "has not answered for 1 s",
    "exec sleep 100": "has not answered for 1 s",
    "kill -KILL $$": "was ended by signal 9",
    "exit 0": "it gave no answer",
    "echo [1]": "it gave no answer",
    "echo '{\"epsilon\": NaN}'": "it gave no answer",
    "echo out of memory >&2; exit 1": "out of memory",
}


@pytest.mark.parametrize("script", ENDS)
def test_an_accountant_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    if "has not answered" in ENDS[script]:
        monkeypatch.setattr(accounting_process, "LIMIT_S", 1.0)
    for ask in (lambda: plan_apart(TASK), lambda: epsilons_apart(TASK, 1, [1])):
        with pytest.raises(PrivacyError, match=ENDS[script]):
            ask()
        if (tmp_path / "pid").exists():  # a busy machine may have ended it before it wrote
            with pytest.raises(ProcessLookupError):
                os.kill(int((tmp_path / "pid").read_text()), 0)
        assert accounting_process.running == []


def test_an_accountant_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(PrivacyError, match="cannot be started: .*Give the same command again"):
        plan_apart(TASK)
