"""The verbs of `edgeward gateway` and `edgeward node` that make, give and take away identities, and the audit log's."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any, Dict

from orchestrator.cli.arguments import (
    LEAST,
    add_json,
    broker_url,
    check_new_file,
    check_output,
    host,
    number_within,
    port,
)
from orchestrator.wire.json_text import from_json
from orchestrator.wire.plain import PlainFormatter, many, plain


def register_gateway(verbs: Any) -> None:
    init = verbs.add_parser("init", help="make a federation's identity: authority, certificate, signing key")
    init.add_argument("folder", type=Path, help="new folder for it; keep it private and backed up")
    init.add_argument("--federation", required=True, help="name of the federation")
    init.add_argument(
        "--host", type=host, nargs="+", default=[], metavar="NAME", help="names and addresses nodes reach it by"
    )
    init.add_argument(
        "--request",
        type=Path,
        metavar="FILE",
        help="the authority is on another machine (`edgeward authority init`): make the gateway's keys only, and write "
        "what to bring there",
    )
    init.set_defaults(run=_init)

    installed = verbs.add_parser("install", help="authority on another machine: take what it wrote")
    installed.add_argument("answer", type=Path, help="of `edgeward authority sign`, or its certificates.json")
    _identity(installed)
    installed.add_argument("--ca", metavar="HEX", help="the first time: fingerprint `authority init` printed, by phone")
    installed.set_defaults(run=_install_gateway)

    invite = verbs.add_parser("invite", help="print a one-time token for a node")
    invite.add_argument("name", help="the node's name, or monitor:NAME, board:NAME or fleet:NAME")
    _identity(invite)
    invite.add_argument("--gateway", help="https://HOST:PORT of the enrolment server (default: first host, port 8443)")
    invite.add_argument(
        "--hours",
        type=number_within(LEAST, 8760, "expected above 0, at most a year of 8760 hours"),
        default=24.0,
        help="how long it can be used (default: %(default)s)",
    )
    invite.set_defaults(run=_invite)

    server = verbs.add_parser("enroll-server", help="let invited nodes enrol, until stopped")
    _identity(server)
    server.add_argument(
        "--listen", default="0.0.0.0:8443", metavar="HOST:PORT", help="address to serve at (default: %(default)s)"
    )
    server.add_argument("--broker", type=broker_url, help="what nodes connect to (default: mqtts://FIRST-HOST:8883)")
    server.set_defaults(run=_enroll_server)

    sign = verbs.add_parser("sign", help="certificate for a request that came by another way (`edgeward node request`)")
    sign.add_argument("request", type=Path, help="the node's .csr")
    sign.add_argument("--name", required=True, help="the node's name, as its owner gave it")
    _identity(sign)
    sign.add_argument("--broker", type=broker_url, help="what the node shall connect to, mqtts://HOST:PORT")
    sign.add_argument("--out", type=Path, required=True, help="file to bring to the node")
    sign.set_defaults(run=_sign)

    revoke = verbs.add_parser("revoke", help="take a node's certificates and invitations away")
    revoke.add_argument("name", help="the node's name, or monitor:NAME, board:NAME or fleet:NAME")
    _identity(revoke)
    revoke.set_defaults(run=_revoke)

    broker = verbs.add_parser("broker-config", help="write mosquitto.conf and its access list for this identity")
    broker.add_argument("folder", type=Path, help="the gateway's identity folder")
    broker.add_argument("--port", type=port, default=8883, help="port the broker listens on (default: %(default)s)")
    broker.add_argument(
        "--listen",
        type=host,
        default="0.0.0.0",
        metavar="HOST",
        help="address the broker listens on (default: %(default)s)",
    )
    broker.set_defaults(run=_broker_config)
    add_json(init, installed, invite, sign, revoke, broker)

    audit = verbs.add_parser("audit", help="show or verify an audit log")
    audit.add_argument("folder", type=Path, help="OUT of `gateway run`, or an identity folder")
    audit.add_argument("--verify", action="store_true", help="check every line and the end against the store")
    audit.add_argument("--json", action="store_true", help="one JSON object a line")
    audit.set_defaults(run=_audit)


def register_node(verbs: Any) -> None:
    enroll = verbs.add_parser("enroll", help="redeem a token: make a key here, get a certificate for it")
    token = enroll.add_mutually_exclusive_group(required=True)
    token.add_argument(
        "--token-file", metavar="FILE", help="what `edgeward gateway invite` printed; - reads a line of stdin"
    )
    token.add_argument("--token", help="the same as an argument, which other users of this machine can see")
    enroll.add_argument("--gateway", default="", help="https://HOST:PORT, instead of the token's")
    enroll.add_argument("--identity", type=Path, required=True, metavar="DIR", help="new folder for the identity")
    enroll.set_defaults(run=_enroll)

    request = verbs.add_parser("request", help="offline: make a key here and write a certificate request")
    request.add_argument("--name", required=True, help="this node's name in the federation, a-z 0-9 . _ -")
    request.add_argument("--federation", required=True, help="name of the federation")
    request.add_argument("--identity", type=Path, required=True, metavar="DIR", help="new folder for the identity")
    request.add_argument("--out", type=Path, required=True, help="file for `edgeward gateway sign`")
    request.set_defaults(run=_request)

    install = verbs.add_parser("install", help="offline: take what `edgeward gateway sign` wrote")
    install.add_argument("answer", type=Path, help="the file `edgeward gateway sign` wrote")
    install.add_argument(
        "--identity", type=Path, required=True, metavar="DIR", help="folder of `edgeward node request`"
    )
    install.add_argument("--ca", required=True, metavar="HEX", help="fingerprint `gateway init` printed, by phone")
    install.set_defaults(run=_install)
    add_json(enroll, request, install)


def _identity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--identity", type=Path, required=True, metavar="DIR", help="folder of `edgeward gateway init`")


def _init(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.cli.tables import report
    from orchestrator.files import whole_folder
    from orchestrator.gateway.apart import request_gateway
    from orchestrator.gateway.authority import Authority
    from orchestrator.wire.pki import create_file

    folder = shlex.quote(str(arguments.folder))
    if arguments.request is not None:
        check_new_file(arguments.request, "--request")
        request_file = shlex.quote(str(arguments.request))
        with whole_folder(arguments.folder):
            request = request_gateway(arguments.folder, arguments.federation, arguments.host)
            create_file(arguments.request, json.dumps(request, indent=1).encode())
        report(
            arguments.json,
            {"request": str(arguments.request), "identity": str(arguments.folder)},
            f"{arguments.request}: bring it to the authority (`edgeward authority sign {request_file} --name gateway`); the keys "
            f"stay in {arguments.folder}. Then: edgeward gateway install ANSWER --identity {folder} --ca HEX",
        )
        return 0
    authority = Authority.create(arguments.folder, arguments.federation, arguments.host)
    report(
        arguments.json,
        _authority_of(authority),
        f"authority of {authority.federation}: {authority.ca_fingerprint}\n"
        f"signing key: {authority.key_id}\n"
        f'next: identity = "{arguments.folder}" and broker = "mosquitto" under [gateway] of edgeward.toml, or, for a broker '
        f"of its own: edgeward gateway broker-config {folder}",
    )
    return 0


def _authority_of(authority: Any) -> Dict[str, str]:
    return {"federation": authority.federation, "ca": authority.ca_fingerprint, "signing_key": authority.key_id}


def _install_gateway(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.errors import UsageError
    from orchestrator.gateway.apart import install_gateway, read_answer
    from orchestrator.gateway.authority import Authority
    from orchestrator.wire.pki import SETTINGS_FILE

    answer = read_answer(arguments.answer)
    if (arguments.identity / SETTINGS_FILE).exists():
        authority = Authority(arguments.identity)
        new = authority.install_certificates(answer)
        entries = authority.log.head.entries
        report(
            arguments.json,
            {"new_entries": new, "entries": entries},
            f"{new} new entries of the authority's log, {entries} in all; a running gateway sees them",
        )
        return 0
    if arguments.ca is None:
        raise UsageError("gateway install: --ca, the fingerprint `edgeward authority init` printed")
    authority = install_gateway(arguments.identity, answer, arguments.ca)
    report(
        arguments.json,
        _authority_of(authority),
        f"gateway of {authority.federation}, certified by {authority.ca_fingerprint}\nsigning key: {authority.key_id}\n"
        f'next: identity = "{arguments.identity}" and broker = "mosquitto" under [gateway] of edgeward.toml',
    )
    return 0


def _first_host(authority: Any) -> str:
    return str(authority.hosts[0])


def _invite(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.gateway.authority import Authority
    from orchestrator.gateway.enrolment import DEFAULT_PORT

    authority = Authority(arguments.identity)
    authority.check_online()
    gateway = arguments.gateway or f"https://{_first_host(authority)}:{DEFAULT_PORT}"
    token = authority.invite(arguments.name, gateway, arguments.hours)
    print(json.dumps({"name": arguments.name, "token": str(token)}) if arguments.json else token)
    return 0


def _enroll_server(arguments: argparse.Namespace) -> int:
    import logging
    import signal
    import threading

    from orchestrator.cli.stopping import hang_up
    from orchestrator.errors import UsageError
    from orchestrator.gateway.authority import Authority
    from orchestrator.gateway.enrolment import EnrolmentServer
    from orchestrator.mishaps import catch_in_threads
    from orchestrator.wire.plain import Sparing

    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    screen.addFilter(Sparing())
    logging.basicConfig(handlers=[screen])
    catch_in_threads(logging.getLogger("edgeward"))
    where, _, at = arguments.listen.rpartition(":")
    if not where or not (at.isdecimal() and len(at) <= 5) or int(at) > 65535:
        raise UsageError(f"--listen {arguments.listen}: expected HOST:PORT")
    authority = Authority(arguments.identity)
    authority.check_online()
    broker = arguments.broker or f"mqtts://{_first_host(authority)}:8883"
    authority.close()
    stopped = threading.Event()
    for caught in (signal.SIGTERM, signal.SIGINT, *hang_up()):
        signal.signal(caught, lambda *_: stopped.set())
    server = EnrolmentServer(arguments.identity, (where, int(at)), broker)
    print(f"enrolment at https://{where}:{server.port}", flush=True)
    stopped.wait()
    server.close()
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.cli.tables import report
    from orchestrator.gateway.authority import Authority
    from orchestrator.wire.pem import request_in
    from orchestrator.wire.pki import create_file

    check_new_file(arguments.out, "--out")  # a certificate that was issued and lost would have to be revoked
    authority = Authority(arguments.identity)
    answer = authority.sign(request_in(arguments.request), arguments.name)
    create_file(arguments.out, json.dumps({**answer, "broker": arguments.broker or ""}, indent=1).encode())
    report(
        arguments.json,
        {"name": arguments.name, "answer": str(arguments.out), "ca": authority.ca_fingerprint},
        f"{arguments.out}: bring it to {arguments.name}; authority {authority.ca_fingerprint}",
    )
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.gateway.authority import Authority

    count = Authority(arguments.identity).revoke(arguments.name)
    report(
        arguments.json,
        {"name": arguments.name, "revoked": count},
        f"{arguments.name}: {count} certificates revoked. A running gateway refuses it from now on and restarts its own "
        "broker; restart a broker of yours, a reload keeps open connections",
    )
    return 0


def _broker_config(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.gateway.authority import Authority
    from orchestrator.gateway.mosquitto import write_configuration

    path = write_configuration(Authority(arguments.folder), arguments.port, arguments.listen)
    report(arguments.json, {"configuration": str(path)}, f"start the broker with: mosquitto -c {path}")
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    import json
    import sqlite3

    from orchestrator.errors import GivenError
    from orchestrator.gateway.audit import AUDIT_FILE, UNRECORDED, read_log, stored_head, verify

    path = arguments.folder / AUDIT_FILE
    if arguments.verify:
        names = ("gateway.sqlite", "authority.sqlite")
        stores = [arguments.folder / name for name in names if (arguments.folder / name).exists()]
        if not stores:
            raise GivenError(f"{arguments.folder}: neither {' nor '.join(names)} is there to verify against")
        database = sqlite3.connect(f"{stores[0].resolve().as_uri()}?mode=ro", uri=True)
        count, head = verify(path, database)
        recorded, _ = stored_head(database)
        database.close()
        entries = read_log(path) if path.is_file() else []
        scrubs = [entry for entry in entries if entry.get("event") == "scrubbed"]
        alone = [*(entry[UNRECORDED] for entry in entries if UNRECORDED in entry), *range(recorded + 1, count + 1)]
        if arguments.json:
            print(json.dumps({"entries": count, "head": head, "scrubbed": scrubs, UNRECORDED: alone}))
            return 0
        print(f"{many(count, 'entry', 'entries')}, whole; head {head}")
        for number in alone:
            print(f"entry {plain(number, 20)}: in the file before the store knew it;", end=" ")
            print("its process ended there or is at it now, or it was added")
        for entry in scrubs:
            print(plain(f"written again by {entry.get('by')}: {_line(entry)}", 1000))
        return 0
    for entry in read_log(path):
        if arguments.json:
            print(json.dumps(entry))
        else:
            print(plain(_line(entry), 4000))
    return 0


def _line(entry: Any) -> str:
    import time

    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(float(entry.get("at", 0))))
    rest = ", ".join(f"{k} {v}" for k, v in entry.items() if k not in ("n", "at", "event", "before"))
    return f"{entry.get('n')} {at}Z {entry.get('event')} {rest}"


def _enroll(arguments: argparse.Namespace) -> int:
    from orchestrator.node.identity import enroll
    from orchestrator.wire.secrets_file import read_secret
    from orchestrator.wire.token import Token

    text = arguments.token if arguments.token_file is None else read_secret(arguments.token_file, "token")
    return _enrolled(enroll(arguments.identity, Token.parse(text), arguments.gateway), arguments)


def _request(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.files import new_file
    from orchestrator.node.identity import make_node_request

    check_output(arguments.out, "--out")
    made = make_node_request(arguments.identity, arguments.name, arguments.federation)
    with new_file(arguments.out, replaces=True) as fresh:
        fresh.write_bytes(made)
    report(
        arguments.json,
        {"request": str(arguments.out), "identity": str(arguments.identity)},
        f"{arguments.out}: bring it to the gateway; the key stays in {arguments.identity}",
    )
    return 0


def _install(arguments: argparse.Namespace) -> int:
    from orchestrator.errors import IdentityError
    from orchestrator.node.identity import install

    try:
        answer = from_json(_read(arguments.answer))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise IdentityError(f"{arguments.answer}: not what `edgeward gateway sign` writes: name the file of its --out")
    return _enrolled(install(arguments.identity, answer, arguments.ca), arguments)


def _enrolled(identity: Any, arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import next_command, report

    report(
        arguments.json,
        {"name": identity.name, "federation": identity.federation, "broker": identity.broker},
        f"{identity.name} is enrolled in {identity.federation}; broker {identity.broker or 'not named'}",
    )
    print(next_command(identity.name, arguments.identity), file=sys.stderr)
    return 0


def _read(path: Path) -> bytes:
    from orchestrator.errors import UsageError

    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
