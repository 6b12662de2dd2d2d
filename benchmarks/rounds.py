"""Seconds, bytes and memory of a round without training: gateway, broker and nodes as real processes on loopback.

python benchmarks/rounds.py --nodes 4 --params 100000 --rounds 10 [--broker embedded|mosquitto] [--json]
                            [--flower PYTHON]   the same in Flower, with the interpreter of an environment that has it
                            [--repeat 3]        so many times, with --flower in turn: medians, and of ratios those of each pair

Bytes are counted by the kernel on each node's socket (TCP payload: MQTT framing, acknowledgements and resends
included), whole run over nodes x rounds, from the first training round to the end; those down from the second round on are
the gateway's messages. Memory is peak resident memory of
each process. Seconds are from one round's announcement to the next one's.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import flower_peer
import numpy as np

from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.wire.codec import CODECS
from orchestrator.wire.process import peak_memory_mib
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import WEIGHTS, Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

NODE = Path(__file__).with_name("no_training_node.py")


def make_task(nodes: int, rounds: int, codec: str, aggregation: str = "plain", weights: str = "float32") -> Task:
    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x", 0, 1),), standardization="range"
    )
    return Task(
        "benchmark",
        schema,
        {"kind": "mlp", "hidden": []},
        Training(rounds=rounds),
        Privacy(unit="none"),
        Rounds(nodes=nodes, quorum=nodes, weights=weights),
        aggregation=Aggregation(aggregation),
        codec=codec,
    )


def measure(
    nodes: int,
    params: int,
    rounds: int,
    broker_kind: str,
    codec: str,
    aggregation: str = "plain",
    weights_codec: str = "int8",
) -> Dict[str, Any]:
    task = make_task(nodes, rounds, codec, aggregation, weights_codec)
    weights = np.random.default_rng(0).normal(0, 0.1, params).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, OwnBroker(broker_kind) as broker:
        data = Path(folder, "data.csv")
        data.write_text("x,y\n0.5,1\n")
        store = Store(Path(folder, "gateway.sqlite"))
        store.create_run("benchmark", task_to_dict(task), b"", weights)
        gateway = Gateway(store, "benchmark", "benchmark", broker.address, broker)
        processes = [start_node(str(broker.address), f"node-{i}", data, Path(folder)) for i in range(nodes)]
        try:
            result = gateway.run()
            for process in processes:
                process.wait(30)
        finally:
            for process in processes:
                process.kill()
        broker_mib = peak_memory_mib(str(broker.pid))
    return {"weights": weights_codec, **summarize(result, nodes, params, rounds, broker_kind, codec, broker_mib)}


def start_node(broker: str, name: str, data: Path, folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(NODE), broker, "benchmark", name, str(data), str(folder / name)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def summarize(
    result: Any, nodes: int, params: int, rounds: int, broker_kind: str, codec: str, broker_mib: float
) -> Dict[str, Any]:
    seconds = [r["seconds"] for r in result.rounds]
    figures: List[Dict[str, Any]] = list(result.nodes.values())
    up = statistics.mean(n["bytes_up_per_round"] for n in figures)
    later = statistics.mean(r["bytes_down"] for r in result.rounds[1:]) / nodes if rounds > 1 else math.nan
    down = statistics.mean(n["bytes_down_per_round"] for n in figures)
    return {
        "nodes": nodes,
        "params": params,
        "rounds": rounds,
        "broker": broker_kind,
        "codec": codec,
        "seconds_per_round": statistics.median(seconds),
        "seconds_min_max": [min(seconds), max(seconds)],
        "bytes_up_per_node_round": up,
        "bytes_down_per_node_round": down,
        "bytes_down_later": later,
        "float32_bytes": 4 * params,
        "up_ratio": up / (4 * params),
        "down_ratio_later": later / (4 * params),
        "node_mib": max(n["memory_mib"] for n in figures),
        "gateway_mib": peak_memory_mib(),
        "broker_mib": broker_mib,
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
    }


def print_beside(runs: List[Dict[str, Any]]) -> None:
    """A Markdown table of both systems: medians over the runs, the ratio of each run and its least and most."""
    first, times = runs[0], f"{len(runs)} runs of " if len(runs) > 1 else ""
    print(f"{first['nodes']} nodes, {first['params']:,} parameters, {times}{first['rounds']} rounds\n")
    print("| | Edgeward | Flower | ratio | least and most |")
    print("|---|---|---|---|---|")
    for name, text in (
        ("seconds_per_round", "seconds per round, median"),
        ("bytes_up_per_node_round", "bytes up per node and round"),
        ("bytes_down_per_node_round", "bytes down per node and round"),
        ("node_mib", "node, MiB"),
        ("gateway_mib", "server, MiB"),
    ):
        pairs = [(run[name], run["flower"][name]) for run in runs]
        ours, theirs = (statistics.median(side) for side in zip(*pairs))
        ratios = [a / b for a, b in pairs]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"| {text} | {ours:,.4g} | {theirs:,.4g} | {statistics.median(ratios):.3f} | {spread} |")
    later, shares = ([run[name] for run in runs] for name in ("bytes_down_later", "down_ratio_later"))
    print(
        f"\nBytes down from the second round on: {middle(later):,.4g}, {middle(shares):.3f} of float32's ({runs[0]['weights']})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--params", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--broker", choices=("embedded", "mosquitto"), default="embedded")
    parser.add_argument("--codec", choices=CODECS, default="int8")
    parser.add_argument(
        "--weights", choices=WEIGHTS, default="int8", help="how weights travel down, [task.rounds] weights"
    )
    parser.add_argument("--flower", metavar="PYTHON", help="also run Flower with this interpreter, in the same run")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runs = []
    for _ in range(arguments.repeat):
        runs.append(
            measure(
                arguments.nodes,
                arguments.params,
                arguments.rounds,
                arguments.broker,
                arguments.codec,
                weights_codec=arguments.weights,
            )
        )
        if arguments.flower:
            size = (arguments.nodes, arguments.params, arguments.rounds)
            runs[-1]["flower"] = flower_peer.measure(arguments.flower, *size)
    if arguments.json:
        for figures in runs:
            print(json.dumps(figures))
        return
    if arguments.flower:
        print_beside(runs)
        return
    for name in runs[0]:
        value = middle([figures[name] for figures in runs])
        print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")


def middle(values: List[Any]) -> Any:
    """The median of numbers; of anything else the first."""
    return statistics.median(values) if isinstance(values[0], float) else values[0]


if __name__ == "__main__":
    main()
