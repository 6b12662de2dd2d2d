"""Operators that compute nothing but the shape of another's output, as converters write for a free batch size: known ahead."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Optional, Set

import numpy as np

from model_export.operators import aliases
from model_export.plan_steps import PlanError
from model_export.tflite_model import Op, TfliteModel

_SHAPE = 1  # the input of a RESHAPE that says its shape


def shape_operators(model: TfliteModel) -> FrozenSet[int]:
    """Indices of the operators that need not run: a RESHAPE takes what they give, and every shape is known.

    Raises PlanError where that is not the shape the file says its output has.
    """
    known: Dict[int, np.ndarray] = {}
    for op in model.ops:
        value = _value(model, op, known)
        if value is not None and value.shape == model.tensors[op.outputs[0]].shape:
            known[op.outputs[0]] = value
        elif op.code == "RESHAPE" and len(op.inputs) > _SHAPE and op.inputs[_SHAPE] in known:
            _check_reshape(model, op, known[op.inputs[_SHAPE]])
    readers: Dict[int, List[Op]] = {}
    for op in model.ops:
        for index in set(op.inputs) & set(known):
            readers.setdefault(index, []).append(op)
    found: Set[int] = set()
    for op in reversed(model.ops):  # a reader stands after what it reads
        if op.outputs and op.outputs[0] in known and _only_for_shapes(model, op.outputs[0], readers, found):
            found.add(op.index)
    return frozenset(found)


def _only_for_shapes(model: TfliteModel, shape: int, readers: Dict[int, List[Op]], found: Set[int]) -> bool:
    return shape not in model.outputs and all(
        reader.index in found or (reader.code in aliases() and shape not in reader.inputs[:_SHAPE])
        for reader in readers.get(shape, ())
    )


def _value(model: TfliteModel, op: Op, known: Dict[int, np.ndarray]) -> Optional[np.ndarray]:
    """int32: what an operator gives that reads shapes and constants only; None of all others."""
    if len(op.outputs) != 1 or model.tensors[op.outputs[0]].dtype != "int32" or min(op.inputs, default=-1) < 0:
        return None
    if op.code == "SHAPE":
        return np.array(model.tensors[op.inputs[0]].shape, np.int32)
    if op.code not in ("STRIDED_SLICE", "PACK"):
        return None
    parts: List[np.ndarray] = []
    for index in op.inputs:
        part = known.get(index, model.tensors[index].data)
        if part is None or part.dtype != np.int32:
            return None
        parts.append(part)
    return _sliced(op, parts) if op.code == "STRIDED_SLICE" else _packed(op, parts)


def _packed(op: Op, parts: List[np.ndarray]) -> Optional[np.ndarray]:
    """Of single numbers."""
    return np.stack(parts) if not any(part.shape for part in parts) and op.options["axis"] == 0 else None


def _sliced(op: Op, parts: List[np.ndarray]) -> Optional[np.ndarray]:
    """Of a list of numbers: one of them, or some."""
    options = op.options
    if len(parts) != 4 or parts[0].ndim != 1 or any(part.shape != (1,) for part in parts[1:]):
        return None
    whole, (begin, end, stride) = parts[0], (int(part[0]) for part in parts[1:])
    if options["ellipsis_mask"] or options["new_axis_mask"] or stride == 0:
        return None
    first, last, single = (
        options[name] & 1 for name in ("begin_mask", "end_mask", "shrink_axis_mask")
    )  # of the only axis
    if single:
        begin = begin if not first else 0 if stride > 0 else -1
        return whole[begin] if -len(whole) <= begin < len(whole) else None
    return whole[slice(None if first else begin, None if last else end, stride)]


def _check_reshape(model: TfliteModel, op: Op, shape: np.ndarray) -> None:
    said = model.tensors[op.outputs[0]].shape
    if shape.shape != (len(said),) or any(number not in (-1, size) for number, size in zip(shape.tolist(), said)):
        raise PlanError(f"operator {op.index} ({op.code}): its output has shape {said}, computed is {shape.tolist()}")
