"""A round with very many nodes: one gateway, mosquitto, and as many real MQTT connections as asked for.

python benchmarks/connections.py [--clients 1000] [--params 10000] [--rounds 2] [--processes 2] [--json]

The clients are the product's node agents, spread over a few processes (benchmarks/swarm.py); they train nothing. Seconds are from
the round's announcement to its stored result. Memory is peak resident memory.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.wire.process import peak_memory_mib
from orchestrator.wire.task import Feature, Privacy, Rounds, Schema, Task, Training, task_to_dict

SWARM = Path(__file__).with_name("swarm.py")


def make_task(nodes: int, rounds: int) -> Task:
    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x", 0, 1),), standardization="range"
    )
    rules = Rounds(nodes=nodes, quorum=nodes, deadline_s=600.0, gather_s=1200.0)
    return Task("connections", schema, {"kind": "none"}, Training(rounds=rounds), Privacy(unit="none"), rules)


def measure(clients: int, params: int, rounds: int, processes: int) -> Dict[str, Any]:
    allow_open_files(2 * clients + 1000)
    times: Dict[str, float] = {"start": time.monotonic()}

    def progress(event: Dict[str, Any]) -> None:
        if event["event"] == "round":
            times.setdefault("all here", time.monotonic())

    with tempfile.TemporaryDirectory() as folder, OwnBroker("mosquitto") as broker:
        store = Store(Path(folder, "gateway.sqlite"))
        weights = np.random.default_rng(0).normal(0, 0.1, params).astype(np.float32)
        store.create_run("run", task_to_dict(make_task(clients, rounds)), b"", weights)
        gateway = Gateway(store, "run", "connections", broker.address, broker, progress=progress)
        swarms: List[subprocess.Popen[str]] = []
        try:
            for i in range(processes):
                part = clients // processes + (i < clients % processes)
                home = Path(folder, f"swarm-{i}")
                home.mkdir()
                command = [sys.executable, str(SWARM), str(broker.address), "connections", str(part), str(home)]
                swarms.append(subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True))
            result = gateway.run()
            swarm_mib = [float(swarm.communicate(timeout=120)[0]) for swarm in swarms]
        finally:
            for swarm in swarms:
                swarm.kill()
        broker_mib = peak_memory_mib(str(broker.pid))
    return {
        "clients": clients,
        "parameters": params,
        "rounds": len(result.rounds),
        "updates": [r["updates"] for r in result.rounds],
        "seconds_to_gather": times["all here"] - times["start"],
        "seconds_per_round": [r["seconds"] for r in result.rounds],
        "bytes_up_per_node_round": result.rounds[-1]["bytes_up"] / clients,
        "bytes_down_per_node_round": result.rounds[-1]["bytes_down"] / clients,
        "gateway_mib": peak_memory_mib(),
        "broker_mib": broker_mib,
        "swarm_mib": swarm_mib,
        "machine": f"{os.cpu_count()} cores, {platform.machine()} {platform.system()}, Python {platform.python_version()}",
    }


def allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--params", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.clients, arguments.params, arguments.rounds, arguments.processes)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"{figures['clients']} connections, {figures['parameters']:,} parameters, {figures['machine']}\n")
    print("| | |\n|---|---|")
    for name, value in figures.items():
        if name not in ("clients", "parameters", "machine"):
            shown = ", ".join(f"{v:.4g}" for v in value) if isinstance(value, list) else f"{value:.4g}"
            print(f"| {name.replace('_', ' ')} | {shown} |")


if __name__ == "__main__":
    main()
