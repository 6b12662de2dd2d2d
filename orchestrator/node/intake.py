"""How much a gateway's message may hold: bytes of header and tensors, by its kind, known before anything of it is unpacked."""

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from orchestrator.errors import WireError
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
    """The graph that came with a task, whatever it is; b"" of an analysis, which has none. WireError where it is otherwise."""
    if task.trains != ("graph" in tensors):
        raise WireError(f"the task came {'without its' if task.trains else 'with a'} training graph")
    return bytes(tensors["graph"].tobytes()) if task.trains else b""


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
