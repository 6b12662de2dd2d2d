"""FHIR R4: a folder of bulk NDJSON, or a server's search; a row a patient.

Resources stream by; of a patient is kept what the declared columns need.
"""

import re
import ssl
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union, cast
from urllib.parse import quote, urlencode, urlsplit

from orchestrator.data.sources.base import Row, Service
from orchestrator.data.sources.fhir_columns import KINDS, PATIENT, Column
from orchestrator.data.sources.fhir_folder import Folder, Found, files_of
from orchestrator.data.sources.fhir_reading import Reading
from orchestrator.data.sources.fhir_server import Server
from orchestrator.errors import DataError, UsageError
from orchestrator.wire.bounds import count, refuse, seconds
from orchestrator.wire.loopback import is_loopback
from orchestrator.wire.pem import authorities
from orchestrator.wire.secrets_file import read_secret
from orchestrator.wire.special_files import open_file
from orchestrator.wire.structure import attempt

OF_A_SERVER = ("token", "ca_file", "plain_http", "page_size", "pages", "timeout_s")


@dataclass(frozen=True)
class Fhir:
    """`[source]` of kind "fhir"."""

    columns: Tuple[Dict[str, Any], ...]  # of the table, see `Column` [one or more tables]
    folder: str = ""  # with a bulk export: TYPE.ndjson, also TYPE.000.ndjson or 1.TYPE.ndjson, also .gz [text]
    server: str = ""  # or the base address of a server [such as "https://fhir.example.org/r4"]
    token: str = ""  # a file with a bearer token for the server, that only its owner can read [text]
    ca_file: str = ""  # a file of authorities that vouch for the server, in place of the system's [text]
    plain_http: bool = False  # http is allowed beyond this machine [true, false]
    page_size: int = 200  # resources that a page is asked to have [1 to 10000]
    pages: int = 10_000  # of one search, at most [1 to 1000000]
    timeout_s: float = 120.0  # for a whole page [seconds]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    @property
    def asked(self) -> List[Column]:
        return [cast(Column, _column(said)[0]) for said in self.columns]

    def _wrong(self) -> Iterator[str]:
        if bool(self.folder) == bool(self.server):
            yield "folder or server: one of the two says where resources are"
        given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        if self.folder and not self.server:
            alone = [name for name in OF_A_SERVER if name in given]
            if alone:
                yield f"{', '.join(alone)}: belong to a server, and `folder` has none: take them out"
        if self.ca_file and self.server.startswith("http:"):
            yield "ca_file: belongs to https, and the server is asked by http: take it out"
        if self.plain_http and self.server.startswith("https:"):
            yield "plain_http: belongs to http, and the server is asked by https: take it out"
        yield from count("page_size", self.page_size, 1, 10_000)
        yield from count("pages", self.pages)
        yield from seconds("timeout_s", self.timeout_s)
        if self.server:
            yield from _address(self.server, self.plain_http)
        if not self.columns:
            yield "columns: at least one [[source.columns]] is needed"
        mistakes = [
            f"columns[{number}].{line}" for number, said in enumerate(self.columns) for line in _column(said)[1]
        ]
        yield from mistakes
        names = [str(said.get("name", "")) for said in self.columns]
        yield from (f"columns: {name!r} occurs twice" for name in sorted({n for n in names if names.count(n) > 1}))


def _column(said: Dict[str, Any]) -> Tuple[Optional[Column], List[str]]:
    """A column as it is written: `from` is a word of Python, and cannot be the name of a field."""
    built, mistakes = attempt({"from_" if key == "from" else key: each for key, each in said.items()}, Column)
    return cast(Optional[Column], built), [line.replace("from_", "from") for line in mistakes]


def _address(server: str, plain_http: bool) -> Iterator[str]:
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError as error:
        yield f"server {server!r}: {error}"
        return
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        yield f"server {server!r}: expected an address such as https://fhir.example.org/r4"
    elif parts.username is not None or parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", server):
        yield f"server {server!r}: expected an address without a user, `?` and `#`; a bearer token goes into a file, `token`"
    elif parts.scheme == "http" and not plain_http and not is_loopback(parts.hostname):
        yield f"server {server!r}: http shows patients' data to the network; use https, or set plain_http = true"


_AUTHORITY = "no authority can be read from it: name the certificate of the one that signed the server's"


class _Searched:
    """A server."""

    def __init__(self, asked: Fhir, folder: Path) -> None:
        self.base = asked.server.rstrip("/")
        self.path = Path(self.base.partition("://")[2])
        trusted = None
        if asked.server.startswith("https"):
            ca_file = str(folder / asked.ca_file) if asked.ca_file else None
            if ca_file is not None:
                try:
                    open_file(Path(ca_file)).close()
                except OSError as error:
                    raise DataError(f"{ca_file}: no authority can be read from it ({error})") from error
            trusted = authorities(Path(ca_file), DataError, _AUTHORITY) if ca_file else ssl.create_default_context()
        self._page_size = asked.page_size
        self._server = Server(self.base, _token(asked, folder), trusted, asked.timeout_s, asked.pages)

    def found(self, kind: str, columns: Sequence[Column]) -> Iterator[Found]:
        """All resources of a type with one of the columns' codes. Raises ServerError."""
        query = {"_count": str(self._page_size)}
        if kind != PATIENT:
            every = dict.fromkeys(
                _searched(code, column.system) for column in columns for code in sorted(column.wanted)
            )
            query = {KINDS[kind].search: ",".join(every), **query}
        yield from self._server.found(kind, urlencode(query, quote_via=quote, safe=""))


def _searched(code: str, system: str) -> str:
    """A token as a search has it (hl7.org/fhir/R4/search.html#token, #escaping)."""
    escaped = [re.sub(r"([\\,|$])", r"\\\1", each) for each in (system, code)]
    return "|".join(escaped) if system else escaped[1]


def _token(asked: Fhir, folder: Path) -> str:
    if not asked.token:
        return ""
    try:
        token = read_secret(str(folder / asked.token), "bearer token")
    except UsageError as error:
        raise DataError(str(error)) from error
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token):  # RFC 6750, 2.1
        raise DataError(f"{folder / asked.token}: no bearer token: letters, digits and -._~+/ are expected")
    return token


def _rows(asked: Fhir, folder: Path) -> Iterator[Row]:
    columns = asked.asked
    yield 0, [column.name for column in columns]
    source: Union[Folder, _Searched] = Folder(folder / asked.folder) if asked.folder else _Searched(asked, folder)
    yield from Reading(columns, source).rows()


def _numbered(asked: Fhir, folder: Path) -> Path:
    """What a row's number counts: lines of the file of patients, of all of them together, or what a server finds."""
    if asked.server:
        return Path(asked.server.partition("://")[2].rstrip("/")) / PATIENT
    place = folder / asked.folder
    files = files_of(place, PATIENT)
    return files[0] if len(files) == 1 else place / f"*{PATIENT}*.ndjson"


FHIR = Service(Fhir, _rows, files=("folder",), beside=("token", "ca_file"), numbered=_numbered)
