"""Nodes that fit a model among themselves over the broker, from end to end: one is killed amid the exchange and comes back."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest

from orchestrator.gateway.broker import free_port

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
NODES, STRENGTH = ("a", "b", "c"), 0.01
TOML = """
[gateway]
federation = "peers"
port = {port}
[task]
name = "svm"
[task.rounds]
nodes = 3
quorum = 3
[task.privacy]
unit = "none"
[task.aggregation]
method = "masked"
[task.analysis]
kind = "svm"
outcome = "ill"
nodes = ["a", "b", "c"]
graph = "edges"
edges_file = "graph.txt"
strength = {strength}
iterations = 400
step = 2.0
patience_s = 0.3
[task.schema]
kind = "table"
features = [
  {{ name = "u", minimum = 0, maximum = 10 }},
  {{ name = "v", minimum = 0, maximum = 10 }},
  {{ name = "w", minimum = 0, maximum = 10 }},
  {{ name = "ill", categories = ["no", "yes"] }},
]
"""


class Processes:
    """Of a federation in a folder; they end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._running: List[subprocess.Popen[str]] = []
        (folder / "graph.txt").write_text("# a ring\na b\nb c\n\nc a\n")
        (folder / "edgeward.toml").write_text(TOML.format(port=self.port, strength=STRENGTH))
        draw, self.rows = np.random.default_rng(3), []
        for node in NODES:
            with (folder / f"{node}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["u", "v", "w", "ill"])
                for _ in range(80):
                    u, v, w = draw.uniform(0, 10, 3).round(2)
                    ill = u - 0.5 * v + draw.normal(0, 2) > 2.5
                    writer.writerow([u, v, w, "yes" if ill else "no"])
                    label = 1.0 if ill else -1.0
                    self.rows.append(label * np.array([1.0, u / 5 - 1, v / 5 - 1, w / 5 - 1]))

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def start(self, log: str, *words: str, listen: bool = False) -> "subprocess.Popen[str]":
        with (self.folder / f"{log}.txt").open("a") as file:
            out = subprocess.PIPE if listen else file
            process = subprocess.Popen(
                [*MAIN, *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=file, text=True
            )
        self._running.append(process)
        return process

    def node(self, name: str) -> "subprocess.Popen[str]":
        at = ["--broker", f"mqtt://127.0.0.1:{self.port}", "--federation", "peers", "--name", name]
        return self.start(name, "node", "run", *at, "--state", f"state-{name}", "--data", f"{name}.csv", "--once")

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.txt")))


def events(process: "subprocess.Popen[str]") -> Iterator[Dict[str, Any]]:
    assert process.stdout is not None
    return (json.loads(line) for line in process.stdout)


def kept(state: Path) -> int:
    """Bytes of what a node kept of its exchange, 0 before it kept anything."""
    from orchestrator.database import open_read_only

    with open_read_only(state / "node.sqlite") as store:
        found = store.execute("SELECT length(state) FROM exchanges").fetchone()
    return int(found[0]) if found else 0


def test_nodes_agree_over_the_broker_though_one_is_killed_and_comes_back(tmp_path: Path) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    with Processes(tmp_path) as federation:
        gateway = federation.start("gateway", "gateway", "run", "edgeward.toml", "--out", "out", "--json", listen=True)
        nodes = {name: federation.node(name) for name in NODES}
        said = events(gateway)
        for event in said:
            if event["event"] == "aggregated":
                break
        while not kept(tmp_path / "state-b"):
            assert nodes["b"].poll() is None, federation.log()
        nodes["b"].send_signal(signal.SIGKILL)
        nodes["b"].wait()
        federation.node("b")
        report = list(said)[-1]
        assert report["event"] == "result", federation.log()
    tables = {table["name"]: table["rows"] for table in report["analysis"]["tables"]}
    rows, records = np.array(federation.rows), len(federation.rows)
    prices = np.array([0.0, STRENGTH, STRENGTH, STRENGTH])
    best = optimize.linprog(
        np.concatenate([prices, prices, np.full(records, 1 / records)]),
        A_ub=np.hstack([-rows, rows, -np.eye(records)]),
        b_ub=-np.ones(records),
        bounds=(0, None),
        method="highs",
    )
    fit = dict(map(tuple, tables["fit"]))
    assert fit["records used"] == records
    assert best.fun <= fit["objective"] <= best.fun * 1.01, "it was away until the end, or nearly"
    there = {row[0]: row[2:] for row in tables["nodes"]}
    assert [there[name][0] for name in NODES] == [400, 400, 400]
    assert there["a"][1] == there["c"][1] == 0
    assert sum(row[5] for row in tables["messages"]) == 0, "none was refused"
    assert {(row[0], row[1]) for row in tables["messages"]} == {(a, b) for a in NODES for b in NODES if a != b}
    assert "each neighbour of a node" in report["privacy"]["claim"]
    assert (tmp_path / report["analysis"]["folder"] / "result.png").stat().st_size > 5000
    assert not kept(tmp_path / "state-a"), "what is made of records is gone with the run"
