"""A table, a view or one SELECT of a PostgreSQL server: one read-only transaction with one snapshot, fetched in batches.

What the server is asked depends on the owner's description alone: nothing of a task or a question reaches it.
"""

import os
import re
import stat
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from orchestrator.data.sources.base import Row, RowError, Service, text
from orchestrator.errors import AwayError, DataError
from orchestrator.wire.bounds import count, near, one_of, refuse
from orchestrator.wire.loopback import is_loopback
from orchestrator.wire.special_files import open_file

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_BATCH = 1000
_MOST_NAMES = 10_000
_MOST_QUERY = 1 << 20
_MOST_PASSWORD = 1 << 12
_OTHERS = 0o077

_NAME = re.compile(r'"(?:[^"]|"")+"|[^".]+')
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d )?(\d\d:\d\d:\d\d)(\.\d{1,6})?([+-]\d\d)?(:\d\d(?::\d\d)?)?")


@dataclass(frozen=True)
class Server:
    """How a PostgreSQL server is reached. What is left out is as for every program of PostgreSQL (PGHOST, ~/.pgpass, ...)."""

    database: str  # its name [text]
    host: str = ""  # a name, an address, or the folder of a socket [text; this machine's socket where it is left out]
    port: int = 0  # [1 to 65535; 5432 where it is left out]
    user: str = (
        ""  # who reads; an account with no right but SELECT [text; the user who runs the node where it is left out]
    )
    password_file: str = (
        ""  # a file that holds the password alone, readable by its owner only [path beside the description]
    )
    password: Any = None  # refused: a description may be read by others
    sslmode: str = ""  # [disable, allow, prefer, require, verify-ca, verify-full; verify-full for another machine]
    sslrootcert: str = (
        ""  # certificate of the authority that signed the server's [path, "system"; ~/.postgresql/root.crt]
    )
    connect_timeout_s: int = 10  # [2 to 3600]
    statement_timeout_s: int = (
        600  # for planning, sorting and each batch of rows, enforced by the server [1 to 1000000]
    )

    def __post_init__(self) -> None:
        refuse([*self._wrong(), *self._wrong_more()])

    def _wrong(self) -> Iterator[str]:
        if self.password is not None:
            yield (
                "password: not in this file; write it alone into a file that only its owner can read (chmod 600), and name that "
                "as password_file, or use ~/.pgpass"
            )
        if not self.database:
            yield "database: empty; it names the database"
        elif "://" in self.database or "=" in self.database:
            yield "database: a name; host, port and user have keys of their own"
        yield from count("port", self.port, 0, 65535)
        yield from one_of("sslmode", self.sslmode, SSLMODES) if self.sslmode else ()
        yield from count("connect_timeout_s", self.connect_timeout_s, 2, 3600)
        yield from count("statement_timeout_s", self.statement_timeout_s)
        if any("\0" in str(each) for each in vars(self).values()):
            yield "a text with a zero byte"

    def _wrong_more(self) -> Iterator[str]:
        """What a class that has more options has against them."""
        return iter(())

    def __str__(self) -> str:
        place = f" at {self.host}{f':{self.port}' if self.port else ''}" if self.host else ""
        return f"PostgreSQL{place}, database {self.database!r}{f', user {self.user!r}' if self.user else ''}"


@dataclass(frozen=True)
class PostgreSql(Server):
    """`[source]` with kind = "postgresql"."""

    table: str = ""  # a table or view: NAME or SCHEMA.NAME, as SQL writes it where "NAME" has a dot in it [text]
    query_file: str = ""  # a file with one SELECT, in place of a table [path beside the description]

    def _wrong_more(self) -> Iterator[str]:
        if bool(self.table) == bool(self.query_file):
            yield "either `table`, or `query_file`, a file with one SELECT"
        if self.table:
            try:
                identifiers(self.table)
            except ValueError as error:
                yield str(error)


def identifiers(name: str) -> List[str]:
    """[NAME] or [SCHEMA, NAME] of a table's name, each without quotes; ValueError for other texts."""
    found = _NAME.findall(name)
    if not 1 <= len(found) <= 2 or ".".join(found) != name:
        raise ValueError(
            f'table {name!r}: expected NAME or SCHEMA.NAME; a name with a dot or a quotation mark in it as "a.b"'
        )
    return [each[1:-1].replace('""', '"') if each.startswith('"') else each for each in found]


def quoted(names: Sequence[str]) -> str:
    """A name of one or several parts, as SQL writes it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


@contextmanager
def reading(server: Server, folder: Path) -> Iterator[Any]:
    """A connection (psycopg) whose transaction can only read, and sees one state of the database.

    Whatever PostgreSQL finds wrong inside becomes a DataError, an AwayError where it may be gone the next time.
    """
    try:
        import psycopg
    except ImportError as error:
        raise DataError(
            f"{server}: psycopg does not load ({' '.join(str(error).split())[:200]}): pip install 'edgeward[data]'"
        ) from error
    with closing(_connected(psycopg, server, folder)) as connection:
        try:
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true), set_config('DateStyle', 'ISO', true), "
                "set_config('extra_float_digits', '3', true)",
                [f"{server.statement_timeout_s}s"],
            )
            yield connection
        except psycopg.Error as error:
            raise _explained(server, connection, error) from error


def fetched(connection: Any, query: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
    """The rows of one SELECT, names first, as texts, a batch in memory at a time.

    A cursor is declared for it, so the server refuses what is no SELECT; and by a message that cannot hold two statements.
    """
    with connection.cursor() as cursor:
        asked = f"DECLARE edgeward NO SCROLL CURSOR FOR {query}".encode()
        cursor.execute(asked, list(parameters) or None, binary=True)  # binary: PostgreSQL's extended protocol
        fetch, number = f"FETCH {_BATCH} FROM edgeward", 0
        rows = cursor.execute(fetch).fetchall()
        columns = _columns(connection, cursor.description)
        yield 0, [column.name for column in columns]
        while rows:
            for values in rows:
                number += 1
                yield (
                    number,
                    ["" if value is None else column.cell(number, value) for column, value in zip(columns, values)],
                )
            rows = cursor.execute(fetch).fetchall()
        cursor.execute("CLOSE edgeward")


def _connected(psycopg: Any, server: Server, folder: Path) -> Any:
    parameters = _parameters(server, folder)
    if parameters.get("sslrootcert", "system") != "system":
        _open(Path(parameters["sslrootcert"])).close()  # which libpq would wait for, were it a pipe
    try:
        connection = psycopg.connect(**parameters)
    except psycopg.Error as error:
        raise _unconnected(server, error) from error
    connection.read_only, connection.isolation_level = True, psycopg.IsolationLevel.REPEATABLE_READ
    connection.prepare_threshold = None
    loader = connection.adapters.get_loader(psycopg.adapters.types["text"].oid, psycopg.pq.Format.TEXT)
    for known in psycopg.adapters.types:
        connection.adapters.register_loader(known.oid, loader)
    return connection


def _parameters(server: Server, folder: Path) -> Dict[str, Any]:
    authorities = server.sslrootcert if server.sslrootcert in ("", "system") else str(folder / server.sslrootcert)
    said = {
        "dbname": server.database,
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": _password(folder / server.password_file) if server.password_file else "",
        "sslmode": server.sslmode or _sslmode(server.host),
        "sslrootcert": authorities,
    }
    return {
        **{key: value for key, value in said.items() if value},
        "connect_timeout": server.connect_timeout_s,
        "client_encoding": "UTF8",
        "application_name": "edgeward",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }


def _sslmode(host: str) -> str:
    """Of a server on another machine: that its certificate is checked. "" leaves it to libpq."""
    if not host or host.startswith(("/", "@")) or is_loopback(host) or "PGSSLMODE" in os.environ:
        return ""
    return "verify-full"


def _password(path: Path) -> str:
    """The first line of a file that others cannot read."""
    with _open(path) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_PASSWORD:
            raise DataError(f"{path}: no file with a password alone")
        mode = stat.S_IMODE(status.st_mode)
        if mode & _OTHERS:
            raise DataError(f"{path}: others on this machine can use the password (mode {mode:04o}): chmod 600 {path}")
        lines = file.read(_MOST_PASSWORD).splitlines()
    try:
        password = lines[0].decode() if len(lines) == 1 else ""
    except UnicodeDecodeError:
        password = ""
    if not password or "\0" in password:
        raise DataError(f"{path}: expected one line of text, the password") from None
    return password


def _open(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


class _Column(NamedTuple):
    name: str
    cell: Callable[[int, str], str]


def _columns(connection: Any, described: Sequence[Any]) -> List[_Column]:
    """How each column's values, as PostgreSQL writes them, become cells."""
    asked = "SELECT oid, typcategory, pg_catalog.format_type(oid, NULL) FROM pg_catalog.pg_type WHERE oid = ANY(%s)"
    found = connection.execute(asked, [sorted({each.type_code for each in described})]).fetchall()
    types = {int(oid): (category, name) for oid, category, name in found}
    return [_Column(each.name, _cell_of(each.name, *types[each.type_code])) for each in described]


def _cell_of(name: str, category: str, kind: str) -> Callable[[int, str], str]:
    """For a column of that name and type. category: PostgreSQL's, table "typcategory codes" of its manual, chapter pg_type."""
    if category == "B":
        return lambda number, value: text(number, name, value == "t")
    if kind in ("real", "double precision"):
        return lambda number, value: text(number, name, float(value))
    if category == "D":
        return lambda number, value: _moment(value)
    if kind == "numeric":
        return lambda number, value: "" if value == "NaN" else value
    if (category in "NSE" and kind != "money") or kind == "uuid":
        return lambda number, value: value

    def unreadable(number: int, value: str) -> str:
        raise RowError(
            number,
            f"column {name!r} holds {kind}, expected a number or a text; leave it out, or make it one, in a query_file or a view",
        )

    return unreadable


def _moment(value: str) -> str:
    """A date or time as ISO 8601 has it, and Python's isoformat; what that cannot say (infinity, BC) as PostgreSQL says it."""
    found = _MOMENT.fullmatch(value)
    if found is None:
        return value
    day, time, fraction, zone, minutes = (part or "" for part in found.groups())
    return f"{day.replace(' ', 'T')}{time}{fraction and fraction.ljust(7, '0')}{zone}{minutes or (zone and ':00')}"


def _unconnected(server: Server, error: Any) -> DataError:
    """libpq's sentence, which holds no password, and what to do. A password that was refused is not tried again soon."""
    said = re.sub(r"^connection (failed|is bad): ", "", " ".join(str(error).split()))[:400]
    tried = getattr(error, "pgconn", None)
    if tried is not None and tried.needs_password:
        return DataError(f"{server}: no password_file is named, and ~/.pgpass has no entry for it: {said}")
    if tried is not None and tried.used_password:
        return DataError(f"{server}: refused this user or its password: {said}")
    if not server.sslmode and _sslmode(server.host) and re.search("SSL|certificate", said):
        said += '; of another machine the certificate is checked, unless sslmode says otherwise, such as "disable"'
    return AwayError(f"{server}: no connection: {said}")


def _explained(server: Server, connection: Any, error: Any) -> DataError:
    """What went wrong in a transaction. The server's words only where they are about the statement: others quote cells."""
    state, said = error.sqlstate or "", " ".join((error.diag.message_primary or "").split())[:400]
    if state == "57014":
        return DataError(
            f"{server}: the server stopped the query: longer than statement_timeout_s = {server.statement_timeout_s}, or an "
            "administrator ended it"
        )
    if connection.broken or connection.closed or state[:2] in ("08", "40", "57"):
        why = f" ({state})" if state else ""
        return AwayError(f"{server}: the connection ended before all rows were read{why}; see whether the server runs")
    if state == "42501":
        return DataError(f"{server}: {said}: this user may not read it; GRANT SELECT is missing")
    if state in ("42P01", "3F000"):
        return DataError(f"{server}: {said}{_meant(server, connection, said)}")
    if state == "25006":
        return DataError(f"{server}: {said}: the query changes data, and a node only reads")
    if state[:2] in ("0A", "25", "42"):
        return DataError(f"{server}: not a query that a node reads: {said}")
    return DataError(f"{server}: the query failed ({state or type(error).__name__}); the server's log says why")


def _meant(server: Server, connection: Any, said: str) -> str:
    """The nearest name among the tables this user may read, where the description names a table. said: what is wrong."""
    asked = getattr(server, "table", "")
    if not asked:
        return ""
    import psycopg

    readable = (
        "SELECT n.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid) FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') "
        "AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' "
        f"AND pg_catalog.has_table_privilege(c.oid, 'SELECT') LIMIT {_MOST_NAMES}"
    )
    try:
        connection.rollback()
        found = connection.execute(readable).fetchall()
    except psycopg.Error as error:
        return f"; nor can its tables be listed ({error.sqlstate or 'no connection'})"
    names = [
        _written([name] if visible == "t" and "." not in asked else [schema, name]) for schema, name, visible in found
    ]
    close = (
        near(asked, names) if identifiers(asked)[-1] in said else ""
    )  # it may be about another table of the description
    return close or f"; this user may read {', '.join(sorted(names)[:12]) or 'nothing'}"


def _written(names: Sequence[str]) -> str:
    """As `table` has it."""
    return ".".join(quoted([name]) if re.search(r'[".]', name) else name for name in names)


def query_of(path: Path) -> str:
    """The SELECT in a file."""
    try:
        with _open(path) as file:
            found = file.read(_MOST_QUERY + 1)
        query = found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text") from error
    except OSError as error:  # a folder, or a disk that fails
        raise DataError(f"{path}: {error.strerror}") from error
    if len(found) > _MOST_QUERY or "\0" in query or not query.strip():
        raise DataError(f"{path}: expected one SELECT, a text of at most {_MOST_QUERY} bytes")
    return query


def _several(asked: Sequence[PostgreSql], folder: Path) -> Iterator[Tuple[int, Row]]:
    """All tables and queries of one server, in one transaction."""
    with reading(asked[0], folder) as connection:
        for place, each in enumerate(asked):
            query = (
                f"SELECT * FROM {quoted(identifiers(each.table))}" if each.table else query_of(folder / each.query_file)
            )
            for row in fetched(connection, query):
                yield place, row


def _rows(options: PostgreSql, folder: Path) -> Iterator[Row]:
    return (row for _, row in _several([options], folder))


POSTGRESQL = Service(PostgreSql, _rows, "psycopg", "data", ("query_file",), several=_several)
