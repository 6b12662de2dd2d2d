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


def mapping(place: str, rights: str, inode: int, anonymous: int, swap: int) -> str:
    """As proc(5) has it in smaps."""
    figures = f"Rss: 8 kB\nAnonymous: {anonymous} kB\nAnonHugePages: 0 kB\nSwap: {swap} kB\nSwapPss: {swap} kB\n"
    return f"{place} {rights} 00001000 08:01 {inode} {'/lib/a library.so' if inode else ''}\n{figures}VmFlags: rd mr mw me\n"


def test_only_pages_that_are_as_in_their_file_are_given_back() -> None:
    """What a linker filled in is in no file; a machine short of memory may have put all of it on its swap device by then."""
    assert process.as_in_files(
        mapping("1000-3000", "r-xp", 7, 0, 0)
        + mapping("3000-5000", "r--p", 7, 4, 0)
        + mapping("5000-7000", "r--p", 7, 0, 8)
        + mapping("7000-9000", "r--p", 7, 4, 4)
        + mapping("9000-b000", "rw-p", 7, 0, 0)
        + mapping("b000-d000", "r--s", 7, 0, 0)
        + mapping("d000-f000", "r--p", 0, 0, 0)
        + mapping("f000-11000", "r--p", 7, 0, 0)
    ) == [(0x1000, 0x3000), (0xF000, 0x11000)]
    assert process.as_in_files("") == []


def test_a_kernel_that_does_not_say_what_is_swapped_out_keeps_all() -> None:
    assert process.as_in_files("1000-3000 r--p 00001000 08:01 7 /lib/a.so\nAnonymous: 0 kB\n") == []


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
