"""A node's private data, read and checked against the task's schema. Errors name file, line and column."""

import hashlib
import hmac
from pathlib import Path
from typing import Any, BinaryIO, List, NamedTuple, Optional, Tuple

import numpy as np

from model_export.array_files import open_archive
from model_export.errors import ArrayFileError
from orchestrator.data.cells import Codes, names_nobody, nobody
from orchestrator.data.described import RowsOf, is_description, read_description
from orchestrator.data.formats import head_of, refuse_other_formats
from orchestrator.data.outcome import cell_of, codes_of
from orchestrator.data.problems import MOST_PROBLEMS, Problems
from orchestrator.data.sources.base import Wanted
from orchestrator.data.sources.registry import file_of, signal_windows
from orchestrator.data.table import MOST_VALUES, Asked, patient_number, read_table
from orchestrator.errors import DataError
from orchestrator.wire.bounds import near
from orchestrator.wire.logarithm import logarithm
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Schema
from orchestrator.wire.special_files import open_file
from orchestrator.wire.task import Task

CLAMPED_SHARE = 0.01
"""Of a column's values: above it, a range or a unit is probably wrong."""

INPUT = "x"


class Dataset(NamedTuple):
    """x: float32 (n, *input_shape), numbers clamped to their public ranges and transformed, but not standardized; read with gaps
    float64, NaN for a number and zeros for a category that is missing. y: int32 (n,).

    patients: int64 (n,), whose record it is, as a hash of the name: the same number whichever others are in the file; None where
    the schema names no patients.
    clamped: of the whole file, (column, how many of its values are beyond the range and were clamped); columns with none are left
    out. It is for the owner of the data alone.
    places: int64 (n,), the line of the file (table) or the index in x (signal) each record is from; None after `take`.
    dropped: rows of the file that lack a used value and were left out; for the owner alone.
    """

    x: np.ndarray
    y: np.ndarray
    patients: Optional[np.ndarray] = None
    clamped: Tuple[Tuple[str, int], ...] = ()
    places: Optional[np.ndarray] = None
    dropped: int = 0

    @property
    def records(self) -> int:
        return len(self.y)

    def units(self, unit: str) -> List[np.ndarray]:
        """The indices of the records of every privacy unit there is: a record, a patient, or the whole node."""
        if unit == "node":
            return [np.arange(self.records)]
        if unit != "patient":
            return [np.array([i]) for i in range(self.records)]
        assert self.patients is not None, "the schema of a task with unit 'patient' names the patients"
        order = np.argsort(self.patients, kind="stable")
        return [part for part in np.split(order, np.flatnonzero(np.diff(self.patients[order])) + 1) if part.size]

    def digest(self) -> str:
        """SHA-256 of the records, whatever their order: the same table gives the same one, also from a database."""
        parts = [
            np.ascontiguousarray(self.x).view(np.uint8).reshape(self.records, -1),
            self.y[:, np.newaxis].view(np.uint8),
        ]
        if self.patients is not None:
            parts.append(np.ascontiguousarray(self.patients)[:, np.newaxis].view(np.uint8))
        packed = np.ascontiguousarray(np.concatenate(parts, axis=1))
        rows = np.sort(packed.view(f"S{packed.shape[1]}").ravel())
        return hashlib.sha256(f"{packed.shape}".encode() + rows.tobytes()).hexdigest()

    def take(self, chosen: np.ndarray) -> "Dataset":
        """The records a boolean mask or indices choose."""
        return Dataset(self.x[chosen], self.y[chosen], None if self.patients is None else self.patients[chosen])


def load_dataset(
    path: Path, schema: Schema, unlabelled: bool = False, gaps: bool = False, most_problems: int = MOST_PROBLEMS
) -> Dataset:
    """Reads `path` as the schema says; raises DataError for anything that does not fit it, ProblemsError where that has places.

    unlabelled: the label's column or array may be missing, or empty in some records of a table; y is UNLABELLED there. gaps: of a
    table, values may be missing, see `Dataset`. most_problems: that are listed.
    """
    file_of(path)
    asked = Asked(schema, unlabelled or not schema.labelled, gaps, most_problems)
    dataset = _load_table(path, asked) if schema.kind == "table" else _load_signal(path, asked)
    if dataset.records == 0:
        raise DataError(f"{path}: no usable record in it")
    return dataset


def load_for(path: Path, task: Task, most_problems: int = MOST_PROBLEMS) -> Dataset:
    """What a node computes on: with all that is missing where the task has an analysis, else as `load_dataset` reads it."""
    return load_dataset(path, task.schema, gaps=not task.trains, most_problems=most_problems)


def _load_table(path: Path, asked: Asked) -> Dataset:
    rows, schema, gaps = read_table(path, asked), asked.schema, asked.gaps
    kept, values = rows.complete, rows.values
    x = np.zeros((len(rows), *schema.input_shape), np.float64 if gaps else np.float32)
    clamped, column = [], 0
    for i, (feature, codes) in enumerate(zip(schema.features, rows.codes)):
        if codes is None:
            inside, lacking = (
                np.clip(values[:, i], *feature.range) + 0.0,
                np.isnan(values[:, i]),
            )  # + 0.0: no zero is -0.0
            x[:, column] = logarithm(inside) if feature.transform else inside
            x[lacking, column] = np.nan  # whose bits would have a logarithm
            beyond = int(((inside != values[:, i]) & ~lacking & kept).sum())
            clamped += [(feature.name, beyond)] if beyond else []
        else:
            x[:, column : column + feature.width] = _one_hot(codes)[values[:, i].astype(np.int64)]  # -1: the last row
        column += feature.width
    clamped += [(schema.learned.columns[0], rows.clamped)] if rows.clamped else []
    return Dataset(
        x[kept],
        schema.learned.codes(rows.labels[kept]).astype(np.int32),
        rows.patients[kept] if schema.patient else None,
        tuple(clamped),
        rows.lines[kept],
        len(rows) - int(kept.sum()),
    )


def _one_hot(codes: Codes) -> np.ndarray:
    """float32 (values + 1, values): the inputs of each code; values that mean the same are all 1. The last row is of no code."""
    alike = np.array(codes.alike)
    return np.asarray(np.append(np.arange(len(alike)), -1)[:, np.newaxis] == alike, np.float32)


def hold_out(dataset: Dataset, share: float, key: bytes) -> Tuple[Dataset, Dataset]:
    """(records to train on, records to evaluate on).

    A record is held out when a keyed hash of its content says so; where the schema names patients, of whose it is: all of a
    patient's are on one side. So the same one is on the same side in every run of this node, and whether it is depends on no
    other record, as separate accounting of the two sides needs. Raises DataError when one side would be empty.
    """
    if not share:
        return dataset, dataset.take(np.zeros(dataset.records, bool))
    limit = int(share * 2**32)

    def drawn(content: bytes) -> bool:
        return int.from_bytes(hmac.new(key, content, hashlib.sha256).digest()[:4], "big") < limit

    if dataset.patients is None:
        contents = (dataset.x[i].tobytes() + dataset.y[i].tobytes() for i in range(dataset.records))
        held = np.fromiter((drawn(content) for content in contents), bool, dataset.records)
    else:
        whose, each = np.unique(dataset.patients, return_inverse=True)
        held = np.array([drawn(b"patient" + int(one).to_bytes(8, "big", signed=True)) for one in whose])[each]
    if held.all() or not held.any():
        raise DataError(
            f"{many(dataset.records, 'record')} cannot be split into some to train on and a share of {share:g} to evaluate on: "
            "those of one patient, or else equal ones, are kept together"
        )
    return dataset.take(~held), dataset.take(held)


def clamped_columns(dataset: Dataset, schema: Schema) -> List[Tuple[float, str]]:
    """(share of the file's records, what to tell the owner) of every column with clamped values, the worst first.

    The shares are computed from private data and not noised: they must not leave the node.
    """
    limits, (label, *_) = schema.learned.limits, (*schema.learned.columns, "")
    ranges = {**{feature.name: feature.range for _, feature in schema.numbers()}, **({label: limits} if limits else {})}
    found = []
    for name, count in dataset.clamped:
        low, high = ranges[name]
        share = count / dataset.records
        found.append(
            (
                share,
                f"column {name!r}: {count} of {dataset.records} values ({share:.2%}) are beyond the task's range {low:g} to "
                f"{high:g} and count as its nearest end; are the units the same?",
            )
        )
    return sorted(found, key=lambda each: -each[0])


def _load_signal(path: Path, asked: Asked) -> Dataset:
    schema = asked.schema
    x, labels, names = (_described if is_description(path) else _filed)(path, schema, asked.unlabelled)
    shape = schema.input_shape
    if x.dtype.kind not in "iuf" or x.shape[1:] not in (shape, shape[:1] if schema.channels == 1 else shape):
        raise DataError(
            f"{path}: x is {x.dtype} {x.shape}, expected numbers of shape (records, {schema.samples}, {schema.channels})"
        )
    columns = [name for name in schema.learned.columns if name]
    whose = [(names, schema.patient)] if names is not None else []
    for array, name in (*zip(labels, columns), *whose):
        if array.shape != (len(x),):
            raise DataError(f"{path}: {name} has shape {array.shape}, expected ({len(x)},) like x")
    problems = Problems(path, asked.most_problems)
    with np.errstate(over="ignore", invalid="ignore"):  # said below, of each record
        scaled = (x.astype(np.float32) / np.float32(schema.unit_scale)).reshape(len(x), *shape)
    for bad in np.flatnonzero(~np.isfinite(scaled).reshape(len(x), int(np.prod(shape))).all(axis=1)):
        problems.add(
            "", f"record {bad} of x holds a value that is not a finite number: correct it, or take the record out"
        )
    y = codes_of(schema, labels, len(x), problems)
    patients = np.zeros(len(x), np.int64)
    for i, name in enumerate(names.tolist() if names is not None else []):
        cell = cell_of(name)
        patients[i] = patient_number(cell)
        if names_nobody(cell):
            problems.add("", f"record {i} of {schema.patient}: {nobody(cell)}")
    problems.refuse()
    return Dataset(scaled, y, patients if names is not None else None, places=np.arange(len(x)))


def _described(path: Path, schema: Schema, unlabelled: bool) -> Tuple[np.ndarray, List[Any], Any]:
    """As `_arrays`, of a description."""
    description = read_description(path)
    if description.file is not None:
        raise DataError(
            f"{path}: source.file names a table, and the task's records are signals; give the .npz file itself"
        )
    if description.columns or description.rows != RowsOf() or description.anonymize or description.tables:
        raise DataError(
            f"{path}: columns, rows, tables and anonymize: belong to a table, and the task's records are signals"
        )
    most = MOST_VALUES // (schema.samples * schema.channels)
    if len(schema.learned.columns) > 1:
        raise DataError(
            f"{path}: a source of signals has one label, and the task's target takes several: give an .npz file"
        )
    wanted = Wanted(schema.samples, schema.channels, not unlabelled, most)
    found = signal_windows(path, description.service, wanted)
    labels = [np.array(found.labels)] if found.labels is not None and schema.labelled else []
    return found.x, labels, np.array(found.patients) if schema.patient else None


def _filed(path: Path, schema: Schema, unlabelled: bool) -> Tuple[np.ndarray, List[Any], Any]:
    """As `_arrays`, of the file at `path`."""
    try:
        file = open_file(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    with file:
        refuse_other_formats(path, head_of(file), "signal")
        return _arrays(path, file, schema, unlabelled)


def _arrays(path: Path, file: BinaryIO, schema: Schema, unlabelled: bool) -> Tuple[np.ndarray, List[Any], Any]:
    """x, an array for each of the target's columns, none where there are no labels, and whose records they are, or None."""
    try:
        with open_archive(file) as archive:
            columns = [name for name in schema.learned.columns if name]
            labelled = all(name in archive.names for name in columns) or not unlabelled
            wanted = [INPUT, *(columns if labelled else []), *([schema.patient] if schema.patient else [])]
            missing = [name for name in wanted if name not in archive.names]
            if missing:
                raise DataError(
                    f"{path}: no array {missing[0]!r}{near(missing[0], archive.names)}; it holds "
                    f"{', '.join(archive.names) or 'nothing'}"
                )
            labels = [archive[name] for name in columns] if labelled else []
            return archive[INPUT], labels, archive[schema.patient] if schema.patient else None
    except ArrayFileError as error:
        raise DataError(f"{path}: not a readable .npz file: {error}") from error
