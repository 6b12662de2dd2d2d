"""`edgeward score`: a linear model scores a record it cannot read: keygen, encrypt, run, decrypt."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Tuple

from orchestrator.cli.arguments import add_json, check_output
from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.json_text import from_json
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    pass

SECRET_FILE, PUBLIC_FILE, OPENED_FILE = "secret.key", "public.ctx", "opened"

_EPILOG = """the client has the records, the server the model:
  client  edgeward score keygen --out keys
  client  edgeward score encrypt --key keys --record patients.csv --manifest manifest.json -o request.enc
  server  edgeward score run --public public.ctx --request request.enc --bundle bundle -o answer.enc
  client  edgeward score decrypt --key keys --answer answer.enc --manifest manifest.json

public.ctx and request.enc go to the server, answer.enc comes back; secret.key stays. manifest.json is the bundle's, and
says how records are standardized. Keys are for one request: they open one answer. The server learns nothing of the records,
as long as nobody tells it what came out (docs/encryption.md); the client, who learns logits, can work out a linear model
from a few of them."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "score",
        help=COMMANDS["score"],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    keygen = verbs.add_parser("keygen", help="client: make a key pair, for one request")
    keygen.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for secret.key and public.ctx")
    keygen.set_defaults(run=_keygen)

    encrypt = verbs.add_parser("encrypt", help="client: standardize and encrypt records")
    encrypt.add_argument("--record", type=Path, required=True, metavar="CSV|JSON", help="raw values by feature name")
    encrypt.set_defaults(run=_encrypt)

    run = verbs.add_parser("run", help="server: compute the encrypted scores")
    run.add_argument("--public", type=Path, required=True, metavar=PUBLIC_FILE, help="the client's public context")
    run.add_argument("--request", type=Path, required=True, metavar="FILE", help="the client's encrypted records")
    run.add_argument("--bundle", type=Path, metavar="DIR", help="score with a bundle's int8 weights")
    run.add_argument(
        "--weights",
        type=Path,
        metavar="NPZ|NPY",
        help="score with float weights: kernel and bias, or OUT/work/trained.npy with its --bundle",
    )
    run.set_defaults(run=_run)

    add_json(keygen, encrypt, run)
    decrypt = verbs.add_parser("decrypt", help="client: decrypt the scores")
    decrypt.add_argument("--answer", type=Path, required=True, metavar="FILE", help="what the server sent back")
    decrypt.add_argument("--json", action="store_true", help="as JSON")
    decrypt.set_defaults(run=_decrypt)

    for verb in (encrypt, decrypt):
        verb.add_argument("--key", type=Path, required=True, metavar="DIR", help="the folder keygen wrote")
        verb.add_argument(
            "--manifest", type=Path, required=True, metavar="FILE", help="the bundle's manifest.json, or the bundle"
        )
    for verb in (encrypt, run):
        verb.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="file for the other side")


def _keygen(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.errors import GivenError
    from orchestrator.privacy.encrypted_score import Client
    from orchestrator.wire.pki import create_file

    folder: Path = arguments.out
    for name in (SECRET_FILE, PUBLIC_FILE):
        if (folder / name).exists():
            raise GivenError(f"{folder / name} exists: keys are never overwritten. Give another folder")
    client = Client.make()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    create_file(folder / SECRET_FILE, client.secret_key(), private=True)
    try:
        create_file(folder / PUBLIC_FILE, client.public_context())
    except BaseException:
        (folder / SECRET_FILE).unlink()
        raise
    key = client.key_id.hex()[:16]
    report(
        arguments.json,
        {"secret": str(folder / SECRET_FILE), "public": str(folder / PUBLIC_FILE), "key": key},
        f"{folder / SECRET_FILE}  keep it: it opens the records of this pair's request, and one answer\n"
        f"{folder / PUBLIC_FILE}  for the server, key {key}",
    )
    return 0


def _encrypt(arguments: argparse.Namespace) -> int:
    import numpy as np

    from orchestrator.cli.tables import report
    from orchestrator.wire.logarithm import logarithm_within

    read = {"--record": arguments.record, "--manifest": arguments.manifest}
    read.update({SECRET_FILE: arguments.key / SECRET_FILE, PUBLIC_FILE: arguments.key / PUBLIC_FILE})
    check_output(arguments.output, "--output", read)
    manifest = _manifest(arguments.manifest)
    features = manifest["features"]
    columns = list(dict.fromkeys(feature["name"].partition("=")[0] for feature in features))
    rows = read_records(arguments.record, columns)
    raw = np.array([encode_record(where, record, features) for where, record in rows])
    for column, feature in enumerate(features):
        if feature.get("transform"):
            raw[:, column] = logarithm_within(raw[:, column], feature["minimum"], feature["maximum"])
    mean, std = (np.array([feature[key] for feature in features]) for key in ("mean", "std"))
    request = _client(arguments.key).encrypt((raw - mean) / std, len(manifest["labels"]))
    _write(arguments.output, request)
    report(
        arguments.json,
        {"file": str(arguments.output), "records": len(rows), "features": len(features), "bytes": len(request)},
        f"{arguments.output}: {many(len(rows), 'record')}, {many(len(features), 'feature')}, {len(request):,} bytes",
    )
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from model_export.linear import archived_linear, bundled_linear
    from orchestrator.cli.tables import report
    from orchestrator.errors import UsageError
    from orchestrator.privacy.encrypted_score import Server, read_shape

    read = {"--public": arguments.public, "--request": arguments.request, "--weights": arguments.weights}
    check_output(arguments.output, "--output", read)
    if arguments.bundle is None and arguments.weights is None:
        raise UsageError("no model: give --bundle DIR, --weights FILE, or both")
    with _about(arguments.public):
        server = Server(_read(arguments.public))
    request = _read(arguments.request)
    with _export_errors():
        if arguments.weights is None:
            model = bundled_linear(arguments.bundle)
        else:
            model = archived_linear(arguments.weights, arguments.bundle)
    with _about(arguments.request):
        answer = server.score(request, model.kernel, model.bias)
    _write(arguments.output, answer)
    records = read_shape(request)[0]
    report(
        arguments.json,
        {"file": str(arguments.output), "records": records, "bytes": len(answer)},
        f"{arguments.output}: scores of {many(records, 'record')}, {len(answer):,} bytes",
    )
    return 0


def _decrypt(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import table
    from orchestrator.errors import DataError
    from orchestrator.wire.targets.classes import softmax

    labels: List[str] = _manifest(arguments.manifest)["labels"]
    client = _client(arguments.key)
    with _about(arguments.answer):
        logits = client.decrypt(_read(arguments.answer))
    if logits.shape[1] != len(labels):
        raise DataError(f"{arguments.manifest}: {len(labels)} labels, the answer has {logits.shape[1]} classes")
    probabilities = softmax(logits)
    best = probabilities.argmax(axis=1)
    if arguments.json:
        records = [
            {
                "label": labels[winner],
                "probabilities": dict(zip(labels, (float(p) for p in row))),
                "logits": [float(value) for value in values],
            }
            for winner, row, values in zip(best, probabilities, logits)
        ]
        print(json.dumps(records, indent=1))
        return 0
    rows: List[Tuple[str, ...]] = [("record", "label", *labels)]
    for i, (winner, row) in enumerate(zip(best, probabilities), 1):
        rows.append((str(i), labels[winner], *(f"{p:.4f}" for p in row)))
    print(table(rows))
    return 0


def _client(folder: Path) -> Any:
    """With what its keys have opened, and the means to note it."""
    from orchestrator.privacy.encrypted_score import Client
    from orchestrator.wire.pki import create_file

    opened = folder / OPENED_FILE
    return Client.from_files(
        _read(folder / SECRET_FILE),
        _read(folder / PUBLIC_FILE),
        _read(opened) if opened.exists() else b"",
        lambda digest: create_file(opened, digest, private=True),
    )


def _manifest(path: Path) -> Dict[str, Any]:
    """With a feature for every input and a label for every class, or DataError."""
    from model_export.manifest import MANIFEST, check_features, read_manifest
    from orchestrator.errors import DataError

    folder = path.parent if path.name == MANIFEST else path
    with _export_errors():
        manifest = read_manifest(folder)
        shape = manifest["input"]["shape"]
        manifest["features"] = check_features(manifest["features"], tuple(shape))
    if len(shape) != 2 or len(manifest["features"]) != shape[1]:
        raise DataError(
            f"{path}: an input of shape {shape} with {len(manifest['features'])} described features; records are scored "
            "where each input has a name, mean and std"
        )
    if not manifest["labels"]:
        raise DataError(
            f"{path}: names no classes, and scores are of classes: the model is of a number or of something else"
        )
    operators = {entry["name"]: entry["count"] for entry in manifest["operators"]}
    if set(operators) - {"SOFTMAX"} != {"FULLY_CONNECTED"} or operators["FULLY_CONNECTED"] != 1:
        raise DataError(
            f"{path}: not of a linear model, but {', '.join(f'{count} {name}' for name, count in operators.items())}; encrypted "
            'scores take one layer and a softmax (in edgeward.toml: kind = "mlp", hidden = [])'
        )
    if len(manifest["labels"]) != manifest["output"]["shape"][-1]:
        raise DataError(f"{path}: {len(manifest['labels'])} labels for {manifest['output']['shape'][-1]} classes")
    return manifest


def read_records(path: Path, columns: List[str]) -> List[Tuple[str, Mapping[str, Any]]]:
    """(where it is, raw values by name) for each record of a CSV file with a header, or a JSON object or list of objects."""
    from orchestrator.data.formats import HEAD_BYTES, refuse_other_formats
    from orchestrator.errors import DataError

    data = _read(path)
    refuse_other_formats(path, data[:HEAD_BYTES], "table")
    try:
        text = data.decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            content = from_json(text, finite=False)
            found = content if isinstance(content, list) else [content]
            records = [(f"{path}: record {i}", record) for i, record in enumerate(found, 1)]
        else:
            records = _table_records(path, data, text, columns)
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as {'JSON' if path.suffix.lower() == '.json' else 'CSV'}: {error}"
        ) from error
    if not records:
        raise DataError(f"{path}: no record in it")
    for where, record in records:
        if not isinstance(record, dict):
            raise DataError(f"{where}: is {type(record).__name__}, must be an object with a value for each feature")
    return records


def _table_records(path: Path, data: bytes, text: str, columns: List[str]) -> List[Tuple[str, Mapping[str, Any]]]:
    """The rows of a CSV file, each with a value for every column of its own."""
    from orchestrator.data.formats import blank, other_text
    from orchestrator.errors import DataError

    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [cell.strip() for cell in next(reader, [])]
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}:1: column {twice[0]!r} occurs twice; which one is meant?")
    why = other_text(data, columns, header) if not set(columns) <= set(header) else ""
    if why:
        raise DataError(f"{path}:1: {why}")
    records: List[Tuple[str, Mapping[str, Any]]] = []
    for cells in reader:
        where = f"{path}:{reader.line_num}"
        if blank(cells):
            continue
        if len(cells) != len(header):
            raise DataError(f"{where}: {len(cells)} values, the first line names {len(header)} columns")
        records.append((where, dict(zip(header, (cell.strip() for cell in cells)))))
    return records


def encode_record(where: str, record: Mapping[str, Any], features: List[Dict[str, Any]]) -> List[float]:
    """Inputs in the manifest's order. `cp=1` is whether column cp holds category 1, as nodes read it."""
    from orchestrator.errors import DataError

    names = [feature["name"] for feature in features]
    values: List[float] = []
    for name in names:
        column, is_category, category = name.partition("=")
        if name in record or not is_category:
            values.append(_number(f"{where}: column {name!r}", record.get(name)))
            continue
        given = record.get(column)
        accepted = [n.partition("=")[2] for n in names if n.partition("=")[0] == column]
        if given is None or _canonical(given) not in map(_canonical, accepted):
            raise DataError(f"{where}: column {column!r} is {given!r}; accepted: {', '.join(accepted)}")
        values.append(float(_canonical(given) == _canonical(category)))
    return values


def _number(where: str, value: Any) -> float:
    import math

    from orchestrator.data.cells import number_hint
    from orchestrator.errors import DataError

    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        hint = number_hint(value) if isinstance(value, str) else ""
        why = f"{where} is {value!r}, not a finite number{f'; {hint}' if hint else ''}"
        raise DataError(why if value is not None else f"{where} is missing")
    return number


def _canonical(value: Any) -> str:
    """`1`, `1.0` and `01` are one category, as for nodes."""
    from orchestrator.data.cells import canonical

    return canonical(str(value).strip())


def _read(path: Path) -> bytes:
    from orchestrator.errors import GivenError

    try:
        return path.read_bytes()
    except OSError as error:
        raise GivenError(f"{path}: cannot be read: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    from orchestrator.errors import GivenError
    from orchestrator.files import new_file

    try:
        with new_file(path, replaces=True) as fresh:
            fresh.write_bytes(data)
    except OSError as error:
        raise GivenError(f"{path}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """Names the file in what is wrong with its bytes."""
    from orchestrator.errors import EdgewardError

    try:
        yield
    except EdgewardError as error:
        error.args = (f"{path}: {error}",)
        raise


@contextlib.contextmanager
def _export_errors() -> Iterator[None]:
    from model_export.errors import ExportError
    from orchestrator.errors import GivenError

    try:
        yield
    except ExportError as error:
        raise GivenError(str(error)) from error
