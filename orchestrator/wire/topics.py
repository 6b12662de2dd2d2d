"""MQTT topics. One federation is one subtree; a node writes only below its own name."""

import re
from typing import NamedTuple, Optional, Tuple

from orchestrator.errors import UsageError

PROTOCOL = 1
"""Version of everything below: the second part of each topic."""

ANY_GATEWAY = "edgeward/+/+/gateway/presence"
ANY_NODE = "edgeward/+/+/node/+/presence"
"""All that announce themselves at a broker, in any federation and any version of the protocol."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_ANNOUNCED = re.compile(r"edgeward/([1-9][0-9]{0,3})/([^/]+)/(?:gateway|node/([^/]+))/presence")


class Announced(NamedTuple):
    """What the topic of a presence says: of a gateway where `node` is empty."""

    protocol: int
    federation: str
    node: str = ""


def announced(topic: str) -> Optional[Announced]:
    """Who announces itself on this topic; None for topics of other kinds, and for names that nobody can have."""
    found = _ANNOUNCED.fullmatch(topic)
    if found is None or not all(_NAME.fullmatch(name) for name in found.groups()[1:] if name is not None):
        return None
    return Announced(int(found.group(1)), found.group(2), found.group(3) or "")


def check_name(name: str, what: str) -> str:
    """`name`, if it can be part of a topic, a file name and a certificate's common name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{what} {name!r}: use 1 to 64 of a-z, 0-9, '.', '_', '-', beginning and ending with a letter or digit"
        )
    return name


MONITOR = "monitor:"
"""What the name of `edgeward monitor --forward` in a certificate begins with; no node can have it, names have no colon."""

BOARD = "board:"
"""As MONITOR, of a board that is on the network itself."""

FLEET = "fleet:"
"""As MONITOR, of those who send boards orders: `edgeward board fleet`."""


def check_party(name: str, what: str) -> str:
    """`name`, if it can be that of a node or, after MONITOR, BOARD or FLEET, of one of these."""
    kind = next((kind for kind in (MONITOR, BOARD, FLEET) if name.startswith(kind)), "")
    check_name(name[len(kind) :], what)
    return name


class Topics:
    """The topics of one federation."""

    def __init__(self, federation: str) -> None:
        self._root = f"edgeward/{PROTOCOL}/{check_name(federation, 'federation')}"
        self.all_nodes = f"{self._root}/all"
        self.gateway_presence = f"{self._root}/gateway/presence"
        self.gateway_echo = f"{self._root}/gateway/echo"
        self.every_up = f"{self._root}/node/+/up"
        self.every_presence = f"{self._root}/node/+/presence"
        self.every_board = f"{self._root}/board/+/record"
        self.every_board_presence = f"{self._root}/board/+/presence"

    def down(self, node: str) -> str:
        return f"{self._root}/node/{check_name(node, 'node')}/down"

    def up(self, node: str) -> str:
        return f"{self._root}/node/{check_name(node, 'node')}/up"

    def presence(self, node: str) -> str:
        return f"{self._root}/node/{check_name(node, 'node')}/presence"

    def peer(self, sender: str, receiver: str) -> str:
        """What one node sends another."""
        return f"{self._root}/peer/{check_name(sender, 'node')}/{check_name(receiver, 'node')}"

    def from_peers(self, receiver: str) -> str:
        """A filter: what any node sends this one."""
        return f"{self._root}/peer/+/{check_name(receiver, 'node')}"

    def peer_of(self, topic: str, receiver: str) -> Optional[str]:
        """The node that sent this one a message on a topic; None for any other topic."""
        parts = topic.split("/")
        fits = topic.startswith(self._root + "/peer/") and len(parts) == 6 and parts[5] == receiver
        return parts[4] if fits and _NAME.fullmatch(parts[4]) else None

    def board_record(self, board: str) -> str:
        return f"{self._root}/board/{check_name(board, 'board')}/record"

    def board_down(self, board: str) -> str:
        """Where a board that is on the network itself reads."""
        return f"{self._root}/board/{check_name(board, 'board')}/down"

    def board(self, topic: str, kind: str = "record") -> Optional[str]:
        """The board whose record, or presence, came on this topic; None for any other topic."""
        parts = topic.split("/")
        if topic.startswith(self._root + "/board/") and len(parts) == 6 and parts[5] == kind:
            return parts[4] if _NAME.fullmatch(parts[4]) else None
        return None

    def sender(self, topic: str) -> Optional[Tuple[str, str]]:
        """(node, 'up' or 'presence') of a topic a node writes to; None for any other topic."""
        parts = topic.split("/")
        if topic.startswith(self._root + "/node/") and len(parts) == 6 and _NAME.fullmatch(parts[4]):
            return parts[4], parts[5]
        return None
