"""Files of models and rows as the command line reads them: what is wrong with one names it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Type

from orchestrator.errors import EdgewardError, GivenError, UsageError
from orchestrator.wire.toml_file import read_toml

if TYPE_CHECKING:
    import numpy as np


def load_rows(path: Path) -> np.ndarray:
    """One array from a .npy file. Raises EdgewardError if it is missing, no .npy file, or holds Python objects."""
    from model_export.array_files import read_array

    with naming(path):
        return read_array(path)


def load_numbers(path: Path) -> np.ndarray:
    """Rows of a .npy file that are int8, or floats that float32 holds. Raises UsageError naming what else they are."""
    import numpy as np

    from model_export.errors import RowsError
    from model_export.given_rows import check_numbers

    given = load_rows(path)
    accepted = "int8, or floats in the model's units"
    with naming(path):
        if given.ndim < 2 or not len(given):
            raise RowsError(f"the rows have shape {given.shape}; accepted is (rows, ...), with one row or more")
        if given.dtype == np.int8:
            return given
        if given.dtype.kind != "f":
            raise RowsError(f"the rows are {given.dtype}; accepted are {accepted}")
        return check_numbers(given, "the rows hold", accepted)


def read_audio(said: Optional[str]) -> Optional[Dict[str, Any]]:
    """Of --audio: what a bundle is to say of sound. UsageError for a file that says something else."""
    from model_export.audio.hearing import read_hearing
    from model_export.audio.kinds import PRESETS
    from model_export.errors import AudioError

    if said is None or said in PRESETS:
        return None if said is None else PRESETS[said]
    declared = read_toml(Path(said))[0]
    try:
        read_hearing(declared)
    except AudioError as error:
        raise UsageError(f"{said}: {error}") from error
    return declared


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise GivenError(f"{path}: there is no such file or folder") from error
    except OSError as error:
        raise GivenError(f"{path}: cannot be read: {error.strerror}") from error


def read_model(path: Path) -> bytes:
    """A .tflite with int8 edges; a line on stderr where they were float32 or uint8."""
    from model_export.edges import fold_edges

    folded = fold_edges(read_file(path))
    if folded.edges:
        say = f"note: {' and '.join(folded.edges)}: int8 here, by the model's own scales"
        print(f"{path}: {say}", file=sys.stderr)
    return folded.tflite


def quantized_rows(given: np.ndarray, info: Dict[str, Any], path: Path) -> np.ndarray:
    """Checked rows of a file as int8 for the model a board's `info` is of; UsageError for those of another size."""
    import numpy as np

    if given.ndim < 2 or int(np.prod(given.shape[1:])) != info["input_bytes"]:
        raise GivenError(f"{path}: shape {given.shape}; the board's model takes rows of {info['input_bytes']} values")
    if given.dtype == np.int8:
        return given
    scaled = np.rint(given.astype(np.float32) / np.float32(info["input_scale"])) + info["input_zero_point"]
    return np.clip(scaled, -128, 127).astype(np.int8)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give model_export's errors the file they are about, and the type the command line reports."""
    from model_export.errors import ExportError, GradientMismatchError, ModelFileError, RowsError, WorkerError

    try:
        yield
    except ExportError as error:
        text = str(error)
        kind: Type[EdgewardError] = GivenError
        if isinstance(error, (GradientMismatchError, WorkerError)):
            kind = EdgewardError
        elif isinstance(error, (ModelFileError, RowsError)):
            kind = UsageError
        named = text.startswith((str(path), str(path.resolve())))
        raise kind(text if named else f"{path}: {text}") from error


def read_model_bin(path: Path) -> bytes:
    """The bytes of a bundle's model.bin, or of the file itself; checked."""
    from model_export.errors import ExportError
    from model_export.model_bin import model_bin_of, parse_model_bin

    try:
        file = model_bin_of(path)
    except ExportError as error:
        raise GivenError(str(error)) from error
    try:
        blob = file.read_bytes()
        parse_model_bin(blob)
    except OSError as error:
        raise GivenError(f"{file}: {error.strerror}") from error
    except ExportError as error:
        raise GivenError(f"{file}: {error}") from error
    return blob
