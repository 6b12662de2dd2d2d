"""`edgeward authority`: says whose certificates are whose, on a machine that is not the gateway's and needs no network."""

import argparse
from pathlib import Path
from typing import Any

from orchestrator.cli.arguments import add_json, check_new_file
from orchestrator.cli.commands import COMMANDS

_EPILOG = """On the authority's machine, which may be offline; every FILE is carried:
  edgeward authority init authority --federation icu                        # prints the fingerprint for --ca
  edgeward authority sign gateway.json --name gateway --authority authority --out answer.json
  edgeward authority sign icu-1.csr --name icu-1 --authority authority --out icu-1.json
  edgeward authority revoke icu-1 --authority authority

On the gateway's:
  edgeward gateway init identity --federation icu --host gateway.example --request gateway.json
  edgeward gateway install answer.json --identity identity --ca HEX
  edgeward gateway install certificates.json --identity identity            # after every `sign` and `revoke`"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    authority = subparsers.add_parser(
        "authority",
        help=COMMANDS["authority"],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = authority.add_subparsers(title="verbs", metavar="VERB", required=True)

    init = verbs.add_parser("init", help="make a federation's authority")
    init.add_argument("folder", type=Path, help="new folder for it; keep it private, backed up, and off the gateway")
    init.add_argument("--federation", required=True, help="name of the federation")
    init.set_defaults(run=_init)

    sign = verbs.add_parser("sign", help="certificate for a node's request, or with --name gateway for the gateway's")
    sign.add_argument("request", type=Path, help="of `edgeward node request`, or of `edgeward gateway init --request`")
    sign.add_argument("--name", required=True, help="the node's name, as its owner says it, or gateway")
    sign.add_argument("--broker", default="", help="what the node shall connect to, mqtts://HOST:PORT")
    sign.add_argument("--out", type=Path, required=True, help="file to bring back")
    _authority(sign)
    sign.set_defaults(run=_sign)

    revoke = verbs.add_parser("revoke", help="take a node's, or the gateway's, certificates away")
    revoke.add_argument("name", help="the node's name, or gateway")
    _authority(revoke)
    revoke.set_defaults(run=_revoke)

    add_json(init, sign, revoke)

    log = verbs.add_parser("log", help="show every certificate that was issued or revoked")
    log.add_argument("--json", action="store_true", help="print the log as JSON")
    _authority(log)
    log.set_defaults(run=_log)


def _authority(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--authority",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of `edgeward authority init` or `gateway init`",
    )


def _init(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.gateway.apart import create_authority

    authority = create_authority(arguments.folder, arguments.federation)
    report(
        arguments.json,
        {"federation": authority.federation, "ca": authority.ca_fingerprint},
        f"authority of {authority.federation}: {authority.ca_fingerprint}\n"
        f"next, on the gateway: edgeward gateway init identity --federation {authority.federation} --host HOST "
        "--request gateway.json",
    )
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.cli.tables import report
    from orchestrator.gateway.apart import read_answer, sign_gateway
    from orchestrator.gateway.authority import Authority
    from orchestrator.gateway.certificates import GATEWAY_NAME
    from orchestrator.node.roster import grouped
    from orchestrator.wire.pem import request_in
    from orchestrator.wire.pki import create_file

    check_new_file(arguments.out, "--out")
    authority = Authority(arguments.authority)
    if arguments.name == GATEWAY_NAME:
        answer = sign_gateway(authority, read_answer(arguments.request))
    else:
        answer = {**authority.sign(request_in(arguments.request), arguments.name), "broker": arguments.broker}
    create_file(arguments.out, json.dumps(answer, indent=1).encode())
    newest = authority.log.entries()[-1]
    published = _published(authority)
    report(
        arguments.json,
        {
            "name": arguments.name,
            "answer": str(arguments.out),
            "ca": authority.ca_fingerprint,
            "key": newest.key,
            "certificates": published or None,
        },
        f"{arguments.out}: bring it to {arguments.name}; authority {authority.ca_fingerprint}\n"
        f"key of {arguments.name}: {grouped(newest.key)}{_bring(published)}",
    )
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.gateway.authority import Authority

    authority = Authority(arguments.authority)
    count = authority.revoke(arguments.name)
    published = _published(authority)
    report(
        arguments.json,
        {"name": arguments.name, "revoked": count, "certificates": published or None},
        f"{arguments.name}: {count} certificates revoked{_bring(published)}",
    )
    return 0


def _published(authority: Any) -> str:
    """The file to bring to a gateway apart; nothing where the gateway is its own authority and reads its folder."""
    from orchestrator.gateway.apart import publish

    return "" if authority.signing_key.exists() else str(publish(authority))


def _bring(published: str) -> str:
    return f"\n{published}: bring it to the gateway (`edgeward gateway install`)" if published else ""


def _log(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.cli.tables import moment, table
    from orchestrator.gateway.authority import Authority

    entries = Authority(arguments.authority).log.entries()
    if arguments.json:
        print(json.dumps([entry._asdict() for entry in entries], indent=1))
        return 0
    rows = [("n", "at", "event", "name", "fingerprint of its key", "serial")]
    rows += [(str(e.seq), moment(e.at), e.event, e.name, e.key or "not noted", e.serial[:16]) for e in entries]
    print(table(rows))
    return 0
