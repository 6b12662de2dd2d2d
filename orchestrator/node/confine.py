"""What keeps a process that runs somebody else's graph from doing anything else: limits, no new privileges, a filter of calls.

Linux only; elsewhere a process is limited, not confined, and `confine` says so.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from typing import Dict, List, Tuple

SECCOMP, NAMESPACES, NOTHING = 2, 1, 0
"""What confine could do: a filter that lets through reading, writing and memory only; or user and network namespaces of its
own, so that no network is there; or nothing."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 2, 1, 1
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_ALLOW, _KILL_PROCESS, _ERRNO_EPERM = 0x7FFF0000, 0x80000000, 0x00050001
_PROT_EXEC = 4

# name: (x86-64, aarch64); None where the processor has no such call
_CALLS: Dict[str, Tuple[int, int]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
_NOT_EXECUTABLE: Dict[str, Tuple[int, int]] = {"mmap": (9, 222), "mprotect": (10, 226)}
"""Allowed unless their third argument asks for memory that can be executed."""

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables, AUDIT_ARCH of linux/audit.h."""


def confine(memory_bytes: int, die_with_parent: bool) -> int:
    """Gives up everything but the files that are open and `memory_bytes` more than now; SECCOMP, NAMESPACES or NOTHING, as done.

    To be called when all that needs files is loaded, and before anything hostile is read. die_with_parent: be killed when the
    thread that started this process ends.
    """
    # No limit of processor time: a child lives as long as its run. The parent bounds every request instead.
    for which in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        _set(which, 0)
    if not sys.platform.startswith("linux"):
        return NOTHING
    _set(resource.RLIMIT_NPROC, 0)
    address_space, data = _memory_now()
    _set(resource.RLIMIT_AS, address_space + memory_bytes)
    _set(resource.RLIMIT_DATA, data + memory_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if die_with_parent:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _set(resource.RLIMIT_NOFILE, 0)  # those that are open stay so
    column, architecture = _MACHINES.get(os.uname().machine, (-1, 0))
    if column >= 0 and sys.maxsize > 2**32 and _install(libc, filter_program(column, architecture), column):
        return SECCOMP
    return NAMESPACES if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0 else NOTHING


def filter_program(column: int, architecture: int) -> bytes:
    """The filter as classic BPF (struct sock_filter each): allow the lists above, kill another architecture, refuse the rest."""
    load, equal, test, give = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JMP|JSET|K, RET|K
    lines: List[Tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, _KILL_PROCESS),
        (load, 0, 0, 0),
    ]
    for numbers in _CALLS.values():
        lines += [(equal, 0, 1, numbers[column]), (give, 0, 0, _ALLOW)]
    for numbers in _NOT_EXECUTABLE.values():
        lines += [
            (equal, 0, 4, numbers[column]),
            (load, 0, 0, 16 + 8 * 2),  # low half of the third argument
            (test, 0, 1, _PROT_EXEC),
            (give, 0, 0, _ERRNO_EPERM),
            (give, 0, 0, _ALLOW),
        ]
    lines.append((give, 0, 0, _ERRNO_EPERM))
    return b"".join(struct.pack("=HBBI", code, yes, no, value) for code, yes, no, value in lines)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _install(libc: ctypes.CDLL, program: bytes, column: int) -> bool:
    header = _Program(len(program) // 8, program)
    seccomp = (317, 277)[column]
    flags = _SECCOMP_FILTER_FLAG_TSYNC  # for all threads, should a library have started one
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_void_p]
    if libc.syscall(seccomp, _SECCOMP_SET_MODE_FILTER, flags, ctypes.addressof(header)) == 0:
        return True
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header), 0, 0) == 0)


def _set(which: int, most: int) -> None:
    _, hard = resource.getrlimit(which)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))


def _memory_now() -> Tuple[int, int]:
    """(address space, writable memory) of this process in bytes; 1 GiB each where the kernel does not say."""
    try:
        with open("/proc/self/statm") as file:
            pages = file.read().split()
    except OSError:
        return 1 << 30, 1 << 30
    return int(pages[0]) * resource.getpagesize(), int(pages[5]) * resource.getpagesize()
