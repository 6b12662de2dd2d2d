"""`edgeward model`: turn a model into a bundle, check one, and run a model on the engines boards have."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from orchestrator.cli import model_registry
from orchestrator.cli.arguments import check_output, check_output_folder
from orchestrator.cli.commands import COMMANDS
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.wire.plain import plain

if TYPE_CHECKING:
    import numpy as np


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("model", help=COMMANDS["model"])
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    export = verbs.add_parser("export", help="write the bundle of a .keras or an int8 .tflite model")
    export.add_argument("model", metavar="MODEL.keras|MODEL.tflite", type=Path, help="the model to export")
    export.add_argument("--out", required=True, metavar="DIR", type=Path, help="the bundle's folder")
    export.add_argument(
        "--representative",
        metavar="X.npy",
        type=Path,
        help="rows in the model's units, (rows, ...): they set the int8 ranges of a .keras model; the bundle gets their "
        "deciles, which a board measures drift against, and no row",
    )
    export.add_argument("--labels", metavar="A,B,...", help="names of the classes, in the order of the outputs")
    ends = export.add_mutually_exclusive_group()
    ends.add_argument(
        "--softmax",
        dest="softmax",
        action="store_true",
        default=None,
        help="append a softmax to a .keras classifier that ends in logits (default: only where labels are given or the "
        "last layer is named logits; any other model stays as it is)",
    )
    ends.add_argument("--no-softmax", dest="softmax", action="store_false", help="append nothing: real values out")
    export.add_argument("--name", help="the model's name, at most 32 bytes (default: the file's)")
    export.add_argument(
        "--engine",
        choices=("direct", "tflm"),
        help="for firmware with this engine: direct refuses a model it cannot run, tflm leaves its plan out (default: both)",
    )
    export.add_argument("--json", action="store_true", help="print the manifest as JSON")
    export.set_defaults(run=run_export)

    own = verbs.add_parser("personalize", help="write the bundle of a node's own model, for training.personal")
    own.add_argument("file", metavar="personal-RUN.npz", type=Path, help="the file a node leaves in its state folder")
    own.add_argument("--out", required=True, metavar="DIR", type=Path, help="folder; the bundle is DIR/bundle")
    own.add_argument(
        "--calibration", metavar="DATA", type=Path, help="rows in the task's schema: they set the int8 ranges"
    )
    own.add_argument("--model", metavar="MODEL.keras", type=Path, help="where the task's model is a file")
    own.add_argument("--json", action="store_true", help="print what was made as JSON")
    own.set_defaults(run=run_personalize)

    verify = verbs.add_parser("verify", help="check a bundle, a model.bin or a .tflite byte by byte and in TFLM")
    verify.add_argument("path", metavar="DIR|model.bin|MODEL.tflite", type=Path, help="the bundle or file to check")
    verify.add_argument("--key", type=Path, metavar="PUBLIC.pem", help="also check that this key signed all of it")
    verify.add_argument("--json", action="store_true", help="print what was found as JSON")
    verify.set_defaults(run=run_verify)

    check = verbs.add_parser("preflight", help="say whether a model will run on a chip, before a board is touched")
    check.add_argument("path", metavar="DIR|model.bin|MODEL.tflite", type=Path, help="the bundle or file to check")
    check.add_argument(
        "--chip", required=True, choices=("esp32", "esp32s3", "esp32c3"), help="the chip it is meant for"
    )
    check.add_argument(
        "--firmware", type=Path, metavar="DIR", help="also check this build folder's images and partitions"
    )
    check.add_argument("--key", type=Path, metavar="PUBLIC.pem", help="also check that this key signed all of it")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.set_defaults(run=run_preflight)

    keygen = verbs.add_parser("keygen", help="make a key pair that signs models")
    keygen.add_argument("private", metavar="FILE", type=Path, help="gets the private key; FILE.pub the public one")
    keygen.add_argument("--json", action="store_true", help="print the files and the key's id as JSON")
    keygen.set_defaults(run=run_keygen)

    sign = verbs.add_parser("sign", help="sign a bundle: its model.bin, for boards that ask for it, and its manifest")
    sign.add_argument("bundle", metavar="BUNDLE|model.bin", type=Path, help="what to sign, in place")
    sign.add_argument(
        "--key", required=True, metavar="FILE", type=Path, help="private key, as `model keygen` writes it"
    )
    sign.add_argument("--json", action="store_true", help="print digest and key id as JSON")
    sign.set_defaults(run=run_sign)

    run = verbs.add_parser("run", help="run an int8 .tflite row by row, int8 in and int8 out")
    run.add_argument("model", metavar="MODEL.tflite", type=Path, help="the int8 model to run")
    run.add_argument("--engine", required=True, choices=("direct", "tflm"), help="our own kernels, or TFLM's")
    run.add_argument("--inputs", required=True, metavar="X.npy", type=Path, help="int8, (rows, ...)")
    run.add_argument("--outputs", required=True, metavar="Y.npy", type=Path, help="int8, (rows, ...), written")
    run.add_argument("--json", action="store_true", help="print rows, shapes and operators as JSON")
    run.set_defaults(run=run_model)
    model_registry.register(verbs)


def run_export(arguments: argparse.Namespace) -> int:
    from model_export.bundle import verify_bundle
    from model_export.keras_file import check_keras_file, refuse_other_models
    from model_export.model_bin import check_model_name
    from model_export.quantize import calibration_rows
    from orchestrator.cli.manifest_text import manifest_text
    from orchestrator.cli.tables import say

    labels = arguments.labels.split(",") if arguments.labels is not None else None
    name = arguments.name if arguments.name is not None else arguments.model.stem
    suffix = arguments.model.suffix.lower()
    with _export_errors(arguments.model):
        refuse_other_models(arguments.model)
    if not arguments.model.is_file():
        raise EdgewardError(f"{arguments.model}: there is no such file")
    check_output_folder(
        arguments.out.parent if arguments.out.is_dir() else arguments.out, "--out"
    )  # it is replaced whole
    if suffix == ".tflite" and arguments.softmax is not None:
        raise UsageError(
            f"{arguments.model}: a .tflite is exported as it is; --softmax and --no-softmax are for .keras"
        )
    if arguments.out.is_dir() and arguments.out.resolve() == arguments.model.resolve().parent:
        raise UsageError(
            f"--out {arguments.out}: holds {arguments.model.name} itself and would be replaced; name another folder"
        )
    if suffix == ".keras" and arguments.representative is None:
        raise UsageError("a .keras model needs --representative X.npy: rows of its input set the int8 ranges")
    if suffix == ".keras":
        with _export_errors(arguments.model):
            check_keras_file(arguments.model)
            check_model_name(name)
        rows = load_rows(arguments.representative)
        with _export_errors(arguments.representative):
            calibration_rows(rows, rows.shape[1:])
    with _export_errors(arguments.model):
        if suffix == ".keras":
            _export_keras(arguments, name, labels)
        else:
            _export_tflite(arguments, name, labels)
        manifest = verify_bundle(arguments.out, run=False)
    if arguments.json:
        print(json.dumps({**manifest, "bundle": str(arguments.out)}, indent=1))
    else:
        say(manifest_text(arguments.out, manifest))
    return 0


def run_personalize(arguments: argparse.Namespace) -> int:
    from orchestrator.gateway.personalization import personalize

    def progress(event: Dict[str, Any]) -> None:
        print(event.get("message", ""), file=sys.stderr)

    check_output_folder(arguments.out, "--out")
    made = personalize(arguments.file, arguments.out, progress, arguments.calibration, arguments.model)
    print(json.dumps(made) if arguments.json else f"bundle of node {made['node']}: {made['bundle']}")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    from model_export.bundle import strays, verify_bundle, verify_known_answers
    from model_export.model_bin import parse_model_bin
    from model_export.signing import check_bundle_signature, read_public_key, verify_model_bin
    from model_export.tflm import TflmModel
    from orchestrator.boards.compare import compare_engines
    from orchestrator.cli.manifest_text import manifest_text
    from orchestrator.cli.tables import say

    path: Path = arguments.path
    report: Dict[str, Any] = {"path": str(path), "ok": True}
    with _export_errors(path):
        key = None if arguments.key is None else read_public_key(arguments.key)
        if path.is_dir():
            manifest = verify_bundle(path, public_key=key)
            packed = parse_model_bin(_read(path / "model.bin"))
            signed_by = check_bundle_signature(path, packed.signature is not None, key)
            report.update(kind="bundle", manifest=manifest, known_answer_rows=manifest["known_answer_rows"])
            report["signed_by"] = signed_by or None
            report["strays"] = strays(path)
        elif path.suffix == ".tflite":
            if key is not None:
                raise UsageError(f"--key: {path} is a .tflite, which nobody signs; give the bundle or its model.bin")
            packed = None
            model = TflmModel(_read(path))
            report.update(kind="tflite", operators=model.operator_names, arena=model.arena._asdict())
        else:
            packed = parse_model_bin(_read(path)) if key is None else verify_model_bin(_read(path), key)
            report.update(
                kind="model.bin",
                name=packed.name,
                model_digest=packed.digest,
                signed=packed.signature is not None,
                arena={"tflm_bytes": packed.arena_tflm_bytes, "direct_bytes": packed.arena_direct_bytes},
                known_answer_rows=verify_known_answers(packed),
            )
        report["engines"] = compare_engines(_read(path) if packed is None else packed.tflite, packed)
    if arguments.json:
        print(json.dumps(report, indent=1))
        return 0
    if report["kind"] == "bundle":
        say(manifest_text(path, report["manifest"]))
        print(f"every digest agrees; TFLM gives all {report['known_answer_rows']} known answers")
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
            f"TFLM gives all {report['known_answer_rows']} known answers"
        )
    engines = report["engines"]
    skipped = f", not in engine/direct: {engines['direct_skipped']}" if engines["direct_skipped"] else ""
    print(f"{engines['rows']} synthetic rows ran in TFLM{skipped or ' and gave the same bits in engine/direct'}")
    return 0


def run_preflight(arguments: argparse.Namespace) -> int:
    from model_export.model_bin import model_bin_of
    from model_export.preflight import preflight
    from model_export.signing import read_public_key
    from orchestrator.boards.flash_images import firmware_regions
    from orchestrator.boards.partitions import SLOTS
    from orchestrator.boards.update import MODEL_CAPACITY

    path: Path = arguments.path
    with _export_errors(path):
        key = None if arguments.key is None else read_public_key(arguments.key)
        if path.is_dir():
            problem = _check_bundle(path, key)
        report = preflight(_read(model_bin_of(path)), arguments.chip, MODEL_CAPACITY, key)
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
            if chips != {arguments.chip}:
                built = ", ".join(sorted(str(chip) for chip in chips))
                report.add("error", "firmware", f"was built for {built}", f"build the environment of {arguments.chip}")
            else:
                report.add("ok", "partition", f"the images are whole and their table has {where}")
    if arguments.json:
        print(json.dumps({"path": str(path), **report.as_dict()}, indent=1))
    else:
        for finding in report.findings:
            print(f"{finding.level:<8} {finding.check}: {finding.message}")
            if finding.fix:
                print(f"{'':<8} fix: {finding.fix}")
        print(f"{path}: {'can' if report.ok else 'cannot'} run on {arguments.chip} as far as this machine can tell")
    return 0 if report.ok else 1


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


def run_keygen(arguments: argparse.Namespace) -> int:
    from model_export.signing import generate_key, key_id

    public_file = arguments.private.with_name(arguments.private.name + ".pub")
    with _export_errors(arguments.private):
        public = generate_key(arguments.private, public_file)
    report = {"private": str(arguments.private), "public": str(public_file), "key": key_id(public)}
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print(f"key {report['key']}: private in {report['private']} (keep it), public in {public_file} (for boards)")
    return 0


def run_sign(arguments: argparse.Namespace) -> int:
    from model_export.model_bin import parse_model_bin
    from model_export.signing import key_id, read_private_key, replace_file, sign_bundle, sign_model_bin

    path: Path = arguments.bundle
    with _export_errors(path):
        key = read_private_key(arguments.key)
        if path.is_dir():
            digest = sign_bundle(path, key)["model_digest"]
        else:
            signed = sign_model_bin(_read(path), key)
            replace_file(path, signed)
            digest = parse_model_bin(signed).digest
    report = {"path": str(path), "model_digest": digest, "key": key_id(key.public_key())}
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print(f"{path}: model {digest} is signed by key {report['key']}")
    return 0


def run_model(arguments: argparse.Namespace) -> int:
    import numpy as np

    from model_export.tflite_file import read_tflite, single_edges
    from model_export.tflm import TflmModel, check_rows

    check_output(arguments.outputs, "--outputs")
    for name, given in (("the model", arguments.model), ("--inputs", arguments.inputs)):
        if arguments.outputs.exists() and given.exists() and os.path.samefile(arguments.outputs, given):
            raise UsageError(f"--outputs {arguments.outputs}: is {name} itself; name another file")
    with _export_errors(arguments.model):
        blob = _read(arguments.model)
        model = read_tflite(blob)
        entry, leave = single_edges(model)
        if entry.dtype != "int8":
            raise EdgewardError(f"{arguments.model}: takes {entry.dtype}; accepted is a full int8 model")
    inputs = load_rows(arguments.inputs)
    with _export_errors(arguments.inputs):
        rows = check_rows(inputs, entry.shape)
    with _export_errors(arguments.model):
        if arguments.engine == "tflm":
            outputs = TflmModel(blob).run(rows)
        else:
            from orchestrator.boards.host_engine import run_direct

            outputs = run_direct(blob, rows)
    outputs = np.asarray(outputs, np.int8).reshape(len(rows), *leave.shape[1:])
    with open(arguments.outputs, "wb") as stream:  # a file object, or numpy would add a suffix to the name
        np.save(stream, outputs)
    report = {
        "model": str(arguments.model),
        "engine": arguments.engine,
        "rows": len(rows),
        "outputs": str(arguments.outputs),
        "output_shape": list(outputs.shape),
        "operators": sorted({op.code for op in model.ops}),
    }
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print(f"{arguments.model}: {len(rows)} rows through {arguments.engine} into {arguments.outputs}")
    return 0


def load_rows(path: Path) -> np.ndarray:
    """One array from a .npy file. Raises EdgewardError if it is missing, no .npy file, or holds Python objects."""
    from model_export.array_files import read_array

    with _export_errors(path):
        return read_array(path)


def _export_keras(arguments: argparse.Namespace, name: str, labels: Optional[List[str]]) -> None:
    from model_export.client import run_worker

    spec: Dict[str, Any] = {
        "model": {"kind": "keras", "path": str(arguments.model.resolve())},
        "name": name,
        "representative": str(arguments.representative.resolve()),
    }
    if labels is not None:
        spec["labels"] = labels
    if arguments.engine is not None:
        spec["engine"] = arguments.engine
    if arguments.softmax is not None:
        spec["softmax"] = arguments.softmax
    run_worker("bundle", spec, arguments.out, lambda line: print(line, file=sys.stderr))


def _export_tflite(arguments: argparse.Namespace, name: str, labels: Optional[List[str]]) -> None:
    from model_export.bundle import write_bundle
    from model_export.tflm import TflmModel

    blob = _read(arguments.model)
    rows = None
    if arguments.representative is not None:
        rows = load_rows(arguments.representative)
        if rows.dtype.kind == "f":
            model = TflmModel(blob)
            with _export_errors(arguments.representative):
                rows = model.input.quantize(rows)
    write_bundle(
        arguments.out,
        tflite=blob,
        name=name,
        labels=labels,
        reference_rows=rows,
        engine=arguments.engine,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise EdgewardError(f"{path}: there is no such file or folder") from error
    except OSError as error:
        raise EdgewardError(f"{path}: cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _export_errors(path: Path) -> Iterator[None]:
    """Give model_export's errors the file they are about, and the type the command line reports."""
    from model_export.errors import ExportError, ModelFileError

    try:
        yield
    except ExportError as error:
        text, kind = str(error), UsageError if isinstance(error, ModelFileError) else EdgewardError
        named = text.startswith((str(path), str(path.resolve())))
        raise kind(text if named else f"{path}: {text}") from error
