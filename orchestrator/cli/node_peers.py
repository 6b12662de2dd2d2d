"""The verbs of `edgeward node` by which owners say whose keys are whose: `fingerprint` and `peers`."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from orchestrator.cli.node_budget import open_ledger
from orchestrator.cli.state import HELP, only_state

if TYPE_CHECKING:
    from orchestrator.node.store import NodeStore

_EPILOG = """examples:
  edgeward node fingerprint --identity node-a              # on the other node: its owner reads it out by phone
  edgeward node peers --state DIR                          # who is confirmed here, and who waits
  edgeward node peers trust icu-2 FINGERPRINT --state DIR
  edgeward node peers distrust icu-2 --state DIR

FINGERPRINT: of a key listed here, 32 of its 64 digits or more, in blocks or not; of one this node was never shown, all 64.
Peers that [require] peers of a policy names are confirmed there and not listed here; where both speak of a name they have to
agree. A running node goes by it from its next step on."""

_LEAST_DIGITS = 32


def register(verbs: Any) -> None:
    own = verbs.add_parser(
        "fingerprint", help="print the fingerprint of this node's own key, for other owners to compare"
    )
    own.add_argument("--identity", type=Path, metavar="DIR", help="of a node with an identity")
    own.add_argument("--state", type=Path, metavar="DIR", help="of a node without one (default: the only one here)")
    own.add_argument("--json", action="store_true", help="as JSON")
    own.set_defaults(run=_fingerprint)

    peers = verbs.add_parser(
        "peers",
        help="show, confirm or withdraw whom this node adds up with",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    peers.add_argument(
        "action",
        nargs="?",
        choices=("show", "trust", "distrust"),
        default="show",
        help="what to do (default: %(default)s)",
    )
    peers.add_argument("name", nargs="?", metavar="NAME", help="of the peer")
    peers.add_argument("fingerprint", nargs="*", metavar="FINGERPRINT", help="of its public key, as its owner says it")
    peers.add_argument("--state", type=Path, help=HELP)
    peers.add_argument("--json", action="store_true", help="as JSON")
    peers.set_defaults(run=_peers)


def _fingerprint(arguments: argparse.Namespace) -> int:
    from orchestrator.node.roster import grouped

    name, fingerprint = _own(arguments)
    print(json.dumps({"name": name or None, "fingerprint": fingerprint}) if arguments.json else grouped(fingerprint))
    return 0


def _own(arguments: argparse.Namespace) -> Tuple[str, str]:
    """(name, fingerprint) of this node's own key; without an identity its state does not know its name."""
    from orchestrator.errors import UsageError
    from orchestrator.node.identity import NodeIdentity
    from orchestrator.node.peers import Peers
    from orchestrator.node.store import NodeStore
    from orchestrator.wire.pki import key_fingerprint

    if arguments.identity is not None:
        if arguments.state is not None:
            raise UsageError("node fingerprint: --identity or --state, not both")
        identity = NodeIdentity(arguments.identity)
        return identity.name, key_fingerprint(identity.for_peers()[1].public_key())
    state = only_state(arguments.state)
    if not (state / "node.sqlite").is_file():
        raise UsageError(f"--state {state}: no node has run there; with an identity, give --identity")
    store = NodeStore(state / "node.sqlite")
    try:
        return "", Peers("", store).fingerprint
    finally:
        store.close()


def _peers(arguments: argparse.Namespace) -> int:
    from orchestrator.errors import UsageError
    from orchestrator.wire.topics import check_name

    wanted = {"show": (False, False), "trust": (True, True), "distrust": (True, False)}[arguments.action]
    if wanted != (arguments.name is not None, bool(arguments.fingerprint)):
        raise UsageError("node peers: `trust NAME FINGERPRINT`, `distrust NAME`, or neither")
    if arguments.name is not None:
        check_name(arguments.name, "peer")
    with open_ledger(only_state(arguments.state)) as (ledger, store):
        if arguments.action == "trust":
            fingerprint = _whole("".join(arguments.fingerprint), arguments.name, _shown(ledger.trusted(), store))
            ledger.trust(arguments.name, fingerprint)
        elif arguments.action == "distrust":
            ledger.distrust(arguments.name)
        if arguments.action != "show":
            store.peers.drop_pending(arguments.name)
        found = _shown(ledger.trusted(), store)
    print(json.dumps(found, indent=1) if arguments.json else _page(found))
    return 0


def _whole(said: str, name: str, shown: Dict[str, Any]) -> str:
    """All 64 digits of what the owner typed: completed from the keys that were shown under this name.

    64 digits are accepted whatever was shown: a gateway that shows other keys cannot keep the owner from confirming this one.
    """
    from orchestrator.errors import UsageError
    from orchestrator.node.roster import DIGITS

    digits = said.replace(":", "").replace(" ", "").lower()
    if not set(digits) <= set("0123456789abcdef") or not _LEAST_DIGITS <= len(digits) <= DIGITS:
        raise UsageError(
            f"fingerprint {said!r}: expected {DIGITS} hex digits, or at least {_LEAST_DIGITS} of a key that waits"
        )
    if len(digits) == DIGITS:
        return digits
    seen = {peer["fingerprint"] for peer in shown["pending"] if peer["name"] == name}
    seen |= {found[name] for found in (shown["first_sight"], shown["enrolled"], shown["confirmed"]) if name in found}
    fitting = [fingerprint for fingerprint in seen if fingerprint.startswith(digits)]
    if len(fitting) == 1:
        return fitting[0]
    if seen:
        raise UsageError(
            f"this is not the key that was shown as {name}'s: compare by phone again; somebody may pose as {name}"
        )
    raise UsageError(f"no key of {name} was shown here yet: give all {DIGITS} digits of it")


def _shown(trusted: Dict[str, str], store: "NodeStore") -> Dict[str, Any]:
    import hashlib

    from orchestrator.wire.transparency import newest_of, read_log

    pinned = {name: hashlib.sha256(key).hexdigest() for name, key in store.peers.pinned().items()}
    newest = newest_of(read_log([json.loads(entry) for entry in store.peers.certificates()]))
    known = {*trusted, *pinned, "gateway"}
    enrolled = {name: entry.key for name, entry in sorted(newest.items()) if entry.key and ":" not in name}
    return {
        "confirmed": {name: fingerprint for name, fingerprint in sorted(trusted.items()) if fingerprint},
        "distrusted": sorted(name for name, fingerprint in trusted.items() if not fingerprint),
        "first_sight": {name: fingerprint for name, fingerprint in pinned.items() if name not in trusted},
        "enrolled": {name: key for name, key in enrolled.items() if name not in known},
        "pending": [peer._asdict() for peer in store.peers.pending()],
    }


def _page(found: Dict[str, Any]) -> str:
    from orchestrator.cli.tables import moment
    from orchestrator.node.roster import grouped

    lines: List[str] = []
    for heading, kind in (
        ("confirmed by the owner", "confirmed"),
        ("accepted at first sight, without --policy", "first_sight"),
        ("in the certificate log, not confirmed", "enrolled"),
    ):
        if found[kind]:
            lines += [heading, *(f"    {name}  {grouped(fingerprint)}" for name, fingerprint in found[kind].items())]
    if found["distrusted"]:
        lines.append(f"refused by the owner: {', '.join(found['distrusted'])}")
    if found["pending"]:
        lines.append("WAIT for the owner, who compares them by phone")
        lines += [f"    {p['name']}  {grouped(p['fingerprint'])}  {moment(p['first_seen'])}" for p in found["pending"]]
    return "\n".join(lines) or "no peer is confirmed here, and none waits"
