"""A bundle as a library of its model: every file, made of nothing but the bundle and this version of Edgeward."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from model_export.bundle import created_by, verify_bundle
from model_export.model_bin import KnownAnswers, parse_model_bin
from model_export.plan import Plan, compile_plan, kinds
from model_export.plan_steps import PlanError
from model_export.trees import is_trees
from orchestrator.boards.host_engine import COPY, firmware_dir
from orchestrator.boards.library.engine_sources import engine_sources
from orchestrator.boards.library.names import c_float, c_string, identifier
from orchestrator.boards.library.templates import README, files_of, filled, template
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.wire.plain import plain

NO_TREES = (
    "--as writes no library of trees: model_trees.h in their bundle is one, all of it in a header without dependencies"
)
MOST_SHOWN = 32
"""Values of an output that an example prints."""
BYTES_IN_A_LINE = 24


@dataclass(frozen=True)
class Library:
    name: str
    """What everything in it begins with (names.identifier)."""
    kind: str
    digest: str
    arena_bytes: int
    constant_bytes: int
    """Of model and plan, which stay in flash."""
    files: Dict[str, bytes]
    """By their path in the library's folder."""


def library_of(bundle: Path, kind: str, name: str = "", said: str = "") -> Library:
    """A library of `kind` (KINDS) of the model in a bundle's folder. name: instead of the model's own. said: what errors call
    the bundle, where it has another name for people.

    Raises ExportError for a bundle that is damaged, UsageError for a model that engine/direct does not run.
    """
    said = said or str(bundle)
    manifest = verify_bundle(bundle, run=False)
    packed = parse_model_bin((bundle / "model.bin").read_bytes())
    if is_trees(packed.tflite):
        raise UsageError(f"{said}: {NO_TREES}")
    answers = packed.known_answers
    if answers is None or not len(answers.inputs):
        raise UsageError(f"{said}: has no known answers, by which a library is tested; export the model again")
    try:
        plan = compile_plan(packed.tflite)
    except PlanError as error:
        raise UsageError(f"{said}: a library has engine/direct, which cannot run this model: {error}") from error
    values = _values(manifest, packed.tflite, plan, answers, name)
    root = firmware_dir()
    sources = engine_sources(root, frozenset(plan.ops), sorted(kinds()), values["name"])
    texts = {f"src/{path}": text for path, text in {**files_of("src", values), **sources}.items()}
    compiled = sorted(path for path in texts if path.endswith(".cpp"))
    values["sources"] = "\n".join(f'    "{path}"' for path in compiled)
    values["example"] = filled(template("example.c"), values)
    texts.update(files_of(kind, values))
    texts[README] = filled(template("about.md"), {**values, "build": texts[README].strip()})
    files = {path: text.encode("utf-8") for path, text in sorted(texts.items())}
    files["LICENSE"] = _licence(root).read_bytes()
    return Library(
        name=values["name"],
        kind=kind,
        digest=packed.digest,
        arena_bytes=plan.arena_bytes,
        constant_bytes=len(packed.tflite) + len(plan.blob),
        files=files,
    )


def _values(manifest: Mapping[str, Any], tflite: bytes, plan: Plan, answers: KnownAnswers, name: str) -> Dict[str, str]:
    """What the templates say of a model. Texts of the manifest are in it as literals of C, and in `facts` and `printed`."""
    digest, labels = manifest["model_digest"], manifest["labels"]
    called = identifier(name or manifest["name"], digest)
    rows = np.concatenate([answers.inputs, answers.outputs], axis=1)
    edgeward = plain(created_by())
    values = {
        "name": called,
        "NAME": called.upper(),
        "title": c_string(manifest["name"]),
        "digest": digest,
        "sha256": hashlib.sha256(tflite).hexdigest(),
        "edgeward": edgeward,
        "edgeward_c": c_string(edgeward),
        "version": version(),
        "arena_bytes": str(plan.arena_bytes),
        "state_bytes": str(plan.state_bytes),
        "input_bytes": str(plan.input_bytes),
        "output_bytes": str(plan.output_bytes),
        "label_count": str(len(labels)),
        "label_declaration": f"extern const char *const {called}_labels[{len(labels)}];\n" if labels else "",
        "label_definition": _label_definition(called, labels),
        "answers": str(len(rows)),
        "rows": _listed(rows.reshape(-1).tolist()),
        "model_bytes": str(len(tflite)),
        "model": _listed(list(tflite)),
        "plan_bytes": str(len(plan.blob)),
        "plan": _listed(list(plan.blob)),
        "most_shown": str(MOST_SHOWN),
    }
    for edge in ("input", "output"):
        said = manifest[edge]
        values[f"{edge}_shape"] = ", ".join(str(int(size)) for size in said["shape"])
        values[f"{edge}_scale"] = c_float(said["scale"])
        values[f"{edge}_zero_point"] = f"({int(said['zero_point'])})"
    values["facts"] = _indented(_facts(manifest, values))
    values["printed"] = _indented(printed(values, answers.outputs, labels))
    values["state"] = (
        f"The model remembers {plan.state_bytes} bytes from row to row: rows are one after another in time, and "
        f"`{called}_reset()` begins again."
        if plan.state_bytes
        else "Each row stands alone."
    )
    values["inputs"] = _inputs(manifest["features"])
    return values


def printed(values: Mapping[str, str], outputs: np.ndarray, labels: Sequence[str]) -> List[str]:
    """The lines of an example where all is well."""
    lines = [
        f"{values['name']}: model {values['digest']}, arena of {values['arena_bytes']} bytes",
        f"self test: 0 of {len(outputs)} rows differ",
    ]
    for number, row in enumerate(outputs.tolist()):
        shown = " ".join(map(str, row[:MOST_SHOWN])) + (" ..." if len(row) > MOST_SHOWN else "")
        best = f" {labels[row.index(max(row))]}" if len(labels) == len(row) > 1 else ""
        lines.append(f"row {number}: {shown}{best}")
    return lines


def version() -> str:
    """Of Edgeward, as three numbers: what all kinds of packages take for a version."""
    try:
        found = re.match(r"\d+\.\d+\.\d+", importlib.metadata.version("edgeward"))
    except importlib.metadata.PackageNotFoundError:
        found = None
    return found[0] if found else "0.0.0"


def _facts(manifest: Mapping[str, Any], values: Mapping[str, str]) -> List[str]:
    counts = ", ".join(f"{op['name']} x{op['count']}" for op in manifest["operators"])
    facts: List[Tuple[str, str]] = [
        ("model", manifest["name"]),
        ("digest", values["digest"]),
        ("model.tflite", f"SHA-256 {values['sha256']}"),
        ("bundle of", manifest["created_by"]),
        ("input", f"int8 {manifest['input']['shape']}, scale {values['input_scale'][:-1]}, zero point "
         f"{manifest['input']['zero_point']}"),
        ("output", f"int8 {manifest['output']['shape']}, scale {values['output_scale'][:-1]}, zero point "
         f"{manifest['output']['zero_point']}; {manifest.get('origin', {}).get('output', '')}".rstrip("; ")),
        ("operators", counts),
        ("arena", f"{values['arena_bytes']} bytes, of which {values['state_bytes']} are kept between rows"),
        ("flash", f"{values['model_bytes']} bytes of model, {values['plan_bytes']} of plan, and the engine"),
    ]  # fmt: skip
    facts += [(f"label {number}", label) for number, label in enumerate(manifest["labels"])]
    if "heads" in manifest:
        facts.append(
            (
                "heads",
                f"{manifest['heads']['count']} answers one after another in the output: their mean is the model's",
            )
        )
    if "anomaly" in manifest:
        anomaly = manifest["anomaly"]
        facts.append(
            ("unusual above", f"{anomaly['threshold']:g} (quantile {anomaly['quantile']:g} of {anomaly['of']})")
        )
    for number, feature in enumerate(manifest["features"]):
        log = f"log of [{feature['minimum']!r}, {feature['maximum']!r}], then " if "transform" in feature else ""
        unit = f" in {feature['unit']}" if feature.get("unit") else ""
        said = f"{feature['name']}{unit}: {log}mean {feature['mean']!r}, deviation {feature['std']!r}"
        facts.append((f"channel {number}", said))
    return [f"{key:<13} {value}" for key, value in facts]


def _inputs(features: Sequence[Mapping[str, Any]]) -> str:
    """Ends a sentence on what the values of an input are."""
    if not features:
        return "in the units the model was trained with."
    log = any("transform" in feature for feature in features)
    first = (
        "; where it has a log, of the natural logarithm of the value, which is held to the range first" if log else ""
    )
    return f"(value - mean) / deviation of each channel above{first}."


def _indented(lines: Sequence[str]) -> str:
    """A block in which Markdown reads nothing."""
    return "\n".join("    " + plain(line, 2000) for line in lines)


def _label_definition(name: str, labels: Sequence[str]) -> str:
    if not labels:
        return ""
    listed = "".join(f"    {c_string(label)},\n" for label in labels)
    return f"\nconst char* const {name}_labels[{len(labels)}] = {{\n{listed}}};\n"


def _listed(numbers: Sequence[int]) -> str:
    lines = (numbers[start : start + BYTES_IN_A_LINE] for start in range(0, len(numbers), BYTES_IN_A_LINE))
    return "\n".join("    " + " ".join(f"{number}," for number in line) for line in lines)


def _licence(root: Path) -> Path:
    """Beside the firmware in a checkout, in the copy of it that an installed package carries."""
    path = (root if root.name == COPY else root.parent) / "LICENSE"
    if not path.is_file():
        raise EdgewardError(f"{path}: is missing: reinstall edgeward, or run from a checkout")
    return path
