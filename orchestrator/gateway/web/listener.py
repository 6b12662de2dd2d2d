"""What the dashboard hears over MQTT: of boards, and what nodes say of themselves. A bounded memory of both."""

import logging
import queue
import threading
import time
from typing import Any, Dict, List, Optional

from orchestrator.errors import NoBrokerError, WireError
from orchestrator.gateway.web.boards import Boards
from orchestrator.gateway.web.fleet import FleetBoards, Owner
from orchestrator.mishaps import sentence
from orchestrator.wire.address import client_id
from orchestrator.wire.board_records import read_forwarded
from orchestrator.wire.body import PRESENCE_BYTES, decode_body
from orchestrator.wire.cbor import NARROW
from orchestrator.wire.link import BrokerAddress, Connected, Event, Link, Message
from orchestrator.wire.plain import plain
from orchestrator.wire.presence import BESIDE, MOST_ENTRIES, stated_labels, stated_numbers, words
from orchestrator.wire.refusals import code_in, text_of
from orchestrator.wire.topics import Topics

log = logging.getLogger("edgeward.dashboard")

_MOST_NODES = 5000
_SILENT_S = 3600.0
"""Without a word for so long, a node gives its place to a new one."""
_MOST_RECORD_BYTES = 64 << 10
_MOST_SAID, _SAID_OF = 100, 1000
"""Messages passed over that are logged, and of further ones one in how many."""
OPEN_S = _AGAIN_S = 2.0
LISTENING, NOT_CONFIGURED = "listening", "not configured"
"""What `state` says besides what is wrong."""


def _remedy(broker: BrokerAddress) -> str:
    """A dashboard has no broker of its own."""
    if broker.tls and broker.cert_file is None:
        return (
            "Without --identity the broker is shown no certificate, and known by --ca-file or this system's authorities: add "
            "--identity DIR, of `edgeward node enroll` as fleet:NAME, or the gateway's"
        )
    if broker.tls:
        return "Is one running there, with a certificate of the authority of this identity?"
    return "Start one there, or name another with --broker; one with certificates is mqtts://HOST with --identity DIR"


class Listener:
    """A thread with a link of its own; without a broker it keeps trying and says so."""

    def __init__(self, broker: Optional[BrokerAddress], federation: str, owner: Optional[Owner] = None) -> None:
        """owner: of a fleet of boards; without it, what they say is not checked."""
        self._broker, self._federation = broker, federation
        self._topics = Topics(federation)
        self._lock = threading.Lock()
        self._boards = Boards()
        self._fleet = FleetBoards(owner, time.time())
        self._presence: Dict[str, Dict[str, Any]] = {}
        self._stop = threading.Event()
        self.state = "connecting" if broker is not None else NOT_CONFIGURED
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
            return self._boards.shown()

    def fleet(self, now: float) -> Dict[str, Any]:
        with self._lock:
            return self._fleet.shown(now, self.state, self.state == LISTENING)

    def presence(self) -> Dict[str, Dict[str, Any]]:
        with self._lock:
            return dict(self._presence)

    def _listen(self) -> None:
        """Until it is stopped: whatever goes wrong is logged and shown, and listening begins again."""
        while not self._stop.is_set():
            try:
                self._connect_and_serve()
            except Exception as error:
                log.error("listening begins again: %s", sentence(error))
                self._say(f"begins again after an error: {plain(error, 200)}")
            self._stop.wait(_AGAIN_S)

    def _connect_and_serve(self) -> None:
        assert self._broker is not None
        wanted = [self._topics.every_board, self._topics.every_board_presence, self._topics.every_presence]
        link = Link(self._broker, client_id("dashboard"), wanted)
        try:
            link.open(OPEN_S)
        except NoBrokerError as error:
            self._say(f"no broker at {self._broker}: {error.reason}. {_remedy(self._broker)}")
            return
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
            self.note(event, time.time())

    def note(self, event: Event, now: float) -> None:
        """What happened on the connection."""
        if isinstance(event, Message):
            self.take(event, now)
            return
        with self._lock:
            self._fleet.unheard(now)  # also as it begins: the broker says now whom it has, and no more than that
        self._say(LISTENING if isinstance(event, Connected) else f"lost the broker: {event.reason}")

    def _say(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.changes += 1

    def take(self, message: Message, now: float) -> None:
        """One message; what is neither a record nor presence is passed over."""
        board = self._topics.board(message.topic)
        there = self._topics.board(message.topic, "presence")
        sender = self._topics.sender(message.topic)
        name = board or there
        if name is not None:
            with self._lock:
                self._fleet.take(name, there is not None, message.payload, now, message.retained)
        if board is not None:
            self._take_record(board, message.payload, now)
        elif sender is not None and sender[1] == "presence":
            self._take_presence(sender[0], message.payload, now)

    def _pass_over(self, what: str, *about: object) -> None:
        self._passed_over += 1
        if self._passed_over <= _MOST_SAID or self._passed_over % _SAID_OF == 0:
            log.warning(f"passed over {what} (the %d. such message)", *about, self._passed_over)

    def _take_record(self, board: str, payload: bytes, now: float) -> None:
        record = read_forwarded(payload, _MOST_RECORD_BYTES)
        if record is None:
            self._pass_over("a message of board %s that is no record", board)
            return
        with self._lock:
            taken = self._boards.take(board, record, now)
            self.changes += int(taken)
        if not taken:
            self._pass_over("a record of board %s: too many boards are watched already", board)

    def _take_presence(self, node: str, payload: bytes, now: float) -> None:
        try:
            header, _ = decode_body(payload, PRESENCE_BYTES, NARROW)
            asked = [word for word in words(header) if word.get("kind") == "waiting"][:MOST_ENTRIES]
        except WireError as error:
            self._pass_over("presence of %s: %s", node, error)
            return
        if header.get("kind") == "gone":
            with self._lock:
                self._presence.get(node, {}).pop("waiting", None)
                self.changes += 1
            return
        said: Dict[str, Any] = {}
        if "labels" in header:
            said["labels"] = stated_labels(header)
        for table in ("process", "health"):
            if table in header:
                said[table] = stated_numbers(header, table)
        if header.get("kind") not in BESIDE:  # run -> why its owner is asked, until the next presence
            said["waiting"] = {plain(word.get("run")): text_of(code_in(word)) for word in asked}
        with self._lock:
            if node not in self._presence and not self._room_for_a_node(now):
                return
            self._presence[node] = {**self._presence.get(node, {}), **said, "at": now}
            self.changes += 1

    def _room_for_a_node(self, now: float) -> bool:
        if len(self._presence) < _MOST_NODES:
            return True
        longest_silent = min(self._presence, key=lambda name: float(self._presence[name]["at"]))
        if now - self._presence[longest_silent]["at"] < _SILENT_S:
            return False
        del self._presence[longest_silent]
        return True
