"""What all open pages are shown, and how their streams hear that some of it changed."""

import asyncio
from contextlib import suppress

from orchestrator.gateway.web.parts import Parts


class News:
    """`parts` is the newest state of the page. Each stream waits for an event and takes no lock: one that is cancelled, however
    often, keeps none.
    """

    def __init__(self) -> None:
        self.parts: Parts = {}
        self._event = asyncio.Event()  # another one after each, see wake

    def publish(self, parts: Parts) -> None:
        if parts != self.parts:
            self.parts = parts
            self.wake()

    def forget(self) -> None:
        """Nobody looks: the next viewer must not see what is out of date."""
        self.parts = {}

    async def wait(self, sent: Parts, most_s: float) -> None:
        """Until there is something else than `sent`, or `most_s` have passed."""
        if self.parts and self.parts is not sent:
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._event.wait(), most_s)

    def wake(self) -> None:
        """All streams look again."""
        event, self._event = self._event, asyncio.Event()
        event.set()
