"""The rows of a table as a description (described.py) says: named, recoded, converted, computed; one a patient where it says so.

A cell that cannot be mapped is a problem of its row; none is dropped or guessed.
"""

import csv
import io
from itertools import islice
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from orchestrator.data.cells import finite, names_nobody, nobody, shown
from orchestrator.data.columns import column_at, has, no_column
from orchestrator.data.dates import moment
from orchestrator.data.described import Description, RowsOf
from orchestrator.data.formats import wrong_count
from orchestrator.data.formula import Formula, FormulaError
from orchestrator.data.joining import EventRows, events_of, joined
from orchestrator.data.recoding import Cell, Report, cell_of
from orchestrator.data.sources.base import Row, RowError, plain
from orchestrator.data.takes import mean
from orchestrator.errors import DataError
from orchestrator.wire.special_files import read_file


def mapped(rows: Iterator[Row], description: Description, report: Report, tables: Iterator[EventRows]) -> Iterator[Row]:
    """The rows of a table, names first, as the task names them. Rows that cannot be mapped are reported and left out.

    tables: those that the description has besides; they are read after it.
    """
    first = next(rows, None)
    if first is None:
        return
    line, header = first[0], [name.strip() for name in first[1]]
    columns, later = _columns(description, header)
    names, events = [column.name for column in columns], events_of(description)
    yield line, [*names, *(name for name, _ in events), *(column.name for column in later)]
    every = _computed(rows, header, columns, report)
    out = _left_out(description.leave_out) if description.leave_out is not None else frozenset()
    if out:
        whose = names.index(description.rows.patient)
        every = (row for row in every if row[1][whose] not in out)
    if description.rows.keep != "all":
        every = _of_patients(every, columns, description, report)
    if events:
        every = joined(every, names[:], description, tables, report, out)
        names += [name for name, _ in events]
        every = _computed(every, names, [*(_Made(name, i, str.strip) for i, name in enumerate(names)), *later], report)
    yield from every


class _Made(NamedTuple):
    """A column of the task: from the table's column at `place` by `cell`, or by `formula`."""

    name: str
    place: int
    cell: Optional[Cell] = None
    formula: Optional[Formula] = None


def _columns(description: Description, header: Sequence[str]) -> Tuple[List[_Made], List[_Made]]:
    """(those of the table, and computed from these; those that are computed from columns of other tables)"""
    path = description.path
    own = {
        name: (column.column or name, column)
        for name, column in description.columns.items()
        if not column.formula and not column.table
    }
    used = {wanted for wanted, _ in own.values()}
    found = [
        _Made(name, place, str.strip) for place, name in enumerate(header) if name not in {*used, *description.columns}
    ]
    absent = [
        f"columns.{name}: {no_column(wanted, header)}" for name, (wanted, _) in own.items() if wanted not in header
    ]
    if absent:
        raise DataError(f"{path}: {'; '.join(absent)}; the table has {has(header)}")
    for name, (wanted, column) in own.items():
        place = column_at(f"{path}: columns.{name}", wanted, header)
        found.append(_Made(name, place, cell_of(column)))
    known, later = {made.name for made in found} | set(header), []
    after = {name for name, _ in events_of(description)}  # those that are there when all tables are read
    for name, column in description.columns.items():
        if column.formula:
            formula = Formula(column.formula)
            lacking = [each for each in formula.columns if each not in known | after]
            if lacking:
                below = lacking[0] in description.columns
                raise DataError(
                    f"{path}: columns.{name}: formula: "
                    + (f"{lacking[0]!r} is not above it" if below else no_column(lacking[0], sorted(known | after)))
                    + "; a formula uses columns of the table and those above it"
                )
            if after.isdisjoint(formula.columns):
                found.append(_Made(name, -1, formula=formula))
                known.add(name)
            else:
                later.append(_Made(name, -1, formula=formula))
                after.add(name)
    names = [made.name for made in found]
    for made in later:
        gone = (
            [each for each in made.formula.columns if each not in after and each not in names] if made.formula else []
        )
        if gone:
            raise DataError(
                f"{path}: columns.{made.name}: formula: {gone[0]!r} is the table's own name of a column that has another here; "
                "beside columns of other tables a formula uses the names of this description"
            )
    for key, name in (("patient", description.rows.patient), ("order", description.rows.order)):
        if name:
            column_at(f"{path}: rows.{key}", name, names)
    return found, later


def _computed(rows: Iterator[Row], header: Sequence[str], columns: Sequence[_Made], report: Report) -> Iterator[Row]:
    places = {name: place for place, name in reversed(list(enumerate(header)))}
    for line, cells in rows:
        if len(cells) != len(header):
            report(line, wrong_count(cells, header))
            continue
        made: Dict[str, str] = {}
        wrong: List[str] = []
        for column in columns:
            try:
                if column.cell is not None:
                    made[column.name] = column.cell(cells[column.place])
                elif column.formula is not None:
                    needed = {
                        name: made[name] if name in made else cells[places[name]].strip()
                        for name in column.formula.columns
                    }
                    value = column.formula.value(needed)
                    made[column.name] = "" if value is None else plain(value)
            except (ValueError, KeyError, FormulaError) as error:
                if not isinstance(error, KeyError):  # of a column that is reported already
                    used = f"; correct {', '.join(column.formula.columns)} there" if column.formula else ""
                    wrong.append(f"column {column.name!r}: {error}{used}")
                made.pop(column.name, None)
        for problem in wrong:
            report(line, problem)
        if not wrong:
            yield line, [made[column.name] for column in columns]


def _left_out(listed: Path) -> FrozenSet[str]:
    """The patients of a file that lists them in its first column, below a line with its name."""
    try:
        lines = io.StringIO(read_file(listed).decode("utf-8-sig"), newline="")
        return frozenset(row[0].strip() for row in islice(csv.reader(lines, strict=True), 1, None) if row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{listed}: {getattr(error, 'strerror', None) or error}") from error


def _of_patients(
    rows: Iterator[Row], columns: Sequence[_Made], description: Description, report: Report
) -> Iterator[Row]:
    """One row a patient, in the order in which they first come."""
    names, asked = [column.name for column in columns], description.rows
    whose = names.index(asked.patient)
    found: Dict[str, List[Row]] = {}
    for line, cells in rows:
        if names_nobody(cells[whose]):
            report(line, f"column {asked.patient!r}: {nobody(cells[whose])}")
        else:
            found.setdefault(cells[whose], []).append((line, cells))
    for each in found.values():
        try:
            yield _one_of(each, names, asked)
        except RowError as error:
            report(*error.args)


def _one_of(rows: List[Row], names: Sequence[str], asked: RowsOf) -> Row:
    """RowError, with the row, where there is none."""
    if asked.keep == "mean":
        return rows[0][0], [
            _mean(name, [(line, cells[place]) for line, cells in rows]) for place, name in enumerate(names)
        ]
    if asked.order:
        place = names.index(asked.order)
        keys = [_order(line, asked.order, cells[place]) for line, cells in rows]
        for (line, _), (kind, _) in zip(rows, keys):
            if kind != keys[0][0]:
                raise RowError(
                    line,
                    f"column {asked.order!r}: numbers and dates in the rows of one patient give no order: write all alike",
                )
        rows = [row for _, row in sorted(zip(keys, rows), key=lambda pair: pair[0])]
    return rows[0] if asked.keep == "first" else rows[-1]


def _order(line: int, name: str, cell: str) -> Tuple[int, float]:
    value = finite(cell)
    if value is not None:
        return 0, value
    try:
        return 1, moment(cell)
    except ValueError as error:
        why = f"{shown(cell)} is neither a number nor a date as 2026-11-27, so it gives no order"
        raise RowError(line, f"column {name!r}: {why}; `date` of its column says how it is written") from error


def _mean(name: str, cells: Sequence[Tuple[int, str]]) -> str:
    """Of what is there; what is no number must be the same in all rows. cells: (row, cell)."""
    there = [(line, cell) for line, cell in cells if cell]
    if len({cell for _, cell in there}) <= 1:
        return there[0][1] if there else ""
    numbers = []
    for line, cell in there:
        number = finite(cell)
        if number is None:
            raise RowError(
                line,
                f"column {name!r}: differs between the rows of one patient and is not a number, so it has no mean: keep the "
                "first or the last, or write all alike",
            )
        numbers.append(number)
    return plain(mean(numbers))
