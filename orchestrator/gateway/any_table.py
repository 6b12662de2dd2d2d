"""Any table that a node reads, looked at like delimited text that nobody prepared."""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Callable, Iterator, List, Optional

from orchestrator.data.described import is_description
from orchestrator.data.formats import beginning, blank, head_of
from orchestrator.data.sources.base import Row, RowError
from orchestrator.data.sources.registry import file_of, located, other_rows
from orchestrator.data.table import every_row
from orchestrator.errors import DataError
from orchestrator.gateway.delimited import (
    COMMAS,
    Table,
    both_decimals,
    checked_header,
    decimal_commas,
    drawn,
    of_drawn,
    read_delimited,
)
from orchestrator.wire.special_files import open_file


def read_any(path: Path) -> Table:
    """A table in any format a node reads, FILE or FILE#NAME, or of a description. DataError, with the row, for others."""
    if is_description(path):
        return _table(path, partial(every_row, path), False)
    file, part = file_of(path), located(path)[1]
    try:
        with open_file(file) as opened:
            head = beginning(head_of(opened))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if other_rows(file, part, head) is None:
        if part:
            raise DataError(f"{file}: no file of several tables, of which {part!r} could be one")
        return read_delimited(path)

    def rows() -> Iterator[Row]:
        found: Optional[Iterator[Row]] = other_rows(file, part, head)
        assert found is not None, "it was of one of these formats"
        return found

    return _table(path, rows, True)


def named(path: Path) -> str:
    """What a table is called: as the one of a file of several, else as the file without its ending."""
    file, part = located(path)
    return part or file.stem


def read_own(path: Path) -> Table:
    """As `read_any`, of a table that a description is to be written of. DataError for one that has one."""
    if is_description(path):
        raise DataError(f"{path}: a description; name the table itself, for which one is written")
    return read_any(path)


def _table(path: Path, rows: Callable[[], Iterator[Row]], as_it_is: bool) -> Table:
    """rows: names first, and the same each time it is asked. as_it_is: no description has made its cells what nodes compute with.

    Where a column has decimals with commas and with points, as a sheet of which some were typed as texts, no comma is assumed: a
    node reads a column one way.
    """
    try:
        every = rows()
        first = next(every, None)
        if first is None:
            raise DataError(f"{path}: the table is empty")
        header = checked_header(path, first[0], first[1])
        kept, total = drawn((line, [cell.strip() for cell in cells]) for line, cells in every if not blank(cells))
    except RowError as error:
        number, why = error.args
        raise DataError(f"{path}:{number}: {why}") from error
    if not kept:
        raise DataError(f"{path}: no rows under the names of the columns")
    comma = as_it_is and decimal_commas(kept) and not any(map(both_decimals, zip(*(cells for _, cells in kept))))
    assumed = [*([COMMAS] if comma else []), *of_drawn(len(kept), total)]
    return Table(header, kept, comma, True, assumed, total, partial(_cells, rows))


def _cells(rows: Callable[[], Iterator[Row]]) -> Iterator[List[str]]:
    yield from (cells for _, cells in islice(rows(), 1, None) if not blank(cells))
