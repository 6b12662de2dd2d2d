"""Whether the broker is in reach: the gateway sends itself a message now and then, and nobody answers for what no one could.

While the connection is lost, or the broker passes nothing on, or this process itself was held up, no deadline runs.
"""

from typing import Optional

ECHO_EVERY_S = 2.0
"""How often a message of our own is sent, while nothing else comes."""

SILENT_AFTER_S = 5.0
"""How long the broker may pass nothing on, our own message included, until it counts as out of reach."""

RESTART_AFTER_S = 15.0
"""How long a broker of our own may pass nothing on until it is started again."""

HELD_UP_S = 2.0
"""How much longer than asked for a wait may take until this process counts as held up."""


class Reach:
    """Times are of one monotonic clock. Before the first own message has come back silence is no sign: it may be forbidden."""

    def __init__(self, now: float, trusted: bool = False) -> None:
        """`trusted`: a broker of our own, which passes on what we send ourselves."""
        self._echoes = trusted
        self._heard_at = self._sent_at = now
        self._asked_at: Optional[float] = None  # since when a message of our own is on its way
        self._away_at: Optional[float] = None
        self._lost = False

    @property
    def away(self) -> bool:
        return self._away_at is not None

    @property
    def lost_connection(self) -> bool:
        return self._lost

    def lost(self) -> None:
        """The connection ended. Nobody was heard since the last message."""
        self._lost = True
        self._away_at = self._heard_at if self._away_at is None else self._away_at
        self._asked_at = None

    def heard(self, now: float, own: bool = False) -> float:
        """Something came; for how many seconds nobody could answer before that, 0 where somebody could."""
        self._echoes = self._echoes or own
        gap = 0.0 if self._away_at is None else now - self._away_at
        self._heard_at, self._asked_at, self._away_at, self._lost = now, None, None, False
        return gap

    def due(self, now: float) -> bool:
        """Whether to send a message of our own now; notes that it is sent."""
        if now - max(self._heard_at, self._sent_at) < ECHO_EVERY_S:
            return False
        self._sent_at = now
        self._asked_at = now if self._asked_at is None else self._asked_at
        return True

    def silent_s(self, now: float) -> float:
        """For how long a message of our own has been on its way while nothing came; 0 where none should have come back."""
        return now - self._asked_at if self._echoes and self._asked_at is not None else 0.0

    def stuck(self, now: float) -> bool:
        """Whether a broker of our own had better be started again: it holds the connection and passes nothing on."""
        return not self._lost and self.silent_s(now) >= RESTART_AFTER_S

    def gone_silent(self, now: float) -> bool:
        """True once, when the broker was silent for too long. To be asked when nothing waits to be read."""
        if self.away or self.silent_s(now) < SILENT_AFTER_S:
            return False
        self._away_at = self._heard_at
        return True
