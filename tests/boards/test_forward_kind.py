"""What a monitor adds to the records it forwards, and what it leaves out of those it shows."""

import json
from typing import Any, List

import pytest

from orchestrator.boards import forward
from orchestrator.boards.monitor import PortStatus
from orchestrator.boards.prometheus import render
from orchestrator.boards.protocol import Record
from orchestrator.cli.monitor import _row
from orchestrator.wire.board_records import measured


class Broker:
    """Where a forwarder's link would publish."""

    unacknowledged = 0

    def __init__(self, *_: Any) -> None:
        self.said: List[Any] = []
        self.events: Any = None

    def open(self, _: float) -> None:
        pass

    def publish(self, _: str, payload: bytes) -> None:
        self.said.append(json.loads(payload))


def test_every_forwarded_record_says_whether_it_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard may begin to listen long after the board introduced itself."""
    monkeypatch.setattr(forward, "Link", Broker)
    monkeypatch.setattr(forward.MqttForward, "_look", lambda self: None)
    forwarder = forward.MqttForward("mqtt://127.0.0.1", "test", ["/dev/ttyUSB0"], enrolled=True)
    said = forwarder.link.said  # type: ignore[attr-defined]

    def write(boot: str, kind: str, **fields: Any) -> Any:
        forwarder.write("/dev/ttyUSB0", 1.0, Record(boot, 0, "m", 5, kind, 1, fields))
        return said[-1].get("simulated")

    assert write("b1", "metrics") is None
    assert write("b1", "info", simulated=True) is True
    assert write("b1", "metrics") is True
    assert write("b2", "metrics") is None, "another board may be at the port"
    assert write("b2", "boot", simulated=False) is False
    assert write("b2", "drift", psi=0.1) is False


def test_without_an_inference_there_is_no_latency() -> None:
    none = {"inferences": 0, "latency_count": 0, "latency_p50_us": 0, "latency_p99_us": 0, "errors": 0}
    some = {**none, "inferences": 3, "latency_count": 3}
    assert measured(none) == {"inferences": 0, "latency_count": 0, "errors": 0}
    assert measured(some) == some
    status = PortStatus("/dev/ttyUSB0", connected=True)
    status.last["metrics"] = Record("b", 0, "m", 5, "metrics", 1, none)
    assert _row(status)[3] == "-/-"
    assert "edgeward_latency_microseconds" not in render([status])
    status.last["metrics"] = Record("b", 0, "m", 5, "metrics", 1, some)
    assert _row(status)[3] == "0/0", "a chip may be that fast"
    assert "edgeward_latency_microseconds" in render([status])
