"""Small tasks of two classes, as the trainer and the sums of a node's own are tested with."""

from typing import Any

from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

D = 3


def task_of(training: Training, privacy: Privacy) -> Task:
    features = tuple(Feature(f"f{i}", 0, 1) for i in range(D))
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, features, patient="id")
    secure = privacy.on and privacy.noise == "distributed"
    aggregation = Aggregation("masked" if secure else "plain")
    return Task("t", schema, {}, training, privacy, Rounds(3, 3), aggregation=aggregation)


def privacy(**changed: Any) -> Privacy:
    return Privacy(**{"clip_norm": 0.5, "sampling_rate": 0.25, "noise_multiplier": 1.5, **changed})
