"""Who opens a file: the kernel's own count (inotify), whatever the process that opens it says."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

_ACCESS, _OPEN = 0x1, 0x20
_EVENT_BYTES = 16


class OpenWatch:
    """Counts openings of one file from now on. A file put in its place later is another file: watch that one."""

    def __init__(self, path: Path) -> None:
        if not sys.platform.startswith("linux"):
            pytest.skip("inotify is Linux's")
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(path), _OPEN | _ACCESS) < 0:
            raise OSError(ctypes.get_errno(), f"inotify cannot watch {path}")
        self._opened = 0

    @property
    def opened(self) -> int:
        """How often the file was opened so far."""
        while True:
            try:
                events = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return self._opened
            masks = (
                int.from_bytes(events[at + 4 : at + 8], sys.byteorder) for at in range(0, len(events), _EVENT_BYTES)
            )
            self._opened += sum(1 for mask in masks if mask & _OPEN)

    def __enter__(self) -> "OpenWatch":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
