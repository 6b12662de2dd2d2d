"""`edgeward gateway relay`: a gateway that is a node of a higher one."""

import argparse
from pathlib import Path

from orchestrator.cli import logs
from orchestrator.cli.arguments import file_name, host, port, seconds


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    relay = verbs.add_parser(
        "relay",
        help="serve a higher gateway as one node, with the nodes of a region",
        description="Takes the task and the rounds of a higher gateway, lets the nodes of its own federation answer them, and "
        "forwards one weighted partial sum. Killed at any point, the same command continues.",
    )
    relay.add_argument("--upstream", metavar="mqtt://HOST", help="broker of the higher gateway")
    relay.add_argument("--upstream-identity", type=Path, metavar="DIR", help="folder of `edgeward node enroll`")
    relay.add_argument(
        "--upstream-federation",
        default="default",
        metavar="NAME",
        help="name of the higher federation (default: %(default)s)",
    )
    relay.add_argument("--name", help="this region's name as a node of the higher gateway")
    relay.add_argument("--broker", default="embedded", help="of the region: embedded, mosquitto, or mqtt://HOST:PORT")
    relay.add_argument("--host", type=host, default="127.0.0.1", help="address of an own broker (default: %(default)s)")
    relay.add_argument("--port", type=port, default=1883, help="port of an own broker (default: %(default)s)")
    relay.add_argument("--ca-file", type=file_name, help="CA of an mqtts:// broker of the region")
    relay.add_argument("--identity", type=Path, metavar="DIR", help="of the region: folder of `edgeward gateway init`")
    relay.add_argument("--federation", default="default", metavar="NAME", help="of the region (default: %(default)s)")
    relay.add_argument("--nodes", type=int, default=2, help="join above when this many are here (default: %(default)s)")
    relay.add_argument("--quorum", type=int, help="updates a round of the region needs (default: as many as --nodes)")
    relay.add_argument(
        "--deadline", type=seconds, default=60.0, metavar="S", help="of a round here (default: %(default)s)"
    )
    relay.add_argument("--out", type=Path, default=Path("out/region"), help="state folder (default: %(default)s)")
    relay.add_argument("--once", action="store_true", help="stop when the first run is over")
    relay.add_argument(
        "--connect-timeout",
        type=seconds,
        metavar="S",
        help="give up after so long (default: wait for the broker)",
    )
    relay.add_argument("--json", action="store_true", help="one JSON object a line: progress of the region")
    logs.add_options(relay)
    relay.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import signal

    from orchestrator.cli.stopping import hang_up
    from orchestrator.errors import UsageError
    from orchestrator.gateway.progress import json_progress, line_progress, logged
    from orchestrator.gateway.relay import Region, Relay
    from orchestrator.node.identity import NodeIdentity
    from orchestrator.wire.link import BrokerAddress
    from orchestrator.wire.task import Rounds

    logs.configure(arguments)
    above = None if arguments.upstream_identity is None else NodeIdentity(arguments.upstream_identity)
    name = arguments.name if above is None else above.name
    url = arguments.upstream or (above.broker if above is not None else None)
    if not name or not url:
        raise UsageError("gateway relay needs --name and --upstream, or an --upstream-identity that names them")
    upstream = BrokerAddress.parse(url) if above is None else above.secure(BrokerAddress.parse(url))
    federation = arguments.upstream_federation if above is None else above.federation
    try:
        quorum = arguments.quorum or arguments.nodes
        rounds = Rounds(arguments.nodes, quorum, arguments.deadline, 1_000_000, 1e9, provided=True)
    except ValueError as error:
        raise UsageError(f"gateway relay: {error}") from error
    region = Region(
        arguments.federation,
        rounds,
        arguments.broker,
        arguments.host,
        arguments.port,
        arguments.ca_file,
        arguments.identity,
        logged(json_progress if arguments.json else line_progress),
    )
    region.check()
    arguments.out.mkdir(parents=True, exist_ok=True)
    relay = Relay(upstream, federation, name, arguments.out, region, once=arguments.once, identity=above)
    for number in (signal.SIGTERM, signal.SIGINT, *hang_up()):
        signal.signal(number, lambda *_: relay.stop())
    relay.run(arguments.connect_timeout)
    return 0
