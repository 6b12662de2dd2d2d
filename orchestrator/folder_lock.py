"""Whether a process works on a folder: a lock that ends with its process, however that ends."""

import fcntl
import os
import struct
from pathlib import Path
from typing import Optional

from orchestrator.errors import UsageError

_FLOCK = "hhqqi"
"""struct flock of 64-bit Linux: type, whence, start, length, pid (fcntl(2))."""


class FolderLock:
    """The lock of a file in `folder` from `with` (or `take`) to its end (or `free`). UsageError where another process has it."""

    def __init__(self, folder: Path, name: str, refusal: str) -> None:
        """`refusal`: what to say then, with {folder} and {pid} in it."""
        self._folder, self._name, self._refusal = folder, name, refusal

    def take(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = (self._folder / self._name).open("a")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            pid = holder_of(self._folder / self._name)
            raise UsageError(self._refusal.format(folder=self._folder, pid=pid)) from error
        os.utime(self._file.fileno())  # the file's time says since when it is held

    def free(self) -> None:
        self._file.close()

    def __enter__(self) -> "FolderLock":
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.free()


def holder_of(path: Path) -> Optional[int]:
    """Id of the process that has the lock of this file; None without one. Asks, and never takes the lock."""
    try:
        descriptor = os.open(str(path), os.O_RDONLY)
    except OSError:
        return None
    try:
        question = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else int(pid)
