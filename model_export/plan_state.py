"""Variables in a plan: each has a place of its own in the arena, and a record that runs before all inferences gives its value."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np

from model_export.errors import TfliteError
from model_export.operator_entry import Role
from model_export.operators import operators
from model_export.operators.join import COPY
from model_export.plan_arena import Buffer
from model_export.plan_steps import KeptTensors, Kind, PlanError, Step, check_int8
from model_export.tflite_model import Op, TfliteModel
from model_export.variables import Variable, role_of, state_of

FILL = Kind("fill", 18)
"""The output zero point in every byte of the output. No table."""


class Keeper:
    """The variables of the main graph. A variable's place goes by its handle's tensor. Raises PlanError."""

    def __init__(self, model: TfliteModel, load: Kind) -> None:
        try:
            state = state_of(model)
        except TfliteError as error:
            raise PlanError(str(error)) from None
        self._model = model
        self.places: Dict[int, Variable] = {}
        self.kept: Dict[int, KeptTensors] = {}
        """Of operators that keep something themselves, by the first tensor of it."""
        self.initial: List[Step] = []
        """What sets variables, then what sets the tensors that operators keep."""
        for op in model.ops:
            if role_of(op) is Role.HANDLE:
                variable = state.by_handle[op.outputs[0]]
                check_int8(variable.value, f"variable {variable.name!r}")
                self.places[op.outputs[0]] = variable
                self.initial.append(_first_value(op, variable, load))

    @property
    def bytes(self) -> int:
        variables = sum(variable.bytes for variable in self.places.values())
        return variables + sum(kept.bytes for kept in self.kept.values())

    def keep(self, step: Step) -> None:
        """Gives what a step keeps a place, and its first values."""
        if step.keeps is None:
            return
        self.kept[step.keeps.tensor] = step.keeps
        at = 0
        for count, value in step.keeps.parts:
            shape = (1, 1, count)
            fill = Step(FILL, step.op, (), step.keeps.tensor, shape, shape, out_zero_point=value, output_at=at)
            self.initial.append(fill)
            at += count

    def buffer(self, tensor: int, first: int, last: int) -> Buffer:
        """The place of an int8 tensor, of a variable by its handle, or of what an operator keeps."""
        if tensor in self.kept:
            return Buffer(self.kept[tensor].bytes, first, last, even=True)
        if tensor in self.places:
            return Buffer(self.places[tensor].bytes, first, last)
        return Buffer(int(np.prod(self._model.tensors[tensor].shape, dtype=np.int64)), first, last)

    def plan(self, op: Op) -> Tuple[Optional[Step], Optional[Tuple[int, int]]]:
        """(the step of an operator for state, or the tensor that lies where another one does); neither where it does nothing."""
        role = role_of(op)
        if role is Role.READ:
            handle, value = op.inputs[0], op.outputs[0]
            check_int8(self._model.tensors[value], f"operator {op.index} ({op.code}): output")
            if self._holds_until_used(op):
                return None, (value, handle)
            return self._copy(op, handle, handle, value), None
        if role is Role.ASSIGN:
            handle, value = op.inputs
            check_int8(self._model.tensors[value], f"operator {op.index} ({op.code}): input 1")
            return self._copy(op, handle, value, handle), None
        return None, None

    def _copy(self, op: Op, handle: int, source: int, output: int) -> Step:
        shape = (1, 1, self.places[handle].bytes)
        return Step(COPY, op, (source,), output, shape, shape)

    def _holds_until_used(self, read: Op) -> bool:
        """Whether nothing is assigned to the variable as long as what was read of it is needed."""
        ops, names, last = self._model.ops, {read.outputs[0]}, read.index
        if any(names & {*op.inputs, *op.outputs} for op in ops[: read.index]):
            return False
        for op in ops[read.index + 1 :]:
            if names & {*op.inputs}:
                last = op.index
                entry = operators().get(op.code)
                if entry is not None and entry.same_bytes and op.inputs[0] in names:
                    names.add(op.outputs[0])
        if names & {*self._model.outputs}:
            last = len(ops)
        return not any(
            role_of(op) is Role.ASSIGN and op.inputs[0] == read.inputs[0] for op in ops[read.index + 1 : last + 1]
        )


def _first_value(op: Op, variable: Variable, load: Kind) -> Step:
    shape = (1, 1, variable.bytes)
    if variable.initial is None:
        return Step(FILL, op, (), op.outputs[0], shape, shape, out_zero_point=int(variable.value.zero_points[0]))
    assert variable.initial.buffer_offset is not None
    return Step(load, op, (), op.outputs[0], shape, shape, weights_offset=variable.initial.buffer_offset)
