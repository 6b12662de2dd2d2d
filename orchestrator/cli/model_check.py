"""`edgeward model verify` and `preflight`: what can be said of a model before a board is touched."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from orchestrator.cli.model_files import naming, read_file, read_model
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.wire.plain import plain


def run_verify(arguments: argparse.Namespace) -> int:
    from model_export.bundle import strays, verify_bundle, verify_known_answers
    from model_export.model_bin import parse_model_bin
    from model_export.signing import check_bundle_signature, verify_model_bin
    from model_export.tflm import TflmModel
    from model_export.trees import is_trees
    from orchestrator.boards.compare import compare_engines
    from orchestrator.cli.manifest_text import manifest_text
    from orchestrator.cli.tables import say
    from orchestrator.wire.pem import model_public_key

    path: Path = arguments.path
    report: Dict[str, Any] = {"path": str(path), "ok": True}
    key = None if arguments.key is None else model_public_key(arguments.key)
    with naming(path):
        if path.is_dir():
            manifest = verify_bundle(path, public_key=key)
            packed = parse_model_bin(read_file(path / "model.bin"))
            signed_by = check_bundle_signature(path, packed.signature is not None, key)
            report.update(kind="bundle", manifest=manifest, known_answer_rows=manifest["known_answer_rows"])
            report["signed_by"] = signed_by or None
            report["strays"] = strays(path)
        elif path.suffix == ".tflite":
            if key is not None:
                raise UsageError(f"--key: {path} is a .tflite, which nobody signs; give the bundle or its model.bin")
            packed = None
            tflite = read_model(path)
            model = TflmModel(tflite)
            report.update(kind="tflite", operators=model.operator_names, arena=model.arena._asdict())
        else:
            packed = parse_model_bin(read_file(path)) if key is None else verify_model_bin(read_file(path), key)
            report.update(
                kind="model.bin",
                name=packed.name,
                model_digest=packed.digest,
                signed=packed.signature is not None,
                arena={"tflm_bytes": packed.arena_tflm_bytes, "direct_bytes": packed.arena_direct_bytes},
                known_answer_rows=verify_known_answers(packed),
            )
        report["engines"] = compare_engines(tflite if packed is None else packed.tflite, packed)
    if arguments.json:
        print(json.dumps(report, indent=1))
        return 0
    trees = packed is not None and is_trees(packed.tflite)
    runner, engine = ("the reference for trees", "engine/trees") if trees else ("TFLM", "engine/direct")
    if report["kind"] == "bundle":
        say(manifest_text(path, report["manifest"]))
        print(f"every digest agrees; {runner} gives all {report['known_answer_rows']} known answers")
        if report["signed_by"]:
            whose = "the key given" if arguments.key is not None else "whose is yours to compare: --key"
            print(f"model and manifest are signed by key {report['signed_by']}, {whose}")
        for name in report["strays"]:
            print(
                f"warning: {plain(name)} belongs to no bundle: look what it holds before you pass the folder on",
                file=sys.stderr,
            )
    elif report["kind"] == "tflite":
        print(
            f"{path}: TFLM runs it; operators {', '.join(report['operators'])}; arena {report['arena']['total']} bytes"
        )
    else:
        say(
            f"{path}: {report['name']}, digest {report['model_digest']}, {'signed' if report['signed'] else 'not signed'}; "
            f"{runner} gives all {report['known_answer_rows']} known answers"
        )
    engines = report["engines"]
    skipped = f", not in {engine}: {engines['direct_skipped']}" if engines["direct_skipped"] else ""
    print(f"{engines['rows']} synthetic rows ran in {runner}{skipped or f' and gave the same bits in {engine}'}")
    return 0


def run_preflight(arguments: argparse.Namespace) -> int:
    from model_export.model_bin import model_bin_of
    from model_export.preflight import preflight
    from orchestrator.boards.flash_images import firmware_regions
    from orchestrator.boards.partitions import MODEL_CAPACITY, SLOTS
    from orchestrator.wire.pem import model_public_key

    path: Path = arguments.path
    if arguments.port is not None and arguments.parts:
        raise UsageError(f"--with {arguments.parts[0]}: a board that is connected says itself how much memory it has")
    chip, board = (arguments.chip, None) if arguments.port is None else _connected(arguments.port)
    key = None if arguments.key is None else model_public_key(arguments.key)
    with naming(path):
        if path.is_dir():
            problem = _check_bundle(path, key)
        report = preflight(read_file(model_bin_of(path)), chip, MODEL_CAPACITY, key, board, arguments.parts or ())
    if path.is_dir() and problem is not None:
        report.add("error", "signature", problem, "sign the bundle with that key: edgeward model sign")
    where = ", ".join(f"slot {name} at {slot.offset:#x}" for name, slot in SLOTS.items())
    if arguments.firmware is None:
        report.add("ok", "partition", f"{where}; `edgeward flash` compares the board's own table")
    else:
        try:
            chips = {region.chip for region in firmware_regions(arguments.firmware)} - {None}
        except EdgewardError as error:
            report.add("error", "partition", str(error), "build the firmware again: pio run -e ENVIRONMENT")
        else:
            if chips != {chip}:
                built = ", ".join(sorted(str(chip) for chip in chips))
                report.add("error", "firmware", f"was built for {built}", f"build the environment of {chip}")
            else:
                report.add("ok", "partition", f"the images are whole and their table has {where}")
    if arguments.json:
        print(json.dumps({"path": str(path), **report.as_dict()}, indent=1))
    else:
        for finding in report.findings:
            print(f"{finding.level:<8} {finding.check}: {finding.message}")
            if finding.fix:
                print(f"{'':<8} fix: {finding.fix}")
        print(f"{path}: {'can' if report.ok else 'cannot'} run on {chip} as far as this machine can tell")
    return 0 if report.ok else 1


def _connected(port: str) -> Tuple[str, Any]:
    """Chip, and what the board at this port says of its engine and memory."""
    from model_export.preflight import Board
    from orchestrator.boards.client import BoardClient

    with BoardClient(port) as board:
        info, metrics = board.info(), board.metrics()
    return plain(info["chip"]), Board(info["engine"], metrics["arena_bytes"])


def _check_bundle(path: Path, key: Any) -> Optional[str]:
    """What is wrong with a whole bundle's signature; everything else that is wrong with it is raised."""
    from model_export.bundle import verify_bundle
    from model_export.bundle_check import check_files
    from model_export.signing import SignatureError

    check_files(path)
    try:
        verify_bundle(path, run=False, public_key=key)
    except SignatureError as error:
        return str(error)
    return None
