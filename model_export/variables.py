"""The variables of a model: what it keeps from one inference to the next, and what they hold before the first.

Each operator for state names its variable by a handle, each handle by a text. Before the first inference a CALL_ONCE runs the
subgraph that assigns constants to them; a variable that it leaves out begins with the zero point of what is assigned to it
first, as in TFLM. TFLM checks little of this and copies by the sizes it finds, so everything is checked here and, once more,
in firmware/engine/tflm/variables.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from model_export.errors import TfliteError
from model_export.operator_entry import Role
from model_export.operators import operators
from model_export.operators.recurrent import each_row_a_series
from model_export.tflite_model import Op, Subgraph, Tensor, TfliteModel

RESOURCE = "resource"
"""Type of a handle."""
MOST_VARIABLES = 64
"""As in firmware/engine/tflm/variables.h."""
_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "float16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
}
_Name = Tuple[str, str]


@dataclass(frozen=True)
class Variable:
    name: str
    value: Tensor
    """A tensor of its type and shape: the first that is assigned to it, in the main graph where one is."""
    initial: Optional[Tensor]
    """The constant it begins with; None where that is the zero point of `value`."""
    bytes: int


class State(NamedTuple):
    variables: Tuple[Variable, ...]
    by_handle: Dict[int, Variable]
    """By the handle's tensor in the main graph."""
    once: Optional[Op]


class _Found(NamedTuple):
    """A graph's handles by tensor, and per variable the tensors that go in and out, in the order of the operators."""

    handles: Dict[int, _Name]
    assigned: Dict[_Name, List[Tensor]]
    read: Dict[_Name, List[Tensor]]
    once: Optional[Op]


def role_of(op: Op) -> Optional[Role]:
    entry = operators().get(op.code)
    return None if entry is None else entry.role


def keeps_state(model: TfliteModel) -> bool:
    """Whether an inference may depend on those before it: by variables, or by tensors that TFLM keeps (SVDF, LSTM)."""
    return not each_row_a_series(model) and any(
        any(tensor.is_variable for tensor in graph.tensors) or any(role_of(op) is Role.HANDLE for op in graph.ops)
        for graph in model.subgraphs
    )


def kept_bytes(model: TfliteModel) -> int:
    """Bytes of all that is kept between inferences. Raises TfliteError, as state_of does."""
    if each_row_a_series(model):
        return 0
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors if tensor.is_variable]
    sizes = [_bytes_of(tensor, f"tensor {tensor.index} ({tensor.name})") for tensor in tensors]
    return sum(sizes) + sum(variable.bytes for variable in state_of(model).variables)


def state_of(model: TfliteModel) -> State:
    """The variables of a model; none where it has no more than its main graph and no handle in it.

    Raises TfliteError for what no board should be given: handles, assignments or subgraphs that do not fit each other, and
    whatever an initialization does beside assigning constants.
    """
    main = _look(model, 0)
    begins = _initialization(model, main.once)
    variables: Dict[_Name, Variable] = {}
    for name in dict.fromkeys((*main.handles.values(), *begins.handles.values())):
        initial = begins.assigned.get(name, [])
        variables[name] = _variable(name, main.assigned.get(name, []) + initial, main.read.get(name, []), initial)
    if len(variables) > MOST_VARIABLES:
        raise TfliteError(f"the model has {len(variables)} variables; supported are {MOST_VARIABLES}")
    by_handle = {tensor: variables[name] for tensor, name in main.handles.items()}
    return State(tuple(variables.values()), by_handle, main.once)


def _initialization(model: TfliteModel, once: Optional[Op]) -> _Found:
    if once is None:
        if len(model.subgraphs) > 1:
            raise TfliteError(
                f"the model has {len(model.subgraphs)} subgraphs; supported are one, and one that CALL_ONCE calls"
            )
        return _Found({}, {}, {}, None)
    called = once.options["subgraph"]
    if called == 0:
        raise TfliteError(f"{_of(0, once)}: calls the subgraph it stands in")
    if not 0 < called < len(model.subgraphs):
        raise TfliteError(f"{_of(0, once)}: calls subgraph {called} of {len(model.subgraphs)}")
    if len(model.subgraphs) != 2:
        raise TfliteError(
            f"the model has {len(model.subgraphs)} subgraphs; supported are one, and one that CALL_ONCE calls"
        )
    graph = model.subgraphs[called]
    if graph.inputs or graph.outputs:
        raise TfliteError(f"subgraph {called} initializes variables, yet has inputs or outputs")
    found = _look(model, called)
    for name, values in found.assigned.items():
        if len(values) > 1:
            raise TfliteError(f"subgraph {called} initializes variable {name[1]!r} {len(values)} times")
    return found


def _look(model: TfliteModel, number: int) -> _Found:
    graph = model.subgraphs[number]
    found = _Found({}, {}, {}, None)
    for op in graph.ops:
        role, where = role_of(op), _of(number, op)
        if role is None:
            _check_other(graph, op, number, where)
        elif role is Role.ONCE:
            found = found._replace(once=_check_once(found, op, number, where))
        elif role is Role.HANDLE:
            tensor, name = _handle(graph, op, where)
            if tensor in found.handles or name in found.handles.values():
                raise TfliteError(f"{where}: a second handle of variable {name[1]!r}")
            found.handles[tensor] = name
        else:
            reads = role is Role.READ
            if (len(op.inputs), len(op.outputs)) != ((1, 1) if reads else (2, 0)):
                raise TfliteError(f"{where}: {len(op.inputs)} inputs and {len(op.outputs)} outputs")
            if op.inputs[0] not in found.handles:
                raise TfliteError(f"{where}: tensor {op.inputs[0]} is no handle of a variable")
            value = op.outputs[0] if reads else op.inputs[1]
            if value < 0 or value in found.handles or graph.tensors[value].dtype == RESOURCE:
                raise TfliteError(f"{where}: tensor {value} is no value of a variable")
            if number > 0 and (reads or graph.tensors[value].data is None):
                raise TfliteError(f"{where}: variables begin with constants; other initializations are not supported")
            name = found.handles[op.inputs[0]]
            (found.read if reads else found.assigned).setdefault(name, []).append(graph.tensors[value])
    return found


def _check_other(graph: Subgraph, op: Op, number: int, where: str) -> None:
    if number > 0:
        raise TfliteError(f"{where}: an initialization assigns constants to variables and does nothing else")
    touched: Set[int] = {index for index in (*op.inputs, *op.outputs) if index >= 0}
    if any(graph.tensors[index].dtype == RESOURCE for index in touched):
        raise TfliteError(f"{where}: takes or gives the handle of a variable; supported are values")


def _check_once(found: _Found, op: Op, number: int, where: str) -> Op:
    if number > 0 or found.once is not None:
        raise TfliteError(f"{where}: a second initialization; supported is one, which the main graph calls")
    if op.inputs or op.outputs:
        raise TfliteError(f"{where}: {len(op.inputs)} inputs and {len(op.outputs)} outputs")
    if found.read or found.assigned:
        raise TfliteError(f"{where}: comes after a variable was read or assigned; supported is before")
    return op


def _handle(graph: Subgraph, op: Op, where: str) -> Tuple[int, _Name]:
    if op.inputs or len(op.outputs) != 1:
        raise TfliteError(f"{where}: {len(op.inputs)} inputs and {len(op.outputs)} outputs")
    tensor = graph.tensors[op.outputs[0]]
    if tensor.dtype != RESOURCE or tensor.data is not None or tensor.is_variable:
        raise TfliteError(f"{where}: its output is no handle of a variable, but {tensor.dtype}")
    if int(np.prod(tensor.shape, dtype=np.int64)) != 1:
        raise TfliteError(f"{where}: a handle of shape {tensor.shape}; TFLM takes one value")
    name = (str(op.options["container"]), str(op.options["name"]))
    if not name[1]:
        raise TfliteError(f"{where}: a variable without a name")
    return tensor.index, name


def _variable(name: _Name, assigned: List[Tensor], read: List[Tensor], initial: List[Tensor]) -> Variable:
    what = f"variable {name[1]!r}"
    if not assigned:
        raise TfliteError(f"{what} is never assigned")
    value = assigned[0]
    for tensor in (*assigned, *read):
        if (tensor.dtype, tensor.shape) != (value.dtype, value.shape):
            raise TfliteError(
                f"{what} is {value.dtype} {value.shape} where {value.name!r} is assigned, but {tensor.dtype} {tensor.shape} "
                f"as {tensor.name!r}"
            )
    return Variable(name[1], value, initial[0] if initial else None, _bytes_of(value, what))


def _bytes_of(tensor: Tensor, what: str) -> int:
    if tensor.dtype not in _BYTES or tensor.is_sparse or 0 in tensor.shape:
        raise TfliteError(f"{what} is {tensor.dtype} {tensor.shape}, which no board keeps")
    return int(np.prod(tensor.shape, dtype=np.int64)) * _BYTES[tensor.dtype]


def _of(graph: int, op: Op) -> str:
    return f"operator {op.index} ({op.code})" + (f" of subgraph {graph}" if graph else "")
