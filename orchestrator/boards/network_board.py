"""One board over the network: the verbs of a serial port that an order can carry, with the same answers."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from cobs import cobs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError, NoAnswerError
from orchestrator.boards.fleet_link import FleetLink
from orchestrator.boards.orders import Numbers, sign_order
from orchestrator.boards.protocol import FRAME_UPDATE_BEGIN, RECORD_SCHEMA, Record, RecordStats

_POLL_S = 0.05
_PROVED = ("bad_signature", "flash_failed")
"""What a board refuses only after it saw that the order is of somebody with its secret."""
_HEAD_BYTES, _CRC_BYTES = 5, 2


class NetworkBoard(BoardClient):
    """As BoardClient. Commands become signed orders; of what the board says, only answers to these are read.

    `numbers` is shared by all boards of a process. An update is ordered by the digest of its header, and its chunks follow
    unsigned: what does not have that digest the board refuses.
    """

    def __init__(
        self,
        link: FleetLink,
        name: str,
        key: Ed25519PrivateKey,
        numbers: Numbers,
        *,
        timeout_s: float = 10.0,
        on_record: Optional[Callable[[Record], None]] = None,
    ) -> None:
        self._link, self._name, self._key, self._numbers = link, name, key, numbers
        self._first = self._ordered = numbers.next()
        self._taken: Set[Tuple[str, int]] = set()
        self._stats = RecordStats()
        self._begin_without_device(name, timeout_s, on_record)

    @property
    def stats(self) -> RecordStats:
        return self._stats

    def close(self) -> None:
        """The link stays open; it belongs to all boards."""

    def order(self, command: str) -> None:
        self._ordered = self._numbers.next()
        fleet = self._link.fleet
        secret = fleet.secrets[self._name]
        self._link.send(self._name, sign_order(self._key, fleet.federation, self._name, secret, self._ordered, command))

    def write(self, data: bytes) -> None:
        """A command line, as an order; a frame, as it is without what a serial line needs."""
        if not data.startswith(b"\0"):
            self.order(data.strip().decode("ascii"))
            return
        message = cobs.decode(data.strip(b"\0"))[:-_CRC_BYTES]
        if message[0] == FRAME_UPDATE_BEGIN:
            self.order(f"update {hashlib.sha256(message[_HEAD_BYTES:]).hexdigest()}")
        self._link.send(self._name, message)

    def read(self) -> List[Record]:
        """Answers to orders of this conversation, after at most 50 ms. BoardError for a refused order."""
        record = self._link.take(self._name, _POLL_S)
        if record is None:
            return []
        if record.schema != RECORD_SCHEMA:
            raise BoardError(f"{self.port}: records of schema {record.schema}, this edgeward knows {RECORD_SCHEMA}")
        if self.on_record is not None:
            self.on_record(record)
        if record.kind == "order" and record.fields.get("state") == "refused":
            return self._refused(record)
        forgotten = record.kind == "update" and record.fields.get("code") == "no_update"  # of a board that restarted
        if record.kind == "order" or (record.fields.get("order", 0) < self._first and not forgotten):
            return []
        if (record.boot, record.seq) in self._taken:
            return []  # said before: delivered twice, or by a broker that passes it for the answer to another order
        self._taken.add((record.boot, record.seq))
        return [record]

    def reboot(self) -> Dict[str, Any]:
        """Restarts the board; returns the info of the new boot, once it is connected again.

        The answer to the order may be lost with the connection: that the board says another boot is what counts.
        """
        before = self.info()["boot"]
        self.order("reboot")
        return self.restarted(before, self.timeout_s)

    def restarted(self, before: str, timeout_s: float) -> Dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.read()  # waits, and raises for a refused order
            seen = self._link.presence(self._name)
            if seen.here and seen.info is not None and seen.info.boot != before:
                info = self.info()
                if info["boot"] != before:  # a broker can show the presence of any boot
                    return info
        raise NoAnswerError(f"{self.port}: it has not been back for {timeout_s:g} s since it was restarted")

    def _refused(self, record: Record) -> List[Record]:
        code, reason = record.fields.get("code"), record.fields.get("reason")
        number = record.fields.get("order", record.fields.get("claimed", 0))
        if number != self._ordered:
            return []  # about somebody else's message
        if "order" not in record.fields and code not in _PROVED:
            return []  # about a copy, or what anybody made up with this number: the order itself may still be obeyed
        raise BoardError(f"{self.port}: order refused: {code}: {reason}")
