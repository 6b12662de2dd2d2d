"""The formats of tables besides CSV, and how a file is read as one of them."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from orchestrator.data.sources.base import PART, Row, RowError, Service
from orchestrator.data.sources.excel import EXCEL
from orchestrator.data.sources.json_lines import JSON_LINES
from orchestrator.data.sources.parquet import PARQUET
from orchestrator.data.sources.sqlite import SQLITE
from orchestrator.errors import DataError, UsageError
from orchestrator.wire.bounds import near
from orchestrator.wire.structure import structure

SOURCES = (SQLITE, PARQUET, EXCEL, JSON_LINES)
"""Of files."""

SERVICES: Dict[str, Service] = {}
"""By the kind that a description names."""


def located(path: Path) -> Tuple[Path, str]:
    """(the file, the table in it that is named; "" for none) of FILE or FILE#NAME. A file whose own name has a # is that file."""
    if PART in path.name and not path.exists():
        file, _, part = path.name.rpartition(PART)
        if file and part:
            return path.with_name(file), part
    return path, ""


def other_rows(path: Path, part: str, head: bytes) -> Optional[Iterator[Row]]:
    """The rows of a file of one of these formats, see `Source`; None for any other. head: its first bytes."""
    for source in SOURCES:
        if source.recognizes(head) and (not source.package or find_spec(source.package) is not None):
            return _guarded(path, partial(source.rows, path, part))
    return None


def service_rows(path: Path, said: Dict[str, Any]) -> Iterator[Row]:
    """The rows that [source] of the description `path` asks for, see `Service`. DataError where it says something invalid."""
    kind = said["kind"]
    if kind not in SERVICES:
        raise DataError(
            f"{path}: source.kind {kind!r}: unknown{near(str(kind), SERVICES)}; known: {', '.join(SERVICES)}"
        )
    service = SERVICES[kind]
    try:
        options = structure(
            {key: value for key, value in said.items() if key != "kind"}, service.options, f"{path}: source"
        )
    except UsageError as error:
        raise DataError(str(error)) from error
    if service.package and find_spec(service.package) is None:
        raise DataError(
            f"{path}: source.kind {kind!r} needs {service.package}, not installed here: pip install 'edgeward[{service.extra}]'"
        )
    return _guarded(path, partial(service.rows, options, path.parent))


def _guarded(path: Path, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """Whatever a library finds wrong is said of the file."""
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
