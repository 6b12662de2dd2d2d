"""Whether a process works on a folder: a lock that ends with its process, however that ends.

There are two: of a file, which says who holds it, and of the folder itself, since anybody who tidies up can remove the file.
"""

import errno
import fcntl
import os
import struct
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, Optional, Tuple

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
        path = self._folder / self._name
        place = _place_of(path)
        if place not in _held:
            place = self._lock(path)
        _held[place].users += 1
        self._let_go = weakref.finalize(self, _let_go, place)

    def _lock(self, path: Path) -> Tuple[int, int]:
        with ExitStack() as opened:
            file = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
            opened.callback(os.close, file)
            folder = os.open(str(self._folder), os.O_RDONLY)
            opened.callback(os.close, folder)
            if not _lock_file(file) or not (_lock_folder(folder) or self._held_for_another()):
                pid = holder_of(path) or "(which one is not known: its lock file was removed)"
                raise UsageError(self._refusal.format(folder=self._folder, pid=pid))
            os.utime(file)  # the file's time says since when it is held
            place = _place_of(file)
            assert place is not None
            _held[place] = _Held(opened.pop_all())
            return place

    def free(self) -> None:
        self._let_go()

    def _held_for_another(self) -> bool:
        """Whether the folder's own lock is that of a program of another kind, a node beside a gateway."""
        others = (file for file in self._folder.glob("*.lock") if file.name != self._name)
        return any(holder_of(file) is not None for file in others)

    def __enter__(self) -> "FolderLock":
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.free()


def holder_of(path: Path) -> Optional[int]:
    """Id of the process that has the lock of this file; None without one. Asks, and never takes the lock."""
    if _place_of(path) in _held:
        return os.getpid()
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        question = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else int(pid)


class _Held:
    """A lock this process has: to close its file, opened however often, would give it away (fcntl(2))."""

    def __init__(self, opened: ExitStack) -> None:
        self.opened, self.users = opened, 0


_held: Dict[Tuple[int, int], _Held] = {}
"""By file: a process that asks again for what it has gets it."""


def _let_go(place: Tuple[int, int]) -> None:
    _held[place].users -= 1
    if not _held[place].users:
        _held.pop(place).opened.close()


def _place_of(file: "int | Path") -> Optional[Tuple[int, int]]:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lock_file(descriptor: int) -> bool:
    """False where another process has the lock of this file."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lock_folder(descriptor: int) -> bool:
    """False where another process has the folder's own lock; True also where its file system has no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
