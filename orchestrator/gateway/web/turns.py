"""One password is hashed at a time, and who came last is next: a crowd of guesses waits for itself and for nobody else.

Who failed too often waits before that, and again only the newest try of an address does: the others are given up.
"""

import asyncio
from contextlib import asynccontextmanager
from typing import AsyncIterator, Dict, List

MOST_WAITING = 50
"""Tries of one kind that wait; the longest waiting makes room for one more."""


MOST_PAUSING = 1000
"""Addresses of which a try waits; there is no room for another one."""


GUESSER, STRANGER, KNOWN = range(3)
"""Ranks: an address that failed too often, one that did not, and a browser that logged in before."""
RANKS = 3


class BusyError(Exception):
    """So many came later that this try was given up."""


class Pauses:
    """Tries that wait until their address may try again, one of each. Used by the event loop's thread only."""

    def __init__(self) -> None:
        self.waiting: Dict[str, asyncio.Future[bool]] = {}

    async def wait(self, who: str, seconds: float) -> None:
        """Raises BusyError where a newer try of the same takes its place, or where too many others wait."""
        loop = asyncio.get_running_loop()
        older = self.waiting.pop(who, None)
        if older is not None:
            _end(older, False)
        if len(self.waiting) >= MOST_PAUSING:
            raise BusyError
        mine = self.waiting[who] = loop.create_future()
        timer = loop.call_later(seconds, _end, mine, True)
        try:
            if not await mine:
                raise BusyError
        finally:
            timer.cancel()
            if self.waiting.get(who) is mine:
                del self.waiting[who]


def _end(waiting: "asyncio.Future[bool]", result: bool) -> bool:
    """Whether it still waited: who is gone has cancelled it, maybe in this very step."""
    if waiting.done():
        return False
    waiting.set_result(result)
    return True


class Turns:
    """Used by the event loop's thread only."""

    def __init__(self) -> None:
        self.waiting: List[List[asyncio.Future[bool]]] = [[] for _ in range(RANKS)]
        self._busy = False

    @asynccontextmanager
    async def turn(self, rank: int) -> AsyncIterator[None]:
        """Those of a higher rank, below RANKS, come first. Raises BusyError."""
        if self._busy:
            await self._wait(self.waiting[rank])
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._next()

    async def _wait(self, waiting: "List[asyncio.Future[bool]]") -> None:
        mine: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        if len(waiting) > MOST_WAITING:
            _end(waiting.pop(0), False)
        try:
            if not await mine:
                raise BusyError
        except asyncio.CancelledError:
            if mine in waiting:
                waiting.remove(mine)
            elif mine.done() and not mine.cancelled() and mine.result():
                self._busy = False
                self._next()
            raise

    def _next(self) -> None:
        for waiting in reversed(self.waiting):
            while waiting:
                if _end(waiting.pop(), True):
                    self._busy = True  # before the next one runs, somebody else may come
                    return
