"""Whether an address stays on this machine: what goes there is seen by nobody on the network."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Of a name only of localhost: what another one leads to may change."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
