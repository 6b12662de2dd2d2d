"""Whether a bundle's folder holds what its manifest says, byte by byte and value by value."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np

from model_export.audio.hearing import Hearing, read_hearing
from model_export.errors import BundleError, ExportError
from model_export.input_profile import make_profile
from model_export.manifest import MANIFEST, TREES, check_features, check_labels, read_manifest, recorded_files
from model_export.model_bin import ModelBin, ModelBinError, parse_model_bin
from model_export.tflite_file import read_tflite, single_edges
from model_export.trees import TreesError, edges_of, is_trees, parse_trees, sizes_of


def check_files(folder: Path) -> Dict[str, Any]:
    """The manifest of a bundle; BundleError unless the files are those it was written with, and it says of the model what is so.

    Checked are the manifest's own digest and schema, every file's length and SHA-256, model.bin's header, and what the manifest
    says of shapes, scales, operators, labels and features.
    """
    manifest = read_manifest(folder)
    for file, recorded in recorded_files(manifest).items():
        path = folder / file
        if not path.is_file():
            raise BundleError(f"{file}: is missing from {folder}")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != recorded:
            raise BundleError(
                f"{file}: SHA-256 is {found}, the manifest records {recorded}: the file was changed or damaged"
            )
    try:
        packed = parse_model_bin((folder / "model.bin").read_bytes())
    except ModelBinError as error:
        raise BundleError(f"model.bin: {error}") from error
    arena, model_file = manifest["arena"], "model.trees" if "kind" in manifest else "model.tflite"
    for what, in_bin, in_manifest in (
        *_said_of_the_model(packed, manifest),
        ("name", packed.name, manifest["name"]),
        ("digest", packed.digest, manifest["model_digest"]),
        ("arena for TFLM", packed.arena_tflm_bytes, arena["tflm_bytes"]),
        ("arena for engine/direct", packed.arena_direct_bytes, arena["direct_bytes"]),
        ("model", hashlib.sha256(packed.tflite).hexdigest(), manifest["files"][model_file]["sha256"]),
    ):
        if in_bin != in_manifest:
            raise BundleError(f"model.bin: its {what} is {in_bin!r}, the manifest records {in_manifest!r}")
    return manifest


def _listed(values: Optional[np.ndarray]) -> Any:
    return None if values is None else values.tolist()


def _said_of_the_model(packed: ModelBin, manifest: Mapping[str, Any]) -> Iterator[Tuple[str, Any, Any]]:
    """(what, as it is in model.bin, as the manifest has it)."""
    yield "kind", TREES if is_trees(packed.tflite) else None, manifest.get("kind")
    edges, counts = _trees(packed.tflite, manifest) if is_trees(packed.tflite) else _graph(packed.tflite)
    for side, found in edges.items():
        yield side, found, {**manifest[side], "scale": float(np.float32(manifest[side]["scale"]))}
    yield "operators", dict(sorted(counts.items())), {op.get("name"): op.get("count") for op in manifest["operators"]}
    answers = 0 if packed.known_answers is None else len(packed.known_answers.inputs)
    yield "number of known answers", answers, manifest["known_answer_rows"]
    inputs, outputs = (edge["shape"] for edge in edges.values())
    labels, features = manifest["labels"], manifest["features"]
    try:
        yield "labels", check_labels(labels, outputs[-1]) if labels else [], labels
        described = check_features(features, tuple(inputs), counted=is_trees(packed.tflite))
    except ExportError as error:
        raise BundleError(f"{MANIFEST}: {error}") from error
    profile = packed.input_profile
    scored = None if profile is None else profile.threshold
    anomaly = manifest.get("anomaly")
    yield "threshold", scored, None if anomaly is None else float(np.float32(anomaly["threshold"]))
    heads = manifest.get("heads", {}).get("count", 0)
    yield "number of heads", 0 if profile is None else profile.heads, heads
    hearing = None if profile is None or profile.hearing is None else profile.hearing
    try:
        audio = read_hearing(manifest["audio"]) if "audio" in manifest else None
    except ExportError as error:
        raise BundleError(f"{MANIFEST}: {error}") from error
    yield "audio front end", _digest(hearing), _digest(audio)
    if heads:
        yield "heads in the output", list(outputs[:-1]), [1, heads]
    if described and profile is not None and profile.mean is not None and profile.std is not None:
        known = [[float(m), float(s)] for m, s in zip(profile.mean, profile.std)]
        said = [[float(np.float32(f["mean"])), float(np.float32(f["std"]))] for f in described]
        yield "means and deviations", known, said
    if described and profile is not None:
        made = make_profile(tuple(inputs), described, None)
        yield "ranges of logarithms", _listed(profile.ranges), _listed(made.ranges)
        in_bin, in_manifest = (None if p.cuts is None else [_listed(cuts) for cuts in p.cuts] for p in (profile, made))
        yield "cuts of inputs", in_bin, in_manifest


def _digest(hearing: Optional[Hearing]) -> Optional[str]:
    return None if hearing is None else hashlib.sha256(hearing.packed()).hexdigest()


def _graph(tflite: bytes) -> Tuple[Dict[str, Any], Dict[str, int]]:
    """(what a manifest says of input and output, how often there is each operator)."""
    model, edges = read_tflite(tflite), {}
    for side, tensor in zip(("input", "output"), single_edges(model)):
        scale, zero_point = float(tensor.scales[0]), int(tensor.zero_points[0])
        edges[side] = {"shape": list(tensor.shape), "dtype": tensor.dtype, "scale": scale, "zero_point": zero_point}
    return edges, Counter(op.code for graph in model.subgraphs for op in graph.ops)


def _trees(blob: bytes, manifest: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, int]]:
    """The same; BundleError where the manifest says otherwise of the trees, or a feature has no cuts."""
    try:
        model = parse_trees(blob)
    except TreesError as error:
        raise BundleError(f"model.bin: {error}") from error
    for name, found in sizes_of(model).items():
        if manifest["trees"][name] != found:
            raise BundleError(f"{MANIFEST}: trees: {name} is {manifest['trees'][name]}, the model has {found}")
    return edges_of(model), {}
