"""How much a gateway's message may hold: bytes of header and tensors, by its kind, known before anything of it is unpacked."""

import hashlib
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from orchestrator.analyses.registry import scored_by
from orchestrator.errors import UsageError, WireError
from orchestrator.node.graph_check import MAX_GRAPH_BYTES
from orchestrator.wire.body import MAX_HEADER_BYTES
from orchestrator.wire.sizes import MOST_CONTEXT_BYTES
from orchestrator.wire.task import Task

if TYPE_CHECKING:
    from orchestrator.privacy.ckks import SumPlan

MAX_MESSAGE_BYTES = 512 << 20
UNKNOWN_RUN_BYTES = 64 << 20
"""Of a round whose task this node does not have: it can only be passed over."""

_ROOM_BYTES = MAX_HEADER_BYTES + (64 << 10)


def training_graph(task: Task, tensors: Mapping[str, Any]) -> bytes:
    """The graph that came with a task, whatever it is; of an analysis the model file it scores by, b"" where it has none.

    WireError where it is otherwise, UsageError for another model file than the task names.
    """
    scored = scored_by(task)
    wanted = task.trains or scored is not None
    if wanted != ("graph" in tensors):
        what = "training graph" if task.trains else "model file"
        raise WireError(f"the task came {'without its' if wanted else 'with a'} {what}")
    graph = bytes(tensors["graph"].tobytes()) if wanted else b""
    if scored is not None and (len(graph), hashlib.sha256(graph).hexdigest()) != (scored.size, scored.sha256):
        raise UsageError(f"task {task.name!r}: its model file is not the one it names: size or SHA-256 differ")
    return graph


def most_unpacked(header: Dict[str, Any], run: str, task: Optional[Task], parameters: int = 0) -> int:
    """`run` and `task`: what this node takes part in; "" and None where it is nothing.

    parameters: of its model; 0 where unknown.
    """
    kind = header.get("kind")
    if kind == "task":
        return _ROOM_BYTES + MAX_GRAPH_BYTES
    if kind not in ("round", "finished"):
        return _ROOM_BYTES
    if task is None or header.get("run") != run:
        return UNKNOWN_RUN_BYTES
    parameters = task.training.parameters or parameters
    if not parameters:
        return MAX_MESSAGE_BYTES
    inputs = 1
    for n in task.schema.input_shape:
        inputs *= n
    values = 2 * parameters + 2 * inputs  # weights, a control variate, mean, standard deviation
    return min(MAX_MESSAGE_BYTES, _ROOM_BYTES + 4 * values + MOST_CONTEXT_BYTES)


def most_for_key_holder(header: Dict[str, Any], plan: "Optional[SumPlan]") -> int:
    """`plan`: of the sum whose keys there are. A key holder has no use for what rounds bring."""
    if header.get("kind") == "step":
        return _ROOM_BYTES + (0 if plan is None else plan.ciphertext_bytes)
    return most_unpacked(header, "", None)
