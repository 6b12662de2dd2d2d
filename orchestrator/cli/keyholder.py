"""`edgeward keyholder run`: holds the key of encrypted sums, on a machine that is not the gateway's."""

import argparse
from pathlib import Path

from orchestrator.cli import logs
from orchestrator.cli.arguments import file_name, seconds
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.private import keep_private, private_state
from orchestrator.cli.state import KEY_HOLDER, state_of


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    holder = subparsers.add_parser("keyholder", help=COMMANDS["keyholder"])
    verbs = holder.add_subparsers(title="verbs", metavar="VERB", required=True)
    run = verbs.add_parser(
        "run",
        help="connect, and open sums over enough nodes until stopped",
        description="For tasks with aggregation.method = 'ckks' that name this key holder. It makes new keys for every "
        "attempt at a round and opens one sum of it. The one who runs it must not be the gateway, nor work with it, nor see "
        "what nodes send to it: with both, single nodes' answers can be read. A node whose ciphertexts do not pass is "
        "named in the log here, and nowhere else (docs/encryption.md).",
    )
    run.add_argument("--broker", help="mqtt://[USER@]HOST[:PORT][?password_file=/PATH], or mqtts:// for TLS")
    run.add_argument(
        "--identity", type=Path, metavar="DIR", help="folder of `edgeward node enroll`: names key holder and broker"
    )
    run.add_argument(
        "--ca-file", type=file_name, help="CA certificate for mqtts://, where it is not one the system knows"
    )
    run.add_argument("--federation", help="name the gateway uses (default: the identity's, or default)")
    run.add_argument("--name", help="aggregation.key_holder in edgeward.toml")
    run.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="folder for what it must not forget (default: edgeward-keyholder-NAME)",
    )
    run.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="open sums only of nodes that its owner confirmed (docs/identity.md); without it the first key seen under a "
        "name is accepted, so a gateway that certifies keys of its own reads what it likes",
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


def _run(arguments: argparse.Namespace) -> int:
    import signal

    from orchestrator.cli.node import where
    from orchestrator.cli.stopping import hang_up
    from orchestrator.node.key_holder import KeyHolderAgent
    from orchestrator.privacy.ckks_blocks import tenseal

    keep_private(arguments.log_file)
    logs.configure(arguments, arguments.verbose)
    tenseal()
    broker, federation, name, identity = where(arguments, "keyholder run")
    agent = KeyHolderAgent(
        broker,
        federation,
        name,
        private_state(state_of(arguments.state, name, KEY_HOLDER)),
        arguments.once,
        identity,
        arguments.policy,
    )
    for number in (signal.SIGTERM, signal.SIGINT, *hang_up()):
        signal.signal(number, lambda *_: agent.stop())
    agent.run(arguments.connect_timeout)
    return 0
