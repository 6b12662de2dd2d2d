"""`edgeward model export --as KIND`: a model and the engine that runs it, for firmware that is not Edgeward's."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict

from orchestrator.boards.library.kinds import KINDS
from orchestrator.cli.arguments import check_output_folder
from orchestrator.cli.model_files import naming
from orchestrator.errors import UsageError
from orchestrator.wire.plain import many


def run_library(arguments: argparse.Namespace, export: Callable[[argparse.Namespace], Dict[str, Any]]) -> int:
    """export: writes the bundle of what is no bundle yet."""
    from model_export.manifest import bundle_inside
    from orchestrator.boards.library.packaged import NO_TREES, library_of
    from orchestrator.files import new_folder

    out, model = arguments.out, arguments.model
    check_output_folder(out, "--out")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"--out {out}: is a folder with other files in it; name a new or an empty folder")
    if arguments.engine == "tflm":
        raise UsageError("--engine tflm: a library of --as has engine/direct; leave the option out")
    whole = model.is_dir()
    if model.suffix.lower() == ".json" or (
        (model / "result.json").is_file() and not (model / "manifest.json").is_file()
    ):
        raise UsageError(f"{model}: {NO_TREES}; export it without --as{bundle_inside(model)}")
    if whole:
        _check_options(arguments)
    with tempfile.TemporaryDirectory(prefix="edgeward-library-") as folder:
        bundle = model
        if not whole:
            bundle = Path(folder) / "bundle"
            export(argparse.Namespace(**{**vars(arguments), "out": bundle, "engine": None}))
        with naming(model):
            library = library_of(bundle, arguments.kind, arguments.name or "", str(model))
    new_folder(out, library.files)
    report = {
        "library": str(out),
        "kind": library.kind,
        "name": library.name,
        "header": f"{library.name}.h",
        "model_digest": library.digest,
        "arena_bytes": library.arena_bytes,
        "constant_bytes": library.constant_bytes,
        "files": sorted(library.files),
    }
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print(
            f"{out}: {library.name}, {KINDS[library.kind]} of model {library.digest}, {many(len(library.files), 'file')}\n"
            f"{library.constant_bytes:,} bytes of model and plan, {library.arena_bytes:,} of arena; {out / 'README.md'} says how "
            "to build it and what its example prints"
        )
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """UsageError for options that a bundle has answered already, and for a name that no model has."""
    from model_export.errors import ExportError
    from model_export.model_bin import check_model_name

    softmax = "no-softmax" if arguments.softmax is False else "softmax"
    for option, value in (
        ("labels", arguments.labels),
        ("representative", arguments.representative),
        ("audio", arguments.audio),
        (softmax, arguments.softmax),
    ):
        if value is not None:
            raise UsageError(
                f"--{option}: is for a model that is exported; the bundle {arguments.model} has it already, or has none"
            )
    try:
        if arguments.name is not None:
            check_model_name(arguments.name)
    except ExportError as error:
        raise UsageError(f"--name {arguments.name}: {error}") from error
