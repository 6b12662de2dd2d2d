"""Files of models and rows as the command line reads them: what is wrong with one names it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional

from orchestrator.errors import EdgewardError, UsageError
from orchestrator.wire.toml_file import read_toml

if TYPE_CHECKING:
    import numpy as np


def load_rows(path: Path) -> np.ndarray:
    """One array from a .npy file. Raises EdgewardError if it is missing, no .npy file, or holds Python objects."""
    from model_export.array_files import read_array

    with naming(path):
        return read_array(path)


MICRO_WAKE_WORD = "micro-wake-word"


def read_audio(said: Optional[str]) -> Optional[Dict[str, Any]]:
    """Of --audio: what a bundle is to say of sound. UsageError for a file that says something else."""
    from model_export.audio.hearing import read_hearing
    from model_export.errors import AudioError

    if said is None or said == MICRO_WAKE_WORD:
        return None if said is None else {}
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
        raise EdgewardError(f"{path}: there is no such file or folder") from error
    except OSError as error:
        raise EdgewardError(f"{path}: cannot be read: {error.strerror}") from error


def read_model(path: Path) -> bytes:
    """A .tflite with int8 edges; a line on stderr where they were float32 or uint8."""
    from model_export.edges import fold_edges

    folded = fold_edges(read_file(path))
    if folded.edges:
        say = f"note: {' and '.join(folded.edges)}: int8 here, by the model's own scales"
        print(f"{path}: {say}", file=sys.stderr)
    return folded.tflite


def quantized_rows(given: np.ndarray, info: Dict[str, Any], path: Path) -> np.ndarray:
    """Rows of a file as int8 for the model a board's `info` is of; EdgewardError for what it cannot be given."""
    import numpy as np

    if given.ndim < 2 or int(np.prod(given.shape[1:])) != info["input_bytes"]:
        raise EdgewardError(
            f"{path}: shape {given.shape}; the board's model takes rows of {info['input_bytes']} values"
        )
    if given.dtype == np.int8:
        return given
    if given.dtype.kind != "f":
        raise EdgewardError(f"{path}: {given.dtype}; accepted are int8, and floats in the model's units")
    if not np.isfinite(given).all():
        bad = int(np.argwhere(~np.isfinite(given))[0][0])
        raise EdgewardError(f"{path}: row {bad} holds NaN or infinity; every value must be a finite number")
    scaled = np.rint(given.astype(np.float32) / np.float32(info["input_scale"])) + info["input_zero_point"]
    return np.clip(scaled, -128, 127).astype(np.int8)


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
