"""Whether a gateway reads what a monitor forwards: a broker accepts records of a federation that nobody serves as well."""

from __future__ import annotations

import logging
import time
from typing import List, Optional

from orchestrator.wire.address import client_id
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.lookout import Lookout
from orchestrator.wire.topics import ANY_GATEWAY, PROTOCOL

log = logging.getLogger("edgeward.monitor")

QUIET_S = 3.0
"""For the broker to show who is there, and before a gateway that left is missed: it may only have been started again."""

MOST_NAMED = 5


class Audience:
    """Of one federation; `look` is called now and then and says in the log what changed, `close` once."""

    def __init__(self, broker: BrokerAddress, federation: str) -> None:
        self._broker, self._federation = broker, federation
        self._lookout = Lookout(broker, client_id("monitor-search"), [ANY_GATEWAY])
        self._lookout.connect()
        self._absent_since: Optional[float] = time.monotonic()
        self._missed = self._ever = False

    def look(self) -> None:
        if not self._lookout.open:
            return
        present = self._federation in self._served()
        now = time.monotonic()
        if present:
            if self._missed:
                log.warning("the gateway of federation %r is at %s now", self._federation, self._broker)
            self._absent_since, self._missed, self._ever = None, False, True
            return
        if self._absent_since is None:
            self._absent_since = now
        elif now >= self._absent_since + QUIET_S and not self._missed:
            self._missed = True
            log.warning("%s", self._complaint())

    def close(self) -> None:
        """Of a monitor that ends at once, waits until it is known whether there is a gateway."""
        while self._lookout.open and not self._ever and not self._missed:
            self.look()
            time.sleep(0.05)
        self._lookout.close()

    def summary(self) -> str:
        """What follows the number of records forwarded: that no gateway was there to read any of them."""
        return (
            ""
            if self._ever or not self._missed
            else f"; no gateway of federation {self._federation!r} was there to read them"
        )

    def _served(self) -> List[str]:
        """The federations that a gateway of this version of the protocol serves here."""
        return [seen.who.federation for seen in self._lookout.look() if seen.who.protocol == PROTOCOL]

    def _complaint(self) -> str:
        others = self._served()
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        seen = f"; there are those of {', '.join(others[:MOST_NAMED])}{more}: is --federation right?" if others else ""
        return f"no gateway of federation {self._federation!r} is at {self._broker}: none reads what is forwarded{seen}"
