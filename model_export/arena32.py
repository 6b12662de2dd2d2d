"""How large an arena TensorFlow Lite Micro needs on a 32-bit board, from what it allocates on this machine.

TFLM fills its arena from two ends. The head holds activations and scratch buffers: the same bytes on every target, so the
wheel's figure stands. The tail holds structs, allocated in a fixed order; their sizes follow from the width of a pointer.
This module plays that order for a given width:

    allocator, memory planner, MicroAllocator, variables with a handle, builtin data allocator, subgraph list    once
    TfLiteEvalTensor per tensor, NodeAndRegistration per operator
    builtin options per operator, then what each kernel's Init and Prepare ask for (at multiples of 16)
    scratch buffer handles, variables, then pointer, TfLiteTensor and quantization of input and output

Played with 8-byte pointers and the two extras of the PyPI wheel (it records allocations, and is built with tensor
compression) it must give exactly the tail the wheel measured: `confirmed` says whether it did. Played with 4-byte pointers
it gives the board's tail. What the first cannot explain (an operator without a kernel in operators/) is added to the second
as it is, which makes the result an upper bound.

Struct sizes were read from tflite-micro 90b983c. On rv32 with esp-tflite-micro 1.4.0 and reference kernels KWS, VWW, IC
and AD of MLPerf Tiny used 22,780, 100,668, 54,364 and 2,380 bytes; the tests hold the prediction to 2 % of each. It does not
know scratch buffers of esp-nn's assembly kernels (ESP32-S3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, NamedTuple, Tuple

import numpy as np

from model_export.operators import operators
from model_export.tflite_file import read_tflite
from model_export.tflite_model import TfliteModel
from model_export.tflm import TflmModel
from model_export.tflm_structs import Kernel, struct_bytes
from model_export.variables import state_of

_BUFFER_ALIGNMENT = 16


@dataclass(frozen=True)
class Prediction:
    total_bytes: int
    head_bytes: int
    """Activations and scratch buffers, measured."""
    tail_bytes: int
    """Structs with 32-bit pointers, computed."""
    confirmed: bool
    """Whether the same computation gave the wheel's 64-bit tail to the byte. If not, `total_bytes` is an upper bound."""
    unknown_operators: Tuple[str, ...]
    """Operators whose kernel's structs this module does not know."""


def predict_arena(tflite: bytes, measured: TflmModel) -> Prediction:
    """The arena of a 32-bit board for a model that TFLM has loaded on this machine."""
    model = read_tflite(tflite)
    unexplained = measured.arena.tail - tail_bytes(model, WHEEL)
    tail = tail_bytes(model, BOARD) + max(0, unexplained)
    unknown = sorted({op.code for graph in model.subgraphs for op in graph.ops} - set(_kernels()))
    head = measured.arena.head
    return Prediction(head + tail, head, tail, unexplained == 0, tuple(unknown))


class Layout(NamedTuple):
    """What decides the size of TFLM's structs."""

    pointer: int
    recording: bool
    """RecordingMicroAllocator: four counters in the allocator, eight groups of three beside it."""
    compression: bool
    """Built with USE_TFLM_COMPRESSION: two more indices in kernels with weights, a list per subgraph."""
    newer: bool
    """The wheel's version, in which some options have grown."""


BOARD = Layout(pointer=4, recording=False, compression=False, newer=False)
WHEEL = Layout(pointer=8, recording=True, compression=True, newer=True)


def _kernels() -> Dict[str, Kernel]:
    return {entry.name: entry.kernel for entry in operators().values() if entry.kernel is not None}


class _Tail:
    """The end of the arena that grows downwards from a multiple of 16."""

    def __init__(self) -> None:
        self.used = 0

    def take(self, size: int, alignment: int) -> None:
        self.used = -(-(self.used + size) // alignment) * alignment


def tail_bytes(model: TfliteModel, layout: Layout) -> int:
    """Bytes of the tail after AllocateTensors()."""
    p = layout.pointer
    tail = _Tail()
    counter = p if layout.recording else 0
    tail.take(struct_bytes("pppppppp" + "i", p) + 4 * counter, p)
    tail.take(struct_bytes("p" + "ii" + "pppp" + "ii" + "p" + "b", p), p)
    tail.take(struct_bytes("ppppp" + "b" + "ppp", p) + (p if layout.recording else 0) + 8 * 3 * counter, p)
    variables = state_of(model).variables
    if variables:
        tail.take(struct_bytes("pii", p), _BUFFER_ALIGNMENT)
        tail.take(struct_bytes("ppppb", p) * len(variables), _BUFFER_ALIGNMENT)
    tail.take(2 * p, p)
    tail.take((3 if layout.compression else 2) * p * len(model.subgraphs), p)
    for graph in model.subgraphs:
        tail.take(struct_bytes("ppi", p) * len(graph.tensors), p)
    for graph in model.subgraphs:
        tail.take(struct_bytes("ppppppi" + "p", p) * len(graph.ops), p)
    known = _kernels()
    kernels = [(op, known[op.code]) for graph in model.subgraphs for op in graph.ops if op.code in known]
    for _, kernel in kernels:
        size, alignment = kernel.options
        size = kernel.newer_options_bytes or size if layout.newer else size
        tail.take(size + p * kernel.option_pointers, p if kernel.option_pointers else alignment)
    for _, kernel in kernels:
        extra = ("ii" if kernel.weights else kernel.compressed) if layout.compression else ""
        if kernel.data + extra:
            tail.take(struct_bytes(kernel.data + extra, p), _BUFFER_ALIGNMENT)
    for op, kernel in kernels:
        for size in kernel.prepared(model, op) if kernel.prepared else []:
            tail.take(size, _BUFFER_ALIGNMENT)
    for variable in variables:
        tail.take(variable.bytes, _BUFFER_ALIGNMENT)
    handles = sum(kernel.scratch_handles for _, kernel in kernels)
    if handles:
        tail.take(handles * p, p)
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors if tensor.is_variable):
        tail.take(int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize, _BUFFER_ALIGNMENT)
    for count in (len(model.inputs), len(model.outputs)):
        tail.take(count * p, _BUFFER_ALIGNMENT)
        for _ in range(count):
            tail.take(struct_bytes("pp" + "ii" + "ppp" + "ii" + "b", p), p)
            tail.take(struct_bytes("ppi", p), p)
            tail.take(8, 4)
    return tail.used
