"""What the dashboard hears over MQTT: records of boards, and what nodes say of themselves. A bounded memory of both."""

import logging
import math
import queue
import secrets
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional

from orchestrator.errors import BrokerError, WireError
from orchestrator.wire.body import PRESENCE_BYTES, decode_body
from orchestrator.wire.cbor import NARROW
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Link, Message
from orchestrator.wire.plain import plain, plain_fields
from orchestrator.wire.records import read_object
from orchestrator.wire.refusals import code_in, text_of
from orchestrator.wire.topics import Topics

log = logging.getLogger("edgeward.dashboard")

HISTORY = 240
"""Points kept of each board."""
_MOST_BOARDS, _MOST_NODES = 500, 5000
_MOST_RECORD_BYTES = 64 << 10
_MOST_SAID, _SAID_OF = 100, 1000
"""Messages passed over that are logged, and of further ones one in how many."""
_CHARTED = ("latency_p50_us", "latency_p99_us", "inferences", "psi")
_SHOWN_KINDS = ("boot", "info", "model", "metrics", "drift", "detect", "selftest", "error")


class Board:
    """Last records and a short history of one board."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received = self.lost = self.boots = 0
        self.last: Dict[str, Dict[str, Any]] = {}
        self.seen_at = 0.0
        self.model: Optional[str] = None
        self.simulated: Optional[bool] = None
        self.history: Deque[Dict[str, Any]] = deque(maxlen=HISTORY)
        self._boot: Optional[str] = None
        self._next_seq = 0

    def take(self, record: Dict[str, Any], now: float) -> None:
        kind = record.get("kind")
        if not isinstance(kind, str):
            return
        self.received += 1
        self.seen_at = now
        self._count(record.get("boot"), record.get("seq"))
        model = record.get("model")
        if kind != "error":  # an error about a slot carries the digest of the model it refused
            self.model = model if isinstance(model, str) else None
        if isinstance(record.get("simulated"), bool):
            self.simulated = record["simulated"]
        if kind in _SHOWN_KINDS:
            self.last[kind] = record
        charted = {name: record[name] for name in _CHARTED if _number(record.get(name))}
        if kind in ("metrics", "drift") and charted:
            self.history.append({"at": now, **charted})

    def _count(self, boot: Any, seq: Any) -> None:
        if not isinstance(boot, str) or type(seq) is not int:
            return
        if boot != self._boot:
            self.boots, self._boot = self.boots + 1, boot
        elif seq > self._next_seq:
            self.lost += seq - self._next_seq
        self._next_seq = seq + 1

    def shown(self) -> Dict[str, Any]:
        known = {**self.last.get("boot", {}), **self.last.get("info", {}), **self.last.get("model", {})}
        return {
            "board": self.name,
            "model": self.model,
            "simulated": self.simulated,
            "seen_at": self.seen_at,
            "received": self.received,
            "lost": self.lost,
            "boots": self.boots,
            "about": {k: known.get(k) for k in ("chip", "engine", "firmware", "name", "slot", "state")},
            "metrics": self.last.get("metrics", {}),
            "drift": self.last.get("drift", {}),
            "error": self.last.get("error", {}),
            "history": list(self.history),
        }


class Listener:
    """A thread with a link of its own; without a broker it keeps trying and says so."""

    def __init__(self, broker: Optional[BrokerAddress], federation: str) -> None:
        self._broker, self._federation = broker, federation
        self._topics = Topics(federation)
        self._lock = threading.Lock()
        self._boards: Dict[str, Board] = {}
        self._presence: Dict[str, Dict[str, Any]] = {}
        self._stop = threading.Event()
        self.state = "connecting" if broker is not None else "not configured"
        self.changes = 0
        self._passed_over = 0
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)

    def start(self) -> None:
        if self._broker is not None:
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def boards(self) -> List[Dict[str, Any]]:
        with self._lock:
            return [self._boards[name].shown() for name in sorted(self._boards)]

    def presence(self) -> Dict[str, Dict[str, Any]]:
        with self._lock:
            return dict(self._presence)

    def _listen(self) -> None:
        assert self._broker is not None
        wanted = [self._topics.every_board, self._topics.every_presence]
        while not self._stop.is_set():
            link = Link(self._broker, f"edgeward-dashboard-{secrets.token_hex(4)}", wanted)
            try:
                link.open(2.0)
            except BrokerError as error:
                self._say(f"no broker: {error}")
                self._stop.wait(2.0)
                continue
            try:
                self._serve(link)
            finally:
                link.close()

    def _serve(self, link: Link) -> None:
        while not self._stop.is_set():
            try:
                event = link.events.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(event, Connected):
                self._say("listening")
            elif isinstance(event, Disconnected):
                self._say(f"lost the broker: {event.reason}")
            else:
                self.take(event, time.time())

    def _say(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.changes += 1

    def take(self, message: Message, now: float) -> None:
        """One message; what is neither a record nor presence is passed over."""
        board = self._topics.board(message.topic)
        sender = self._topics.sender(message.topic)
        if board is not None:
            self._take_record(board, message.payload, now)
        elif sender is not None and sender[1] == "presence":
            self._take_presence(sender[0], message.payload, now)

    def _pass_over(self, what: str, *about: object) -> None:
        self._passed_over += 1
        if self._passed_over <= _MOST_SAID or self._passed_over % _SAID_OF == 0:
            log.warning(f"passed over {what} (the %d. such message)", *about, self._passed_over)

    def _take_record(self, board: str, payload: bytes, now: float) -> None:
        record = read_object(payload, _MOST_RECORD_BYTES)
        if record is None:
            self._pass_over("a message of board %s that is no record", board)
            return
        with self._lock:
            if board not in self._boards and len(self._boards) >= _MOST_BOARDS:
                return
            self._boards.setdefault(board, Board(board)).take(record, now)
            self.changes += 1

    def _take_presence(self, node: str, payload: bytes, now: float) -> None:
        try:
            header, _ = decode_body(payload, PRESENCE_BYTES, NARROW)
        except WireError as error:
            self._pass_over("presence of %s: %s", node, error)
            return
        with self._lock:
            if header.get("kind") == "gone":
                self._presence.get(node, {}).pop("waiting", None)
                return
            if node not in self._presence and len(self._presence) >= _MOST_NODES:
                return
            said = {
                name: plain_fields(header[name], 100)
                for name in ("process", "labels", "health")
                if isinstance(header.get(name), dict)
            }
            # Whose owner is to be asked: of which run, and why. The next presence says that it is no longer so.
            asked = {"run": plain(header.get("run")), "reason": text_of(code_in(header))}
            waiting = asked if header.get("kind") == "waiting" else None
            self._presence[node] = {**self._presence.get(node, {}), **said, "waiting": waiting, "at": now}
            self.changes += 1


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
