"""Pipes, sockets and devices in the place of a file: to read a pipe that nobody writes to, or /dev/zero, never ends."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_GIVEN_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/", "/dev/null")
"""What a shell hands over (`<(command)`), which somebody writes to and closes; and what is empty."""

NO_FILE = "a pipe, a socket or a device, which may never end; name a file"


def is_special(name: str) -> bool:
    """Whether there is something by this name that is neither a file nor a folder. Raises OSError where nothing is there."""
    mode = os.stat(name).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and not name.startswith(_GIVEN_OPEN)


def open_file(path: Path) -> BinaryIO:
    """To be read. Raises OSError where it is not a file, too, with NO_FILE as its `strerror`: opening a pipe may never end."""
    if is_special(str(path)):
        raise OSError(errno.ENXIO, NO_FILE, str(path))
    return path.open("rb")


def read_file(path: Path) -> bytes:
    """Its bytes; raises as `open_file`."""
    with open_file(path) as file:
        return file.read()
