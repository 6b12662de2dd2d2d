"""`edgeward simulate`: a federation's whole run with all of its nodes in this process."""

import argparse
from pathlib import Path
from typing import Any, Dict, List

from orchestrator.cli import logs
from orchestrator.cli.arguments import check_output_folder
from orchestrator.cli.commands import COMMANDS

_EPILOG = """examples:
  edgeward data mock edgeward.toml --out north.csv              # and south.csv, west.csv
  edgeward simulate edgeward.toml --data north.csv south.csv west.csv
  edgeward simulate edgeward.toml --data icu-1=a.csv icu-2=ward.sqlite#stays

Gateway and nodes are those of a real run, with their checks, ledgers, masks and noise; what is missing is what lies between
them: broker, network, identities, owners who are asked. This process reads all records, so nothing is protected from it."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "simulate", help=COMMANDS["simulate"], epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, metavar="edgeward.toml", help="of training, or with a [task.analysis]")
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="[NAME=]FILE",
        help="records of a node, as node run --data has them; without a name the node is called as its file",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/simulation"),
        help="state and results; a simulation that was cut off goes on there (default: %(default)s)",
    )
    logs.add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line: progress, and last the result")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.shown_run import run_shown
    from orchestrator.gateway.config import load_config
    from orchestrator.simulation.federation import simulate

    logs.configure(arguments)
    check_output_folder(arguments.out, "--out")
    config, data, out = load_config(arguments.config, {}, files=True), _named(arguments.data), arguments.out
    base = arguments.config.parent
    return run_shown(config, out, arguments.json, lambda progress: simulate(config, base, data, out, progress))


def _named(given: List[str]) -> Dict[str, Path]:
    """node -> what it reads. UsageError for names that no node can have, or that two have."""
    from orchestrator.data.sources.registry import file_of
    from orchestrator.errors import DataError, UsageError
    from orchestrator.wire.topics import check_name

    found: Dict[str, Path] = {}
    for text in given:
        before, equals, after = text.partition("=")
        named = bool(equals) and "/" not in before
        path = Path(after if named else text)
        try:
            name = check_name(before if named else path.name.partition("#")[0].partition(".")[0].lower(), "node")
        except UsageError as error:
            raise UsageError(f"--data {text}: {error}; write NAME=FILE to call it otherwise") from error
        if name in found:
            raise UsageError(f"--data {text}: a node {name!r} has data already; write NAME=FILE to call it otherwise")
        try:
            file_of(path)
        except DataError as error:
            raise DataError(f"--data {error}") from error
        found[name] = path
    return found
