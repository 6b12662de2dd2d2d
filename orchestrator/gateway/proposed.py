"""A codebook proposed from what a table looks like, for its owner to confirm."""

from typing import List, NamedTuple

from orchestrator.data.codebook import Entry
from orchestrator.gateway.delimited import Table
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
    column, why = describe(table, name)
    levels = column.categories if column is not None else ()
    missing = round(sum(is_missing(cell) and cell not in levels for cell in cells) / table.share)
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
