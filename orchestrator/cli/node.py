"""`edgeward node run`: the agent next to private data, in the foreground."""

import argparse
from pathlib import Path
from typing import Dict, List

from orchestrator.cli import logs, service


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    node = subparsers.add_parser("node", help="take part in a federation with this machine's data")
    verbs = node.add_subparsers(title="verbs", metavar="VERB", required=True)
    run = verbs.add_parser(
        "run",
        help="connect and answer rounds until stopped",
        description="Trains on a local file when the gateway asks. Records never leave this machine; what does is "
        "clipped and noised as the task says.",
    )
    run.add_argument("--broker", required=True, help="mqtt://[USER:PASSWORD@]HOST[:PORT], or mqtts:// for TLS")
    run.add_argument("--ca-file", help="CA certificate for mqtts://, where it is not one the system knows")
    run.add_argument("--federation", default="default", help="name the gateway uses (default: %(default)s)")
    run.add_argument("--name", required=True, help="this node's name in the federation, a-z 0-9 . _ -")
    run.add_argument("--data", required=True, type=Path, help="CSV (tables) or .npz (signals) with this node's records")
    run.add_argument("--state", type=Path, default=Path("edgeward-node"), help="folder for what it must not forget")
    run.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="something a task can select by, such as site=icu; may be given several times",
    )
    run.add_argument("--once", action="store_true", help="stop when the first run is over")
    run.add_argument("--connect-timeout", type=float, default=30.0, metavar="S", help="default: %(default)s")
    run.add_argument("--verbose", action="store_true", help="say what is going on")
    logs.add_options(run)
    run.set_defaults(run=_run)
    service.register(verbs, "node")


def _run(arguments: argparse.Namespace) -> int:
    import signal

    from orchestrator.errors import DataError
    from orchestrator.node.agent import NodeAgent
    from orchestrator.wire.link import BrokerAddress

    logs.configure(arguments, arguments.verbose)
    if not arguments.data.is_file():
        raise DataError(f"--data {arguments.data}: no such file")
    broker = BrokerAddress.parse(arguments.broker, arguments.ca_file)
    agent = NodeAgent(
        broker,
        arguments.federation,
        arguments.name,
        arguments.data,
        arguments.state,
        once=arguments.once,
        labels=_labels(arguments.label),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.run(arguments.connect_timeout)
    return 0


def _labels(given: List[str]) -> Dict[str, str]:
    from orchestrator.errors import UsageError

    labels = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--label {text}: expected NAME=VALUE")
        labels[name] = value
    return labels
