"""mosquitto's configuration for a federation with an identity: TLS, client certificates, rights by certificate name."""

import getpass
from pathlib import Path
from typing import Iterable, List

from orchestrator.errors import writing
from orchestrator.files import replace_file
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.certificates import GATEWAY_NAME
from orchestrator.wire.frames import CHUNK_BYTES
from orchestrator.wire.topics import BOARD, FLEET, MONITOR

LIMITS = f"""max_inflight_messages 0
max_queued_messages 0
# What one connection may hold: a chunk is 256 KiB, and what does not fit is sent again.
max_packet_size {2 * CHUNK_BYTES}
max_inflight_bytes {8 << 20}
max_queued_bytes {128 << 20}
"""
MOST_CONNECTIONS = 5000

CONFIG_FILE, ACL_FILE = "mosquitto.conf", "mosquitto.acl"


def write_access_list(authority: Authority, outside: Iterable[str] = ()) -> None:
    """mosquitto reads it when it starts and after SIGHUP; then it goes for connections that are open, too."""
    path = authority.folder.resolve() / ACL_FILE
    replace_file(path, access_list(authority, outside).encode())
    path.chmod(0o600)


def write_configuration(authority: Authority, port: int, host: str = "0.0.0.0", outside: Iterable[str] = ()) -> Path:
    """Writes mosquitto.conf and its access list into the identity folder, again each time; returns the former's path."""
    folder = authority.folder.resolve()
    write_access_list(authority, outside)
    path = folder / CONFIG_FILE
    text = f"""# Written by `edgeward gateway broker-config`; changes are lost when it is written again.
# The broker must run as the owner of these files (it drops root's rights otherwise):
user {getpass.getuser()}
listener {port} {host}
max_connections {MOST_CONNECTIONS}
allow_anonymous false
cafile {folder}/ca.crt
certfile {folder}/gateway.crt
keyfile {folder}/gateway.key
crlfile {folder}/crl.pem
require_certificate true
use_identity_as_username true
# TLS 1.2 is the least; 1.3 is used where both ends have it.
tls_version tlsv1.2
acl_file {folder}/{ACL_FILE}
{LIMITS}set_tcp_nodelay true
"""
    with writing(path):
        path.write_text(text, encoding="utf-8")
    return path


def access_list(authority: Authority, outside: Iterable[str] = ()) -> str:
    """A node writes its own `up` and `presence`, and what it sends other nodes; it reads its own `down`, `all`, the gateway's
    presence, and what other nodes send it.

    Monitors write records of boards; a board its own, and reads what its owners send it. Nodes `outside` of the run, which
    declined it, do not read `all`.
    """
    root = f"edgeward/1/{authority.federation}"
    active = sorted(authority.active())
    lines = [
        f"user {GATEWAY_NAME}",
        f"topic readwrite {root}/#",
        *(line for name in active for line in _beside_nodes(name, root)),
        *(line for name in sorted(outside) for line in (f"user {name}", f"topic deny {root}/all")),
        f"pattern write {root}/node/%u/up",
        f"pattern write {root}/node/%u/presence",
        f"pattern write {root}/peer/%u/+",
        f"pattern read {root}/peer/+/%u",
        f"pattern read {root}/node/%u/down",
        f"pattern read {root}/all",
        f"pattern read {root}/gateway/presence",
    ]
    return "\n".join(lines) + "\n"


def _beside_nodes(name: str, root: str) -> List[str]:
    """Lines for a monitor, a board or a fleet; none for a node.

    What everybody in the federation may read is not for them: they have no use for task, graph and weights.
    """
    if name.startswith(MONITOR):
        rights = [f"topic write {root}/board/+/record"]
    elif name.startswith(BOARD):
        own = f"{root}/board/{name[len(BOARD) :]}"
        rights = [f"topic write {own}/record", f"topic write {own}/presence", f"topic read {own}/down"]
    elif name.startswith(FLEET):
        boards = f"{root}/board/+"
        rights = [f"topic read {boards}/record", f"topic read {boards}/presence", f"topic write {boards}/down"]
    else:
        return []
    return [f"user {name}", *rights, f"topic deny {root}/all", f"topic deny {root}/gateway/presence"]
