"""Descriptions of data, written for tests."""

import json
from pathlib import Path
from typing import Any, Dict


def toml(value: Any) -> str:
    """A value as TOML has it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def describe(folder: Path, source: Dict[str, Any], **more: Any) -> Path:
    """A description with this [source] and other tables."""
    path = folder / "ward.toml"
    path.write_text("\n".join(f"{key} = {toml(each)}" for key, each in {"source": source, **more}.items()))
    return path
