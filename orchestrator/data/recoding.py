"""A cell of an owner's table to one of the task, as `[columns.NAME]` of a description says."""

from typing import Callable, Dict, List

from orchestrator.data.cells import MARKERS, finite, number_hint, shown
from orchestrator.data.dates import day, iso_of
from orchestrator.data.described import Column
from orchestrator.data.units import conversion
from orchestrator.wire.bounds import near

Cell = Callable[[str], str]
"""A cell of the table to one of the task; ValueError with what is wrong with it."""

Report = Callable[[int, str], None]
"""(row, what is wrong with it)"""


def cell_of(column: Column) -> Cell:
    """Of a cell with spaces around it or without; "" where there is no value."""
    steps: List[Cell] = []
    if column.recode:
        steps.append(lambda cell: _recoded(column.recode, cell))
    if column.decimal_comma:
        steps.append(_with_point)
    if column.date:
        steps.append(lambda cell: day(iso_of(cell, column.date)).isoformat())
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


def plainly(cell: str) -> str:
    """How to write what is no plain number, to end a sentence."""
    return f": {number_hint(cell) or 'correct it, or list it in `missing`'}"


def _recoded(recode: Dict[str, str], cell: str) -> str:
    if cell not in recode:
        known = f"{', '.join(list(recode)[:12])}){near(cell, list(recode))}"
        raise ValueError(f"{shown(cell)} is not in `recode` ({known}; say there what it means, or correct it")
    return recode[cell]


def _with_point(cell: str) -> str:
    if "." in cell:
        raise ValueError(
            f"{shown(cell)} has a point, and decimal_comma is set: write it with a comma, or take that out"
        )
    return cell.replace(",", ".")


def _converted(cell: str, a: float, b: float) -> str:
    value = finite(cell)
    if value is None:
        raise ValueError(f"{shown(cell)} is not a number, and has no unit{plainly(cell)}")
    return repr(a * value + b)
