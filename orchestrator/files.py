"""Files that are written whole or not at all."""

import os
import secrets
from pathlib import Path
from typing import Optional

from orchestrator.errors import writing


def replace_file(path: Path, content: bytes, mode: Optional[int] = None) -> None:
    """Writes a file such that a reader, and a start after a power cut, finds the old one or the new one.

    mode: the file's rights; None: those it had, for a new file what the umask leaves. An OSError names `path`.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path):
        descriptor = os.open(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if mode is None and path.exists():
                fresh.chmod(path.stat().st_mode & 0o7777)
            os.replace(str(fresh), str(path))
        except BaseException:
            fresh.unlink(missing_ok=True)  # it may have its name by now
            raise
        sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Waits until a file, or which files a folder has, is on the disk."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
