"""The part of the model that stays on the node: its output layer, or only that layer's intercept.

It is the last values of the flat weights. They are trained like all others, kept in the node's store with the release of the
update they were trained with, put in the place of the gateway's in the next round, and never sent.
"""

import io
import json
from pathlib import Path

import numpy as np

from orchestrator.errors import WireError
from orchestrator.files import replace_file
from orchestrator.node.store import NodeStore
from orchestrator.wire.plain import file_name
from orchestrator.wire.task import Task, task_to_dict

PERSONAL = "personal"


def with_personal(store: NodeStore, run: str, task: Task, weights: np.ndarray) -> np.ndarray:
    """float32 (P,): the gateway's weights with this node's part in place; the gateway's own until there is one."""
    size = task.training.personal_parameters
    if size >= weights.size:
        raise WireError(f"{size} of {weights.size} weights are to be personal: nothing would be shared")
    kept = store.kept(run, PERSONAL) if size else None
    if kept is None:
        return weights
    return np.concatenate([weights[: weights.size - size], kept.vector])


def write_personal(
    folder: Path, run: str, node: str, task: Task, records: int, weights: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> Path:
    """FOLDER/personal-RUN.npz, atomically: the whole model for the node's owner, with all it takes to make a bundle.

    Raises WireError for a run whose name could be a path.
    """
    path = folder / file_name("personal", run, "npz")
    whole = io.BytesIO()
    np.savez(
        whole,
        weights=weights.astype(np.float32),
        mean=mean,
        std=std,
        task=np.array(json.dumps(task_to_dict(task))),
        node=np.array(node),
        records=np.array(records),
        run=np.array(run),
    )
    replace_file(path, whole.getvalue(), 0o600)  # it was trained on private records alone
    return path
