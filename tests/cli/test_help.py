"""What help costs, what it says, and that a word nobody knows is answered with the nearest one that is known."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Set

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


NO_JSON = {
    "gateway service": "prints a file",
    "node service": "prints a file",
    "gateway dashboard": "serves until it is stopped; what it says is a log",
    "gateway enroll-server": "serves until it is stopped; what it says is a log",
    "node run": "serves until it is stopped; what it says is a log",
    "keyholder run": "serves until it is stopped; what it says is a log",
    "completion": "prints a script",
    "gateway password": "asks a person, or prints one token",
}


def test_every_command_that_reports_has_json() -> None:
    without = {words for words, parser in LEAVES if "--json" not in parser._option_string_actions}
    assert without == set(NO_JSON)


def meaning(action: argparse.Action) -> str:
    """The help of an argument without what it says of the default."""
    return re.sub(r"\(?default: [^)]*\)?", "", action.help or "").strip(" ,;.")


@pytest.mark.parametrize(("words", "parser"), LEAVES)
def test_every_argument_says_what_it_means(words: str, parser: argparse.ArgumentParser) -> None:
    dumb = [action.option_strings or action.dest for action in parser._actions if len(meaning(action).split()) < 2]
    assert not dumb, f"edgeward {words}: only a default, or nothing"
    assert parser.description


def test_results_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)

    def output(line: str) -> Dict[str, Any]:
        assert main([*line.split(), "--json"]) == 0
        found: Dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    whole = output("gateway init identity --federation icu --host localhost")
    assert whole["federation"] == "icu"
    assert output("gateway invite icu-1 --identity identity")["token"]
    assert Path(output("gateway broker-config identity")["configuration"]).is_file()
    assert (
        output("node request --name icu-2 --federation icu --identity icu-2 --out icu-2.csr")["request"] == "icu-2.csr"
    )
    signed = output("gateway sign icu-2.csr --name icu-2 --identity identity --out icu-2.json")
    assert signed["ca"] == whole["ca"]
    assert output(f"node install icu-2.json --identity icu-2 --ca {whole['ca']}")["name"] == "icu-2"
    assert output("gateway revoke icu-2 --identity identity") == {"name": "icu-2", "revoked": 1}
    apart = output("authority init authority --federation icu")
    output("gateway init apart --federation icu --host localhost --request gateway.json")
    output("authority sign gateway.json --name gateway --authority authority --out answer.json")
    installed = output(f"gateway install answer.json --identity apart --ca {apart['ca']}")
    assert installed["ca"] == apart["ca"]
    assert output("authority revoke gateway --authority authority")["revoked"] == 1
