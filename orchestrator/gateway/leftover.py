"""Children of a gateway that was killed: they end with it where Linux sees to that, and are found and ended where it does not.

A process is known by its number, when it began and in which boot of the machine, so that it is never confused with another.
"""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Optional

from orchestrator.errors import writing
from orchestrator.wire.json_text import from_json
from orchestrator.wire.special_files import is_special

_END_S = 5.0


def note(path: Path, pid: int) -> None:
    """Leaves word of a child for the next process that works on this folder."""
    with writing(path):
        path.write_text(json.dumps({"pid": pid, "process": process_of(pid)}), encoding="utf-8")
    path.chmod(0o600)


def end(path: Path) -> Optional[int]:
    """Ends the child that `note` left word of, if it still runs; its process id then."""
    try:
        if is_special(str(path)):
            return None
        known = from_json(path.read_text(encoding="utf-8"))
        pid, process = int(known["pid"]), str(known["process"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nobody was left, or the word of it is torn: the port says so
    ended = None
    if process and process_of(pid) == process:
        _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + _END_S
        while process_of(pid) == process and time.monotonic() < deadline:
            time.sleep(0.02)
        if process_of(pid) == process:
            _signal(pid, signal.SIGKILL)
        ended = pid
    path.unlink(missing_ok=True)
    return ended


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has ended since it was looked at
        os.kill(pid, number)


def process_of(pid: int) -> str:
    """Boot and start time of a process that runs; empty for one that does not, or where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before may hold anything
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"
