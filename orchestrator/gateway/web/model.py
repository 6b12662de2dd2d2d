"""Everything the dashboard shows, as plain data in named sections. One thread at a time reads; see app.py."""

import logging
import math
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from orchestrator.database import StoreError
from orchestrator.errors import EdgewardError
from orchestrator.gateway.audit import AUDIT_FILE
from orchestrator.gateway.history import STORE_NAME
from orchestrator.gateway.notes import note_of
from orchestrator.gateway.progress import describe
from orchestrator.gateway.running import held_since
from orchestrator.gateway.simulated import is_simulated
from orchestrator.gateway.web.audit_pages import AuditPages
from orchestrator.gateway.web.delivered import short
from orchestrator.gateway.web.epsilon import EpsilonCurves
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.node_rounds import node_rounds
from orchestrator.gateway.web.officer import officer_page
from orchestrator.gateway.web.runview import RunView
from orchestrator.gateway.web.standing import ENDED, FAILED, IDLE, PREPARING, RESTARTED, WORKING, Standing
from orchestrator.gateway.web.storeview import StoreView
from orchestrator.mishaps import sentence
from orchestrator.wire.plain import plain
from orchestrator.wire.process import peak_memory_mib, resident_memory_mib

log = logging.getLogger("edgeward.dashboard")

_LINES = 200
_KEPT = (
    "refused",
    "name_in_use",
    "passed_over",
    "shortened",
    "on_floor",
    "not_steered",
    "waiting",
    "broker_lost",
    "broker_restarted",
    "broker_silent",
    "broker_back",
    "trying_again",
    "export",
    "planned",
    "stray",
    "watching",
    "drift",
    "continued",
    "failed",
)
"""Progress the journal does not have: from the gateway that started this dashboard."""


class DashboardModel:
    """The state folder OUT of a gateway, running or finished."""

    def __init__(self, out: Path, federation: str, listener: Listener, now: Callable[[], float] = time.time) -> None:
        """`now`: the clock, Unix seconds."""
        self.out, self.federation, self.listener, self.now = out, federation, listener, now
        self.standing = Standing(out, now)
        self.may_stop: Callable[[], bool] = lambda: False  # whether a page may ask the gateway to stop (control.py)
        self.may_start: Callable[[], bool] = lambda: False  # and whether it may start it again once it is gone
        self.heard_at: Optional[float] = None
        """When the gateway last showed that it runs, as of the last `sections`; None where none is at work."""
        self.curves = EpsilonCurves()
        self.lines: Deque[Dict[str, Any]] = deque(maxlen=_LINES)
        self.counts: Counter[str] = Counter()
        self._store: Optional[StoreView] = None
        self._views: Dict[str, RunView] = {}
        self._unreadable: Dict[str, str] = {}  # run -> why
        self._up_to_date: List[RunView] = []  # those that can be read, as of `_changes` of the store
        self._changes: Optional[int] = None
        self._news: Dict[str, Tuple[int, float]] = {}
        """run -> (how many had news before, when the gateway began under which it had): seen since the store was opened."""
        self._delivered: Dict[str, Dict[str, Any]] = {}  # of runs with a report
        self._audit = AuditPages(out / AUDIT_FILE)

    def close(self) -> None:
        self.curves.close()

    def forget(self) -> None:
        """The store could not be read: it is opened again, since it may have been put right."""
        if self._store is not None:
            self._store.close()
        self._store, self._views, self._unreadable, self._changes, self._news = None, {}, {}, None, {}

    def hear(self, event: Dict[str, Any]) -> None:
        """A progress event of the gateway."""
        self.standing.hear(event)
        kind = str(event.get("event"))
        if kind == ENDED and event["how"] == FAILED:
            self.lines.append(
                {"at": self.now(), "kind": "failed", "text": plain(f"the gateway failed: {event['reason']}")}
            )
        self.counts[kind] += 1
        if kind in _KEPT:
            self.lines.append({"at": self.now(), "kind": kind, "text": describe(event) or kind})

    def runs(self) -> List[str]:
        store = self._open()
        return [] if store is None else store.runs()

    def view(self, run: str) -> Optional[RunView]:
        """The run up to date; None where the store does not have it. EdgewardError where this version cannot read it."""
        store = self._open()
        return None if store is None or run not in store.runs() else self._advanced(store, run)

    def _advanced(self, store: StoreView, run: str) -> RunView:
        """A run of the store."""
        if run in self._unreadable:
            raise EdgewardError(self._unreadable[run])
        try:
            if run not in self._views:
                self._views[run] = RunView(store, run)
            if self._views[run].advance() and self._changes is not None:
                self._news[run] = (
                    1 + max((count for count, _ in self._news.values()), default=0),
                    held_since(self.out),
                )
        except StoreError:
            raise  # the store as a whole, and perhaps not for long
        except (EdgewardError, KeyError, TypeError, ValueError) as error:  # of another version, or damaged
            self._unreadable[run] = plain(f"run {run} cannot be read by this version: {error}", 1000)
            log.error("%s (%s)", self._unreadable[run], sentence(error))
            raise EdgewardError(self._unreadable[run]) from error
        return self._views[run]

    def _readable(self) -> List[RunView]:
        """All runs up to date; they are read only after something was committed to the store."""
        store = self._open()
        if store is None:
            return []
        changes = store.changes()
        if changes != self._changes:
            self._up_to_date = []
            for run in store.runs():
                with suppress(EdgewardError):  # `summaries` says why
                    self._up_to_date.append(self._advanced(store, run))
            self._changes = changes
        return self._up_to_date

    def _open(self) -> Optional[StoreView]:
        path = self.store_path
        if self._store is None and path.exists():
            try:
                self._store = StoreView(path)
            except EdgewardError:
                if path.stat().st_size:  # an empty file is a store a moment before its tables are made
                    raise
        return self._store

    def current(self) -> Optional[RunView]:
        """The run something happened in last: as it was seen, since a clock may be set back, and else by its time."""
        return max(self._readable(), key=lambda view: (self._news_of(view)[0], view.last_event_at), default=None)

    def _news_of(self, view: RunView) -> Tuple[int, float]:
        return self._news.get(view.run, (0, 0.0))

    def sections(self) -> Dict[str, Any]:
        """What the live page follows: each section is sent when it changed."""
        view = self.current()
        stands = self._stands(view)
        self.heard_at = stands["heard_at"]
        page: Dict[str, Any] = {
            "gateway": self._gateway(stands),
            "boards": self.boards(),
            "runs": self._summaries(view, stands["state"]),
            "activity": self._activity(view),
        }
        if view is None:
            return {**page, **dict.fromkeys(("run", "live", "scores", "privacy")), "nodes": [], "rounds": []}
        return {**page, **self._run(view, stands["state"])}

    def run(self, view: RunView) -> Dict[str, Any]:
        return self._run(view, self._stands_towards(view)["state"])

    def node(self, view: RunView, node: str) -> Optional[Dict[str, Any]]:
        """The page of a node of a run; see node_rounds."""
        stands = self._stands_towards(view)
        rows = view.node_rows(self.listener.presence(), stands["state"])
        return node_rounds(view, node, rows, min(self.now(), stands["heard_at"] or math.inf))

    def _stands_towards(self, view: RunView) -> Dict[str, Any]:
        """How the gateway stands towards a run: it works on the newest alone."""
        current = self.current()
        return self._stands(current) if view is current else {"state": IDLE, "heard_at": None}

    def _run(self, view: RunView, gateway: str) -> Dict[str, Any]:
        return {
            "run": {**view.about(), "result": self._result(view.run)},
            "live": {**view.live(gateway), "totals": view.totals()},
            "nodes": view.node_rows(self.listener.presence(), gateway),
            "rounds": view.round_rows(),
            "scores": view.scores(self.report(view.run)),
            "privacy": self.curves.of(view),
        }

    def now_at_work(self) -> Tuple[str, str]:
        """(state of the gateway, the run it is in), as the store has it now; an empty name without a run."""
        view = self.current()
        return self._stands(view)["state"], view.run if view else ""

    def _stands(self, view: Optional[RunView]) -> Dict[str, Any]:
        if view is None:
            return self.standing.look(None, True)
        return self.standing.look(view.last_event_at, view.over, self._news_of(view)[1])

    def _gateway(self, stands: Dict[str, Any]) -> Dict[str, Any]:
        pid = stands["pid"]
        return {
            "federation": self.federation,
            "running": stands["state"] in (PREPARING, WORKING),
            "stoppable": self.may_stop() and stands["state"] == WORKING,
            "simulated": is_simulated(self.out),
            "restartable": self.may_start() and stands["state"] in RESTARTED,
            **{name: stands[name] for name in ("state", "since", "reason")},
            "memory_mib": round(resident_memory_mib(str(pid)), 1) if pid else None,
            "peak_memory_mib": round(peak_memory_mib(str(pid)), 1) if pid else None,
            "dashboard_memory_mib": round(resident_memory_mib(), 1),
        }

    def boards(self) -> Dict[str, Any]:
        return {"state": self.listener.state, "now": self.now(), "boards": self.listener.boards()}

    def fleet(self) -> Dict[str, Any]:
        """Boards that are on a network themselves, and their roll-outs; see FleetBoards.shown."""
        return {"federation": self.federation, **self.listener.fleet(self.now())}

    def summaries(self) -> List[Dict[str, Any]]:
        """One entry a run; of one that cannot be read its name, and why."""
        view = self.current()
        return self._summaries(view, self._stands(view)["state"])

    def _summaries(self, current: Optional[RunView], gateway: str) -> List[Dict[str, Any]]:
        notes = self._store.notes() if self._store is not None else {}
        found = {
            view.run: {
                **view.summary(gateway if view is current else IDLE),
                **self._short(view),
                **note_of(notes, view.run),
            }
            for view in self._readable()
        }
        unreadable = {run: {"run": run, "phase": "unreadable", "reason": why} for run, why in self._unreadable.items()}
        return [{**found, **unreadable}[run] for run in self.runs() if run in found or run in unreadable]

    def _short(self, view: RunView) -> Dict[str, Any]:
        """delivered.short of a run; kept once there is a report, which does not change."""
        if view.run not in self._delivered:
            report = self.report(view.run)
            if report is None:
                return short(view, None)
            self._delivered[view.run] = short(view, report)
        return self._delivered[view.run]

    def _activity(self, view: Optional[RunView] = None) -> List[Dict[str, Any]]:
        """Newest first."""
        lines = [*self.lines, *(view.activity if view else ())]
        return sorted(lines, key=lambda line: -line["at"])[:60]

    def _result(self, run: str) -> Optional[Dict[str, Any]]:
        """The parts of the run's report people ask for; None until its bundle, or its tables, are made."""
        found = self.report(run)
        if found is None:
            return None
        short = {name: found.get(name) for name in ("digest", "arena", "wire", "memory_mib", "privacy")}
        metrics = {
            engine: {name: figures.get(name) for name in ("accuracy", "auc")}
            for engine, figures in (found.get("metrics") or {}).items()
        }
        analysis = found.get("analysis")
        made = None if analysis is None else {"folder": analysis["folder"], "tables": len(analysis["tables"])}
        return {**short, "metrics": metrics or None, "analysis": made}

    @property
    def store_path(self) -> Path:
        return self.out / STORE_NAME

    def report(self, run: str) -> Optional[Dict[str, Any]]:
        """What result.json said of a run; None until its bundle is made."""
        return self._store.report(run) if self._store is not None else None

    def statement(self, view: RunView) -> Dict[str, Any]:
        """The officer's page of a run; see officer.py."""
        return officer_page(view, self.federation, self.report(view.run), self.curves.statement(view))

    def audit(self, limit: int, before: Optional[int] = None) -> Dict[str, Any]:
        """A page of OUT/audit.jsonl; see AuditPages.page."""
        return self._audit.page(limit, before)
