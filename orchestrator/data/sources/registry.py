"""The formats of tables besides CSV, and how a file is read as one of them."""

import stat
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple, TypeVar, Union

from orchestrator.data.sources.base import PART, OptionError, Row, RowError, Service, Signals, Wanted, Windows
from orchestrator.data.sources.excel import EXCEL
from orchestrator.data.sources.json_lines import JSON_LINES
from orchestrator.data.sources.parquet import PARQUET
from orchestrator.data.sources.sqlite import SQLITE
from orchestrator.errors import DataError, UsageError
from orchestrator.later import Later
from orchestrator.wire.bounds import near
from orchestrator.wire.special_files import NO_FILE
from orchestrator.wire.structure import structure

SOURCES = (SQLITE, PARQUET, EXCEL, JSON_LINES)
"""Of files."""

T = TypeVar("T")


_HERE = "orchestrator.data.sources"
SERVICES: Mapping[str, Service] = Later(
    _HERE, {"fhir": "fhir.FHIR", "omop": "omop.OMOP", "postgresql": "postgresql.POSTGRESQL"}
)
"""By the kind that a description names."""

SIGNALS: Mapping[str, Signals] = Later(_HERE, {"wfdb": "wfdb_records.WFDB", "wav": "wav_files.WAV"})
"""Of signals, likewise."""


def located(path: Path) -> Tuple[Path, str]:
    """(the file, the table in it that is named; "" for none) of FILE or FILE#NAME. A file whose own name has a # is that file."""
    if PART in path.name and not path.exists():
        file, _, part = path.name.rpartition(PART)
        if file and part:
            return path.with_name(file), part
    return path, ""


def file_of(path: Path) -> Path:
    """The file of FILE or FILE#NAME; DataError where it is missing, or this user may not look."""
    try:
        file, _ = located(path)
        if file.is_dir():
            raise DataError(f"{file}: a folder; name the file in it")
        if not stat.S_ISREG(file.stat().st_mode):
            raise DataError(f"{file}: {NO_FILE}")
        return file
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file{_neighbours(file)}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _neighbours(path: Path) -> str:
    try:
        found = sorted(each.name for each in path.parent.iterdir() if each.suffix == path.suffix)[:5]
    except FileNotFoundError:
        return f" (nor a folder {path.parent})"
    except OSError:  # which may not be listed, or is a file
        return ""
    return f"; {path.parent} has {', '.join(found)}" if found else ""


def other_rows(path: Path, part: str, head: bytes) -> Optional[Iterator[Row]]:
    """The rows of a file of one of these formats, see `Source`; None for any other. head: its `beginning` (formats.py)."""
    for source in SOURCES:
        if source.recognizes(head) and (not source.package or find_spec(source.package) is not None):
            return _guarded(path, partial(source.rows, path, part))
    return None


def service_rows(path: Path, said: Dict[str, Any]) -> Iterator[Row]:
    """The rows that [source] of the description `path` asks for, see `Service`. DataError where it says something invalid."""
    service: Service = _chosen(
        path, said, SERVICES, SIGNALS, "holds signals, and the task's records are rows of a table"
    )
    options = _options(path, said, service)
    return _guarded(path, partial(service.rows, options, path.parent))


def service_tables(path: Path, said: Dict[str, Any], others: Dict[str, Dict[str, str]]) -> Iterator[Iterator[Row]]:
    """`service_rows`, then those of each of the others, of one state of the data. Each is read before the next one is asked for.

    others: by name, what is asked for in place of the table that [source] names.
    """
    service: Service = _chosen(
        path, said, SERVICES, SIGNALS, "holds signals, and the task's records are rows of a table"
    )
    if not others:
        return iter((service_rows(path, said),))
    if service.several is None:
        raise DataError(
            f"{path}: tables.{next(iter(others))}: a source of kind {said['kind']!r} has no tables but its own"
        )
    server = {key: value for key, value in said.items() if key not in ("table", "query_file")}
    asked = [_options(path, said, service)]
    asked += [_options(path, {**server, **each}, service, f"tables.{name}") for name, each in others.items()]
    rows = _guarded(path, partial(service.several, asked, path.parent))
    return ((row for _, row in one) for _, one in groupby(rows, lambda each: each[0]))


def service_numbers(path: Path, said: Dict[str, Any]) -> Path:
    """What comes before the number of a row of `service_rows` in a message."""
    service = SERVICES.get(said["kind"])
    numbered = None if service is None else service.numbered
    if service is None or numbered is None:
        return path
    options = _options(path, said, service)
    return Path(f"{path}: {next(_guarded(path, lambda: iter((numbered(options, path.parent),))))}")


def signal_windows(path: Path, said: Dict[str, Any], wanted: Wanted) -> Windows:
    """The windows that [source] of the description `path` asks for, see `Signals`. DataError where it says something invalid."""
    signals: Signals = _chosen(
        path, said, SIGNALS, SERVICES, "holds rows of a table, and the task's records are signals"
    )
    options = _options(path, said, signals)
    return next(_guarded(path, lambda: iter((signals.windows(options, path.parent, wanted),))))


def _chosen(path: Path, said: Dict[str, Any], known: Mapping[str, Any], others: Mapping[str, Any], why: str) -> Any:
    kind = said["kind"]
    if kind in known:
        return known[kind]
    if kind in others:
        raise DataError(f"{path}: source.kind {kind!r} {why}")
    raise DataError(f"{path}: source.kind {kind!r}: unknown{near(str(kind), known)}; known: {', '.join(known)}")


def _options(path: Path, said: Dict[str, Any], source: Union[Service, Signals], where: str = "source") -> Any:
    try:
        options = structure(
            {key: value for key, value in said.items() if key != "kind"}, source.options, f"{path}: {where}"
        )
    except UsageError as error:
        raise DataError(str(error)) from error
    if source.package and find_spec(source.package) is None:
        raise DataError(
            f"{path}: source.kind {said['kind']!r} needs {source.package}, not installed here: pip install "
            f"'edgeward[{source.extra}]'"
        )
    return options


def _guarded(path: Path, read: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Whatever a library finds wrong is said of the file."""
    try:
        yield from read()
    except (DataError, RowError, MemoryError):
        raise
    except OptionError as error:
        raise DataError(f"{path}: source.{error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as what it begins like: {str(error)[:200] or type(error).__name__}"
        ) from error
