"""Clock, disk, memory, Python: what any machine of a federation needs."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional

from orchestrator.doctor.finding import NOT_CHECKED, OK, PROBLEM, WARNING, Finding

_MIB = 1 << 20
_AHEAD_S = 120.0


def check_python(gateway: bool) -> Finding:
    version = sys.version.split()[0]
    needed = (3, 10) if gateway else (3, 8)
    if sys.version_info[:2] < needed:
        wanted = ".".join(map(str, needed))
        return Finding(
            PROBLEM, "python", f"{version}; {wanted} or newer is needed", f"install Python {wanted} and edgeward in it"
        )
    return Finding(OK, "python", f"{version} at {sys.executable}")


def check_clock(state: Path) -> List[Finding]:
    """What this machine can know of its own clock: no other clock is asked."""
    now = time.time()
    fix = "timedatectl set-ntp true; date -u"
    program = Path(__file__).stat().st_mtime
    if program > now + _AHEAD_S:
        return [Finding(PROBLEM, "clock", f"it says {_utc(now)}, but Edgeward was installed at {_utc(program)}", fix)]
    found = []
    files = [path.stat().st_mtime for path in (state.iterdir() if state.is_dir() else ()) if path.is_file()]
    newest = max(files, default=0.0)
    if newest > now + _AHEAD_S:
        message = f"it says {_utc(now)}, {state} was written at {_utc(newest)}: one of the two was wrong (a guess)"
        found.append(Finding(WARNING, "clock", message, fix))
    return [*found, _synchronized(fix)]


def _synchronized(fix: str) -> Finding:
    for command, good in (
        (["timedatectl", "status"], "ynchronized: yes"),  # `show` is younger than Ubuntu 18.04
        (["chronyc", "tracking"], "Leap status     : Normal"),
    ):
        if shutil.which(command[0]) is None:
            continue
        try:
            plain = {**os.environ, "LC_ALL": "C"}
            done = subprocess.run(command, capture_output=True, timeout=10, text=True, env=plain)
        except subprocess.TimeoutExpired:
            continue
        if done.returncode != 0:
            continue
        if good in done.stdout:
            return Finding(OK, "clock", f"synchronized, says {command[0]}; it reads {_utc(time.time())}")
        return Finding(WARNING, "clock", f"not synchronized, says {command[0]}; it reads {_utc(time.time())}", fix)
    message = f"no timedatectl or chronyc answers; it reads {_utc(time.time())}: compare with another clock"
    return Finding(NOT_CHECKED, "clock", message)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def check_disk(state: Path, needed_mib: int) -> List[Finding]:
    """Free space, and whether a file of 1 MiB reaches the disk; below the nearest folder that exists."""
    folder = state.resolve()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    path = folder / f".edgeward-doctor-{os.getpid()}"
    started = time.monotonic()
    try:
        with path.open("wb") as file:
            file.write(bytes(_MIB))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        fix = f"ls -ld {folder}; df -h {folder}; chown it to the service's user"
        return [Finding(PROBLEM, "disk", f"{folder}: cannot be written: {error.strerror}", fix)]
    finally:
        # Also after half a write; where the file could not even be made there is nothing to remove.
        if path.exists():
            path.unlink()
    seconds = time.monotonic() - started
    free = shutil.disk_usage(str(folder)).free // _MIB
    message = f"{folder}: {free} MiB free, 1 MiB on the disk in {seconds:.2f} s"
    if free < needed_mib:
        return [
            Finding(PROBLEM if free < needed_mib // 10 else WARNING, "disk", message, f"make room: du -xhd1 {folder}")
        ]
    return [Finding(OK, "disk", message)]


def check_memory(needed_mib: int) -> Finding:
    available = _available_mib()
    if available is None:
        return Finding(NOT_CHECKED, "memory", "/proc/meminfo does not say")
    message = f"{available} MiB available, {needed_mib} MiB are wanted"
    if available < needed_mib:
        return Finding(WARNING, "memory", message, "stop other programs, or add swap (docs/jetson.md)")
    return Finding(OK, "memory", message)


def _available_mib() -> Optional[int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    figures = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return figures["MemAvailable"] // 1024 if "MemAvailable" in figures else None
