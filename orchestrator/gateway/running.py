"""Whether a gateway works on a state folder: a lock that ends with its process, however that ends."""

import fcntl
import os
import struct
from pathlib import Path
from typing import Optional

from orchestrator.errors import UsageError

LOCK_NAME = "gateway.lock"
_FLOCK = "hhqqi"
"""struct flock of 64-bit Linux: type, whence, start, length, pid (fcntl(2))."""


class Held:
    """The lock of OUT/gateway.lock from `with` to its end. UsageError where another gateway has it."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def __enter__(self) -> "Held":
        self._out.mkdir(parents=True, exist_ok=True)
        self._file = (self._out / LOCK_NAME).open("a")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UsageError(
                f"{self._out}: process {holder(self._out)} runs a gateway on this folder; stop it, or choose another --out"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def holder(out: Path) -> Optional[int]:
    """Process id of the gateway that works on the folder; None without one. Asks, and never takes the lock."""
    try:
        descriptor = os.open(out / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        question = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else int(pid)
