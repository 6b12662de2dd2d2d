"""What a confined process can still do, tried from inside; and the filter itself, for processors that are not here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from orchestrator.node.confine import _CALLS, _MACHINES, _NOT_EXECUTABLE, filter_program

ROOT = Path(__file__).resolve().parents[2]

TRY = """
import ctypes, errno, json, mmap, os, signal, socket, sys
from orchestrator.node.confine import confine
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
parent, folder = os.getppid(), sys.argv[1]
held = os.open(folder + "/there", os.O_RDONLY)
done = confine(32 << 20, False)
found = {"confined": done}

def attempt(name, what):
    try:
        what()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
    except ValueError:  # what setrlimit makes of EPERM
        found[name] = "EPERM"

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

attempt("socket", lambda: socket.socket())
attempt("socketpair", lambda: socket.socketpair())
attempt("unix", lambda: socket.socket(socket.AF_UNIX))
attempt("open to read", lambda: os.open(folder + "/there", os.O_RDONLY))
attempt("open to write", lambda: os.open(folder + "/new", os.O_WRONLY | os.O_CREAT))
attempt("unlink", lambda: os.unlink(folder + "/there"))
attempt("stat", lambda: os.stat(folder))
attempt("list", lambda: os.listdir(folder))
attempt("fork", lambda: os.fork())
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("kill the parent", lambda: os.kill(parent, signal.SIGUSR1))
attempt("signal itself", lambda: os.kill(os.getpid(), 0))
attempt("ptrace", lambda: call(101, 16, parent, 0, 0))
attempt("read the parent's memory", lambda: call(310, parent, 0, 0, 0, 0, 0))
attempt("keys", lambda: call(250, 0, 0, 0))
attempt("raise a limit", lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_NOFILE, (9, 9)))
attempt("memory to execute", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC))
attempt("memory", lambda: mmap.mmap(-1, 1 << 20))
attempt("too much memory", lambda: mmap.mmap(-1, 1 << 30))
attempt("read what is open", lambda: os.read(held, 1))
os.write(1, json.dumps(found).encode())
"""


def tried(tmp_path: Path) -> Dict[str, Any]:
    (tmp_path / "there").write_text("content")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TRY, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="call numbers of x86-64 Linux"
)
def test_only_memory_and_open_files_are_left(tmp_path: Path) -> None:
    found = tried(tmp_path)
    assert found.pop("confined") == 2
    allowed = {"memory", "read what is open"}
    assert {name for name, result in found.items() if result == "done"} == allowed
    assert found.pop("too much memory") == "ENOMEM"
    assert {result for name, result in found.items() if name not in allowed} == {"EPERM"}
    assert (tmp_path / "there").exists()


ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050001


def judged(program: bytes, architecture: int, number: int, third: int = 0) -> int:
    """What the filter returns: its instructions carried out one by one (Linux, filter.rst)."""
    import struct

    data = struct.pack("<iIQ6Q", number, architecture, 0, 0, 0, third, 0, 0, 0)
    lines = [struct.unpack_from("=HBBI", program, 8 * i) for i in range(len(program) // 8)]
    at, accumulator = 0, 0
    while True:
        code, yes, no, value = lines[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x15:
            at += yes if accumulator == value else no
        elif code == 0x45:
            at += yes if accumulator & value else no
        else:
            assert code == 0x06
            return value


@pytest.mark.parametrize("machine", sorted(_MACHINES))
def test_the_filter_lets_through_what_is_listed(machine: str) -> None:
    column, architecture = _MACHINES[machine]
    program = filter_program(column, architecture)
    listed = {numbers[column] for numbers in _CALLS.values()}
    memory = {numbers[column] for numbers in _NOT_EXECUTABLE.values()}
    for number in range(1024):
        expected = ALLOW if number in listed | memory else REFUSE
        assert judged(program, architecture, number) == expected, number
        assert judged(program, architecture, number, third=7) == (ALLOW if number in listed else REFUSE), number
        assert judged(program, architecture ^ 0x40000000, number) == KILL
        assert judged(program, architecture, number | 0x40000000) == REFUSE  # x32


@pytest.mark.parametrize(
    ("header", "column", "pattern"),
    [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0, r"#define __NR_(\w+)\s+(\d+)"),
        ("/usr/include/asm-generic/unistd.h", 1, r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
    ],
)
def test_call_numbers_are_the_kernels(header: str, column: int, pattern: str) -> None:
    import re

    if not Path(header).exists():
        pytest.skip(f"{header} is not here")
    numbers = {name: int(number) for name, number in re.findall(pattern, Path(header).read_text())}
    ours: Dict[str, Tuple[int, int]] = {**_CALLS, **_NOT_EXECUTABLE}
    assert {name: both[column] for name, both in ours.items()} == {name: numbers[name] for name in ours}
