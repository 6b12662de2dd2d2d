"""What the coordinator needs of a task: how many rounds, of which nodes, and when one is complete."""

from dataclasses import dataclass, field
from typing import Tuple

from orchestrator.rounds.selection import Rule
from orchestrator.rounds.stages import Stages


@dataclass(frozen=True)
class Plan:
    """The part of a task the coordinator needs.

    buffered: a round ends with `quorum` updates, of this round's weights or of at most `max_staleness` rounds before.
    provided: rounds begin when a higher gateway begins them, and the run ends with its.
    evaluation: after the last round one more, numbered rounds + 1, in which nodes only evaluate its weights.
    separation: a node is in at most one of so many training rounds in a row.
    steps: of a secure round (rounds/secure.py); least: fewest nodes its sum may be over.
    key_holder: a node without data that holds a key. colluding: nodes that may help the gateway to read single vectors.
    all_neighbours: nodes up to which all mask with each other, 0 for any number. withheld: beyond that, so many of those with
    keys may not reveal their nonces.
    minimum_nodes: with so many instead of `nodes` the first round begins when gather_s is over; 0: with no fewer than `nodes`.
    hides_empty: whether a round has an update in it is secret, and what it gives does not show it.
    """

    rounds: int
    nodes: int
    quorum: int
    deadline_s: float
    attempts: int
    gather_s: float
    statistics: bool
    rule: Rule = field(default_factory=Rule)
    buffered: bool = False
    max_staleness: int = 0
    evaluation: bool = False
    provided: bool = False
    separation: int = 1
    steps: Tuple[str, ...] = ()
    least: int = 0
    key_holder: str = ""
    colluding: int = 0
    all_neighbours: int = 0
    withheld: int = 0
    minimum_nodes: int = 0
    hides_empty: bool = False

    @property
    def least_nodes(self) -> int:
        """How many nodes the first round begins with at least."""
        return self.minimum_nodes or self.nodes

    @property
    def stages(self) -> Stages:
        """What is computed in which round."""
        return Stages(self.rounds, self.statistics, self.evaluation)

    @property
    def first_round(self) -> int:
        return self.stages.first

    def trains(self, round_number: int) -> bool:
        return self.stages.trains(round_number)
