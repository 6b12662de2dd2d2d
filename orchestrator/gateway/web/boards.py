"""The last records and a short history of every board, bounded in boards, bytes and time."""

import json
from collections import deque
from typing import Any, Deque, Dict, List, Optional

from orchestrator.wire.board_records import measured
from orchestrator.wire.sequence import Sequence

HISTORY = 240
"""Points kept of a board, while few are watched."""
MOST_BOARDS = 500
MOST_SHOWN_BYTES = 6 << 10
"""Of one board's last records together: twice what firmware sends."""
_MOST_POINTS, _LEAST_HISTORY = 24_000, 24
SILENT_S = 15.0
"""A board that says nothing for so long, or for three times as long as it usually does, is silent."""
_GONE_S = 600.0
"""Without a record for so long, it gives its place to a new one."""
_CHARTED = ("latency_p50_us", "latency_p99_us", "inferences", "psi")
_SHOWN_KINDS = ("boot", "info", "model", "metrics", "drift", "detect", "acted", "selftest", "error")


class Board:
    """Last records and a short history of one board. Takes typed records (wire/board_records.py) only."""

    def __init__(self, name: str, points: int = HISTORY) -> None:
        self.name = name
        self.received = 0
        self._sequence = Sequence()
        self.last: Dict[str, Dict[str, Any]] = {}
        self.seen_at = 0.0
        self.model: Optional[str] = None
        self.simulated: Optional[bool] = None
        self.history: Deque[Dict[str, Any]] = deque(maxlen=points)
        self._points = 0
        self._every_s = 0.0
        self._kind_of: Optional[str] = None  # the boot `simulated` is about
        self._bytes: Dict[str, int] = {}

    def keep_points(self, points: int) -> None:
        if self.history.maxlen != points:
            self.history = deque(self.history, maxlen=points)

    def take(self, record: Dict[str, Any], now: float) -> None:
        kind = record["kind"]
        record = measured(record) if kind == "metrics" else record
        self._note_pace(now)
        self.received += 1
        self.seen_at = now
        if record.get("boot", self._kind_of) != self._kind_of:
            self._kind_of, self.simulated = record["boot"], None  # another board, perhaps, until it says what it is
        self.simulated = record.get("simulated", self.simulated)
        if "boot" in record and "seq" in record:
            self._sequence.take(record["boot"], record["seq"])
        if kind != "error":  # an error about a slot carries the digest of the model it refused
            self.model = record.get("model")
        if kind in _SHOWN_KINDS:
            self._show(kind, record)
        charted = {name: record[name] for name in _CHARTED if name in record}
        if kind in ("metrics", "drift") and charted:
            self.history.append({"n": self._points, "at": now, **charted})
            self._points += 1

    def _note_pace(self, now: float) -> None:
        if self.received:
            passed = max(0.0, now - self.seen_at)
            self._every_s = passed if self.received == 1 else 0.8 * self._every_s + 0.2 * passed

    @property
    def silent_s(self) -> float:
        """After so long without a record it is silent: some times the pace it had, since a monitor may ask seldom."""
        return max(SILENT_S, 3 * self._every_s)

    def _show(self, kind: str, record: Dict[str, Any]) -> None:
        for store in (self.last, self._bytes):
            store.pop(kind, None)  # the kind heard last stands last
        self.last[kind], self._bytes[kind] = record, len(json.dumps(record))
        while sum(self._bytes.values()) > MOST_SHOWN_BYTES:
            oldest = next(iter(self.last))
            del self.last[oldest], self._bytes[oldest]

    def shown(self) -> Dict[str, Any]:
        known = {**self.last.get("boot", {}), **self.last.get("info", {}), **self.last.get("model", {})}
        return {
            "board": self.name,
            "model": self.model,
            "simulated": self.simulated,
            "seen_at": self.seen_at,
            "silent_s": self.silent_s,
            "received": self.received,
            "lost": self._sequence.lost,
            "boots": self._sequence.boots,
            "about": {k: known.get(k) for k in ("chip", "engine", "firmware", "name", "slot", "state")},
            "metrics": self.last.get("metrics", {}),
            "drift": self.last.get("drift", {}),
            "error": self.last.get("error", {}),
            "history": list(self.history),
        }


class Boards:
    """MOST_BOARDS at most; the more there are, the shorter the history of each."""

    def __init__(self) -> None:
        self._boards: Dict[str, Board] = {}

    def take(self, name: str, record: Dict[str, Any], now: float) -> bool:
        """False where the record is of one board too many."""
        if name not in self._boards and not self._make_room(now):
            return False
        if name not in self._boards:
            self._boards[name] = Board(name)
            points = max(_LEAST_HISTORY, min(HISTORY, _MOST_POINTS // len(self._boards)))
            for board in self._boards.values():
                board.keep_points(points)
        self._boards[name].take(record, now)
        return True

    def _make_room(self, now: float) -> bool:
        if len(self._boards) < MOST_BOARDS:
            return True
        longest_silent = min(self._boards.values(), key=lambda board: board.seen_at)
        if now - longest_silent.seen_at < _GONE_S:
            return False
        del self._boards[longest_silent.name]
        return True

    def shown(self) -> List[Dict[str, Any]]:
        return [self._boards[name].shown() for name in sorted(self._boards)]
