"""The end of a run: nodes that are here learn of it and send their last figures, or had the time to."""

from typing import Optional, Set

from orchestrator.gateway.attendance import Attendance
from orchestrator.gateway.course import Course
from orchestrator.gateway.figures import Figures

GOODBYE_S = 10.0
"""How long to wait at the end for the nodes' last figures."""


class Goodbye:
    """Of one run, in one gateway process."""

    def __init__(self, course: Course, attendance: Attendance, figures: Figures) -> None:
        self._course, self._attendance, self._figures = course, attendance, figures
        self._until: Optional[float] = None  # once the run has ended
        self._expected: Set[str] = set()  # nodes that were here then and did not leave since

    @property
    def over(self) -> bool:
        """Whether nothing is left to wait for; a run that stopped and may go on keeps its nodes waiting, and says no goodbye."""
        coordinator = self._course.coordinator
        if not coordinator.over or (coordinator.reason and not coordinator.final):
            return coordinator.over
        if self._until is None:
            self._until, self._expected = self._course.clock.monotonic() + GOODBYE_S, set(coordinator.online)
        self._expected &= set(coordinator.online)
        return self._expected <= self._attendance.goodbyes or self._course.clock.monotonic() >= self._until

    def keep(self) -> None:
        """Stores the last figures of the nodes that said goodbye."""
        if self._attendance.goodbyes:
            self._figures.keep(self._course.store, self._course.run, self._attendance.goodbyes)
