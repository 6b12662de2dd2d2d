"""How a gateway stands: at work, ended and how, or gone without a word. From what it says over its channel, and from its lock.

The store alone cannot tell: a run whose gateway was killed looks in it as it did at the last event.
"""

import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from orchestrator.gateway.running import held_since, holder
from orchestrator.wire.plain import plain
from orchestrator.wire.process import is_stopped

ALIVE = "alive"
"""Event by which a gateway says that it is there, every ALIVE_S."""
ALIVE_S = 3.0
ENDED = "ended"
"""Event by which it says how it ended: `how` (one of ENDS) and `reason`."""
FINISHED, FAILED, STOPPED = "finished", "failed", "stopped"
ENDS = (FINISHED, FAILED, STOPPED)

PREPARING, WORKING, INTERRUPTED, IDLE = "preparing", "working", "interrupted", "idle"
"""At work before anything happened in a run; in a run; gone with a run unfinished; gone, with nothing left to do."""
RESTARTED = (FAILED, STOPPED, INTERRUPTED)
"""States of a gateway that is gone and was not done: the same command goes on."""
STARTING = "starting"
"""State of an unfinished run whose gateway began again, and has not come to it yet."""

_REASON = 2000


class Standing:
    """Of the gateway of the folder `out`. `hear` is for a dashboard that is its child; `now` gives Unix seconds."""

    def __init__(self, out: Path, now: Callable[[], float] = time.time) -> None:
        self._out, self._now = out, now
        self._heard_at: Optional[float] = None
        self._ended: Optional[Dict[str, Any]] = None
        self._gone_at: Optional[float] = None
        self._stopped_at: Optional[float] = None

    def hear(self, event: Dict[str, Any]) -> None:
        """Any progress event."""
        self._heard_at = self._now()
        if event.get("event") == ENDED and event.get("how") in ENDS:
            self._ended = {"how": event["how"], "reason": plain(event.get("reason", ""), _REASON), "at": self._now()}

    def gone(self) -> None:
        """The channel is closed: the gateway's process has ended, or is about to."""
        self._gone_at = self._now()

    @property
    def ended(self) -> Optional[str]:
        """How it said it ended; None while it did not."""
        return self._ended["how"] if self._ended else None

    def look(self, last_event_at: Optional[float], over: bool, news_under: float = 0.0) -> Dict[str, Any]:
        """state, since, reason and heard_at (None where no gateway is at work), with the newest run as the store has it.

        last_event_at: None without a run. over: whether that run is finished or failed. news_under: when the gateway began that
        was at work as something was seen to happen in the run, whatever time the event is of; 0.0 where nothing was.
        """
        pid, began = holder(self._out), held_since(self._out)
        another = pid is not None and began > max(self._gone_at or 0.0, self._ended["at"] if self._ended else 0.0)
        if self._ended is not None and not another:
            return self._shown(self._ended["how"], self._ended["at"], self._ended["reason"])
        if pid is None or (self._gone_at is not None and not another):
            state = IDLE if over or last_event_at is None else INTERRUPTED
            return self._shown(state, last_event_at)
        came_to_it = last_event_at is not None and (last_event_at >= began or news_under == began)
        state = WORKING if came_to_it else PREPARING
        return {**self._shown(state, began), "pid": pid or None, "heard_at": self._heard(pid)}

    def _heard(self, pid: int) -> float:
        """When it last showed that it runs. Seen from another process, its time is now unless it is stopped."""
        if self._heard_at is not None and self._gone_at is None:
            return self._heard_at
        if pid and is_stopped(pid):
            self._stopped_at = self._stopped_at or self._now()
            return self._stopped_at
        self._stopped_at = None
        return self._now()

    def _shown(self, state: str, since: Optional[float], reason: str = "") -> Dict[str, Any]:
        return {"state": state, "since": since, "reason": reason, "pid": None, "heard_at": None}
