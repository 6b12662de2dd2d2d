"""Bytes that wait on disk instead of in memory: parts of unfinished transfers, and messages nobody has read yet.

One unlinked temporary file, divided into slots of one chunk. It grows only by what really arrived, its slots are used
again, and it is emptied when nothing is left in it. A killed process leaves nothing behind.
"""

import io
import os
import tempfile
import threading
from typing import IO, List, Optional, Sequence, Tuple

from orchestrator.errors import WireError
from orchestrator.wire.frames import CHUNK_BYTES

Piece = Tuple[int, int]
"""(slot, bytes in it) of one stored piece; at most CHUNK_BYTES."""


def _folder() -> str:
    """/var/tmp lies on a disk where /tmp may lie in memory."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()


class Spill:
    """A temporary file for pieces of at most CHUNK_BYTES. Safe to use from several threads."""

    def __init__(self, folder: Optional[str] = None, most_bytes: Optional[int] = None) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._file: Optional[IO[bytes]] = None
        self._free: List[int] = []
        self._slots = 0
        self._lock = threading.Lock()

    def put(self, data: "bytes | memoryview") -> Piece:
        """Stores a piece; WireError when the disk, or `most_bytes`, has no room for it."""
        with self._lock:
            if self._most_bytes is not None and not self._free and (self._slots + 1) * CHUNK_BYTES > self._most_bytes:
                raise WireError(f"{self._most_bytes >> 20} MiB of messages wait on disk already")
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(dir=self._folder or _folder(), prefix="edgeward-")  # noqa: SIM115
                slot = self._free[-1] if self._free else self._slots
                written = os.pwrite(self._file.fileno(), data, slot * CHUNK_BYTES)
            except OSError as error:
                raise WireError(f"cannot keep a part of a message in {self._folder or _folder()}: {error}") from error
            if written != len(data):
                raise WireError(f"the disk of {self._folder or _folder()} is full")
            if self._free:
                self._free.pop()
            else:
                self._slots += 1
            return slot, len(data)

    def read(self, pieces: Sequence[Piece]) -> bytes:
        """The pieces in this order as one string; they stay stored."""
        assert self._file is not None
        joined = io.BytesIO()  # getvalue() of one that nobody else holds makes no copy
        whole = sum(size for _, size in pieces)
        if whole:
            joined.seek(whole - 1)
            joined.write(b"\0")  # as much memory as is needed, at once: growing piece by piece takes more
            joined.seek(0)
        for slot, size in pieces:
            joined.write(os.pread(self._file.fileno(), size, slot * CHUNK_BYTES))
        return joined.getvalue()

    def free(self, pieces: Sequence[Piece]) -> None:
        with self._lock:
            self._free.extend(slot for slot, _ in pieces)
            if self._file is not None and self._slots and len(self._free) == self._slots:
                os.ftruncate(self._file.fileno(), 0)
                self._free, self._slots = [], 0

    def held_bytes(self) -> int:
        """Disk in use for pieces that were not freed, at most."""
        with self._lock:
            return (self._slots - len(self._free)) * CHUNK_BYTES
