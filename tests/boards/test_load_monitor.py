"""Many boards at once and a noisy line: nothing lost, nothing damaged believed, every loss counted."""

import json
import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from board_sample import Sample

from orchestrator.boards.client import BoardClient
from orchestrator.boards.monitor import Monitor
from orchestrator.boards.protocol import RecordParser, crc16, parse_record
from orchestrator.boards.virtual import VirtualBoard

BOARDS = 16
SECONDS = 5.0
REPLAY = Path(__file__).parents[2] / "benchmarks/firmware_replay.py"


def test_sixteen_boards_at_full_rate() -> None:
    """A minute of it: benchmarks/firmware_monitor.py."""
    boards = [VirtualBoard() for _ in range(BOARDS)]
    sequences: Dict[str, List[Tuple[str, int]]] = {}
    try:
        for board in boards:
            board.__enter__()
        with Monitor(
            [board.port for board in boards],
            lambda port, _, record: sequences.setdefault(port, []).append((record.boot, record.seq)),
            rate_ms=1,
        ) as monitor:
            assert monitor.wait(SECONDS)
        for status in monitor.status:
            assert (status.stats.lost, status.stats.corrupt) == (0, 0)
            seen = sequences[status.port]
            assert status.stats.received == len(seen) > 100
            first = seen[0][1]
            assert seen == [(seen[0][0], first + i) for i in range(len(seen))]
    finally:
        for board in boards:
            board.close()


def test_a_thousand_records_a_second_from_each_of_sixteen() -> None:
    """At exactly that rate, from ports that say records and nothing else: every one arrives, in order."""
    sequences: Dict[str, List[int]] = {}
    command = [sys.executable, str(REPLAY), str(BOARDS), "1000", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as replay:
        assert replay.stdin is not None
        assert replay.stdout is not None
        ports = json.loads(replay.stdout.readline())
        with Monitor(
            ports, lambda port, _, record: sequences.setdefault(port, []).append(record.seq), rate_ms=0
        ) as monitor:
            print(file=replay.stdin, flush=True)
            sent = json.loads(replay.stdout.readline())["sent"]
            deadline = time.monotonic() + 300
            while min(map(len, sequences.values())) < sent and time.monotonic() < deadline:
                assert monitor.wait(0.05)
        print(file=replay.stdin, flush=True)
    assert sent == 3000
    assert set(sequences) == set(ports)
    for status in monitor.status:
        assert sequences[status.port] == list(range(sent))
        assert (status.stats.lost, status.stats.corrupt) == (0, 0)


@pytest.fixture(scope="module")
def stream(sample: Sample) -> bytes:
    """What a board really sends: answers to inferences, metrics, an info, an error."""
    with VirtualBoard(sample.model_bin) as board:
        with BoardClient(board.port) as client:
            client.infer(sample.rows[:20])
        port = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
        os.write(port, b"\ninfo\nnonsense\nmetrics rate 1\n")
        recorded, end = b"", time.monotonic() + 2.0
        while time.monotonic() < end:
            if select.select([port], [], [], 0.1)[0]:
                recorded += os.read(port, 4096)
        os.close(port)
    return recorded[recorded.index(b"@ew ") : recorded.rindex(b"\n") + 1]


def records_of(stream: bytes) -> List[bytes]:
    return [line.strip() for line in stream.split(b"\n") if line.startswith(b"@ew ")]


@pytest.mark.parametrize("kind", ["replace", "insert", "delete", "all"])
@pytest.mark.parametrize("share", [0.01, 0.0005])
def test_noise_on_the_line(stream: bytes, kind: str, share: float) -> None:
    """`share` of all bytes is hit. A record whose bytes arrived as they were sent is recovered, any other one counted.

    At 1 % of bytes hardly a record of 370 bytes survives: the smaller share leaves both kinds.
    """
    sent = records_of(stream)
    chance = random.Random(f"{kind} {share}")
    noisy, intact = bytearray(), []
    for number, text in enumerate(sent):
        copy, hit = bytearray(), False
        for byte in text + b"\r\n":
            if chance.random() >= share:
                copy.append(byte)
                continue
            how = kind if kind != "all" else chance.choice(["replace", "insert", "delete"])
            if how != "delete":
                copy.append(chance.randrange(256))
            if how == "insert":
                copy.append(byte)
        noisy += copy
        hit = text not in copy
        if not hit:
            intact.append(number)
    parser = RecordParser()
    got = []
    view = bytes(noisy)
    while view:
        size = chance.randrange(1, 700)
        got += parser.feed(view[:size])
        view = view[size:]
    got += parser.feed(b"\n")
    numbers = {parse_record(text[4:]).seq: i for i, text in enumerate(sent)}  # type: ignore[union-attr]
    assert [numbers[record.seq] for record in got] == intact
    for record, number in zip(got, intact):
        assert record == parse_record(sent[number][4:])
    # Seen as damaged, or missing in the sequence, or both; before the first and after the last there is no sequence.
    if intact:
        assert parser.stats.lost == intact[-1] - intact[0] + 1 - len(intact)
        ends = len(sent) - 1 - intact[-1] + intact[0]
        assert parser.stats.lost + ends == len(sent) - len(intact)
    assert parser.stats.received == len(intact)
    marked = sum(1 for part in bytes(noisy).split(b"@ew ")[1:])
    assert parser.stats.corrupt == marked - len(intact)


def test_noise_between_records_costs_nothing(stream: bytes) -> None:
    chance = random.Random(1)
    sent = records_of(stream)
    noisy = b"".join(chance.randbytes(chance.randrange(40)).replace(b"@", b"") + text + b"\r\n" for text in sent)
    parser = RecordParser()
    assert len(parser.feed(noisy)) == len(sent)
    assert (parser.stats.lost, parser.stats.corrupt) == (0, 0)


def test_a_record_before_one_without_a_beginning_is_recovered() -> None:
    """The line end between them and the mark of the second are gone: the first is whole all the same."""

    def text(seq: int) -> bytes:
        body = json.dumps(
            {"v": 1, "boot": "00000001", "seq": seq, "model": None, "t_us": 1, "kind": "metrics"}
        ).encode()
        return body + b"*%04x" % crc16(body)

    parser = RecordParser()
    found = parser.feed(b"@ew " + text(5) + b"\x07\x01?ew " + text(6) + b"\r\n@ew " + text(7) + b"\r\n")
    assert [record.seq for record in found] == [5, 7]
    assert parser.stats.lost == 1
