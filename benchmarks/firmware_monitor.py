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
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict

from orchestrator.boards.exporters import RecordFile
from orchestrator.boards.monitor import Monitor
from orchestrator.boards.protocol import Record
from orchestrator.boards.virtual import VirtualBoard


def measure(boards: int, rate_ms: int, seconds: float) -> Dict[str, Any]:
    """Records go to a .jsonl file, as `edgeward monitor --out` writes them; afterwards its lines are counted."""
    with ExitStack() as stack:
        ports = [stack.enter_context(VirtualBoard()).port for _ in range(boards)]
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "records.jsonl"
        file = RecordFile(path)
        kinds: Dict[str, int] = {}

        def on_record(port: str, received_at: float, record: Record) -> None:
            kinds[record.kind] = kinds.get(record.kind, 0) + 1
            file.write(port, received_at, record)

        processor = time.process_time()
        started = time.monotonic()
        with Monitor(ports, on_record, rate_ms=rate_ms) as monitor:
            while time.monotonic() - started < seconds and monitor.wait(0.1):
                pass
            elapsed = time.monotonic() - started
        processor = time.process_time() - processor
        file.close()
        stats = [status.stats for status in monitor.status]
        return {
            "boards": boards,
            "asked_records_per_second": boards * 1000 // rate_ms,
            "seconds": round(elapsed, 1),
            "received": sum(s.received for s in stats),
            "records_per_second": round(sum(s.received for s in stats) / elapsed),
            "least_of_a_board": min(s.received for s in stats),
            "lost": sum(s.lost for s in stats),
            "corrupt": sum(s.corrupt for s in stats),
            "written": sum(1 for _ in path.open()),
            "metrics": kinds.get("metrics", 0),
            "monitor_cpu_seconds": round(processor, 1),
        }


def markdown(report: Dict[str, Any]) -> str:
    rows = [f"| {key.replace('_', ' ')} | {value:,} |" for key, value in report.items() if key != "machine"]
    return "\n".join(
        [
            "# Virtual boards into one monitor",
            "",
            "**Simulated boards**: processes of the same machine, without a UART's speed limit, sharing its cores with the",
            f"monitor. Written by `python benchmarks/firmware_monitor.py --markdown FILE` on {report['machine']}.",
            "",
            "| | |",
            "|---|---|",
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
    report = measure(arguments.boards, arguments.rate_ms, arguments.seconds)
    report["machine"] = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(report))
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        for key, value in report.items():
            print(f"{key:<26} {value}")
    return 0 if report["lost"] == report["corrupt"] == 0 and report["written"] == report["received"] else 1


if __name__ == "__main__":
    sys.exit(main())
