"""A table (CSV) read as a schema says. All its lines are read, so that its owner hears of many problems at once."""

import csv
import hashlib
import io
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, TextIO, Tuple

import numpy as np

from orchestrator.errors import DataError
from orchestrator.node.cells import CellError, class_of, encode, number, shown
from orchestrator.node.formats import head_of, not_utf8, other_text, refuse_other_formats, refuse_other_text
from orchestrator.wire.bounds import near
from orchestrator.wire.task import Schema

MOST_PROBLEMS = 20
"""So many of a file are told, and how many more there are."""

MOST_VALUES = 1 << 26
"""Of all records together: half a gibibyte. A schema of many categories makes much of a small file."""

UNLABELLED = -1
"""In place of a class, where records without labels are allowed."""


class Rows(NamedTuple):
    """One entry a record: inputs, class, line in the file and patient (none without that column); rows left out are counted."""

    inputs: List[np.ndarray]  # float64
    classes: List[int]
    lines: List[int]
    patients: List[int]
    dropped: int


class Problems:
    """What is wrong with a data file; for its owner's eyes, since cells are quoted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: List[str] = []
        self._count = 0

    def add(self, place: str, text: str) -> None:
        """place: what follows the file's name, such as `:3` for a line."""
        self._count += 1
        if self._count <= MOST_PROBLEMS:
            self._first.append(f"{place}: {text}")

    def refuse(self) -> None:
        """Raises DataError if there was one."""
        if self._count == 1:
            raise DataError(f"{self._path}{self._first[0]}")
        if self._count:
            more = f", the first {MOST_PROBLEMS}" if self._count > MOST_PROBLEMS else ""
            listed = "\n".join(f"  {self._path.name}{problem}" for problem in self._first)
            raise DataError(f"{self._path}: {self._count} problems{more}:\n{listed}")


def read_table(path: Path, schema: Schema, unlabelled: bool = False) -> Rows:
    """The records of a CSV file; DataError with the first problems where it does not fit.

    unlabelled: the label's column may be missing, or empty in some records; their class is UNLABELLED. The file is opened once.
    """
    try:
        with path.open("rb") as file:
            head = head_of(file)
            refuse_other_formats(path, head, "table")
            return _read(path, file, head, schema, unlabelled)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _read(path: Path, file: BinaryIO, head: bytes, schema: Schema, unlabelled: bool) -> Rows:
    found, problems = Rows([], [], [], [], 0), Problems(path)
    reader: Optional[_Reader] = None
    dropped, most = 0, MOST_VALUES // schema.input_shape[0]
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        for line, cells in _csv_rows(text, problems):
            if reader is None:
                reader = _Reader(_File(path, head), schema, unlabelled, line, cells)
                if not schema.columns:
                    continue
            try:
                kept = reader.read(cells)
            except CellError as error:
                for problem in str(error).split("\n"):
                    problems.add(f":{line}", problem)
                continue
            if kept is None:
                dropped += 1
                continue
            inputs, label, patient = kept
            if len(found.inputs) == most:
                raise DataError(f"{path}:{line}: {most} records of {len(inputs)} values are as many as a node reads")
            found.inputs.append(np.array(inputs))
            found.classes.append(label)
            found.lines.append(line)
            found.patients.append(patient)
    except UnicodeDecodeError as error:
        raise not_utf8(path, text.detach()) from error
    if reader is None:
        refuse_other_text(path, head, _wanted(schema))
    problems.refuse()
    if reader is None:
        raise DataError(f"{path}: the file is empty")
    if not found.inputs:
        raise DataError(
            f"{path}: no usable record in it{f' ({dropped} dropped for missing values)' if dropped else ''}"
        )
    return found._replace(dropped=dropped)


def _csv_rows(text: TextIO, problems: Problems) -> Iterator[Tuple[int, List[str]]]:
    """(line, cells) of every row that holds anything; ends at what is not CSV, which is a problem."""
    begun = 1
    reader = csv.reader(text, strict=True)
    try:
        for cells in reader:
            begun = reader.line_num + 1
            if cells and any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        open_quote = any(words in str(error) for words in ("unexpected end", "field larger"))
        quotes = f"; is a quotation mark of line {begun} never closed?" if open_quote else ""
        problems.add(f":{reader.line_num}", f"not CSV: {error}{quotes}")


def _wanted(schema: Schema) -> List[str]:
    """The columns that are used."""
    return [*(f.name for f in schema.features), schema.label, *([schema.patient] if schema.patient else [])]


class _File(NamedTuple):
    path: Path
    head: bytes


class _Reader:
    """Reads rows of one file: knows which of its columns is which."""

    def __init__(self, file: _File, schema: Schema, unlabelled: bool, line: int, first: Sequence[str]) -> None:
        self._schema, self._unlabelled = schema, unlabelled
        named = [name for name in schema.columns if not (unlabelled and name == schema.label)]
        if not schema.columns:
            self._header = [cell.strip() for cell in first]
        else:
            self._header = named if len(first) == len(named) else list(schema.columns)
            _refuse_other_columns(file, line, self._header, first)
        self._columns = self._find(file, line)

    def _find(self, file: _File, line: int) -> Dict[str, int]:
        schema, header = self._schema, self._header
        wanted = _wanted(schema)
        lacking = [n for n in wanted if n not in header and not (self._unlabelled and n == schema.label)]
        repeated = [name for name in wanted if header.count(name) > 1]
        if lacking:
            why = other_text(file.head, wanted, header) or _lacking(lacking, header)
            raise DataError(f"{file.path}:{line}: {why}")
        if repeated:
            raise DataError(f"{file.path}:{line}: column {repeated[0]!r} occurs twice; which one is meant?")
        return {name: header.index(name) for name in wanted if name in header}

    def read(self, cells: Sequence[str]) -> Optional[Tuple[List[float], int, int]]:
        """(inputs, class, patient) of a row, None for one to leave out. CellError with a line for each problem."""
        schema = self._schema
        if len(cells) != len(self._header):
            raise CellError(_wrong_count(cells, self._header))
        by_name = {name: cells[index].strip() for name, index in self._columns.items()}
        missing = self._missing(by_name)
        if missing and schema.drop_missing:
            return None
        wrong = [
            f"column {name!r} is missing ({by_name[name]!r}); fill it in, remove the row, or set drop_missing in the task's "
            "schema"
            for name in missing
        ]
        inputs: List[float] = []
        for feature in schema.features:
            try:
                inputs += [] if feature.name in missing else encode(feature, by_name[feature.name])
            except CellError as error:
                wrong.append(f"column {feature.name!r}: {error}")
        patient = 0
        if schema.patient:
            if by_name[schema.patient]:
                patient = patient_number(by_name[schema.patient])
            else:
                wrong.append(f"column {schema.patient!r}: empty; every record must say whose it is")
        label = UNLABELLED
        if schema.label not in missing and self._has_label(by_name):
            try:
                label = class_of(schema, by_name[schema.label])
            except CellError as error:
                wrong.append(f"column {schema.label!r}: {error}")
        if wrong:
            raise CellError("\n".join(wrong))
        return inputs, label, patient

    def _missing(self, by_name: Dict[str, str]) -> List[str]:
        """Used columns without a value. A marker that a feature lists as a category (`?` = not measured) is a value."""
        names = [f.name for f in self._schema.features if by_name[f.name] not in f.categories]
        needed = names if self._unlabelled else [*names, self._schema.label]
        return [name for name in needed if by_name[name] in self._schema.missing_markers]

    def _has_label(self, by_name: Dict[str, str]) -> bool:
        label = by_name.get(self._schema.label)
        return label is not None and not (self._unlabelled and label in self._schema.missing_markers)


def patient_number(name: str) -> int:
    """63 bits of a hash, so that no number depends on what else is in the file."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def _lacking(lacking: Sequence[str], header: Sequence[str]) -> str:
    absent = "; ".join(f"no column {name!r}{near(name, header)}" for name in lacking[:MOST_PROBLEMS])
    if any(number(cell) is not None for cell in header):
        absent += "; is the line with their names missing?"
    has = ", ".join(shown(name)[1:-1] for name in header[:12])
    return f"{absent}; the task needs {'it' if len(lacking) == 1 else 'them'} and the file has {has}" + (
        ", ..." if len(header) > 12 else ""
    )


def _refuse_other_columns(file: _File, line: int, columns: Sequence[str], first: Sequence[str]) -> None:
    """Of a table whose columns the schema names: values that are separated otherwise, or a line of names."""
    names = {cell.strip().casefold() for cell in first}
    if len(columns) > 1 and names == {name.casefold() for name in columns}:
        raise DataError(
            f"{file.path}:{line}: a line of names; the task's schema names the columns already: take it out"
        )
    if len(first) != len(columns):
        why = other_text(file.head, columns, first, len(columns))
        if why:
            raise DataError(f"{file.path}:{line}: {why}")


def _wrong_count(cells: Sequence[str], header: Sequence[str]) -> str:
    expected = (
        f"{len(cells)} values, expected {len(header)} ({', '.join(header[:4])}{', ...' if len(header) > 4 else ''})"
    )
    if len(cells) < len(header):
        return f"{expected}; is the line cut off?"
    if not any(cell.strip() for cell in cells[len(header) :]):
        return f"{expected}; there is a comma too many at its end"
    return f"{expected}; a value with a comma in it (a decimal comma, or text) needs quotation marks"
