"""A codebook proposed from what a table looks like, for its owner to confirm; and any table a node reads, looked at like CSV."""

from pathlib import Path
from typing import Iterator, List, NamedTuple

from orchestrator.data.codebook import Entry
from orchestrator.data.described import is_description
from orchestrator.data.formats import blank, head_of
from orchestrator.data.sources.base import Row, RowError
from orchestrator.data.sources.registry import located, other_rows
from orchestrator.data.table import every_row
from orchestrator.errors import DataError
from orchestrator.gateway.delimited import Table, checked_header, drawn, read_delimited
from orchestrator.gateway.survey import describe, is_missing


class Proposed(NamedTuple):
    """values: its range or levels, for people. missing: rows without one."""

    entry: Entry
    values: str
    missing: int
    note: str


def propose(table: Table) -> List[Proposed]:
    """A proposal for each column, in their order."""
    return [_of_column(table, name) for name in table.header]


def _of_column(table: Table, name: str) -> Proposed:
    cells = table.column(name)
    codes = tuple(sorted({cell for cell in cells if cell and is_missing(cell)}))
    missing = round(sum(map(is_missing, cells)) / table.share)
    column, why = describe(table, name)
    if column is None:
        kind = "date" if "date" in why.split(",")[0] else "text"
        return Proposed(Entry(name, kind, missing=codes, role="none"), "", missing, why)
    codes = tuple(code for code in codes if code not in column.categories)
    if column.categories:
        return Proposed(
            Entry(name, "category", levels=column.categories, missing=codes),
            ", ".join(column.categories),
            missing,
            column.note,
        )
    entry = Entry(name, column.kind, "", column.minimum, column.maximum, missing=codes)
    return Proposed(entry, f"{column.minimum:g} to {column.maximum:g}", missing, column.note)


def read_any(path: Path) -> Table:
    """A table in any format a node reads, FILE or FILE#NAME, or of a description. DataError, with the row, for others."""
    if is_description(path):
        return _table(path, every_row(path))
    file, part = located(path)
    try:
        with file.open("rb") as opened:
            head = head_of(opened)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    rows = other_rows(file, part, head)
    if rows is None:
        if part:
            raise DataError(f"{file}: no file of several tables, of which {part!r} could be one")
        return read_delimited(path)
    return _table(path, rows)


def _table(path: Path, rows: Iterator[Row]) -> Table:
    """Of rows, names first."""
    try:
        first = next(rows, None)
        if first is None:
            raise DataError(f"{path}: the table is empty")
        header = checked_header(path, first[0], [cell.strip() for cell in first[1]])
        kept, total = drawn((line, [cell.strip() for cell in cells]) for line, cells in rows if not blank(cells))
    except RowError as error:
        number, why = error.args
        raise DataError(f"{path}:{number}: {why}") from error
    if not kept:
        raise DataError(f"{path}: no rows under the names of the columns")
    return Table(header, kept, False, True, _assumed(len(kept), total), total, (path, "", ","))


def _assumed(looked_at: int, total: int) -> List[str]:
    return [f"{looked_at:,} rows drawn at random were looked at"] if total > looked_at else []
