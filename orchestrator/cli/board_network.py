"""`edgeward board connect`, `disconnect` and `network`: a board's place on a network, over its serial port."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Tuple

from orchestrator.cli.arguments import broker_url, seconds

if TYPE_CHECKING:
    from orchestrator.boards.settings import NetworkSettings

_EPILOG = """examples:
  edgeward board key /dev/ttyUSB0 set models.key.pub
  edgeward board connect /dev/ttyUSB0 --name ward-1 --federation icu --broker mqtts://gateway:8883 \\
      --identity ward-1 --fleet fleet --ssid Ward --password-file wifi.txt
  edgeward board fleet list --fleet fleet --broker mqtts://gateway:8883 --identity operator

--identity is of `edgeward node enroll` as board:NAME; without it the connection is neither encrypted nor identified."""


def register(verbs: Any) -> None:
    connect = verbs.add_parser(
        "connect",
        help="give a board its place on a network",
        description="Write broker, name, certificate and Wi-Fi into a board over its serial port; it restarts with them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _port(connect)
    connect.add_argument("--name", required=True, help="of the board, in topics, tables and orders")
    connect.add_argument("--federation", required=True, metavar="NAME", help="whose topics it writes to")
    connect.add_argument("--broker", required=True, type=broker_url, metavar="mqtts://HOST", help="where it connects")
    connect.add_argument(
        "--fleet", required=True, type=Path, metavar="DIR", help="folder that keeps its secret, for orders"
    )
    connect.add_argument("--identity", type=Path, metavar="DIR", help="of `edgeward node enroll` as board:NAME")
    connect.add_argument("--ssid", default="", metavar="NAME", help="of the Wi-Fi; not for virtual boards")
    connect.add_argument(
        "--password-file", metavar="FILE", help="the Wi-Fi's password, in a file that only you can read"
    )
    connect.add_argument(
        "--metrics-every", type=int, default=60, metavar="S", help="seconds between metrics records; 0: when asked"
    )
    connect.set_defaults(run=run_connect)
    disconnect = verbs.add_parser(
        "disconnect",
        help="take a board's place on a network away",
        description="Erase a board's network settings; it restarts without a network.",
    )
    _port(disconnect)
    disconnect.add_argument("--name", help="of the board, to take it out of --fleet")
    disconnect.add_argument("--fleet", type=Path, metavar="DIR", help="folder that keeps its secret")
    disconnect.set_defaults(run=run_disconnect)
    network = verbs.add_parser(
        "network",
        help="where a board belongs on a network",
        description="Show a board's place on a network, and its state.",
    )
    _port(network)
    network.set_defaults(run=run_network)


def _port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("port", metavar="PORT", help="serial port, such as /dev/ttyUSB0")
    parser.add_argument(
        "--timeout", type=seconds, default=20.0, metavar="S", help="how long to wait for the board (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run_connect(args: argparse.Namespace) -> int:
    from orchestrator.boards.client import BoardClient
    from orchestrator.boards.connect import network_state, wait_until_connected, write_settings
    from orchestrator.boards.fleet_file import Fleet

    settings = _settings(args)
    fleet = Fleet.read(args.fleet, args.federation)
    if args.name not in fleet.secrets:
        Fleet.keep(args.fleet, args.federation, args.name, None)  # what cannot be kept is not given out
    with BoardClient(args.port, timeout_s=args.timeout) as board:
        keys = board.keys()["keys"]
        replaces = args.name in fleet.secrets and network_state(board).get("name") != args.name
        write_settings(board, settings)
        Fleet.keep(args.fleet, args.federation, args.name, settings.secret)
        board.wait_for("boot", "its settings")
        state = wait_until_connected(board, args.timeout)
    report = {"port": args.port, "name": args.name, "keys": keys, "replaces": replaces, **_shown(state)}
    if args.json:
        print(json.dumps(report))
        return 0 if state["state"] == "connected" else 1
    print(f"{args.port} is {args.name} of {args.federation}, at {settings.host}:{settings.port}: {state['state']}")
    if replaces:
        print(f"  it takes the place of another {args.name}, which gets no orders of {args.fleet} any more")
    if not settings.ca:
        print(
            "  its connection is not encrypted, and anybody at the broker can pass for it: for trials on one's own machine"
        )
    if not keys:
        print(
            "  without a key it obeys no orders and accepts no models over the network: `edgeward board key PORT set KEY.pub`"
        )
    if state["state"] != "connected":
        print(
            "  it goes on trying; is the broker there, are Wi-Fi and certificates right, and does a broker of your own know its "
            f"rights (`edgeward gateway broker-config`, after {args.name} was enrolled)?"
        )
    return 0 if state["state"] == "connected" else 1


def run_disconnect(args: argparse.Namespace) -> int:
    from orchestrator.boards.client import BoardClient
    from orchestrator.boards.connect import network_state, write_settings
    from orchestrator.boards.fleet_file import Fleet
    from orchestrator.errors import UsageError

    if (args.name is None) != (args.fleet is None):
        raise UsageError("--name NAME and --fleet DIR go together")
    fleet = None if args.fleet is None else Fleet.read(args.fleet)
    if fleet is not None and args.name not in fleet.secrets:
        raise UsageError(f"--name {args.name}: {args.fleet} has no such board")
    with BoardClient(args.port, timeout_s=args.timeout) as board:
        name = network_state(board).get("name", args.name)
        if fleet is not None and name != args.name:
            raise UsageError(f"--name {args.name}: the board at {args.port} is {name}")
        write_settings(board, None)
    if fleet is not None:
        Fleet.keep(args.fleet, fleet.federation, args.name, None)
    print(json.dumps({"port": args.port, "state": "off"}) if args.json else f"{args.port} is on no network")
    return 0


def run_network(args: argparse.Namespace) -> int:
    from orchestrator.boards.client import BoardClient
    from orchestrator.boards.connect import network_state

    with BoardClient(args.port, timeout_s=args.timeout) as board:
        state = _shown(network_state(board))
    if args.json:
        print(json.dumps({"port": args.port, **state}))
        return 0
    for name, value in state.items():
        print(f"{name + ':':<14}{value}")
    return 0


def _shown(state: Dict[str, Any]) -> Dict[str, Any]:
    names = ("state", "name", "federation", "host", "port", "encrypted", "last_order", "dropped")
    return {("broker_port" if name == "port" else name): state[name] for name in names if name in state}


def _settings(args: argparse.Namespace) -> NetworkSettings:
    """UsageError for what a board cannot be given; nothing was written by then."""
    import secrets

    from orchestrator.boards.settings import SECRET_BYTES, NetworkSettings
    from orchestrator.errors import UsageError
    from orchestrator.wire.link import BrokerAddress
    from orchestrator.wire.secrets_file import read_secret
    from orchestrator.wire.topics import BOARD

    address = BrokerAddress.parse(args.broker)
    if address.username is not None:
        raise UsageError("--broker: a board has a certificate (--identity), no user and password")
    if address.tls and args.identity is None:
        raise UsageError(
            f"--broker {args.broker}: mqtts:// takes --identity DIR, with the board's certificate and the authority it knows the "
            f"broker by: `edgeward gateway invite {BOARD}{args.name}`, then `edgeward node enroll`"
        )
    if args.identity is not None and not address.tls:
        raise UsageError(
            f"--identity {args.identity}: a board shows its certificate to mqtts:// only: --broker mqtts://{address.host}"
        )
    ca, certificate, key = _pem(args) if args.identity is not None else (b"", b"", b"")
    password = "" if args.password_file is None else read_secret(args.password_file, "password of the Wi-Fi")
    settings = NetworkSettings(
        name=args.name,
        federation=args.federation,
        host=address.host,
        port=address.port,
        secret=secrets.token_bytes(SECRET_BYTES),
        ca=ca,
        certificate=certificate,
        key=key,
        ssid=args.ssid,
        password=password,
        metrics_s=args.metrics_every,
    )
    settings.packed()
    return settings


def _pem(args: argparse.Namespace) -> Tuple[bytes, bytes, bytes]:
    from orchestrator.errors import UsageError
    from orchestrator.node.identity import CERTIFICATE_FILE, KEY_FILE, NodeIdentity
    from orchestrator.wire import pki
    from orchestrator.wire.topics import BOARD

    identity = NodeIdentity(args.identity)
    if identity.name != f"{BOARD}{args.name}" or identity.federation != args.federation:
        raise UsageError(
            f"--identity {args.identity}: is {identity.name} of {identity.federation}; needed is {BOARD}{args.name} of "
            f"{args.federation}: `edgeward gateway invite {BOARD}{args.name}`"
        )
    ca, certificate, key = ((args.identity / name).read_bytes() for name in (pki.CA_FILE, CERTIFICATE_FILE, KEY_FILE))
    return ca, certificate, key
