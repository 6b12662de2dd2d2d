"""What a process says of its memory: exactly for itself, in steps for others, since it grows with private data."""

import subprocess
import sys
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


START = """
from orchestrator.wire.process import forget_start, peak_memory_mib
large = bytearray(b"x") * (64 << 20)
del large
before = peak_memory_mib()
forget_start(new_peak=True)
print(before, peak_memory_mib())
"""


@pytest.mark.skipif(process.peak_memory_mib() == 0.0, reason="the kernel here does not say a process's peak memory")
def test_memory_that_only_the_start_took_does_not_count_later() -> None:
    said = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True).stdout.split()
    before, after = map(float, said)
    assert after < before - 48


BUFFERS = """
import resource, sys
import numpy as np
from orchestrator.wire.process import keep_buffers
if sys.argv[1] == "kept":
    keep_buffers()
def work():
    for size in (1 << 17, 1 << 16, 3 << 16):
        first, second = np.ones(size), np.ones(size)
        first *= second
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="by glibc's mallopt")
def test_buffers_that_are_kept_are_not_cleared_page_by_page_again() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", BUFFERS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "given back")
    ]
    assert faults[0] < 2000, "5 MiB of arrays once, not fifty times"
    assert faults[0] < faults[1]
