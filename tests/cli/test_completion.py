"""Scripts for shells: made from the parser, and bash does complete with them."""

import subprocess
from pathlib import Path
from typing import Dict, List, Set

import pytest
from wrong_arguments import commands

from orchestrator.cli.completion import SHELLS
from orchestrator.cli.main import build_parser, main

pytest.importorskip("shtab", reason="shtab needs Python 3.9 or newer")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    with pytest.MonkeyPatch.context() as patch:
        written = {}
        for shell in SHELLS:
            said: List[str] = []
            patch.setattr("builtins.print", said.append)
            assert main(["completion", shell]) == 0
            written[shell] = folder / shell
            written[shell].write_text(said[0] + "\n")
    return written


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_command_and_option(scripts: Dict[str, Path], shell: str) -> None:
    text = scripts[shell].read_text()
    lacking = [
        option
        for words, parser in commands(build_parser(), [])
        for option in [*words, *(o for a in parser._actions for o in a.option_strings if o.startswith("--"))]
        if option.lstrip("-") not in text
    ]
    assert lacking == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gat"], {"gateway"}),
        (["gateway", "r"], {"run", "revoke", "relay"}),
        (["predict", "b", "--mod"], {"--model"}),
        (["predict", "b", "--model", ""], {"int8", "float"}),
        (["predict", "b", "--data", "n"], {"new.csv"}),
    ],
)
def test_bash_completes(scripts: Dict[str, Path], tmp_path: Path, words: List[str], expected: Set[str]) -> None:
    (tmp_path / "new.csv").touch()
    line = " ".join(f"'{word}'" for word in ["edgeward", *words])
    program = (
        f"source '{scripts['bash']}'\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}\n"
        "$(complete -p edgeward | grep -oP '(?<=-F )\\S+') edgeward; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert set(done.stdout.split()) == expected, done.stderr
