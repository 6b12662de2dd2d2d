"""Paths of an edgeward.toml that no file can have are refused by their keys, wherever the file may name one."""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.named_paths import PLACES

REFERENCE = Path(__file__).resolve().parents[2] / "docs/edgeward-reference.md"
TABLE = {
    "kind": "table",
    "features": [{"name": "a", "minimum": 0, "maximum": 3}, {"name": "b", "categories": ["n", "y"]}],
}
LABEL = {"label": "y", "classes": ["0", "1"], "label_values": {"0": 0, "1": 1}}
ANALYSES: Dict[str, Dict[str, Any]] = {
    "model": {"kind": "performance", "outcome": "b"},
    "edges_file": {"kind": "svm", "outcome": "b", "graph": "edges"},
}
BAD = {"a\0b": "NUL character", "b" * 300: "name too long", "c/" * 2500: "name too long", "\0" + "d" * 5000: "NUL"}


def in_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {in_toml(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(in_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def with_path(keys: List[str], value: str) -> str:
    """An edgeward.toml that has a path there."""
    data: Dict[str, Any] = {"task": {"name": "t", "schema": {**TABLE, **LABEL}, "model": {"kind": "mlp"}}}
    if keys[:2] == ["task", "analysis"]:
        data["task"] = {"name": "t", "schema": TABLE, "analysis": dict(ANALYSES[keys[2]])}
    elif keys[:2] == ["task", "model"]:
        data["task"]["model"]["kind"] = "keras"
    inner = data
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[keys[-1]] = value
    return "\n".join(f"{key} = {in_toml(each)}" for key, each in data.items())


def keys_of(place: Any) -> List[str]:
    return [*place.keys, "ward"] if place.keys == ("evaluation",) else list(place.keys)


@pytest.mark.parametrize("files", [True, False])
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("keys", [keys_of(place) for place in PLACES], ids=".".join)
def test_a_path_no_file_can_have_is_refused_by_its_key(
    tmp_path: Path, keys: List[str], value: str, files: bool
) -> None:
    path = tmp_path / "edgeward.toml"
    path.write_text(with_path(keys, value))
    with pytest.raises(UsageError) as caught:
        load_config(path, files=files)
    assert caught.value.exit_code == 2
    lines = [line.strip() for line in str(caught.value).split("\n")[1:]]
    assert lines[0].startswith(".".join(keys) + ": "), lines
    assert BAD[value] in lines[0]
    assert all(line.isprintable() and len(line) < 400 and "\ufffd" not in line for line in lines), lines
    assert not any("no such" in line.lower() for line in lines), lines


def test_what_is_wrong_elsewhere_is_said_as_well(tmp_path: Path) -> None:
    path = tmp_path / "edgeward.toml"
    path.write_text(with_path(["calibration"], "a\0b") + "\nchance = 1\n[gateway]\nport = 70000\n")
    with pytest.raises(UsageError) as caught:
        load_config(path, files=True)
    assert all(key in str(caught.value) for key in ("calibration: ", "chance: ", "gateway.port: "))


def test_every_path_of_the_reference_is_one_of_these() -> None:
    """A key that names a file or a folder is looked at before anything opens it."""
    named: Set[str] = set()
    for row in REFERENCE.read_text(encoding="utf-8").split("\n"):
        found = re.search(r"`(\w+)` \|.*\| (name = )?an? (file|folder|\.keras file)\b", row)
        named.update(found.groups()[:1] if found else ())
    assert named == {place.keys[-1] for place in PLACES} - {"edges_file"}
    assert "edges_file" in REFERENCE.read_text(encoding="utf-8")
