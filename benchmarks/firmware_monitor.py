"""Many virtual boards, as fast as they send, into one monitor: records per second, lost, corrupt.

    python benchmarks/firmware_monitor.py [--boards 16] [--rate-ms 1] [--seconds 60] [--json]

Boards are processes of this machine behind pseudo-terminals, without the limit of a UART: this measures the monitor. All of
them and the monitor share its cores, so `records/s` falls short of boards x 1000 / rate where those do not suffice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from orchestrator.boards.exporters import RecordFile
from orchestrator.boards.monitor import Monitor
from orchestrator.boards.virtual import VirtualBoard

REPLAY = Path(__file__).with_name("firmware_replay.py")


@contextmanager
def monitored(ports: List[str], rate_ms: int) -> Iterator[Tuple[Monitor, Dict[str, Any]]]:
    """A monitor that writes a .jsonl file as `edgeward monitor --out` does; the report is filled in at the end."""
    report: Dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        file = RecordFile(path)
        processor, started = time.process_time(), time.monotonic()
        with Monitor(ports, file.write, rate_ms=rate_ms) as monitor:
            yield monitor, report
            elapsed = time.monotonic() - started
        file.close()
        stats = [status.stats for status in monitor.status]
        received = sum(s.received for s in stats)
        report.update(
            seconds=round(elapsed, 1),
            received=received,
            records_per_second=round(received / elapsed),
            least_of_a_board=min(s.received for s in stats),
            lost=sum(s.lost for s in stats),
            corrupt=sum(s.corrupt for s in stats),
            written=sum(1 for _ in path.open()),
            monitor_cpu_seconds=round(time.process_time() - processor, 1),
        )


def firmware(boards: int, rate_ms: int, seconds: float) -> Dict[str, Any]:
    """The firmware itself, as fast as it sends metrics when asked for `rate_ms`."""
    with ExitStack() as stack:
        ports = [stack.enter_context(VirtualBoard()).port for _ in range(boards)]
        with monitored(ports, rate_ms) as (monitor, report):
            monitor.wait(seconds)
    return {"boards": boards, "asked_records_per_second": boards * 1000 // rate_ms, **report}


def replay(boards: int, rate_ms: int, seconds: float) -> Dict[str, Any]:
    """Records at an exact rate, without the firmware's processes (firmware_replay.py)."""
    command = [sys.executable, str(REPLAY), str(boards), str(1000 // rate_ms), str(seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        ports = json.loads(child.stdout.readline())
        with monitored(ports, 0) as (monitor, report):
            print(file=child.stdin, flush=True)
            said = json.loads(child.stdout.readline())
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and min(s.stats.received for s in monitor.status) < said["sent"]:
                monitor.wait(0.01)
        print(file=child.stdin, flush=True)
    asked = boards * (1000 // rate_ms)
    return {"boards": boards, "asked_records_per_second": asked, "sent": said["sent"] * boards, **report}


def markdown(report: Dict[str, Any]) -> str:
    runs = [report["firmware"], report["replay"]]
    rows = [
        f"| {key.replace('_', ' ')} | "
        + " | ".join(f"{run.get(key, '-'):,}" if key in run else "-" for run in runs)
        + " |"
        for key in runs[1]
    ]
    return "\n".join(
        [
            "# Virtual boards into one monitor",
            "",
            "**Simulated boards**: processes of the same machine, without a UART's speed limit, sharing its cores with the",
            f"monitor. Written by `python benchmarks/firmware_monitor.py --markdown FILE` on {report['machine']}.",
            "",
            "The firmware paces its metrics from one record to the next, so it stays below what it is asked for; the",
            "replay says records of the same length at exactly the rate asked for.",
            "",
            "| | firmware | replay |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=16)
    parser.add_argument("--rate-ms", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table to FILE")
    arguments = parser.parse_args()
    runs = {run.__name__: run(arguments.boards, arguments.rate_ms, arguments.seconds) for run in (firmware, replay)}
    report = {"machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}", **runs}
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(report))
    print(json.dumps(report, indent=1) if arguments.json else markdown(report))
    sound = all(run["lost"] == run["corrupt"] == 0 and run["written"] == run["received"] for run in runs.values())
    return 0 if sound and runs["replay"]["received"] == runs["replay"]["sent"] else 1


if __name__ == "__main__":
    sys.exit(main())
