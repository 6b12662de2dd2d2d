"""Orders to a board over a network that nobody trusts, and how its answers are known; firmware/core/orders.h is the other side.

An order is signed by a key that may sign the board's models, names the board and the settings it has, and has a number above all
before. Orders and answers are marked with HMAC-SHA256 by the secret that the board shares with its owner: without it nobody makes
a board check a signature, which takes it long.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
from typing import Optional

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import UsageError

MAGIC = b"EWORDER1"
MOST_COMMAND_BYTES = 160
_MAC = b',"mac":"'
_MAC_DIGITS = 32
_ORDER_MAC_BYTES = 16


def board_id(secret: bytes) -> str:
    """What stands for the settings of a board, 16 hex digits: another secret is another addressee."""
    return hashlib.sha256(secret).hexdigest()[:16]


def sign_order(key: Ed25519PrivateKey, federation: str, board: str, secret: bytes, number: int, command: str) -> bytes:
    """The message for the board's topic `down`. UsageError for a command a board cannot have."""
    addressee = f"{federation}/{board}/{board_id(secret)}".encode("ascii")
    text = command.encode("ascii", "replace")
    if not 1 <= len(text) <= MOST_COMMAND_BYTES or not command.isprintable() or not 0 < number < 2**63:
        raise UsageError(
            f"order {number} {command[:MOST_COMMAND_BYTES]!r}: a line of 1 to {MOST_COMMAND_BYTES} letters"
        )
    parts = (struct.pack("<Q", number), bytes([len(addressee)]), addressee, bytes([len(text)]), text)
    content = MAGIC + b"".join(parts)
    signed = content + key.sign(content)
    return signed + hmac.new(secret, signed, hashlib.sha256).digest()[:_ORDER_MAC_BYTES]


class Numbers:
    """Numbers of orders: milliseconds since 1970, each above the one before, so that several machines can send orders."""

    def __init__(self, last: int = 0) -> None:
        self._last = last

    def next(self) -> int:
        self._last = max(self._last + 1, int(time.time() * 1000))
        return self._last

    def above(self, number: int) -> None:
        """No number up to this one is used any more: a board had it before."""
        self._last = max(self._last, number)


def checked(message: bytes, secret: bytes) -> Optional[bytes]:
    """The record in a message of a board, if the one who has `secret` made it; None for anything else."""
    text, mark, end = message.rpartition(_MAC)
    if not mark or len(end) != _MAC_DIGITS + 2 or not end.endswith(b'"}'):
        return None
    right = hmac.new(secret, text, hashlib.sha256).hexdigest()[:_MAC_DIGITS].encode()
    return message if hmac.compare_digest(right, end[:_MAC_DIGITS]) else None
