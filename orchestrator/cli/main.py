"""`edgeward`: one thin module per command group; each imports what it needs only when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import List, Optional

COMMANDS = (
    "demo",
    "init",
    "gateway",
    "authority",
    "node",
    "keyholder",
    "runs",
    "model",
    "predict",
    "privacy",
    "board",
    "flash",
    "monitor",
    "score",
    "audit",
    "doctor",
    "completion",
)
"""Modules of this package, each with `register(subparsers)`, in the order `--help` shows them."""


def build_parser() -> argparse.ArgumentParser:
    from orchestrator.cli.arguments import Parser

    parser = Parser(
        prog="edgeward",
        description="Train a model together without moving the data; put the result on a microcontroller.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad usage.",
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"orchestrator.cli.{name}").register(subparsers)
    return parser


def _version() -> str:
    from orchestrator import __version__

    return f"edgeward {__version__}"


def main(argv: Optional[List[str]] = None) -> int:
    from orchestrator.cli.arguments import failure_of_machine
    from orchestrator.errors import EdgewardError
    from orchestrator.wire.plain import plain

    arguments = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        return int(arguments.run(arguments) or 0)
    except EdgewardError as error:
        print("\n".join(plain(line, 4000) for line in f"edgeward: {error}".split("\n")), file=sys.stderr)
        return error.exit_code
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
        return 1


if __name__ == "__main__":
    sys.exit(main())
