"""How long an analysis takes with five nodes as processes over MQTT, and in how much memory."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Sequence

import numpy as np
from hospital_tables import HIE, Data, read, written

from orchestrator.gateway.broker import free_port

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]


TIMED: Dict[str, str] = {
    "statistics": 'kind = "statistics"\nbins = 20\n',
    "linear regression": 'kind = "regression"\noutcome = "ghindx"\n',
    "logistic regression": 'kind = "regression"\nfamily = "logistic"\noutcome = "child"\ninputs = ["mdvis", "ghindx"]\n',
    "kmeans": 'kind = "kmeans"\nclusters = 3\nrounds = 10\n',
}


def memory_mib(process: int) -> Dict[str, float]:
    """resident and private, of /proc/PID/smaps_rollup."""
    found = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        found[name] = int(size) / 1024
    return {"resident": found["Rss:"], "private": found["Private_Clean:"] + found["Private_Dirty:"]}


def timed(source: Path, declared: str, method: str) -> Dict[str, Any]:
    """Seconds from the last node's `ready` to the end of all rounds and to the tables, and the largest node's memory."""
    rows, port = read(source / "rand-hie" / "randhie.csv"), free_port()
    with tempfile.TemporaryDirectory() as place:
        folder, running = Path(place), []
        paths = written(Data(HIE, [rows[start::5] for start in range(5)]), folder)
        features = ", ".join(
            f'{{ name = "{f.name}", categories = {json.dumps(list(f.categories))} }}'
            if f.categories
            else f'{{ name = "{f.name}", minimum = {f.minimum}, maximum = {f.maximum} }}'
            for f in HIE
        )
        (folder / "edgeward.toml").write_text(
            f'[gateway]\nfederation = "timed"\nport = {port}\n[task]\nname = "timed"\n[task.rounds]\nnodes = 5\nquorum = 5\n'
            f'[task.privacy]\nunit = "none"\n[task.aggregation]\nmethod = "{method}"\n'
            f'[task.schema]\nkind = "table"\nmissing_markers = [""]\nfeatures = [{features}]\n[task.analysis]\n{declared}'
        )
        quiet: Dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True}
        try:
            gateway = subprocess.Popen(
                [*MAIN, "gateway", "run", "edgeward.toml", "--out", "out", "--json"], stdout=subprocess.PIPE, **quiet
            )
            running.append(gateway)
            at = ["--broker", f"mqtt://127.0.0.1:{port}", "--federation", "timed"]
            for number, path in enumerate(paths):
                words = [
                    "node",
                    "run",
                    *at,
                    "--name",
                    f"n{number}",
                    "--data",
                    path.name,
                    "--state",
                    f"s{number}",
                    "--once",
                ]
                running.append(subprocess.Popen([*MAIN, *words], stdout=subprocess.DEVNULL, **quiet))
            joined = finished = 0.0
            largest, rounds = {"resident": 0.0, "private": 0.0}, 0
            assert gateway.stdout is not None
            for event in map(json.loads, gateway.stdout):
                now = time.monotonic()
                if event["event"] == "joined":
                    joined = now
                elif event["event"] == "aggregated":
                    rounds, finished = event["round"], now
                    each = [memory_mib(process.pid) for process in running[1:]]
                    largest = {name: max(largest[name], *(one[name] for one in each)) for name in largest}
                elif event["event"] == "result":
                    return {"rounds": rounds, "rounds_s": finished - joined, "result_s": now - joined, **largest}
        finally:
            for process in running:
                process.kill()
                process.wait()
    raise SystemExit("the gateway ended without a result")


def times(source: Path, wanted: Sequence[str], repeats: int) -> None:
    print("| analysis | sums | rounds | s, all rounds | s, tables | node, MiB resident | private |\n|" + "---|" * 7)
    for name, declared in TIMED.items():
        for method in ("plain", "masked"):
            if not wanted or name in wanted:
                found = [timed(source, declared, method) for _ in range(repeats)]
                middle = {key: float(np.median([each[key] for each in found])) for key in found[0]}
                print(
                    f"| {name} | {method} | {middle['rounds']:.0f} | {middle['rounds_s']:.2f} | {middle['result_s']:.2f} | "
                    f"{middle['resident']:.0f} | {middle['private']:.0f} |",
                    flush=True,
                )
