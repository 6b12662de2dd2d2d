"""The resources of a bulk export (hl7.org/fhir/uv/bulkdata): NDJSON files, a resource a line, a type a file or several."""

import gzip
import os
import re
import zlib
from pathlib import Path
from typing import BinaryIO, Iterator, List, NamedTuple, Optional, Sequence, Tuple, cast

from orchestrator.data.sources.fhir_columns import Column
from orchestrator.data.sources.fhir_values import Resource, parsed
from orchestrator.errors import DataError
from orchestrator.wire.special_files import open_file

MOST_LINE = 1 << 24
"""Bytes of a line."""


class Found(NamedTuple):
    """A resource, or why it is not one. place: what follows the path of the source. number: of the line, or which one it is."""

    place: str
    number: int
    resource: Optional[Resource]
    wrong: str = ""


class Folder:
    base = ""  # of absolute references: a file has no address

    def __init__(self, path: Path) -> None:
        listed(path)
        self.path = path

    def found(self, kind: str, columns: Sequence[Column]) -> Iterator[Found]:
        """All resources of a type. Lines are counted through its files, which begin one by one in the order of their names."""
        files = files_of(self.path, kind)
        if not files:
            has = ", ".join(each.name for each in listed(self.path)[:12]) or "nothing"
            raise DataError(
                f"{self.path}: no {kind}.ndjson; it has {has}. Export {kind} too; where there is none, an empty file says so"
            )
        before = 0
        for path in files:
            number = 0
            try:
                with open_file(path) as opened:
                    file = cast(BinaryIO, gzip.GzipFile(fileobj=opened)) if path.suffix == ".gz" else opened
                    for number, line in _lines(path, file):
                        yield _found(f"/{path.name}:{number}", before + number, line)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(f"{path}: cannot be unpacked after line {number} ({error}); is it cut off?") from error
            except OSError as error:
                raise DataError(f"{path}: {error.strerror or error}") from error
            before += number


def files_of(folder: Path, kind: str) -> List[Path]:
    """The files of a type: those with its name between the dots, hyphens and underscores of theirs, as in 1.Patient.ndjson.gz."""
    files = [path for path in listed(folder) if re.search(r"\.ndjson(\.gz)?$", path.name)]
    return [path for path in files if kind in re.split(r"[._-]", path.name) and os.path.isfile(str(path))]


def listed(folder: Path) -> List[Path]:
    """What is in a folder, by name. DataError where it is not a folder, or may not be listed."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        found = "a file" if os.path.exists(str(folder)) else "no such folder"
        raise DataError(f"{folder}: {found}; `folder` names the folder of a bulk export") from error
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed ({error.strerror}); this user must be able to read the folder of a bulk export"
        ) from error


def _lines(path: Path, file: BinaryIO) -> Iterator[Tuple[int, bytes]]:
    number = 0
    while True:
        line = file.readline(MOST_LINE + 1)
        number += 1
        if not line:
            return
        if len(line) > MOST_LINE:
            raise DataError(f"{path}:{number}: a line of more than {MOST_LINE >> 20} MiB; a line holds one resource")
        if line.strip():
            yield number, line


def _found(place: str, number: int, line: bytes) -> Found:
    try:
        return Found(place, number, parsed(line))
    except ValueError as error:
        return Found(place, number, None, str(error))
