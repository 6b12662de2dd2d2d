"""What a process says about itself (peak memory, whether a library it must not have is loaded), gives back, and ends with."""

import ctypes
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Callable, Dict, List, Tuple

_CALL = (
    "import sys; sys.path[:1] = filter(None, sys.path[:1]); "
    "from importlib import import_module; sys.exit(import_module(sys.argv.pop(1)).main())"
)


def own_program(module: str, *words: str) -> List[str]:
    """The command that calls `main()` of a module of ours in a process of its own; it reads `words` from sys.argv[1:].

    Not `python -m`: that looks for every module in the working folder first, where a user's token.py or a stranger's may lie.
    """
    return [sys.executable, "-c", _CALL, module, *words]


def peak_memory_mib(pid: str = "self") -> float:
    """Peak resident memory of a process in MiB (VmHWM of Linux); 0.0 where the kernel does not say.

    Not getrusage: its figure is inherited over exec from a possibly larger parent.
    """
    return _status_mib(pid, "VmHWM:")


def stated_memory_mib(*children: int) -> float:
    """What a node says of its peak memory, with that of these processes: rounded up to 8 MiB, since it grows with the data."""
    whole = peak_memory_mib() + sum(peak_memory_mib(str(pid)) for pid in children)
    return float(_STATED_MIB * -(-whole // _STATED_MIB))


_STATED_MIB = 8


def resident_memory_mib(pid: str = "self") -> float:
    """Resident memory of a process in MiB (VmRSS of Linux); 0.0 where the kernel does not say."""
    return _status_mib(pid, "VmRSS:")


def is_stopped(pid: int) -> bool:
    """Whether a process is held by a signal (SIGSTOP) or a debugger; False where the kernel does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")


def _status_mib(pid: str, name: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def keep_buffers() -> None:
    """Has memory that work needs for a moment, up to 2 MiB at once and 6 in all, kept for the next moment.

    Given back each time, it comes again page by page, each cleared first: that took longer than rounding a gradient. By glibc's
    mallopt(3); does nothing elsewhere.
    """
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if libc is None or not hasattr(libc, "mallopt"):
        return
    for parameter, value in ((_M_MMAP_THRESHOLD, 2 << 20), (_M_TRIM_THRESHOLD, 6 << 20)):
        libc.mallopt(parameter, value)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MADV_DONTNEED = 4


def forget_start(new_peak: bool = False) -> None:
    """Gives back memory only the start took: freed objects, and pages of code and constants, which the kernel reads again.

    new_peak: what peak_memory_mib says counts from here on. Does nothing where there is no Linux with glibc.
    """
    gc.collect()
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        return
    libc.malloc_trim(0)
    for start, end in as_in_files(_own_mappings()):
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
    if new_peak:
        _count_peak_from_now()


def as_in_files(mappings: str) -> List[Tuple[int, int]]:
    """Addresses of files' content that nobody can write, and nobody has: not of what a linker filled in and then protected.

    mappings: as proc(5) has them in smaps. What was written may be on the swap device, and does not count as anonymous then.
    """
    found: List[Tuple[int, int]] = []
    place = ""
    own: Dict[str, bool] = {}  # of the mapping at `place`: whether it has pages of its own, in memory and swapped out
    for line in mappings.splitlines():  # one for each mapping, then its figures
        first, *rest = line.split()
        if not first.endswith(":"):
            place = first if rest[0] in ("r-xp", "r--p") and rest[3] != "0" else ""
            own = {}
        elif first in _OWN_PAGES and place:
            own[first] = rest[0] != "0"
            if len(own) == len(_OWN_PAGES) and not any(own.values()):
                start, end = (int(address, 16) for address in place.split("-"))
                found.append((start, end))
    return found


_OWN_PAGES = ("Anonymous:", "Swap:")


def _own_mappings() -> str:
    """Nothing where the kernel does not say: their pages stay."""
    try:
        return Path("/proc/self/smaps").read_text(errors="replace")
    except OSError:
        return ""


def _count_peak_from_now() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    except OSError:
        return  # a kernel without it: the peak includes the start, which only overstates it


def has_tensorflow() -> bool:
    return "tensorflow" in sys.modules


def ends_with(parent: int) -> Callable[[], None]:
    """What a child of the process `parent` does first: asks Linux for SIGKILL when that one goes (PR_SET_PDEATHSIG = 1).

    Linux means the thread that started it, and forgets it where the child changes its user afterwards.
    """

    def ask() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            if os.getppid() != parent:  # it was gone before we asked
                os.kill(os.getpid(), signal.SIGKILL)

    return ask
