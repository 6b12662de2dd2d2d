"""A Prometheus endpoint for a monitor: GET /metrics, text exposition format 0.0.4, standard library only.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import logging
import math
import re
import threading
from typing import Any, Dict, Sequence, Tuple

from orchestrator.boards.monitor import PortStatus
from orchestrator.errors import UsageError, why_not_listening
from orchestrator.exposition import CONTENT_TYPE, Page
from orchestrator.http_server import BoundedServer, Handler
from orchestrator.wire.board_records import measured

log = logging.getLogger("edgeward.monitor")

_COUNTERS = ("inferences", "errors", "bad_frames", "latency_count")
"""Fields of a metrics record that only grow until the board restarts."""
_OURS = ("board_up", "board_info", "latency_microseconds")
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_INFO_FIELDS = ("chip", "engine", "firmware", "name", "state")


def parse_address(text: str) -> Tuple[str, int]:
    """`HOST:PORT`, `:PORT` or `PORT`; without a host, loopback: records are for this machine unless asked otherwise."""
    host, _, port = text.rpartition(":")
    if not (port.isdecimal() and len(port) <= 5) or not 0 <= int(port) <= 65535:
        raise UsageError(f"--prometheus {text}: expected HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


class PrometheusEndpoint:
    """Serves what the monitor knows, from `with` to its end. Port 0 takes a free one; `url` says which."""

    def __init__(self, address: Tuple[str, int], boards: Sequence[PortStatus]) -> None:
        handler = type("Handler", (_Metrics,), {"boards": boards})
        try:
            self._server = BoundedServer(address, handler, log)
        except OSError as error:
            raise UsageError(f"--prometheus {address[0]}:{address[1]}: {why_not_listening(error)}") from error
        self.url = f"http://{address[0]}:{self._server.server_address[1]}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> PrometheusEndpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Metrics(Handler):
    boards: Sequence[PortStatus] = ()

    def get(self) -> Tuple[int, str, bytes]:
        if self.path.split("?")[0] != "/metrics":
            return 404, "text/plain; charset=utf-8", b"the metrics are at /metrics\n"
        return 200, CONTENT_TYPE, render(self.boards).encode()


def render(boards: Sequence[PortStatus]) -> str:
    """The whole page. Everything a simulated board says of time carries simulated="true", or "unknown" until it said."""
    page = Page()
    for board in boards:
        port = {"port": board.port}
        page.add("edgeward_board_up", "gauge", "1 while the port is open", port, int(board.connected))
        stats = board.stats
        page.add("edgeward_records_total", "counter", "Intact records received", port, stats.received)
        page.add("edgeward_records_lost_total", "counter", "Sequence numbers never received", port, stats.lost)
        page.add("edgeward_records_corrupt_total", "counter", "Damaged records seen", port, stats.corrupt)
        page.add("edgeward_boots_total", "counter", "Boot ids seen", port, stats.boots)
        page.add("edgeward_acted_total", "counter", "Times a rule of the board acted", port, board.acted)
        last = dict(board.last)
        info = last.get("info") or last.get("boot")
        simulated = "unknown"
        if info is not None:
            labels = {name: str(info.fields.get(name, "")) for name in _INFO_FIELDS}
            simulated = "true" if info.fields.get("simulated") else "false"
            labels = {**port, **labels, "model": info.model or "", "simulated": simulated}
            page.add("edgeward_board_info", "gauge", "What the board and its model are", labels, 1)
        port = {**port, "simulated": simulated}
        metrics = last.get("metrics")
        for field, value in () if metrics is None else measured(metrics.fields).items():
            _add_field(page, port, field, value)
    return page.text()


def _add_field(page: Page, port: Dict[str, str], field: str, value: Any) -> None:
    if not _FIELD.fullmatch(field):
        return
    latency = re.fullmatch(r"latency_(min|p50|p95|p99|max)_us", field)
    if latency is not None:
        name, about = "edgeward_latency_microseconds", "Time of an inference on the board's own clock"
        if _number(value):
            page.add(name, "gauge", about, {**port, "statistic": latency[1]}, value)
    elif field in _OURS or field.endswith("_total"):
        return  # a board's own word for what we say of it
    elif _number(value) and field in _COUNTERS:
        page.add(f"edgeward_{field}_total", "counter", f"{field} of the metrics record", port, value)
    elif _number(value):
        page.add(f"edgeward_{field}", "gauge", f"{field} of the metrics record", port, value)
    elif isinstance(value, list) and all(_number(item) for item in value):
        for index, item in enumerate(value):
            about = f"{field} of the metrics record"
            page.add(f"edgeward_{field}", "gauge", about, {**port, "index": str(index)}, item)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
