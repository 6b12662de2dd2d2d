"""The clock a party goes by. Those who meet at one place share it (`Broker.clock`), and nobody else looks at the machine's.

So a federation within a process can be given another one (simulation/turned_clock.py), on which an hour is over at once.
"""

import queue
import time
from typing import Any, Protocol


class Clock(Protocol):
    """Two readings: one that only goes on, for waiting, and the time of day, which somebody may set."""

    def monotonic(self) -> float:
        """Seconds since no time in particular: only differences mean something."""

    def time(self) -> float:
        """Seconds since 1970, as far as the machine knows."""

    def wait(self, events: "queue.Queue[Any]", until: float) -> None:
        """Returns as soon as `events` holds one, which the caller alone takes out, or at `until` on the monotonic reading."""

    def sleep(self, seconds: float) -> None:
        """Returns after so much time."""


class SystemClock:
    """The machine's."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def wait(self, events: "queue.Queue[Any]", until: float) -> None:
        with events.not_empty:
            events.not_empty.wait_for(lambda: bool(events.queue), max(0.0, until - time.monotonic()))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM = SystemClock()
