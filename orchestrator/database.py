"""SQLite the way Edgeward uses it: write-ahead log, every commit on the disk before it returns."""

import os
import sqlite3
from pathlib import Path

from orchestrator.errors import EdgewardError


def open_database(path: Path, schema: str, owner: str) -> sqlite3.Connection:
    """A connection in autocommit mode with `schema` applied; EdgewardError when the file cannot be `owner`'s store.

    Stores hold keys, secrets and updates: file and log are their owner's alone, whatever the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _make_private(path)
        connection = sqlite3.connect(str(path), isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=FAST")  # some builds write zeros over every vector that is dropped
        connection.executescript(schema)
    except (sqlite3.Error, OSError) as error:
        raise EdgewardError(f"{path}: cannot be used as the {owner}'s store: {error}") from error
    return connection


def _make_private(path: Path) -> None:
    """SQLite gives its log the rights of the database; those of a version before are corrected."""
    os.close(os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600))
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if file.exists() and file.stat().st_mode & 0o077 and file.stat().st_uid == os.geteuid():
            file.chmod(0o600)
