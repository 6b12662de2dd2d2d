"""`edgeward`: one thin module per command group; each imports what it needs only when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import List, Optional


def build_parser(command: Optional[str] = None) -> argparse.ArgumentParser:
    """The parser of the whole command line, or with the arguments of one command alone: no other module is imported then."""
    from orchestrator.cli.arguments import Parser
    from orchestrator.cli.commands import COMMANDS

    parser = Parser(
        prog="edgeward",
        description="Train a model together without moving the data; put the result on a microcontroller.",
        epilog="Exit codes: 0 done, 1 failed while running, 2 wrong arguments or files.",
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        if command in (None, name):
            importlib.import_module(f"orchestrator.cli.{name}").register(subparsers)
        else:
            subparsers.add_parser(name, help=line)
    return parser


def _command(words: List[str]) -> str:
    """The first word that is no option, which is the command: no option before it takes a value."""
    return next((word for word in words if not word.startswith("-")), "")


def _renamed(words: List[str]) -> List[str]:
    """The same with the name that a command has now."""
    from orchestrator.cli.commands import RENAMED

    old = _command(words)
    if old not in RENAMED:
        return words
    print(f"edgeward: `{old}` is called `{RENAMED[old]}` now, and goes by its old name until 0.3", file=sys.stderr)
    place = words.index(old)
    return [*words[:place], RENAMED[old], *words[place + 1 :]]


def _version() -> str:
    from orchestrator import __version__

    return f"edgeward {__version__}"


def _open_streams() -> None:
    """All three are there, and take any text.

    What was closed (`>&-`) leads to /dev/null, or the next file that is opened would get its number, and what libraries print
    would land in it. Characters that a terminal's encoding does not have are written as \\u escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    elif hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is no text is refused by who reads it
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
    if getattr(sys.stdout, "errors", None) in ("strict", "surrogateescape") and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def main(argv: Optional[List[str]] = None) -> int:
    _open_streams()
    words = sys.argv[1:] if argv is None else argv
    words = _renamed(words)
    arguments = build_parser(_command(words)).parse_args(words)
    arguments.words = words  # as they were given, for a command that is to be given again
    from orchestrator.errors import EdgewardError, exit_code_of
    from orchestrator.mishaps import failure_of_machine
    from orchestrator.wire.plain import plain

    try:
        return int(arguments.run(arguments) or 0)
    except EdgewardError as error:
        print("\n".join(plain(line, 4000) for line in f"edgeward: {error}".split("\n")), file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        print("edgeward: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output left (`edgeward ... | head`): nothing to report, and nowhere to report it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        reason = failure_of_machine(error)
        if reason is None:
            raise  # a bug keeps its traceback
        print(plain(f"edgeward: {reason}", 4000), file=sys.stderr)
        return exit_code_of(error)


if __name__ == "__main__":
    sys.exit(main())
