"""Keeps what a node writes to the user it runs as: its state quotes and derives from private data."""

import os
import stat
from pathlib import Path
from typing import Optional

OTHERS = 0o077
"""Rights of the group and of everybody."""


def keep_private(log_file: Optional[Path]) -> None:
    """To be called before anything is written. A log file that others can read becomes the owner's alone, too."""
    os.umask(OTHERS)
    if log_file is not None and log_file.is_file():
        _close(log_file)


def private_state(folder: Path) -> Path:
    """The state folder, created if missing, with rights for its owner alone. UsageError where it cannot have them.

    A folder that others may write files to, such as /tmp, is no place for it.
    """
    from orchestrator.errors import UsageError

    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_mode & stat.S_ISVTX:
        raise UsageError(
            f"--state {folder}: a folder for everybody's files; name one of its own, such as {folder / 'node'}"
        )
    _close(folder)
    return folder


def _close(path: Path) -> None:
    from orchestrator.errors import UsageError

    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & OTHERS:
        return
    try:
        os.chmod(str(path), mode & ~OTHERS)
    except OSError as error:
        raise UsageError(
            f"{path}: others on this machine can use it (mode {mode:04o}) and this user may not change that: chmod go= {path}"
        ) from error
