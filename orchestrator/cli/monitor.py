"""`edgeward monitor`: the records of one or several boards, live, to a file, to Prometheus, to the gateway."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence

from orchestrator.cli.arguments import LEAST, MOST, number_within
from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.boards.exporters import Exporter
    from orchestrator.boards.monitor import Monitor, PortStatus
    from orchestrator.wire.link import BrokerAddress

_EPILOG = """examples:
  edgeward monitor /dev/ttyUSB0
  edgeward monitor /dev/ttyUSB0 /dev/ttyUSB1 --out records.csv
  edgeward monitor /dev/ttyUSB0 --json --seconds 10 | jq .latency_p99_us
  edgeward monitor /dev/ttyUSB0 --prometheus :9464 --forward mqtt://gateway --federation demo

Opening a port does not reset the board. A board that goes away is waited for."""

_REFRESH_S = 0.25


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "monitor",
        help=COMMANDS["monitor"],
        description="Watch the records boards send over their serial ports.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ports", nargs="+", metavar="PORT", help="serial port, such as /dev/ttyUSB0")
    parser.add_argument("--json", action="store_true", help="every record as one JSON object per line on stdout")
    parser.add_argument(
        "--seconds",
        type=number_within(LEAST, MOST, "expected a number of seconds above 0"),
        metavar="S",
        help="stop after S seconds (default: Ctrl-C)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write every record to FILE.jsonl, FILE.csv or FILE.parquet"
    )
    parser.add_argument("--prometheus", metavar="HOST:PORT", help="also serve /metrics there (:PORT: on loopback)")
    parser.add_argument("--forward", metavar="mqtt://HOST", help="also publish every record to this broker")
    parser.add_argument("--federation", metavar="NAME", help="whose topics --forward publishes to")
    parser.add_argument(
        "--identity", type=Path, metavar="DIR", help="of `edgeward node enroll` as monitor:NAME, for --forward over TLS"
    )
    parser.add_argument(
        "--rate", type=int, default=1000, metavar="MS", help="ask for metrics every MS milliseconds; 0: only listen"
    )
    parser.add_argument("--baud", type=int, default=115200, help="speed of the ports (default: 115200)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import logging

    from orchestrator.boards.exporters import to_all
    from orchestrator.boards.monitor import Monitor
    from orchestrator.boards.prometheus import PrometheusEndpoint, parse_address
    from orchestrator.cli.stopping import Stopped, stop_on_sigterm
    from orchestrator.errors import UsageError
    from orchestrator.mishaps import catch_in_threads

    catch_in_threads(logging.getLogger("edgeward"))
    if not 0 <= args.rate <= 3_600_000:
        raise UsageError(f"--rate {args.rate}: milliseconds from 0 to 3600000")
    if (args.forward is None) != (args.federation is None):
        raise UsageError("--forward mqtt://HOST and --federation NAME go together")
    if args.identity is not None and args.forward is None:
        raise UsageError("--identity DIR is for --forward mqtts://HOST, which is not given")
    with ExitStack() as stack:
        exporters = _exporters(args, stack)
        monitor = Monitor(args.ports, to_all(exporters), baud=args.baud, rate_ms=args.rate)
        if args.prometheus is not None:
            endpoint = stack.enter_context(PrometheusEndpoint(parse_address(args.prometheus), monitor.status))
            print(f"metrics at {endpoint.url}", file=sys.stderr, flush=True)
        try:
            with stop_on_sigterm(), monitor:
                _watch(monitor, args.seconds, exporters, show=not args.json)
        except (KeyboardInterrupt, Stopped):
            pass  # the ways to end watching; the summary follows
        if monitor.failure is not None:
            raise monitor.failure
    summarize(monitor, exporters, args.json)
    return 0


def _exporters(args: argparse.Namespace, stack: ExitStack) -> List[Exporter]:
    from orchestrator.boards.exporters import Lines, Steady, open_file
    from orchestrator.boards.forward import MqttForward

    exporters: List[Exporter] = []
    if args.json:
        exporters.append(Steady(Lines(sys.stdout.fileno()), "standard output"))
    if args.out is not None:
        exporters.append(Steady(open_file(args.out), args.out))
        stack.callback(exporters[-1].close)
    if args.forward is not None:
        address = _broker(args)
        forward = MqttForward(address, args.federation, args.ports, enrolled=args.identity is not None)
        exporters.append(Steady(forward, f"the broker at {address}"))
        stack.callback(exporters[-1].close)
    return exporters


def _broker(args: argparse.Namespace) -> BrokerAddress:
    from orchestrator.errors import UsageError
    from orchestrator.node.identity import NodeIdentity
    from orchestrator.wire.link import BrokerAddress
    from orchestrator.wire.topics import MONITOR

    address = BrokerAddress.parse(args.forward)
    if args.identity is None:
        return address
    identity = NodeIdentity(args.identity)
    if identity.federation != args.federation:
        raise UsageError(
            f"--federation {args.federation}: the identity in {args.identity} is of {identity.federation!r}, and writes nothing "
            "elsewhere"
        )
    if not identity.name.startswith(MONITOR):
        raise UsageError(
            f"--identity {args.identity}: is of node {identity.name!r}, which may write no records of boards; invite a monitor: "
            f"edgeward gateway invite {MONITOR}NAME"
        )
    return identity.secure(address)


def _watch(monitor: Monitor, seconds: Optional[float], exporters: Sequence[Exporter], show: bool) -> None:
    import time

    from rich.live import Live

    from orchestrator.cli.screen import console

    end = None if seconds is None else time.monotonic() + seconds
    with ExitStack() as stack:
        live = None
        if show:
            live = stack.enter_context(Live(_table(monitor), console=console(), auto_refresh=False))
        while end is None or time.monotonic() < end:
            left = _REFRESH_S if end is None else min(_REFRESH_S, max(0.0, end - time.monotonic()))
            if not monitor.wait(left):
                return
            for exporter in exporters:
                exporter.flush()
            if live is not None:
                live.update(_table(monitor), refresh=True)


_COLUMNS = ("port", "model", "inferences", "p50/p99 us", "arena B", "heap B", "received/lost/corrupt", "state")


def _table(monitor: Monitor) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in _COLUMNS:
        table.add_column(head, justify="left" if head in ("port", "model", "state") else "right", overflow="fold")
    for status in monitor.status:
        table.add_row(*_row(status))
    return table


def _row(status: PortStatus) -> list[str]:
    from orchestrator.wire.board_records import SCHEMA, measured

    metrics, info = status.last.get("metrics"), status.last.get("info")
    known = {**(info.fields if info else {}), **(measured(metrics.fields) if metrics else {})}
    latest = metrics or info

    def cell(key: str) -> str:
        return str(known.get(key, "-"))

    if not status.connected:
        state = status.problem or "opening"
    else:
        state = cell("state") + (", simulated" if known.get("simulated") else "")
        state += ", records raw samples" if known.get("recording") else ""
        state += f", drift {known['psi']:.2f}" if "psi" in known else ""
        acted = status.last.get("acted")
        state += f", rule {acted.fields['rule']} acted" if acted is not None and acted.schema == SCHEMA else ""
    counts = status.stats
    return [
        status.port,
        (latest.model or "none")[:8] if latest else "-",
        cell("inferences"),
        f"{cell('latency_p50_us')}/{cell('latency_p99_us')}",
        cell("arena_used_bytes"),
        cell("heap_free_bytes"),
        f"{counts.received}/{counts.lost}/{counts.corrupt}",
        state,
    ]


def summarize(monitor: Monitor, exporters: Sequence[Exporter], to_stderr: bool) -> None:
    for status in monitor.status:
        counts = status.stats
        print(
            f"{status.port}: {many(counts.received, 'record')} received, {counts.lost} lost, {counts.corrupt} corrupt",
            file=sys.stderr if to_stderr else sys.stdout,
        )
        if status.acted:
            print(
                f"{status.port}: its rules acted {'once' if status.acted == 1 else f'{status.acted} times'}",
                file=sys.stderr if to_stderr else sys.stdout,
            )
        if status.withheld:
            print(
                f"{status.port}: {many(status.withheld, 'record')} of raw samples, which a monitor does not show, write or "
                "forward; `edgeward board record` takes them",
                file=sys.stderr if to_stderr else sys.stdout,
            )
    for exporter in exporters:
        summary = exporter.summary()
        if summary:
            print(summary, file=sys.stderr if to_stderr else sys.stdout)
