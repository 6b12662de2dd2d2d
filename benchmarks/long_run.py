"""A run of very many rounds: what grows with it. Gateway with dashboard, embedded broker and nodes as real processes on loopback.

python benchmarks/long_run.py [--rounds 20000] [--nodes 4] [--json]

Nodes train nothing (no_training_node.py). One page of the dashboard is open all the time. At 1,000, 2,000, 5,000, 10,000 ...
rounds it looks, without stopping anything, at

- resident memory of gateway, dashboard and one node;
- bytes of gateway.sqlite (with its log), the audit log with its earlier files, and of that node's store and ledger;
- rows of the largest tables;
- the first answer a page gets, and the largest event the open page got since the look before;
- a restart: the store is copied with SQLite's own backup and the same command is given for the copy; seconds from when it
  opens the store until the open round is announced again, and from the start of the process.

At the end the gateway is killed (SIGKILL) and the same command ends the run with the same nodes.
"""

import argparse
import json
import platform
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from orchestrator.wire.process import resident_memory_mib

NODE = Path(__file__).with_name("no_training_node.py")
CONFIG = """
[gateway]
federation = "long"
broker = "embedded"
port = {port}
dashboard = "127.0.0.1:{dashboard}"
[task]
name = "long"
[task.schema]
kind = "table"
label = "y"
classes = ["no", "yes"]
label_values = {{ "0" = 0, "1" = 1 }}
features = [{{ name = "x", minimum = 0, maximum = 1 }}]
standardization = "range"
[task.model]
kind = "mlp"
hidden = []
[task.training]
rounds = {rounds}
[task.privacy]
unit = "none"
[task.rounds]
nodes = {nodes}
quorum = {nodes}
"""
LOOKS = (1000, 2000, 5000)
AFTER = 50
"""Rounds left for the gateway that is started again."""
EDGEWARD = [sys.executable, "-m", "orchestrator.cli.main"]
COLUMNS = {
    "rounds": "rounds",
    "gateway_mib": "gateway, MiB",
    "dashboard_mib": "dashboard, MiB",
    "node_mib": "node, MiB",
    "store_kib": "gateway.sqlite, KiB",
    "journal_events": "events in it",
    "audit_kib": "audit log, KiB",
    "node_store_kib": "node.sqlite, KiB",
    "node_ledger_kib": "ledger.sqlite, KiB",
    "first_page_bytes": "first answer, bytes",
    "event_bytes": "largest event, bytes",
    "restart_s": "restart, s",
    "process_s": "with the start of Python, s",
    "ms_per_round": "ms a round",
}


def looks(rounds: int) -> List[int]:
    """1, 2, 5, 10, 20, 50 ... thousand, and the end; a tenth of each where there are fewer rounds."""
    scale = 1 if rounds >= LOOKS[0] else 0.05
    found = sorted({int(at * scale * 10**power) for at in LOOKS for power in range(4)} | {rounds})
    return [at for at in found if at <= rounds]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Viewer:
    """A page that is open: the stream of events, as a browser reads it."""

    def __init__(self, port: int) -> None:
        self.first_bytes = self.largest = 0
        self._url = f"http://127.0.0.1:{port}/api/events"
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _follow(self) -> None:
        with urllib.request.urlopen(self._url) as answer:
            for size in sizes(answer):
                self.largest = max(self.largest, size)

    def since(self) -> int:
        """Bytes of the largest event since this was asked last."""
        found, self.largest = self.largest, 0
        return found

    def first_page(self) -> int:
        """Bytes of all sections, as a page that opens now gets them."""
        with urllib.request.urlopen(self._url.replace("events", "overview")) as answer:
            return len(answer.read())


def sizes(answer: Any) -> Iterator[int]:
    """Bytes of each event of a stream, its name included."""
    size = 0
    for line in answer:
        size += len(line)
        if line == b"\n":
            yield size
            size = 0


class Federation:
    """A gateway of the real command, and nodes that train nothing."""

    def __init__(self, folder: Path, nodes: int, rounds: int) -> None:
        self.folder, self.out = folder, folder / "out"
        (folder / "data.csv").write_text("x,y\n0.5,1\n0.25,0\n")
        self._text = CONFIG.format(nodes=nodes, rounds=rounds + AFTER, port="PORT", dashboard="PAGE")
        self._ports = (free_port(), free_port())
        self._command = self._configured(folder, *self._ports)
        self.gateway = start(self._command, folder / "gateway.log")
        self._nodes = [self._start_node(f"node-{i}") for i in range(nodes)]
        self.viewer = Viewer(self._ports[1])
        self._at: Optional[Tuple[float, int]] = None

    def _configured(self, folder: Path, port: int, page: int) -> List[str]:
        """The command of a gateway whose state is below `folder`."""
        config = folder / "edgeward.toml"
        config.write_text(self._text.replace("PORT", str(port)).replace("PAGE", str(page)))
        return [*EDGEWARD, "gateway", "run", str(config), "--out", str(folder / "out"), "--json"]

    def _start_node(self, name: str) -> "subprocess.Popen[bytes]":
        broker = f"mqtt://127.0.0.1:{self._ports[0]}"
        command = [sys.executable, str(NODE), broker, "long", name, str(self.folder / "data.csv")]
        return start([*command, str(self.folder / name)], self.folder / f"{name}.log")

    def close(self) -> None:
        for process in (self.gateway, *self._nodes):
            process.terminate()
        for process in (self.gateway, *self._nodes):
            process.wait(60)

    def kill(self) -> None:
        self.gateway.kill()
        self.gateway.wait()

    def finish(self) -> Dict[str, Any]:
        """The same command again, which ends the run."""
        begun, number = time.monotonic(), self.round()
        self.gateway = start(self._command, self.folder / "gateway.log")
        self.wait_for(number + 1)
        seconds = time.monotonic() - begun
        code = self.gateway.wait()
        for node in self._nodes:
            node.wait(60)
        report = kib(self.out, "result.json")
        return {"killed_at": number, "next_round_after_s": seconds, "exit_code": code, "result_kib": report}

    def round(self) -> int:
        """The newest aggregated round; 0 before there is one."""
        try:
            return self._count("SELECT COALESCE(MAX(round), 0) FROM results")
        except sqlite3.Error:
            return 0  # the gateway is only starting

    def wait_for(self, number: int) -> None:
        while self.round() < number:
            if self.gateway.poll() is not None:
                raise SystemExit(f"the gateway ended: {(self.folder / 'gateway.log').read_text()[-2000:]}")
            time.sleep(0.2)

    def look(self) -> Dict[str, Any]:
        now, number = time.monotonic(), self.round()
        before, self._at = self._at or (now, number), (now, number)
        figures: Dict[str, Any] = {
            "rounds": number,
            "gateway_mib": resident_memory_mib(str(self.gateway.pid)),
            "dashboard_mib": resident_memory_mib(str(dashboard_of(self.gateway.pid))),
            "node_mib": resident_memory_mib(str(self._nodes[0].pid)),
            "store_kib": kib(self.out, "gateway.sqlite*"),
            "journal_events": self._count("SELECT COUNT(*) FROM events"),
            "audit_kib": kib(self.out, "audit*"),
            "node_store_kib": kib(self.folder / "node-0", "node.sqlite*"),
            "node_ledger_kib": kib(self.folder / "node-0", "ledger.sqlite*"),
            "first_page_bytes": self.viewer.first_page(),
            "event_bytes": self.viewer.since(),
        }
        if number > before[1]:
            figures["ms_per_round"] = 1000 * (now - before[0]) / (number - before[1])
        return figures

    def _count(self, query: str) -> int:
        with closing(reading(self.out / "gateway.sqlite")) as database:
            return int(database.execute(query).fetchone()[0])

    def restart(self) -> Dict[str, float]:
        """Begins a copy of the gateway again, without nodes, up to the announcement of the open round."""
        with tempfile.TemporaryDirectory(dir=self.folder) as beside:
            folder = Path(beside)
            command = self._configured(folder, free_port(), free_port())
            (folder / "out").mkdir()
            whole, copied = reading(self.out / "gateway.sqlite"), sqlite3.connect(folder / "out/gateway.sqlite")
            with closing(whole), closing(copied):
                whole.backup(copied)
                copied.execute("DELETE FROM audit_head")  # of a log that is not copied
                copied.commit()
            log, begun = folder / "gateway.log", time.monotonic()
            gateway = start(command, log)
            try:
                opened = wait_for_event(gateway, log, "dashboard")
                announced = wait_for_event(gateway, log, "round")
            finally:
                gateway.terminate()
                gateway.wait()
        return {"restart_s": announced - opened, "process_s": announced - begun}


def wait_for_event(gateway: "subprocess.Popen[bytes]", log: Path, kind: str) -> float:
    """When a gateway's output had this event, on the monotonic clock."""
    while f'"event": "{kind}"' not in log.read_text():
        if gateway.poll() is not None:
            raise SystemExit(f"the gateway ended: {log.read_text()[-2000:]}")
        time.sleep(0.01)
    return time.monotonic()


def start(command: List[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)


def dashboard_of(gateway: int) -> int:
    """The process of a gateway's dashboard."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == gateway and b"gateway.web.server" in status.with_name("cmdline").read_bytes():
                return int(status.parent.name)
        except OSError:
            continue  # it ended
    raise SystemExit("the gateway has no dashboard")


def kib(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1024


def measure(rounds: int, nodes: int, folder: Path, show: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """The end of the run; `show` gets the figures of each look."""
    federation = Federation(folder, nodes, rounds)
    try:
        federation.wait_for(1)
        federation.viewer.start()
        for at in looks(rounds):
            federation.wait_for(at)
            figures = federation.look()
            if at == rounds:
                federation.kill()
            show({**figures, **federation.restart()})
        return federation.finish()
    finally:
        federation.close()


def print_row(figures: Dict[str, Any]) -> None:
    cells = [figures.get(name, "") for name in COLUMNS]
    print("| " + " | ".join(f"{c:.4g}" if isinstance(c, float) else f"{c}" for c in cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.json:
        print(
            f"{arguments.nodes} nodes, {platform.machine()} {platform.system()}, Python {platform.python_version()}\n"
        )
        print("| " + " | ".join(COLUMNS.values()) + " |\n" + "|---" * len(COLUMNS) + "|")
    show = (lambda figures: print(json.dumps(figures), flush=True)) if arguments.json else print_row
    with tempfile.TemporaryDirectory() as folder:
        end = measure(arguments.rounds, arguments.nodes, Path(folder), show)
    print(json.dumps(end) if arguments.json else "\n" + ", ".join(f"{name} {value}" for name, value in end.items()))


if __name__ == "__main__":
    main()
