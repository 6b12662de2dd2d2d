"""Forwards records to the gateway over MQTT: topic edgeward/1/FEDERATION/board/NAME/record, one JSON object a message."""

from __future__ import annotations

import queue
import re
from typing import Dict, Optional, Sequence, Tuple, Union

from orchestrator.boards.audience import Audience
from orchestrator.boards.exporters import json_line
from orchestrator.boards.protocol import Record
from orchestrator.errors import UsageError
from orchestrator.wire.address import client_id
from orchestrator.wire.board_records import RAW
from orchestrator.wire.link import BrokerAddress, Disconnected, Link
from orchestrator.wire.plain import many
from orchestrator.wire.topics import Topics, check_name

OPEN_S = 10.0
"""How long a broker has to answer."""
_CLOSE_S = 5.0
_MOST_UNDER_WAY = 500
"""Records a broker that stalls has not acknowledged: further ones are dropped."""


class MqttForward:
    """Publishes at QoS 1. While the broker is away or stalls, records are counted in `dropped`, not piled up in memory.

    A broker accepts records that nobody reads: the log says when no gateway of the federation is seen there. `enrolled`: the
    broker shows presence by certificate, and a monitor's may read none; whether records arrive is then for the gateway to say.
    """

    def __init__(
        self, broker: Union[str, BrokerAddress], federation: str, ports: Sequence[str], enrolled: bool = False
    ) -> None:
        address = BrokerAddress.parse(broker) if isinstance(broker, str) else broker
        topics = Topics(federation)
        self._topics: Dict[str, str] = {}
        for port in ports:
            topic = topics.board_record(board_name(port))
            if topic in self._topics.values():
                raise UsageError(
                    f"two ports are called {board_name(port)}: give them other names, as links for example"
                )
            self._topics[port] = topic
        self._simulated: Dict[str, Tuple[str, Optional[bool]]] = {}  # port -> (boot, whether simulated)
        self.forwarded = 0
        self.dropped = 0
        self._connected = True
        self.link = Link(address, client_id("monitor"), ())
        self.link.open(OPEN_S)
        self._audience = None if enrolled else Audience(address, federation)

    def write(self, port: str, received_at: float, record: Record) -> None:
        """Publishes a record. ValueError for one of raw samples, which a monitor hands over to nobody."""
        if record.kind in RAW:
            raise ValueError(f"{port}: a record of raw samples does not leave this machine")
        more = self._kind(port, record)
        self._look()
        if not self._connected or self.link.unacknowledged >= _MOST_UNDER_WAY:
            self.dropped += 1
            return
        self.link.publish(self._topics[port], json_line(port, received_at, record, **more).encode())
        self.forwarded += 1

    def _kind(self, port: str, record: Record) -> Dict[str, bool]:
        """Whether the board is simulated, for records that do not say it: who begins to listen now does not know."""
        boot, simulated = self._simulated.get(port, ("", None))
        if boot != record.boot:
            simulated = None  # another board, perhaps, until it says what it is
        simulated = record.fields.get("simulated", simulated)
        self._simulated[port] = (record.boot, simulated)
        return {} if simulated is None else {"simulated": simulated}

    def _look(self) -> None:
        while True:
            try:
                event = self.link.events.get_nowait()
            except queue.Empty:
                return
            self._connected = not isinstance(event, Disconnected)

    def flush(self) -> None:
        """What is published goes out at once; looks whether anybody reads it."""
        if self._audience is not None:
            self._audience.look()

    def summary(self) -> str:
        unheard = "" if self._audience is None else self._audience.summary()
        return f"{many(self.forwarded, 'record')} forwarded, {self.dropped} not, because the broker was away or too slow{unheard}"

    def close(self) -> None:
        """Waits a few seconds for what is under way."""
        if self._audience is not None:
            self._audience.close()
        if self._connected:
            self.link.flush(_CLOSE_S)
        self.link.close()


def board_name(port: str) -> str:
    """What a port is called in topics: the last part of its path, such as ttyusb0, or pts-3 of a pseudo-terminal."""
    short = re.sub(r"^/dev/(serial/by-id/)?", "", port).lower()
    name = re.sub(r"[^a-z0-9]+", "-", short).strip("-")[-64:].strip("-")
    return check_name(name, f"the name of port {port}")
