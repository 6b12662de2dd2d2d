"""Training on one node: records a second with privacy beside Opacus and JAX, and steps a second without beside Keras.

python benchmarks/training.py [--peers PYTHON] [--keras PYTHON] [--models mlp,ecg] [--batches 64,512] [--repeats 5] [--json]

    --peers   an interpreter that has opacus and jax
    --keras   one that has keras and tensorflow; by default this one

Every measured program, with all its processes and threads, is held to one and the same processor. What is compared is processor
time, since other work on a machine spoils the clock's: of ours, node and graph process together. A private step draws a Poisson
sample of the records, computes the gradient of each, clips it, sums and noises; JAX's samples have a fixed size, which is easier
for it. Data are random numbers. Memory is peak resident memory: of ours, of both processes together, from when the data and the
trainer are there. A graph for private steps has the default batch of a task, as a gateway exports it: samples have no fixed size.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import training_peers

HERE = Path(__file__).parent
PARAMETERS = {"mlp": 258, "ecg": 3843, "ecg-7k": 7075, "depthwise": 1338}
SPECS: Dict[str, Dict[str, Any]] = {
    "mlp": {"kind": "mlp", "hidden": [16], "activation": "relu"},
    "ecg": {"kind": "cnn1d", "filters": [16, 32], "kernel": 7, "pool": 2, "dense": []},
    "ecg-7k": {"kind": "cnn1d", "filters": [24, 40], "kernel": 7, "pool": 2, "dense": []},
}
TITLES = {
    "mlp": "MLP 13-16-2",
    "ecg": "CNN of the ECG demo",
    "ecg-7k": "the same, wider",
    "depthwise": "depthwise 2D-CNN",
}
WORK = {"mlp": 1 << 14, "ecg": 1 << 11, "ecg-7k": 1 << 11, "depthwise": 1 << 10}
"""Records of a repeat, about."""


def export(model: str, batch: int, file: Path) -> None:
    """Run in a process of its own: a node has no TensorFlow."""
    from model_export.models import build_model
    from model_export.training_graph import export_training_graph

    if model == "depthwise":
        network = training_peers.keras_model(model)
    else:
        shape, classes = ((13,), 2) if model == "mlp" else ((128, 1), 3)
        network = build_model(SPECS[model], shape, classes, 0)
    file.write_bytes(export_training_graph(network, batch))


def trainer_of(model: str, batch: int, steps: int, private: bool, graph: bytes) -> Any:
    from orchestrator.data.dataset import Dataset
    from orchestrator.node.trainer import GradientTrainer
    from orchestrator.wire.protection import Privacy
    from orchestrator.wire.schema import Feature, Schema
    from orchestrator.wire.task import Rounds, Task
    from orchestrator.wire.training import Training

    x, y = training_peers.data(model)
    classes = tuple(str(label) for label in range(int(y.max()) + 1))
    if model == "mlp":
        features = tuple(Feature(f"f{i}", -4, 4) for i in range(x.shape[1]))
        schema = Schema("table", "y", classes, {name: i for i, name in enumerate(classes)}, features)
    else:
        labels = {name: i for i, name in enumerate(classes)}
        samples, channels = (x.shape[1], x.shape[2]) if x.ndim == 3 else (x[0].size, 1)
        schema = Schema("signal", "y", classes, labels, samples=samples, channels=channels)
    privacy = Privacy(unit="none")
    if private:
        privacy = Privacy(
            epsilon=4.0,
            clip_norm=training_peers.CLIP,
            noise_multiplier=training_peers.NOISE,
            sampling_rate=batch / training_peers.RECORDS,
        )
    training = Training("fedavg", rounds=1000, local_steps=steps, learning_rate=training_peers.RATE)
    task = Task("benchmark", schema, {}, training, privacy, Rounds(1, 1))
    trainer = GradientTrainer(task, graph, Dataset(x, y), "node")
    trainer.expect(training_peers.RECORDS)
    return trainer


def ours(model: str, batch: int, private: bool, repeats: int, file: Path) -> Dict[str, Any]:
    """Seconds for each step of a node's own trainer, and its memory with its graph's process."""
    from orchestrator.wire.process import forget_start, keep_buffers, peak_memory_mib

    keep_buffers()
    steps = max(2, WORK[model] // batch)
    trainer = trainer_of(model, batch, steps, private, file.read_bytes())
    forget_start(new_peak=True)
    weights = np.random.default_rng(1).normal(0, 0.1, trainer.graph.parameters).astype(np.float32)
    process = trainer.graph.process.pid
    trainer.train(weights, 1)
    wall: List[float] = []
    used: List[float] = []
    for number in range(2, repeats + 2):
        begun, before = time.perf_counter(), time.process_time() + processor_s(process)
        trainer.train(weights, number)
        wall.append((time.perf_counter() - begun) / steps)
        used.append((time.process_time() + processor_s(process) - before) / steps)
    memory = peak_memory_mib() + peak_memory_mib(str(process))
    rows = trainer.graph.process.rows() if private else trainer.graph.process.batch_rows()
    return {"wall_s": min(wall), "cpu_s": min(used), "memory_mib": memory, "rows": rows}


def processor_s(process: int) -> float:
    """Processor time of another process, of all its threads, to the nanosecond."""
    tasks = Path(f"/proc/{process}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def held(command: Sequence[str]) -> Dict[str, Any]:
    """The JSON a program prints that is held to one processor."""
    one = {max(os.sched_getaffinity(0))}
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, one),
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def measure(arguments: argparse.Namespace, folder: Path) -> List[Dict[str, Any]]:
    """A row for each model, batch size and library."""
    from orchestrator.wire.training import Training

    rows = []
    batches = [int(batch) for batch in arguments.batches.split(",")]
    repeats = str(arguments.repeats)
    named = arguments.models.split(",")
    of_peers = [model for model in named if model != "depthwise"]  # which Opacus and JAX are not given here
    for private, models in ((True, of_peers), (False, list(dict.fromkeys([*named, "depthwise"])))):
        for model in models:
            for batch in batches if private else batches[:1]:
                size = Training("fedavg").batch_size if private else batch
                file = folder / f"{model}-{size}.tflite"
                program = [sys.executable, str(Path(__file__))]
                held_to = {"model": model, "batch": batch, "private": private}
                if not file.exists():
                    subprocess.run(
                        [*program, "--export", model, str(size), str(file)], check=True, stderr=subprocess.DEVNULL
                    )
                kind = "private" if private else "plain"
                found = {"Edgeward": held([*program, "--ours", kind, model, str(batch), repeats, str(file)])}
                steps = str(max(2, WORK[model] // batch))
                peers = (
                    [("opacus", arguments.peers), ("jax", arguments.peers)] if private else [("keras", arguments.keras)]
                )
                for peer, python in peers:
                    if python:
                        script = str(HERE / "training_peers.py")
                        found[peer] = held([python, script, peer, model, str(batch), steps, repeats])
                rows += [{**held_to, "library": library, **figures} for library, figures in found.items()]
                for library, figures in found.items():
                    cost_us = 1e6 * figures["cpu_s"] / batch
                    print(
                        f"{kind}, {TITLES[model]}, batch {batch}: {library} {cost_us:.1f} us a record", file=sys.stderr
                    )
    return rows


def print_tables(rows: List[Dict[str, Any]]) -> None:
    for private, title in ((True, "Private steps"), (False, "Steps without privacy")):
        print(f"\n## {title}\n")
        print("| model | parameters | batch | library | us a record | records a second | beside ours | peak MiB |")
        print("|---|---|---|---|---|---|---|---|")
        chosen = [row for row in rows if row["private"] is private]
        for row in chosen:
            base = next(r for r in chosen if r["library"] == "Edgeward" and same(r, row))
            record_s = row["cpu_s"] / row["batch"]
            print(
                f"| {TITLES[row['model']]} | {PARAMETERS[row['model']]:,} | {row['batch']} | {row.get('version', 'Edgeward')} "
                f"| {1e6 * record_s:.1f} | {1 / record_s:,.0f} | {base['cpu_s'] / row['cpu_s']:.2f}x | {row['memory_mib']:.0f} |"
            )


def same(one: Dict[str, Any], other: Dict[str, Any]) -> bool:
    return bool(one["model"] == other["model"] and one["batch"] == other["batch"])


def main() -> None:
    if sys.argv[1:2] == ["--export"]:
        export(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        return
    if sys.argv[1:2] == ["--ours"]:
        kind, model, batch, repeats, file = sys.argv[2:]
        print(json.dumps(ours(model, int(batch), kind == "private", int(repeats), Path(file))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--keras", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--models", default="mlp,ecg,ecg-7k")
    parser.add_argument("--batches", default="64,512")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    print_tables(rows)


if __name__ == "__main__":
    main()
