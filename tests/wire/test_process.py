"""What a process says of its memory: exactly for itself, in steps for others, since it grows with private data."""

from typing import Dict

import pytest

from orchestrator.wire import process


def stated(monkeypatch: pytest.MonkeyPatch, mib: Dict[str, float], *children: int) -> float:
    monkeypatch.setattr(process, "peak_memory_mib", lambda pid="self": mib[pid])
    return process.stated_memory_mib(*children)


def test_memory_is_stated_in_steps_of_8_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {stated(monkeypatch, {"self": 48.0 + data / 10}) for data in range(1, 81)}
    assert found == {56.0}, "a little more data shows nowhere within a step"
    assert stated(monkeypatch, {"self": 56.1}) == 64.0
    assert stated(monkeypatch, {"self": 0.0}) == 0.0


def test_processes_of_graphs_count_with_it_before_it_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stated(monkeypatch, {"self": 50.5, "7": 30.5, "8": 1.5}, 7, 8) == 88.0


def test_of_this_process_it_is_a_multiple_and_not_too_little() -> None:
    mib = process.stated_memory_mib()
    assert mib % 8 == 0
    assert mib >= process.resident_memory_mib()
