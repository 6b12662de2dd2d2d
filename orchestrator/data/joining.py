"""What the rows of other tables say of a patient: the first, the last, the mean, ... of a column, in a window of days.

Of the other tables nothing is kept but what each patient's columns need. What cannot be read is a problem of its row.
"""

import datetime
import logging
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from orchestrator.data.cells import canonical, finite, names_nobody, nobody, shown
from orchestrator.data.columns import column_at
from orchestrator.data.dates import day, iso_of, moment
from orchestrator.data.described import Column, Description, Events
from orchestrator.data.formats import wrong_count
from orchestrator.data.recoding import Cell, Report, cell_of, plainly
from orchestrator.data.sources.base import Row, text
from orchestrator.data.takes import OF_NUMBERS, TAKES, Value
from orchestrator.wire.plain import many

milestones = logging.getLogger("edgeward.data.milestones")

_TRUTH = {"1": True, "true": True, "0": False, "false": False}


class EventRows(NamedTuple):
    """A table of a description that is open. path: what comes before the number of a row in a message. rows: names first."""

    name: str
    path: Path
    rows: Iterator[Row]
    report: Report


def events_of(description: Description) -> List[Tuple[str, Column]]:
    """The columns that are made of other tables."""
    return [(name, column) for name, column in description.columns.items() if column.table]


def joined(
    rows: Iterator[Row],
    names: Sequence[str],
    description: Description,
    tables: Iterator[EventRows],
    report: Report,
    out: FrozenSet[str],
) -> Iterator[Row]:
    """The rows of patients, each with the cells of `events_of` after its own. names: of its own columns, without a line of
    them among the rows. out: patients that are left out, whose events are none of nobody."""
    columns = events_of(description)
    anchors = sorted({column.anchor for _, column in columns if column.anchor})
    for anchor in anchors:
        column_at(f"{description.path}: anchor", anchor, names)
    patients = _patients(rows, names, description.rows.patient, anchors, len(columns), report)
    for events in tables:
        of = [(place, name, column) for place, (name, column) in enumerate(columns) if column.table == events.name]
        _Reading(description, events, of).read(patients, out)
    for patient in patients.values():
        cells = [_cell(patient, name, column, state) for (name, column), state in zip(columns, patient.states)]
        yield patient.line, [*patient.cells, *cells]


class _Patient(NamedTuple):
    line: int
    cells: List[str]
    anchors: Dict[str, Optional[datetime.date]]  # None where the patient has none
    states: List[Any]  # of each column, see `Take`


def _patients(
    rows: Iterator[Row], names: Sequence[str], whose: str, anchors: Sequence[str], columns: int, report: Report
) -> Dict[str, _Patient]:
    """By their key. One with two rows is a problem of the second one."""
    found: Dict[str, _Patient] = {}
    place, dates = names.index(whose), [(anchor, names.index(anchor)) for anchor in anchors]
    for line, cells in rows:
        key, days = cells[place], {}
        for anchor, at in dates:
            try:
                days[anchor] = day(cells[at]) if cells[at] else None
            except ValueError as error:
                report(line, f"column {anchor!r}: {error}; `date` of its column says how it is written")
        if names_nobody(key):
            report(line, f"column {whose!r}: {nobody(key)}")
        elif key in found:
            report(
                line,
                f"column {whose!r}: {shown(key)} has row {found[key].line} already; one row a patient is joined to other tables: "
                "take one out, or set `keep` in [rows]",
            )
        else:
            found[key] = _Patient(line, cells, days, [None] * columns)
    return found


def _cell(patient: _Patient, name: str, column: Column, state: Any) -> str:
    if column.anchor and patient.anchors.get(column.anchor) is None:
        return ""  # no day to count from: also how many there were is not known
    return text(patient.line, name, TAKES[column.take].cell(state))


class _Made(NamedTuple):
    """A column of a table with events."""

    place: int  # among the states of a patient
    name: str
    column: Column
    cell: Optional[Tuple[int, Cell]]  # (where its cells are, what becomes of one); None where rows are counted
    where: List[Tuple[int, FrozenSet[str]]]  # (where a cell is, which ones are meant)
    met: List[int]  # [how many rows have what `where` asks for]


class _Reading:
    """One table with events, on its way into the states of patients."""

    def __init__(self, description: Description, events: EventRows, columns: Sequence[Tuple[int, str, Column]]) -> None:
        self._path, self._where = description.path, f"tables.{events.name}"
        self._asked: Events = description.tables[events.name]
        self._events = events
        first = next(events.rows, None)
        self._header = [name.strip() for name in first[1]] if first is not None else []
        self._key = self._place("key", self._asked.key)
        self._when = self._place("when", self._asked.when) if self._asked.when else -1
        self._moment = _moment_as(self._asked.date)
        self._columns = [self._made(*each) for each in columns]
        self._needs_date = any(
            column.days or (self._asked.when and column.take in ("first", "last")) for _, _, column in columns
        )
        self._strangers: Set[str] = set()
        self._strange_rows = 0

    def _place(self, what: str, name: str) -> int:
        return column_at(f"{self._path}: {self._where}: {what}", name, self._header)

    def _made(self, place: int, name: str, column: Column) -> _Made:
        self._where = f"columns.{name}"
        cell = None if column.of_rows else (self._place("column", column.column or name), cell_of(column))
        where = [
            (self._place("where", each), frozenset(map(canonical, values))) for each, values in column.where.items()
        ]
        return _Made(place, name, column, cell, where, [0])

    def read(self, patients: Dict[str, _Patient], out: FrozenSet[str]) -> None:
        for line, cells in self._events.rows:
            if len(cells) != len(self._header):
                self._events.report(line, wrong_count(cells, self._header))
                continue
            key = cells[self._key].strip()
            patient = patients.get(key)
            if names_nobody(key):
                self._events.report(line, f"column {self._asked.key!r}: {nobody(key)}")
            elif patient is not None:
                self._add(line, cells, patient)
            elif key not in out:
                self._strangers.add(key)
                self._strange_rows += 1
        self._say()

    def _add(self, line: int, cells: List[str], patient: _Patient) -> None:
        at: Optional[Tuple[datetime.date, int]] = None
        if self._needs_date and cells[self._when].strip():
            try:
                at = self._moment(cells[self._when].strip())
            except ValueError as error:
                self._events.report(line, f"column {self._asked.when!r}: {error}")
                return
        for made in self._columns:
            try:
                self._take(line, cells, patient, made, at)
            except _UndatedError:
                self._events.report(
                    line,
                    f"column {self._asked.when!r}: empty; {made.name!r} goes by it: fill it in, or take the row out",
                )
                return
            except ValueError as error:
                self._events.report(line, f"column {made.name!r}: {error}")

    def _take(
        self, line: int, cells: List[str], patient: _Patient, made: _Made, at: Optional[Tuple[datetime.date, int]]
    ) -> None:
        if any(canonical(cells[place].strip()) not in meant for place, meant in made.where):
            return
        made.met[0] += 1
        column = made.column
        cell = made.cell[1](cells[made.cell[0]]) if made.cell is not None else ""
        if made.cell is not None and not cell:
            return
        ordered = column.take in ("first", "last") and self._when >= 0
        if at is None and (column.days or ordered):
            raise _UndatedError
        if column.days and at is not None:
            anchor = patient.anchors.get(column.anchor)
            if anchor is None or not column.days[0] <= (at[0] - anchor).days <= column.days[1]:
                return
        value = _value(column, cell)
        if value is not None:
            key = (at[1], *_rank(cell)) if ordered and at is not None else (line,)
            patient.states[made.place] = TAKES[column.take].add(patient.states[made.place], value, key)

    def _say(self) -> None:
        """To the owner of the data alone."""
        if self._strange_rows:
            milestones.warning(
                "%s: left out: %s of %s that the patients' table does not have (column %r)",
                *(
                    self._events.path,
                    many(self._strange_rows, "row"),
                    many(len(self._strangers), "key"),
                    self._asked.key,
                ),
            )
        for made in self._columns:
            if made.where and not made.met[0]:
                milestones.warning(
                    "%s: no patient's row has what `where` of columns.%s asks for; is it written so there?",
                    *(self._events.path, made.name),
                )


class _UndatedError(Exception):
    """A row that is needed by its date has none."""


def _moment_as(form: str) -> Callable[[str], Tuple[datetime.date, int]]:
    """A cell to its day, and to its place in time in microseconds since 1970."""

    def read(cell: str) -> Tuple[datetime.date, int]:
        if not form:
            try:
                return day(cell), moment(cell)
            except ValueError as error:
                raise ValueError(f"{error}; `date` of the table says how it is written") from error
        written = iso_of(cell, form)
        return day(written), moment(written)

    return read


def _value(column: Column, cell: str) -> Optional[Value]:
    """Of a cell that holds something; None where it does not count."""
    if column.take in OF_NUMBERS:
        number = finite(cell)
        if number is None:
            raise ValueError(f"{shown(cell)} is not a number, so there is no {column.take}{plainly(cell)}")
        return number
    if column.take == "any" and not column.of_rows:
        truth = _TRUTH.get(canonical(cell).casefold())
        if truth is None:
            raise ValueError(
                f"{shown(cell)} is neither 1, true nor 0, false, so it is no answer to any; `recode` makes it one"
            )
        return truth or None
    return cell


def _rank(cell: str) -> Tuple[int, float, str]:
    """Which of two cells of one moment is the later, whatever the order of rows: the greater number, or text."""
    number = finite(cell)
    return (0, 0.0, cell) if number is None else (1, number, cell)
