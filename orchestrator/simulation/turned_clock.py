"""A clock that stands still until somebody turns it, or waits by it: a federation in one process has no need to wait for time.

What parties compute takes no time on it, so what it says is good for deadlines, and for no figure about speed.
"""

import queue
from typing import Any

STARTS_AT = 1_000_000_000.0
"""The time of day at first, in seconds since 1970: the same in every run."""


BEGINS_AT = 1000.0
"""The other reading at first, as of a machine that has been on for a while."""


class TurnedClock:
    """A `Clock` of one thread: what another one puts into a queue meanwhile does not wake who waits by it."""

    def __init__(self, time_of_day: float = STARTS_AT) -> None:
        self._monotonic, self._ahead = BEGINS_AT, time_of_day - BEGINS_AT

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._ahead + self._monotonic

    def wait(self, events: "queue.Queue[Any]", until: float) -> None:
        """With an empty queue it is `until` at once."""
        if events.empty():
            self.sleep(until - self._monotonic)

    def sleep(self, seconds: float) -> None:
        """It is so much later at once."""
        self.turn(max(0.0, seconds))

    def turn(self, seconds: float) -> None:
        """Both readings go on. ValueError for a time that is past: what only goes on does not go back."""
        if not seconds >= 0:
            raise ValueError(f"a clock is not turned by {seconds} s: it goes forward only; see set_ahead")
        self._monotonic += seconds

    def set_ahead(self, seconds: float) -> None:
        """Somebody sets the time of day, by so much forward, or back where it is negative."""
        self._ahead += seconds
