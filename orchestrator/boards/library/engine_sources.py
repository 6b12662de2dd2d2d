"""The sources of engine/direct that one model needs, as they are but for the name of their namespace and folder.

Both carry the library's name, so that several libraries, also of several versions, live in one program.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Collection, Dict, List, Set

FOLDER = "engine/direct"
ALWAYS = ("engine.cpp", "check_plan.cpp")
_INCLUDE = re.compile(r'^#include "(engine/[^"]+)"', re.MULTILINE)
_KERNEL = re.compile(r"^void (\w+)\(const Program& \w+, const Record& \w+\)", re.MULTILINE)


def kernels(root: Path) -> Dict[str, str]:
    """Kind -> its source below `root`, which is firmware/."""
    files = sorted((root / FOLDER).glob("*.cpp"))
    return {kind: f"{FOLDER}/{file.name}" for file in files for kind in _KERNEL.findall(file.read_text("utf-8"))}


def engine_sources(root: Path, used: Collection[str], every: Collection[str], name: str) -> Dict[str, str]:
    """Path below the library's src/ -> content. used: the kinds of the model's plan, of `every` one there is."""
    where = kernels(root)
    paths = {f"{FOLDER}/{file}" for file in ALWAYS} | {where[kind] for kind in used}
    texts = {path: (root / path).read_text("utf-8") for path in _with_headers(root, paths)}
    made = {f"{name}/{path}": own(text, name) for path, text in sorted(texts.items())}
    there = {kind for kind, path in where.items() if path in paths}
    absent = [kind for kind in every if kind not in there]
    if absent:
        made[f"{name}/{FOLDER}/absent.cpp"] = own(_absent(absent), name)
    return made


def own(text: str, name: str) -> str:
    """A source of the firmware as it is in the library `name`."""
    return re.sub(r"\bnamespace edgeward\b", f"namespace edgeward_{name}", _INCLUDE.sub(rf'#include "{name}/\1"', text))


def _with_headers(root: Path, paths: Set[str]) -> Set[str]:
    """With all they include, and what that includes."""
    found: Set[str] = set()
    ahead: List[str] = sorted(paths)
    while ahead:
        path = ahead.pop()
        if path not in found:
            found.add(path)
            ahead += _INCLUDE.findall((root / path).read_text("utf-8"))
    return found


def _absent(kinds: List[str]) -> str:
    """In place of the kernels that were left out: a plan with one of them is refused, so none of them is ever called."""
    lines = [f"void {kind}(const Program&, const Record&) {{}}" for kind in kinds]
    lines += [f"const char* check_{kind}(const Checker&, const Record&) {{ return kAbsent; }}" for kind in kinds]
    body = "\n".join(lines)
    return f"""// Kernels that this model does not use and this library does not have.
#include "engine/direct/check.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {{
namespace {{

constexpr char kAbsent[] = "an operator this library was made without";

}}  // namespace

{body}

}}  // namespace edgeward::direct
"""
