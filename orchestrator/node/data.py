"""A node's private data, read and checked against the task's schema. Errors name file, line and column."""

import csv
import hashlib
import math
import zipfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.errors import DataError
from orchestrator.wire.task import Feature, Schema

CLAMPED_SHARE = 0.01
"""Of a column's values: above it, a range or a unit is probably wrong."""

LABEL = "y"
INPUT = "x"

UNLABELLED = -1
"""In place of a class, where records without labels are allowed."""


class Dataset(NamedTuple):
    """x: float32 (n, *input_shape), numbers clamped to their public ranges but not standardized. y: int32 (n,).

    patients: int64 (n,), whose record it is, as a hash of the name: the same number whoever else is in the file; None where the
    schema names no patients.
    clamped: of the whole file, (column, how many of its values are beyond the range and were clamped); columns with none are left
    out. It is for the owner of the data alone.
    places: int64 (n,), the line of the file (table) or the index in x (signal) each record is from; None after `take`.
    dropped: rows of the file that lack a used value and were left out.
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

    def take(self, chosen: np.ndarray) -> "Dataset":
        """The records a boolean mask or indices choose."""
        return Dataset(self.x[chosen], self.y[chosen], None if self.patients is None else self.patients[chosen])


def load_dataset(path: Path, schema: Schema, unlabelled: bool = False) -> Dataset:
    """Reads `path` as the schema says; raises DataError for anything that does not fit it.

    unlabelled: the label's column or array may be missing, or empty in some records of a table; y is UNLABELLED there.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file{_neighbours(path)}")
    load = _load_table if schema.kind == "table" else _load_signal
    dataset = load(path, schema, unlabelled)
    if dataset.records == 0:
        raise DataError(f"{path}: no usable record in it")
    return dataset


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor a folder {path.parent})"
    found = sorted(p.name for p in path.parent.iterdir() if p.suffix == path.suffix)[:5]
    return f"; {path.parent} has {', '.join(found)}" if found else ""


def _load_table(path: Path, schema: Schema, unlabelled: bool) -> Dataset:
    rows, labels, places = [], [], []
    dropped = 0
    patients = _Numbering()
    columns: Dict[str, int] = {}
    for line, cells in _csv_rows(path):
        if not columns:
            header = _names(schema, len(cells), unlabelled) or [cell.strip() for cell in cells]
            columns = _find_columns(path, line, header, schema, unlabelled)
            if not schema.columns:
                continue
        if len(cells) != len(header):
            raise DataError(
                f"{path}:{line}: {len(cells)} values, expected {len(header)} ({', '.join(header[:4])}, ...)"
            )
        missing = _missing(cells, columns, schema, unlabelled)
        if missing and not schema.drop_missing:
            raise DataError(
                f"{path}:{line}: column {missing[0]!r} is missing ({cells[columns[missing[0]]]!r}); fill it in, remove the "
                "row, or set drop_missing in the task's schema"
            )
        if missing:
            dropped += 1
            continue
        row: List[float] = []
        for feature in schema.features:
            row.extend(_encode(path, line, feature, cells[columns[feature.name]].strip()))
        rows.append(row)
        places.append(line)
        if schema.patient:
            patients.add(f"{path}:{line}: column {schema.patient!r}", cells[columns[schema.patient]].strip())
        label = cells[columns[schema.label]].strip() if schema.label in columns else ""
        if unlabelled and (schema.label not in columns or label in schema.missing_markers):
            labels.append(UNLABELLED)
        else:
            labels.append(_label(f"{path}:{line}: column {schema.label!r}", label, schema))
    if not columns:
        raise DataError(f"{path}: the file is empty")
    if not rows:
        raise DataError(
            f"{path}: no usable record in it{f' ({dropped} dropped for missing values)' if dropped else ''}"
        )
    x = np.array(rows, np.float64).reshape(len(rows), *schema.input_shape)
    clamped = _clamp(x, schema)
    return Dataset(
        x.astype(np.float32),
        np.array(labels, np.int32),
        patients.numbers() if schema.patient else None,
        clamped,
        np.array(places, np.int64),
        dropped,
    )


def _names(schema: Schema, cells: int, unlabelled: bool) -> List[str]:
    """The columns of a table without a header line, of which the first line has so many cells; empty where there is one."""
    without = [name for name in schema.columns if name != schema.label]
    return without if unlabelled and cells == len(without) else list(schema.columns)


def _clamp(x: np.ndarray, schema: Schema) -> Tuple[Tuple[str, int], ...]:
    """Brings the numbers of float64 (n, d) into their ranges; (column, how many were beyond)."""
    counts = []
    for column, feature in schema.numbers():
        inside = np.clip(x[:, column], *feature.range)
        beyond = int((inside != x[:, column]).sum())
        if beyond:
            counts.append((feature.name, beyond))
        x[:, column] = inside
    return tuple(counts)


def clamped_columns(dataset: Dataset, schema: Schema) -> List[Tuple[float, str]]:
    """(share of the file's records, what to tell the owner) of every column with clamped values, the worst first.

    The shares are computed from private data and not noised: they must not leave the node.
    """
    ranges = {feature.name: feature.range for _, feature in schema.numbers()}
    told = []
    for name, count in dataset.clamped:
        low, high = ranges[name]
        share = count / dataset.records
        told.append(
            (
                share,
                f"column {name!r}: {count} of {dataset.records} values ({share:.2%}) are beyond the task's range {low:g} to "
                f"{high:g} and count as its nearest end; are the units the same?",
            )
        )
    return sorted(told, key=lambda each: -each[0])


class _Numbering:
    """Numbers names: 63 bits of a hash of each, so that no number depends on what else is in the file."""

    def __init__(self) -> None:
        self._numbers: List[int] = []

    def add(self, where: str, name: str) -> None:
        if not name:
            raise DataError(f"{where}: empty; every record must say whose it is")
        self._numbers.append(
            int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1
        )

    def numbers(self) -> np.ndarray:
        return np.array(self._numbers, np.int64)


def _csv_rows(path: Path) -> Iterator[Tuple[int, List[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells and any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from error
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _missing(cells: Sequence[str], columns: Dict[str, int], schema: Schema, unlabelled: bool) -> List[str]:
    """Used columns without a value. A marker that a feature lists as a category (`?` = not measured) is a value."""
    names = [f.name for f in schema.features if cells[columns[f.name]].strip() not in f.categories]
    needed = names if unlabelled else [*names, schema.label]
    return [name for name in needed if cells[columns[name]].strip() in schema.missing_markers]


def _find_columns(path: Path, line: int, header: Sequence[str], schema: Schema, unlabelled: bool) -> Dict[str, int]:
    repeated = {name for name in header if header.count(name) > 1}
    wanted = [*(f.name for f in schema.features), schema.label, *([schema.patient] if schema.patient else [])]
    lacking = [name for name in wanted if name not in header and not (unlabelled and name == schema.label)]
    if repeated:
        raise DataError(f"{path}:{line}: column {sorted(repeated)[0]!r} occurs twice")
    if lacking:
        raise DataError(
            f"{path}:{line}: no column {lacking[0]!r}; the task needs it and the file has {', '.join(header[:12])}"
            f"{', ...' if len(header) > 12 else ''}"
        )
    return {name: i for i, name in enumerate(header)}


def _encode(path: Path, line: int, feature: Feature, cell: str) -> List[float]:
    where = f"{path}:{line}: column {feature.name!r}"
    if feature.categories:
        key = canonical(cell)
        matches = [canonical(category) == key for category in feature.categories]
        if not any(matches):
            raise DataError(f"{where}: {cell!r} is not one of {', '.join(feature.categories)}")
        return [float(match) for match in matches]
    value = _number(cell)
    if value is None:
        raise DataError(f"{where}: {cell!r} is not a number")
    if not math.isfinite(value):
        raise DataError(f"{where}: {cell!r} is not a finite number")
    return [value]


def _number(cell: str) -> Optional[float]:
    try:
        return float(cell)
    except ValueError:
        return None


def canonical(cell: str) -> str:
    """`1`, `1.0` and `01` are one category; text is itself."""
    value = _number(cell)
    return f"{value:g}" if value is not None else cell


def _label(where: str, cell: str, schema: Schema) -> int:
    key = canonical(cell)
    for value, index in schema.label_values.items():
        if canonical(value) == key:
            return index
    known = ", ".join(schema.label_values)
    raise DataError(f"{where}: label {cell!r} is not in the task's schema (known: {known})")


def _load_signal(path: Path, schema: Schema, unlabelled: bool) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = [INPUT, schema.label, *([schema.patient] if schema.patient else [])]
            labelled = schema.label in archive.files or not unlabelled
            missing = [name for name in wanted if name not in archive.files and (labelled or name != schema.label)]
            if missing:
                raise DataError(f"{path}: no array {missing[0]!r}; it holds {', '.join(archive.files) or 'nothing'}")
            x = archive[INPUT]
            labels = archive[schema.label] if labelled else None
            names = archive[schema.patient] if schema.patient else None
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file: {error}") from error
    shape = schema.input_shape
    if x.dtype.kind not in "iuf" or x.shape[1:] not in (shape, shape[:1] if schema.channels == 1 else shape):
        raise DataError(
            f"{path}: x is {x.dtype} {x.shape}, expected numbers of shape (records, {schema.samples}, {schema.channels})"
        )
    if labels is not None and labels.shape != (len(x),):
        raise DataError(f"{path}: {schema.label} has shape {labels.shape}, expected ({len(x)},) like x")
    scaled = (x.astype(np.float32) / np.float32(schema.unit_scale)).reshape(len(x), *shape)
    bad = np.flatnonzero(~np.isfinite(scaled).reshape(len(x), -1).all(axis=1))
    if bad.size:
        raise DataError(f"{path}: record {bad[0]} of x holds a value that is not a finite number")
    y = [UNLABELLED] * len(x)
    if labels is not None:
        y = [_label(f"{path}: record {i} of {schema.label}", str(v), schema) for i, v in enumerate(labels.tolist())]
    patients = _Numbering()
    if names is not None:
        if names.shape != (len(x),):
            raise DataError(f"{path}: {schema.patient} has shape {names.shape}, expected ({len(x)},) like x")
        for i, name in enumerate(names.tolist()):
            patients.add(f"{path}: record {i} of {schema.patient}", str(name))
    numbered = patients.numbers() if names is not None else None
    return Dataset(scaled, np.array(y, np.int32), numbered, places=np.arange(len(x)))
