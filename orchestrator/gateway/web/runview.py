"""One run as people watch it: the journal replayed through the coordinator, and what the store says besides."""

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, List, Optional

from orchestrator.gateway.history import kind_of, training_number
from orchestrator.gateway.run import plan_of
from orchestrator.gateway.score_tables import page
from orchestrator.gateway.web.rounds import RoundFigures
from orchestrator.gateway.web.shortfall import shortfall
from orchestrator.gateway.web.standing import INTERRUPTED, PREPARING, STARTING, WORKING
from orchestrator.gateway.web.storeview import StoreView
from orchestrator.gateway.web.words import describe_task
from orchestrator.privacy.participation import secret_sample
from orchestrator.rounds.events import Aggregated, Compacted, Declined, Event, Joined, Left, Started
from orchestrator.rounds.members import Member, Members
from orchestrator.rounds.secure import coordinator_of
from orchestrator.rounds.stages import STATISTICS
from orchestrator.rounds.state import AGGREGATING, COLLECTING, FAILED, FINISHED, GATHERING
from orchestrator.wire.plain import many, plain
from orchestrator.wire.task import task_from_dict, task_to_dict

ASKED = "waits for its owner"
_ACTIVITY = 100
_REASON = 2000
"""Characters of why a run failed: it may quote several nodes."""


@dataclass
class RunView:
    """Follows a run: `advance` reads what the journal gained, the rest says what is known then."""

    store: StoreView
    run: str
    nodes: Members = field(default_factory=Members)
    activity: Deque[Dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_ACTIVITY))

    def __post_init__(self) -> None:
        self.task = task_from_dict(json.loads(self.store.task_text(self.run)), f"stored run {self.run}")
        self.coordinator = coordinator_of(plan_of(self.task, self.store.secret(self.run, "selection")))
        self.opened_at = 0.0
        self.began_at = 0.0
        self.last_event_at = 0.0
        self._seq = 0
        self._final: Optional[Dict[str, Any]] = None  # what an ended run says does not change
        self._rounds = RoundFigures(self.task.stages)

    def advance(self) -> bool:
        """True when the journal had something new."""
        news = self.store.journal_after(self.run, self._seq)
        aggregated = self.store.ended(self.run) if self._seq == 0 else {}
        for seq, event in news:
            before = self.coordinator.round
            if isinstance(event, Aggregated):
                aggregated[event.round] = event.at
            self._note(event)
            self.coordinator.handle(event)
            self._seq, self.last_event_at = seq, event.at
            self.began_at = self.began_at or event.at
            if self.coordinator.round != before:
                self.opened_at = event.at
            if isinstance(event, Compacted):
                self.opened_at = self.store.began(self.run, self.coordinator.round) or event.at
                self.began_at = min(self.began_at, self.store.began(self.run) or event.at)
        self._read_rounds(aggregated)
        return bool(news)

    def _read_rounds(self, ended: Dict[int, float]) -> None:
        """Results that are new, and the newest of those known. ended: round -> when it was aggregated."""
        for result in self.store.each_result(self.run, self._rounds.again_from):
            self._rounds.take(result, ended.get(result["round"]))

    def _note(self, event: Event) -> None:
        node = getattr(event, "node", None)
        if isinstance(event, Joined):
            if node not in self.coordinator.online:
                self._tell(event.at, "joined", f"{node} joined with {many(event.records, 'record')}")
        elif isinstance(event, Left):
            self._tell(event.at, "left", f"{node} left")
        elif isinstance(event, Declined):
            if node not in self.coordinator.declined:
                self._tell(event.at, "declined", f"{node} declined: {event.reason}")
        elif isinstance(event, Aggregated):
            name = STATISTICS if self.task.stages.of(event.round) == STATISTICS else f"round {event.round}"
            self._tell(event.at, "aggregated", f"{name}: aggregated {many(len(self.coordinator.arrived), 'update')}")
        elif isinstance(event, Started):
            self._tell(event.at, "started", "the gateway began" if self._seq == 0 else "the gateway began again")
        self.nodes.take(event, self.coordinator)

    def _tell(self, at: float, kind: str, text: str) -> None:
        self.activity.append({"at": at, "kind": kind, "text": plain(text)})

    @property
    def over(self) -> bool:
        return self.coordinator.over

    @property
    def rounds_begun(self) -> int:
        """The newest round whose noised answers may be out; 0 is the statistics, -1 before anything."""
        if self.coordinator.phase == GATHERING:
            return -1
        return self.coordinator.round

    def records(self) -> Dict[str, int]:
        return {name: member.records for name, member in self.nodes.items() if member.records}

    def state(self, gateway: str) -> str:
        """The phase as far as it holds while the gateway stands like this towards the run: WORKING, PREPARING, or any other."""
        if self.over or gateway == WORKING:
            return self.coordinator.phase
        return STARTING if gateway == PREPARING else INTERRUPTED

    def live(self, gateway: str = WORKING) -> Dict[str, Any]:
        """The open round: phase, who arrived with how many bytes, who is awaited, when it is due (Unix seconds).

        `state` is the phase while a gateway works on the run; without one nobody is waited for.
        """
        state = self.coordinator
        open_round = state.phase in (COLLECTING, AGGREGATING)
        sizes = self.store.open_updates(self.run) if open_round else {}
        arrived = sorted(state.arrived) if open_round else []
        waiting = sorted(set(state.cohort) - set(arrived) - set(state.declined)) if state.phase == COLLECTING else []
        return {
            "phase": state.phase,
            "state": self.state(gateway),
            "at": self.last_event_at or None,
            "kind": self.task.stages.of(state.round) or self.task.stages.work,
            "round": state.round,
            "rounds": self.task.training.rounds,
            "reason": plain(state.reason, _REASON),
            "final": state.final,
            "attempt": state.attempt,
            "attempts": self.task.rounds.attempts,
            "opened_at": self.opened_at,
            "deadline_at": state.deadline if state.phase in (GATHERING, COLLECTING) and gateway == WORKING else None,
            "deadline_s": self.task.rounds.gather_s if state.phase == GATHERING else self.task.rounds.deadline_s,
            "quorum": self.task.rounds.quorum,
            "nodes_wanted": self.task.rounds.nodes,
            "needed": state.needed if open_round else self.task.rounds.quorum,
            "online": len(state.online),
            "joined": len(self.records()),
            "arrived": [{"node": node, "bytes": sizes.get(node)} for node in arrived],
            "awaited": [node for node in waiting if node in state.online],
            "absent": [node for node in waiting if node not in state.online],
            "bytes_up": sum(sizes.get(node, 0) for node in arrived),
            "lacking": shortfall(state) if gateway == WORKING else None,
        }

    def node_rows(self, presence: Dict[str, Dict[str, Any]], gateway: str = WORKING) -> List[Dict[str, Any]]:
        """One row a node. `presence`: what each said last over MQTT, where the dashboard hears it. `gateway`: see `state`."""
        figures = self.store.nodes(self.run)
        sizes = self.store.open_updates(self.run)
        rows = []
        asked = {name: said["waiting"][self.run] for name, said in presence.items() if self._asks(name, said)}
        for name in sorted({*self.nodes, *self.coordinator.declined, *asked}):
            member = self.nodes.get(name, Member())
            said = presence.get(name, {})
            process = {**figures.get(name, {}), **said.get("process", {})}
            rows.append(
                {
                    "node": name,
                    "state": ASKED if name in asked else self._state(name, gateway),
                    "reason": asked.get(name) or self._reason(name),
                    "records": member.records or None,
                    "updates": member.updates,
                    "answer_s": self._rounds.answers.get(name),
                    **self._rounds.standing.get(name, {}),
                    "joined_at": member.joined or None,
                    "seen_at": max(member.seen, said.get("at", 0.0)) or None,
                    "memory_mib": process.get("memory_mib"),
                    "bytes_open": sizes.get(name),
                    "bytes_sent": process.get("sent_bytes"),
                    "bytes_received": process.get("received_bytes"),
                    "labels": said.get("labels", {}),
                    "health": said.get("health", {}),
                }
            )
        return rows

    def _asks(self, node: str, said: Dict[str, Any]) -> bool:
        """Whether the node waits for its owner to let it take part."""
        known = node in self.coordinator.online or node in self.coordinator.declined
        return not known and self.run in (said.get("waiting") or {})

    def _state(self, node: str, gateway: str) -> str:
        state = self.coordinator
        if node in state.declined:
            return "declined"
        if not state.over and gateway != WORKING:
            return "unknown"  # nobody has looked since
        if node not in state.online:
            return "away"
        if state.objections.get(node):
            return "passed over"
        if state.over:
            return "done"
        if state.phase in (COLLECTING, AGGREGATING) and node in state.arrived:
            return "arrived"
        if state.phase == COLLECTING and node in state.cohort:
            return "training" if self.task.trains else "computing"
        return "waiting"

    def _reason(self, node: str) -> Optional[str]:
        state = self.coordinator
        reason = state.declined.get(node) or state.objections.get(node)
        return plain(reason) if reason else None

    def round_rows(self) -> List[Dict[str, Any]]:
        """The newest rounds with all figures and the time each ended, before them points of curves (rounds.py)."""
        return self._rounds.rows()

    def totals(self) -> Dict[str, Any]:
        """What all training rounds come to; `others`: what the release before and the evaluation after them do."""
        return {"rounds": self._rounds.done, **self._rounds.totals, "others": self._rounds.others}

    def scores(self, report: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
        """The newest figures of the model as rows of text (score_tables.page)."""
        known = {"metrics": (report or {}).get("metrics"), "per_round": self._rounds.scored()}
        return page(known, self.task.schema.classes)

    def summary(self, gateway: str = WORKING) -> Dict[str, Any]:
        """A line in the list of runs. `gateway`: see `state`."""
        if self._final is None or self._final["phase"] not in (FINISHED, FAILED) or not self.over:
            self._final = self._summarize()
        return {**self._final, "state": self.state(gateway)}

    def _summarize(self) -> Dict[str, Any]:
        last, privacy = self._rounds.last, self.task.privacy
        return {
            "run": self.run,
            "task": self.task.name,
            "training": training_number(self.run),
            "strategy": kind_of(task_to_dict(self.task)),
            "codec": self.task.travels_as,
            "phase": self.coordinator.phase,
            "reason": plain(self.coordinator.reason, _REASON),
            "rounds_done": self._rounds.done,
            "rounds": self.task.training.rounds,
            "nodes": len(self.records()),
            "epsilon": privacy.epsilon if privacy.on else None,
            "delta": privacy.delta if privacy.on else None,
            "accuracy": last.get("accuracy"),
            "auc": last.get("auc"),
            "loss": last.get("loss"),
            "bytes_up": self._rounds.totals["bytes_up"],
            "seconds": self._rounds.totals["seconds"],
            "last_event_at": self.last_event_at or None,
        }

    def about(self) -> Dict[str, Any]:
        return {
            "run": self.run,
            "name": self.task.name,
            "words": describe_task(self.task),
            "secret_sample": secret_sample(self.task),
        }
