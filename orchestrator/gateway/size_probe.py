"""Whether a broker passes on messages as large as the parts of a model: asked once, with a message of our own.

Some drop what is larger than a limit of theirs without a word, others end the connection; nodes then seem not to answer.
"""

import secrets
from typing import List, Optional

from orchestrator.wire.frames import CHUNK_BYTES

PROBE_BYTES = CHUNK_BYTES + 1024
"""A part of a body, and what stands before it."""

LATE_S = 5.0
"""How long after a small message, sent behind it, a large one may come."""

_MOST_LOST = 2


class SizeProbe:
    """Of one gateway process. Without any answer there is no verdict: our own messages may be forbidden."""

    def __init__(self) -> None:
        self._small = secrets.token_bytes(16)
        self._large = self._small + bytes(PROBE_BYTES - len(self._small))
        self._open, self._asked, self._lost = True, False, 0
        self._small_at: Optional[float] = None

    def messages(self) -> List[bytes]:
        """What to send ourselves when a connection begins; nothing once that was answered."""
        self._asked = self._open
        return [self._large, self._small] if self._open else []

    def heard(self, payload: bytes, now: float) -> None:
        if payload == self._large:
            self._open = False
        elif payload == self._small and self._small_at is None:
            self._small_at = now

    def lost(self) -> None:
        """The connection ended."""
        self._lost += self._open and self._asked
        self._asked, self._small_at = False, None

    def objection(self, now: float) -> str:
        """What is wrong with the broker; empty while nothing is known to be."""
        if not self._open:
            return ""
        late = self._small_at is not None and now - self._small_at > LATE_S
        if not late and self._lost < _MOST_LOST:
            return ""
        how = "drops" if late else "ends the connection at"
        return (
            f"it {how} messages of {PROBE_BYTES:,} bytes, which the parts of a model have: raise its limit to 300,000 bytes "
            "(mosquitto: message_size_limit, max_packet_size)"
        )
