"""The rows of a table as a description (described.py) says: named, recoded, converted, computed; one a patient where it says so.

A cell that cannot be mapped is a problem of its row; none is dropped or guessed.
"""

import csv
import datetime
import math
from itertools import islice
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from orchestrator.data.cells import MARKERS, finite, shown
from orchestrator.data.described import Column, Description, RowsOf
from orchestrator.data.formula import Formula, FormulaError
from orchestrator.data.sources.base import Row
from orchestrator.data.units import conversion
from orchestrator.errors import DataError
from orchestrator.wire.bounds import near

Cell = Callable[[str], str]
"""A cell of the table to one of the task; ValueError with what is wrong with it."""

Report = Callable[[int, str], None]
"""(row, what is wrong with it)"""


def mapped(rows: Iterator[Row], description: Description, report: Report) -> Iterator[Row]:
    """The rows of a table, names first, as the task names them. Rows that cannot be mapped are reported and left out."""
    first = next(rows, None)
    if first is None:
        return
    line, header = first[0], [name.strip() for name in first[1]]
    columns = _columns(description, header)
    yield line, [column.name for column in columns]
    every = _computed(rows, header, columns, report)
    if description.leave_out is not None:
        every = _without(every, columns, description, description.leave_out)
    yield from every if description.rows.keep == "all" else _of_patients(every, columns, description, report)


class _Made(NamedTuple):
    """A column of the task: from the table's column at `place` by `cell`, or by `formula`."""

    name: str
    place: int
    cell: Optional[Cell] = None
    formula: Optional[Formula] = None


def _columns(description: Description, header: Sequence[str]) -> List[_Made]:
    path = description.path
    repeated = [name for name in header if header.count(name) > 1]
    used = {column.column or name for name, column in description.columns.items() if not column.formula}
    found = [_Made(name, place, str) for place, name in enumerate(header) if name not in {*used, *description.columns}]
    for name, column in description.columns.items():
        if column.formula:
            continue
        wanted = column.column or name
        if wanted not in header:
            raise DataError(f"{path}: columns.{name}: the table has no column {wanted!r}{near(wanted, header)}")
        if wanted in repeated:
            raise DataError(f"{path}: columns.{name}: the table has column {wanted!r} twice; which one is meant?")
        found.append(_Made(name, header.index(wanted), _cell_of(column)))
    known = {made.name for made in found} | set(header)
    for name, column in description.columns.items():
        if column.formula:
            formula = Formula(column.formula)
            lacking = [each for each in formula.columns if each not in known]
            if lacking:
                raise DataError(
                    f"{path}: columns.{name}: formula: no column {lacking[0]!r}{near(lacking[0], sorted(known))}; a formula uses "
                    "columns of the table and those made of one"
                )
            found.append(_Made(name, -1, formula=formula))
    rows = description.rows
    for key, name in (("patient", rows.patient), ("order", rows.order)):
        names = [made.name for made in found]
        if name and name not in names:
            raise DataError(f"{path}: rows.{key}: no column {name!r}{near(name, names)}")
    return found


def _cell_of(column: Column) -> Cell:
    steps: List[Cell] = []
    if column.recode:
        steps.append(lambda cell: _recoded(column.recode, cell))
    if column.decimal_comma:
        steps.append(_with_point)
    if column.date:
        steps.append(lambda cell: _iso(cell, column.date))
    if column.unit:
        a, b = conversion(column.unit, column.to, column.substance)
        steps.append(lambda cell: _converted(cell, a, b))

    def made(cell: str) -> str:
        cell = cell.strip()
        if not cell or cell in column.missing:
            return ""
        if steps and cell.casefold() in MARKERS and cell not in column.recode:
            raise ValueError(f"{shown(cell)}; if it stands for no value, list it in `missing`")
        for step in steps:
            cell = step(cell)
        return cell

    return made


def _recoded(recode: Dict[str, str], cell: str) -> str:
    if cell not in recode:
        raise ValueError(f"{shown(cell)} is not in `recode` ({', '.join(list(recode)[:12])}){near(cell, list(recode))}")
    return recode[cell]


def _with_point(cell: str) -> str:
    if "." in cell:
        raise ValueError(f"{shown(cell)} has a point, and decimal_comma is set")
    return cell.replace(",", ".")


def _iso(cell: str, form: str) -> str:
    try:
        return datetime.datetime.strptime(cell, form).date().isoformat()
    except ValueError as error:
        raise ValueError(f"{shown(cell)} is not a date as {form}") from error


def _converted(cell: str, a: float, b: float) -> str:
    value = finite(cell)
    if value is None:
        raise ValueError(f"{shown(cell)} is not a number")
    return repr(a * value + b)


def _computed(rows: Iterator[Row], header: Sequence[str], columns: Sequence[_Made], report: Report) -> Iterator[Row]:
    places = {name: place for place, name in reversed(list(enumerate(header)))}
    for line, cells in rows:
        if len(cells) != len(header):
            report(line, f"{len(cells)} values, expected {len(header)}")
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
                    made[column.name] = "" if value is None else _plain(value)
            except (ValueError, KeyError, FormulaError) as error:
                if not isinstance(error, KeyError):  # of a column that is reported already
                    wrong.append(f"column {column.name!r}: {error}")
                made.pop(column.name, None)
        for problem in wrong:
            report(line, problem)
        if not wrong:
            yield line, [made[column.name] for column in columns]


def _plain(value: float) -> str:
    return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _without(rows: Iterator[Row], columns: Sequence[_Made], description: Description, listed: Path) -> Iterator[Row]:
    """The rows of patients that a file does not list; it lists them in its first column, below a line with its name."""
    try:
        with listed.open(newline="", encoding="utf-8-sig") as file:
            out = {row[0].strip() for row in islice(csv.reader(file, strict=True), 1, None) if row}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{listed}: {getattr(error, 'strerror', None) or error}") from error
    whose = [column.name for column in columns].index(description.rows.patient)
    yield from (row for row in rows if row[1][whose] not in out)


def _of_patients(
    rows: Iterator[Row], columns: Sequence[_Made], description: Description, report: Report
) -> Iterator[Row]:
    """One row a patient, in the order in which they first come."""
    names, asked = [column.name for column in columns], description.rows
    whose = names.index(asked.patient)
    found: Dict[str, List[Row]] = {}
    for line, cells in rows:
        if not cells[whose]:
            report(line, f"column {asked.patient!r}: empty; every row must say whose it is")
        else:
            found.setdefault(cells[whose], []).append((line, cells))
    for each in found.values():
        try:
            yield _one_of(each, names, asked)
        except ValueError as error:
            report(each[0][0], str(error))


def _one_of(rows: List[Row], names: Sequence[str], asked: RowsOf) -> Row:
    if asked.keep == "mean":
        return rows[0][0], [_mean(name, [cells[place] for _, cells in rows]) for place, name in enumerate(names)]
    if asked.order:
        place = names.index(asked.order)
        keys = [_order(asked.order, cells[place]) for _, cells in rows]
        if len({kind for kind, _, _ in keys}) > 1:
            raise ValueError(f"column {asked.order!r}: numbers and dates in the rows of one patient")
        rows = [row for _, row in sorted(zip(keys, rows), key=lambda pair: pair[0])]
    return rows[0] if asked.keep == "first" else rows[-1]


def _order(name: str, cell: str) -> Tuple[int, float, str]:
    value = finite(cell)
    if value is not None:
        return 0, value, ""
    try:
        datetime.date.fromisoformat(cell[:10])
    except ValueError as error:
        raise ValueError(
            f"column {name!r}: {shown(cell)} is neither a number nor a date as 2026-11-27, so it gives no order"
        ) from error
    return 1, 0.0, cell


def _mean(name: str, cells: Sequence[str]) -> str:
    """Of what is there; what is no number must be the same in all rows."""
    there = [cell for cell in cells if cell]
    if len(set(there)) <= 1:
        return there[0] if there else ""
    numbers = [finite(cell) for cell in there]
    if any(number is None for number in numbers):
        raise ValueError(
            f"column {name!r}: differs between the rows of one patient and is not a number, so it has no mean"
        )
    return _plain(math.fsum(number for number in numbers if number is not None) / len(numbers))
