"""A sheet of an Excel workbook (.xlsx), where openpyxl is installed. Cells have the values that were last saved."""

from contextlib import closing
from pathlib import Path
from typing import Iterator, List

from orchestrator.data.sources.base import Row, RowError, Source, cells, chosen


def _rows(path: Path, part: str) -> Iterator[Row]:
    import openpyxl

    with closing(openpyxl.load_workbook(path, read_only=True, data_only=True)) as book:
        sheet = book[chosen(path, part, list(book.sheetnames), "sheet")]
        names: List[str] = []
        for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
            if not names:
                names = ["" if value is None else str(value) for value in values]
                while names and not names[-1].strip():
                    names.pop()
                yield number, names
                continue
            for place, value in enumerate(values[len(names) :], len(names) + 1):
                if value is not None:
                    column = openpyxl.utils.get_column_letter(place)
                    why = f"beyond the {len(names)} that have names: name the column in the first row, or take the value out"
                    raise RowError(number, f"column {column!r} of the sheet has a value, {why}")
            row = list(values[: len(names)])
            yield number, cells(number, names, row + [None] * (len(names) - len(row)))


EXCEL = Source(lambda head: head.startswith(b"PK\x03\x04") and b"xl/" in head, _rows, "openpyxl")
