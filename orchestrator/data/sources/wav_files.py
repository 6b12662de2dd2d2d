"""WAV files of whole numbers (PCM, 16 bits), as `edgeward board record` and recorders write them, cut into windows.

Of rate, channels and scale nothing is guessed. A file counts as continuous: what has a gap is several files.
"""

import re
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import numpy as np

from orchestrator.data.cells import shown
from orchestrator.data.sources.base import OptionError, Signals, Wanted, Windows
from orchestrator.errors import DataError
from orchestrator.wire.bounds import count, near, refuse, within
from orchestrator.wire.special_files import open_file

NAME = re.compile(r"(?!\.)[\w.-]+", re.ASCII)
"""What a file is called."""
_FILE = re.compile(f"(?:{NAME.pattern}/)*{NAME.pattern}", re.ASCII)
_MOST_STEP = 1 << 30
_BYTES = 2


@dataclass(frozen=True)
class Wav:
    """`[source]` of kind "wav"."""

    folder: str  # with the files [text]
    rate: int  # samples a second; any other in a file is an error [Hz]
    labels: Dict[str, str] = field(default_factory=dict)  # file = label of all its windows [texts]
    files: Tuple[str, ...] = ()  # names; left out, those of `labels` [texts]
    # what their numbers are divided by, to be in the units that the task's `unit_scale` is for [other than 0, up to 1e30]
    divide_by: float = 1.0
    step: int = 0  # from one window to the next; 0: they follow each other [samples]
    patients: Dict[str, str] = field(default_factory=dict)  # file = whose it is; left out, its name [texts]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    @property
    def names(self) -> Tuple[str, ...]:
        return self.files or tuple(self.labels)

    def _wrong(self) -> Iterator[str]:
        if not self.folder:
            yield "folder: empty; it names the folder with the files"
        if not self.names:
            yield "files: none; they are named here, or by labels"
        yield from count("rate", self.rate, 1, 1 << 30)
        yield from count("step", self.step, 0, _MOST_STEP)
        yield from within("divide_by", abs(self.divide_by), 1e-30, 1e30, "a number other than 0, up to 1e30")
        yield from (f"files: {name!r} is no name of a file" for name in self.names if not _FILE.fullmatch(name))
        repeated = sorted({name for name in self.files if self.files.count(name) > 1})
        yield from (f"files: {name!r} occurs twice" for name in repeated)
        for key, named in (("labels", self.labels), ("patients", self.patients)):
            strangers = [name for name in named if name not in self.names]
            yield from (f"{key}: no file {name!r}{near(name, self.names)}" for name in strangers)


def _windows(asked: Wav, folder: Path, wanted: Wanted) -> Windows:
    if wanted.labelled and not asked.labels:
        raise OptionError("labels: missing; file = label says what each file is")
    found: List[np.ndarray] = []
    windows = 0
    labels: List[str] = []
    patients: List[str] = []
    for name in asked.names:
        if asked.labels and name not in asked.labels:
            raise OptionError(f"labels: file {name!r} has none")
        path = folder / asked.folder / name
        signal = _signal(asked, path, wanted)
        cut = _cut(signal, wanted.samples, asked.step or wanted.samples)
        windows += len(cut)
        if windows > wanted.most:
            raise DataError(f"{path}: more than {wanted.most} windows, as many as a node reads")
        found.append(
            cut.copy() if asked.step > wanted.samples else cut
        )  # a view holds also what lies between its windows
        labels += [asked.labels.get(name, "")] * len(cut)
        patients += [asked.patients.get(name, name)] * len(cut)
    x = np.concatenate(found).astype(np.float32)
    x /= np.float32(asked.divide_by)
    return Windows(x, labels if asked.labels else None, patients)


def _cut(signal: np.ndarray, samples: int, step: int) -> np.ndarray:
    """int16 (windows, samples, channels): a view, since windows may overlap and an object for each is larger than a short one."""
    windows = max(0, (len(signal) - samples) // step + 1)
    row, column = signal.strides
    shape = (windows, samples, signal.shape[1])
    return np.lib.stride_tricks.as_strided(signal, shape, (step * row, row, column), writeable=False)


def _signal(asked: Wav, path: Path, wanted: Wanted) -> np.ndarray:
    """int16 (samples, channels) of a file; DataError where it is not what is declared."""
    try:
        with open_file(path) as file, wave.open(file, "rb") as sound:
            rate, channels, width, length = (
                sound.getframerate(),
                sound.getnchannels(),
                sound.getsampwidth(),
                sound.getnframes(),
            )
            if rate != asked.rate:
                raise DataError(f"{path}: {rate} Hz, expected {asked.rate}; resample it, or leave the file out")
            if channels != wanted.channels:
                raise DataError(f"{path}: {channels} channels, and the task's signals have {wanted.channels}")
            if width != _BYTES:
                raise DataError(f"{path}: {8 * width} bits a value, expected 16; save it as PCM of 16 bits")
            if length > wanted.most * wanted.samples:
                raise DataError(
                    f"{path}: {length} samples a channel; a node reads up to {wanted.most * wanted.samples}"
                )
            held = sound.readframes(length)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk is longer than the file says it is
        raise DataError(f"{path}: not read as a WAV file: {shown(str(error) or 'it ends too early')}") from error
    if len(held) != length * channels * _BYTES:
        raise DataError(
            f"{path}: ends after {len(held) // (channels * _BYTES)} of the {length} samples it says; is it cut off?"
        )
    return np.frombuffer(held, "<i2").reshape(length, channels)


WAV = Signals(Wav, _windows, files=("folder",))
