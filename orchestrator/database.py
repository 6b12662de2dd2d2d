"""SQLite the way Edgeward uses it: every commit on the disk before it returns, and rows that notice damage."""

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from orchestrator.errors import DamagedError, EdgewardError

Columns = Mapping[str, Sequence[str]]
"""Table -> its columns, but for `digest`, in the order in which they are declared."""

_LEAST_BYTES = 512
"""The smallest page of SQLite, of which a store has at least one."""

RESTORE = 'restore it from a backup (docs/operations.md, "Back up and restore")'

_ADVICE = (
    ("disk is full", "make room on that disk, then give the same command again: nothing that was acknowledged is lost"),
    ("disk i/o", "look at the disk (dmesg, smartctl), then give the same command again, or move the folder to another"),
    ("readonly", "let this user write there"),
    ("unable to open", "let this user read and write there"),
    ("locked", "another program uses it: end that one first"),
    ("malformed", RESTORE),
    ("not a database", RESTORE),
)
"""What SQLite's messages contain, and what a person does about it."""


class StoreError(EdgewardError, sqlite3.OperationalError):
    """A store that cannot be read or written. The message names the file and what to do."""


def advised(error: sqlite3.Error) -> str:
    """What SQLite said, and what a person does about it; without the file's name."""
    error = error.__cause__ if isinstance(error.__cause__, sqlite3.Error) else error
    advice = [what for part, what in _ADVICE if part in str(error).lower()]
    return f"{error}{': ' if advice else ''}{''.join(advice[:1])}"


def _named(path: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call gives; StoreError, which names the file, where SQLite objects."""
    try:
        return call(*arguments)
    except sqlite3.Error as error:
        # Subclasses other than these two are bugs, or what a caller asks for (a row that is there already).
        if type(error) not in (sqlite3.DatabaseError, sqlite3.OperationalError):
            raise
        raise StoreError(f"{path}: {advised(error)}") from error
    except UnicodeDecodeError:  # a damaged text, or one quoted in what SQLite says
        malformed = sqlite3.DatabaseError("database disk image is malformed")
        raise StoreError(f"{path}: {advised(malformed)}") from malformed


class _Cursor(sqlite3.Cursor):
    path = ""
    connection: "_Connection"

    def execute(self, query: str, values: Any = ()) -> "_Cursor":
        if query == "COMMIT" or not self.connection.in_transaction:
            self.connection.check_files()
        return _named(self.path, super().execute, query, values)

    def executemany(self, query: str, values: Any) -> "_Cursor":
        return _named(self.path, super().executemany, query, values)

    def fetchall(self) -> List[Any]:
        return _named(self.path, super().fetchall)

    def fetchone(self) -> Any:
        return _named(self.path, super().fetchone)

    def __next__(self) -> Any:
        return _named(self.path, super().__next__)


class _Connection(sqlite3.Connection):
    """Names its file in what goes wrong, and commits nothing to one that is not there any more."""

    path = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._files: Dict[str, Tuple[int, int]] = {}

    def remember_files(self, *ends: str) -> None:
        """From now on these files, named by what follows the path, have to stay: those that are there."""
        found = {f"{self.path}{end}": file_at(f"{self.path}{end}") for end in ends}
        self._files = {name: file for name, file in found.items() if file is not None}

    def check_files(self) -> None:
        """StoreError where one of them was removed or replaced: SQLite would go on with a file that nobody finds again."""
        for name, file in self._files.items():
            if file_at(name) != file:
                raise StoreError(
                    f"{name}: was removed or replaced while it was in use, so what is written now would be lost: put it back, or "
                    f"{RESTORE}, then give the same command again"
                )

    def cursor(self, factory: Any = _Cursor) -> Any:
        cursor = super().cursor(factory)
        cursor.path = self.path
        return cursor

    def execute(self, query: str, values: Any = ()) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor().execute(query, values)
        return cursor

    def executemany(self, query: str, values: Any) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor().executemany(query, values)
        return cursor

    def __exit__(self, *error: Any) -> Any:
        """Commits, or takes back what was begun."""
        if self.in_transaction and error[:1] == (None,):
            try:
                self.check_files()
            except StoreError:
                self.rollback()
                raise
        return _named(self.path, super().__exit__, *error)


def open_database(path: Path, schema: str, owner: str, ahead: bool = True) -> sqlite3.Connection:
    """A connection in autocommit mode with `schema` applied; EdgewardError when the file cannot be `owner`'s store.

    ahead: commits wait in a log beside the file until SQLite moves them, so that others read meanwhile. SQLite takes the first
    damaged byte of that log for its end: not for a store whose last commits nothing else remembers.

    Stores hold keys, secrets and updates: file and log are their owner's alone, whatever the umask.
    Whatever fails later raises StoreError, which names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and 0 < path.stat().st_size < _LEAST_BYTES:  # SQLite takes one byte for a new store
        raise EdgewardError(f"{path}: is damaged ({path.stat().st_size} bytes are no store): {RESTORE}")
    try:
        _make_private(path)
        connection = sqlite3.connect(str(path), isolation_level=None, factory=_Connection)
        connection.execute(f"PRAGMA journal_mode={'WAL' if ahead else 'TRUNCATE'}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=FAST")  # some builds write zeros over every vector that is dropped
        connection.execute("PRAGMA cache_size=-512")  # KiB; by default 2 MiB each
        _named("", connection.executescript, schema)
        # Not quick_check: a row that an index leaves out was never written, for code that asks by that index.
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except (sqlite3.Error, OSError) as error:
        text = advised(error) if isinstance(error, sqlite3.Error) else str(error)
        raise EdgewardError(f"{path}: cannot be used as the {owner}'s store: {text}") from error
    connection.path = str(path)
    connection.remember_files("", "-wal")
    if found != "ok":
        raise EdgewardError(f"{path}: is damaged ({' '.join(str(found).split())}): {RESTORE}")
    return connection


def has_table(database: sqlite3.Connection, name: str) -> bool:
    """Whether the store has a table, which one of an earlier version may lack. Any other trouble with it is raised."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return database.execute(query, (name,)).fetchone() is not None


def open_read_only(path: Path, other_threads: bool = False) -> sqlite3.Connection:
    """A connection that only reads; another process may be writing. sqlite3.Error where there is no such file.

    Whatever fails later raises StoreError, which names the file. other_threads: it is used in other threads than this one.
    """
    where = f"file:{quote(str(path.resolve()))}?mode=ro"
    connection = sqlite3.connect(
        where, uri=True, isolation_level=None, check_same_thread=not other_threads, factory=_Connection
    )
    connection.path = str(path)
    connection.remember_files("")
    return connection


class Rows:
    """Rows with a digest of themselves, which is compared whenever one is read: a flipped bit is an error, and never a value."""

    def __init__(self, connection: sqlite3.Connection, path: Path, columns: Columns) -> None:
        """Tables that lack the column, in stores of earlier versions and read-only ones, are read without; see `seal`."""
        self._db, self._path, self._columns = connection, path, columns
        self._sealed = {table for table in columns if "digest" in _columns_of(connection, table)}

    def seal(self) -> None:
        """Gives every row a digest that has none: those of earlier versions, and what was put right by hand."""
        for table, columns in self._columns.items():
            if table not in self._sealed:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN digest BLOB")
                self._sealed.add(table)
            without = [row[0] for row in self._db.execute(f"SELECT rowid FROM {table} WHERE digest IS NULL").fetchall()]
            query = f"SELECT {', '.join(columns)} FROM {table} WHERE rowid = ?"
            for place in without:  # one row at a time: some are large
                row = self._db.execute(query, (place,)).fetchone()
                self._db.execute(f"UPDATE {table} SET digest = ? WHERE rowid = ?", (digest_of(table, row), place))

    def check(self) -> None:
        """Reads every row once: DamagedError names the first that is not as it was written."""
        for table in self._sealed:
            for row in self._db.execute(
                f"SELECT {', '.join(self._columns[table])}, digest FROM {table}"
            ):  # one at a time
                self._checked(table, row)

    def put(self, table: str, *values: Any, otherwise: str = "") -> bool:
        """Inserts a row; whether it did. otherwise: REPLACE or IGNORE, for one whose key is there already."""
        marks = ", ".join("?" * (len(values) + 1))
        query = f"INSERT {f'OR {otherwise} ' if otherwise else ''}INTO {table} VALUES ({marks})"
        return self._db.execute(query, (*values, digest_of(table, values))).rowcount == 1

    def get(self, table: str, where: str = "1", *values: Any, order: str = "rowid") -> List[Tuple[Any, ...]]:
        """All columns of the rows that match. DamagedError names a row that is not as it was written."""
        columns, sealed = self._columns[table], table in self._sealed
        chosen = ", ".join([*columns, "digest"] if sealed else columns)
        found = self._db.execute(f"SELECT {chosen} FROM {table} WHERE {where} ORDER BY {order}", values).fetchall()
        return [self._checked(table, row) for row in found] if sealed else found

    def _checked(self, table: str, row: Tuple[Any, ...]) -> Tuple[Any, ...]:
        if row[-1] is not None and row[-1] != digest_of(table, row[:-1]):
            which = ", ".join(str(value)[:80] for value in row[:-1] if isinstance(value, (str, int)))[:160]
            raise DamagedError(
                f"{self._path}: a row of {table!r} ({which}) is not as it was written: the disk or somebody changed it. It was "
                f"not used; {RESTORE}"
            )
        return row[:-1]


def digest_of(table: str, values: Sequence[Any]) -> bytes:
    """16 bytes of BLAKE2b over a row: another value, another order, another table is another digest."""
    digest = hashlib.blake2b(table.encode(), digest_size=16)
    for value in values:
        if isinstance(value, (bytes, bytearray, memoryview)):
            kind, data = b"bytes", bytes(value)
        elif isinstance(value, int):
            kind, data = b"int", b"%d" % value  # SQLite gives True back as 1
        else:
            kind, data = type(value).__name__.encode(), repr(value).encode("utf-8", "surrogatepass")
        digest.update(b"%s %d " % (kind, len(data)))
        digest.update(data)
    return digest.digest()


def file_at(path: str) -> Optional[Tuple[int, int]]:
    """Which file this is (device, number); None where there is none, or nothing says so."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _columns_of(connection: sqlite3.Connection, table: str) -> Dict[str, None]:
    return dict.fromkeys(str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})").fetchall())


def _make_private(path: Path) -> None:
    """SQLite gives its log the rights of the database; those of a version before are corrected."""
    os.close(os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600))
    for file in (path, *(Path(f"{path}-{end}") for end in ("wal", "shm", "journal"))):
        if file.exists() and file.stat().st_mode & 0o077 and file.stat().st_uid == os.geteuid():
            file.chmod(0o600)
