"""A dashboard stays for a while when its gateway is gone, and makes way for the next one at its address.

Who looks in the morning is to see how the run ended, and not a page that cannot be reached.
"""

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Callable, Iterator, List

log = logging.getLogger("edgeward.dashboard")

PROGRAM = "orchestrator.gateway.web.server"
STAYS = "edgeward-stays"
"""What such a process is called (proc(5), comm), so that no other is asked."""
_LISTENING = "0A"
"""State of a socket in /proc/net/tcp."""


class Stay:
    """Of this process, under the name STAYS. `end` is called when it is over; who wants its address may end it."""

    def __init__(self, seconds: float, end: Callable[[], None]) -> None:
        self._seconds, self._end = seconds, end

    def begin(self) -> None:
        """The gateway is gone. Nobody reads what is printed any more, and who waits for its end must not wait for ours."""
        if self._seconds <= 0:
            self._end()
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)
        Path("/proc/self/comm").write_text(STAYS)
        timer = threading.Timer(self._seconds, self._end)
        timer.daemon = True
        timer.start()


def ask_to_leave(port: int) -> bool:
    """Ends this user's dashboards that listen at the port, and whose gateway is gone; False where there is none."""
    asked = False
    for pid in _staying():
        if _listens(pid, port):
            log.info("process %d is a dashboard whose gateway is gone: asked to make way", pid)
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGTERM)
            asked = True
    return asked


def _staying() -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if PROGRAM.encode() in words and (
                (folder / "comm").read_text().strip() == STAYS or _parent(folder) not in words
            ):
                yield int(folder.name)
        except OSError:
            continue  # it has ended, or is another user's


def _parent(folder: Path) -> bytes:
    """Who started the process, as child.py says it in its command; another once that one is gone, before anybody notices."""
    return (folder / "stat").read_bytes().rpartition(b")")[2].split()[1]


def _listens(pid: int, port: int) -> bool:
    sockets = {f"socket:[{inode}]" for inode in _inodes(pid, port)}
    try:
        return any(os.readlink(link) in sockets for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _inodes(pid: int, port: int) -> List[str]:
    """Of sockets in the process's network that listen at the port."""
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.append(fields[9])
    return found
