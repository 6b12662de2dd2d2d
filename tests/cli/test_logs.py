"""What a person sees of a process that only waits and works: warnings and milestones, and everything where it is asked for."""

import logging
import subprocess
import sys

from orchestrator.cli import logs

SCRIPT = """
import argparse, logging
from orchestrator.cli import logs
logs.configure(argparse.Namespace(log_file=None, log_mib=1.0), verbose={verbose})
logging.getLogger("edgeward.node").info("a detail")
logging.getLogger("edgeward.node.milestones").info("a milestone")
logging.getLogger("edgeward.node").warning("a warning")
logging.getLogger("library.milestones").info("a library's word")
"""


def shown(verbose: bool) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(verbose=verbose)], capture_output=True, text=True, check=True
    )
    return done.stderr


def test_milestones_are_seen_without_asking() -> None:
    assert [line.split(" ", 3)[3] for line in shown(False).splitlines()] == ["a milestone", "a warning"]
    assert [line.split(" ", 3)[3] for line in shown(True).splitlines()] == ["a detail", "a milestone", "a warning"]


def test_every_milestone_has_a_logger_that_is_let_through() -> None:
    from orchestrator.node import key_holder, opening

    for logger in (opening.milestones, key_holder.milestones):
        record = logger.makeRecord(logger.name, logging.INFO, __file__, 1, "x", (), None)
        assert logs.worth_seeing(record)
