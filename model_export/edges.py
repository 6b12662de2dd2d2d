"""int8 models whose input or output is float32 or uint8, as converters make them by default: the QUANTIZE or DEQUANTIZE at the
edge is left out, and the int8 tensor behind it is the edge. What that operator did, the manifest's scale and zero point say.
"""

import struct
from typing import List, NamedTuple, Optional, Set, Tuple

from model_export.errors import TfliteError
from model_export.flatbuffer import FlatFile
from model_export.tflite_file import read_tflite
from model_export.tflite_model import Op, Subgraph, Tensor, TfliteModel

_SUBGRAPHS, _SIGNATURES = 2, 7  # fields of a model
_INPUTS, _OUTPUTS, _OPERATORS = 1, 2, 3  # fields of a subgraph


class Folded(NamedTuple):
    tflite: bytes
    edges: Tuple[str, ...]
    """What was left out, for people; empty where nothing was, and `tflite` is as it came."""


def fold_edges(tflite: bytes) -> Folded:
    """The model with int8 edges where it has them behind another type. Raises TfliteError for a damaged file."""
    model = read_tflite(tflite)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return Folded(tflite, ())
    first, last = _after_input(model), _before_output(model)
    if first is not None and last is not None and first.index == last.index:
        return Folded(tflite, ())
    said: List[str] = []
    dropped: Set[int] = set()
    entry, leave = model.inputs[0], model.outputs[0]
    if first is not None:
        said.append(f"{model.tensors[entry].dtype} input")
        dropped.add(first.index)
        entry = first.outputs[0]
    if last is not None:
        said.append(f"{model.tensors[leave].dtype} output")
        dropped.add(last.index)
        leave = last.inputs[0]
    if not dropped or len(dropped) == len(model.ops) or entry == leave:
        return Folded(tflite, ())
    return Folded(_rewritten(tflite, model, entry, leave, dropped), tuple(said))


def _after_input(model: TfliteModel) -> Optional[Op]:
    """The operator that makes the input int8, where nothing else reads the input."""
    outer = model.inputs[0]
    readers = [op for op in model.ops if outer in op.inputs]
    if len(readers) != 1 or readers[0].code != "QUANTIZE" or outer in model.outputs:
        return None
    return readers[0] if _same_values(model.tensors[outer], model.tensors[readers[0].outputs[0]]) else None


def _before_output(model: TfliteModel) -> Optional[Op]:
    """The operator that makes the output of an int8 tensor, where nothing else reads that output."""
    outer = model.outputs[0]
    writers = [op for op in model.ops if outer in op.outputs]
    if len(writers) != 1 or any(outer in op.inputs for op in model.ops) or len(writers[0].inputs) != 1:
        return None
    op, inner = writers[0], model.tensors[writers[0].inputs[0]]
    if op.code not in ("QUANTIZE", "DEQUANTIZE") or inner.data is not None:
        return None
    return op if _same_values(model.tensors[outer], inner) else None


def _same_values(outer: Tensor, inner: Tensor) -> bool:
    """Whether an int8 of `inner` stands for what `outer` holds: a real number as near as int8 has it, or the same step."""
    if inner.dtype != "int8" or len(inner.scales) != 1 or outer.shape != inner.shape:
        return False
    if outer.dtype == "float32":
        return True
    if outer.dtype != "uint8" or len(outer.scales) != 1:
        return False
    return bool(outer.scales[0] == inner.scales[0] and outer.zero_points[0] - inner.zero_points[0] == 128)


def _rewritten(tflite: bytes, model: TfliteModel, entry: int, leave: int, dropped: Set[int]) -> bytes:
    """The file with other edges and fewer operators, nothing of it moved: TFLM passes over tensors that nobody uses."""
    file = FlatFile(bytes(tflite))
    root = file.table(file.follow(0, "root"), "model")
    graph = root.tables(_SUBGRAPHS, "subgraphs")[0]
    out = bytearray(tflite)
    for field, tensor in ((_INPUTS, entry), (_OUTPUTS, leave)):
        start, _ = graph.place(field, 4)
        struct.pack_into("<i", out, start, tensor)
    start, count = graph.place(_OPERATORS, 4)
    targets = [file.follow(start + 4 * i, "operators") for i in range(count) if i not in dropped]
    struct.pack_into("<I", out, start - 4, len(targets))
    for i, target in enumerate(targets):
        struct.pack_into("<I", out, start + 4 * i, target - (start + 4 * i))
    signatures, _ = root.place(_SIGNATURES, 4)
    if signatures:  # they name the edges there were
        struct.pack_into("<I", out, signatures - 4, 0)
    _check(read_tflite(bytes(out)), model, entry, leave, dropped)
    return bytes(out)


def _check(new: TfliteModel, old: TfliteModel, entry: int, leave: int, dropped: Set[int]) -> None:
    """A file whose tables share bytes would have changed elsewhere, too."""
    kept = [(op.code, op.inputs, op.outputs) for op in old.ops if op.index not in dropped]
    found = [(op.code, op.inputs, op.outputs) for op in new.ops]
    others = [[_said(graph) for graph in model.subgraphs[1:]] for model in (new, old)]
    if (new.inputs, new.outputs, found) != ((entry,), (leave,), kept) or others[0] != others[1]:
        raise TfliteError(
            "the parts of this file share bytes, so its float32 edges cannot be left out; convert it to int8 edges"
        )


def _said(graph: Subgraph) -> Tuple[object, ...]:
    return graph.inputs, graph.outputs, [(op.code, op.inputs, op.outputs, op.options) for op in graph.ops]
