"""A recording as a node reads it: windows in an .npz, or .wav files with the description that names them.

A window never spans a gap: windows are cut from each segment by itself, and every segment is a WAV file of its own.
"""

from __future__ import annotations

import io
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from orchestrator.boards.recording import Recording, Segment, Source
from orchestrator.data.cells import names_nobody, nobody
from orchestrator.data.dataset import INPUT
from orchestrator.data.outcome import codes_of
from orchestrator.data.problems import Problems
from orchestrator.data.sources.wav_files import NAME
from orchestrator.errors import UsageError
from orchestrator.files import replace_file
from orchestrator.wire.bounds import near, within
from orchestrator.wire.schema import Schema

NPZ, WAV, DESCRIPTION = ".npz", ".wav", ".toml"
NOTE = "recording"
"""The array of an .npz with what is said of the recording, as JSON. A WAV file has it as its comment (INFO, ICMT)."""

MOST_WAV_BYTES = 2**32 - 2**25
"""Of values in a WAV file, whose sizes have 32 bits; the rest is for the note."""

_OWNER = 0o600
_MOST_TEXT = 500


@dataclass(frozen=True)
class Purpose:
    """What a recording is for, and whose. UsageError for what the schema's nodes would refuse, or nobody consented to."""

    schema: Schema
    label: str
    """As files have it; empty where they have none."""
    patient: str
    consent: str
    """Who agreed to what."""
    counts_per_unit: float
    """Counts of the converter for 1 of what the model sees, as the board's stream has it."""
    unit: str = ""

    def __post_init__(self) -> None:
        for line in self._wrong():
            raise UsageError(line)

    def _wrong(self) -> Iterator[str]:
        schema = self.schema
        if not self.consent.strip():
            yield (
                "--consent TEXT is needed: raw samples may be a patient's, and the file says who agreed to what, such as "
                "--consent 'p7 agreed in writing on 2026-03-01 to recordings for study X'"
            )
        for name, text in (("--consent", self.consent), ("--patient", self.patient), ("--unit", self.unit)):
            if len(text) > _MOST_TEXT or not text.isprintable():
                yield f"{name}: expected a line of text, of at most {_MOST_TEXT} characters"
        if schema.kind != "signal":
            yield "the task's records are rows of a table, and a board records signals"
        if NOTE in (schema.label, schema.patient):
            yield f"the task calls an array {NOTE!r}, which is the name of the note in the file"
        if schema.patient and names_nobody(self.patient.strip()):
            yield f"--patient ID is needed, since the task has {schema.patient!r}: {nobody(self.patient.strip())}"
        if self.patient and not schema.patient:
            yield "--patient: the task's schema names no patient, so the file has no place for it"
        yield from within(
            "--counts-per-unit", abs(self.counts_per_unit), 1e-30, 1e30, "a number other than 0, up to 1e30"
        )
        yield from self._wrong_label()

    def _wrong_label(self) -> Iterator[str]:
        columns = [name for name in self.schema.learned.columns if name]
        if len(columns) > 1:
            yield f"the task's target takes {', '.join(columns)}: a recording has one label"
        elif not self.schema.labelled and self.label:
            yield "--label: the task's records have none"
        elif self.schema.labelled and self._code() < 0:
            known = tuple(self.schema.label_values)
            listed = f"one of {', '.join(known)}{near(self.label, known)}" if known else "what the task's target takes"
            yield f"--label {self.label!r}: expected {listed}"

    def _code(self) -> int:
        """Of the label; below 0 where the task has no such label."""
        return int(codes_of(self.schema, [np.array([self.label])], 1, Problems(Path("--label"), 1))[0])

    @property
    def scale(self) -> float:
        """What counts are divided by, to be in the units that the schema's unit_scale is for."""
        return self.counts_per_unit / self.schema.unit_scale


def check_wav(out: Path, source: Source) -> None:
    """Before anything is recorded: UsageError where `out` has a name that no description may have, or cannot hold it all."""
    if not NAME.fullmatch(out.name):
        raise UsageError(
            f"--out {out}: expected a name of the letters a-z and A-Z, digits, '.', '_' and '-', not beginning with '.': "
            "a node reads no other WAV files"
        )
    held = 2 * source.channels * source.samples
    if held > MOST_WAV_BYTES:
        raise UsageError(
            f"--out {out}: {held} bytes of samples, and a WAV file has up to {MOST_WAV_BYTES}: record less at once"
        )


def label_of(schema: Schema, given: str) -> str:
    """The label as files have it: also of a class's own name, where one value alone stands for that class."""
    values = [value for value, index in schema.label_values.items() if schema.classes[index] == given]
    return values[0] if given not in schema.label_values and len(values) == 1 else given


class Written(NamedTuple):
    files: List[Path]
    """The first is what a node is given as its data."""
    windows: int
    used: int
    """Samples that are in a file."""


def write(recording: Recording, purpose: Purpose, note: Dict[str, Any], out: Path, force: bool = False) -> Written:
    """Writes `out`, which ends with .npz or .wav, for its owner alone; a file that is there is kept, unless `force`.

    A name that was free when the recording began may be in use by now: then the file gets the next one, such as walk.2.npz.
    UsageError where no segment has a window.
    """
    samples = purpose.schema.samples
    used = [segment for segment in recording.segments if segment.length >= samples]
    whole = [segment.values() for segment in used]
    if not whole:
        raise UsageError(
            f"{out}: nothing is written: {recording.kept} samples came, and none of their {len(recording.segments)} pieces "
            f"without a gap has the {samples} of a window"
        )
    windows = sum(len(values) // samples for values in whole)
    if out.suffix == NPZ:
        path = _create(out, _npz(whole, purpose, note), force)
        return Written([path], windows, windows * samples)
    files = [
        _create(_numbered(out, number), wav_bytes(values, recording.source.rate_hz, _note_in(note, segment)), force)
        for number, (segment, values) in enumerate(zip(used, whole), 1)
    ]
    said = _description([path.name for path in files], recording.source.rate_hz, purpose)
    path = _create(out.with_suffix(DESCRIPTION), said.encode(), force)
    return Written([path, *files], windows, sum(map(len, whole)))


def _note_in(note: Dict[str, Any], segment: Segment) -> Dict[str, Any]:
    """The note in a segment's own file: with all segments in each, a line with many gaps would make files of notes."""
    return {**note, "segments": [(segment.first, segment.length)]}


def _npz(whole: List[np.ndarray], purpose: Purpose, note: Dict[str, Any]) -> bytes:
    """x: int16 counts where those are the schema's units, else float32."""
    schema = purpose.schema
    cut = [
        values[: len(values) // schema.samples * schema.samples].reshape(-1, *schema.input_shape) for values in whole
    ]
    x = np.concatenate(cut)
    if purpose.scale != 1.0:
        x = (x / np.float64(purpose.scale)).astype(np.float32)
    arrays = {INPUT: x[:, :, 0] if schema.channels == 1 else x, NOTE: np.array(json.dumps(note))}
    arrays.update({name: np.array([purpose.label] * len(x)) for name in schema.learned.columns if name})
    if schema.patient:
        arrays[schema.patient] = np.array([purpose.patient] * len(x))
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def wav_bytes(values: np.ndarray, rate_hz: int, note: Dict[str, Any]) -> bytes:
    """int16 (samples, channels) as PCM; IBM and Microsoft, Multimedia Programming Interface and Data Specifications 1.0, 1991."""
    channels = values.shape[1]
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, 2 * channels * rate_hz, 2 * channels, 16)
    comment = b"INFO" + _chunk(b"ICMT", json.dumps(note).encode() + b"\0")
    return _chunk(
        b"RIFF",
        b"WAVE" + _chunk(b"fmt ", form) + _chunk(b"LIST", comment) + _chunk(b"data", values.astype("<i2").tobytes()),
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _description(names: List[str], rate_hz: int, purpose: Purpose) -> str:
    def table(value: str) -> str:
        return "{ " + ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name in names) + " }"

    lines = ["[source]", 'kind = "wav"', 'folder = "."', f"files = {json.dumps(names)}", f"rate = {rate_hz}"]
    lines.append(f"divide_by = {purpose.scale!r}")
    lines += [f"labels = {table(purpose.label)}"] if purpose.schema.labelled else []
    lines += [f"patients = {table(purpose.patient)}"] if purpose.schema.patient else []
    return "\n".join([*lines, ""])


def _numbered(out: Path, number: int) -> Path:
    return out if number == 1 else out.with_name(f"{out.stem}.{number}{out.suffix}")


def _create(path: Path, content: bytes, force: bool) -> Path:
    if force:
        replace_file(path, content, _OWNER)
        return path
    path = _claimed(path)
    try:
        replace_file(path, content, _OWNER)
    except BaseException:
        if path.stat().st_size == 0:
            path.unlink()  # the name is free again, for the next recording
        raise
    return path


def _claimed(path: Path) -> Path:
    """The first of the names that nobody has; it is an empty file now."""
    number, claimed = 1, path
    while True:
        try:
            os.close(os.open(str(claimed), os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER))
            return claimed
        except FileExistsError:
            number += 1
            claimed = _numbered(path, number)


def note_of(recording: Recording, purpose: Purpose, about: Dict[str, Any], began: str) -> Dict[str, Any]:
    """What the file says of itself. about: the board's info; began: when, as ISO 8601 in UTC."""
    board = {key: about[key] for key in ("chip", "simulated", "firmware", "boot") if key in about}
    return {
        "consent": purpose.consent.strip(),
        "label": purpose.label,
        **({"patient": purpose.patient} if purpose.schema.patient else {}),
        "board": board,
        "source": recording.source.name,
        "began": began,
        "rate_hz": recording.source.rate_hz,
        "measured_rate_hz": recording.measured_rate_hz,
        "channels": recording.source.channels,
        "counts_per_unit": purpose.counts_per_unit,
        "unit": purpose.unit,
        "window_samples": purpose.schema.samples,
        **counts_of(recording),
    }


def counts_of(recording: Recording) -> Dict[str, Any]:
    """What came and what did not, in samples; segments as [number of the first one, how many]."""
    segments: List[Tuple[int, int]] = [(segment.first, segment.length) for segment in recording.segments]
    return {
        "samples": recording.kept,
        "lost_on_the_line": recording.lost_on_the_line,
        "missed_by_the_board": recording.missed_by_the_board,
        "segments": segments,
        "clipped_values": recording.clipped,
        "problem": recording.problem,
    }
