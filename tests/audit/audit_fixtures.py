"""Breast-cancer data of scikit-learn on two nodes, a small network, and its training graph, made once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
from once import filled_once

from orchestrator.audit.run import Prepared, prepare
from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.demo.tasks import Prepared as DemoTask
from orchestrator.demo.tasks import Request, breast_cancer
from orchestrator.wire.task import Task


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoTask:
    return breast_cancer(Request(2, None, 1.0, 0, None, tmp_path_factory.mktemp("audit")))


@pytest.fixture(scope="session")
def ready(demo: DemoTask, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Of the real model, for the real runtime."""

    def export(folder: Path) -> None:
        made = prepare(demo.task, Path())
        (folder / "graph").write_bytes(made.graph)
        np.save(folder / "weights.npy", made.weights)
        (folder / "tensors").write_text(json.dumps(made.tensors))

    folder = filled_once(tmp_path_factory, "audited-graph", export)
    tensors = json.loads((folder / "tensors").read_text())
    return Prepared((folder / "graph").read_bytes(), np.load(folder / "weights.npy"), tensors)


@pytest.fixture(scope="session")
def task(demo: DemoTask, ready: Prepared) -> Task:
    """Epsilon 1 at delta 1e-3; 20 steps on a quarter of the records."""
    training = replace(
        demo.task.training, rounds=20, local_steps=1, learning_rate=0.3, parameters=int(ready.weights.size)
    )
    privacy = replace(
        demo.task.privacy,
        epsilon=1.0,
        delta=1e-3,
        noise_multiplier=3.4,
        statistics_noise_multiplier=8.0,
        statistics_clip_norm=2.7,
    )
    return replace(demo.task, training=training, privacy=privacy)


@pytest.fixture(scope="session")
def datasets(demo: DemoTask) -> Dict[str, Dataset]:
    return {name: load_dataset(path, demo.task.schema) for name, path in demo.node_files.items()}
