"""Files of models and rows as the command line reads them: what is wrong with one names it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from orchestrator.errors import EdgewardError, UsageError

if TYPE_CHECKING:
    import numpy as np


def load_rows(path: Path) -> np.ndarray:
    """One array from a .npy file. Raises EdgewardError if it is missing, no .npy file, or holds Python objects."""
    from model_export.array_files import read_array

    with naming(path):
        return read_array(path)


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise EdgewardError(f"{path}: there is no such file or folder") from error
    except OSError as error:
        raise EdgewardError(f"{path}: cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give model_export's errors the file they are about, and the type the command line reports."""
    from model_export.errors import ExportError, ModelFileError

    try:
        yield
    except ExportError as error:
        text, kind = str(error), UsageError if isinstance(error, ModelFileError) else EdgewardError
        named = text.startswith((str(path), str(path.resolve())))
        raise kind(text if named else f"{path}: {text}") from error
