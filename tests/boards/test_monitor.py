"""Several boards watched at once: nothing lost, restarts and disappearing ports survived, files as promised."""

import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, List

import pytest

from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.exporters import CSV_HEAD, RecordFile
from orchestrator.boards.monitor import Monitor
from orchestrator.boards.protocol import RecordParser, crc16
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.errors import UsageError


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_three_boards_at_once_lose_nothing() -> None:
    boards = [VirtualBoard() for _ in range(3)]
    seen: Counter[str] = Counter()
    try:
        for board in boards:
            board.__enter__()
        ports = [board.port for board in boards]
        with Monitor(ports, lambda port, _, record: seen.update([port]), rate_ms=2) as monitor:
            until(lambda: min(seen[port] for port in ports) > 300)
        for status in monitor.status:
            assert status.stats.received == seen[status.port]
            assert (status.stats.lost, status.stats.corrupt) == (0, 0)
            assert {"metrics", "info", "ok"} <= set(status.last)
    finally:
        for board in boards:
            board.close()


def test_a_restarted_board_is_asked_again() -> None:
    with VirtualBoard() as board:
        kinds: List[str] = []
        with Monitor([board.port], lambda _, __, record: kinds.append(record.kind), rate_ms=20) as monitor:
            until(lambda: "metrics" in kinds)
            fd = os.open(board.port, os.O_WRONLY | os.O_NOCTTY)
            os.write(fd, b"\nreboot\n")
            os.close(fd)
            until(lambda: "boot" in kinds and kinds[kinds.index("boot") :].count("metrics") > 2)
            assert monitor.status[0].stats.boots == 2
            assert monitor.status[0].stats.lost == 0


class GoneAfterRead:
    """A port that was unplugged: what it brought is there to be read, and nothing more can be written."""

    def __init__(self) -> None:
        def line(seq: int, kind: str) -> bytes:
            text = f'{{"v":1,"boot":"0000abcd","seq":{seq},"model":null,"t_us":1,"kind":"{kind}"}}'.encode()
            return b"@ew " + text + b"*%04x\r\n" % crc16(text)

        self.waiting = line(0, "boot") + b"".join(line(seq, "metrics") for seq in range(1, 6))
        self.writes = 0

    @property
    def in_waiting(self) -> int:
        return len(self.waiting)

    def read(self, count: int) -> bytes:
        found, self.waiting = self.waiting[:count], self.waiting[count:]
        return found

    def write(self, data: bytes) -> None:
        self.writes += 1
        if self.writes > 1:
            raise OSError(5, "Input/output error")

    def close(self) -> None:
        pass


def test_what_a_port_brought_before_it_went_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boot record is answered; where that fails, the records that came with it are not lost."""
    ports = [GoneAfterRead()]

    def open_port(port: str, baud: int) -> GoneAfterRead:
        if not ports:
            raise BoardError("gone")
        return ports.pop()

    monkeypatch.setattr("orchestrator.boards.monitor.open_port", open_port)
    seen: List[int] = []
    with Monitor(["x"], lambda _, __, record: seen.append(record.seq)) as monitor:
        until(lambda: bool(monitor.status[0].problem))
        assert monitor.status[0].stats.received == 6
    assert seen == list(range(6))


def test_a_board_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    """The port is a link, as udev makes them; behind it the board dies and another one comes."""
    link = tmp_path / "board"
    with VirtualBoard() as board, VirtualBoard() as other:
        link.symlink_to(board.port)
        kinds: List[str] = []
        with Monitor([str(link)], lambda _, __, record: kinds.append(record.kind), rate_ms=20) as monitor:
            status = monitor.status[0]
            until(lambda: "metrics" in kinds)
            link.unlink()
            board.kill()
            until(lambda: not status.connected and bool(status.problem))
            kinds.clear()
            link.symlink_to(other.port)
            until(lambda: status.connected and "metrics" in kinds)
            assert status.stats.boots == 2
            assert status.stats.corrupt == 0


def test_a_missing_port_is_an_error_at_once() -> None:
    with VirtualBoard() as board:
        with pytest.raises(BoardError, match="/dev/ttyNOPE"):
            Monitor([board.port, "/dev/ttyNOPE"]).__enter__()
        with BoardClient(board.port) as client:  # the first port was let go
            assert client.info()["chip"] == "host"
    with pytest.raises(UsageError, match="twice"):
        Monitor(["/dev/a", "/dev/a"])


def test_an_error_in_the_callback_stops_the_watching() -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    with VirtualBoard() as board, Monitor([board.port], fail, rate_ms=10) as monitor:
        until(lambda: not monitor.wait(0.01))
    assert "disk full" in str(monitor.failure)


def test_what_nobody_expected_of_a_port_ends_neither_it_nor_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    feed = RecordParser.feed
    failed: List[Any] = []

    def fail(parser: RecordParser, data: bytes) -> Any:
        if not failed:
            failed.append(parser)
            raise ArithmeticError("nobody thought of it")
        return feed(parser, data)

    monkeypatch.setattr(RecordParser, "feed", fail)
    heard: list[str] = []
    with VirtualBoard() as board, VirtualBoard() as other:
        monitor = Monitor([board.port, other.port], lambda port, *_: heard.append(port), rate_ms=10)
        with monitor:
            until(lambda: {board.port, other.port} <= set(heard))
        assert monitor.failure is None
    assert [m for m in caplog.messages if "begins again: ArithmeticError: nobody thought of it (test_monitor.py:" in m]


def cli(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "orchestrator.cli.main", "monitor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_command_line(tmp_path: Path) -> None:
    with VirtualBoard() as board:
        done = cli(board.port, "--json", "--seconds", "1", "--rate", "50", "--out", str(tmp_path / "r.csv"))
        assert done.returncode == 0, done.stderr
        records = [json.loads(text) for text in done.stdout.splitlines()]
        assert {"info", "metrics"} <= {r["kind"] for r in records}
        assert all(r["port"] == board.port and r["received_at"] > 1e9 for r in records)
        with (tmp_path / "r.csv").open(newline="") as file:
            rows = list(csv.reader(file))
        assert tuple(rows[0]) == CSV_HEAD
        assert [int(row[3]) for row in rows[1:]] == [r["seq"] for r in records]
        assert "0 lost, 0 corrupt" in done.stderr
        table = cli(board.port, "--seconds", "0.5", "--out", str(tmp_path / "r.jsonl"))
        assert table.returncode == 0, table.stderr
        assert "simulated" in table.stdout
        assert json.loads((tmp_path / "r.jsonl").read_text().splitlines()[0])["port"] == board.port


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_standard_output_on_a_full_disk_costs_its_lines_and_nothing_else(tmp_path: Path) -> None:
    with VirtualBoard() as board, open("/dev/full", "w") as full:
        words = [board.port, "--json", "--seconds", "1", "--rate", "50", "--out", str(tmp_path / "r.jsonl")]
        command = [sys.executable, "-m", "orchestrator.cli.main", "monitor", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("standard output: No space left on device; watching goes on") == 1
    assert "Traceback" not in done.stderr
    assert (tmp_path / "r.jsonl").read_text().count("metrics") > 1


def test_command_line_errors(tmp_path: Path) -> None:
    done = cli("/dev/ttyNOPE", "--seconds", "1")
    assert done.returncode == 2
    assert "/dev/ttyNOPE" in done.stderr
    assert "Traceback" not in done.stderr
    assert cli("/dev/ttyNOPE", "--rate", "-3").returncode == 2
    assert cli("/dev/ttyNOPE", "--out", str(tmp_path / "r.xml")).returncode == 2
    with pytest.raises(UsageError, match="cannot write"):
        RecordFile(tmp_path / "no" / "r.csv")
