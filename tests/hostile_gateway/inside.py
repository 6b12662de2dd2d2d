"""A node's own code, driven without a process: what it would release for data it holds, and in what form.

Messages are the gateway's and may say anything; data, store and random numbers are the node's own and real.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.node.contribution import Contributor
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

LINEAR = {"kind": "mlp", "hidden": [], "activation": "relu"}
INPUTS, CLASSES, BATCH = 3, 2, 4
PARAMETERS = (INPUTS + 1) * CLASSES
DELTA = 1e-6

Tensors = Dict[str, np.ndarray]


def make_schema(**changes: Any) -> Schema:
    """A table of INPUTS numbers between -1 and 1, a label, and a column that says whose record it is."""
    features = tuple(Feature(f"x{i}", -1.0, 1.0) for i in range(INPUTS))
    known: Dict[str, Any] = {"label": "y", "classes": ("no", "yes"), "label_values": {"0": 0, "1": 1}}
    known.update({"standardization": "range", "patient": "who", "features": features})
    return Schema("table", **{**known, **changes})


def make_task(schema: Optional[Schema] = None, **changes: Any) -> Task:
    """Private by record, one round of FedSGD, no evaluation; `changes` replace whole parts."""
    known: Dict[str, Any] = {
        "training": Training("fedsgd", rounds=1, learning_rate=1.0, parameters=PARAMETERS),
        "privacy": Privacy(unit="record", epsilon=1.0, delta=DELTA),
        "rounds": Rounds(nodes=3, quorum=3),
        "evaluation": Evaluation(),
        "codec": "float32",
    }
    return Task("t", schema or make_schema(), LINEAR, **{**known, **changes})


def planned(task: Task) -> Task:
    """With all the noise its claim needs, as an honest gateway would plan it."""
    return plan_apart(task)[0]


def almost_noiseless(task: Task) -> Task:
    """With noise of a thousandth of what one unit may change, so that one draw shows what one unit did change."""
    tiny: Dict[str, Any] = {name: 1e-3 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    size = max(1, len(task.schema.numbers()))
    return replace(task, privacy=replace(task.privacy, statistics_clip_norm=0.5 * size**0.5, **tiny))


def make_data(records: int, seed: int = 0, patients: Optional[Sequence[int]] = None) -> Dataset:
    """Records within the schema's ranges; each of a patient of its own where `patients` does not say otherwise."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.5, 0.5, (records, INPUTS)).astype(np.float32)
    who = np.arange(records) if patients is None else np.asarray(patients)
    return Dataset(x, rng.integers(0, CLASSES, records).astype(np.int32), who)


def joined(*parts: Dataset) -> Dataset:
    """All records of several data sets, in this order."""
    x, y, patients = (np.concatenate([part[column] for part in parts]) for column in range(3))
    return Dataset(x, y, patients)


def model(**changes: np.ndarray) -> Tensors:
    """What a round's message carries, all of it the gateway's choice."""
    zero = np.zeros(INPUTS, np.float32)
    return {"weights": np.zeros(PARAMETERS, np.float32), "mean": zero, "std": zero + 1, **changes}


class Inside:
    """One node in one run. `train` and `held`: its two sides, raw."""

    def __init__(
        self, folder: Path, task: Task, graph: bytes, train: Dataset, held: Optional[Dataset] = None, run: str = "run"
    ) -> None:
        self.task, self.train = task, train
        self.held = train.take(np.zeros(train.records, bool)) if held is None else held
        self.store, self._graph = NodeStore(folder / f"{run}.sqlite"), graph
        self._begin(run)

    def _begin(self, run: str) -> None:
        self.run = Run(run, "digest", self.task, self._graph, self.train, self.held)
        self._contributor = Contributor(self.run, self.store, "victim", GradientTrainer)

    def another_run(self) -> "Inside":
        """This node in a run of its own: nothing drawn for the one before counts any more."""
        self._begin(self.run.id)
        return self

    def answer(self, number: int, tensors: Tensors, **announced: Any) -> "tuple[Dict[str, Any], Tensors]":
        """(header fields, tensors) of the answer to a round, as it would be sent; nothing is stored."""
        fields, sent, _ = self._contributor.open_answer(number, {"round": number, **announced}, tensors)
        return fields, sent

    def close(self) -> None:
        self.store.close()


def csv_of(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines: List[str] = [",".join(header), *(",".join(map(str, row)) for row in rows)]
    return "\n".join(lines) + "\n"
