"""Which records of a dataset are one privacy unit of a task: a record, those of a patient, or all there are."""

from typing import List

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.task import Task


def rows_of_units(task: Task, dataset: Dataset) -> List[np.ndarray]:
    """int64 (rows,) of each unit: indices of its records. Without privacy every record is one."""
    return dataset.units(unit_of(task.privacy))


def units_in(task: Task, dataset: Dataset) -> int:
    """How many there are: private, but for a node as the unit."""
    return len(rows_of_units(task, dataset))
