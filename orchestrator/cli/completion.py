"""`edgeward completion`: a script that completes commands, options and files in a shell, made from the parser."""

import argparse
from pathlib import Path
from typing import Any, Iterator

from orchestrator.cli.commands import COMMANDS

SHELLS = ("bash", "zsh", "fish")

_EPILOG = """examples:
  edgeward completion bash > ~/.local/share/bash-completion/completions/edgeward
  edgeward completion zsh > "${fpath[1]}/_edgeward"
  edgeward completion fish > ~/.config/fish/completions/edgeward.fish

It takes effect in shells opened from then on. Write it again after an upgrade."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "completion",
        help=COMMANDS["completion"],
        description="Prints a script with which a shell completes edgeward's commands, options, choices and files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell the script is for")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.main import build_parser

    try:
        import shtab
    except ImportError as error:
        from orchestrator.errors import EdgewardError

        raise EdgewardError("completion needs Python 3.9 or newer and shtab: pip install 'shtab>=1.13'") from error
    parser = build_parser()
    for action in _arguments(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, arguments.shell))
    return 0


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and of the commands below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _arguments(inner)
        else:
            yield action
