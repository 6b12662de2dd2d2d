"""Training on one node: records a second with privacy beside Opacus and JAX, and steps a second without beside Keras.

python benchmarks/training.py [--peers PYTHON] [--keras PYTHON] [--models mlp,ecg] [--batches 64,512] [--repeats 15] [--json]

    --peers   an interpreter that has opacus and jax
    --keras   one that has keras and tensorflow; by default this one

Every measured program, with all its processes and threads, is held to one and the same processor, and those that are compared
take turns of a fraction of a second: a shared machine is twice as fast in one minute as in another. What is compared is processor
time, since other work on a machine spoils the clock's: of ours, node and graph process together. A private step draws a Poisson
sample of the records, computes the gradient of each, clips it, sums and noises; JAX's samples have a fixed size, which is easier
for it. Data are random numbers. Memory is peak resident memory: of ours, of both processes together, from when the data and the
trainer are there. A graph for private steps has the default batch of a task, as a gateway exports it: samples have no fixed size.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
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


def ours(model: str, batch: int, private: bool, steps: int, file: Path) -> None:
    """A node's own trainer and its graph's process, taking turns."""
    from orchestrator.wire.process import forget_start, keep_buffers, peak_memory_mib

    keep_buffers()
    trainer = trainer_of(model, batch, steps, private, file.read_bytes())
    forget_start(new_peak=True)
    weights = np.random.default_rng(1).normal(0, 0.1, trainer.graph.parameters).astype(np.float32)
    process = trainer.graph.process.pid
    rounds = itertools.count(1)
    trainer.train(weights, next(rounds))
    rows = trainer.graph.process.rows() if private else trainer.graph.process.batch_rows()
    print(json.dumps({"rows": rows}), flush=True)

    def trained() -> None:
        """All steps of a turn, which is a round."""
        trainer.train(weights, next(rounds))

    def used_s() -> float:
        return (time.process_time() + processor_s(process)) / steps

    training_peers.take_turns(1, trained, used_s, lambda: peak_memory_mib() + peak_memory_mib(str(process)))


def processor_s(process: int) -> float:
    """Processor time of another process, of all its threads, to the nanosecond."""
    tasks = Path(f"/proc/{process}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


class Program:
    """One of those that are compared, held to the same processor as the others."""

    def __init__(self, command: Sequence[str], errors: Path) -> None:
        one = {max(os.sched_getaffinity(0))}
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._command, self._errors = command, errors
        with errors.open("w") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={**os.environ, **threads},
                preexec_fn=lambda: os.sched_setaffinity(0, one),
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.about = dict(self._answer())
        self._answer()  # it is ready

    def turn(self) -> float:
        """Seconds of processor for a step."""
        self._to.write("\n")
        self._to.flush()
        return float(self._answer()["cpu_s"])

    def end(self) -> Dict[str, Any]:
        """What is to be known of it beside."""
        self._to.close()
        found = {**self.about, **self._answer()}
        self._process.wait()
        return found

    def _answer(self) -> Any:
        line = self._from.readline()
        if not line:
            says = self._errors.read_text(errors="replace").strip()[-2000:]
            raise SystemExit(f"{' '.join(self._command)} failed: {says}")
        return json.loads(line)


def measure(arguments: argparse.Namespace, folder: Path) -> List[Dict[str, Any]]:
    """A row for each model, batch size and library."""
    from orchestrator.wire.training import Training

    rows = []
    batches = [int(batch) for batch in arguments.batches.split(",")]
    named = arguments.models.split(",")
    of_peers = [model for model in named if model != "depthwise"]  # which Opacus and JAX are not given here
    for private, models in ((True, of_peers), (False, list(dict.fromkeys([*named, "depthwise"])))):
        for model in models:
            for batch in batches if private else batches[:1]:
                size = Training("fedavg").batch_size if private else batch
                file = folder / f"{model}-{size}.tflite"
                program = [sys.executable, str(Path(__file__))]
                if not file.exists():
                    command = [*program, "--export", model, str(size), str(file)]
                    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
                steps = str(max(2, WORK[model] // batch))
                kind = "private" if private else "plain"
                commands = {"Edgeward": [*program, "--ours", kind, model, str(batch), steps, str(file)]}
                for peer in ("opacus", "jax") if private else ("keras",):
                    python = arguments.peers if private else arguments.keras
                    if python:
                        commands[peer] = [python, str(HERE / "training_peers.py"), peer, model, str(batch), steps]
                held_to = {"model": model, "batch": batch, "private": private}
                rows += [{**held_to, **figures} for figures in compared(commands, arguments.repeats, folder)]
                for figures in rows[-len(commands) :]:
                    cost_us = 1e6 * figures["cpu_s"] / batch
                    print(
                        f"{kind}, {TITLES[model]}, batch {batch}: {figures['library']} {cost_us:.1f} us",
                        file=sys.stderr,
                    )
    return rows


def compared(commands: Dict[str, List[str]], repeats: int, folder: Path) -> List[Dict[str, Any]]:
    """Of each program its best turn, and the median of what its turns took beside ours of the same time."""
    programs = {library: Program(command, folder / f"{library}.err") for library, command in commands.items()}
    for program in programs.values():
        program.turn()
    turns = [{library: program.turn() for library, program in programs.items()} for _ in range(repeats)]
    found = []
    for library, program in programs.items():
        beside = statistics.median(turn["Edgeward"] / turn[library] for turn in turns)
        best = min(turn[library] for turn in turns)
        found.append({"library": library, "cpu_s": best, "ours_beside": beside, **program.end()})
    return found


def print_tables(rows: List[Dict[str, Any]]) -> None:
    for private, title in ((True, "Private steps"), (False, "Steps without privacy")):
        print(f"\n## {title}\n")
        print("| model | parameters | batch | library | us a record | records a second | ours beside it | peak MiB |")
        print("|---|---|---|---|---|---|---|---|")
        chosen = [row for row in rows if row["private"] is private]
        for row in chosen:
            record_s = row["cpu_s"] / row["batch"]
            print(
                f"| {TITLES[row['model']]} | {PARAMETERS[row['model']]:,} | {row['batch']} | {row.get('version', 'Edgeward')} "
                f"| {1e6 * record_s:.1f} | {1 / record_s:,.0f} | {row['ours_beside']:.2f} | {row['memory_mib']:.0f} |"
            )


def main() -> None:
    if sys.argv[1:2] == ["--export"]:
        export(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        return
    if sys.argv[1:2] == ["--ours"]:
        kind, model, batch, steps, file = sys.argv[2:]
        ours(model, int(batch), kind == "private", int(steps), Path(file))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--keras", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--models", default="mlp,ecg,ecg-7k")
    parser.add_argument("--batches", default="64,512")
    parser.add_argument("--repeats", type=int, default=15)
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
