"""`edgeward doctor`: what is wrong with this machine, and the fix."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from orchestrator.cli.arguments import file_name, seconds
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.state import HELP, only_state

_EPILOG = """examples:
  edgeward doctor edgeward.toml --out federation                                        # a gateway
  edgeward doctor --node --broker mqtts://gateway --identity /etc/edgeward --data records.csv

Exit code 2 where what it was given is wrong (edgeward.toml, data, a folder), 1 with any other problem. It changes nothing; a
file of 1 MiB is written to the state folder and removed."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help=COMMANDS["doctor"],
        description="Checks this machine as a gateway, or with --node as a node, and says what is wrong and the fix.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config", nargs="?", type=Path, help="edgeward.toml; on a node, to check the data against its schema"
    )
    parser.add_argument("--node", action="store_true", help="this machine is a node")
    parser.add_argument(
        "--out", type=Path, default=Path("out/federation"), help="a gateway's folder (default: %(default)s)"
    )
    parser.add_argument("--state", type=Path, help=HELP)
    parser.add_argument("--broker", metavar="URL", help="mqtt(s)://HOST[:PORT]; instead of the file's")
    parser.add_argument(
        "--ca-file", type=file_name, metavar="FILE", help="CA of an mqtts:// broker; instead of the file's"
    )
    parser.add_argument(
        "--identity", type=Path, metavar="DIR", help="folder with ca.crt and this machine's certificate and key"
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="a node's records")
    parser.add_argument(
        "--timeout", type=seconds, default=5.0, metavar="S", help="for the broker (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.logs import show_milestones
    from orchestrator.cli.tables import say
    from orchestrator.doctor.examine import Question, examine
    from orchestrator.doctor.finding import PROBLEM, WARNING
    from orchestrator.errors import UsageError

    question = Question(
        node=arguments.node,
        config=arguments.config,
        state=only_state(arguments.state) if arguments.node else arguments.out,
        broker=arguments.broker,
        ca_file=arguments.ca_file,
        identity=arguments.identity,
        data=arguments.data,
        timeout_s=arguments.timeout,
    )
    there = next(path for path in (question.state, *question.state.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UsageError(
            f"{'--state' if arguments.node else '--out'} {question.state}: {there} is a file; name a folder"
        )
    show_milestones()
    found = examine(question)
    problems = sum(finding.level == PROBLEM for finding in found)
    code = max((finding.exit_code for finding in found if finding.level == PROBLEM), default=0)
    if arguments.json:
        print(json.dumps({"ok": not problems, "findings": [finding.as_dict() for finding in found]}, indent=1))
        return code
    for finding in found:
        say(f"{finding.level:<12} {finding.check}: {finding.message}")
        if finding.fix:
            say(f"{'':<12} fix: {finding.fix}")
    warnings = sum(finding.level == WARNING for finding in found)
    print(f"{problems} problem{'' if problems == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}")
    return code
