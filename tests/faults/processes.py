"""One process of a federation: a command that is given again, what it said, and what is left of it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

PROGRAM = Path(__file__).with_name("program.py")
ROOT = Path(__file__).resolve().parents[2]
USER = 65534
"""An ordinary user's number, where the test itself runs as root: nobody's."""
PATIENCE_S = 180.0
"""How long anything may take before a test gives up: these machines may be ten times slower than a quick one."""


def until(condition: Callable[[], Any], what: Callable[[], str], seconds: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what()}")
        time.sleep(0.05)


def as_user(user: bool) -> List[str]:
    """What stands before a command that an ordinary user gives."""
    if not user or os.geteuid() != 0:
        return []
    plain = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    children = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    tried = subprocess.run([*plain, sys.executable, "-c", children], cwd="/", capture_output=True, check=False)
    if tried.returncode == 0:
        return plain
    # An interpreter in root's home: the user may look everywhere, and write nowhere.
    return [*plain, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def can_be_another_user() -> bool:
    return os.geteuid() == 0 and shutil.which("setpriv") is not None


@dataclass
class Process:
    """A command and its logs: `log` is what it writes to standard error. `kind` is the column of the matrix."""

    kind: str
    name: str
    words: List[str]
    log: Path
    state: Path
    environment: Dict[str, str]
    before: Sequence[str] = ()
    descriptors: Optional[int] = None
    running: "Optional[subprocess.Popen[bytes]]" = None
    sessions: List[int] = field(default_factory=list)
    read_to: int = 0

    def start(self) -> None:
        """Gives the command, the same one every time."""
        assert self.running is None or self.running.poll() is not None
        limits = ["prlimit", f"--nofile={self.descriptors}:{self.descriptors}"] if self.descriptors else []
        with self.log.open("ab") as log, self.log.with_suffix(".out").open("ab") as out:
            self.running = subprocess.Popen(
                [*limits, *self.before, sys.executable, str(PROGRAM), *self.words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=self.log.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.log.parent), **self.environment},
                start_new_session=True,
            )
        self.sessions.append(self.running.pid)

    @property
    def pid(self) -> int:
        assert self.running is not None
        return self.running.pid

    @property
    def alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    @property
    def code(self) -> Optional[int]:
        return None if self.running is None else self.running.poll()

    def signal(self, number: int) -> None:
        assert self.running is not None
        self.running.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.running is not None
        self.running.wait()

    def stop(self) -> None:
        """As a service manager does, and with SIGKILL when that is not heard."""
        if self.running is None:
            return
        if self.alive:
            self.signal(signal.SIGTERM)
            try:
                self.running.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} did not stop when it was asked to") from None

    def said(self) -> str:
        """What it wrote to standard error since `mark`."""
        with self.log.open("rb") as log:
            log.seek(self.read_to)
            return log.read().decode("utf-8", "replace")

    def mark(self) -> None:
        self.read_to = self.log.stat().st_size if self.log.exists() else 0

    def left(self) -> List[int]:
        """Processes of this command that still run."""
        return [pid for pid, session in sessions_of_all().items() if session in self.sessions]


def sessions_of_all() -> Dict[int, int]:
    """Process -> session, of all that are no zombies."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        fields = stat[stat.rindex(")") + 2 :].split()
        if fields[0] not in "ZX":
            found[int(entry.name)] = int(fields[3])
    return found


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
