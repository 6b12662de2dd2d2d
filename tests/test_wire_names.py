"""A name that came over the wire becomes a path in one way only: through wire/plain.file_name, a digest through hex_name."""

import ast
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from orchestrator.boards.forward import board_name
from orchestrator.errors import EdgewardError, WireError
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.registry import find_model, set_tag
from orchestrator.gateway.run import run_id
from orchestrator.node.approval import Approvals
from orchestrator.node.personal import write_personal
from orchestrator.wire.plain import file_name, hex_name, run_name
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task
from orchestrator.wire.topics import Topics, check_name

ROOT = Path(__file__).parents[1]
FROM_THE_WIRE = {
    *(
        "run",
        "node",
        "name",
        "task",
        "board",
        "header",
        "label",
        "labels",
        "federation",
        "kind",
        "reason",
        "digest",
        "tag",
    ),
    *(
        "group",
        "peer",
        "party",
        "member",
        "instance",
        "sender",
        "slot",
        "pseudonym",
        "model_name",
        "hospital",
        "monitor",
    ),
}
"""Variables and attributes that hold what the other side chose."""

CHECKED = {"file_name", "hex_name", "check_name"}
OPENS = {
    *("Path", "PurePath", "open", "with_name", "with_suffix", "joinpath", "glob", "rglob", "mkstemp", "mkdtemp"),
    *("TemporaryDirectory", "NamedTemporaryFile", "makedirs", "listdir", "FileResponse", "FileHandler"),
}
OPENS_WITH_MODULE = {("path", "join"), ("np", "load"), ("np", "save"), ("np", "savez"), ("sqlite3", "connect")}
KNOWN = {
    ("cli/state.py", "Path(f'{folder}-{name}')"),  # checked as the name of a node
    ("cli/state.py", "folder / name"),  # of a tuple of constants
    ("gateway/federation.py", "base / name"),  # a file the gateway's own edgeward.toml names
    (
        "boards/flash_images.py",
        "Path(name)",
    ),  # what flasher_args.json of a local build says, neither absolute nor with ".."
    ("boards/flash_images.py", "folder / name"),  # the same
    ("cli/board_network.py", "args.identity / name"),  # of a tuple of constants
    ("node/identity.py", "self._folder / name"),  # of a tuple of constants
    ("gateway/identity_folder.py", "self.folder / name"),  # the same
    ("gateway/web/server.py", "Path(given[name])"),  # from the gateway that started the dashboard
    # what the owner's description names, below its folder and without ".."
    ("data/sources/wav_files.py", "folder / asked.folder / name"),
    ("gateway/scrub.py", "out / name"),  # of a tuple of constants
    ("gateway/registry.py", "out / 'bundle' / name"),  # of a list of a bundle's own files
    ("gateway/registry.py", "fresh / 'bundle' / name"),
    ("privacy/accounting.py", "1.0 / math.sqrt(COUNT_COST * _steps_spent(task))"),  # a number, by a number
    ("privacy/accounting.py", "1.0 / math.sqrt(STATISTICS_COST * _steps_spent(task))"),
    ("cli/gateway.py", "Path(name)"),
    ("doctor/examine.py", "question.config.parent / name"),
    ("wire/secrets_file.py", "Path(name)"),
    ("cli/identity.py", "arguments.folder / name"),  # of tuples of constants
    ("cli/score.py", "folder / name"),
    ("doctor/examine.py", "question.state / ('node.sqlite' if node else 'gateway.sqlite')"),
    ("model_export/tflm.py", "Path(folder) / name"),
    ("model_export/worker.py", "folder / f'{name}.npy'"),
    ("audit/masks.py", "Path(folder) / f'{name}.sqlite'"),  # node-1, node-2, ... of its own
    ("audit/training.py", "Path(folder) / f'{name}.sqlite'"),
    ("demo/processes.py", "self._logs / f'{name}.log'"),
    ("demo/processes.py", "self._out / 'state' / name"),
    ("demo/tasks.py", "folder / heart.file_of(hospital)"),  # of the four of a public data set
    ("demo/tasks.py", "request.out / 'nodes' / f'{hospital}.csv'"),
    ("demo/tasks.py", "request.out / 'test' / f'{hospital}.csv'"),
    ("audit/bench.py", "work_of(self.task).noise_multiplier / np.sqrt(parties_of(self.task))"),  # numbers
    ("audit/probes.py", "multiplier / np.sqrt(parties_of(bench.task))"),
    (
        "audit/training.py",
        "-task.training.learning_rate_at(number) * total / "
        "(privacy.sampling_rate * sum((node.run.units for node in nodes.values())))",
    ),
    ("node/policy.py", "1 / math.sqrt(parties_of(task))"),
    ("privacy/accounting.py", "close.gaussian_std / (release.bound * declared[kind])"),
    ("privacy/grids.py", "gaussian_std(grid.mechanism, grid.std, grid.parties) / (grid.bound * declared[charge.kind])"),
}


def paths(tree: ast.AST) -> Iterator[Tuple[ast.AST, List[ast.AST]]]:
    """(expression, the parts of a path in it) of everything that joins or opens paths."""
    for found in ast.walk(tree):
        if isinstance(found, ast.BinOp) and isinstance(found.op, ast.Div):
            yield found, [found.right]
        elif isinstance(found, ast.Call):
            function = found.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            module = getattr(function, "value", None)
            of = module.attr if isinstance(module, ast.Attribute) else getattr(module, "id", "")
            if called in OPENS:
                yield found, [*found.args, *(keyword.value for keyword in found.keywords)]
            elif (of, called) in OPENS_WITH_MODULE:
                yield found, list(found.args)
        elif isinstance(found, ast.AugAssign) and isinstance(found.op, ast.Div):
            yield found, [found.value]


def from_the_wire(part: ast.AST) -> bool:
    """Whether a name of FROM_THE_WIRE is in the expression outside a call that checks it."""
    if isinstance(part, ast.Call):
        function = part.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if called in CHECKED:
            return False
        of = [function.value] if isinstance(function, ast.Attribute) else []
        return any(from_the_wire(inner) for inner in (*of, *part.args, *part.keywords))
    if isinstance(part, ast.Name):
        return part.id in FROM_THE_WIRE
    if isinstance(part, ast.Attribute):
        # path.name is the last part of a path: not from the wire, and no way out of its folder. task.name is something else.
        owner = part.value.attr if isinstance(part.value, ast.Attribute) else getattr(part.value, "id", "")
        path = part.attr == "name" and owner.lstrip("_") not in FROM_THE_WIRE
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
        "folder / task.name",
        "folder / self._config.task.name",
        "path /= run",
        "folder / task.name.strip()",
        "folder / header['run'].lower()",
        "os.path.join(folder, run)",
        "np.save(f'{folder}/{label}.npy', x)",
        "sqlite3.connect(str(node))",
        "mkdtemp(prefix=name)",
        "folder / f'{digest}.json'",
    ],
)
def test_the_check_sees_what_it_is_for(code: str) -> None:
    assert suspicious(code)


def test_no_name_from_the_wire_is_part_of_a_path_unchecked() -> None:
    found = set()
    for package in ("orchestrator", "model_export"):
        for path in sorted((ROOT / package).rglob("*.py")):
            where = path.relative_to(ROOT / "orchestrator" if package == "orchestrator" else ROOT).as_posix()
            found |= {(where, text) for text in suspicious(path.read_text())}
    assert not found - KNOWN
    assert not KNOWN - found, "what is not there any more"


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


EVIL = [
    *(
        "../../evil",
        "..",
        ".",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:\\x",
        "nul\x00",
        "x" * 5000,
        "",
        " ",
        "a b",
        "a\n",
        "~",
        "$HOME",
    ),
    *(
        "\u2024\u2024\u2215evil",
        "\uff0e\uff0e\uff0fevil",
        "\u0430dmin",
        "e\u0301",
        "\u212a",
        "\ud800",
        "con:",
        "a*",
        "a?",
        "<",
        "a|b",
    ),
]
"""Paths, devices, what other systems forbid, and letters that look like others."""


@pytest.mark.parametrize("name", EVIL)
def test_no_evil_name_is_one_of_a_run_a_node_a_board_a_tag_or_a_federation(name: str, tmp_path: Path) -> None:
    for check in (
        lambda: check_name(name, "node"),
        lambda: Topics(name),
        lambda: Topics("icu").board_record(name),
        lambda: set_tag(tmp_path, name, "aa" * 8),
        lambda: find_model(tmp_path, name),
        lambda: Approvals(tmp_path).find(name),
        lambda: hex_name(name),
        lambda: Authority.create(tmp_path / "identity", name, ["localhost"]),
    ):
        with pytest.raises(EdgewardError):
            check()
    assert Topics("icu").board(f"edgeward/1/icu/board/{name}/record") is None
    assert Topics("icu").sender(f"edgeward/1/icu/node/{name}/up") is None
    assert not list(tmp_path.iterdir())
    if name not in ("..", "."):  # two dots are letters of a name like any other, never a whole part of a path
        with pytest.raises(WireError):
            run_name(name)


@pytest.mark.parametrize("name", EVIL)
def test_a_task_of_any_name_has_a_run_that_is_one_file(name: str) -> None:
    schema = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", -1, 3),))
    made = file_name("personal", run_id(Task(name, schema, {"kind": "none"})), "npz")
    assert Path(made).name == made
    assert made.startswith("personal-")
    assert len(made) < 200
    assert made.isascii()


def test_names_that_differ_in_case_are_two_files_everywhere() -> None:
    """Also where the file system sees no case; and no name is made to fit another's mark."""
    names = ["Run", "run", "RUN", "rUN"]
    files = [file_name("personal", name, "npz") for name in names]
    assert len({made.lower() for made in files}) == 4
    assert file_name("personal", "run", "npz") == "personal-run.npz"
    with pytest.raises(WireError):
        file_name("personal", files[0][len("personal-") : -len(".npz")], "npz")
    assert file_name("personal", "CON", "npz").startswith("personal-con"), (
        "no device of Windows: what is before a dot counts"
    )


@pytest.mark.parametrize("port", ["/dev/../../etc", "/dev/serial/by-id/../x", "CON", "/dev/tty\u0430", "\x00/a/../b"])
def test_a_port_gives_a_board_a_name_that_is_no_path(port: str) -> None:
    name = board_name(port)
    assert check_name(name, "board") == name
    assert "." not in name
