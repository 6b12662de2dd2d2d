"""One connection to a broker for all boards of a fleet: what each says, checked by its secret; what others write is counted."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, Optional, Union

from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.orders import checked
from orchestrator.boards.protocol import Record
from orchestrator.errors import BrokerError
from orchestrator.wire.address import client_id
from orchestrator.wire.board_records import GONE, RAW, read_record
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Link, Message
from orchestrator.wire.topics import Topics

OPEN_S = 10.0
_MOST_BYTES = 4096
_MOST_UNREAD = 1000
MOST_STRANGERS = 1000


@dataclass(frozen=True)
class Presence:
    """What the broker keeps of a board: `info` as the board last said it, and whether it is still connected.

    The broker can show an old one; an order `info` asks the board itself.
    """

    here: bool
    info: Optional[Record] = None
    gone: bool = False
    """Whether the broker says that it left; one that is neither here nor gone was never there, or is `awaited`."""
    awaited: bool = False
    """It was here when the connection to the broker ended; since then the broker has said nothing of it."""


class FleetLink:
    """`with` opens it. Records that bear a board's mark go to that board's queue."""

    def __init__(self, fleet: Fleet, broker: BrokerAddress) -> None:
        self.fleet = fleet
        self.foreign: Counter[str] = Counter()
        """Messages under a board's name without its mark: somebody else wrote them, or it was given other settings."""
        self.strangers: Counter[str] = Counter()
        """Messages of boards that are not in the fleet's file, by the first MOST_STRANGERS names: a broker can make up any."""
        self._topics = Topics(fleet.federation)
        self._broker = broker
        self._link = Link(broker, client_id("fleet"), [self._topics.every_board, self._topics.every_board_presence])
        self._lock = threading.Condition()
        self._unread: Dict[str, Deque[Record]] = {name: deque(maxlen=_MOST_UNREAD) for name in fleet.secrets}
        self._presence: Dict[str, Presence] = {}
        self._connected = False
        self._closing = False
        self._reader = threading.Thread(target=self._read, name="fleet", daemon=True)

    def __enter__(self) -> FleetLink:
        self._link.open(OPEN_S)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._link.close()
        self._reader.join(5.0)

    @property
    def connected(self) -> bool:
        return self._connected

    def send(self, board: str, message: bytes) -> None:
        """Raises BrokerError while the broker is away: who sends an order waits for its answer, so none is kept for later."""
        if not self._connected:
            raise BrokerError(f"{self._broker}: the connection is lost")
        self._link.publish(self._topics.board_down(board), message)

    def take(self, board: str, timeout_s: float) -> Optional[Record]:
        """The next record of a board on its topic `record`; None after `timeout_s` without one."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while not self._unread[board]:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._lock.wait(left)
            return self._unread[board].popleft()

    def presence(self, board: str) -> Presence:
        with self._lock:
            return self._presence.get(board, Presence(here=False))

    def _read(self) -> None:
        while not self._closing:
            try:
                event: Any = self._link.events.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(event, Message):
                self.read_message(event)
            elif isinstance(event, (Connected, Disconnected)):
                self.note_connection(event)

    def note_connection(self, event: Union[Connected, Disconnected]) -> None:
        """A broker that begins again may not know who left meanwhile: nobody is here until it says so."""
        with self._lock:
            for name, before in self._presence.items():
                awaited = before.here or before.awaited
                self._presence[name] = Presence(False, before.info, awaited=awaited)
            self._connected = isinstance(event, Connected)

    def read_message(self, message: Message) -> None:
        """Takes what came on a topic of boards; anything else is passed over."""
        board, presence = self._topics.board(message.topic), self._topics.board(message.topic, "presence")
        name = board or presence
        if name is None:
            return
        secret = self.fleet.secrets.get(name)
        if secret is None:
            if message.payload != GONE and (name in self.strangers or len(self.strangers) < MOST_STRANGERS):
                self.strangers[name] += 1
            return
        if presence is not None and message.payload == GONE:
            with self._lock:
                before = self._presence.get(name, Presence(here=False))
                self._presence[name] = Presence(False, before.info, gone=True)
            return
        right = checked(message.payload[:_MOST_BYTES], secret)
        record = None if right is None else _record(right)
        with self._lock:
            if record is None:
                self.foreign[name] += 1
            elif presence is None:
                self._unread[name].append(record)
            else:
                self._presence[name] = Presence(True, record)
            self._lock.notify_all()


def _record(message: bytes) -> Optional[Record]:
    content = read_record(message, _MOST_BYTES)
    if content is None or content["kind"] in RAW:
        return None
    boot, seq, model, t_us, kind, schema = (content.pop(key) for key in ("boot", "seq", "model", "t_us", "kind", "v"))
    return Record(boot, seq, model, t_us, kind, schema, content)
