"""Every model a gateway made, kept with its lineage: OUT/models/DIGEST/bundle and OUT/models/DIGEST/lineage.json.

A lineage names nodes by pseudonym only (history.pseudonym), so that it can go where the list of hospitals may not. Where the
model's claim counts on a secret sample of nodes it does not say who was in which round at all (privacy/participation.py). A model
that two runs made byte for byte alike has both in `made_by`. Tags are names for models, such as `production`.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from model_export.manifest import ALL_FILES
from orchestrator.errors import GivenError, UsageError
from orchestrator.files import replace_file, sync_path
from orchestrator.gateway.history import History, RoundView
from orchestrator.privacy.participation import WITHHELD
from orchestrator.wire.bounds import near
from orchestrator.wire.json_text import from_json
from orchestrator.wire.plain import hex_name

SCHEMA = 1
MODELS = "models"
_TAGS = "tags.json"
_PACKAGES = ("edgeward", "tensorflow", "tflite-micro", "dp-accounting", "numpy")
_TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Model(NamedTuple):
    """One model of the registry. `kept_at`: seconds since 1970, of its first making."""

    digest: str
    folder: Path
    kept_at: float
    tags: List[str]
    made_by: List[Dict[str, Any]]

    def as_dict(self) -> Dict[str, Any]:
        return {**self._asdict(), "folder": str(self.folder)}


def keep_model(out: Path, run: str) -> Path:
    """Copies OUT/bundle, which `run` just made, to its place in OUT/models and writes its lineage; returns the folder.

    Atomic: a reader sees the whole folder or none. Doing it again changes nothing but the lineage's time.
    """
    with History(out) as history:
        report = history.report(run)
        if report is None:
            raise GivenError(f"{history.path}: run {run} has no result to keep")
        entry = _lineage(history, run, report)
    digest = report["digest"]
    folder = out / MODELS / hex_name(digest)
    if folder.is_dir():
        content = read_object(folder / "lineage.json")
        content["made_by"] = [e for e in content["made_by"] if e["run"] != run] + [entry]
        _write(folder / "lineage.json", content)
        return folder
    folder.parent.mkdir(exist_ok=True)
    for left in folder.parent.glob(".new-*"):  # of a gateway that was killed here; only one works on a folder
        shutil.rmtree(left)
    fresh = folder.parent / f".new-{hex_name(digest)}"
    # A copy, not a hard link: the next training writes OUT/bundle again. Of a bundle only what belongs to one.
    (fresh / "bundle").mkdir(parents=True)
    for name in ALL_FILES:
        if (out / "bundle" / name).is_file():
            shutil.copyfile(out / "bundle" / name, fresh / "bundle" / name)
    _write(fresh / "lineage.json", {"schema": SCHEMA, "digest": digest, "kept_at": time.time(), "made_by": [entry]})
    for path in fresh.rglob("*"):
        sync_path(path)
    os.replace(fresh, folder)
    sync_path(folder.parent)
    return folder


def _lineage(history: History, run: str, report: Dict[str, Any]) -> Dict[str, Any]:
    task, summary = history.task(run), history.run(run)
    names = {node.name: node.pseudonym for node in history.nodes(run)}
    privacy = dict(report["privacy"])
    if "records_per_node" in privacy:
        privacy["records_per_node"] = {names[n]: count for n, count in privacy["records_per_node"].items()}
    metrics = {kind: _without_groups(values) for kind, values in report.get("metrics", {}).items()}
    parent = history.parent(run)
    return {
        "run": run,
        "task": summary.task,
        "task_digest": hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest(),
        "training": summary.number,
        "parent_run": parent,
        "parent_model": (history.report(parent) or {}).get("digest") if parent else None,
        "rounds": [_round(r, names) for r in history.rounds(run)],
        **({"participation": WITHHELD} if history.secret_sample(run) else {}),
        "privacy": privacy,
        "metrics": metrics,
        "versions": {"python": sys.version.split()[0], **{name: _version(name) for name in _PACKAGES}},
        "started": summary.started,
        "made_at": time.time(),
    }


def _round(view: RoundView, names: Dict[str, str]) -> Dict[str, Any]:
    """Number, end and pseudonyms; the number alone where the sample of nodes is secret."""
    if view.nodes is None:
        return {"round": view.number}
    return {"round": view.number, "ended": view.ended, "nodes": sorted(names[n] for n in view.nodes)}


def _without_groups(values: Dict[str, Any]) -> Dict[str, Any]:
    """Figures over all rows: those of a group carry the group's name, which may be a hospital's."""
    return {key: value for key, value in values.items() if not isinstance(value, dict)}


def _version(package: str) -> Any:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def models(out: Path) -> List[Model]:
    """All kept models, newest first."""
    tags = tags_of(out)
    found = []
    for path in sorted((out / MODELS).glob("[0-9a-f]*/lineage.json")):
        content = read_object(path)
        names = sorted(tag for tag, digest in tags.items() if digest == content["digest"])
        found.append(Model(content["digest"], path.parent, content["kept_at"], names, content["made_by"]))
    return sorted(found, key=lambda model: model.kept_at, reverse=True)


def find_model(out: Path, name: str) -> Model:
    """A model by tag, digest, or unique beginning of a digest."""
    known = models(out)
    matching = [m for m in known if name in m.tags] or [m for m in known if m.digest.startswith(name)]
    if len(matching) != 1:
        what = f"fits {', '.join(m.digest for m in matching)}" if matching else "is not one of its tags and digests"
        meant = (
            near(name, [*(tag for m in known for tag in m.tags), *(m.digest for m in known)]) if not matching else ""
        )
        raise UsageError(f"{out / MODELS}: {name!r} {what}{meant or '; `edgeward model list` shows them'}")
    return matching[0]


def tags_of(out: Path) -> Dict[str, str]:
    """tag -> digest"""
    path = out / MODELS / _TAGS
    return {str(k): str(v) for k, v in read_object(path).items()} if path.is_file() else {}


def set_tag(out: Path, tag: str, digest: str) -> None:
    """Points `tag` at a model, away from the one it may have had."""
    if not _TAG.fullmatch(tag):
        raise UsageError(f"tag {tag!r}: use 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit")
    if any(m.digest.startswith(tag) for m in models(out)):
        raise UsageError(f"tag {tag!r}: is the beginning of a digest; choose a name that cannot be one")
    _write(out / MODELS / _TAGS, {**tags_of(out), tag: digest})


def remove_tag(out: Path, tag: str) -> None:
    tags = tags_of(out)
    if tag not in tags:
        raise UsageError(
            f"{out / MODELS}: there is no tag {tag!r}{near(tag, tags)}; there are {', '.join(sorted(tags)) or 'none'}"
        )
    _write(out / MODELS / _TAGS, {name: digest for name, digest in tags.items() if name != tag})


def prune(out: Path, keep: int) -> List[Model]:
    """Removes all but the `keep` newest of the models without a tag; returns the removed ones. Lineages go with them."""
    if keep < 0:
        raise UsageError(f"keep {keep}: 0 or more")
    removed = [m for m in models(out) if not m.tags][keep:]
    for model in removed:
        # Out of sight in one step; a half-removed folder must not look like a model.
        gone = model.folder.with_name(f".old-{hex_name(model.digest)}")
        os.replace(model.folder, gone)
        shutil.rmtree(gone)
    return removed


def read_object(path: Path) -> Dict[str, Any]:
    """The JSON object in a file. Raises EdgewardError naming the file where it is unreadable or holds something else."""
    try:
        content = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GivenError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise GivenError(f"{path}: is not a JSON object")
    return content


def _write(path: Path, content: Dict[str, Any]) -> None:
    replace_file(path, (json.dumps(content, indent=1) + "\n").encode())
