"""What can be known of the container files without an engine to build them: sources, extras, commands."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from orchestrator.cli.main import build_parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def instructions(part: str) -> List[Tuple[str, str]]:
    text = (ROOT / "deploy" / f"Containerfile.{part}").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]  # type: ignore[misc]


@pytest.fixture(params=["gateway", "node"])
def part(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_only_known_instructions_beginning_with_from(part: str) -> None:
    words = [word for word, _ in instructions(part)]
    assert words[0] == "FROM"
    assert set(words) <= KNOWN


def test_every_copied_source_is_part_of_the_project(part: str) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    for word, rest in instructions(part):
        if word != "COPY":
            continue
        *sources, target = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            if tracked.returncode == 0:
                assert any(f == source or f.startswith(f"{source}/") for f in tracked.stdout.splitlines()), source
        assert target == "./" or target == f"./{sources[0]}"


def test_everything_the_build_takes_is_copied(part: str) -> None:
    project: Dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {name for word, rest in instructions(part) if word == "COPY" for name in rest.split()[:-1]}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "pyproject.toml"} <= copied
    extras = [name for word, rest in instructions(part) for name in re.findall(r"'\.\[([a-z,]+)\]'", rest)]
    assert extras == [part]
    assert part in project["project"]["optional-dependencies"]


def test_the_command_is_one_edgeward_has_and_runs_without_a_shell_as_no_root(part: str) -> None:
    found = dict(instructions(part))
    entry = json.loads(found["ENTRYPOINT"])
    assert entry == ["edgeward", part, "run"]
    default = json.loads(found["CMD"])
    example = re.search(rf"edgeward-{part} \\\n#     (.*)", (ROOT / "deploy" / f"Containerfile.{part}").read_text())
    if part == "gateway":
        words = default
    else:
        assert example is not None
        words = shlex.split(example[1])
    parsed = vars(build_parser().parse_args([*entry[1:], *words]))
    state = parsed["out" if part == "gateway" else "state"]
    assert str(state) == found["VOLUME"] == "/var/lib/edgeward"
    assert found["USER"] == "edgeward"
    assert found["STOPSIGNAL"] == "SIGTERM"
