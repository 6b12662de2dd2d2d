"""A table (CSV) read as a schema says. All its lines are read, so that its owner hears of many problems at once."""

import csv
import hashlib
import io
import logging
import math
import time
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, TextIO, TypeVar, Union

from orchestrator.data.cells import UNLABELLED, Codes, Row, Rows, finite, names_nobody, nobody, unfit
from orchestrator.data.columns import lacking
from orchestrator.data.described import Description, FileSource, is_description, read_description
from orchestrator.data.formats import (
    NAMES_AGAIN,
    beginning,
    blank,
    head_of,
    not_csv,
    not_text,
    not_utf8,
    other_text,
    refuse_other_formats,
    refuse_other_text,
    wrong_count,
)
from orchestrator.data.joining import EventRows
from orchestrator.data.outcome import Outcome
from orchestrator.data.problems import MOST_PROBLEMS, Problems
from orchestrator.data.recoding import Report
from orchestrator.data.sources.base import Row as SourceRow
from orchestrator.data.sources.base import RowError
from orchestrator.data.sources.registry import located, other_rows, service_numbers, service_tables
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.special_files import open_file

milestones = logging.getLogger("edgeward.data.milestones")
"""What people read who wait for a long file."""

T = TypeVar("T")

NEWS_S = 10.0
"""Between two lines of how far a file was read."""
LOOK_ROWS = 1 << 14
"""After how many it is looked whether such a line is due."""

MOST_VALUES = 1 << 26
"""Of all records together: half a gibibyte. A schema of many categories makes much of a small file."""


class Asked(NamedTuple):
    """How a table is read.

    unlabelled: the label's column may be missing, or empty in some records; their class is UNLABELLED. gaps: values may be
    missing: a number is NaN then, and the code of a category -1. most_problems: that are listed.
    """

    schema: Schema
    unlabelled: bool = False
    gaps: bool = False
    most_problems: int = MOST_PROBLEMS


class _File(NamedTuple):
    path: Path
    head: bytes


class _Text:
    """A file of separated values: its lines, and what stands between values."""

    def __init__(self, file: BinaryIO, form: FileSource) -> None:
        self._form = form
        self._file = io.TextIOWrapper(file, encoding=form.encoding or "utf-8-sig", newline="")
        self.lines: TextIO = self._file
        self.delimiter = form.separator

    def undecodable(self, path: Path) -> DataError:
        """Which line is not of the encoding."""
        if self._form.encoding:
            return not_text(path, self._file.detach(), self._form.encoding)
        return not_utf8(path, self._file.detach())


def read_table(path: Path, asked: Asked) -> Rows:
    """The records of a CSV file, or of another of sources/; DataError with the first problems where it does not fit.

    The file is opened once.
    """
    with _opened(path, bool(asked.schema.columns)) as found:
        return _read(found, asked)


def every_row(path: Path) -> Iterator[SourceRow]:
    """The rows of a table that a node reads, as texts without spaces around them, names first. DataError as `read_table`."""
    with _opened(path) as found:
        problems = Problems(found.read.path)
        for line, cells in _rows_of(found, problems):
            yield line, [cell.strip() for cell in cells]
        problems.refuse()


class _Found(NamedTuple):
    """A table that is open: rows of a text, or of another source; description: how its columns become the task's. others: the
    rows of other tables of the same server, in the order in which the description has them, once `rows` are read."""

    read: _File
    rows: Union[_Text, Iterator[SourceRow]]
    description: Optional[Description] = None
    others: Iterator[Iterator[SourceRow]] = iter(())


@contextmanager
def _opened(path: Path, nameless: bool = False) -> Iterator[_Found]:
    """nameless: its columns have no names."""
    description = read_description(path) if is_description(path) else None
    if description is not None and nameless:
        raise DataError(
            f"{path}: describes columns by name, and the task's data have no line of names; give the file itself"
        )
    if description is None:
        form = FileSource(path.name)
    elif description.file is None or description.text is None:
        numbers = service_numbers(path, description.service)
        asked = {name: each.at_server for name, each in description.tables.items() if each.at_server}
        tables = service_tables(path, description.service, asked)
        yield _Found(_File(numbers, b""), next(tables), description, tables)
        return
    else:
        path, form = description.file, description.text
    with _opened_file(path, form) as found:
        yield found._replace(description=description)


@contextmanager
def _opened_file(path: Path, form: FileSource) -> Iterator[_Found]:
    """FILE or FILE#NAME."""
    try:
        path, part = located(path)
        with open_file(path) as file:
            head = head_of(file)
            rows: Union[_Text, Iterator[SourceRow], None] = other_rows(path, part, beginning(head))
            if rows is not None and form.options:
                raise DataError(
                    f"{path}: no text of separated values; the description's {', '.join(form.options)} would say nothing: take "
                    "that out, or name the text"
                )
            if rows is None:
                if part:
                    raise DataError(f"{path}: no file of several tables, of which {part!r} could be one")
                if not form.encoding:
                    refuse_other_formats(path, head, "table")
                rows = _Text(file, form)
            yield _Found(_File(path, head), rows)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _rows_of(found: _Found, problems: Problems) -> Iterator[SourceRow]:
    """Mapped as the description says."""
    path, description = found.read.path, found.description

    def report(line: int, why: str) -> None:
        problems.add(f":{line}", why)

    source = _as_they_are(found, report)
    if description is not None:
        from orchestrator.data.mapping import mapped  # a plain table takes no memory for it

        source = mapped(source, description, report, _tables(found, description, problems))
        rules = description.rules
        if rules is not None:
            from orchestrator.data.anonymity.anonymize import generalized
            from orchestrator.data.anonymity.rules import read_rules

            source = generalized(path, source, read_rules(rules), rules.parent)
    return source


def _as_they_are(found: _Found, report: Report) -> Iterator[SourceRow]:
    path, rows = found.read.path, found.rows
    return _with_news(path, _csv_rows(path, rows, report) if isinstance(rows, _Text) else _fit(rows, report))


def _tables(found: _Found, description: Description, problems: Problems) -> Iterator[EventRows]:
    """The other tables of a description, one after another: each is closed when the next one is asked for."""
    for which, events in description.tables.items():
        if events.file:
            with _opened_file(description.path.parent / events.file, events.text) as opened:
                yield _event_rows(which, opened, problems)
        else:
            rows = next(found.others, None)
            if rows is None:
                return  # the table before it ended with a problem, which is said
            yield _event_rows(which, _Found(_File(Path(f"{description.path}: tables.{which}"), b""), rows), problems)


def _event_rows(name: str, opened: _Found, problems: Problems) -> EventRows:
    path = opened.read.path

    def report(line: int, why: str) -> None:
        problems.add(f":{line}", why, path)

    return EventRows(name, path, _as_they_are(opened, report), report)


def _read(found: _Found, asked: Asked) -> Rows:
    path, schema = found.read.path, asked.schema
    problems = Problems(path, asked.most_problems)
    rows = Rows(len(schema.features))
    reader: Optional[_Reader] = None
    most = MOST_VALUES // schema.input_shape[0]
    for line, cells in _rows_of(found, problems):
        if reader is None:
            reader = _Reader(found.read, asked, line, cells)
            if not schema.columns:
                continue
        row = reader.read(cells)
        if row is not None:
            if len(rows) == most:
                width = schema.input_shape[0]
                raise DataError(f"{path}:{line}: {most} records of {width} values are as many as a node reads")
            rows.add(line, row)
            continue
        for problem in reader.explain(cells) if problems.listed else [""]:
            problems.add(f":{line}", problem)
    if reader is None and isinstance(found.rows, _Text):
        refuse_other_text(path, found.read.head, _wanted(schema))
    problems.refuse()
    if reader is None:
        raise DataError(f"{path}: the file is empty")
    if not len(rows) or not rows.complete.any():
        raise DataError(f"{path}: no usable record in it{f' ({len(rows)} dropped for missing values)' if rows else ''}")
    rows.codes = reader.codes
    return rows


def _csv_rows(path: Path, text: _Text, report: Report) -> Iterator[SourceRow]:
    """(line, cells) of every row that holds anything; ends at what is not CSV, which is a problem."""
    begun = 1
    reader = csv.reader(text.lines, strict=True, delimiter=text.delimiter)
    try:
        for cells in reader:
            begun = reader.line_num + 1
            if not blank(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        report(reader.line_num, not_csv(error, begun))
    except UnicodeError as error:  # not only of bytes: UTF-16 may lack its mark
        raise text.undecodable(path) from error


def _fit(rows: Iterator[SourceRow], report: Report) -> Iterator[SourceRow]:
    """(row, cells) of every row that holds anything; ends at one that is no row, which is a problem."""
    try:
        yield from (row for row in rows if not blank(row[1]))
    except RowError as error:
        number, why = error.args
        report(number, why)


def _with_news(path: Path, rows: Iterator[T]) -> Iterator[T]:
    """The same, with a line now and then where there are many."""
    said_at = time.monotonic()
    for count, row in enumerate(rows):
        if count % LOOK_ROWS == 0 and count and time.monotonic() - said_at >= NEWS_S:
            said_at = time.monotonic()
            milestones.info("%s: %s rows read, and on", path, f"{count:,}")
        yield row


def _wanted(schema: Schema) -> List[str]:
    """The columns that are used."""
    return [*(f.name for f in schema.features), *(n for n in (*schema.learned.columns, schema.patient) if n)]


class _Reader:
    """Reads rows of one file: knows which of its columns is which."""

    def __init__(self, file: _File, asked: Asked, line: int, first: Sequence[str]) -> None:
        schema, unlabelled = asked.schema, asked.unlabelled
        self._schema, self._unlabelled, self._gaps = schema, unlabelled, asked.gaps
        self._outcome = Outcome(schema)
        named = [name for name in schema.columns if not (unlabelled and name in self._outcome.columns)]
        if not schema.columns:
            self._header = [cell.strip() for cell in first]
        else:
            self._header = named if len(first) == len(named) else list(schema.columns)
            _refuse_other_columns(file, line, self._header, first)
        self._columns = self._find(file, line)
        self.codes = [Codes(f.categories) if f.categories else None for f in schema.features]
        self._markers = frozenset(schema.missing_markers)
        self._listed = {f.name: frozenset(f.categories) for f in schema.features}

    def _find(self, file: _File, line: int) -> Dict[str, int]:
        schema, header = self._schema, self._header
        wanted, place = _wanted(schema), f":{line}" if line else ""  # names of a database's columns are in no line
        absent = [n for n in wanted if n not in header and not (self._unlabelled and n in self._outcome.columns)]
        repeated = [name for name in wanted if header.count(name) > 1]
        if absent:
            why = other_text(file.head, wanted, header) or lacking(absent, header, MOST_PROBLEMS)
            raise DataError(f"{file.path}{place}: {why}")
        if repeated:
            raise DataError(f"{file.path}{place}: column {repeated[0]!r} occurs twice; which one is meant?")
        return {name: header.index(name) for name in wanted if name in header}

    def read(self, cells: Sequence[str]) -> Optional[Row]:
        """A row; None where something is wrong with it, see `explain`. One to leave out is read like the others."""
        schema = self._schema
        if len(cells) != len(self._header):
            return None
        by_name = self._named(cells)
        values, fits, complete = [], True, True
        for feature, codes in zip(schema.features, self.codes):
            cell = by_name[feature.name]
            value = finite(cell) if codes is None else float(codes.find(cell))
            present = not self._lacks(feature, cell)
            complete &= present
            fits &= (value is not None and (codes is None or value >= 0)) | (self._gaps & (not present))
            lacking = (math.nan if codes is None else -1.0) if self._gaps else 0.0
            values.append(value if value is not None and (present or not self._gaps) else lacking)
        complete |= self._gaps
        label = self._label(by_name)
        found = self._outcome.find(label or [""])
        if label and any(cell in self._markers for cell in label):
            complete &= self._unlabelled
            found = UNLABELLED
        elif label:
            fits &= found != UNLABELLED
        patient = patient_number(by_name[schema.patient]) if schema.patient else 0
        fits &= not schema.patient or not names_nobody(by_name[schema.patient])
        if not (fits and complete) and (complete or not schema.drop_missing):
            return None
        return Row(values, found if label else UNLABELLED, patient, complete, self._outcome.clamped(label))

    def explain(self, cells: Sequence[str]) -> List[str]:
        """What is wrong with a row, a line each."""
        schema = self._schema
        if len(cells) != len(self._header):
            return [wrong_count(cells, self._header)]
        if [cell.strip() for cell in cells] == self._header:
            return [NAMES_AGAIN]
        by_name = self._named(cells)
        lacking = [f.name for f in schema.features if self._lacks(f, by_name[f.name])]
        missing = [] if self._gaps else lacking[:]
        label = self._label(by_name)
        gone = [name for name, cell in zip(self._outcome.columns, label) if cell in self._markers]
        if gone:
            missing += [] if self._unlabelled else gone
        wrong = [
            f"column {name!r} is missing ({by_name[name]!r}); fill it in, remove the row, or set drop_missing in the task's "
            "schema"
            for name in missing
        ]
        for feature, codes in zip(schema.features, self.codes):
            cell = by_name[feature.name]
            fits = finite(cell) is not None if codes is None else codes.find(cell) >= 0
            if not fits and feature.name not in lacking:
                wrong.append(f"column {feature.name!r}: {unfit(feature, cell)}")
        if schema.patient and names_nobody(by_name[schema.patient]):
            wrong.append(f"column {schema.patient!r}: {nobody(by_name[schema.patient])}")
        explained = self._outcome.explain(label) if label and not gone else []
        return [*wrong, *(f"column {name!r}: {why}" for name, why in explained)]

    def _label(self, by_name: Dict[str, str]) -> List[str]:
        """The cells that say what is to be learned; none where the file lacks one of them."""
        cells = [by_name[name] for name in self._outcome.columns if name in by_name]
        return cells if len(cells) == len(self._outcome.columns) else []

    def _named(self, cells: Sequence[str]) -> Dict[str, str]:
        return {name: cells[index].strip() for name, index in self._columns.items()}

    def _lacks(self, feature: Feature, cell: str) -> bool:
        """Whether there is no value. A marker that a feature lists as a category (`?` = not measured) is a value."""
        return (cell in self._markers) & (cell not in self._listed[feature.name])


def patient_number(name: str) -> int:
    """63 bits of a hash, so that no number depends on what else is in the file."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


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
