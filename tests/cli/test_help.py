"""What help costs, what it says, and that a word nobody knows is answered with the nearest one that is known."""

import argparse
import json
import subprocess
import sys
from typing import List, Set

import pytest
from wrong_arguments import commands

from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.main import build_parser, main

HEAVY = {"numpy", "rich", "paho", "serial", "esptool", "cattrs", "tensorflow", "cryptography", "sqlite3", "yaml"}
PARSER = build_parser()
LEAVES = [(" ".join(words), parser) for words, parser in commands(PARSER, [])]


def imported(words: List[str]) -> Set[str]:
    """The modules in a fresh interpreter after `edgeward WORDS`."""
    program = (
        "import json, sys; before = set(sys.modules)\n"
        "from orchestrator.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_help_imports_no_command() -> None:
    """The time of `edgeward --help` is that of imports: few modules, and none of a command."""
    loaded = imported(["--help"])
    assert {name for name in loaded if name.startswith("orchestrator.cli.")} == {
        "orchestrator.cli.arguments",
        "orchestrator.cli.commands",
        "orchestrator.cli.main",
    }
    assert len(loaded) < 60, sorted(loaded)


@pytest.mark.parametrize("command", ["gateway", "node", "monitor"])
def test_help_of_a_command_imports_no_other_and_nothing_heavy(command: str) -> None:
    loaded = imported([command, "--help"])
    others = {f"orchestrator.cli.{name}" for name in COMMANDS if name != command}
    assert f"orchestrator.cli.{command}" in loaded
    assert not loaded & others
    assert not {name.partition(".")[0] for name in loaded} & HEAVY


def test_the_listing_is_the_same_without_the_commands() -> None:
    """What is shown before any command is imported is what all of them register."""
    assert build_parser("").format_help() == PARSER.format_help()
    (group,) = (a for a in PARSER._actions if isinstance(a, argparse._SubParsersAction))
    assert list(group.choices) == list(COMMANDS)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("gatway run", "gateway"),
        ("gateway rnu", "run"),
        ("demo --task Digit", "digits"),
        ("flash --port x --chip ESP32-C3", "esp32c3"),
        ("gateway run x.toml --conect-timeout 3", "--connect-timeout"),
        ("node run --data x --polcy=p.toml", "--policy"),
    ],
)
def test_an_unknown_word_names_the_nearest(words: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert f"did you mean {meant!r}?" in capsys.readouterr().err
