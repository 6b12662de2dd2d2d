"""How large an arena TensorFlow Lite Micro needs on a 32-bit board, from what it allocates on this machine.

TFLM fills its arena from two ends. The head holds activations and scratch buffers: the same bytes on every target, so the
wheel's figure stands. The tail holds structs, allocated in a fixed order; their sizes follow from the width of a pointer.
This module plays that order for a given width:

    allocator, memory planner, MicroAllocator, builtin data allocator, subgraph list    once
    TfLiteEvalTensor per tensor, NodeAndRegistration per operator
    builtin options per operator, then what each kernel's Init and Prepare ask for (at multiples of 16)
    scratch buffer handles, then pointer, TfLiteTensor and quantization of input and output

Played with 8-byte pointers and the two extras of the PyPI wheel (it records allocations, and is built with tensor
compression) it must give exactly the tail the wheel measured: `confirmed` says whether it did. Played with 4-byte pointers
it gives the board's tail. What the first cannot explain (an operator missing from `_KERNELS`) is added to the second
as it is, which makes the result an upper bound.

Struct sizes were read from tflite-micro 90b983c. On rv32 with esp-tflite-micro 1.4.0 and reference kernels KWS, VWW, IC
and AD of MLPerf Tiny used 22,780, 100,668, 54,364 and 2,380 bytes; the tests hold the prediction to 2 % of each. It does not
know scratch buffers of esp-nn's assembly kernels (ESP32-S3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Tuple

from model_export.tflite_file import Op, TfliteModel, read_tflite
from model_export.tflm import TflmModel

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
    unknown = sorted({op.code for graph in model.subgraphs for op in graph.ops} - set(_KERNELS))
    head = measured.arena.head
    return Prediction(head + tail, head, tail, unexplained == 0, tuple(unknown))


class Layout(NamedTuple):
    """What decides the size of TFLM's structs."""

    pointer: int
    recording: bool
    """RecordingMicroAllocator: four counters in the allocator, eight groups of three beside it."""
    compression: bool
    """Built with USE_TFLM_COMPRESSION: two more indices in kernels with weights, a list per subgraph."""
    dense_options_bytes: int
    """TfLiteFullyConnectedParams, which grew between the two versions."""


BOARD = Layout(pointer=4, recording=False, compression=False, dense_options_bytes=16)
WHEEL = Layout(pointer=8, recording=True, compression=True, dense_options_bytes=32)


class Kernel(NamedTuple):
    options: Tuple[int, int]
    """Size and alignment of the builtin options; size 0 where nothing is parsed."""
    data: str
    """Fields of the struct that Init allocates, one letter each (_size); empty for none."""
    weights: bool = False
    """Prepare allocates a multiplier and a shift per output channel; two more indices where compression is built in."""
    scratch_handles: int = 0


# i: 4 bytes (int32, int, float, enum), h: 2 bytes, p: pointer, d: double, b: 1 byte (bool)
_PADDING = "iiii"
_CONV = Kernel((28, 4), _PADDING + "iii" + "ii" + "pp" + "iii", weights=True)
_POOL = Kernel((40, 4), _PADDING + "iiii")
_KERNELS: Dict[str, Kernel] = {
    "CONV_2D": _CONV,
    "DEPTHWISE_CONV_2D": _CONV,
    "FULLY_CONNECTED": Kernel((0, 4), "iiiiiiiii" + "pp" + "b", weights=True),  # options: in Layout
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "ADD": Kernel((8, 4), "b" + 14 * "i"),
    "CONCATENATION": Kernel((8, 4), "b" + "pp" + "iii"),
    "SOFTMAX": Kernel((4, 4), "d" + 7 * "i" + 5 * "p"),
    "RESHAPE": Kernel((36, 4), ""),
    "EXPAND_DIMS": Kernel((0, 1), ""),
    "PACK": Kernel((8, 4), ""),
    "PAD": Kernel((0, 1), 14 * "i"),
    "MEAN": Kernel((1, 1), 11 * "i", scratch_handles=3),
    "LOGISTIC": Kernel((0, 1), "iiii"),
    "RELU": Kernel((0, 1), "b" + 6 * "i"),
    "RELU6": Kernel((0, 1), "bb"),
    "REDUCE_MAX": Kernel((1, 1), 11 * "i", scratch_handles=2),
    "HARD_SWISH": Kernel((0, 1), 5 * "i"),
    "LEAKY_RELU": Kernel((4, 4), 6 * "i"),
    "MAXIMUM": Kernel((0, 1), ""),
    "MINIMUM": Kernel((0, 1), ""),
    "MUL": Kernel((4, 4), 9 * "i"),
    "PRELU": Kernel((0, 1), 7 * "i"),
    "QUANTIZE": Kernel((0, 1), "i" + "d" + "iii"),
    "RESIZE_BILINEAR": Kernel((2, 1), ""),
    "RESIZE_NEAREST_NEIGHBOR": Kernel((2, 1), ""),
    "SLICE": Kernel((0, 1), ""),
    "SPLIT": Kernel((4, 4), ""),
    "SPLIT_V": Kernel((4, 4), ""),
    "STRIDED_SLICE": Kernel((24, 4), 21 * "i"),
    "SUB": Kernel((8, 4), "b" + 12 * "i"),
    "TANH": Kernel((0, 1), "iiii"),
    "TRANSPOSE": Kernel((0, 1), ""),
    "TRANSPOSE_CONV": Kernel((20, 4), "b" + 8 * "h" + 9 * "i" + "ii" + "pp", weights=True, scratch_handles=1),
    "UNPACK": Kernel((8, 4), ""),
}


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
    tail.take(_size("pppppppp" + "i", p) + 4 * counter, p)
    tail.take(_size("p" + "ii" + "pppp" + "ii" + "p" + "b", p), p)
    tail.take(_size("ppppp" + "b" + "ppp", p) + (p if layout.recording else 0) + 8 * 3 * counter, p)
    tail.take(2 * p, p)
    tail.take((3 if layout.compression else 2) * p * len(model.subgraphs), p)
    for graph in model.subgraphs:
        tail.take(_size("ppi", p) * len(graph.tensors), p)
    for graph in model.subgraphs:
        tail.take(_size("ppppppi" + "p", p) * len(graph.ops), p)
    ops = [op for graph in model.subgraphs for op in graph.ops if op.code in _KERNELS]
    for op in ops:
        size, alignment = _KERNELS[op.code].options
        tail.take(layout.dense_options_bytes if op.code == "FULLY_CONNECTED" else size, alignment)
    for op in ops:
        kernel = _KERNELS[op.code]
        if kernel.data:
            extra = "ii" if kernel.weights and layout.compression else ""
            tail.take(_size(kernel.data + extra, p), _BUFFER_ALIGNMENT)
    for op in ops:
        for size in _prepared(model, op):
            tail.take(size, _BUFFER_ALIGNMENT)
    handles = sum(_KERNELS[op.code].scratch_handles for op in ops)
    if handles:
        tail.take(handles * p, p)
    for count in (len(model.inputs), len(model.outputs)):
        tail.take(count * p, _BUFFER_ALIGNMENT)
        for _ in range(count):
            tail.take(_size("pp" + "ii" + "ppp" + "ii" + "b", p), p)
            tail.take(_size("ppi", p), p)
            tail.take(8, 4)
    return tail.used


def _prepared(model: TfliteModel, op: Op) -> List[int]:
    if op.code == "CONCATENATION":  # scale and zero point of each input
        return [4 * len(op.inputs)] * 2
    if not _KERNELS[op.code].weights:
        return []
    weights = model.tensors[op.inputs[1]]
    if op.code == "FULLY_CONNECTED":
        channels = len(weights.scales) if len(weights.scales) > 1 else 0
    else:
        channels = weights.shape[3 if op.code == "DEPTHWISE_CONV_2D" else 0]
    return [4 * channels, 4 * channels] if channels else []


def _size(fields: str, pointer: int) -> int:
    """sizeof a C struct with these fields in order."""
    sizes = {"i": 4, "h": 2, "p": pointer, "d": 8, "b": 1}
    at, widest = 0, 1
    for field in fields:
        size = sizes[field]
        at = -(-at // size) * size + size
        widest = max(widest, size)
    return -(-at // widest) * widest
