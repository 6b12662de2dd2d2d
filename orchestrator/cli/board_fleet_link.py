"""The connection of `edgeward board fleet` to its broker: which identity it has, and what to do where it has none."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Iterator

from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.boards.fleet_link import FleetLink
    from orchestrator.wire.link import BrokerAddress


@contextmanager
def linked(args: argparse.Namespace) -> Iterator[FleetLink]:
    """To the broker, as the owner of the boards; warns in the end of messages that were not theirs."""
    from orchestrator.boards.fleet_file import Fleet
    from orchestrator.boards.fleet_link import FleetLink
    from orchestrator.errors import NoBrokerError

    fleet = Fleet.read(args.fleet)
    address = address_of(args, fleet.federation, f"the boards of {args.fleet}")
    with ExitStack() as stack:
        try:
            link = stack.enter_context(FleetLink(fleet, address))
        except NoBrokerError as error:
            raise NoBrokerError(address, error.reason, remedy(address, args.identity is not None)) from error
        try:
            yield link
        finally:  # an order that got no answer, too, may be one that somebody disturbs
            for name, count in sorted(link.foreign.items()):
                print(f"warning: {many(count, 'message')} in the name of {name} were not {name}'s", file=sys.stderr)


def remedy(address: BrokerAddress, identified: bool) -> str:
    """What to do where there is no connection. None of these commands has a broker of its own."""
    from orchestrator.wire.topics import FLEET

    if address.tls and not identified:
        return (
            "Without --identity an mqtts:// broker is known by the authorities of this system only, and shown no certificate: "
            f"add --identity DIR, of `edgeward node enroll` as {FLEET}NAME (`edgeward gateway invite {FLEET}NAME`)"
        )
    if address.tls:
        return (
            "Is one running there, is its certificate of the federation's authority, and does a broker of your own know the "
            "rights of this identity (`edgeward gateway broker-config`, after it was enrolled)?"
        )
    return "Start one there, or name another with --broker; one with certificates is mqtts://HOST with --identity DIR"


def address_of(args: argparse.Namespace, federation: str, whose: str) -> BrokerAddress:
    """Of --broker, with the certificate of --identity. UsageError for an identity that has no use here, or is of another
    federation than `federation`, which is that of `whose`."""
    from orchestrator.errors import UsageError
    from orchestrator.gateway.identity_folder import IdentityFolder
    from orchestrator.node.identity import NodeIdentity
    from orchestrator.wire import pki
    from orchestrator.wire.link import BrokerAddress
    from orchestrator.wire.topics import FLEET

    address = BrokerAddress.parse(args.broker)
    if args.identity is None:
        return address
    if "gateway_hosts" in pki.read_settings(args.identity):
        gateway = IdentityFolder(args.identity)
        here, secured = gateway.federation, gateway.secure(address)
    else:
        identity = NodeIdentity(args.identity)
        if not identity.name.startswith(FLEET):
            raise UsageError(
                f"--identity {args.identity}: is of {identity.name!r}; needed is {FLEET}NAME"
                f": `edgeward gateway invite {FLEET}NAME`"
            )
        here, secured = identity.federation, identity.secure(address)
    if here != federation:
        raise UsageError(f"--identity {args.identity}: is of {here!r}, {whose} of {federation!r}")
    return secured
