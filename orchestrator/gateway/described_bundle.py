"""What a bundle says of its model's input: how raw rows are read, standardized, and what the outputs are called."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from model_export.bundle import verify_bundle
from model_export.errors import ExportError
from model_export.manifest import SIGNATURE, TREES, check_features
from model_export.signing import check_bundle_signature
from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.errors import GivenError, UsageError
from orchestrator.gateway.trees_inputs import codes_of
from orchestrator.privacy.standardization import standardize
from orchestrator.wire.pem import model_public_key
from orchestrator.wire.schema import Schema
from orchestrator.wire.structure import structure


class Described(NamedTuple):
    """A bundle whose every byte is as it was written. mean, std: float32 of the schema's input shape, in raw units.

    signed_by: id of the key that signed manifest and model; empty where nobody did.
    """

    folder: Path
    manifest: Dict[str, Any]
    schema: Schema
    mean: np.ndarray
    std: np.ndarray
    signed_by: str = ""

    @property
    def of_trees(self) -> bool:
        """Whether the model is one of trees, for which values may be missing."""
        return self.manifest.get("kind") == TREES

    def inputs(self, data: Dataset) -> np.ndarray:
        """float32 (n, *input_shape): the records as the model was trained on them; for trees the codes of their values."""
        if self.of_trees:
            return codes_of(data, self.schema, self.manifest["features"]).astype(np.float32)
        return standardize(data.x, self.mean, self.std)


def read_described(folder: Path, public_key: Optional[Path] = None) -> Described:
    """Raises EdgewardError for a bundle that is damaged, or does not say how raw rows become its inputs.

    Every file is compared with its digest, and a signature checked where there is one; with `public_key`, a PEM file, the bundle
    must be signed by that key. It is the check of `edgeward model verify`, without its runs of the model.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name a bundle, such as the bundle/ in a gateway's --out folder")
    key = None if public_key is None else model_public_key(public_key)
    try:
        manifest = verify_bundle(folder, run=False, public_key=key)
        signed_by = check_bundle_signature(folder, (folder / SIGNATURE).exists(), key)
    except ExportError as error:
        text = str(error)
        raise GivenError(text if text.startswith(f"{folder}:") else f"{folder}: {text}") from error
    declared = manifest.get("data_schema")
    if declared is None:
        raise GivenError(
            f"{folder}: does not say how raw rows become its inputs (manifest.json has no data_schema): it was made by an "
            "earlier version, or by `edgeward model export`. `edgeward gateway run` of this version makes bundles that do; "
            "`edgeward model run` takes inputs that are int8 already"
        )
    try:
        schema: Schema = structure(declared, Schema, f"{folder}/manifest.json: data_schema")
    except UsageError as error:
        raise GivenError(str(error)) from error
    if not _fits(manifest, schema) or list(schema.learned.names) != manifest["labels"]:
        raise GivenError(f"{folder}/manifest.json: data_schema is not of this model: input or classes differ")
    try:
        return Described(folder, manifest, schema, *_standardization(manifest, schema), signed_by)
    except ExportError as error:
        raise GivenError(f"{folder}/manifest.json: {error}") from error


def _fits(manifest: Dict[str, Any], schema: Schema) -> bool:
    """Whether the records of a schema become inputs of this shape."""
    if manifest.get("kind") != TREES:
        return schema.input_shape == tuple(manifest["input"]["shape"][1:])
    levels = {feature.name: list(feature.categories) for feature in schema.features}
    said = {feature["name"]: feature.get("categories", []) for feature in manifest["features"]}
    logarithms = {(feature.name, feature.transform) for feature in schema.features}
    same = logarithms >= {(feature["name"], feature.get("transform")) for feature in manifest["features"]}
    return schema.kind == "table" and said == levels and same


def _standardization(manifest: Dict[str, Any], schema: Schema) -> Tuple[np.ndarray, np.ndarray]:
    """(mean, std) of the manifest's features. Raises ExportError where they are not of this input."""
    if (
        schema.kind == "signal" or manifest.get("kind") == TREES
    ):  # the reader divides a signal by the unit scale; trees count cuts
        return np.zeros(schema.input_shape, np.float32), np.ones(schema.input_shape, np.float32)
    features = check_features(manifest["features"], schema.input_shape)
    if not features:
        raise ExportError("features: empty, so nothing says how a table is standardized")
    return np.array([f["mean"] for f in features], np.float32), np.array([f["std"] for f in features], np.float32)


def read_rows(path: Path, schema: Schema, gaps: bool = False) -> Dataset:
    """The records of a data file as a node would read them, but labels are read only where there are any."""
    return load_dataset(path, replace(schema, patient=""), unlabelled=True, gaps=gaps)
