"""Runs as a gateway leaves them in its store, without the minutes of making them."""

from pathlib import Path
from typing import Any, Dict

import numpy as np

from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Aggregated, Arrived, Declined, Joined, Left, Started
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task, task_to_dict
from orchestrator.wire.training import Training


def make_task(training: "Training | None" = None, **fields: Any) -> Task:
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", -1, 3),))
    return Task("ward", schema, {"kind": "mlp", "hidden": []}, training or Training(rounds=2), **fields)


def write_run(store: Store, run: str, at: float = 1000.0, training: "Training | None" = None, **fields: Any) -> None:
    """A run of two nodes, its first round done, the second open; a third node declined."""
    store.create_run(run, task_to_dict(make_task(training, **fields)), b"graph", np.zeros(3, np.float32))
    store.put_phase(run, at, "gathering", -1, "")
    for event in (Started(at), Joined(at + 1, "icu", 40), Joined(at + 2, "er", 50), Declined(at + 3, "lab", "no")):
        store.append(run, event)
    store.put_phase(run, at + 2, "collecting", 1, "")
    store.append(run, Arrived(at + 4, "icu", 1, "d", 40.0))
    store.append(run, Arrived(at + 5, "er", 1, "d", 50.0))
    store.put_phase(run, at + 5, "aggregating", 1, "")
    store.put_result(run, 1, result(1, 0.75))
    store.append(run, Aggregated(at + 6, 1))
    store.put_phase(run, at + 6, "collecting", 2, "")
    store.append(run, Left(at + 7, "icu"))


def result(number: int, accuracy: float) -> Dict[str, Any]:
    figures = {
        "round": number,
        "updates": 2,
        "nodes": ["er", "icu"],
        "bytes_up": 600,
        "bytes_down": 900,
        "seconds": 3.5,
    }
    return {**figures, "codec_error": 0.01, "loss": 0.5, "accuracy": accuracy, "auc": None, "extra": 7}


def finish_run(store: Store, run: str, at: float = 1010.0, digest: str = "00ff" * 4) -> None:
    store.put_result(run, 2, result(2, 0.875))
    store.append(run, Aggregated(at, 2))
    store.put_phase(run, at, "finished", 2, "")
    metrics = {"tflm": {"accuracy": 0.8125, "per_node": {"icu": {"accuracy": 1.0}}}}
    privacy = {"epsilon": 3.5, "unit": "record", "claim": "the claim", "records_per_node": {"er": 50, "icu": 40}}
    store.put_report(run, at + 1, {"run": run, "digest": digest, "privacy": privacy, "metrics": metrics})


def write_bundle(out: Path, content: bytes) -> None:
    (out / "bundle").mkdir(exist_ok=True)
    (out / "bundle" / "model.bin").write_bytes(content)
