"""One MQTT payload from node to node: `EWP`, version u8, kind u8, session 32 bytes, content. One payload is one message.

It is not acknowledged: what is lost is made up for by the next one, or said again after a silence.
"""

from typing import NamedTuple

from orchestrator.errors import WireError

VERSION = 1
HELLO, SEALED = 1, 2
SESSION_BYTES, NUMBER_BYTES, TAG_BYTES = 32, 8, 16
SEAL_BYTES = NUMBER_BYTES + TAG_BYTES
"""What sealing adds to a content."""
MOST_BYTES = 256 << 10
"""Of a payload: brokers carry chunks of that size anyway."""

_MAGIC = b"EWP"
_HEAD_BYTES = len(_MAGIC) + 2 + SESSION_BYTES


class PeerFrame(NamedTuple):
    """kind: HELLO or SEALED."""

    kind: int
    session: bytes
    content: bytes


def encode_peer(frame: PeerFrame) -> bytes:
    """What `decode_peer` reads."""
    return _MAGIC + bytes([VERSION, frame.kind]) + frame.session + frame.content


def decode_peer(payload: bytes) -> PeerFrame:
    """WireError with the reason for anything that is not a message of this version."""
    if payload[: len(_MAGIC)] != _MAGIC or len(payload) < _HEAD_BYTES:
        raise WireError("not a message between nodes: wrong first bytes")
    if payload[3] != VERSION:
        raise WireError(f"message version {payload[3]}, this program speaks version {VERSION}: update the older side")
    if len(payload) > MOST_BYTES:
        raise WireError(f"a message of {len(payload)} bytes, at most {MOST_BYTES} are accepted")
    if payload[4] not in (HELLO, SEALED):
        raise WireError(f"a message of kind {payload[4]}")
    return PeerFrame(payload[4], bytes(payload[5:_HEAD_BYTES]), bytes(payload[_HEAD_BYTES:]))
