"""Raw samples end with `edgeward board record`: no monitor, broker, file or gateway gets them, and no board goes on alone."""

import json
import queue
import time
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from orchestrator.boards import forward
from orchestrator.boards.conversation import open_port
from orchestrator.boards.exporters import open_file
from orchestrator.boards.monitor import Monitor
from orchestrator.boards.protocol import Record, crc16
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli import monitor as command
from orchestrator.gateway.retraining import _record
from orchestrator.gateway.web.listener import Listener
from orchestrator.wire.board_records import KINDS, read_forwarded, read_record
from orchestrator.wire.link import Message

pytestmark = pytest.mark.slow

HEAD = {"v": 1, "boot": "0a0b0c0d", "seq": 1, "model": None, "t_us": 5}
SAMPLES = {**HEAD, "kind": "samples", "first_sample": 0, "of_channels": 1, "values": "01020304"}


class Broker:
    """Where a forwarder's link would publish."""

    unacknowledged = 0

    def __init__(self, *_: Any) -> None:
        self.said: List[bytes] = []
        self.events: queue.Queue[Any] = queue.Queue()

    def open(self, _: float) -> None:
        pass

    def publish(self, _: str, payload: bytes) -> None:
        self.said.append(payload)

    def flush(self, _: float) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_monitor_passes_on_no_sample_and_a_board_that_hears_nothing_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `edgeward board record` was killed, and a monitor opened the port while the board still sent."""
    monkeypatch.setattr(forward, "Link", Broker)
    samples = tmp_path / "played.i16"
    samples.write_bytes(np.arange(30_000, dtype="<i2").tobytes())
    files = [open_file(tmp_path / name) for name in ("r.jsonl", "r.csv", "r.parquet")]
    seen: List[Record] = []
    with VirtualBoard(samples=samples, recording=True) as board:
        forwarder = forward.MqttForward("mqtt://127.0.0.1", "f", [board.port], enrolled=True)

        def take(port: str, at: float, record: Record) -> None:
            for exporter in (*files, forwarder):
                exporter.write(port, at, record)
            seen.append(record)

        device = open_port(board.port)
        device.write(b"record file 500 1 30000\n")
        device.close()
        with Monitor([board.port], take, rate_ms=0) as monitor:
            deadline = time.monotonic() + 60
            while not [record for record in seen if record.kind == "recorded"]:
                assert monitor.failure is None, monitor.failure
                assert time.monotonic() < deadline, "the board went on without a host"
                time.sleep(0.05)
    (ended,) = [record for record in seen if record.kind == "recorded"]
    assert ended.fields["why"] == "silence"
    assert ended.fields["samples"] < 30_000
    (status,) = monitor.status
    assert status.withheld > 0
    assert status.stats.received == status.withheld + len(seen)
    for exporter in (*files, forwarder):
        exporter.close()
    published = b"".join(forwarder.link.said)  # type: ignore[attr-defined]
    assert b"recorded" in published
    from pyarrow import parquet

    kinds = parquet.read_table(tmp_path / "r.parquet")["kind"].to_pylist()
    for text in (
        published,
        (tmp_path / "r.jsonl").read_bytes(),
        (tmp_path / "r.csv").read_bytes(),
        repr(kinds).encode(),
    ):
        assert b"first_sample" not in text
        assert b"samples'" not in text
    command.summarize(monitor, [], to_stderr=False)
    assert "of raw samples, which a monitor does not show" in capsys.readouterr().out


def test_a_forwarder_takes_none_whatever_hands_it_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "Link", Broker)
    forwarder = forward.MqttForward("mqtt://127.0.0.1", "f", ["/dev/ttyUSB0"], enrolled=True)
    for schema in (1, 2):
        with pytest.raises(ValueError, match="does not leave this machine"):
            forwarder.write("/dev/ttyUSB0", 1.0, Record("0a0b0c0d", 1, None, 5, "samples", schema, {"values": "0102"}))
    assert not forwarder.link.said  # type: ignore[attr-defined]


def test_a_gateway_keeps_none_that_some_monitor_sends() -> None:
    payload = json.dumps(SAMPLES).encode()
    assert read_record(payload, 1000) is not None, "from a board's own port it is a record"
    assert read_forwarded(payload, 1000) is None
    assert "values" not in _record(payload)
    listener = Listener(None, "f")
    listener.take(Message("edgeward/1/f/board/ttyusb0/record", payload), 1.0)
    assert "01020304" not in json.dumps(listener.boards(), default=str)


@pytest.mark.parametrize("digits", ["", "012", "0102f", "zz00", "0102" * 97])
def test_a_record_of_samples_has_whole_values_and_no_more_than_a_board_sends(digits: str) -> None:
    assert read_record(json.dumps({**SAMPLES, "values": digits}).encode(), 10_000) is None


def test_values_are_no_field_of_another_kind_beyond_a_text() -> None:
    """An unknown field is at most a short text; what `samples` has for its values opens no way round that."""
    for kind in set(KINDS) - {"samples"}:
        text = json.dumps({**HEAD, "kind": kind, "values": "01" * 300}).encode()
        assert read_record(text, 10_000) is None
        assert read_forwarded(text, 10_000) is None


def test_lines_of_samples_are_counted_by_a_monitor_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(SAMPLES).encode()
    sent = [b"@ew " + text + b"*%04x\r\n" % crc16(text)]
    seen: List[Record] = []

    class Ended(BaseException):
        pass

    class Device:
        in_waiting = 2048

        def read(self, _: int) -> bytes:
            if not sent:
                raise Ended
            return sent.pop()

        def close(self) -> None:
            pass

    monkeypatch.setattr("orchestrator.boards.monitor.open_port", lambda *_: Device())
    with Monitor(["p"], lambda port, at, record: seen.append(record), rate_ms=0) as monitor:
        while monitor.wait(0.01):
            pass
    assert (monitor.status[0].withheld, seen, monitor.status[0].last) == (1, [], {})
