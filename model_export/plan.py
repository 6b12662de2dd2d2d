"""Compile an int8 .tflite to the plan engine/direct runs: an operator table, multipliers, and a place for every activation.

The plan is little-endian; all words are 32 bits; firmware/engine/direct/plan.h mirrors it.

    header, 16 words
        0 magic 'EWPL'    1 version (1; 2 with state)        2 plan bytes      3 arena bytes (exact)
        4 .tflite bytes   5 operator count   6 offset of the operator table, 64
        7 how many of the first records initialize variables: they run when the model is loaded or reset, the others at
          each inference
        8-11 input: arena offset, bytes, scale (float32), zero point
        12-15 output: the same
    operator table: one record of 32 words per operator that does work
        0 kind            1 index in the model
        2 input           3 second input, or scratch         4 output (arena offsets)
        5-7 input height, width, channels                    8-10 output height, width, channels
        11-12 kernel height, width     13-14 stride          15-16 dilation       17-18 padding: top, left
        19 weights: offset in the .tflite section            20 table: offset in the plan
        21 scratch bytes  22 input zero point                23 output zero point
        24-25 clamp of the output      26 flags (1: one multiplier per output channel)
        27-31 parameters of the kind
    tables, each aligned to 4 bytes

What the table and the parameters of a kind are is said where the kind has its number: model_export/operators/. load, the one kind
that is no operator's, brings a constant of the .tflite section into the arena for the operators that read activations only. An
operator whose output is its input's bytes is not in the table. A variable, and what an LSTM or SVDF keeps, has a place
in the arena that nothing else uses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Dict, List, Tuple, Union

import numpy as np

from model_export.errors import TfliteError
from model_export.operators import aliases, operators, supported
from model_export.plan_arena import Buffer, Lags, place
from model_export.plan_context import Context
from model_export.plan_shapes import shape_operators
from model_export.plan_state import FILL, Keeper
from model_export.plan_steps import Kind, PlanError, Step, check_int8
from model_export.tflite_file import read_tflite, single_edges
from model_export.tflite_model import Op, TfliteModel

MAGIC = 0x4C505745  # 'EWPL'
VERSION, VERSION_WITH_STATE = 1, 2
HEADER_WORDS = 16
RECORD_WORDS = 32

LOAD = Kind("load", 10)
FREE_BATCH = ("SHAPE", "STRIDED_SLICE", "PACK")
"""What a free batch size makes of a Flatten layer, all three of them; STRIDED_SLICE alone is a slice of somebody's own."""


@dataclass(frozen=True)
class Plan:
    blob: bytes
    arena_bytes: int
    input_bytes: int
    output_bytes: int
    ops: Tuple[str, ...] = field(default=())
    """Kinds in execution order, as kinds() has them; first those that initialize variables."""
    state_bytes: int = 0
    """Of `arena_bytes`, what is kept between inferences."""


def kinds() -> Dict[str, int]:
    """Every kind and its number, as in EDGEWARD_KINDS of firmware/engine/direct/plan.h."""
    return dict((LOAD, FILL, *(kind for entry in operators().values() for kind in entry.kinds)))


def compile_plan(tflite: bytes) -> Plan:
    """Compile a whole .tflite. Raises TfliteError for an invalid file, PlanError for a model engine/direct cannot run."""
    model = read_tflite(tflite)
    keeper = Keeper(model, LOAD)
    try:
        edges = single_edges(model)
    except TfliteError as error:
        raise PlanError(str(error)) from None
    for name, tensor in zip(("input", "output"), edges):
        check_int8(tensor, f"model {name}")
    steps: List[Step] = []
    alias: Dict[int, int] = {}
    known_ahead = shape_operators(model)
    for op in model.ops:
        if op.index in known_ahead:
            continue
        entry = operators().get(op.code)
        if entry is not None and entry.same_bytes:
            alias[op.outputs[0]] = _alias_of(model, op)
        elif entry is not None and entry.plan is not None:
            made = _planned(entry.plan, Context(model, op, entry.several_outputs))
            lowered = made if isinstance(made, list) else [made]
            steps += _loads(model, lowered, steps)
            steps += lowered
            for one in lowered:
                keeper.keep(one)
        elif entry is not None and entry.role is not None:
            step, same = keeper.plan(op)
            if same is not None:
                alias[same[0]] = same[1]
            if step is not None and _root(alias, step.inputs[0]) != step.output:
                steps += _loads(model, [step], steps)
                steps.append(step)
        else:
            known = ", ".join(sorted(supported() | aliases()))
            raise PlanError(
                f"operator {op.index} is {op.code}, which engine/direct lacks; supported: {known}{_hint(model, op)}"
            )
    return _assemble(model, [*keeper.initial, *steps], alias, keeper, len(tflite))


def _planned(plan: Callable[[Context], Union[Step, List[Step]]], context: Context) -> Union[Step, List[Step]]:
    try:
        return plan(context)
    except OverflowError:
        raise context.error("its scales are too far apart: a product or quotient of them is infinite") from None


def _root(alias: Dict[int, int], tensor: int) -> int:
    """Where the bytes of a tensor lie: itself, or what it is another name of."""
    while tensor in alias:
        tensor = alias[tensor]
    return tensor


def _loads(model: TfliteModel, steps: List[Step], before: List[Step]) -> List[Step]:
    """What brings the constants among the inputs of an operator's steps into the arena, unless an earlier step did."""
    there = {earlier.output for earlier in before if earlier.kind == LOAD}
    loads = []
    for index, op in {index: step.op for step in steps for index in step.inputs}.items():
        tensor = model.tensors[index]
        if tensor.data is None or index in there:
            continue
        assert tensor.buffer_offset is not None
        shape = (1, 1, int(np.prod(tensor.shape, dtype=np.int64)))
        loads.append(Step(LOAD, op, (), index, shape, shape, weights_offset=tensor.buffer_offset))
    return loads


def _hint(model: TfliteModel, op: Op) -> str:
    if op.code in FREE_BATCH and any(other.code == "SHAPE" for other in model.ops):
        return " (SHAPE, STRIDED_SLICE and PACK come from a free batch size: convert the model with batch size 1)"
    if op.code in ("QUANTIZE", "DEQUANTIZE"):
        return " (convert the model with int8 input and output)"
    return ""


def _alias_of(model: TfliteModel, op: Op) -> int:
    if not op.inputs or op.inputs[0] < 0 or len(op.outputs) != 1:
        raise PlanError(f"operator {op.index} ({op.code}): expected an input and one output")
    source, target = model.tensors[op.inputs[0]], model.tensors[op.outputs[0]]
    if source.data is not None:
        raise PlanError(f"operator {op.index} ({op.code}) reshapes a constant; supported are activations")
    check_int8(source, f"operator {op.index} ({op.code}): input")
    if np.prod(source.shape, dtype=np.int64) != np.prod(target.shape, dtype=np.int64):
        raise PlanError(
            f"operator {op.index} ({op.code}): {source.shape} to {target.shape} changes the number of elements"
        )
    return source.index


def _assemble(model: TfliteModel, steps: List[Step], alias: Dict[int, int], keeper: Keeper, tflite_bytes: int) -> Plan:
    root = partial(_root, alias)
    offsets, arena_bytes = _lay_out(model, steps, root, keeper)
    tables = bytearray()
    records = bytearray()
    tables_at = 4 * (HEADER_WORDS + RECORD_WORDS * len(steps))
    for n, step in enumerate(steps):
        first = offsets[root(step.inputs[0] if step.inputs else step.output)]
        second = offsets[root(step.inputs[1])] if len(step.inputs) > 1 else offsets.get(-1 - n, 0)
        words = [
            step.kind.number, step.op.index, first, second, offsets[root(step.output)] + step.output_at,
            *step.in_hwc, *step.out_hwc, *step.kernel, *step.stride, *step.dilation, *step.padding,
            step.weights_offset, tables_at + len(tables) if step.table else 0, step.scratch_bytes,
            step.in_zero_point, step.out_zero_point, *step.clamp, int(step.per_channel),
            *step.parameters, *[0] * (5 - len(step.parameters)),
        ]  # fmt: skip
        records += struct.pack(f"<{RECORD_WORDS}I", *(word & 0xFFFFFFFF for word in words))
        tables += step.table + bytes(-len(step.table) % 4)
    first = len(keeper.initial)
    version = VERSION_WITH_STATE if first else VERSION
    sizes = tables_at + len(tables), arena_bytes, tflite_bytes, len(steps)
    header = struct.pack("<8I", MAGIC, version, *sizes, 64, first)
    ends = []
    for index in (model.inputs[0], model.outputs[0]):
        tensor = model.tensors[index]
        size = int(np.prod(tensor.shape, dtype=np.int64))
        ends.append(size)
        header += struct.pack("<IIfi", offsets[root(index)], size, float(tensor.scales[0]), int(tensor.zero_points[0]))
    return Plan(
        *(bytes(header + records + tables), arena_bytes, ends[0], ends[1]),
        tuple(step.kind.name for step in steps),
        keeper.bytes,
    )


def _lay_out(
    model: TfliteModel, steps: List[Step], root: Callable[[int], int], keeper: Keeper
) -> Tuple[Dict[int, int], int]:
    """Arena offset of every root tensor, and of the scratch of step n under the key -1 - n."""
    kept = (*keeper.places, *keeper.kept)
    first: Dict[int, int] = {root(model.inputs[0]): -1, **dict.fromkeys(kept, -1)}
    last: Dict[int, int] = dict(first)
    for n, step in enumerate(steps):
        for tensor in step.inputs:
            if root(tensor) not in first:
                raise PlanError(
                    f"operator {step.op.index} ({step.op.code}) reads tensor {tensor}, a variable without a handle, which "
                    "no operator before it wrote"
                )
            last[root(tensor)] = n
        first.setdefault(root(step.output), n)
        last[root(step.output)] = n
    out = root(model.outputs[0])
    if out not in first:
        raise PlanError("nothing writes the model's output")
    last.update(dict.fromkeys((out, *kept), len(steps)))
    keys = list(first)
    buffers = [keeper.buffer(k, first[k], last[k]) for k in keys]
    where = {key: i for i, key in enumerate(keys)}
    lags: Lags = {}
    for n, step in enumerate(steps):
        if step.lag is not None:
            for tensor in map(root, step.inputs):
                if last[tensor] == n:
                    lags[where[tensor], where[root(step.output)]] = step.lag
        if step.scratch_bytes:
            keys.append(-1 - n)
            buffers.append(Buffer(step.scratch_bytes, n, n))
    offsets, arena_bytes = place(buffers, lags)
    return dict(zip(keys, offsets)), arena_bytes
