"""Files that are written whole or not at all."""

import errno
import fcntl
import os
import secrets
import shutil
import signal
import threading
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
def new_file(path: Path, mode: Optional[int] = None, replaces: bool = False) -> Iterator[Path]:
    """A file beside `path`, to be written by its name, which ends as that one does; in the end it is renamed.

    Where the writing fails nothing is left of it, so that the same command can be given again. An OSError names `path`;
    FileExistsError where there is a file of that name by then, unless that `replaces` it: the one that a link leads to, and
    with its rights unless `mode` says others.
    """
    place = Path(os.path.realpath(str(path))) if replaces else path
    fresh = place.with_name(f".{place.stem}.{secrets.token_hex(4)}{place.suffix}")
    try:
        before = place.stat().st_mode & 0o777 if mode is None and replaces and place.exists() else None
        rights = mode if mode is not None else 0o666 if before is None else before & 0o600
        os.close(os.open(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights))
        try:
            with _ended_in_order():
                yield fresh
            if before is not None:
                fresh.chmod(before)
            sync_path(fresh)
            if replaces:
                os.replace(str(fresh), str(place))
            else:
                _rename_new(fresh, place)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        sync_path(place.parent)
    except OSError as error:
        if error.filename in (None, str(fresh), str(place)):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP, which would end the process at once, end it as an exception does: what is half written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    caught = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def _rename_new(fresh: Path, path: Path) -> None:
    """FileExistsError where something has the name, also if another program gave it that in this moment."""
    try:
        os.link(str(fresh), str(path))
    except OSError:  # it is there, or the file system has no second names
        if os.path.lexists(str(path)):
            raise FileExistsError(errno.EEXIST, "it exists, and is not overwritten", str(path)) from None
        os.replace(str(fresh), str(path))
    else:
        fresh.unlink()


@contextmanager
def whole_folder(folder: Path) -> Iterator[None]:
    """Where the block fails, the files it made in a folder are removed, and the folder if it made that: nothing is in the way of
    the next try. Of commands for one folder each waits for the one before: it would take that one's files for its own.
    """
    with _by_itself(folder.parent):
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


@contextmanager
def _by_itself(folder: Path) -> Iterator[None]:
    """One block at a time, of all processes, below a folder that is made where it lacks and may be read."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(str(folder), os.O_RDONLY)
    except OSError:  # what is wrong with it is said of the files
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
