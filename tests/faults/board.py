"""A board that only reports: a pseudo-terminal on which a record comes ten times a second."""

import contextlib
import json
import os
import pty
import threading
import tty

from orchestrator.boards.protocol import crc16


class Board:
    """Runs until `close`. `port` is what a monitor opens."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._thread.start()

    def _report(self) -> None:
        seq = 0
        while not self._stop.wait(0.1):
            head = {"v": 1, "boot": "0000abcd", "seq": seq, "model": None, "t_us": 100_000 * seq, "kind": "metrics"}
            content = json.dumps({**head, "inferences": seq}).encode()
            with contextlib.suppress(BlockingIOError):  # nobody reads
                os.write(self._master, b"@ew " + content + b"*%04x\r\n" % crc16(content))
                seq += 1
            with contextlib.suppress(BlockingIOError):
                os.read(self._master, 4096)  # commands

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)
