"""`edgeward model`: turn a model into a bundle, check one, and run a model on the engines boards have."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from model_export.chips import CHIPS, HEAP_OF
from orchestrator.boards.library.kinds import KINDS
from orchestrator.cli import model_registry
from orchestrator.cli.arguments import check_output, check_output_folder
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.model_check import run_preflight, run_verify
from orchestrator.cli.model_files import load_rows, naming, read_audio, read_file, read_model
from orchestrator.cli.model_library import run_library
from orchestrator.errors import GivenError, UsageError
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    pass


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("model", help=COMMANDS["model"])
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    export = verbs.add_parser(
        "export",
        help="write the bundle of a .keras, an int8 .tflite, or the trees of an analysis; or a library for firmware of your own",
    )
    export.add_argument(
        "model",
        metavar="MODEL.keras|MODEL.tflite|result.json|BUNDLE",
        type=Path,
        help="the model to export, or the result of a forest or of boosted trees (or the folder with its result.json); with "
        "--as also the folder of a bundle",
    )
    export.add_argument("--out", required=True, metavar="DIR", type=Path, help="the bundle's folder, or the library's")
    export.add_argument(
        "--as",
        dest="kind",
        choices=tuple(KINDS),
        help="write no bundle but a library of engine/direct and the model, for firmware of your own: sources, a header for C "
        "and C++, and an example, as this tool has them",
    )
    export.add_argument(
        "--representative",
        metavar="X.npy",
        type=Path,
        help="rows in the model's units, (rows, ...), for trees a table in the task's schema: they set the int8 ranges of a "
        ".keras model; the bundle gets their deciles, which a board measures drift against, and no row",
    )
    export.add_argument("--labels", metavar="A,B,...", help="names of the classes, in the order of the outputs")
    ends = export.add_mutually_exclusive_group()
    ends.add_argument(
        "--softmax",
        dest="softmax",
        action="store_true",
        default=None,
        help="append a softmax to a .keras classifier that ends in logits (default: the model stays as it is)",
    )
    ends.add_argument("--no-softmax", dest="softmax", action="store_false", help="append nothing: real values out")
    export.add_argument(
        "--name",
        help="the model's name, at most 32 bytes (default: the first 32 of the file's); of a bundle's library what its names in "
        "C are made of",
    )
    export.add_argument(
        "--engine",
        choices=("direct", "tflm"),
        help="for firmware with this engine: direct refuses a model it cannot run, tflm leaves its plan out (default: both)",
    )
    export.add_argument(
        "--audio",
        metavar="micro-wake-word|log-mel|FILE.toml",
        help="the model takes features of sound: with micro-wake-word's parameters, those of MLPerf Tiny's streaming wake word "
        "(log-mel), or with those that a file has in place of them",
    )
    export.add_argument("--json", action="store_true", help="print the manifest as JSON, or what is in the library")
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
    where = check.add_mutually_exclusive_group(required=True)
    where.add_argument("--chip", choices=tuple(CHIPS), help="the chip it is meant for")
    where.add_argument("--port", help="a board that is connected: its chip, engine and memory, as it says itself")
    check.add_argument(
        "--with",
        dest="parts",
        action="append",
        choices=tuple(HEAP_OF),
        help="with --chip: the firmware is built with it, which leaves a model less memory; can be given again",
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
    from orchestrator.cli.manifest_text import manifest_text
    from orchestrator.cli.tables import say

    if arguments.kind is not None:
        return run_library(arguments, _export)
    manifest = _export(arguments)
    if arguments.json:
        print(json.dumps({**manifest, "bundle": str(arguments.out)}, indent=1))
    else:
        say(manifest_text(arguments.out, manifest))
    return 0


def _export(arguments: argparse.Namespace) -> Dict[str, Any]:
    """Writes the bundle and gives its manifest."""
    from model_export.bundle import verify_bundle
    from model_export.given_rows import check_shape
    from model_export.keras_file import check_keras_file, refuse_other_models, row_shape
    from model_export.model_bin import check_model_name, name_of_file
    from model_export.quantize import calibration_rows

    if arguments.model.suffix.lower() == ".json" or (arguments.model / "result.json").is_file():
        return _export_trees(arguments)
    labels, audio = named_labels(arguments), read_audio(arguments.audio)
    suffix = arguments.model.suffix.lower()
    with naming(arguments.model):
        name = arguments.name if arguments.name is not None else name_of_file(arguments.model.stem)
        refuse_other_models(arguments.model)
    if not arguments.model.is_file():
        raise GivenError(f"{arguments.model}: there is no such file")
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
        with naming(arguments.model):
            shape = row_shape(check_keras_file(arguments.model))
            check_model_name(name)
        rows = load_rows(arguments.representative)
        with naming(arguments.representative):
            check_shape(rows, rows.shape[1:] if shape is None else shape, "representative data")
            calibration_rows(rows, rows.shape[1:])
    with naming(arguments.model):
        if suffix == ".keras":
            _export_keras(arguments, name, labels, audio)
        else:
            _export_tflite(arguments, name, labels, audio)
        return verify_bundle(arguments.out, run=False)


def named_labels(arguments: argparse.Namespace) -> Optional[List[str]]:
    """Of --labels, checked before TensorFlow starts as far as the file alone says how many there are to be."""
    from model_export.errors import ExportError
    from model_export.keras_file import check_keras_file, outputs_of
    from model_export.manifest import check_labels
    from model_export.tflite_file import read_tflite, single_edges

    if arguments.labels is None:
        return None
    labels, outputs = arguments.labels.split(","), None
    if arguments.model.is_file():
        with naming(arguments.model):
            if arguments.model.suffix.lower() == ".keras":
                outputs = outputs_of(check_keras_file(arguments.model))
            elif arguments.model.suffix.lower() == ".tflite":
                outputs = (1, *single_edges(read_tflite(read_file(arguments.model)))[1].shape)[-1]
    try:
        return check_labels(labels, len(labels) if outputs is None else outputs)
    except ExportError as error:
        raise UsageError(f"--labels {arguments.labels}: {error}") from error


def _export_trees(arguments: argparse.Namespace) -> Dict[str, Any]:
    from model_export.model_bin import check_model_name
    from orchestrator.gateway.trees_bundle import export_trees

    for option in ("labels", "softmax", "engine"):
        if getattr(arguments, option) is not None:
            raise UsageError(
                f"--{option}: is for a .keras or a .tflite model; trees have theirs, and run in every firmware"
            )
    check_output_folder(arguments.out.parent if arguments.out.is_dir() else arguments.out, "--out")
    with naming(arguments.model):
        if arguments.name is not None:
            check_model_name(arguments.name)
    return export_trees(arguments.model, arguments.out, arguments.name or "", arguments.representative)


def run_personalize(arguments: argparse.Namespace) -> int:
    from orchestrator.gateway.personalization import personalize

    def progress(event: Dict[str, Any]) -> None:
        print(event.get("message", ""), file=sys.stderr)

    check_output_folder(arguments.out, "--out")
    made = personalize(arguments.file, arguments.out, progress, arguments.calibration, arguments.model)
    print(json.dumps(made) if arguments.json else f"bundle of node {made['node']}: {made['bundle']}")
    return 0


def run_keygen(arguments: argparse.Namespace) -> int:
    from model_export.signing import generate_key, key_id

    public_file = arguments.private.with_name(arguments.private.name + ".pub")
    with naming(arguments.private):
        public = generate_key(arguments.private, public_file)
    report = {"private": str(arguments.private), "public": str(public_file), "key": key_id(public)}
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print(f"key {report['key']}: private in {report['private']} (keep it), public in {public_file} (for boards)")
    return 0


def run_sign(arguments: argparse.Namespace) -> int:
    from model_export.model_bin import parse_model_bin
    from model_export.signing import key_id, replace_file, sign_bundle, sign_model_bin
    from orchestrator.wire.pem import model_private_key

    path: Path = arguments.bundle
    key = model_private_key(arguments.key)
    with naming(path):
        if path.is_dir():
            digest = sign_bundle(path, key)["model_digest"]
        else:
            signed = sign_model_bin(read_file(path), key)
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
    from orchestrator.files import new_file

    check_output(arguments.outputs, "--outputs", {"the model": arguments.model, "--inputs": arguments.inputs})
    with naming(arguments.model):
        blob = read_model(arguments.model)
        model = read_tflite(blob)
        entry, leave = single_edges(model)
        if entry.dtype != "int8":
            raise GivenError(f"{arguments.model}: takes {entry.dtype}; accepted is a full int8 model")
    inputs = load_rows(arguments.inputs)
    with naming(arguments.inputs):
        rows = check_rows(inputs, entry.shape)
    with naming(arguments.model):
        if arguments.engine == "tflm":
            outputs = TflmModel(blob).run(rows)
        else:
            from orchestrator.boards.host_engine import run_direct

            outputs = run_direct(blob, rows)
    outputs = np.asarray(outputs, np.int8).reshape(len(rows), *leave.shape[1:])
    # Not by its name, to which NumPy would add a suffix.
    with new_file(arguments.outputs, replaces=True) as fresh, fresh.open("wb") as stream:
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
        print(f"{arguments.model}: {many(len(rows), 'row')} through {arguments.engine} into {arguments.outputs}")
    return 0


def _export_keras(
    arguments: argparse.Namespace, name: str, labels: Optional[List[str]], audio: Optional[Dict[str, Any]]
) -> None:
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
    if audio is not None:
        spec["audio"] = audio
    run_worker("bundle", spec, arguments.out, lambda line: print(line, file=sys.stderr))


def _export_tflite(
    arguments: argparse.Namespace, name: str, labels: Optional[List[str]], audio: Optional[Dict[str, Any]]
) -> None:
    from model_export.bundle import write_bundle
    from model_export.errors import RowsError
    from model_export.given_rows import check_numbers
    from model_export.tflite_file import read_tflite, single_edges
    from model_export.tflm import TflmModel, check_rows, check_size

    blob = read_model(arguments.model)
    rows = None
    if arguments.representative is not None:
        entry = single_edges(read_tflite(blob))[0]
        rows = load_rows(arguments.representative)
        with naming(arguments.representative):
            if rows.ndim and not len(rows):
                raise RowsError("no representative rows: give some, or none at all")
            if rows.dtype.kind != "f":
                rows = check_rows(rows, entry.shape)
            else:
                check_size(rows, entry.shape)
                rows = check_numbers(rows, "the rows hold")
        if rows.dtype.kind == "f":
            rows = TflmModel(blob).input.quantize(rows)
    write_bundle(
        arguments.out,
        tflite=blob,
        name=name,
        labels=labels,
        reference_rows=rows,
        engine=arguments.engine,
        audio=audio,
    )
