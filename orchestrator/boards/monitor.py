"""Watch the records of several boards at once: one thread per port, which reconnects when its board goes away."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence

from orchestrator.boards.conversation import BAUD, BoardError, open_port
from orchestrator.boards.protocol import Record, RecordParser, RecordStats
from orchestrator.errors import UsageError
from orchestrator.mishaps import sentence
from orchestrator.wire.board_records import KINDS, RAW
from orchestrator.wire.bounds import twice
from orchestrator.wire.plain import plain

log = logging.getLogger("edgeward.monitor")

_RECONNECT_S = 0.5
_GATHER_BYTES, _GATHER_S = 1024, 0.003
"""A port with fewer bytes gets this long to bring more: many small reads would cost more than their records."""

OnRecord = Callable[[str, float, Record], None]
"""Called with the port, the time of arrival (Unix seconds) and the record; one call at a time, and none with raw samples."""


@dataclass
class PortStatus:
    port: str
    connected: bool = False
    problem: str = ""
    stats: RecordStats = field(default_factory=RecordStats)
    last: Dict[str, Record] = field(default_factory=dict)
    """The latest record of each kind."""
    acted: int = 0
    """How often rules of the board did something."""
    withheld: int = 0
    """Records of raw samples, which are counted and nothing else."""


class Monitor:
    """Runs from `with` to its end. `rate_ms`: how often boards are asked for metrics; 0 leaves them alone.

    Entering raises BoardError when a port cannot be opened; one that goes away later is waited for.
    """

    def __init__(
        self, ports: Sequence[str], on_record: Optional[OnRecord] = None, *, baud: int = BAUD, rate_ms: int = 1000
    ) -> None:
        for line in twice("ports", ports):
            raise UsageError(line)
        self.status = [PortStatus(port) for port in ports]
        self._on_record, self._baud, self._rate_ms = on_record, baud, rate_ms
        self._stop = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._threads: List[threading.Thread] = []
        self.failure: Optional[BaseException] = None
        """What on_record or a port's thread raised; watching has stopped then."""

    def __enter__(self) -> Monitor:
        devices: List[Any] = []
        try:
            for status in self.status:
                devices.append(open_port(status.port, self._baud))
        except BoardError:
            for device in devices:
                device.close()
            raise
        for status, device in zip(self.status, devices):
            thread = threading.Thread(target=self._watch, args=(status, device), name=status.port, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, seconds: float) -> bool:
        """Waits; False as soon as watching has stopped because on_record raised."""
        return not self._stop.wait(seconds)

    def _watch(self, status: PortStatus, device: Any) -> None:
        try:
            self._follow(status, device)
        except BaseException as error:  # a thread does not end alone: the user of this monitor gets it as `failure`
            self._fail(error)

    def _follow(self, status: PortStatus, device: Any) -> None:
        parser = RecordParser()
        status.stats = parser.stats
        while not self._stop.is_set():
            if device is None:
                device = self._reopen(status)
                continue
            try:
                self._serve(status, parser, device)
            except OSError as error:
                status.problem = f"went away: {plain(error)}"
            except Exception as error:  # what nobody expected of one port ends no other
                status.problem = f"begins again: {plain(sentence(error))}"
                log.error("%s begins again: %s", status.port, sentence(error))
            status.connected = False
            with suppress(Exception):  # of a device that is gone
                device.close()
            device = None
            self._stop.wait(_RECONNECT_S)
            parser.forget_pending()

    def _reopen(self, status: PortStatus) -> Any:
        try:
            return open_port(status.port, self._baud)
        except BoardError as error:
            status.problem = str(error)
            self._stop.wait(_RECONNECT_S)
            return None

    def _serve(self, status: PortStatus, parser: RecordParser, device: Any) -> None:
        status.connected, status.problem = True, ""
        self._introduce(device)
        while not self._stop.is_set():
            waiting = device.in_waiting
            if waiting and waiting < _GATHER_BYTES:
                time.sleep(_GATHER_S)
                waiting = device.in_waiting
            records = parser.feed(device.read(waiting or 1))
            for record in records:
                if record.kind in RAW:
                    status.withheld += 1
                    continue
                status.acted += record.kind == "acted"
                if record.kind in KINDS:  # those of another schema may be called anything
                    status.last[record.kind] = record
                self._hand_over(status.port, record)
            if any(record.kind == "boot" for record in records):  # last: it fails where the port has just gone
                self._introduce(device)

    def _hand_over(self, port: str, record: Record) -> None:
        if self._on_record is None:
            return
        with self._one_at_a_time:
            try:
                self._on_record(port, time.time(), record)
            except BaseException as error:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self._stop.set()

    def _introduce(self, device: Any) -> None:
        if self._rate_ms > 0:
            device.write(f"info\nmetrics rate {self._rate_ms}\n".encode("ascii"))
