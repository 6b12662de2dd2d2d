"""Columns that are asked for by name, and the one sentence for those that a table does not have."""

from typing import Sequence

from orchestrator.data.cells import number, shown
from orchestrator.errors import DataError
from orchestrator.wire.bounds import near

_MOST_LISTED = 12


def no_column(name: str, header: Sequence[str]) -> str:
    """header: the columns that there are."""
    return f"no column {name!r}{near(name, header)}"


def has(header: Sequence[str]) -> str:
    """The columns of a table, to end a sentence."""
    listed = ", ".join(shown(name)[1:-1] for name in header[:_MOST_LISTED])
    return (listed or "none") + (", ..." if len(header) > _MOST_LISTED else "")


def column_at(where: str, name: str, header: Sequence[str]) -> int:
    """The place of a column; DataError, which begins with `where`, if it is not there, or there twice."""
    if name not in header:
        raise DataError(f"{where}: {no_column(name, header)}; the table has {has(header)}")
    if header.count(name) > 1:
        raise DataError(f"{where}: column {name!r} occurs twice; which one is meant?")
    return header.index(name)


def lacking(names: Sequence[str], header: Sequence[str], most: int) -> str:
    """Why a file without these columns is not the task's. most: that are listed."""
    absent = "; ".join(no_column(name, header) for name in names[:most])
    if any(number(cell) is not None for cell in header):
        absent += "; is the line with their names missing?"
    return f"{absent}; the task needs {'it' if len(names) == 1 else 'them'} and the file has {has(header)}"
