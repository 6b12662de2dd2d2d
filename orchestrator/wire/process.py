"""What a process says about itself: peak memory, and whether a library it must not have is loaded."""

import sys
from pathlib import Path


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


def _status_mib(pid: str, name: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def has_tensorflow() -> bool:
    return "tensorflow" in sys.modules
