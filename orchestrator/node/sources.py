"""Tables that are no CSV: SQLite, JSON lines, Excel workbooks, Parquet. Each gives what CSV gives: rows of texts, names first.

A file is known by its first bytes. Where it holds several tables, `FILE#NAME` names one. Nothing of a file is run: no formula,
trigger or extension; SQLite opens it to read only.
"""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from urllib.parse import quote

from orchestrator.errors import DataError
from orchestrator.wire.bounds import near

Row = Tuple[int, List[str]]
"""(number of the row or line in the file, its cells)"""

PART = "#"
_BATCH = 4096
_MOST_LINE = 1 << 24
_SQLITE, _PARQUET, _ZIP = b"SQLite format 3\x00", b"PAR1", b"PK\x03\x04"


class RowError(Exception):
    """A row that is no row of a table: (its number, why)."""


def located(path: Path) -> Tuple[Path, str]:
    """(the file, the table in it that is named; "" for none) of FILE or FILE#NAME. A file whose own name has a # is that file."""
    if PART in path.name and not path.exists():
        file, _, part = path.name.rpartition(PART)
        if file and part:
            return path.with_name(file), part
    return path, ""


def other_rows(path: Path, part: str, head: bytes) -> Optional[Iterator[Row]]:
    """The rows of a file of one of these formats, names first, lazily; None for any other. DataError where it cannot be read.

    Iterating raises RowError for a row that is none, and goes on no further then.
    """
    if head.startswith(_SQLITE):
        return _guarded(path, lambda: _of_sqlite(path, part))
    if head.startswith(_PARQUET) and _installed("pyarrow"):
        return _guarded(path, lambda: _of_parquet(path))
    if head.startswith(_ZIP) and b"xl/" in head and _installed("openpyxl"):
        return _guarded(path, lambda: _of_excel(path, part))
    if _json_line(head):
        return _guarded(path, lambda: _of_json(path))
    return None


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _guarded(path: Path, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """Whatever a library finds wrong with a file is said of the file."""
    try:
        yield from rows()
    except (DataError, RowError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as what it begins like: {str(error)[:200] or type(error).__name__}"
        ) from error


def _text(number: int, name: str, value: Any) -> str:
    """A cell as a CSV file would have it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, (int, str)):
        return str(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if type(value).__name__ == "Decimal":
        return str(value)
    raise RowError(number, f"column {name!r} holds {type(value).__name__}, expected a number or a text")


def _cells(number: int, names: List[str], values: Any) -> List[str]:
    return [_text(number, name, value) for name, value in zip(names, values)]


def _of_sqlite(path: Path, part: str) -> Iterator[Row]:
    with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        name = _chosen(path, part, [row[0] for row in found if not row[0].startswith("sqlite_")], "table or view")
        quoted = '"' + name.replace('"', '""') + '"'
        rows = database.execute(f"SELECT * FROM {quoted}")
        names = [column[0] for column in rows.description]
        yield 0, names
        for number, values in enumerate(rows, 1):
            yield number, _cells(number, names, values)


def _chosen(path: Path, part: str, names: List[str], what: str) -> str:
    """The one that is named, or the only one."""
    listed = ", ".join(sorted(names)[:12]) or "nothing"
    if part:
        if part not in names:
            raise DataError(f"{path}: no {what} {part!r}{near(part, names)}; it has {listed}")
        return part
    if len(names) != 1:
        raise DataError(f"{path}: name the {what} as {path.name}{PART}NAME; it has {listed}")
    return names[0]


def _of_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        yield 0, names
        number = 0
        for batch in file.iter_batches(_BATCH):
            for values in zip(*(column.to_pylist() for column in batch.columns)):
                number += 1
                yield number, _cells(number, names, values)


def _of_excel(path: Path, part: str) -> Iterator[Row]:
    import openpyxl

    with closing(openpyxl.load_workbook(path, read_only=True, data_only=True)) as book:
        sheet = book[_chosen(path, part, list(book.sheetnames), "sheet")]
        names: List[str] = []
        for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
            if not names:
                names = ["" if value is None else str(value) for value in values]
                while names and not names[-1].strip():
                    names.pop()
                yield number, names
                continue
            if any(value is not None for value in values[len(names) :]):
                raise RowError(number, f"has a value beyond the {len(names)} named columns")
            row = list(values[: len(names)])
            yield number, _cells(number, names, row + [None] * (len(names) - len(row)))


def _json_line(head: bytes) -> bool:
    """Whether a file begins with a whole JSON object in one line."""
    line = head.lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n")[0].strip()
    if not (line.startswith(b"{") and line.endswith(b"}")):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _of_json(path: Path) -> Iterator[Row]:
    names: List[str] = []
    with path.open("rb") as file:
        number = 0
        while True:
            line = file.readline(_MOST_LINE)
            number += 1
            if not line:
                return
            if not line.strip():
                continue
            found = _object(number, line)
            if not names:
                names = list(found)
                yield number, names
            more = [name for name in found if name not in names]
            if more:
                raise RowError(number, f"has {more[0][:40]!r}, which the first line has not")
            yield number, _cells(number, names, [found.get(name) for name in names])


def _object(number: int, line: bytes) -> Dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RowError(number, f"is no JSON: {str(error)[:80]}") from error
    if not isinstance(found, dict):
        raise RowError(number, "is no JSON object")
    return found
