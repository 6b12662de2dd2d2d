"""Files of a finished run that a browser may fetch: its bundle or tables, privacy page, report. Nothing else of the folder."""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any, Dict, Optional, Tuple

from model_export.manifest import ALL_FILES, PRIVACY_PAGE
from orchestrator.errors import EdgewardError
from orchestrator.gateway.analysed import folder_of
from orchestrator.gateway.registry import MODELS
from orchestrator.gateway.web.delivered import files_of
from orchestrator.wire.plain import file_name, hex_name

_IN_MEMORY = 4 << 20
_TYPES = {
    "bundle.zip": "application/zip",
    "tables.zip": "application/zip",
    "privacy.md": "text/markdown; charset=utf-8",
    "report.json": "application/json",
}


def open_file(out: Path, run: str, name: str, report: Optional[Dict[str, Any]]) -> Tuple[IO[bytes], str, str]:
    """(content, media type, name to save it under) of one of `files_of`. EdgewardError where there is none."""
    if name not in files_of(report):
        raise EdgewardError(f"run {run} has no {name}" + ("" if report else " yet: its bundle is not made"))
    assert report is not None
    content: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the response closes it
    if name == "report.json":
        content.write(json.dumps(report, indent=2).encode() + b"\n")
    elif name == "tables.zip":
        _write_tables(content, folder_of(out, run))
    else:
        bundle = out / MODELS / hex_name(report["digest"]) / "bundle"
        if not bundle.is_dir():
            raise EdgewardError(
                f"model {report['digest']} is not kept in {out / MODELS}: it was removed, or made before models were"
            )
        _write(content, bundle, name)
    content.seek(0)
    return content, _TYPES[name], file_name(*_saved_as(run, name))


def _saved_as(run: str, name: str) -> Tuple[str, str, str]:
    before, _, after = name.partition(".")
    return before, run, after


def _write_tables(content: IO[bytes], folder: Path) -> None:
    if not folder.is_dir():
        raise EdgewardError(f"the tables were removed from {folder}; the same command as before writes them again")
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                archive.write(path, path.name)


def _write(content: IO[bytes], bundle: Path, name: str) -> None:
    if name == PRIVACY_PAGE:
        content.write((bundle / PRIVACY_PAGE).read_bytes())
        return
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in ALL_FILES:
            if (bundle / part).is_file():
                archive.write(bundle / part, part)
