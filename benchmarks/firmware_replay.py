"""Boards reduced to their records: pseudo-terminals that say metrics records at an exact rate. For firmware_monitor.py.

    python benchmarks/firmware_replay.py BOARDS RECORDS_PER_SECOND SECONDS

Prints the ports as a JSON list, waits for a line on standard input, writes, then prints how many records each port said.
A reader that does not keep up holds the writer back, as a full pseudo-terminal does: nothing is dropped here.
"""

from __future__ import annotations

import json
import os
import sys
import time
import tty
from typing import Any, Dict

from orchestrator.boards.protocol import crc16

FIELDS: Dict[str, Any] = {
    "inferences": 1234,
    "errors": 0,
    "bad_frames": 0,
    "latency_count": 1234,
    "latency_min_us": 812,
    "latency_p50_us": 820,
    "latency_p95_us": 857,
    "latency_p99_us": 901,
    "latency_max_us": 1033,
    "arena_used_bytes": 10560,
    "arena_bytes": 1048576,
    "heap_free_bytes": 0,
    "heap_least_free_bytes": 0,
    "stack_least_free_bytes": 0,
    "reset": "power_on",
}
BEAT_S = 0.01


def line(board: int, sequence: int) -> bytes:
    head = {"v": 1, "boot": f"{board + 1:08x}", "seq": sequence, "model": "0123456789abcdef", "t_us": sequence * 1000}
    text = json.dumps({**head, "kind": "metrics", **FIELDS}, separators=(",", ":")).encode()
    return b"@ew " + text + b"*%04x\r\n" % crc16(text)


def main(boards: int, per_second: int, seconds: float) -> None:
    ends = [os.openpty() for _ in range(boards)]
    for _, slave in ends:
        tty.setraw(slave)
    print(json.dumps([os.ttyname(slave) for _, slave in ends]), flush=True)
    sys.stdin.readline()
    started = time.monotonic()
    total = int(per_second * seconds)
    sent = 0
    while sent < total:
        due = min(total, int((time.monotonic() - started + BEAT_S) * per_second), sent + 8)
        for board, (master, _) in enumerate(ends):
            data = b"".join(line(board, sequence) for sequence in range(sent, due))
            while data:
                data = data[os.write(master, data) :]
        sent = max(sent, due)
        ahead = started + sent / per_second - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
    print(json.dumps({"sent": sent, "seconds": time.monotonic() - started}), flush=True)
    sys.stdin.readline()  # the ports stay until the reader is done


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
