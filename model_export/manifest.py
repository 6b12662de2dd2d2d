"""manifest.json of a bundle: its schema, and a digest of itself so that no bit of it can change unseen."""

import hashlib
import json
import math
import re
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from model_export.audio.kinds import KIND, MICRO, kind_of
from model_export.errors import AudioError, BundleError, ExportError

SCHEMA = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"  # in signed bundles only, see signing.py
PRIVACY_PAGE = "privacy.md"  # in bundles of federations only; its digest is privacy.page_sha256
FILES = ("model.tflite", "model_data.h", "model_data.cc", "op_resolver.h", "model.bin")
FLOAT_FILES = ("model_float.tflite", "model.keras")  # of models that were quantized here; a board has no use for them
TREES = "trees"
"""`kind` of a bundle whose model is one of trees (trees.py); others have no `kind`."""
TREES_FILES = ("model.trees", "model_trees.h", "model.bin")
ALL_FILES = tuple(dict.fromkeys((*FILES, *TREES_FILES, *FLOAT_FILES, MANIFEST, PRIVACY_PAGE, SIGNATURE)))
"""That any bundle may have."""
_DIGEST = re.compile(rb'"manifest_sha256": "([0-9a-f]{64})"')
_BLANK = b"0" * 64

NUMBER = (int, float)
_FILE = {"sha256": str, "bytes": int}
_TENSOR = {"shape": list, "dtype": str, "scale": NUMBER, "zero_point": int}
_OPERATOR = {"name": str, "code": int, "count": int}
_SCHEMA: Dict[str, Any] = {
    "schema": int,
    "name": str,
    "created_by": str,
    "model_digest": str,
    "files": {name: _FILE for name in FILES},
    "input": _TENSOR,
    "output": _TENSOR,
    "labels": list,
    "features": list,
    "operators": list,
    "arena": {
        "tflm_bytes": int,
        "tflm_measured_bytes": int,
        "tflm_measured_on": str,
        "tflm_estimate_32bit_bytes": int,
        "direct_bytes": int,
        "direct_refused": (str, type(None)),
    },
    "known_answer_rows": int,
    "accuracy": dict,
    "privacy": (dict, type(None)),
    "manifest_sha256": str,
}
_TREES_SCHEMA: Dict[str, Any] = {**_SCHEMA, "files": {name: _FILE for name in TREES_FILES}}
RANGE = ("minimum", "maximum")
"""Keys of a feature with a transform: what its values are clamped to before the logarithm."""
LARGEST = 3.4e38
"""Of numbers a float32 holds."""
LEAST = 1e-37
"""Of such a range: below are numbers that boards do not compute with."""

CUTS = frozenset(("cuts", "categories"))
"""Keys of a feature of a model of trees, which has one of them: its input is -127 + how many cuts are not above the value, or the
logarithm that is declared, or -127 + the number of its category; -128 where it is missing."""
MOST_LEVELS = 255
MOST_HEADS = 64
"""Output layers over one body."""

ORIGINS = ("output", "int8_ranges", "known_answers", "input_profile")
"""Where parts of a bundle come from, in words, under the key `origin`; bundles of earlier versions lack it."""
_OPTIONAL: Dict[str, Any] = {
    "kind": str,
    "trees": {"trees": int, "nodes": int, "leaves": int, "depth": int, "of": str},
    "origin": {name: str for name in ORIGINS},
    "float_model": {"input": str, "files": {name: _FILE for name in FLOAT_FILES}},
    "data_schema": dict,
    "anomaly": {"threshold": NUMBER, "quantile": NUMBER, "of": str},
    "heads": {"count": int, "left_out": int},
    "audio": dict,
}
"""`float_model`: the model before quantization, and in which units it takes its input. `data_schema`: the schema of the data
files the model was trained on (orchestrator.wire.task.Schema), so that raw rows can be read as the nodes read theirs.
`anomaly`: of a model that gives back its input, the largest score that is not unusual, which quantile it is, and of what.
`kind` and `trees`: of a bundle of trees, how many there are, and which analysis they are of.
`heads`: of a model with several output layers over one body: how many, and how many more were left out because their hospitals'
models did not generalise.
`audio`: how sound becomes inputs, and over how many windows answers are averaged (audio/kinds.py, audio/hearing.py)."""


def recorded_files(manifest: Mapping[str, Any]) -> Dict[str, str]:
    """Name -> SHA-256 of every file that belongs to the bundle, but the manifest itself."""
    files = {**manifest["files"], **manifest.get("float_model", {"files": {}})["files"]}
    digests = {name: str(recorded["sha256"]) for name, recorded in files.items()}
    if "page_sha256" in (manifest["privacy"] or {}):
        digests[PRIVACY_PAGE] = manifest["privacy"]["page_sha256"]
    return digests


def dump_manifest(content: Mapping[str, Any]) -> bytes:
    """The bytes of manifest.json, with `manifest_sha256` = SHA-256 of these bytes where that field is 64 zeros."""
    try:
        text = json.dumps(
            {**content, "manifest_sha256": _BLANK.decode()}, indent=1, allow_nan=False, ensure_ascii=False
        )
    except (TypeError, ValueError) as error:
        raise ExportError(f"the manifest cannot be written as JSON: {error}") from error
    blank = (text + "\n").encode()
    check_schema(json.loads(text))
    head, _, tail = blank.rpartition(_BLANK)
    return head + hashlib.sha256(blank).hexdigest().encode() + tail


def bundle_inside(folder: Path) -> str:
    """What to name instead of a folder that is no bundle, such as a gateway's, where there is one in it; else nothing."""
    inside = folder / "bundle"
    return f"; {inside} is one" if (inside / "model.bin").is_file() else ""


def read_manifest(folder: Path) -> Dict[str, Any]:
    """manifest.json of a bundle, its own digest and schema checked. Raises BundleError."""
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder}: holds no {MANIFEST}, so it is no bundle{bundle_inside(folder)}")
    data = path.read_bytes()
    found = _DIGEST.findall(data)
    computed = hashlib.sha256(_DIGEST.sub(b'"manifest_sha256": "' + _BLANK + b'"', data)).hexdigest()
    recorded = found[-1].decode() if len(found) == 1 else "none"
    if computed != recorded:
        raise BundleError(f"{MANIFEST}: SHA-256 is {computed}, recorded is {recorded}: the file was changed or damaged")
    try:
        content = json.loads(data, parse_constant=_no_number, parse_int=_whole, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST}: is no JSON: {error}") from error
    check_schema(content)
    return dict(content)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number that a manifest has")


def _whole(text: str) -> int:
    """Of 64 bits at most: others no float holds, and no field means."""
    value = int(text) if len(text) <= 20 else 1 << 63
    return value if abs(value) < 1 << 63 else int(_no_number(text[:20]))


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text[:20])


def check_schema(content: Any, schema: Any = None, where: str = MANIFEST) -> None:
    """Raises BundleError naming the first key that is missing, unknown or of the wrong type."""
    whole = schema is None
    if not isinstance(content, dict):
        raise BundleError(f"{where}: is {type(content).__name__}, must be an object")
    if whole and content.get("kind", TREES) != TREES:
        raise BundleError(f"{where}: kind is {content.get('kind')!r}, accepted is {TREES!r}, or none")
    schema = (_TREES_SCHEMA if "kind" in content else _SCHEMA) if whole else schema
    if whole and content.get("schema") != SCHEMA:
        raise BundleError(f"{where}: schema version is {content.get('schema')!r}, this version reads {SCHEMA}")
    optional = _OPTIONAL if whole else {}
    for key, kind in {**schema, **optional}.items():
        if key not in content and key in optional:
            continue
        if key not in content:
            raise BundleError(f"{where}: key '{key}' is missing")
        if isinstance(kind, dict):
            check_schema(content[key], kind, f"{where}: {key}")
        elif not isinstance(content[key], kind) or (isinstance(content[key], bool) and kind is not bool):
            raise BundleError(f"{where}: key '{key}' is {content[key]!r}, of the wrong type")
    unknown = sorted(set(content) - set(schema) - set(optional))
    if unknown:
        raise BundleError(f"{where}: key '{unknown[0]}' is unknown")
    if whole and ("kind" in content) != ("trees" in content):
        raise BundleError(f"{where}: 'kind' and 'trees' go together")
    if whole and "audio" in content:
        check_schema(content["audio"], _audio_schema(content["audio"]), f"{where}: audio")
    if whole:
        for i, operator in enumerate(content["operators"]):
            check_schema(operator, _OPERATOR, f"{where}: operators[{i}]")


def _audio_schema(audio: Mapping[str, Any]) -> Dict[str, Any]:
    """Of the front end that it names; without a name, of the one that bundles had before there were others."""
    try:
        parameters = kind_of(audio.get(KIND, MICRO)).parameters
    except AudioError as error:
        raise BundleError(f"{MANIFEST}: {error}") from error
    kinds = {field.name: NUMBER if field.type == "float" else type(field.default) for field in fields(parameters)}
    return {**({KIND: str} if KIND in audio else {}), **kinds, "unit": NUMBER, "averaged": int}


def check_labels(labels: Sequence[str], classes: int) -> List[str]:
    """One distinct, non-empty name per class. Raises ExportError."""
    names = list(labels)
    if len(names) != classes == 1:
        raise ExportError(
            f"{len(names)} labels for a model of one output: give one label, of the class whose probability it is (of two "
            "classes that of the second), or let the model end in an output for each class"
        )
    if len(names) != classes:
        raise ExportError(
            f"{len(names)} labels for {classes} classes; give one label per class, in the order of the outputs"
        )
    for name in names:
        if not isinstance(name, str) or not name or names.count(name) > 1:
            raise ExportError(f"label {name!r} is empty, not text, or given twice")
    return names


def check_features(
    features: Optional[Sequence[Mapping[str, Any]]], input_shape: Tuple[int, ...], counted: bool = False
) -> List[Dict[str, Any]]:
    """Names and standardization of the input's last axis: [{name, mean, std}], x = (raw - mean) / std.

    With transform "log" x is of the natural logarithm of raw, clamped to minimum and maximum, and mean and std likewise.

    counted: whether the model is one of trees, whose inputs all have cuts or categories; others have neither.
    Empty where nothing is known about the input. Raises ExportError for a wrong count or an impossible std.
    """
    if not all(isinstance(feature, Mapping) for feature in features or ()):
        raise ExportError("features: each must be an object with name, mean and std")
    entries = [dict(feature) for feature in features or ()]
    if (entries or counted) and len(entries) != input_shape[-1]:
        raise ExportError(f"{len(entries)} features for an input of shape {input_shape}; give {input_shape[-1]}")
    for i, entry in enumerate(entries):
        if set(entry) - {"name", "mean", "std", "unit", "transform", *RANGE, *CUTS} or not isinstance(
            entry.get("name"), str
        ):
            raise ExportError(
                f"feature {i} is {entry!r}; accepted are name, mean, std and unit, and transform with minimum and maximum"
            )
        _check_transform(entry)
        if bool(CUTS & set(entry)) != counted:
            what = (
                "needs cuts or categories, of which inputs of trees are codes"
                if counted
                else "has cuts: these are of trees"
            )
            raise ExportError(f"feature '{entry['name']}': {what}")
        _check_cuts(entry)
        entry.setdefault("mean", 0.0)
        entry.setdefault("std", 1.0)
        for key in ("mean", "std"):
            value = entry[key]
            if isinstance(value, bool) or not isinstance(value, NUMBER) or not math.isfinite(value):
                raise ExportError(f"feature '{entry['name']}': {key} is {value!r}, not a finite number")
        if entry["std"] <= 0:
            raise ExportError(f"feature '{entry['name']}': std is {entry['std']}, must be above 0")
    return entries


def _check_cuts(entry: Mapping[str, Any]) -> None:
    """ExportError for cuts that do not ascend or do not fit a float32, and for categories without names of their own."""
    given = [key for key in sorted(CUTS) if key in entry]
    if not given:
        return
    name, values = entry["name"], entry[given[0]]
    if len(given) > 1 or not isinstance(values, (list, tuple)):
        raise ExportError(f"feature '{name}': has one list, of cuts or of categories")
    if given == ["categories"]:
        if not all(isinstance(v, str) and v for v in values) or not 1 <= len(set(values)) == len(values) <= MOST_LEVELS:
            raise ExportError(f"feature '{name}': categories are 1 to {MOST_LEVELS} different texts")
        return
    numbers = [v for v in values if isinstance(v, NUMBER) and not isinstance(v, bool) and math.isfinite(v)]
    singles = [struct.unpack("<f", struct.pack("<f", v))[0] for v in numbers if abs(v) < LARGEST]
    if len(singles) < len(values) or singles != numbers or len(values) > MOST_LEVELS - 1:
        raise ExportError(f"feature '{name}': cuts are up to {MOST_LEVELS - 1} numbers that a float32 holds")
    if any(not a < b for a, b in zip(singles, singles[1:])):
        raise ExportError(f"feature '{name}': cuts do not ascend")


def _check_transform(entry: Mapping[str, Any]) -> None:
    """ExportError where a logarithm is declared without a range of positive numbers, or a range without a logarithm."""
    name, given = entry["name"], [key for key in RANGE if key in entry]
    if "transform" not in entry:
        if given:
            raise ExportError(f"feature '{name}': {' and '.join(given)} are for a transform, and it has none")
        return
    if entry["transform"] != "log":
        raise ExportError(f"feature '{name}': transform is {entry['transform']!r}; accepted is 'log'")
    bounds = [entry.get(key) for key in RANGE]
    low, high = (float(v) if isinstance(v, NUMBER) and not isinstance(v, bool) else math.nan for v in bounds)
    if not LEAST <= low <= high < math.inf:
        raise ExportError(
            f"feature '{name}': 'log' needs a range of positive numbers, minimum is {bounds[0]!r} and maximum {bounds[1]!r}"
        )
