"""`edgeward node run`: the agent next to private data, in the foreground."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from orchestrator.cli import logs, node_budget, node_graph, node_held, node_peers, service
from orchestrator.cli.arguments import file_name, seconds
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.identity import register_node
from orchestrator.cli.private import keep_private, private_state
from orchestrator.cli.state import state_of

if TYPE_CHECKING:
    from orchestrator.node.identity import NodeIdentity
    from orchestrator.wire.link import BrokerAddress


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    node = subparsers.add_parser("node", help=COMMANDS["node"])
    verbs = node.add_subparsers(title="verbs", metavar="VERB", required=True)
    run = verbs.add_parser(
        "run",
        help="connect and answer rounds until stopped",
        description="Trains on a local file when the gateway asks. Records never leave this machine. What does: updates and "
        "sums, clipped and noised as the task says and --policy demands, and numbers of records, noised with privacy on "
        "(docs/threat-model.md).",
    )
    run.add_argument("--broker", help="mqtt://[USER@]HOST[:PORT][?password_file=/PATH], or mqtts:// for TLS")
    run.add_argument(
        "--identity", type=Path, metavar="DIR", help="folder of `edgeward node enroll`: names node and broker"
    )
    run.add_argument(
        "--ca-file", type=file_name, help="CA certificate for mqtts://, where it is not one the system knows"
    )
    run.add_argument("--federation", help="name the gateway uses (default: the identity's, or default)")
    run.add_argument("--name", help="this node's name in the federation, a-z 0-9 . _ -")
    run.add_argument(
        "--data",
        required=True,
        type=Path,
        help="this node's records: a table in CSV, SQLite or JSON lines (.xlsx, Parquet where openpyxl, pyarrow are installed), "
        "FILE#NAME where a file has several; or signals in .npz",
    )
    run.add_argument(
        "--state", type=Path, metavar="DIR", help="folder for what it must not forget (default: edgeward-node-NAME)"
    )
    run.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="the owner's rules (docs/policy.toml); without it nothing is limited",
    )
    run.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="something a task can select by, such as site=icu; may be given several times",
    )
    run.add_argument("--once", action="store_true", help="stop when the first run is over")
    run.add_argument(
        "--connect-timeout",
        type=seconds,
        metavar="S",
        help="give up after so long (default: wait for the broker)",
    )
    run.add_argument("--verbose", action="store_true", help="say what is going on")
    logs.add_options(run)
    run.set_defaults(run=_run)
    service.register(verbs, "node")
    register_node(verbs)
    node_budget.register(verbs)
    node_held.register(verbs)
    node_peers.register(verbs)
    node_graph.register(verbs)


def where(arguments: argparse.Namespace, command: str) -> "Tuple[BrokerAddress, str, str, Optional[NodeIdentity]]":
    """(broker, federation, name, identity) that --broker, --federation, --name and --identity say together."""
    from orchestrator.errors import UsageError
    from orchestrator.node.identity import NodeIdentity
    from orchestrator.wire.link import BrokerAddress

    identity = None if arguments.identity is None else NodeIdentity(arguments.identity)
    if identity is not None:
        for option in ("name", "federation"):
            if getattr(arguments, option) not in (None, getattr(identity, option)):
                raise UsageError(
                    f"--{option} {getattr(arguments, option)}: the identity is of {getattr(identity, option)}"
                )
    name = arguments.name if identity is None else identity.name
    url = arguments.broker or (identity.broker if identity is not None else None)
    if not name or not url:
        raise UsageError(f"{command} needs --name and --broker, or an --identity that names them")
    broker = BrokerAddress.parse(url, arguments.ca_file)
    if identity is not None:
        broker = identity.secure(broker)
    federation = "default" if arguments.federation is None else arguments.federation
    federation = federation if identity is None else identity.federation
    return broker, federation, name, identity


def _run(arguments: argparse.Namespace) -> int:
    import signal

    from orchestrator.cli.stopping import hang_up
    from orchestrator.data.sources.registry import file_of
    from orchestrator.errors import DataError
    from orchestrator.node.agent import NodeAgent

    keep_private(arguments.log_file)
    logs.configure(arguments, arguments.verbose)
    try:
        data = file_of(arguments.data)
    except DataError as error:
        raise DataError(f"--data {error}") from error
    if not os.access(str(data), os.R_OK):
        raise DataError(f"--data {data}: this user may not read it")
    broker, federation, name, identity = where(arguments, "node run")
    agent = NodeAgent(
        broker,
        federation,
        name,
        arguments.data,
        private_state(state_of(arguments.state, name)),
        once=arguments.once,
        labels=_labels(arguments.label),
        identity=identity,
        policy=arguments.policy,
    )
    for number in (signal.SIGTERM, signal.SIGINT, *hang_up()):
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
        if name in labels:
            raise UsageError(f"--label {text}: {name} is given twice")
        labels[name] = value
    return labels
