"""Whatever a board sends: parser, monitor, exporters and dashboard go on, and what they write is valid and printable.

EDGEWARD_BOARD_RECORDS says how many records: 1,000,000 take about ten minutes.
"""

import csv
import io
import json
import os
import random
from pathlib import Path
from typing import Any, List

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from orchestrator.boards.exporters import RecordFile, json_line
from orchestrator.boards.monitor import PortStatus
from orchestrator.boards.prometheus import render
from orchestrator.boards.protocol import RecordParser, crc16
from orchestrator.cli.monitor import _table
from orchestrator.cli.screen import console
from orchestrator.exposition import Page
from orchestrator.gateway.retraining import _record
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.metrics import _add_boards
from orchestrator.gateway.web.model import to_json
from orchestrator.wire.board_records import KINDS
from orchestrator.wire.link import Message
from orchestrator.wire.process import resident_memory_mib

RECORDS = int(os.environ.get("EDGEWARD_BOARD_RECORDS", "8000"))
LOOK_EVERY = 200
TEXTS = [
    "", "ready", "x" * 32, "x" * 600, "é", "[/foo]", "[link=http://a]b[/link]", "=1+1", "@SUM(1)", "+1", "-1", "a,\"b\"",
    "\x1b[2J", "\n", "\r", "\t", "\x85", "\u2028", "\u202e", "\ud800", "\x00", '1\nedgeward_board_up{port="fake"} 0',
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


def test_any_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    parser, listener, rng = RecordParser(), Listener(None, "f"), random.Random("records")
    status = PortStatus("/dev/ttyUSB0", connected=True, stats=parser.stats)
    files = [RecordFile(tmp_path / "r.jsonl"), RecordFile(tmp_path / "r.csv")]
    warm = 0.0
    for case in range(RECORDS):
        text = any_record(rng, case)
        line = b"@ew " + text + b"*%04x\r\n" % crc16(text)
        if rng.random() < 0.1:
            line = damaged(rng, line)
        payloads = [text]
        for record in parser.feed(line):
            status.last[record.kind] = record
            for file in files:
                file.write(status.port, 1.0, record)
            payloads.append(json_line(status.port, 1.0, record).encode())
        for payload in payloads:
            listener.take(Message(f"edgeward/1/f/board/b{case % 7}/record", payload), float(case))
            assert isinstance(_record(payload), dict)
        if case % LOOK_EVERY == 0:
            check_page(render([status, PortStatus("other")]))
            page = Page()
            _add_boards(page, json.loads(to_json(listener.boards()), parse_constant=refuse))
            check_page(page.text())
            check_screen([status])
            if case == RECORDS // 4 // LOOK_EVERY * LOOK_EVERY:
                warm = resident_memory_mib()
    assert resident_memory_mib() < warm + 24
    for file in files:
        file.close()
    lines = (tmp_path / "r.jsonl").read_text().split("\n")[:-1]
    assert all(text.isprintable() and json.loads(text, parse_constant=refuse) for text in lines)
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == len(lines) == parser.stats.received > RECORDS / 20
    assert parser.stats.corrupt > RECORDS / 20
    assert not any(cell[:1] in "=+-@\t\r" for row in rows for cell in row if cell)
    assert all(cell.isprintable() for row in rows for cell in row)
    assert {row[6] for row in rows} == set(KINDS)
