"""Four hospitals' heart disease records, one of them with its labels flipped, and a run over them in this process."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np
from graph_samples import softmax_regression
from sklearn.metrics import roc_auc_score

from orchestrator.data.dataset import load_dataset
from orchestrator.demo.tasks import Request, heart_disease
from orchestrator.gateway.memory_store import MemoryStore
from orchestrator.gateway.run import RunResult
from orchestrator.gateway.run_store import RunStore
from orchestrator.privacy.accounting import plan_noise
from orchestrator.simulation.federation import SimulatedNodes
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

ROUNDS, STEPS, BATCH = 12, 5, 256
OPEN = Privacy("none")
Change = Callable[[Task], Task]


class Hospitals(NamedTuple):
    task: Task
    data: Dict[str, Path]
    tests: Tuple[np.ndarray, np.ndarray]  # raw inputs and labels of all four together

    @property
    def parameters(self) -> int:
        return 2 * self.task.schema.input_shape[0] + 2

    @property
    def graph(self) -> bytes:
        return softmax_regression(self.task.schema.input_shape[0], 2, BATCH)

    def run(self, store: Optional[RunStore] = None, folder: Optional[Path] = None, progress: Any = None) -> RunResult:
        first = np.zeros(self.parameters, np.float32)
        with SimulatedNodes(self.task, "test", self.data, folder) as nodes:
            return nodes.run(store or MemoryStore(), "run", self.graph, first, progress or (lambda event: None))

    def auc(self, result: RunResult) -> float:
        """Of the model over all hospitals' test rows."""
        x, y = self.tests
        logits = logits_of(result.weights, (x - result.mean) / result.std)
        return float(roc_auc_score(y, logits[:, 1] - logits[:, 0]))


def logits_of(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """float (n, 2) of a softmax regression."""
    inputs = x.shape[1]
    return np.asarray(x @ weights[: 2 * inputs].reshape(inputs, 2) + weights[2 * inputs :])


def hospitals(
    data: Path, out: Path, strategy: str, seed: int = 2, flipped: str = "", privacy: Privacy = OPEN, **training: Any
) -> Hospitals:
    """`flipped`: the hospital that calls its ill patients healthy, and the others ill."""
    prepared = heart_disease(Request(4, ROUNDS, 8.0, seed, data, out))
    if flipped:
        flip(prepared.node_files[flipped])
    schema = prepared.task.schema
    how = {"rounds": ROUNDS, "local_steps": STEPS, "batch_size": BATCH, "learning_rate": 0.5, **training}
    task = replace(
        prepared.task,
        training=Training(strategy, parameters=2 * schema.input_shape[0] + 2, **how),
        privacy=privacy,
        evaluation=Evaluation(0.2, how["rounds"]),
        rounds=Rounds(4, 4, deadline_s=60, gather_s=60),
        codec="float32",
    )
    tests = [load_dataset(path, schema) for path in prepared.test_files.values()]
    x, y = (np.concatenate([getattr(each, name) for each in tests]) for name in ("x", "y"))
    return Hospitals(plan_noise(task), prepared.node_files, (x, y))


def flip(path: Path) -> None:
    rows = [line.split(",") for line in path.read_text().split()]
    path.write_text("".join(",".join([*row[:-1], "0" if float(row[-1]) else "1"]) + "\n" for row in rows))
