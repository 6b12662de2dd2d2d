"""The stages of a run: what is computed in which of its rounds. Ask here instead of comparing the numbers of rounds."""

from typing import NamedTuple

STATISTICS, TRAINING, EVALUATION, ANALYSIS = "statistics", "training", "evaluation", "analysis"

FIRST_ROUND = 0
"""The lowest number a round can have: what a node gave before, such as the number of its records, is of no round."""


class Stages(NamedTuple):
    """Sums for standardization in round 0 where there are any, so many rounds of the task's own work, and where nodes evaluate
    one round more, of nothing but that. work: what a task is for, TRAINING or ANALYSIS."""

    rounds: int
    statistics: bool = False
    evaluation: bool = False
    work: str = TRAINING

    @property
    def first(self) -> int:
        return FIRST_ROUND if self.statistics else FIRST_ROUND + 1

    @property
    def last(self) -> int:
        return self.rounds + self.evaluation

    def of(self, number: int) -> str:
        """STATISTICS, `work` or EVALUATION; empty for a number beyond all rounds.

        In a run that trains round 0 is one of statistics also where there are none: nobody reserves, and so nobody answers, what
        it would release.
        """
        if not FIRST_ROUND <= number <= self.last:
            return ""
        if number == FIRST_ROUND:
            return STATISTICS if self.work == TRAINING else ""
        return self.work if number <= self.rounds else EVALUATION

    def trains(self, number: int) -> bool:
        """Whether it is a round of the task's own work: training, or an analysis."""
        return self.of(number) == self.work
