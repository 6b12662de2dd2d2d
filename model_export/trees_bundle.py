"""A bundle whose model is one of trees: what bundle.write_bundle does for a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from model_export.bundle import (
    check_replaceable,
    claim_with_page,
    created_by,
    profile_of,
    profile_origin,
    recorded,
    write_folder,
)
from model_export.errors import ExportError
from model_export.manifest import (
    MANIFEST,
    PRIVACY_PAGE,
    SCHEMA,
    SIGNATURE,
    TREES,
    TREES_FILES,
    check_features,
    check_labels,
    dump_manifest,
    read_manifest,
)
from model_export.model_bin import KnownAnswers, pack_model_bin, parse_model_bin
from model_export.signing import manifest_signature
from model_export.tflm import check_rows
from model_export.trees import Trees, edges_of, pack_trees, run_trees, sizes_of
from model_export.trees_rows import telling_rows
from model_export.trees_source import trees_header

SHARES = "probabilities: scale * (int8 - zero_point); the first largest is the class of the largest score"


def write_trees_bundle(
    out_dir: Path,
    *,
    model: Trees,
    name: str,
    of: str,
    features: Sequence[Mapping[str, Any]],
    labels: Optional[Sequence[str]] = None,
    output: str = SHARES,
    privacy: Optional[Mapping[str, Any]] = None,
    privacy_page: Optional[str] = None,
    reference_rows: Optional[np.ndarray] = None,
    sign: Optional[Callable[[bytes], bytes]] = None,
    signer: Optional[Ed25519PublicKey] = None,
    data_schema: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Write a bundle of kind "trees" to `out_dir` and return its manifest. of: the analysis they are of.

    features: one a channel, with its cuts or categories (model_export.manifest). Known answers are synthetic rows whose outputs
    trees.run_trees gave; among them are some of every class. The rest is as of bundle.write_bundle. Raises ExportError.
    """
    out_dir = Path(out_dir)
    check_replaceable(out_dir)
    blob = pack_trees(model)
    edges = edges_of(model)
    shown = [] if labels is None else check_labels(labels, model.outputs)
    described = check_features(features, (model.channels,), counted=True)
    reference = None if reference_rows is None else check_rows(reference_rows, tuple(edges["input"]["shape"]))
    if reference is not None and not len(reference):
        raise ExportError("no representative rows: give some, or none at all")
    rows = telling_rows(model)
    packed = pack_model_bin(
        name=name,
        tflite=blob,
        arena_tflm_bytes=model.arena_bytes,
        arena_direct_bytes=model.arena_bytes,
        known_answers=KnownAnswers(rows, run_trees(model, rows)),
        input_profile=profile_of(edges["input"]["shape"], described, reference, None),
        sign=sign,
    )
    contents = {"model.trees": blob, "model_trees.h": trees_header(model).encode(), "model.bin": packed}
    contents[MANIFEST] = dump_manifest(
        {
            "schema": SCHEMA,
            "kind": TREES,
            "name": name,
            "created_by": created_by(),
            "model_digest": parse_model_bin(packed).digest,
            "files": {file: recorded(contents[file]) for file in TREES_FILES},
            **edges,
            "labels": shown,
            "features": described,
            "operators": [],
            "trees": {**sizes_of(model), "of": of},
            "arena": _arena(model.arena_bytes),
            "known_answer_rows": len(rows),
            "origin": {
                "output": output,
                "int8_ranges": "cuts of the trees: every split is between two inputs",
                "known_answers": "synthetic: drawn over the cuts from a fixed seed, and led to every class",
                "input_profile": profile_origin((), reference) if reference is not None else "cuts of the trees",
            },
            "accuracy": {},
            "privacy": claim_with_page(privacy, privacy_page),
            **({} if data_schema is None else {"data_schema": dict(data_schema)}),
        }
    )
    if privacy_page is not None:
        contents[PRIVACY_PAGE] = privacy_page.encode()
    if sign is not None:
        contents[SIGNATURE] = manifest_signature(contents[MANIFEST], sign, signer)
    write_folder(out_dir, contents, signer_known=sign is None or signer is not None)
    return read_manifest(out_dir)


def _arena(size: int) -> Dict[str, Any]:
    """The same for every firmware: engine/trees needs it, whichever engine for graphs is beside it."""
    return {
        "tflm_bytes": size,
        "tflm_measured_bytes": size,
        "tflm_measured_on": "exact, of engine/trees",
        "tflm_estimate_32bit_bytes": size,
        "direct_bytes": size,
        "direct_refused": None,
    }
