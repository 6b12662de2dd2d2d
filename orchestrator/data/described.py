"""A file of the owner of data (TOML) that says where they lie and how their columns answer a task's schema: `--data ward.toml`.

Nothing of it travels. docs/data.md shows every key.
"""

import codecs
import datetime
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from orchestrator.data.formula import Formula
from orchestrator.data.sources.base import Service, Signals
from orchestrator.data.sources.registry import SERVICES, SIGNALS, located
from orchestrator.data.takes import OF_NUMBERS, TAKES
from orchestrator.data.units import conversion
from orchestrator.errors import DataError, UsageError
from orchestrator.wire.bounds import near, one_of, refuse
from orchestrator.wire.structure import structure
from orchestrator.wire.toml_file import read_toml

ENDING = ".toml"
TAB = "tab"
"""In place of the character, which would not be seen."""
MOST_DAYS = 100_000
KEEP = ("all", "first", "last", "mean")


@dataclass(frozen=True)
class Column:
    """`[columns.NAME]`: a column of the task, made of the table's. One that is not listed is that of the same name, unchanged."""

    column: str = ""  # its name in the table [text; the same name where it is left out]
    missing: Tuple[str, ...] = ()  # cells that stand for no value, besides empty ones [texts]
    recode: Dict[str, str] = field(default_factory=dict)  # cell = what it means; any other is an error [texts]
    unit: str = ""  # of the table's numbers [such as "mg/dL"]
    to: str = ""  # of the task's numbers [such as "mmol/L"]
    substance: str = ""  # whose molar mass leads from one to the other [such as "glucose"]
    date: str = ""  # how dates are written, see Python's strptime; they become 2026-11-27 [such as "%d.%m.%Y"]
    decimal_comma: bool = False  # numbers are written 3,5 [true, false]
    formula: str = ""  # computed from columns, in place of all the above [such as "weight / (height * height)"]
    table: str = ""  # of [tables]: it is made of a patient's rows there, in place of the table in [source] [text]
    take: str = ""  # what of these rows [first, last, mean, minimum, maximum, count, any]
    # only rows that have in a column of that table one of these values [such as { code = ["4548-4"] }]
    where: Dict[str, Tuple[str, ...]] = field(default_factory=dict)
    anchor: str = ""  # a date of the patient, from which days are counted [a column of this description]
    days: Tuple[int, ...] = ()  # only rows from the first to the last of these days, 0 the anchor's [such as [-365, 0]]

    def __post_init__(self) -> None:
        refuse([*self._wrong(), *self._wrong_of_table()])

    def _wrong(self) -> Iterator[str]:
        if self.formula:
            others = [each.name for each in fields(self) if each.name != "formula" and getattr(self, each.name)]
            if others:
                yield f"formula: stands alone, without {', '.join(others)}: these belong to the columns that it is computed from"
            yield from _tried(Formula, self.formula)
        if bool(self.unit) != bool(self.to):
            yield "unit and to: one is given without the other"
        elif self.unit:
            yield from _tried(conversion, self.unit, self.to, self.substance)
            if self.substance and not list(_tried(conversion, self.unit, self.to)):
                yield f"substance: from {self.unit} to {self.to} none is asked for; take it out"
        elif self.substance:
            yield "substance: belongs to `unit` and `to`"
        if self.decimal_comma and self.date:
            yield "decimal_comma: of numbers; `date` is of other columns"
        if self.unit and (self.recode or self.date):
            yield "unit: a number; recode and date are for other columns"
        if self.date:
            yield from _tried(_date_as, self.date)

    @property
    def of_rows(self) -> bool:
        """Whether rows are counted, and not what stands in a column of them."""
        return self.take in ("count", "any") and not self.column

    def _wrong_of_table(self) -> Iterator[str]:
        if not self.table:
            alone = [name for name in ("take", "where", "anchor", "days") if getattr(self, name)]
            if alone:
                yield f"{', '.join(alone)}: of rows in another table; `table` says which"
            return
        yield from one_of("take", self.take, tuple(TAKES))
        making = [name for name in ("missing", "recode", "unit", "date", "decimal_comma") if getattr(self, name)]
        if self.of_rows and making:
            yield f"{', '.join(making)}: of the cells of a column; `column` says which"
        if self.take in OF_NUMBERS and self.date:
            yield f"date: of a date there is no {self.take}"
        if any(not values for values in self.where.values()):
            yield "where: a column without a value that it may have"
        if bool(self.anchor) != bool(self.days):
            yield "anchor and days: one is given without the other"
        if self.days and (len(self.days) != 2 or self.days[0] > self.days[1] or max(map(abs, self.days)) > MOST_DAYS):
            yield f"days {list(self.days)}: expected the first and the last that count, as in [-365, 0], {MOST_DAYS:,} at most"


def _tried(function: Any, *arguments: str) -> Iterator[str]:
    try:
        function(*arguments)
    except ValueError as error:
        yield str(error)


def _date_as(form: str) -> None:
    day = datetime.datetime(2026, 11, 27, tzinfo=datetime.timezone.utc)
    try:
        again = datetime.datetime.strptime(day.strftime(form), form).date()
    except ValueError as error:
        raise ValueError(f"date {form!r}: {error}") from error
    if again != day.date():
        raise ValueError(f"date {form!r}: names no day; write it as %d.%m.%Y or %Y%m%d")


@dataclass(frozen=True)
class RowsOf:
    """`[rows]`: which rows of a patient are used; without it, all. Columns are those of the task."""

    patient: str = ""  # the column that says whose a row is [text]
    keep: str = "all"  # of a patient's rows; mean: one row of the means of numbers [all, first, last, mean]
    order: str = ""  # a number or a date by which first and last go [text; the order of the file where it is left out]
    # a CSV file whose first column lists patients to leave out, such as `edgeward link compare` writes [text, beside this file]
    leave_out: str = ""

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        if self.keep not in KEEP:
            yield f"keep {self.keep!r}: expected of {', '.join(KEEP)}{near(self.keep, KEEP)}"
        if self.keep != "all" and not self.patient:
            yield f"keep = {self.keep!r} needs patient, the column that says whose a row is"
        if self.leave_out and not self.patient:
            yield "leave_out needs patient, the column that says whose a row is"
        if self.order and self.keep not in ("first", "last"):
            yield "order: only says which row is first or last; keep is neither"


@dataclass(frozen=True)
class FileSource:
    """`[source]` of a file, in any format a node reads."""

    file: str  # FILE or FILE#NAME, beside this file unless its path is absolute [text]
    delimiter: str = ","  # between the values of a text [one character, such as ";", or "tab"]
    encoding: str = ""  # of a text that is not UTF-8 [such as "latin-1", "cp1252", "utf-16"]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        if not self.file:
            yield "file: empty; it names the file with the table"
        if "\0" in self.file:
            yield "file: a name with a zero byte in it"
        if self.file.endswith(ENDING):
            yield f"file {self.file!r}: names another description; name the table"
        if self.delimiter != TAB and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            yield f'delimiter {self.delimiter!r}: expected one character, such as ";", or "{TAB}"'
        if self.encoding:
            yield from _tried(_known_encoding, self.encoding)

    @property
    def options(self) -> List[str]:
        """What is said of a text."""
        return [*(["delimiter"] if self.delimiter != "," else []), *(["encoding"] if self.encoding else [])]

    @property
    def separator(self) -> str:
        """The character itself."""
        return "\t" if self.delimiter == TAB else self.delimiter


def _known_encoding(name: str) -> None:
    try:
        if codecs.lookup(name)._is_text_encoding:
            return
    except LookupError:
        pass
    raise ValueError(f"encoding {name!r}: unknown; such as latin-1, cp1252, utf-16")


@dataclass(frozen=True)
class Events:
    """`[tables.NAME]`: another table with any number of rows a patient, from which columns are made."""

    key: str  # its column that says whose a row is, by the values that the column of [rows] patient has [text]
    file: str = ""  # FILE or FILE#NAME, as in [source] [text]
    delimiter: str = ","  # as in [source]
    encoding: str = ""  # as in [source]
    table: str = ""  # of the PostgreSQL server in [source], in place of a file [NAME or SCHEMA.NAME]
    query_file: str = ""  # of that server, one SELECT in place of a table [path beside this file]
    when: str = ""  # its column with the date or the moment of a row [text]
    date: str = ""  # how these are written, see Python's strptime [such as "%d.%m.%Y %H:%M"; left out, ISO 8601]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        if not self.key:
            yield "key: empty; it names the column that says whose a row is"
        if sum(map(bool, (self.file, self.table, self.query_file))) != 1:
            yield "either `file`, or of the PostgreSQL server in [source] `table` or `query_file`"
        if self.file:
            yield from _tried(FileSource, self.file, self.delimiter, self.encoding)
        elif self.delimiter != "," or self.encoding:
            yield "delimiter, encoding: of a text in `file`; a server's table has neither"
        if self.date and not self.when:
            yield "date: `when` names the column that is written so"
        elif self.date:
            yield from _tried(_date_as, self.date)

    @property
    def text(self) -> FileSource:
        """Of a file."""
        return FileSource(self.file, self.delimiter, self.encoding)

    @property
    def at_server(self) -> Dict[str, str]:
        """What is asked of the server, in place of the table in [source]; empty for a file."""
        found = {"table": self.table, "query_file": self.query_file}
        return {key: value for key, value in found.items() if value}


@dataclass(frozen=True)
class _Described:
    source: Dict[str, Any]
    columns: Dict[str, Column] = field(default_factory=dict)
    rows: RowsOf = field(default_factory=RowsOf)
    # rules (docs/data.md) by which the table is made k-anonymous before anything is computed on it [text, beside this file]
    anonymize: str = ""
    tables: Dict[str, Events] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.source.get("file")) == bool(self.source.get("kind")):
            raise ValueError('source: either `file`, the file with the table, or `kind`, such as "postgresql"')
        if not isinstance(self.source.get("kind", ""), str):
            raise ValueError("source.kind: expected a text")
        refuse(self._wrong_tables())

    def _wrong_tables(self) -> Iterator[str]:
        if self.tables and not self.rows.patient:
            yield "tables: [rows] patient is needed, the column that says whose a row of the table in [source] is"
        kind = self.source.get("kind", "")
        server = SERVICES.get(kind) if isinstance(kind, str) else None
        used = {column.table for column in self.columns.values()}
        for name, events in self.tables.items():
            if name not in used:
                yield f"tables.{name}: no column is made of it; take it out, or name it as `table` of a column"
            if events.at_server and (server is None or server.several is None):
                yield f'tables.{name}: {next(iter(events.at_server))}: of a server; [source] has kind = "postgresql" then'
        for name, column in self.columns.items():
            if column.table:
                yield from (f"columns.{name}: {line}" for line in self._wrong_column(column))

    def _wrong_column(self, column: Column) -> Iterator[str]:
        events = self.tables.get(column.table)
        if events is None:
            yield f"table {column.table!r}: there is no [tables.{column.table}]{near(column.table, self.tables)}"
        elif column.days and not events.when:
            yield f"days: [tables.{column.table}] says with `when` which of its columns has the date of a row"
        elif column.take in ("first", "last") and events.at_server and not events.when:
            yield f"take {column.take!r}: a server's rows have no order; [tables.{column.table}] says with `when` what they go by"


class Description(NamedTuple):
    """path: the TOML file. text: its [source], where that is a file; service: otherwise, as written. tables: others, by name."""

    path: Path
    text: Optional[FileSource]
    service: Dict[str, Any]
    columns: Dict[str, Column]
    rows: RowsOf
    anonymize: str
    tables: Dict[str, Events]

    @property
    def leave_out(self) -> Optional[Path]:
        """The file of patients to leave out; None where there is none."""
        return self.path.parent / self.rows.leave_out if self.rows.leave_out else None

    @property
    def rules(self) -> Optional[Path]:
        """The rules by which the table is made anonymous; None where it is not."""
        return self.path.parent / self.anonymize if self.anonymize else None

    @property
    def source(self) -> Union[Service, Signals, None]:
        """What reads the service; None for a file, and for a kind that there is not."""
        kind = str(self.service.get("kind", ""))
        return SERVICES.get(kind) or SIGNALS.get(kind)

    @property
    def file(self) -> Optional[Path]:
        """The file with the table, FILE or FILE#NAME; None for a service."""
        return None if self.text is None else self.path.parent / self.text.file


def is_description(path: Path) -> bool:
    return path.suffix == ENDING


def read_description(path: Path) -> Description:
    """Reads the whole file; DataError with every mistake in it."""
    try:
        said, _ = read_toml(path)
        found = structure(said, _Described, str(path))
        text = structure(found.source, FileSource, f"{path}: source") if "file" in found.source else None
    except UsageError as error:
        raise DataError(str(error)) from error
    return Description(path, text, found.source, found.columns, found.rows, found.anonymize, found.tables)


def versions_of(path: Path) -> List[Path]:
    """The files whose change is a change of the data: `path` itself, and where it describes others, also in a folder, those."""
    if not is_description(path):
        return _files_in(path)
    try:
        found = read_description(path)
    except DataError:
        return [path]
    events = [path.parent / (each.file or each.query_file) for each in found.tables.values() if not each.table]
    listed = [] if found.leave_out is None else [found.leave_out]
    named = [found.file] if found.file is not None else []
    source = found.source
    if source is not None:
        said = [found.service.get(option) for option in (*source.files, *source.beside)]
        named += [path.parent / each for each in said if isinstance(each, str) and each]
    every = [*named, *_versions_of_rules(found.rules), *listed, *events]
    return [path, *(file for each in every for file in _files_in(each))]


def _versions_of_rules(rules: Optional[Path]) -> List[Path]:
    """The file of rules and its hierarchies."""
    if rules is None:
        return []
    from orchestrator.data.anonymity.rules import read_rules

    try:
        return [rules, *read_rules(rules).hierarchies(rules.parent)]
    except DataError:
        return [rules]


def _files_in(place: Path) -> List[Path]:
    """The file itself, with what SQLite has written of it so far into another one; or all in the folder."""
    if place.is_dir():
        return sorted(each for each in place.rglob("*") if each.is_file())
    file, _ = located(place)
    log = file.with_name(f"{file.name}-wal")
    return [place, *([log] if log.is_file() and log.stat().st_size else [])]  # an empty one is made by reading


def is_live(path: Path) -> bool:
    """Whether data may change while none of `versions_of` does."""
    try:
        found = read_description(path) if is_description(path) else None
    except DataError:
        return False
    if found is None or found.source is None:
        return False
    return not any(found.service.get(option) for option in found.source.files)
