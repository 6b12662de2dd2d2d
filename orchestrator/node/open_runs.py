"""The runs a node serves: one at hand, the others aside until a message of theirs comes.

A gateway may stop a run, begin another and go on with the first; two gateways may share the nodes of a federation. What a node
has not finished it goes on with, whatever came between, and a task it refuses changes nothing for the others.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np

from orchestrator.node.held_weights import HeldWeights
from orchestrator.node.run import Run

if TYPE_CHECKING:
    from orchestrator.node.peer_talk import PeerTalk
    from orchestrator.node.secure import SecureRound

MOST_RUNS = 4
"""Runs whose data are in memory, and the graph's process of the one at hand; of one dropped for a newer one the gateway is asked
for the task again."""

MOST_WORDS = 8
"""Runs of which a presence speaks."""

Announced = Tuple[Dict[str, Any], Dict[str, np.ndarray]]
"""Header and tensors of a message."""


@dataclass
class AtWork:
    """What a node is at in one run; in none where `run` is None."""

    run: Optional[Run] = None
    round: Optional[Announced] = None  # announced, not yet answered
    secure: "Optional[SecureRound]" = None
    early: Optional[Dict[str, Any]] = None  # a step whose round is still under way
    talk: "Optional[PeerTalk]" = None  # with its neighbours, in the run's exchange
    after: Optional[Announced] = None  # a round whose answer waits for that
    held: List[Dict[str, Any]] = field(default_factory=list)  # steps of that round, which came meanwhile
    answers: List[bytes] = field(default_factory=list)  # transfers of the open round's answers to steps
    weights: HeldWeights = field(default_factory=HeldWeights)


class OpenRuns:
    """`at` is what is at hand."""

    def __init__(self) -> None:
        self.at = AtWork()
        self._all: OrderedDict[str, AtWork] = OrderedDict()
        self._words: OrderedDict[str, Dict[str, Any]] = OrderedDict()

    def find(self, run: str) -> Optional[Run]:
        return self._all[run].run if run in self._all else None

    def turn_to(self, run: str) -> bool:
        """Takes a run to hand; False where this node is not in it, and nothing changes."""
        if run not in self._all:
            return False
        self.at = self._all[run]
        self._all.move_to_end(run)
        self.rest(but=run)
        return True

    def begin(self, run: Run) -> None:
        """A new run is at hand, instead of an earlier state of the same. Of too many the one longest unused gives way."""
        self.at = self._all[run.id] = AtWork(run)
        self._all.move_to_end(run.id)
        self.rest(but=run.id)
        while len(self._all) > MOST_RUNS:
            dropped, _ = self._all.popitem(last=False)
            self._words.pop(dropped, None)

    def end(self, run: str) -> None:
        """The run is over, or this node is out of it."""
        if self._all.pop(run, None) is self.at:
            self.at = AtWork()
        self._words.pop(run, None)

    def rest(self, but: str) -> None:
        """Ends the processes of all runs' graphs but one's, which start again when they are needed, and forgets large weights: a
        node has memory for one.
        """
        for run, work in self._all.items():
            if run != but and work.run is not None:
                work.run.rest()
                work.weights.rest()

    def turn_to_waiting(self) -> bool:
        """Takes a run to hand that waits for the answer to a round; False where none does."""
        waiting = [run for run, work in self._all.items() if work.round is not None]
        return self.turn_to(waiting[0]) if waiting else False

    def at_work(self) -> List[AtWork]:
        """All of them."""
        return list(self._all.values())

    def say(self, word: Dict[str, Any]) -> None:
        """Keeps what this node says of its part in a run."""
        self._words[word["run"]] = word
        self._words.move_to_end(word["run"])
        while len(self._words) > MOST_WORDS:
            self._words.popitem(last=False)

    def words(self, but: str) -> List[Dict[str, Any]]:
        """What this node says of all runs but one."""
        return [word for run, word in self._words.items() if run != but]
