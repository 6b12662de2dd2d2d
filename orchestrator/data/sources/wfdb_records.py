"""WFDB records (physionet.org: header, signal and annotation files) cut into windows, where the package wfdb is installed.

Values are in the physical units of the header. Of channels, units and sampling rate nothing is guessed.
"""

import logging
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.data.cells import shown
from orchestrator.data.sources.base import OptionError, Signals, Wanted, Windows
from orchestrator.errors import DataError
from orchestrator.wire.bounds import count, near, one_of, positive, refuse

milestones = logging.getLogger("edgeward.data.milestones")

INVALID = ("refuse", "leave out")
_RECORD = re.compile(r"(?:(?!\.)[\w.-]+/)*(?!\.)[\w.-]+", re.ASCII)
_MOST_STEP = 1 << 30


@dataclass(frozen=True)
class Wfdb:
    """`[source]` of kind "wfdb"."""

    folder: str  # with the records [text]
    channels: Tuple[str, ...]  # by their names in the header, in the order of the task's [one or more texts]
    units: Tuple[str, ...]  # of each channel; any other in a header is an error [such as "mV"]
    rate: float  # samples a second; any other in a header is an error [Hz]
    # names, without an ending; left out, those that the folder's file RECORDS lists [texts]
    records: Tuple[str, ...] = ()
    step: int = 0  # from one window to the next; 0: they follow each other [samples]
    labels: Dict[str, str] = field(default_factory=dict)  # record = label of all its windows [texts]
    # one window round each annotation of RECORD.ANNOTATOR, in place of consecutive ones [such as "atr"]
    annotator: str = ""
    symbols: Dict[str, str] = field(default_factory=dict)  # symbol of an annotation = label [texts]
    leave_out: Tuple[str, ...] = ()  # symbols without a window; any that is in neither is an error [such as "+", "~"]
    before: Optional[int] = None  # of a window, ahead of its annotation; left out, half of it [samples]
    patients: Dict[str, str] = field(default_factory=dict)  # record = whose it is; left out, its name [texts]
    invalid: str = "refuse"  # windows in which a converter gave no value [refuse, leave out]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        if not self.folder:
            yield "folder: empty; it names the folder with the records"
        if not self.channels or len(set(self.channels)) != len(self.channels):
            yield "channels: one or more names are expected, each once"
        if len(self.units) != len(self.channels):
            yield f"units: {len(self.units)} for {len(self.channels)} channels; each has its own"
        yield from positive("rate", self.rate)
        yield from (f"records: {name!r} is no name of a record" for name in self.records if not _RECORD.fullmatch(name))
        repeated = sorted({name for name in self.records if self.records.count(name) > 1})
        yield from (f"records: {name!r} occurs twice" for name in repeated)
        yield from count("step", self.step, 0, _MOST_STEP)
        yield from one_of("invalid", self.invalid, INVALID)
        if self.annotator:
            yield from self._annotated()
        elif self.symbols or self.leave_out or self.before is not None:
            yield "symbols, leave_out and before: belong to an `annotator`"

    def _annotated(self) -> Iterator[str]:
        if not re.fullmatch(r"\w+", self.annotator, re.ASCII):
            yield f"annotator {self.annotator!r}: expected the ending of annotation files, such as atr"
        if not self.symbols:
            yield 'symbols: those that get a window, each with its label, such as { N = "normal" }'
        if self.labels or self.step:
            yield "labels and step: are for consecutive windows, without an `annotator`"
        yield from (f"leave_out: {each!r} is in symbols too" for each in self.leave_out if each in self.symbols)
        if self.before is not None:
            yield from count("before", self.before, 0, _MOST_STEP)


class _Cut(NamedTuple):
    """Where the windows of a record begin, and their labels; labels is None where there are none."""

    starts: List[int]
    labels: Optional[List[str]]


def _windows(asked: Wfdb, folder: Path, wanted: Wanted) -> Windows:
    if len(asked.channels) != wanted.channels:
        raise OptionError(f"channels: {len(asked.channels)}, and the task's signals have {wanted.channels}")
    if asked.before is not None and asked.before >= wanted.samples:
        raise OptionError(f"before: {asked.before} of {wanted.samples} samples; the annotation is in its window")
    if wanted.labelled and not asked.annotator and not asked.labels:
        raise OptionError("labels: missing; record = label says what each record is, or `annotator` and `symbols`")
    place = folder / asked.folder
    names = _names(asked, place)
    for key, named in (("labels", asked.labels), ("patients", asked.patients)):
        strangers = [name for name in named if name not in names]
        if strangers:
            raise OptionError(f"{key}: no record {strangers[0]!r}{near(strangers[0], names)}")
    found: List[np.ndarray] = []
    labels: List[str] = []
    patients: List[str] = []
    left_out: Counter[str] = Counter()
    for record in names:
        cut, signal = _record(asked, place, record, wanted, left_out)
        if len(patients) + len(cut.starts) > wanted.most:
            raise DataError(f"{place / record}.hea: more than {wanted.most} windows, as many as a node reads")
        for number, start in enumerate(cut.starts):
            window = signal[start : start + wanted.samples]
            if not np.isfinite(window).all():
                if asked.invalid == "refuse":
                    raise DataError(_no_value(asked, place / f"{record}.hea", window, start))
                left_out["windows in which a channel has no value"] += 1
                continue
            found.append(window.astype(np.float32))
            labels.append(cut.labels[number] if cut.labels is not None else "")
            patients.append(asked.patients.get(record, record))
    for what, many in sorted(left_out.items()):
        milestones.info("%s: left out: %d %s", place, many, what)
    x = np.array(found, np.float32).reshape(len(found), wanted.samples, wanted.channels)
    return Windows(x, labels if asked.annotator or asked.labels else None, patients)


def _names(asked: Wfdb, place: Path) -> List[str]:
    if asked.records:
        return list(asked.records)
    path = place / "RECORDS"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it lists records, or `records` does") from error
    names: List[str] = []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if name and (not _RECORD.fullmatch(name) or name in names):
            why = "is there twice" if name in names else "is no name of a record"
            raise DataError(f"{path}:{number}: {shown(name)} {why}")
        names += [name] if name else []
    if not names:
        raise DataError(f"{path}: names no record")
    return names


def _record(asked: Wfdb, place: Path, record: str, wanted: Wanted, left_out: "Counter[str]") -> Tuple[_Cut, np.ndarray]:
    """Where the windows of a record are, and its signal: float64 (length, channels), in physical units."""
    import wfdb

    path = place / f"{record}.hea"
    if not path.is_file():
        raise DataError(f"{path}: no such file; record {record!r} has a header of that name")
    with _said_of(path):
        said = wfdb.rdheader(str(place / record))
        chosen = _chosen(asked, path, said)
        length = said.sig_len
        if not isinstance(length, int) or not 0 < length <= wanted.most * wanted.samples:
            raise DataError(f"{path}:1: {length} samples a channel; a node reads 1 to {wanted.most * wanted.samples}")
    cut = _cut(asked, place, record, wanted, length, left_out)
    with _said_of(path):
        found = wfdb.rdrecord(str(place / record), channels=chosen)
    if found.p_signal is None or found.p_signal.shape != (length, len(chosen)):
        raise DataError(f"{path}: its signal is not {length} samples of {len(chosen)} channels, as it says")
    return cut, found.p_signal


def _chosen(asked: Wfdb, path: Path, header: Any) -> List[int]:
    """The indices of the channels; DataError where one is not what is declared."""
    if getattr(header, "n_seg", None):
        raise DataError(f"{path}:1: a record of several segments, which are not joined; name the segments as records")
    if header.fs != asked.rate:
        raise DataError(f"{path}:1: {header.fs:g} Hz, expected {asked.rate:g}; resample it, or leave the record out")
    lines, names = _signal_lines(path), list(header.sig_name or [])
    chosen = []
    for channel, unit in zip(asked.channels, asked.units):
        if names.count(channel) != 1:
            has = ", ".join(str(each) for each in names)
            why = "twice; which one is meant?" if channel in names else f"not there{near(channel, names)}; it has {has}"
            raise DataError(f"{path}: channel {channel!r} is {why}")
        place = names.index(channel)
        number, cells = lines[place]
        where = f"{path}:{number}: channel {channel!r}"
        if len(cells) < 3 or not float(re.split(r"[(/]", cells[2])[0]):
            raise DataError(f"{where} has no gain: it was not calibrated, and its physical values are unknown")
        if header.units[place] != unit:
            raise DataError(
                f"{where} is in {shown(header.units[place])}, expected {unit!r}; correct `units` if all records have it, or "
                "leave the record out"
            )
        if header.samps_per_frame[place] != 1:
            raise DataError(f"{where} has {header.samps_per_frame[place]} samples a frame, so its rate is another one")
        if not _RECORD.fullmatch(header.file_name[place]) or not (path.parent / header.file_name[place]).is_file():
            raise DataError(f"{where}: its signal is in {shown(header.file_name[place])}, and no such file is there")
        chosen.append(place)
    return chosen


def _signal_lines(path: Path) -> List[Tuple[int, List[str]]]:
    """(number of the line, its words) of each channel: the lines after the first one that are neither empty nor comments."""
    lines = path.read_bytes().decode("ascii", "ignore").splitlines()
    said = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"]
    return said[1:]


def _cut(asked: Wfdb, place: Path, record: str, wanted: Wanted, length: int, left_out: "Counter[str]") -> _Cut:
    if asked.annotator:
        return _beats(asked, place / record, wanted, length, left_out)
    if asked.labels and record not in asked.labels:
        raise OptionError(f"labels: record {record!r} has none")
    starts = list(range(0, length - wanted.samples + 1, asked.step or wanted.samples))
    return _Cut(starts, [asked.labels[record]] * len(starts) if asked.labels else None)


def _beats(asked: Wfdb, record: Path, wanted: Wanted, length: int, left_out: "Counter[str]") -> _Cut:
    import wfdb

    path = Path(f"{record}.{asked.annotator}")
    if not path.is_file():
        raise DataError(f"{path}: no such file; `annotator` is the ending of annotation files")
    with _said_of(path):
        found = wfdb.rdann(str(record), asked.annotator)
        places = list(zip(found.sample.tolist(), found.symbol))
    unknown = Counter(symbol for _, symbol in places if symbol not in asked.symbols and symbol not in asked.leave_out)
    if unknown:
        listed = ", ".join(f"{symbol!r} {many} times" for symbol, many in unknown.most_common(12))
        raise DataError(f"{path}: symbols that are not declared: {listed}; add each to symbols or to leave_out")
    before = wanted.samples // 2 if asked.before is None else asked.before
    starts: List[int] = []
    labels: List[str] = []
    for sample, symbol in places:
        start = sample - before
        if symbol in asked.leave_out:
            left_out[f"annotations {symbol!r}"] += 1
        elif not 0 <= start <= length - wanted.samples:
            left_out["windows beyond an end of their record"] += 1
        else:
            starts.append(start)
            labels.append(asked.symbols[symbol])
    return _Cut(starts, labels)


def _no_value(asked: Wfdb, path: Path, window: np.ndarray, start: int) -> str:
    sample, channel = np.argwhere(~np.isfinite(window))[0]
    return (
        f'{path}: channel {asked.channels[channel]!r} has no value at sample {start + sample}; invalid = "leave out" leaves '
        "out such windows"
    )


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """Whatever the package finds wrong is said of the file."""
    try:
        yield
    except (DataError, OptionError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path}: not read as a WFDB file: {str(error)[:200] or type(error).__name__}") from error


WFDB = Signals(Wfdb, _windows, "wfdb", "signals", files=("folder",))
