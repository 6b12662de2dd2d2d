"""`edgeward gateway run`: the orchestrator of one federation, in the foreground."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any, Dict

from orchestrator.cli import logs, relay, scrub, service
from orchestrator.cli.arguments import file_name, number, port, seconds
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.identity import register_gateway


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    gateway = subparsers.add_parser("gateway", help=COMMANDS["gateway"])
    verbs = gateway.add_subparsers(title="verbs", metavar="VERB", required=True)
    run = verbs.add_parser(
        "run",
        help="run (or continue) the federation of an edgeward.toml",
        description="Waits for the nodes, runs the rounds, quantizes the result and writes a bundle for boards. "
        "A run that was cut off continues when the same command is given again; SIGTERM cuts it off in order, with exit code 0.",
    )
    run.add_argument("config", type=Path, help="the federation's edgeward.toml")
    run.add_argument(
        "--out", type=Path, default=Path("out/federation"), help="state and results (default: %(default)s)"
    )
    run.add_argument("--broker", help="embedded, mosquitto, or mqtt://HOST:PORT; instead of the file's")
    run.add_argument("--port", type=port, help="port of an own broker; instead of the file's")
    run.add_argument(
        "--connect-timeout",
        type=seconds,
        default=30.0,
        metavar="S",
        help="how long to try to reach the broker (default: %(default)s)",
    )
    run.add_argument(
        "--retrain-on-drift",
        type=float,
        metavar="PSI",
        help="stay, and train again when a board reports a drift index above this (0.25 is usual); needs privacy.runs",
    )
    run.add_argument(
        "--dashboard",
        metavar="[HOST:]PORT",
        help="serve the web dashboard there; without a host, to this machine alone",
    )
    run.add_argument(
        "--dashboard-minutes",
        type=number,
        metavar="M",
        help="how long the dashboard stays after the run (default: 15); 0 ends it with the gateway",
    )
    _add_certificate(run)
    logs.add_options(run)
    run.add_argument("--json", action="store_true", help="one JSON object a line: progress, and last the result")
    run.set_defaults(run=_run)
    service.register(verbs, "gateway")
    dashboard = verbs.add_parser(
        "dashboard",
        help="the web dashboard of a state folder, running or finished",
        description="Serves the web dashboard of a gateway's state folder. It only reads. With --broker it also shows boards.",
    )
    dashboard.add_argument("out", type=Path, help="the --out folder of a gateway")
    dashboard.add_argument(
        "--listen",
        default="8080",
        metavar="[HOST:]PORT",
        help="address to serve at; without a host, on loopback (default: %(default)s)",
    )
    _add_certificate(dashboard)
    dashboard.add_argument("--broker", metavar="mqtt://HOST", help="where boards and nodes are heard")
    dashboard.add_argument("--ca-file", type=file_name, metavar="FILE", help="CA of an mqtts:// --broker")
    dashboard.add_argument(
        "--federation",
        metavar="NAME",
        help="with --broker: name of the federation whose boards and nodes to hear (default: that of --fleet, or default)",
    )
    dashboard.add_argument(
        "--fleet",
        type=Path,
        metavar="DIR",
        help="folder of `edgeward board connect`: its secrets check what boards on a network say, its roll-outs are shown",
    )
    dashboard.add_argument(
        "--identity",
        type=Path,
        metavar="DIR",
        help="with --broker: of `edgeward node enroll` as fleet:NAME, or a gateway's; the certificate shown to mqtts://",
    )
    logs.add_options(dashboard)
    dashboard.set_defaults(run=_dashboard)
    password = verbs.add_parser(
        "password",
        help="set the dashboard's password",
        description="Asks for the dashboard's password, or reads one line of stdin, and stores its hash in the state folder. "
        "With a password every page needs a login; without one the dashboard serves this machine alone.",
    )
    password.add_argument("out", type=Path, help="the --out folder of a gateway")
    password.add_argument(
        "--metrics-token", action="store_true", help="draw a token for /metrics instead, and print it"
    )
    password.set_defaults(run=_password)
    register_gateway(verbs)
    scrub.register(verbs)
    relay.register(verbs)


def _add_certificate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dashboard-cert", metavar="FILE", help="certificate (PEM) for https")
    parser.add_argument("--dashboard-key", metavar="FILE", help="its key (PEM)")


def _run(arguments: argparse.Namespace) -> int:

    from orchestrator.cli.shown_run import run_shown
    from orchestrator.gateway.config import load_config
    from orchestrator.gateway.federation import run_federation
    from orchestrator.gateway.progress import Progress
    from orchestrator.gateway.retraining import run_and_watch
    from orchestrator.wire.process import own_program

    logs.configure(arguments)
    names = ("broker", "port", "dashboard", "dashboard_minutes")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for name in ("dashboard_cert", "dashboard_key"):  # of the command line: relative to where it was given
        if getattr(arguments, name) is not None:
            given[name] = os.path.abspath(getattr(arguments, name))
    config = load_config(arguments.config, given, files=True)
    again = tuple(own_program("orchestrator.cli.main", *arguments.words))

    def run(progress: Progress) -> Dict[str, Any]:
        where = (config, arguments.config.parent, arguments.out, progress, arguments.connect_timeout)
        drift = arguments.retrain_on_drift
        return run_federation(*where, again=again) if drift is None else run_and_watch(*where, drift, again)

    return run_shown(config, arguments.out, arguments.json, run)


def _dashboard(arguments: argparse.Namespace) -> int:
    import sys

    from orchestrator.boards.fleet_owner import FleetOwner
    from orchestrator.cli.board_fleet_link import address_of
    from orchestrator.cli.stopping import Stopped, stop_on_sigterm
    from orchestrator.errors import UsageError
    from orchestrator.gateway.web.child import listen, url_of
    from orchestrator.gateway.web.server import serve
    from orchestrator.gateway.web.settings import WebSettings
    from orchestrator.wire.link import BrokerAddress

    logs.configure(arguments)
    if not arguments.out.is_dir():
        raise UsageError(f"{arguments.out}: no such folder; name the --out folder of a gateway")
    for option in ("ca_file", "federation", "identity") if arguments.broker is None else ():
        if getattr(arguments, option) is not None:
            raise UsageError(f"--{option.replace('_', '-')} is used with --broker; without one nobody is heard")
    if arguments.identity is not None and arguments.ca_file is not None:
        raise UsageError("--ca-file: --identity has the authority of its broker; give one of the two")
    owner = None if arguments.fleet is None else FleetOwner(arguments.fleet, arguments.federation or "")
    federation = owner.federation if owner is not None else arguments.federation or "default"
    broker = None
    if arguments.identity is not None:
        broker = address_of(arguments, federation, "the boards and nodes to hear are")
    elif arguments.broker is not None:
        broker = BrokerAddress.parse(arguments.broker, arguments.ca_file)
    files = (Path(name) if name else None for name in (arguments.dashboard_cert, arguments.dashboard_key))
    settings = WebSettings.parse(arguments.listen, *files)
    warning = settings.check(arguments.out)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    listening = listen(settings)
    print(f"dashboard at {url_of(settings, listening)}", flush=True)
    with contextlib.suppress(Stopped), stop_on_sigterm():
        serve(arguments.out, settings, listening, federation, broker, owner=owner)
    return 0


def _password(arguments: argparse.Namespace) -> int:
    import getpass
    import sys

    from orchestrator.errors import UsageError
    from orchestrator.gateway.web.password import Login

    login = Login(arguments.out)
    if arguments.metrics_token:
        print(login.new_token())
        return 0
    if sys.stdin.isatty():
        password = getpass.getpass("new password of the dashboard: ")
        if getpass.getpass("again: ") != password:
            raise UsageError("the two differ: nothing was changed")
    else:
        password = sys.stdin.readline().rstrip("\n")
    login.set_password(password)
    print(f"the dashboard of {arguments.out} now needs a login", file=sys.stderr)
    if not (arguments.out / "gateway.sqlite").exists():
        print(
            f"{arguments.out}: no gateway has worked there yet; is it the --out of `edgeward gateway run`?",
            file=sys.stderr,
        )
    return 0
