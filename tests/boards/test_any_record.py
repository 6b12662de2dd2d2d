"""Whatever a board sends: parser, monitor, exporters and dashboard go on, and what they write is valid and printable.

EDGEWARD_BOARD_RECORDS says how many records (with `-s --timeout 0`, which shows memory); benchmarks/results/board_records.md
has a run of 1,000,000.
"""

import csv
import io
import json
import os
import queue
import random
import time
from pathlib import Path
from typing import Any, List

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from orchestrator.boards.exporters import Exporter, open_file
from orchestrator.boards.forward import MqttForward, board_name
from orchestrator.boards.monitor import Monitor, PortStatus
from orchestrator.boards.prometheus import render
from orchestrator.boards.protocol import Record, crc16
from orchestrator.cli.monitor import _table
from orchestrator.cli.screen import console
from orchestrator.exposition import Page
from orchestrator.gateway.retraining import _record
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.metrics import _add_boards
from orchestrator.gateway.web.parts import to_json
from orchestrator.wire.board_records import KINDS, RAW
from orchestrator.wire.link import Message
from orchestrator.wire.process import resident_memory_mib

RECORDS = int(os.environ.get("EDGEWARD_BOARD_RECORDS", "8000"))
LOOK_EVERY, STEPS = 100, 8
PORT = "/dev/ttyUSB0"
TEXTS = [
    "", "ready", "x" * 32, "x" * 600, "é", "[/foo]", "[link=http://a]b[/link]", "=1+1", "@SUM(1)", "+1", "-1", "a,\"b\"",
    "0a0b0c0d", "\x1b[2J", "\n", "\r", "\t", "\x85", "\u2028", "\u202e", "\ud800", "\x00", '1\nedgeward_board_up{port="fake"} 0',
]  # fmt: skip
NUMBERS = ["0", "1", "-1", "7", "4294967295", "4294967296", "9223372036854775807", "18446744073709551615", "9" * 400]
NUMBERS += ["9" * 5000, "0.25", "1.5", "1e5", "1e300", "1e400", "-1e400", "NaN", "Infinity", "-0.0", "true", "null"]
NAMES = ["board_up", "board_info", "records_total", "Odd", "psi", "x", "port", "v", "seq", "latency_microseconds"]
HEAD = {"v": "1", "boot": '"0a0b0c0d"', "seq": "1", "model": '"0123456789abcdef"', "t_us": "5"}


def any_value(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(NUMBERS)
    if roll < 0.85:
        return json.dumps(rng.choice(TEXTS))
    if roll < 0.99:
        return f"[{','.join(rng.choice(NUMBERS[:5]) for _ in range(rng.randrange(70)))}]"
    return rng.choice(["{}", '{"a":{}}', "[" * 5000 + "]" * 5000])


def likely_value(rng: random.Random, kind: str, name: str) -> str:
    """One of the right type, most times."""
    for _ in range(99):
        text = any_value(rng)
        try:
            if KINDS[kind][name](json.loads(text)):
                return text
        except (ValueError, RecursionError):
            continue
    return text


def any_record(rng: random.Random, seq: int) -> bytes:
    kind = rng.choice(list(KINDS))
    fields = {**HEAD, "seq": str(seq), "kind": json.dumps(kind)}
    fields.update((name, likely_value(rng, kind, name)) for name in KINDS[kind] if rng.random() < 0.9)
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        name = rng.choice([*fields, *NAMES, rng.choice(TEXTS)])
        fields[name] = json.dumps(rng.choice(list(KINDS))) if name == "kind" else any_value(rng)
    return ("{" + ",".join(f"{json.dumps(name)}:{held}" for name, held in fields.items()) + "}").encode()


def damaged(rng: random.Random, line: bytes) -> bytes:
    at = rng.randrange(len(line))
    return line[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(4))) + line[at + rng.randrange(4) :]


def check_page(text: str) -> None:
    assert text.isascii() or text.replace("\n", "").isprintable()
    for family in text_string_to_metric_families(text):
        seen = [tuple(sorted(sample.labels.items())) for sample in family.samples]
        assert len(set(seen)) == len(seen), family.name


def check_screen(status: List[PortStatus]) -> None:
    class Shown:
        def __init__(self) -> None:
            self.status = status

    out = io.StringIO()
    screen: Console = console()
    screen.file, screen.width = out, 200
    screen.print(_table(Shown()))  # type: ignore[arg-type]
    assert out.getvalue().replace("\n", "").isprintable()


def refuse(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


class Device:
    """A serial port that brings mutated records, cut anywhere, until there were RECORDS of them."""

    in_waiting = 2048
    """So much that the monitor does not wait for more."""

    def __init__(self) -> None:
        self._rng, self._next, self._rest = random.Random("records"), 0, b""
        self.texts: List[bytes] = []
        """What was sent, before damage; the reader takes it away."""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and self._next < RECORDS:
            text = any_record(self._rng, self._next)
            line = b"@ew " + text + b"*%04x\r\n" % crc16(text)
            self._rest += damaged(self._rng, line) if self._rng.random() < 0.1 else line
            self.texts.append(text)
            self._next += 1
        if not self._rest:
            raise AllSentError
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def write(self, data: bytes) -> None:
        assert data.startswith(b"info\n")

    def close(self) -> None:
        pass


class AllSentError(BaseException):
    """Ends the monitor: from what is only an exception it begins again."""


class ToListener:
    """A link to the broker, and the dashboard's from it, without a broker in between."""

    unacknowledged = 0

    def __init__(self, listener: Listener) -> None:
        self.events: queue.Queue[Any] = queue.Queue()
        self._listener, self._count = listener, 0

    def open(self, timeout_s: float) -> None:
        pass

    def publish(self, topic: str, payload: bytes) -> None:
        assert topic == f"edgeward/1/f/board/{board_name(PORT)}/record"
        assert isinstance(_record(payload), dict)
        self._count += 1
        self._listener.take(Message(f"edgeward/1/f/board/b{self._count % 7}/record", payload), float(self._count))

    def flush(self, timeout_s: float) -> None:
        pass

    def close(self) -> None:
        pass


class Watch:
    """What `edgeward monitor` does with each record, and now and then a look at every page and at memory."""

    def __init__(self, folder: Path, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listener, self._device = Listener(None, "f"), device
        self.paths = [folder / name for name in ("r.jsonl", "r.csv", "r.parquet")]
        monkeypatch.setattr("orchestrator.boards.forward.Link", lambda *_: ToListener(self.listener))
        monkeypatch.setattr("orchestrator.boards.monitor.open_port", lambda *_: device)
        self.files: List[Exporter] = [open_file(path) for path in self.paths]
        self.forward = MqttForward("mqtt://h", "f", [PORT])
        self.monitor = Monitor([PORT], self.take)
        self.memory: List[float] = []
        self._received = self._sent = 0

    def take(self, port: str, at: float, record: Record) -> None:
        for exporter in (*self.files, self.forward):
            exporter.write(port, at, record)
        self._received += 1
        if self._received % LOOK_EVERY == 0:
            self.look()

    def look(self) -> None:
        texts, self._device.texts = self._device.texts, []
        for text in texts:  # what a board's own client would send to the broker, without a monitor between
            self.listener.take(Message("edgeward/1/f/board/own/record", text), time.time())
            assert isinstance(_record(text), dict)
        check_page(render([*self.monitor.status, PortStatus("other")]))
        page = Page()
        _add_boards(page, json.loads(to_json(self.listener.boards()), parse_constant=refuse), 0.0)
        check_page(page.text())
        check_screen(self.monitor.status)
        self._sent += len(texts)
        if self._sent >= RECORDS * (len(self.memory) + 1) / STEPS:
            self.memory.append(resident_memory_mib())
            print(f"{self._sent} records: {self.memory[-1]:.1f} MiB")


def test_any_record(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level("ERROR")
    watch = Watch(tmp_path, Device(), monkeypatch)
    with watch.monitor as monitor:
        while monitor.wait(1.0):
            pass
    assert isinstance(monitor.failure, AllSentError), monitor.failure
    watch.look()
    half = len(watch.memory) // 2
    assert max(watch.memory[half:]) < min(watch.memory[half - 2 : half]) + 16
    for exporter in (*watch.files, watch.forward):
        exporter.close()
    stats = monitor.status[0].stats
    print(stats)
    withheld = monitor.status[0].withheld  # raw samples, which are for nobody here
    assert withheld > RECORDS / 500
    assert watch.forward.forwarded == stats.received - withheld > RECORDS / 20
    assert stats.corrupt > RECORDS / 20
    check_files(watch.paths, stats.received - withheld)
    assert not caplog.records


def check_files(paths: List[Path], received: int) -> None:
    kinds, count = set(), 0
    with paths[0].open(encoding="utf-8", newline="") as lines:
        for line in lines:
            assert line[:-1].isprintable()
            kinds.add(json.loads(line, parse_constant=refuse)["kind"])
            count += 1
    assert (kinds, count) == (set(KINDS) - RAW, received)
    with paths[1].open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for row in rows:
            assert not any(cell[:1] in "=+-@\t\r" for cell in row if cell)
            assert all(cell.isprintable() for cell in row)
            count -= 1
    assert count == 0
    from pyarrow import parquet

    assert parquet.read_metadata(paths[2]).num_rows == received
