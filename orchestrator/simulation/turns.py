"""Parties of one process take turns: each handles what came to it, one message at a time, until all is done."""

import math
from typing import Callable, Protocol, Sequence

from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.link import Connection

LONGEST_S = 0.05
"""The longest sleep where nothing is due: what parties outside of the turns do is looked at again then."""


class Party(Protocol):
    """A gateway, a node or a key holder."""

    link: Connection

    def step(self, longest_s: float = ...) -> None: ...
    def wait_s(self) -> float: ...


def take_turns(parties: Sequence[Party], over: Callable[[], bool], clock: Clock = SYSTEM) -> None:
    """Lets the parties work, in this order, until `over`. Where no message is under way it sleeps until something is due, by the
    clock they share.
    """
    longest_s = LONGEST_S if clock is SYSTEM else math.inf  # for nobody outside passes time on another clock
    while not over():
        worked = False
        for party in parties:
            party.link.pump()
            if not party.link.events.empty() or party.wait_s() <= 0:
                party.step(0.0)
                party.link.pump()
                worked = True
                if over():
                    return
        if not worked:
            clock.sleep(min(longest_s, *(party.wait_s() for party in parties)))
            for party in parties:
                if party.link.events.empty():
                    party.step(0.0)  # no message, so it looks at what is due
