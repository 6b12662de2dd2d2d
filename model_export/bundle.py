"""A bundle: the folder with everything a board needs of one model, written whole or not at all, and checked bit by bit."""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from model_export.arena32 import predict_arena
from model_export.audio.hearing import read_hearing, said_of
from model_export.bundle_check import check_files
from model_export.edges import fold_edges
from model_export.errors import BundleError, ExportError
from model_export.input_profile import InputProfile, make_profile
from model_export.known_answers import known_answers_of
from model_export.manifest import (
    ALL_FILES,
    FILES,
    MANIFEST,
    PRIVACY_PAGE,
    SCHEMA,
    SIGNATURE,
    check_features,
    check_labels,
    dump_manifest,
    read_manifest,
)
from model_export.model_bin import ModelBin, pack_model_bin, parse_model_bin
from model_export.operators import aliases, operators
from model_export.plan import Plan, compile_plan
from model_export.plan_steps import PlanError
from model_export.relu6 import relu6_as_relu
from model_export.signing import check_bundle_signature, manifest_signature
from model_export.sources import model_data_header, model_data_source, op_resolver_header
from model_export.tflite_file import read_tflite
from model_export.tflm import Quantized, TflmModel, check_rows
from model_export.trees import is_trees, parse_trees, run_trees

ARENA_MARGIN_BYTES = 2048
MOST_CLASSES = 32
"""That a board counts, and averages the probabilities of (firmware/core/budget.h)."""


def write_bundle(
    out_dir: Path,
    *,
    tflite: bytes,
    name: str,
    labels: Optional[Sequence[str]] = None,
    features: Optional[Sequence[Mapping[str, Any]]] = None,
    accuracy: Optional[Mapping[str, Any]] = None,
    privacy: Optional[Mapping[str, Any]] = None,
    privacy_page: Optional[str] = None,
    known_rows: Optional["np.ndarray"] = None,
    reference_rows: Optional["np.ndarray"] = None,
    sign: Optional[Callable[[bytes], bytes]] = None,
    signer: Optional[Ed25519PublicKey] = None,
    engine: Optional[str] = None,
    origin: Optional[Mapping[str, str]] = None,
    float_model: Optional[Mapping[str, bytes]] = None,
    data_schema: Optional[Mapping[str, Any]] = None,
    anomaly: Optional[Mapping[str, Any]] = None,
    heads: Optional[Mapping[str, int]] = None,
    audio: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Write a bundle for an int8 .tflite model to `out_dir` and return its manifest.

    float32 or uint8 at its edges is folded into the scales (edges.py): the bundle's model takes and gives int8.

    The model runs in TFLM first; its outputs for synthetic rows go into model.bin for the board to check itself. With
    `known_rows` (int8 (rows, *input shape)) these are the rows: they can be read out of model.bin, so give none that are
    records. `accuracy` and `privacy` are put into the manifest as they are.
    `privacy_page` is that statement for people: privacy.md, its digest beside the statement.
    `reference_rows` (int8, from the training distribution) is what the board compares its inputs with to see drift: model.bin
    gets their deciles, which of a few rows are the rows' own values. `origin` says where parts come from (manifest.ORIGINS).
    `features` and `labels` are described in model_export.manifest, `sign` in model_export.model_bin; it signs the
    manifest as well, and `signer` is its public key, which goes into manifest.sig. `engine` "direct"
    raises where engine/direct cannot run the model, "tflm" leaves its plan out; by default the plan is there where possible.
    `anomaly` {threshold, quantile, of} is of a model that gives back its input: what larger score is unusual, which quantile that
    is, and of what; it goes into the manifest, the threshold into model.bin as well.
    `heads` {count, left_out} is of a model whose output is (heads, classes).
    `audio` is of a model that takes features of sound: parameters of the front end, unit and averaged (audio/hearing.py).
    `float_model` has the bytes of the two FLOAT_FILES, and `data_schema` says how raw rows become inputs (model_export.manifest).
    An existing bundle at `out_dir` is replaced; anything else there is refused. Raises ExportError.
    """
    out_dir = Path(out_dir)
    check_replaceable(out_dir)
    tflite, edges = fold_edges(tflite)
    tflite = relu6_as_relu(tflite)
    model = TflmModel(tflite)
    shown = [] if labels is None else check_labels(labels, model.output.shape[-1])
    described = check_features(features, model.input.shape)
    answers, answers_origin = known_answers_of(model, tflite, known_rows)
    reference = None if reference_rows is None else check_rows(reference_rows, model.input.shape)
    if anomaly is not None and _size(model.input) != _size(model.output):
        raise ExportError(
            f"a threshold is for a model that gives back its input; this one makes {model.output.shape} of {model.input.shape}"
        )
    if reference is not None and not len(reference):
        raise ExportError(
            "no representative rows: give some, or none at all, and the bundle is without a drift reference"
        )
    if audio is not None:
        _check_audio(audio, model, bool(described or anomaly or heads))
    plan, refused = _direct_plan(tflite, engine)
    direct_bytes = plan.arena_bytes if plan else 0
    tflm_bytes = arena_with_margin(model.arena.total)
    packed = pack_model_bin(
        name=name,
        tflite=tflite,
        arena_tflm_bytes=tflm_bytes,
        plan=plan.blob if plan else None,
        arena_direct_bytes=direct_bytes,
        known_answers=answers,
        input_profile=profile_of(model.input.shape, described, reference, anomaly, heads, audio),
        sign=sign,
    )
    claim = claim_with_page(privacy, privacy_page)
    contents = {
        "model.tflite": tflite,
        "model_data.h": model_data_header(len(tflite)).encode(),
        "model_data.cc": model_data_source(tflite).encode(),
        "op_resolver.h": op_resolver_header(model.operator_names).encode(),
        "model.bin": packed,
    }
    counts = Counter((op.code, op.code_int) for op in model.operators)
    contents[MANIFEST] = dump_manifest(
        {
            "schema": SCHEMA,
            "name": name,
            "created_by": created_by(),
            "model_digest": parse_model_bin(packed).digest,
            "files": {file: recorded(contents[file]) for file in FILES},
            "input": _edge(model.input),
            "output": _edge(model.output),
            "labels": shown,
            "features": described,
            "operators": [{"name": op, "code": code, "count": n} for (op, code), n in sorted(counts.items())],
            "arena": {
                "tflm_bytes": tflm_bytes,
                "tflm_measured_bytes": model.arena.total,
                "tflm_measured_on": f"{platform.machine()}, 64-bit structs",
                "tflm_estimate_32bit_bytes": predict_arena(tflite, model).total_bytes,
                "direct_bytes": direct_bytes,
                "direct_refused": refused,
            },
            "known_answer_rows": len(answers.inputs),
            "origin": {
                "output": _output_origin(model),
                "int8_ranges": "as they were in the .tflite"
                + (f", whose {' and '.join(edges)} became int8 by its own scales" if edges else ""),
                "known_answers": answers_origin,
                "input_profile": profile_origin(described, reference),
                **(origin or {}),
            },
            "accuracy": dict(accuracy or {}),
            "privacy": claim,
            **_float_model(float_model, described),
            **({} if data_schema is None else {"data_schema": dict(data_schema)}),
            **({} if anomaly is None else {"anomaly": dict(anomaly)}),
            **({} if heads is None else {"heads": dict(heads)}),
            **({} if audio is None else {"audio": said_of(audio)}),
        }
    )
    contents.update(float_model or {})
    if privacy_page is not None:
        contents[PRIVACY_PAGE] = privacy_page.encode()
    if sign is not None:
        contents[SIGNATURE] = manifest_signature(contents[MANIFEST], sign, signer)
    write_folder(out_dir, contents, signer_known=sign is None or signer is not None)
    return read_manifest(out_dir)


def verify_bundle(folder: Path, run: bool = True, public_key: Optional[Ed25519PublicKey] = None) -> Dict[str, Any]:
    """The manifest of a bundle whose every byte is as it was written. Raises BundleError naming the file.

    Checked are what check_files does and, in a signed bundle, that one key signed manifest and model; with `public_key`, that
    it was that one. With `run`, TFLM also gives the known answers once more.
    """
    folder = Path(folder)
    manifest = check_files(folder)
    packed = parse_model_bin((folder / "model.bin").read_bytes())
    check_bundle_signature(folder, packed.signature is not None, public_key)
    if run:
        verify_known_answers(packed)
    return manifest


def strays(folder: Path) -> List[str]:
    """Names in a bundle's folder that belong to no bundle, sorted: early versions left rows of data there, in `evaluation`."""
    return sorted({path.name for path in Path(folder).iterdir()} - {*ALL_FILES})


def verify_known_answers(packed: ModelBin) -> int:
    """Run the known answers of a model.bin, in TFLM or those of trees by trees.run_trees; returns how many rows agreed.

    Raises BundleError at the first other.
    """
    trees = is_trees(packed.tflite)
    run = partial(run_trees, parse_trees(packed.tflite)) if trees else TflmModel(packed.tflite).run
    if packed.known_answers is None:
        return 0
    outputs = run(packed.known_answers.inputs).reshape(len(packed.known_answers.inputs), -1)
    wrong = np.flatnonzero((outputs != packed.known_answers.outputs).any(1))
    if len(wrong):
        row = int(wrong[0])
        raise BundleError(
            f"model.bin: known answer {row} is {packed.known_answers.outputs[row].tolist()}, "
            f"{runner_of(packed.tflite)} gives {outputs[row].tolist()}"
        )
    return len(outputs)


def runner_of(model: bytes) -> str:
    """What known answers are compared with, for people."""
    return "the reference for trees" if is_trees(model) else "TFLM"


def arena_with_margin(measured_bytes: int) -> int:
    """What a board should give TFLM: an eighth more than measured, at least 2 KiB more, a multiple of 16.

    The measured figure has 64-bit structs and so already exceeds what a 32-bit board needs for the same kernels; the
    margin is for scratch buffers that esp-nn's kernels ask for and the reference kernels do not. On an ESP32-S3 esp-nn may
    ask for more with large convolutions: the board reports what it used.
    """
    return -(-(measured_bytes + max(ARENA_MARGIN_BYTES, measured_bytes // 8)) // 16) * 16


def claim_with_page(privacy: Optional[Mapping[str, Any]], page: Optional[str]) -> Optional[Dict[str, Any]]:
    """The manifest's privacy statement, with the digest of the page for people."""
    if page is None:
        return None if privacy is None else dict(privacy)
    if privacy is None:
        raise ExportError("a privacy page belongs to a privacy statement: give both")
    return {**privacy, "page_sha256": _sha256(page.encode())}


def _float_model(files: Optional[Mapping[str, bytes]], features: Sequence[Any]) -> Dict[str, Any]:
    """What the manifest says of the model before quantization; nothing where a model came as int8."""
    if files is None:
        return {}
    units = (
        "float32, standardized: (raw - mean) / std of `features`" if features else "float32, in the model's own units"
    )
    return {"float_model": {"input": units, "files": {name: recorded(content) for name, content in files.items()}}}


def recorded(content: bytes) -> Dict[str, Any]:
    return {"sha256": _sha256(content), "bytes": len(content)}


def profile_of(
    shape: Sequence[int],
    features: Sequence[Mapping[str, Any]],
    reference: Optional["np.ndarray"],
    anomaly: Optional[Mapping[str, Any]],
    heads: Optional[Mapping[str, int]] = None,
    audio: Optional[Mapping[str, Any]] = None,
) -> Optional[InputProfile]:
    """What lets a board make inputs of raw samples, and judge scores; None where nothing is known of either."""
    if not features and all(part is None for part in (reference, anomaly, heads, audio)):
        return None
    profile = make_profile(shape, features, reference)
    if anomaly is not None:
        profile = replace(profile, threshold=float(np.float32(anomaly["threshold"])))
    if audio is not None:
        profile = replace(profile, hearing=read_hearing(audio))
    return profile if heads is None else replace(profile, heads=heads["count"])


def _check_audio(audio: Mapping[str, Any], model: TflmModel, described: bool) -> None:
    """As a board does when it loads such a model."""
    said = said_of(audio)
    if described:
        raise ExportError("audio: inputs of sound are neither standardized nor scored, and their model has no heads")
    if _size(model.input) % said["channels"]:
        raise ExportError(
            f"audio: {said['channels']} channels do not divide the {_size(model.input)} values the model takes"
        )
    probabilities = (
        model.output.scale == 1 / 256 and model.output.zero_point == -128 and _size(model.output) <= MOST_CLASSES
    )
    if said["averaged"] > 1 and not probabilities:
        raise ExportError(f"audio: averaged {said['averaged']} is for probabilities of up to {MOST_CLASSES} classes")


def _size(edge: Quantized) -> int:
    return int(np.prod(edge.shape))


def profile_origin(features: Sequence[Mapping[str, Any]], reference: Optional["np.ndarray"]) -> str:
    if reference is not None and len(reference):
        return f"deciles of {len(reference)} reference rows the caller gave"
    return "means and deviations the caller gave" if features else "left out"


def _direct_plan(tflite: bytes, engine: Optional[str]) -> Tuple[Optional[Plan], Optional[str]]:
    """The plan for engine/direct, or why it cannot run this model. TFLM can, so a bundle without a plan is whole."""
    if engine not in (None, "direct", "tflm"):
        raise ExportError(f"engine {engine!r}; accepted are direct and tflm")
    if engine == "tflm":
        return None, "left out: the bundle was exported for engine/tflm"
    try:
        return compile_plan(tflite), None
    except PlanError as error:
        if engine == "direct":
            raise
        return None, str(error)


def _output_origin(model: TflmModel) -> str:
    """What the numbers of the output are, by the operator that makes them."""
    last = next((op.code for op in reversed(read_tflite(model.blob).ops) if op.code not in aliases()), "")
    if last in operators() and operators()[last].scores:
        return f"scores between 0 and 1, of {last}"
    return "real values: scale * (int8 - zero_point)"


def _edge(tensor: Quantized) -> Dict[str, Any]:
    return {
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }


def check_replaceable(out_dir: Path) -> None:
    if out_dir.is_dir():
        if any(out_dir.iterdir()) and not (out_dir / MANIFEST).is_file():
            raise ExportError(f"{out_dir}: is a folder with other files in it; name a new folder or an existing bundle")
    elif out_dir.exists():
        raise ExportError(f"{out_dir}: is a file; name a folder")


def write_folder(out_dir: Path, contents: Mapping[str, bytes], signer_known: bool) -> None:
    """All files or none: written and verified beside `out_dir`, then renamed into place."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    try:
        for file, content in contents.items():
            try:
                with open(new / file, "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError as error:  # a write names no file, and that of a folder which is gone helps nobody
                error.filename = str(out_dir / file)
                raise
        if signer_known:
            verify_bundle(new, run=False)
        else:
            check_files(new)
        new.chmod(0o755)
        if out_dir.exists():
            old = new.with_name(f"{new.name}.old")
            out_dir.rename(old)
            new.rename(out_dir)
            shutil.rmtree(old)
        else:
            new.rename(out_dir)
    finally:
        if new.exists():
            shutil.rmtree(new)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def created_by() -> str:
    """This version, as a manifest names it."""
    try:
        return f"edgeward {importlib.metadata.version('edgeward')}"
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "edgeward (not installed)"
