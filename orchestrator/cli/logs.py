"""Where a gateway's or node's log lines go: standard error (systemd's journal keeps it), or a file that stays bounded."""

import argparse
import logging
import sys
from pathlib import Path

from orchestrator.cli.arguments import LEAST, number_within
from orchestrator.mishaps import catch_in_threads
from orchestrator.wire.plain import PlainFormatter

KEPT = 5
"""Rotated files beside the newest: FILE.1 is the last one closed, FILE.5 the oldest."""
MOST_MIB = 1 << 20
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-file", type=Path, metavar="FILE", help=f"also log there; {KEPT} earlier files are kept as FILE.1 ..."
    )
    parser.add_argument(
        "--log-mib",
        type=number_within(LEAST, MOST_MIB, f"a number above 0, at most {MOST_MIB}"),
        default=10.0,
        metavar="N",
        help="size at which FILE is rotated (default: %(default)s)",
    )


def _steady(handler: logging.FileHandler) -> logging.FileHandler:
    """One whose file cannot be written says so once, on standard error, instead of a traceback a line."""
    said: list[logging.LogRecord] = []

    def complain(record: logging.LogRecord) -> None:
        if not said:
            said.append(record)
            print(f"edgeward: {handler.baseFilename}: cannot be written: {sys.exc_info()[1]}", file=sys.stderr)

    handler.handleError = complain  # type: ignore[method-assign]
    return handler


def worth_seeing(record: logging.LogRecord) -> bool:
    """Whether a line is for a person who only waits: a warning, or a milestone, whose logger ends in .milestones."""
    return record.levelno >= logging.WARNING or record.name.endswith(".milestones")


def show_milestones() -> None:
    """On standard error, of a command that has no log: what long work has come to."""
    screen = logging.StreamHandler(sys.stderr)
    screen.addFilter(worth_seeing)
    screen.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[screen])


def configure(arguments: argparse.Namespace, verbose: bool = False) -> None:
    """Warnings and milestones on standard error (everything with `verbose`); everything in --log-file.

    Raises UsageError if that cannot be written.
    """
    from logging.handlers import RotatingFileHandler

    from orchestrator.errors import UsageError

    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.INFO)
    if not verbose:
        screen.addFilter(worth_seeing)
    handlers: list[logging.Handler] = [screen]
    if arguments.log_file is not None:
        try:
            arguments.log_file.parent.mkdir(parents=True, exist_ok=True)
            size = int(arguments.log_mib * (1 << 20))
            handlers.append(_steady(RotatingFileHandler(str(arguments.log_file), maxBytes=size, backupCount=KEPT)))
        except OSError as error:
            raise UsageError(f"--log-file {arguments.log_file}: {error.strerror}") from error
    for handler in handlers:
        handler.setFormatter(PlainFormatter(_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=handlers)
    logging.getLogger("edgeward").setLevel(logging.INFO)
    catch_in_threads(logging.getLogger("edgeward"))
