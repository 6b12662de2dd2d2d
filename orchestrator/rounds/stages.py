"""The stages of a run: what is computed in which of its rounds. Ask here instead of comparing the numbers of rounds."""

from typing import NamedTuple

STATISTICS, TRAINING, EVALUATION = "statistics", "training", "evaluation"

FIRST_ROUND = 0
"""The lowest number a round can have: what a node gave before, such as the number of its records, is of no round."""


class Stages(NamedTuple):
    """Sums for standardization in round 0 where there are any, so many rounds of training, and where nodes evaluate one round
    more, of nothing but that."""

    rounds: int
    statistics: bool = False
    evaluation: bool = False

    @property
    def first(self) -> int:
        return FIRST_ROUND if self.statistics else FIRST_ROUND + 1

    @property
    def last(self) -> int:
        return self.rounds + self.evaluation

    def of(self, number: int) -> str:
        """STATISTICS, TRAINING or EVALUATION; empty for a number beyond all rounds.

        Round 0 is one of statistics also where the run has none: nobody reserves, and so nobody answers, what it would release.
        """
        if not FIRST_ROUND <= number <= self.last:
            return ""
        if number == FIRST_ROUND:
            return STATISTICS
        return TRAINING if number <= self.rounds else EVALUATION

    def trains(self, number: int) -> bool:
        return self.of(number) == TRAINING
