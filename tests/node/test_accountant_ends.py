"""An accountant that cannot start, is killed, or answers nonsense: a reason that is true, and no budget that passes unseen."""

import subprocess
import sys
from typing import Any, List

import pytest

from orchestrator.errors import PrivacyError
from orchestrator.node import accountant
from orchestrator.node.reservation import Reservation
from orchestrator.privacy.charges import Charge

RESERVATION = Reservation("run", "d", "task", "record", (Charge("training", 1.0),))


def asked(monkeypatch: pytest.MonkeyPatch, program: str) -> List[float]:
    """What comes of a process that runs `program` in the accountant's place."""
    run = subprocess.run
    monkeypatch.setattr(accountant, "available", lambda: True)
    monkeypatch.setattr(subprocess, "run", lambda _, **more: run([sys.executable, "-c", program], **more))
    return accountant.epsilons_apart([[RESERVATION]], 1e-5)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9"),
        ("raise MemoryError('no \\x1b[31m more')", r"MemoryError: no \\x1b\[31m more"),
        ("print('{\"epsilons\": [1.')", "cannot be read"),
        ("print('[]')", "cannot be read"),
        ("pass", "cannot be read"),
        ("print('{\"epsilons\": []}')", "not one epsilon for each"),
        ("print('{\"epsilons\": [NaN]}')", "not one epsilon for each"),
        ("print('{\"epsilons\": [-1.0]}')", "not one epsilon for each"),
    ],
)
def test_an_accountant_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch, program: str, why: str) -> None:
    with pytest.raises(PrivacyError, match=why):
        asked(monkeypatch, program)


def test_infinity_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "print('{\"epsilons\": [Infinity]}')") == [float("inf")]


@pytest.mark.parametrize(
    "error", [BlockingIOError(11, "Resource temporarily unavailable"), subprocess.SubprocessError()]
)
def test_a_machine_that_starts_no_process_is_a_reason(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def no_process(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(accountant, "available", lambda: True)
    monkeypatch.setattr(subprocess, "run", no_process)
    with pytest.raises(PrivacyError, match="cannot start the accountant now"):
        accountant.epsilons_apart([[RESERVATION]], 1e-5)


def test_what_is_no_number_is_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([1.0, float("nan"), 2.0])
    monkeypatch.setattr(accountant, "epsilon_of", lambda *_: next(values))
    charges = [
        [RESERVATION.charges[0].to_dict()],
        [{**RESERVATION.charges[0].to_dict(), "count": n} for n in (2, 3)],
        [],
    ]
    assert accountant.answer({"delta": 1e-5, "cases": [charges]}) == {"epsilons": [float("inf")]}
