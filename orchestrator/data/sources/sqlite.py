"""A table or view of an SQLite database, opened to read only."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Iterator
from urllib.parse import quote

from orchestrator.data.sources.base import Row, Source, cells, chosen


def _rows(path: Path, part: str) -> Iterator[Row]:
    with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        name = chosen(path, part, [row[0] for row in found if not row[0].startswith("sqlite_")], "table or view")
        quoted = '"' + name.replace('"', '""') + '"'
        rows = database.execute(f"SELECT * FROM {quoted}")
        names = [column[0] for column in rows.description]
        yield 0, names
        for number, values in enumerate(rows, 1):
            yield number, cells(number, names, values)


SQLITE = Source(lambda head: head.startswith(b"SQLite format 3\x00"), _rows)
