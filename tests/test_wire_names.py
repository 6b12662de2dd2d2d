"""A name that came over the wire becomes a path in one way only: through wire/plain.file_name."""

import ast
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from orchestrator.errors import WireError
from orchestrator.node.personal import write_personal
from orchestrator.wire.task import Feature, Schema, Task

ROOT = Path(__file__).parents[1]
PACKAGES = ("node", "gateway", "wire", "rounds", "privacy")
FROM_THE_WIRE = {"run", "node", "name", "task", "board", "header", "label", "labels", "federation", "kind", "reason"}
"""Variables and attributes that hold what the other side chose."""

CHECKED = {"file_name", "check_name"}
KNOWN = {
    ("gateway/federation.py", "base / name"),  # a file the gateway's own edgeward.toml names
    ("node/identity.py", "self._folder / name"),  # of a tuple of constants
    ("gateway/authority.py", "self.folder / name"),  # the same
    ("gateway/web/server.py", "Path(told[name])"),  # from the gateway that started the dashboard
    ("gateway/scrub.py", "out / name"),  # of a tuple of constants
    ("gateway/registry.py", "out / 'bundle' / name"),  # of a list of a bundle's own files
    ("gateway/registry.py", "fresh / 'bundle' / name"),
    ("node/contribution.py", "self.stated * task.evaluation.share / (1 - task.evaluation.share)"),  # numbers
    ("node/policy.py", "privacy.noise_multiplier / math.sqrt(parties_of(task))"),
    ("privacy/accounting.py", "close.gaussian_std / (release.bound * _multiplier(task, kind))"),
}


def paths(tree: ast.AST) -> Iterator[Tuple[ast.AST, List[ast.AST]]]:
    """(expression, the parts of a path in it) of everything that joins or opens paths."""
    for found in ast.walk(tree):
        if isinstance(found, ast.BinOp) and isinstance(found.op, ast.Div):
            yield found, [found.right]
        elif isinstance(found, ast.Call):
            function = found.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if called in ("Path", "open", "with_name", "with_suffix", "joinpath", "glob", "rglob", "mkstemp"):
                yield found, list(found.args)


def from_the_wire(part: ast.AST) -> bool:
    """Whether a name of FROM_THE_WIRE is in the expression outside a call that checks it."""
    if isinstance(part, ast.Call):
        function = part.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if called in CHECKED:
            return False
    if isinstance(part, ast.Name):
        return part.id in FROM_THE_WIRE
    if isinstance(part, ast.Attribute):
        # path.name is the last part of a path: not from the wire, and no way out of its folder.
        path = isinstance(part.value, (ast.Name, ast.Attribute)) and part.attr == "name"
        return part.attr in FROM_THE_WIRE and not path
    return any(from_the_wire(inner) for inner in ast.iter_child_nodes(part))


def suspicious(code: str) -> List[str]:
    found = paths(ast.parse(code))
    return [ast.unparse(whole) for whole, parts in found if any(from_the_wire(part) for part in parts)]


@pytest.mark.parametrize(
    "code",
    [
        'folder / f"personal-{run}.npz"',
        "folder / header['run']",
        "Path(name)",
        'p.with_name(f"{task.run}.x")',
        "a / run",
    ],
)
def test_the_check_sees_what_it_is_for(code: str) -> None:
    assert suspicious(code)


def test_no_name_from_the_wire_is_part_of_a_path_unchecked() -> None:
    found = set()
    for package in PACKAGES:
        for path in sorted((ROOT / "orchestrator" / package).rglob("*.py")):
            where = path.relative_to(ROOT / "orchestrator").as_posix()
            found |= {(where, text) for text in suspicious(path.read_text())}
    assert not found - KNOWN


@pytest.mark.parametrize("run", ["../../stolen", "/tmp/stolen", "a/b", ".."])
def test_a_run_that_is_a_path_writes_no_file(tmp_path: Path, run: str) -> None:
    import numpy as np

    state = tmp_path / "a" / "state"
    state.mkdir(parents=True)
    schema = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", -1, 3),))
    task, vector = Task("ward", schema, {"kind": "none"}), np.zeros(1, np.float32)
    if run != "..":
        with pytest.raises(WireError, match="a run's name is"):
            write_personal(state, run, "icu", task, 1, vector, vector, vector)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    else:  # two dots alone are a name like any other, inside the folder
        assert write_personal(state, run, "icu", task, 1, vector, vector, vector).parent == state
