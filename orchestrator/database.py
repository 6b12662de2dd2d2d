"""SQLite the way Edgeward uses it: write-ahead log, every commit on the disk before it returns."""

import sqlite3
from pathlib import Path

from orchestrator.errors import EdgewardError


def open_database(path: Path, schema: str, owner: str) -> sqlite3.Connection:
    """A connection in autocommit mode with `schema` applied; EdgewardError when the file cannot be `owner`'s store."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(str(path), isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=FAST")  # some builds write zeros over every vector that is dropped
        connection.executescript(schema)
    except sqlite3.Error as error:
        raise EdgewardError(f"{path}: cannot be used as the {owner}'s store: {error}") from error
    return connection
