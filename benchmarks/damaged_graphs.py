"""Damaged training graphs through one real `edgeward node run`: whether it lives, what it answers, how much memory it takes.

python benchmarks/damaged_graphs.py [--count 20000] [--seed 0] [--json]

A malicious gateway puts task after task before the node over a real broker, each with a mutant of an honest graph (kinds of
damage and graphs by turns, tests/graph_mutants.py). Where the node takes a task whose graph computes something else than the
honest ones, its round is announced too, so that the graph runs on the node's rows. The node's limit of declarations a day stays
as it is: it counts declarations, of which there are two, not graphs. The honest graphs come first and again at the end: the node
still serves them. Memory is resident memory of the node and of its processes for graphs together, sampled every 20 ms. Exit code
1 where the node overran a limit or took 100 MiB or more; where it died the run stops. SIGTERM ends it early, with what was
measured so far.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hostile_gateway"))

from damaged import Watch, answer, computes, declarations, offered, put_before, table
from graph_mutants import KINDS, mutant
from inside import csv_of
from malicious import Attack, MaliciousGateway, NodeProcess

from orchestrator.gateway.broker import OwnBroker
from orchestrator.node import graph_channel, graph_process

FEATURES, CLASSES, BATCH = 12, 2, 8
MOST_MIB = 100.0
PROCESS_REASONS = (
    graph_channel.ENDED,
    graph_channel.OVERRAN,
    graph_channel.WRONG,
    graph_channel.FAILED,
    graph_process.UNSTEADY,
)


def honest_graphs(folder: Path) -> Dict[str, bytes]:
    """Of a linear model, one with a hidden layer, and one with a convolution, all for the same table."""
    from model_export.client import run_worker

    convolution = folder / "convolution.keras"
    models: Dict[str, Dict[str, Any]] = {
        "linear": {"kind": "mlp", "hidden": [], "activation": "relu"},
        "hidden layer": {"kind": "mlp", "hidden": [8], "activation": "relu"},
        "convolution": {"kind": "keras", "path": str(convolution)},
    }
    _write_convolution(convolution)
    found = {}
    for name, model in models.items():
        place = folder / name.replace(" ", "-")
        shape = {"input_shape": [FEATURES], "classes": CLASSES, "batch_size": BATCH, "seed": 0}
        run_worker("prepare", {"model": model, **shape}, place)
        found[name] = (place / "training.tflite").read_bytes()
    return found


def _write_convolution(path: Path) -> None:
    from model_export.quiet import tensorflow

    layers = tensorflow().keras.layers
    tensorflow().keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Reshape((FEATURES, 1)),
            layers.Conv1D(4, 3, activation="relu", padding="same"),
            layers.MaxPooling1D(2),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    ).save(path)


def measure(count: int, seed: int) -> Dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        graphs = list(honest_graphs(folder).values())
        kind = "mosquitto" if shutil.which("mosquitto", path="/usr/bin:/usr/sbin") else "embedded"
        header = [*(f"x{i}" for i in range(FEATURES)), "y"]
        with OwnBroker(kind) as broker, MaliciousGateway(broker.address, "damaged") as gateway:
            rows = csv_of(header, table(FEATURES))
            node = NodeProcess(broker.address, "damaged", "icu-1", folder / "icu-1", rows)
            node.start()
            try:
                attack = Attack(gateway, node)
                attack.wait()
                return {"seed": seed, "graphs": len(graphs), **_bombard(attack, graphs, count, seed)}
            finally:
                node.stop()


def _bombard(attack: Attack, graphs: List[bytes], count: int, seed: int) -> Dict[str, Any]:
    tasks = declarations(FEATURES, CLASSES)
    known = {computes(graph) for graph in graphs}
    words: Dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    slowest = 0.0
    process = attack.node.process
    assert process is not None

    def serve(when: str) -> None:
        for i, graph in enumerate(graphs):
            word = put_before(attack, f"honest-{when}-{i}", tasks[i % 2], graph)
            assert (word.verdict, word.answer) == ("ready", "update"), f"an honest graph, {when}: {word}"

    stop: List[int] = []
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda number, frame: stop.append(number))
    done = 0
    with Watch(process.pid) as watch:
        serve("before")
        before_mib = watch.peak_mib
        while done < count and not stop:
            kind, graph = mutant(done, graphs, seed)
            run, task, begin = f"m{done}", tasks[done % 2], time.monotonic()
            word = offered(attack, run, task, graph)
            if word.verdict == "ready":
                same = computes(graph) in known
                if not same:  # what computes the same was run before
                    word = word._replace(answer=answer(attack, run, graph))
                word = word._replace(verdict="same" if same else "another")
            slowest, done = max(slowest, time.monotonic() - begin), done + 1
            words[kind]["".join(word)] += 1
            if done % 500 == 0:
                print(f"{done} mutants, peak {watch.peak_mib:.1f} MiB", file=sys.stderr, flush=True)
        serve("after")
    log = attack.node.log
    return {
        "mutants": done,
        "words": {kind: dict(sorted(counted.items())) for kind, counted in words.items()},
        "processes": {reason: log.count(reason) for reason in PROCESS_REASONS},
        "children": watch.children,
        "longest_child_s": watch.longest_s,
        "slowest_answer_s": slowest,
        "before_mib": before_mib,
        "peak_mib": watch.peak_mib,
        "alive": attack.node.alive,
    }


def print_tables(found: Dict[str, Any]) -> None:
    """Markdown."""
    columns = {
        "declined": "graph",
        "taken, computes the same": "same",
        "taken, another model, round answered": "anotherupdate",
    }
    titles = " | ".join(("kind of damage", "mutants", *columns, "taken, another model, round refused"))
    print(f"| {titles} |\n|{'---|' * (len(columns) + 3)}")
    totals = [0] * (len(columns) + 2)
    for kind, words in found["words"].items():
        counts = [words.get(how, 0) for how in columns.values()]
        line = [sum(words.values()), *counts, sum(words.values()) - sum(counts)]
        totals = [a + b for a, b in zip(totals, line)]
        print(f"| {kind} | {' | '.join(f'{n:,}' for n in line)} |")
    print(f"| all | {' | '.join(f'{n:,}' for n in totals)} |")
    print(f"\n{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n\n| | |\n|---|---|")
    for reason, count in found["processes"].items():
        print(f"| node's log: {reason} | {count:,} |")
    print(f"| processes of graphs started | {found['children']:,} |")
    print(f"| longest life of one, s | {found['longest_child_s']:.2f} |")
    print(f"| slowest task and round, s | {found['slowest_answer_s']:.2f} |")
    print(f"| node and process, MiB, after the honest graphs | {found['before_mib']:.1f} |")
    print(f"| node and process, MiB, peak | {found['peak_mib']:.1f} |")
    print(f"| the node at the end | {'alive, serves the honest graphs' if found['alive'] else 'dead'} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.count, given.seed)
    if given.json:
        print(json.dumps(found))
    else:
        print_tables(found)
    held = found["alive"] and not found["processes"][graph_channel.OVERRAN] and found["peak_mib"] < MOST_MIB
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
