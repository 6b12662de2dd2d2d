"""The course of one run: its journal, the coordinator that follows it, and the clock both go by.

Every event is in the store before anything is done about it, so the store alone gives the state of the run.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

from orchestrator.errors import WireError
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.run import plan_of
from orchestrator.gateway.run_store import RunStore
from orchestrator.rounds.events import Action, Compacted, Event, Joined
from orchestrator.rounds.members import Members
from orchestrator.rounds.secure import coordinator_of
from orchestrator.rounds.state import FAILED
from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.counted import Counted
from orchestrator.wire.plain import when
from orchestrator.wire.task import Task

Act = Callable[[List[Action]], None]

MOST_EVENTS = 2000
"""In a journal; with more it is compacted, between two events."""

MOST_RECORDS = 1 << 30
"""What a node may say it has: secure sums over a thousand nodes have room for that."""


class Course:
    """Of one run. `act` carries out what the coordinator answers; `progress` gets what is worth showing."""

    def __init__(
        self, store: RunStore, run: str, task: Task, progress: Progress, act: Act, clock: Clock = SYSTEM
    ) -> None:
        self.store, self.run, self.task, self.clock = store, run, task, clock
        self.coordinator = coordinator_of(plan_of(task, store.secret(run, "selection")))
        self.records: Dict[str, int] = {}
        self.units: Dict[str, int] = {}
        self._members = Members()
        self._journalled = 0  # events since the journal was compacted
        self._progress, self._act = progress, act
        self._epoch = clock.time() - clock.monotonic()
        self._last_at = 0.0
        self.failed_at = 0.0  # when the run stopped, in seconds since 1970
        self._noted: Optional[Tuple[str, int]] = None

    def replay(self) -> bool:
        """Brings the coordinator to where the journal ends; False for a run that has not begun."""
        resumed = False
        for event in self.store.journal(self.run):
            resumed = True
            self._handle(event)
            if isinstance(event, Joined):
                self.note_counts(event)
            elif isinstance(event, Compacted):
                self._note_members()
        return resumed

    def now(self) -> float:
        """Seconds for events: wall time at the start, then the monotonic clock, so that setting the clock moves nothing."""
        return self._epoch + self.clock.monotonic()

    def tell(self, event: str, **fields: Any) -> None:
        self._progress({"event": event, "run": self.run, **fields})

    def happen(self, event: Event) -> None:
        """Journals an event that carries no data, then acts on it."""
        self.store.append(self.run, event)
        self.follow(event)

    def follow(self, event: Event) -> None:
        """Acts on an event that is in the journal already."""
        actions = self._handle(event)
        self.note_phase()
        self._act(actions)

    def compact(self) -> None:
        """Once a journal is long: what its events came to takes their place. To be called when all of them are done with."""
        if self._journalled <= MOST_EVENTS or self.coordinator.over:
            return
        event = Compacted(self._last_at, self.coordinator.snapshot(), self._members.as_dict())
        self.store.compact(self.run, event)
        self._journalled = 0

    def _handle(self, event: Event) -> List[Action]:
        self._members.take(event, self.coordinator)
        self._journalled += 1
        self._last_at = event.at
        before = self.coordinator.phase
        actions = self.coordinator.handle(event)
        if self.coordinator.phase == FAILED != before:
            self.failed_at = event.at
        return actions

    def note_phase(self) -> None:
        """Leaves word of the run's phase in the store when it changed, for those who only read it (history.py)."""
        phase = (self.coordinator.phase, self.coordinator.round)
        if phase != self._noted:
            self._noted = phase
            self.store.put_phase(self.run, self.now(), *phase, self.coordinator.reason)

    def stopped(self) -> str:
        """Why the run stopped, in words for its operator."""
        stopped = f"run {self.run} stopped at {when(self.failed_at)}: {self.coordinator.reason}"
        if self.coordinator.final:
            return (
                f"{stopped}. Its nodes take no further part in it: begin another run (another seed in [task] is enough)"
            )
        return f"{stopped}. The same command goes on from there"

    def joining(self, node: str, header: Dict[str, Any]) -> Joined:
        """What a node's `ready` makes happen; WireError for counts that make no sense."""
        records, units = Counted.read(header)
        holder = node == self.task.aggregation.key_holder
        if not holder and not 1 <= units <= records <= MOST_RECORDS:
            raise WireError(f"{node} is ready with {records} records of {units} privacy units")
        return Joined(self.now(), node, records, units)

    def note_counts(self, event: Joined) -> None:
        if event.node != self.task.aggregation.key_holder:
            self.records[event.node], self.units[event.node] = event.records, event.units or event.records

    def _note_members(self) -> None:
        """The counts of all that joined before the journal was compacted."""
        for node, member in self._members.items():
            if member.first_joined and node != self.task.aggregation.key_holder:
                self.records[node], self.units[node] = member.records, member.units

    def check_counts(self, node: str, number: int, header: Dict[str, Any]) -> None:
        """Raises WireError where a node claims more than it joined with."""
        # A region's gateway joins with the records of all its nodes; not all of them answer every round.
        for name, claimed, joined in zip(Counted._fields, Counted.read(header), (self.records, self.units)):
            if not 1 <= claimed <= joined.get(node, 0):
                raise WireError(
                    f"update of round {number} claims {claimed} {name}, {node} joined with {joined.get(node)}"
                )

    def counts(self) -> Dict[str, Tuple[int, int]]:
        """node -> (records, privacy units), as it joined."""
        return {node: (records, self.units[node]) for node, records in self.records.items()}
