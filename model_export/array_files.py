"""Reads .npy and .npz files that anybody may have made. Python 3.8 and numpy only: nodes read their signals with it."""

import contextlib
import errno
import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List

import numpy as np

from model_export.errors import ArrayFileError

_MAGIC = b"\x93NUMPY"
_ARCHIVES = b"PK"
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, OverflowError, RuntimeError, NotImplementedError, SyntaxError, RecursionError),
    *(EOFError, OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)
"""What numpy and zipfile raise, depending on which bytes are damaged; NotImplementedError: an unknown compression."""


class Archive:
    """The arrays of an .npz file; one is read when it is asked for."""

    def __init__(self, archive: Any) -> None:
        self._archive = archive
        self.names: List[str] = list(archive.files)

    def __getitem__(self, name: str) -> np.ndarray:
        """One of `names`. Raises ArrayFileError for what is no array, or damaged."""
        with _named_errors(f"array {name!r}: "):
            array = self._archive[name]
        if not isinstance(array, np.ndarray):
            raise ArrayFileError(f"{name!r} in it is no array; numpy.savez writes arrays")
        return array


@contextlib.contextmanager
def open_archive(file: BinaryIO) -> Iterator[Archive]:
    """Raises ArrayFileError, which does not name the file, for what is no .npz file."""
    with _named_errors(""):
        archive: Any = np.load(file, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ArrayFileError("a single array; numpy.savez writes several, with their names")
    with archive:
        yield Archive(archive)


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy file. Raises ArrayFileError, which names the file."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
            file.seek(0)
            if head.startswith(_ARCHIVES):
                raise ArrayFileError("holds several arrays; accepted is a .npy file with one")
            if head != _MAGIC:
                raise ArrayFileError("is no .npy file, which numpy.save writes")
            with _named_errors("is no readable .npy file: "):
                return np.asarray(np.load(file, allow_pickle=False))
    except FileNotFoundError as error:
        raise ArrayFileError(f"{path}: there is no such file") from error
    except OSError as error:
        raise ArrayFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ArrayFileError as error:
        raise ArrayFileError(f"{path}: {error}") from error


@contextlib.contextmanager
def _named_errors(what: str) -> Iterator[None]:
    """Whatever is wrong with the bytes becomes an ArrayFileError. what: the part that is read, with what stands after it."""
    try:
        yield
    except MemoryError as error:
        raise ArrayFileError(f"{what}says that it is larger than this machine's memory; is it damaged?") from error
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno not in (
            None,
            errno.EINVAL,
        ):  # of the disk; EINVAL: bytes that lead nowhere
            raise
        if "Object arrays" in str(error):
            reason = "holds Python objects; save numbers or texts, such as array.astype(float) or array.astype(str)"
        else:
            said = getattr(error, "strerror", None) or (error.args[0] if error.args else type(error).__name__)
            reason = f"damaged, or not as numpy writes it: {said}; write it again with numpy.save or numpy.savez"
        raise ArrayFileError(f"{what}{reason}") from error
