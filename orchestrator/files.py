"""Files that are written whole or not at all."""

import errno
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, Mapping, Optional

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


@contextmanager
def new_file(path: Path, mode: int = 0o666, replaces: bool = False) -> Iterator[Path]:
    """A file beside `path`, to be written by its name, which ends as that one does; in the end it is renamed.

    Where the writing fails nothing is left of it, so that the same command can be given again. An OSError names `path`;
    FileExistsError where there is a file of that name by then, unless that `replaces` it.
    """
    fresh = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        os.close(os.open(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        try:
            yield fresh
            sync_path(fresh)
            if not replaces and os.path.lexists(str(path)):
                raise FileExistsError(errno.EEXIST, "it exists, and is not overwritten", str(path))
            os.replace(str(fresh), str(path))
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        sync_path(path.parent)
    except OSError as error:
        if error.filename in (None, str(fresh)):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def whole_folder(folder: Path) -> Iterator[None]:
    """Where the block fails, the files it made in a folder are removed, and the folder if it made that: nothing is in the way of
    the next try.
    """
    before = set(folder.iterdir()) if folder.is_dir() else None
    try:
        yield
    except BaseException:
        for path in set(folder.iterdir()) - (before or set()) if folder.is_dir() else ():
            if not path.is_dir():
                path.unlink()
        if before is None:
            with suppress(OSError):  # there may be folders in it
                folder.rmdir()
        raise


def new_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder with these files, by their paths in it, such that it is there with all of them or not at all.

    FileExistsError where there is something of that name, but for an empty folder. An OSError names `folder`.
    """
    empty = folder.is_dir() and not any(folder.iterdir())
    if not empty and os.path.lexists(str(folder)):
        raise FileExistsError(errno.EEXIST, "it exists, and is not overwritten", str(folder))
    if not empty:
        folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = f".{folder.name[:40]}.{secrets.token_hex(4)}"
    fresh = folder / hidden if empty else folder.with_name(hidden)  # an empty folder may be a disk of its own
    try:
        fresh.mkdir()
        for path, content in files.items():
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).write_bytes(content)
            sync_path(fresh / path)
        if empty:
            _move_up(fresh, folder)
        else:
            fresh.rename(folder)
    except OSError as error:
        error.filename, error.filename2 = str(folder), None
        raise
    finally:
        shutil.rmtree(str(fresh), ignore_errors=True)
    sync_path(folder if empty else folder.parent)


def _move_up(fresh: Path, folder: Path) -> None:
    """All of a folder's content into the one it is in, or none of it."""
    moved = []
    try:
        for path in sorted(fresh.iterdir()):
            path.rename(folder / path.name)
            moved.append(path)
    except BaseException:
        for path in moved:
            (folder / path.name).rename(path)
        raise


def sync_path(path: Path) -> None:
    """Waits until a file, or which files a folder has, is on the disk."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
